/*
 * late_keys: the keys of a shard's largest table are made when its rows are there.
 */
#include "move/late_keys.h"

#include "base/clock.h"
#include "move/hook.h"
#include "move/journal.h"
#include "value/sql_text.h"
#include "wire/result.h"

#define OPEN_MS 15000

void hvi_late_keys_stop(hvi_late_keys *keys) {
    hvi_link_close(&keys->link);
    keys->state = HVI_LATE_KEYS_UNKNOWN;
}

static void finish(hvi_late_keys *keys) {
    hvi_link_close(&keys->link);
    keys->state = HVI_LATE_KEYS_THERE;
}

/* ---- how far the table is ---- */

static const hvi_form table_form = {
    .asked = "a table that is copied",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BOOL, HVI_IS_BOOL},
};

/* Has it its keys; and does a COPY hold it, or has it been copied? %s: the text of its name. */
static const char table_sql[] =
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid OPERATOR(pg_catalog.=)"
    " t.oid AND (i.indisprimary OR i.indisreplident)),"
    " EXISTS (SELECT FROM pg_catalog.pg_subscription_rel AS r WHERE r.srrelid"
    " OPERATOR(pg_catalog.=) t.oid AND r.srsubstate OPERATOR(pg_catalog.<>) 'i'"
    " AND (r.srsubstate OPERATOR(pg_catalog.<>) 'd' OR EXISTS (SELECT FROM pg_catalog.pg_locks AS l"
    " WHERE l.relation OPERATOR(pg_catalog.=) t.oid AND l.granted AND l.mode"
    " OPERATOR(pg_catalog.=) 'RowExclusiveLock' AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid"
    " FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=)"
    " pg_catalog.current_database()))))"
    " FROM (SELECT %s::pg_catalog.regclass::pg_catalog.oid) AS t(oid)";

static hv_status look(const hvi_late_keys_of *of, hvi_link *link, const char *table, bool *has_keys,
                      bool *is_copied, hv_error **error) {
    hvi_buffer name = HVI_BUFFER_EMPTY, literal = HVI_BUFFER_EMPTY, sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_format(&name, "%s.%s", of->name, table);
    if (hvi_buffer_ok(&name))
        hvi_sql_text(&literal, name.data, name.len);
    if (hvi_buffer_ok(&name) && hvi_buffer_ok(&literal))
        hvi_buffer_append_format(&sql, table_sql, literal.data);
    else
        hvi_buffer_break(&sql);
    hv_status status = hvi_link_say(link, &sql, hvi_link_deadline(), &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &table_form, link->server->name, of->shard, error);
    if (status == HV_OK) {
        *has_keys = hvi_bool_at(result, 0, 0);
        *is_copied = hvi_bool_at(result, 0, 1);
    }
    PQclear(result);
    hvi_buffer_fini(&name);
    hvi_buffer_fini(&literal);
    return status;
}

/* ---- the steps ---- */

/* Against all but those that only read. */
static hv_status stand_in_line(hvi_late_keys *keys, const hvi_late_keys_of *of, const char *table,
                               hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hv_status status =
        hvi_link_open(&keys->link, of->to->server, hvi_deadline_after(OPEN_MS), error);
    if (status != HV_OK)
        return status;
    hvi_buffer_append_format(&sql,
                             "BEGIN;SET LOCAL lock_timeout TO 0;"
                             "LOCK TABLE ONLY %s.%s IN SHARE ROW EXCLUSIVE MODE",
                             of->name, table);
    status = hvi_link_start(&keys->link, &sql, error);
    keys->state = HVI_LATE_KEYS_WAITING;
    hvi_move_reach("late keys: in line");
    return status;
}

static hv_status make(hvi_late_keys *keys, const hvi_late_keys_of *of, const char *keys_sql,
                      hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&sql, "ALTER SCHEMA %s RENAME TO %s;", of->name, of->live);
    hvi_buffer_append_text(&sql, keys_sql);
    hvi_buffer_append_format(&sql,
                             ";SET search_path TO pg_catalog;ALTER SCHEMA %s RENAME TO %s;COMMIT",
                             of->live, of->name);
    hv_status status = hvi_link_start(&keys->link, &sql, error);
    keys->state = HVI_LATE_KEYS_MAKING;
    hvi_move_reach("late keys: sent");
    return status;
}

/* A step that needs the table's name or the keys' text. */
static hv_status step(hvi_late_keys *keys, const hvi_late_keys_of *of, hv_error **error) {
    hvi_buffer table = HVI_BUFFER_EMPTY, sql = HVI_BUFFER_EMPTY;
    bool has_keys = false, is_copied = false;
    bool is_locked = keys->state == HVI_LATE_KEYS_WAITING;
    hv_status status = hvi_journal_read_kept(of->to->session, of->shard, of->id, "late_table",
                                             hvi_link_deadline(), &table, error);
    if (status == HV_OK && is_locked)
        status = hvi_journal_read_kept(of->to->session, of->shard, of->id, "late_keys",
                                       hvi_link_deadline(), &sql, error);
    if (status == HV_OK && !(hvi_buffer_ok(&table) && hvi_buffer_ok(&sql)))
        status = hvi_no_memory(error);
    if (status == HV_OK && table.len > 0)
        /* In line, another session may have been before this one. */
        status =
            look(of, is_locked ? &keys->link : of->to, table.data, &has_keys, &is_copied, error);
    if (status != HV_OK)
        ;
    else if (table.len == 0 || has_keys)
        finish(keys);
    else if (is_locked)
        status = make(keys, of, sql.data, error);
    else if (is_copied)
        status = stand_in_line(keys, of, table.data, error);
    else
        keys->state = HVI_LATE_KEYS_EARLY;
    hvi_buffer_fini(&table);
    hvi_buffer_fini(&sql);
    return status;
}

hv_status hvi_late_keys_advance(hvi_late_keys *keys, const hvi_late_keys_of *of, int64_t deadline,
                                hv_error **error) {
    hv_status status = HV_OK;
    bool done = true;
    if (keys->state == HVI_LATE_KEYS_THERE)
        return HV_OK;
    if (keys->state == HVI_LATE_KEYS_WAITING || keys->state == HVI_LATE_KEYS_MAKING)
        status = hvi_link_advance(&keys->link, deadline, &done, NULL, error);
    if (status == HV_OK && !done)
        return HV_OK;
    if (status == HV_OK && keys->state == HVI_LATE_KEYS_MAKING)
        finish(keys);
    else if (status == HV_OK)
        status = step(keys, of, error);
    if (status != HV_OK)
        hvi_late_keys_stop(keys);
    return status;
}
