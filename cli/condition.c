/*
 * condition: under which condition a command changes an entity, as it was typed.
 *
 * What was typed is kept beside the library's condition, to name what does not hold.
 */
#include "condition.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/ui.h"

void condition_init(condition *only_if) {
    *only_if = (condition){.has = hv_dict_new()};
    if (only_if->has == NULL)
        out_of_memory();
}

void condition_fini(condition *only_if) {
    hv_condition_free(only_if->built);
    hv_dict_free(only_if->has);
    free(only_if->lacks);
    *only_if = (condition){0};
}

/* ---- What was typed -------------------------------------------------------------------------- */

/* End the process if there was an error. */
static void must(hv_status status, hv_error **error) {
    if (status == HV_OK)
        return;
    ui_error(*error);
    exit(exit_code(status));
}

/* The attribute has this value; NULL is NULL. */
static void take_value(condition *only_if, const char *name, size_t name_len, const char *value) {
    hv_error *error = NULL;
    hv_dict *one = hv_dict_new();
    if (one == NULL)
        out_of_memory();
    must(hv_dict_set_bytes(one, name, name_len, value, HV_STRLEN, &error), &error);
    must(hv_condition_has(only_if->built, one, &error), &error);
    must(hv_dict_set_bytes(only_if->has, name, name_len, value, HV_STRLEN, &error), &error);
    hv_dict_free(one);
}

static void take_word(condition *only_if, const arguments *args) {
    const char *word = args->value;
    const char *equals = strchr(word, '=');
    if (equals == NULL) {
        char *hint =
            format_text("Write --if %s=VALUE, --if-null %s or --if-absent %s.", word, word, word);
        usage_error(args, hint, "--if \"%s\" has no value", word);
    }
    take_value(only_if, word, (size_t) (equals - word), equals + 1);
}

static void take_absent(condition *only_if, const char *name) {
    hv_error *error = NULL;
    must(hv_condition_lacks(only_if->built, name, HV_STRLEN, &error), &error);
    only_if->lacks =
        resize_memory(only_if->lacks, (only_if->lacks_count + 1) * sizeof *only_if->lacks);
    only_if->lacks[only_if->lacks_count++] = name;
}

static void take_kind(condition *only_if, const arguments *args) {
    hv_error *error = NULL;
    int kind = argument_kind(args, args->value);
    must(hv_condition_kind(only_if->built, kind, &error), &error);
    only_if->kind = args->value;
}

static void take_version(condition *only_if, const char *version) {
    hv_error *error = NULL;
    must(hv_condition_version(only_if->built, version, &error), &error);
    only_if->version = version;
}

bool condition_option(condition *only_if, const arguments *args, int id) {
    if (id < OPTION_IF || id > OPTION_IF_VERSION)
        return false;
    if (only_if->built == NULL)
        only_if->built = hv_condition_new();
    if (only_if->built == NULL)
        out_of_memory();
    switch (id) {
    case OPTION_IF:
        take_word(only_if, args);
        break;
    case OPTION_IF_NULL:
        take_value(only_if, args->value, strlen(args->value), NULL);
        break;
    case OPTION_IF_ABSENT:
        take_absent(only_if, args->value);
        break;
    case OPTION_IF_KIND:
        take_kind(only_if, args);
        break;
    case OPTION_IF_VERSION:
        take_version(only_if, args->value);
        break;
    }
    return true;
}

/* ---- What does not hold ---------------------------------------------------------------------- */

/* Begin a sentence. */
static void begin(FILE *text) {
    if (ftell(text) > 0)
        fputc(' ', text);
}

/* What the attribute is. */
static void write_attribute(FILE *text, const char *name, size_t name_len, const char *value,
                            size_t value_len) {
    begin(text);
    fprintf(text, "Its attribute \"%s\" is ", hvi_utf8_excerpt(name, name_len).text);
    if (value == NULL)
        fputs("NULL.", text);
    else
        fprintf(text, "\"%s\".", hvi_utf8_excerpt(value, value_len).text);
}

static void write_wrong_values(FILE *text, const hv_dict *wanted, const hv_dict *present) {
    const char *name, *value, *found;
    size_t name_len, value_len, found_len;
    for (size_t i = 0; hv_dict_at(wanted, i, &name, &name_len, &value, &value_len); i++) {
        if (!hv_dict_get(present, name, name_len, &found, &found_len)) {
            begin(text);
            fprintf(text, "It has no attribute \"%s\".", hvi_utf8_excerpt(name, name_len).text);
        } else if ((value == NULL) != (found == NULL) ||
                   (value != NULL &&
                    (value_len != found_len || memcmp(value, found, value_len) != 0))) {
            write_attribute(text, name, name_len, found, found_len);
        }
    }
}

char *condition_difference(const condition *only_if, const hv_entity *present) {
    const hv_dict *dict = hv_entity_dict(present);
    char *difference = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&difference, &size);
    if (text == NULL)
        out_of_memory();
    if (only_if->version != NULL && strcmp(only_if->version, hv_entity_version(present)) != 0) {
        begin(text);
        fprintf(text, "Its version is %s.", hv_entity_version(present));
    }
    if (only_if->kind != NULL && atoi(only_if->kind) != hv_entity_kind(present)) {
        begin(text);
        fprintf(text, "Its kind is %d.", hv_entity_kind(present));
    }
    write_wrong_values(text, only_if->has, dict);
    for (size_t i = 0; i < only_if->lacks_count; i++) {
        const char *name = only_if->lacks[i], *value;
        size_t value_len;
        if (hv_dict_get(dict, name, strlen(name), &value, &value_len))
            write_attribute(text, name, strlen(name), value, value_len);
    }
    fclose(text);
    if (size > 0)
        return difference;
    free(difference);
    return NULL;
}
