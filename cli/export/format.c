/*
 * format: entities as `hv export` writes them, and `hv import --exported` reads them.
 */
#include "export/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rows/key_json.h"
#include "ui/memory.h"

static const char csv_header[] = "id,shard_id,kind,body\n";

const char *export_header(const row_format *format) {
    return format == &row_csv ? csv_header : "";
}

static void append_ndjson(row_text *text, int shard, const hv_scan *scan) {
    const hv_dict *dict = hv_scan_dict(scan);
    const char *name, *value;
    size_t name_len, value_len;
    char key[KEY_JSON_SIZE], numbers[96];
    int len = snprintf(numbers, sizeof numbers, "{\"id\":%s,\"shard_id\":%d,\"kind\":%d,\"body\":{",
                       key_json_text(key, hv_scan_key(scan)), shard, hv_scan_kind(scan));
    row_text_append(text, numbers, (size_t) len);
    for (size_t i = 0; hv_dict_at(dict, i, &name, &name_len, &value, &value_len); i++) {
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

static void append_csv(row_text *text, int shard, const hv_scan *scan) {
    char numbers[64];
    char *body = NULL;
    int len = snprintf(numbers, sizeof numbers, "%" PRId64 ",%d,%d,\"", hv_scan_key(scan), shard,
                       hv_scan_kind(scan));
    if (hv_dict_text(hv_scan_dict(scan), &body, NULL) != HV_OK)
        out_of_memory();
    row_text_append(text, numbers, (size_t) len);
    for (const char *at = body; *at != '\0';) {
        size_t plain = strcspn(at, "\"");
        row_text_append(text, at, plain);
        at += plain;
        if (*at == '"') {
            row_text_append(text, "\"\"", 2);
            at++;
        }
    }
    row_text_append(text, "\"\n", 2);
    free(body);
}

void export_entity(row_text *text, const row_format *format, int shard, const hv_scan *scan) {
    if (format == &row_csv)
        append_csv(text, shard, scan);
    else
        append_ndjson(text, shard, scan);
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
