/*
 * left_out: what shards hold besides entities: further columns of their tables, and further tables.
 *
 * Each server is asked with one statement for all of its shards.
 */
#include "servers/left_out.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/shard_ranges.h"
#include "servers/servers.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* How many of them a note names. */
#define NAMED 8

/* A partition belongs to its table, unless that is a move's, in another schema; and a column that
 * is generated is computed anew. */
static const char sql[] =
    "SELECT pg_catalog.substr(n.nspname::pg_catalog.text, 6)::integer, a.attname::pg_catalog.text,"
    " pg_catalog.format_type(a.atttypid, a.atttypmod)"
    " FROM pg_catalog.pg_namespace n"
    " JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid"
    " JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid"
    " WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) '^shard[0-9]{4}$'"
    " AND c.relname OPERATOR(pg_catalog.=) 'entities'"
    " AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped"
    " AND a.attgenerated OPERATOR(pg_catalog.=) ''"
    " AND a.attname OPERATOR(pg_catalog.<>) ALL ('{id,type,body}'::pg_catalog.name[])"
    " UNION ALL"
    " SELECT pg_catalog.substr(n.nspname::pg_catalog.text, 6)::integer, c.relname::pg_catalog.text,"
    " NULL"
    " FROM pg_catalog.pg_namespace n"
    " JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid"
    " WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) '^shard[0-9]{4}$'"
    " AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,f}'::pg_catalog.\"char\"[])"
    " AND NOT (c.relispartition AND EXISTS (SELECT FROM pg_catalog.pg_inherits i"
    "  JOIN pg_catalog.pg_class p ON p.oid OPERATOR(pg_catalog.=) i.inhparent"
    "  WHERE i.inhrelid OPERATOR(pg_catalog.=) c.oid"
    "  AND p.relnamespace OPERATOR(pg_catalog.=) c.relnamespace))"
    " AND c.relname OPERATOR(pg_catalog.<>) ALL"
    " ('{entities,hypervault_migrations}'::pg_catalog.name[])";

/* A server's answer. */
typedef struct answer {
    bool is_asked;
    PGresult *result;
    sql_failure failure;
} answer;

static void ask(hv_store *store, int server, void *item) {
    answer *got = item;
    PGconn *conn = NULL;
    if (!got->is_asked)
        return;
    hv_status status = hv_acquire_server(store, server, &conn, &got->failure.error);
    if (status != HV_OK) {
        got->failure.status = status;
        return;
    }
    status = sql_answer(conn, PQsendQuery(conn, sql), false, SQL_PATIENCE_MS, &got->result,
                        &got->failure);
    if (status == HV_OK)
        sql_check(got->result, "ntT", 0, INT_MAX, &got->failure);
    hv_release(store, conn, NULL);
}

static bool is_same(const left_out_item *item, const char *name, const char *type) {
    bool same_type =
        type != NULL && item->type != NULL ? strcmp(type, item->type) == 0 : type == item->type;
    return same_type && strcmp(name, item->name) == 0;
}

static void add(left_out *found, int64_t shard, const char *name, const char *type) {
    size_t i = 0;
    while (i < found->count && !is_same(&found->items[i], name, type))
        i++;
    if (i == found->count) {
        found->items = resize_memory(found->items, (found->count + 1) * sizeof *found->items);
        left_out_item *made = &found->items[found->count++];
        memset(made, 0, sizeof *made);
        made->name = copy_text(name);
        made->type = type != NULL ? copy_text(type) : NULL;
    }
    found->items[i].shards[shard] = true;
}

static int compare(const void *left, const void *right) {
    const left_out_item *a = left, *b = right;
    if ((a->type == NULL) != (b->type == NULL))
        return a->type != NULL ? -1 : 1;
    int by_name = strcmp(a->name, b->name);
    return by_name != 0 || a->type == NULL ? by_name : strcmp(a->type, b->type);
}

static void note_failure(const hv_store *store, int server, const sql_failure *failure) {
    const char *message = failure->error != NULL     ? hv_error_message(failure->error)
                          : failure->message != NULL ? failure->message
                                                     : hv_status_name(failure->status);
    ui_note("could not find out whether entities of server \"%s\" have further columns: %s",
            hv_server_name(store, server), message);
}

void find_left_out(hv_store *store, const int *shards, int count, left_out *found) {
    int servers = hv_server_count(store);
    answer *answers = new_memory((size_t) servers * sizeof *answers);
    bool wanted[HV_SHARDS] = {false};
    for (int i = 0; i < count; i++) {
        wanted[shards[i]] = true;
        answers[hv_shard_server(store, shards[i])].is_asked = true;
    }
    on_all_servers(store, ask, answers, sizeof *answers);
    for (int i = 0; i < servers; i++) {
        const PGresult *result = answers[i].result;
        bool good = answers[i].failure.status == HV_OK;
        found->is_unknown = found->is_unknown || !good;
        if (!good)
            note_failure(store, i, &answers[i].failure);
        for (int row = 0; good && row < PQntuples(result); row++) {
            int64_t shard = sql_number(result, row, 0, -1);
            if (shard >= 0 && shard < HV_SHARDS && wanted[shard] &&
                hv_shard_server(store, (int) shard) == i)
                add(found, shard, PQgetvalue(result, row, 1),
                    PQgetisnull(result, row, 2) ? NULL : PQgetvalue(result, row, 2));
        }
        PQclear(answers[i].result);
        sql_failure_clear(&answers[i].failure);
    }
    free(answers);
    if (found->count > 1)
        qsort(found->items, found->count, sizeof *found->items, compare);
}

void left_out_fini(left_out *found) {
    for (size_t i = 0; i < found->count; i++) {
        free(found->items[i].name);
        free(found->items[i].type);
    }
    free(found->items);
    *found = (left_out){0};
}

/* ---- Showing it ------------------------------------------------------------------------------ */

/* As ranges: free() them. */
static char *list_shards(const left_out_item *item) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_shard_writer writer = {.text = &text};
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (item->shards[shard])
            hvi_shard_writer_add(&writer, shard);
    hvi_shard_writer_end(&writer);
    char *taken = hvi_buffer_take(&text);
    if (taken == NULL)
        out_of_memory();
    return taken;
}

static void note(const left_out *found, bool tables, const char *what) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    size_t count = 0;
    for (size_t i = 0; i < found->count; i++) {
        const left_out_item *item = &found->items[i];
        if ((item->type == NULL) != tables || count++ >= NAMED)
            continue;
        char *shards = list_shards(item);
        hvi_buffer_append_format(&text, "%s%s", count > 1 ? "; " : "", item->name);
        if (item->type != NULL)
            hvi_buffer_append_format(&text, " (%s)", item->type);
        hvi_buffer_append_format(&text, " in shards %s", shards);
        free(shards);
    }
    if (!hvi_buffer_ok(&text))
        out_of_memory();
    if (count > NAMED)
        ui_note("%s: %s; and %zu more", what, text.data, count - NAMED);
    else if (count > 0)
        ui_note("%s: %s", what, text.data);
    hvi_buffer_fini(&text);
}

void left_out_note_columns(const left_out *found, const char *what) {
    note(found, false, what);
}

void left_out_note_tables(const left_out *found, const char *what) {
    note(found, true, what);
}

static json_t *list(const left_out *found, bool tables) {
    if (found->is_unknown)
        return json_null();
    json_t *all = json_array();
    for (size_t i = 0; i < found->count; i++) {
        const left_out_item *item = &found->items[i];
        if ((item->type == NULL) != tables)
            continue;
        char *shards = list_shards(item);
        json_t *one = json_object();
        json_object_set_new(one, "name", ui_json_text(item->name));
        if (item->type != NULL)
            json_object_set_new(one, "type", ui_json_text(item->type));
        json_object_set_new(one, "shards", json_string(shards));
        json_array_append_new(all, one);
        free(shards);
    }
    return all;
}

json_t *left_out_columns_json(const left_out *found) {
    return list(found, false);
}

json_t *left_out_tables_json(const left_out *found) {
    return list(found, true);
}
