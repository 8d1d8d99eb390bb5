/*
 * selection: which entities hv find, hv count and hv feed work on, as it was typed.
 *
 * What was typed is kept, so that the same can be selected again in other shards. Mistakes are
 * found when a word is taken: it is added to the library's selection at once.
 */
#include "selection.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "rows/format.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/ui.h"

void selection_init(selection *chosen) {
    *chosen = (selection){.built = hv_selection_new()};
    if (chosen->built == NULL)
        out_of_memory();
}

void selection_fini(selection *chosen) {
    hv_selection_free(chosen->built);
    attribute_names_fini(&chosen->only);
    free(chosen->words);
    *chosen = (selection){0};
}

/* ---- From words to the library's selection --------------------------------------------------- */

/* The value behind the equals sign of NAME=VALUE. */
static const char *value_of(const char *word) {
    return strchr(word, '=') + 1;
}

static hv_status add_values(hv_selection *built, const char *word, hv_error **error) {
    size_t count;
    const char *values = value_of(word);
    char **list = argument_list(values, &count);
    hv_status status = hv_selection_one_of(built, word, (size_t) (values - 1 - word),
                                           (const char *const *) list, NULL, count, error);
    free(list);
    return status;
}

/* `word` was read before. */
static hv_status add_attributes(hv_selection *built, const char *word, hv_error **error) {
    row_fault fault;
    hv_dict *dict = NULL;
    hv_status status = HV_OK;
    if (word[strspn(word, " \t\r\n")] == '{') {
        dict = hv_dict_new();
        if (dict == NULL)
            out_of_memory();
        row_parse_object(word, strlen(word), 1, true, dict, &fault);
    } else {
        status = hv_dict_parse(word, strlen(word), &dict, error);
    }
    if (status == HV_OK)
        status = hv_selection_has(built, dict, error);
    hv_dict_free(dict);
    return status;
}

static hv_status add_word(hv_selection *built, const selection_word *word, hv_error **error) {
    const char *text = word->text;
    switch (word->id) {
    case OPTION_SHARDS:
        return hv_selection_shards(built, text, error);
    case OPTION_KIND:
        return hv_selection_kind(built, (int) word->number, error);
    case OPTION_FROM:
        return word->is_key ? hv_selection_from(built, word->number, error)
                            : hv_selection_since(built, word->number, error);
    case OPTION_UNTIL:
        return word->is_key ? hv_selection_until(built, word->number, error)
                            : hv_selection_before(built, word->number, error);
    case OPTION_AFTER:
        return hv_selection_after(built, word->number, error);
    case OPTION_WHERE:
        return hv_selection_equal(built, text, (size_t) (value_of(text) - 1 - text), value_of(text),
                                  HV_STRLEN, error);
    case OPTION_IS_NULL:
        return hv_selection_equal(built, text, HV_STRLEN, NULL, 0, error);
    case OPTION_IN:
        return add_values(built, text, error);
    case OPTION_HAS:
        return hv_selection_exists(built, text, HV_STRLEN, error);
    case OPTION_LACKS:
        return hv_selection_lacks(built, text, HV_STRLEN, error);
    case OPTION_CONTAINS:
        return add_attributes(built, text, error);
    case OPTION_LIMIT:
        return hv_selection_limit(built, word->number, error);
    case OPTION_PARTIAL:
        hv_selection_partial(built, true);
        return HV_OK;
    case OPTION_SKIP_SERVER:
        return hv_selection_skip(built, text, error);
    case OPTION_TIMEOUT:
        return hv_selection_timeout(built, word->number > 0 ? word->number : -1, error);
    default:
        return HV_OK;
    }
}

hv_selection *selection_in_shards(const selection *chosen, const char *shards) {
    hv_selection *made = hv_selection_new();
    hv_status status = made != NULL ? hv_selection_shards(made, shards, NULL) : HV_NO_MEMORY;
    for (size_t i = 0; i < chosen->word_count && status == HV_OK; i++)
        if (chosen->words[i].id != OPTION_SHARDS)
            status = add_word(made, &chosen->words[i], NULL);
    if (status == HV_OK && chosen->only.of != NULL)
        status = hv_selection_only(made, (const char *const *) chosen->only.of, NULL);
    if (status != HV_OK) /* all of it was accepted before */
        out_of_memory();
    return made;
}

/* ---- What was typed -------------------------------------------------------------------------- */

/* End the process if there was an error. */
static void must(hv_status status, const hv_error *error) {
    if (status == HV_OK)
        return;
    ui_error(error);
    exit(exit_code(status));
}

static void take(selection *chosen, selection_word word) {
    hv_error *error = NULL;
    hv_status status = add_word(chosen->built, &word, &error);
    must(status, error);
    chosen->words = resize_memory(chosen->words, (chosen->word_count + 1) * sizeof *chosen->words);
    chosen->words[chosen->word_count++] = word;
}

static void take_kinds(selection *chosen, const arguments *args) {
    size_t count;
    char **list = argument_list(args->value, &count);
    for (size_t i = 0; i < count; i++)
        take(chosen, (selection_word){.id = OPTION_KIND,
                                      .text = args->value,
                                      .number = argument_kind(args, list[i])});
    free(list);
}

static void take_bound(selection *chosen, const arguments *args, const char *what, int id) {
    selection_word word = {.id = id, .text = args->value};
    word.is_key = argument_key_or_moment(args, what, args->value, &word.number);
    take(chosen, word);
}

static void take_pair(selection *chosen, const arguments *args, const char *option, int id) {
    const char *text = args->value;
    if (strchr(text, '=') == NULL) {
        char *hint =
            id == OPTION_WHERE
                ? format_text("Write --where %s=VALUE, --null %s or --has %s.", text, text, text)
                : format_text("Write --in %s=VALUE,VALUE.", text);
        usage_error(args, hint, "%s \"%s\" has no value", option, text);
    }
    take(chosen, (selection_word){.id = id, .text = text});
}

static void take_attributes(selection *chosen, const arguments *args) {
    const char *text = args->value;
    row_fault fault;
    hv_dict *dict = hv_dict_new();
    if (dict == NULL)
        out_of_memory();
    if (text[strspn(text, " \t\r\n")] == '{' &&
        !row_parse_object(text, strlen(text), 1, true, dict, &fault)) {
        char place[ROW_FAULT_SIZE];
        usage_error(args, "Write '{\"name\": \"value\"}', or 'name=>value' as hstore does.",
                    "--contains, %s", row_fault_text(place, &fault));
    }
    hv_dict_free(dict);
    take(chosen, (selection_word){.id = OPTION_CONTAINS, .text = text});
}

static void take_names(selection *chosen, const char *list) {
    hv_error *error = NULL;
    attribute_names_add(&chosen->only, list);
    hv_status status =
        hv_selection_only(chosen->built, (const char *const *) chosen->only.of, &error);
    must(status, error);
}

bool selection_option(selection *chosen, const arguments *args, int id) {
    selection_word word = {.id = id, .text = args->value};
    switch (id) {
    case OPTION_KIND:
        take_kinds(chosen, args);
        return true;
    case OPTION_FROM:
    case OPTION_UNTIL:
        take_bound(chosen, args, id == OPTION_FROM ? "--from" : "--until", id);
        return true;
    case OPTION_WHERE:
    case OPTION_IN:
        take_pair(chosen, args, id == OPTION_WHERE ? "--where" : "--in", id);
        return true;
    case OPTION_CONTAINS:
        take_attributes(chosen, args);
        return true;
    case OPTION_ONLY:
        take_names(chosen, args->value);
        return true;
    case OPTION_AFTER:
        word.number = argument_key(args, args->value);
        break;
    case OPTION_LIMIT:
        word.number = argument_integer(args, "--limit", args->value, 1, INT64_MAX);
        break;
    case OPTION_TIMEOUT:
        word.number = argument_duration(args, "--timeout", args->value);
        break;
    default:
        if (id < OPTION_SHARDS || id >= OPTION_SELECTION_END)
            return false;
    }
    take(chosen, word);
    return true;
}

const selection_word *selection_find(const selection *chosen, int id) {
    for (size_t i = chosen->word_count; i > 0; i--)
        if (chosen->words[i - 1].id == id)
            return &chosen->words[i - 1];
    return NULL;
}

bool selection_skips(const selection *chosen, const char *server) {
    for (size_t i = 0; i < chosen->word_count; i++)
        if (chosen->words[i].id == OPTION_SKIP_SERVER && strcmp(chosen->words[i].text, server) == 0)
            return true;
    return false;
}

char *selection_shards(const selection *chosen) {
    char *list = NULL;
    for (size_t i = 0; i < chosen->word_count; i++) {
        if (chosen->words[i].id != OPTION_SHARDS)
            continue;
        char *longer = format_text("%s%s%s", list != NULL ? list : "", list != NULL ? "," : "",
                                   chosen->words[i].text);
        free(list);
        list = longer;
    }
    return list;
}

uint64_t selection_digest(const selection *chosen) {
    static const int others[] = {OPTION_FROM,        OPTION_UNTIL,   OPTION_AFTER,  OPTION_LIMIT,
                                 OPTION_SKIP_SERVER, OPTION_TIMEOUT, OPTION_PARTIAL};
    uint64_t digest = 0;
    for (size_t i = 0; i < chosen->word_count; i++) {
        const selection_word *word = &chosen->words[i];
        bool counts = true;
        for (size_t j = 0; j < sizeof others / sizeof others[0]; j++)
            counts = counts && word->id != others[j];
        if (!counts)
            continue;
        /* a sum: in which order they were typed does not matter */
        char *text = word->id == OPTION_KIND ? format_text("%d %d", word->id, (int) word->number)
                                             : format_text("%d %s", word->id, word->text);
        digest += hvi_hash_fnv1a(text, strlen(text));
        free(text);
    }
    return digest;
}

/* ---- What came of it ------------------------------------------------------------------------- */

int selection_refused(hv_status status, hv_error *error) {
    ui_error(error);
    hv_error_free(error);
    return status == HV_NO_SERVER ? EXIT_USAGE : exit_code(status);
}

int selection_missing(const selection *chosen, const hv_error *missing) {
    const char *server = hv_error_server(missing);
    if (server == NULL || !selection_skips(chosen, server)) {
        ui_error(missing);
        return EXIT_FAILED;
    }
    if (ui_is_json()) {
        json_t *whole = json_pack("{s:o}", "skipped", ui_error_json(missing));
        if (whole == NULL)
            out_of_memory();
        char *text = ui_json_dump(whole);
        fprintf(stderr, "%s\n", text);
        free(text);
        json_decref(whole);
    } else {
        char *line = ui_error_line(missing);
        ui_note("%s", line);
        free(line);
    }
    return EXIT_DONE;
}
