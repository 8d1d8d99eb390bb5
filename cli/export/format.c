/*
 * format: entities as `hv export`, `hv find` and `hv feed` write them, and `hv import --exported`
 * reads them.
 */
#include "export/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "rows/key_json.h"
#include "ui/memory.h"

const char *export_header(const row_format *format) {
    return format == &row_csv   ? "id,shard_id,kind,body\n"
           : format == &row_tsv ? "id\tshard_id\tkind\tbody\n"
                                : "";
}

static void append_ndjson(row_text *text, const export_row *entity) {
    const char *name, *value;
    size_t name_len, value_len;
    char key[KEY_JSON_SIZE], numbers[96];
    int len = snprintf(numbers, sizeof numbers, "{\"id\":%s,\"shard_id\":%d,\"kind\":%d,\"body\":{",
                       key_json_text(key, entity->key), entity->shard, entity->kind);
    row_text_append(text, numbers, (size_t) len);
    for (size_t i = 0; hv_dict_at(entity->body, i, &name, &name_len, &value, &value_len); i++) {
        if (i > 0)
            row_text_append_byte(text, ',');
        row_text_append_json(text, name, name_len);
        row_text_append_byte(text, ':');
        if (value != NULL)
            row_text_append_json(text, value, value_len);
        else
            row_text_append(text, "null", 4);
    }
    row_text_append(text, "}}\n", 3);
}

/* The body with a quote more for each quote. */
static void append_quoted(row_text *text, const char *body) {
    row_text_append_byte(text, '"');
    while (*body != '\0') {
        size_t plain = strcspn(body, "\"");
        row_text_append(text, body, plain);
        body += plain;
        if (*body == '"') {
            row_text_append(text, "\"\"", 2);
            body++;
        }
    }
    row_text_append_byte(text, '"');
}

/* The body in COPY's text format. */
static void append_escaped(row_text *text, const char *body) {
    size_t len = strlen(body);
    for (size_t at = 0, size; at < len; at += size) {
        char escape[8];
        uint32_t code = 0;
        size = hvi_utf8_decode(body + at, len - at, &code);
        if (size == 0)
            size = 1; /* no UTF-8: as it is */
        if (code == '\\')
            row_text_append(text, "\\\\", 2);
        else if (code == '\n' || code == '\t' || code == '\r')
            row_text_append(text, code == '\n' ? "\\n" : code == '\t' ? "\\t" : "\\r", 2);
        else if (hvi_acts_on_terminal(code))
            for (size_t i = 0; i < size; i++)
                row_text_append(text, escape,
                                (size_t) snprintf(escape, sizeof escape, "\\x%02x",
                                                  (unsigned char) body[at + i]));
        else
            row_text_append(text, body + at, size);
    }
}

static void append_table(row_text *text, const row_format *format, const export_row *entity) {
    char numbers[64];
    char *body = NULL;
    char tab = format == &row_tsv ? '\t' : ',';
    int len = snprintf(numbers, sizeof numbers, "%" PRId64 "%c%d%c%d%c", entity->key, tab,
                       entity->shard, tab, entity->kind, tab);
    if (hv_dict_text(entity->body, &body, NULL) != HV_OK)
        out_of_memory();
    row_text_append(text, numbers, (size_t) len);
    if (format == &row_tsv)
        append_escaped(text, body);
    else
        append_quoted(text, body);
    row_text_append_byte(text, '\n');
    free(body);
}

void export_entity(row_text *text, const row_format *format, const export_row *entity) {
    if (format == &row_ndjson)
        append_ndjson(text, entity);
    else
        append_table(text, format, entity);
}

/* ---- Reading what was written ---------------------------------------------------------------- */

void export_end_feed(export_end *end, const row_format *format, const char *bytes, size_t len) {
    bool csv = format == &row_csv;
    for (size_t i = 0; i < len; i++) {
        if (!end->quoted || bytes[i] == '"') {
            if (bytes[i] == '"' && csv)
                end->quoted = !end->quoted;
            if (bytes[i] == '\n') {
                end->start = end->end;
                end->end = end->at + (int64_t) i + 1;
            }
        }
    }
    end->at += (int64_t) len;
}

bool export_parse(const char *record, const row_format *format, int64_t *key, int *shard) {
    static const char begin[] = "{\"id\":";
    bool found;
    if (format == &row_csv) {
        found = sscanf(record, "%" SCNd64 ",%d,", key, shard) == 2;
    } else {
        found = strncmp(record, begin, strlen(begin)) == 0 &&
                (record = key_json_scan(record + strlen(begin), key)) != NULL &&
                sscanf(record, ",\"shard_id\":%d,", shard) == 1;
    }
    return found && *key > 0 && *shard >= 0 && *shard < HV_SHARDS;
}
