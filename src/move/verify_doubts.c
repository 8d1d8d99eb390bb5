/*
 * verify_doubts: rows as they are compared, rows that are in doubt, and what was found to differ.
 */
#include "move/verify_doubts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "move/verify_sql.h"
#include "wire/result.h"

/* How many parts an error names. */
#define NAMED_MAX 8

/* ---- rows ---- */

static const hvi_form rows_form = {
    .asked = "the hashes of rows",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_BYTES, HVI_IS_INT8},
};

static int by_key(const void *left, const void *right) {
    return strcmp(((const hvi_verify_row *) left)->key, ((const hvi_verify_row *) right)->key);
}

hv_status hvi_verify_list_read(hvi_verify_list *list, const PGresult *result, const char *server,
                               hv_error **error) {
    *list = (hvi_verify_list){NULL, 0};
    hv_status status = hvi_result_check(result, &rows_form, server, -1, error);
    if (status != HV_OK)
        return status;
    list->count = (size_t) PQntuples(result);
    list->rows = malloc((list->count + 1) * sizeof *list->rows);
    if (list->rows == NULL)
        return hvi_no_memory(error);
    for (size_t i = 0; i < list->count; i++) {
        int row = (int) i;
        list->rows[i] = (hvi_verify_row){.key = hvi_text_at(result, row, 0),
                                         .hash = (uint64_t) hvi_integer_at(result, row, 1)};
    }
    qsort(list->rows, list->count, sizeof *list->rows, by_key);
    return HV_OK;
}

void hvi_verify_list_fini(hvi_verify_list *list) {
    free(list->rows);
    *list = (hvi_verify_list){NULL, 0};
}

const hvi_verify_row *hvi_verify_list_find(const hvi_verify_list *list, const char *key) {
    hvi_verify_row wanted = {.key = key};
    return list->count == 0 ? NULL
                            : bsearch(&wanted, list->rows, list->count, sizeof *list->rows, by_key);
}

/* ---- rows in doubt ---- */

static bool make_room(hvi_doubts *doubts) {
    if (doubts->count < doubts->room)
        return true;
    size_t room = doubts->room > 0 ? 2 * doubts->room : 64;
    hvi_doubt *grown = realloc(doubts->all, room * sizeof *grown);
    if (grown == NULL)
        return false;
    doubts->all = grown;
    doubts->room = room;
    return true;
}

bool hvi_doubts_add(hvi_doubts *doubts, size_t table, size_t part, const char *key) {
    char *its = strdup(key);
    if (its == NULL || !make_room(doubts)) {
        free(its);
        return false;
    }
    doubts->all[doubts->count++] =
        (hvi_doubt){.table = table, .part = part, .key = its, .since = hvi_clock_us()};
    return true;
}

bool hvi_doubts_move(hvi_doubts *from, size_t index, hvi_doubts *to) {
    const hvi_doubt *of = &from->all[index];
    if (!hvi_doubts_add(to, of->table, of->part, of->key))
        return false;
    hvi_doubts_drop(from, index);
    return true;
}

void hvi_doubts_drop(hvi_doubts *doubts, size_t index) {
    free(doubts->all[index].key);
    doubts->all[index] = doubts->all[--doubts->count];
}

static int by_doubted_key(const void *left, const void *right) {
    return strcmp(((const hvi_doubt *) left)->key, ((const hvi_doubt *) right)->key);
}

void hvi_doubts_unite(hvi_doubts *doubts) {
    if (doubts->count == 0)
        return;
    size_t kept = 1;
    qsort(doubts->all, doubts->count, sizeof *doubts->all, by_doubted_key);
    for (size_t i = 1; i < doubts->count; i++)
        if (strcmp(doubts->all[i].key, doubts->all[kept - 1].key) == 0)
            free(doubts->all[i].key);
        else
            doubts->all[kept++] = doubts->all[i];
    doubts->count = kept;
}

const char **hvi_doubts_keys(const hvi_doubts *doubts) {
    const char **keys = malloc((doubts->count + 1) * sizeof *keys);
    for (size_t i = 0; keys != NULL && i < doubts->count; i++)
        keys[i] = doubts->all[i].key;
    return keys;
}

void hvi_doubts_fini(hvi_doubts *doubts) {
    for (size_t i = 0; i < doubts->count; i++)
        free(doubts->all[i].key);
    free(doubts->all);
    *doubts = (hvi_doubts){NULL, 0, 0};
}

bool hvi_doubts_compare(hvi_doubts *doubts, size_t table, size_t part,
                        const hvi_verify_list lists[2], size_t most, bool *all) {
    const hvi_verify_list *left = &lists[HVI_SOURCE], *right = &lists[HVI_TARGET];
    *all = true;
    for (size_t l = 0, r = 0; l < left->count || r < right->count;) {
        int order = l == left->count    ? 1
                    : r == right->count ? -1
                                        : strcmp(left->rows[l].key, right->rows[r].key);
        const char *key = order <= 0 ? left->rows[l].key : right->rows[r].key;
        bool differs = order != 0 || left->rows[l].hash != right->rows[r].hash;
        l += order <= 0;
        r += order >= 0;
        if (!differs)
            continue;
        if (doubts->count >= most) {
            *all = false;
            return true;
        }
        if (!hvi_doubts_add(doubts, table, part, key))
            return false;
    }
    return true;
}

/* ---- what was found ---- */

bool hvi_findings_add(hvi_findings *findings, const hvi_doubt *of, char what) {
    for (size_t i = 0; i < findings->count; i++) {
        hvi_found *known = &findings->all[i];
        if (known->table == of->table && known->part == of->part) {
            known->rows++;
            return true;
        }
    }
    char *key = strdup(of->key);
    hvi_found *grown = realloc(findings->all, (findings->count + 1) * sizeof *grown);
    if (grown != NULL)
        findings->all = grown;
    if (key == NULL || grown == NULL) {
        free(key);
        return false;
    }
    findings->all[findings->count++] =
        (hvi_found){.table = of->table, .part = of->part, .rows = 1, .key = key, .what = what};
    return true;
}

void hvi_findings_fini(hvi_findings *findings) {
    for (size_t i = 0; i < findings->count; i++)
        free(findings->all[i].key);
    free(findings->all);
    *findings = (hvi_findings){NULL, 0};
}

static void name_row(hvi_buffer *text, const hvi_found *found, const hvi_verify_table *table,
                     const char *const servers[2]) {
    const char *first = found->rows > 1 ? "the first is " : "it is ";
    if (table->key_count > 0)
        hvi_buffer_append_format(text, "%skey %s", first, found->key);
    else
        hvi_buffer_append_format(text, "%sone with the hash %s", first, found->key);
    if (found->what == '!')
        hvi_buffer_append_text(text, ", which has other values");
    else
        hvi_buffer_append_format(text, ", which only server \"%s\" has",
                                 servers[found->what == '+' ? HVI_SOURCE : HVI_TARGET]);
}

static void name_found(hvi_buffer *text, const hvi_found *found, const hvi_verify_tables *tables,
                       const char *const servers[2]) {
    const hvi_verify_table *table = &tables->all[found->table];
    const hvi_part *part = &table->parts[found->part];
    hvi_buffer_append_format(text, "Table %s, ", table->title);
    hvi_verify_name_part(text, table, found->part);
    hvi_buffer_append_format(
        text, ": %" PRId64 " rows on \"%s\" and %" PRId64 " on \"%s\", of which %zu differ%s; ",
        part->digests[HVI_SOURCE].rows, servers[HVI_SOURCE], part->digests[HVI_TARGET].rows,
        servers[HVI_TARGET], found->rows, found->rows == 1 ? "s" : "");
    name_row(text, found, table, servers);
    hvi_buffer_append_text(text, ".");
}

hv_status hvi_findings_fail(const hvi_findings *findings, const hvi_verify_tables *tables,
                            int shard, const char *const servers[2], hv_error **error) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    for (size_t i = 0; i < findings->count && i < NAMED_MAX; i++) {
        hvi_buffer_append_text(&text, i > 0 ? "\n" : "");
        name_found(&text, &findings->all[i], tables, servers);
    }
    if (findings->count > NAMED_MAX)
        hvi_buffer_append_text(&text, "\nThere are more.");
    hvi_fail(error, HV_MISMATCH, "the copy of shard %d on server \"%s\" differs from it", shard,
             servers[HVI_TARGET]);
    if (hvi_buffer_ok(&text) && text.len > 0)
        hvi_error_detail(error, "%s", text.data);
    hvi_error_hint(error, "Nothing has been switched. Find out what has written to the copy, and "
                          "move the shard again.");
    hvi_error_where(error, servers[HVI_TARGET], shard);
    hvi_buffer_fini(&text);
    return HV_MISMATCH;
}
