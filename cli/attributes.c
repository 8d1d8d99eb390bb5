/*
 * attributes: the attributes of an entity, as they are typed or given on standard input.
 */
#include "attributes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "rows/format.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/ui.h"

#define TWICE_HINT "Name each attribute once."

void attributes_init(attributes *given) {
    *given = (attributes){.dict = hv_dict_new()};
    if (given->dict == NULL)
        out_of_memory();
}

void attributes_fini(attributes *given) {
    hv_dict_free(given->dict);
    given->dict = NULL;
}

/* Add an attribute from the command line; a wrong one is a usage error. */
static void add(attributes *given, const arguments *args, const char *name, size_t name_len,
                const char *value) {
    hv_error *error = NULL;
    if (hv_dict_get(given->dict, name, name_len, NULL, NULL))
        usage_error(args, TWICE_HINT, "attribute \"%.*s\" is given twice", (int) name_len, name);
    hv_status status = hv_dict_set_bytes(given->dict, name, name_len, value, HV_STRLEN, &error);
    if (status != HV_OK) {
        ui_error(error);
        exit(exit_code(status));
    }
}

bool attributes_option(attributes *given, const arguments *args, int id) {
    if (id == OPTION_NULL)
        add(given, args, args->value, strlen(args->value), NULL);
    else if (id == OPTION_STDIN)
        given->from_stdin = true;
    else
        return false;
    return true;
}

void attributes_words(attributes *given, const arguments *args, char *const *words, int count) {
    for (int i = 0; i < count; i++) {
        const char *equals = strchr(words[i], '=');
        if (equals == NULL) {
            char *hint = format_text("Write %s=VALUE, %s= for an empty value, or --null %s.",
                                     words[i], words[i], words[i]);
            usage_error(args, hint, "attribute \"%s\" has no value", words[i]);
        }
        add(given, args, words[i], (size_t) (equals - words[i]), equals + 1);
    }
}

/* ---- Standard input -------------------------------------------------------------------------- */

static bool read_all(row_text *text) {
    do {
        if (!row_text_reserve(text, BUFSIZ))
            out_of_memory();
        text->len += fread(text->data + text->len, 1, text->cap - text->len, stdin);
    } while (!feof(stdin) && !ferror(stdin));
    if (ferror(stdin))
        ui_fail(strerror(errno), NULL, "could not read standard input");
    return !ferror(stdin);
}

/* Add what was read to what was typed. */
static int add_all(attributes *given, const hv_dict *more) {
    const char *name, *value;
    size_t name_len, value_len;
    for (size_t i = 0; hv_dict_at(more, i, &name, &name_len, &value, &value_len); i++) {
        hv_error *error = NULL;
        if (hv_dict_get(given->dict, name, name_len, NULL, NULL)) {
            ui_fail_status(HV_INVALID, NULL, TWICE_HINT, "attribute \"%s\" is given twice",
                           hvi_utf8_excerpt(name, name_len).text);
            return EXIT_USAGE;
        }
        if (hv_dict_set_bytes(given->dict, name, name_len, value, value_len, &error) != HV_OK) {
            ui_error(error);
            hv_error_free(error);
            return EXIT_FAILED;
        }
    }
    return EXIT_DONE;
}

int attributes_read(attributes *given) {
    if (!given->from_stdin)
        return EXIT_DONE;
    row_text text = {0};
    row_fault fault;
    int code = EXIT_FAILED;
    hv_dict *more = hv_dict_new();
    if (more == NULL)
        out_of_memory();
    if (read_all(&text)) {
        if (row_text_check(text.data, text.len, 1, &fault) &&
            row_parse_object(text.data, text.len, 1, true, more, &fault)) {
            code = add_all(given, more);
        } else {
            char place[ROW_FAULT_SIZE];
            ui_fail_status(HV_INVALID, NULL,
                           "Standard input is one JSON object, {\"name\": \"value\"}.",
                           "standard input, %s", row_fault_text(place, &fault));
            code = EXIT_USAGE;
        }
    }
    hv_dict_free(more);
    row_text_fini(&text);
    return code;
}

/* ---- Names ----------------------------------------------------------------------------------- */

void attribute_names_fini(attribute_names *names) {
    for (size_t i = 0; i < names->count; i++)
        free(names->of[i]);
    free(names->of);
    *names = (attribute_names){0};
}

void attribute_names_add(attribute_names *names, const char *list) {
    size_t more;
    char **parts = argument_list(list, &more);
    names->of = resize_memory(names->of, (names->count + more + 1) * sizeof *names->of);
    for (size_t i = 0; i < more && list[0] != '\0'; i++)
        names->of[names->count++] = copy_text(parts[i]);
    names->of[names->count] = NULL;
    free(parts);
}
