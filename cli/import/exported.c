/*
 * exported: rows that `hv export` wrote: entities with their keys and kinds.
 */
#include "import/exported.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "rows/key_json.h"
#include "ui/memory.h"

static void refuse(row *refused, const char *what) {
    if (refused->fault != NULL)
        return;
    refused->fault = new_memory(sizeof *refused->fault);
    row_fault_line(refused->fault, refused->line, "%s", what);
    row_fault_hint(refused->fault, "Rows of `hv export` have id, shard_id, kind and body.");
}

/* A member that is a number. */
static int64_t read_number(row *read, const char *name, int64_t least, int64_t most) {
    const char *text = NULL;
    char *end = NULL;
    errno = 0;
    long long number = 0;
    if (hv_dict_get(read->dict, name, HV_STRLEN, &text, NULL) && text != NULL)
        number = strtoll(text, &end, 10);
    if (text == NULL || end == text || *end != '\0' || errno != 0 || number < least ||
        number > most) {
        char message[96];
        snprintf(message, sizeof message, "invalid \"%s\" in a row of an export", name);
        refuse(read, message);
    }
    return number;
}

/* Read the key, and what it shows. */
static exported_key read_key(row *read, int64_t *key) {
    const char *text = NULL;
    if (!hv_dict_get(read->dict, EXPORTED_KEY, HV_STRLEN, &text, NULL) || text == NULL)
        text = "";
    if (key_json_read(text, key)) {
        if (!read->bare || *key <= KEY_JSON_EXACT)
            return EXPORTED_KEY_SILENT;
        return key_json_is_double(*key) ? EXPORTED_KEY_DOUBLE : EXPORTED_KEY_WHOLE;
    }
    bool number = read->bare && (text[0] == '-' || (text[0] >= '0' && text[0] <= '9'));
    if (number && key_json_is_fraction(text)) {
        char message[160];
        snprintf(message, sizeof message,
                 "the key %s has an exponent or a fraction: it was rounded on its way here",
                 hvi_utf8_excerpt(text, strlen(text)).text);
        refuse(read, message);
        return EXPORTED_KEY_FRACTION;
    }
    refuse(read, "invalid \"" EXPORTED_KEY "\" in a row of an export");
    return EXPORTED_KEY_SILENT;
}

exported_key import_exported_row(import_item *item, const row_format *format) {
    row *read = item->row;
    const char *body = NULL;
    size_t len = 0;
    row_fault fault;
    hv_error *error = NULL;
    hv_dict *dict = NULL;
    if (read->fault != NULL)
        return EXPORTED_KEY_SILENT;
    exported_key shows = read_key(read, &item->key);
    item->shard = (int) read_number(read, "shard_id", 0, HV_SHARDS - 1);
    item->kind = (int) read_number(read, "kind", INT16_MIN, INT16_MAX);
    if (!hv_dict_get(read->dict, "body", HV_STRLEN, &body, &len) || body == NULL) {
        refuse(read, "no \"body\" in a row of an export");
    } else if (format == &row_ndjson) {
        dict = hv_dict_new();
        if (dict == NULL)
            out_of_memory();
        if (!row_parse_object(body, len, read->line, false, dict, &fault))
            refuse(read, fault.message);
    } else if (hv_dict_parse(body, len, &dict, &error) != HV_OK) {
        refuse(read, hv_error_message(error));
        hv_error_free(error);
    }
    if (read->fault != NULL) {
        hv_dict_free(dict);
        item->shard = -1;
        return shows;
    }
    hv_dict_free(read->dict);
    read->dict = dict;
    return shows;
}
