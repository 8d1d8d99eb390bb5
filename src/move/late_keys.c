/*
 * late_keys: the keys of a shard's largest table are made when its rows are there.
 */
#include "move/late_keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "move/hook.h"
#include "move/journal.h"
#include "value/sql_text.h"
#include "wire/result.h"

#define OPEN_MS 15000
#define LINE_MS 20 /* for which the server's answer is waited for until it is in line */

int64_t hvi_late_keys_bytes = 256 << 20;

void hvi_late_keys_stop(hvi_late_keys *keys) {
    hvi_link_close(&keys->link);
    free(keys->table);
    *keys = (hvi_late_keys){0};
}

void hvi_late_keys_disown(hvi_late_keys *keys) {
    hvi_link_disown(&keys->link);
    free(keys->table);
    *keys = (hvi_late_keys){0};
}

/* ---- how far the table is ---- */

#define EQ " OPERATOR(pg_catalog.=) "

#define ITS_LOCK                                                                                 \
    "EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE l.relation" EQ "t.oid AND l.database" EQ \
    "(SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname" EQ                          \
    "pg_catalog.current_database()) AND "

static const char has_keys_sql[] =
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid" EQ
    "t.oid AND (i.indisprimary OR i.indisreplident))";

/* The COPY is committed; changes may have been applied since. */
static const char is_copied_sql[] =
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_subscription_rel AS r WHERE r.srrelid" EQ
    "t.oid AND r.srsubstate OPERATOR(pg_catalog.<>) 'i' AND r.srsubstate OPERATOR(pg_catalog.<>)"
    " 'd')";

/* By a session that makes its keys: that of a command that was killed just now. */
static const char is_held_sql[] = "SELECT " ITS_LOCK "l.granted AND (l.mode" EQ
                                  "'ShareRowExclusiveLock' OR l.mode" EQ "'AccessExclusiveLock'))";

static const hvi_form answer_form = {
    .asked = "how far a table is copied",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BOOL},
};

/* Append a FROM that names the table t, of this schema. */
static void append_table(hvi_buffer *sql, const char *schema, const char *table) {
    hvi_buffer name = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&name, "%s.%s", schema, table);
    hvi_buffer_append_text(sql, " FROM (SELECT ");
    if (hvi_buffer_ok(&name))
        hvi_sql_text(sql, name.data, name.len);
    else
        hvi_buffer_break(sql);
    hvi_buffer_append_text(sql, "::pg_catalog.regclass::pg_catalog.oid) AS t(oid)");
    hvi_buffer_fini(&name);
}

static hv_status ask(const hvi_late_keys *keys, const hvi_late_keys_of *of, hvi_link *link,
                     const char *question, bool *answer, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_text(&sql, question);
    append_table(&sql, of->name, keys->table);
    hv_status status = hvi_link_say(link, &sql, hvi_link_deadline(), &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &answer_form, link->server->name, of->shard, error);
    *answer = status == HV_OK && hvi_bool_at(result, 0, 0);
    PQclear(result);
    return status;
}

/* So many rows are copied, by a COPY that is under way? */
static hv_status ask_if_far(const hvi_late_keys *keys, const hvi_late_keys_of *of, bool *is_far,
                            hv_error **error) {
    char question[256];
    snprintf(question, sizeof question,
             "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_copy AS p WHERE p.relid" EQ
             "t.oid AND p.tuples_processed OPERATOR(pg_catalog.>=) %" PRId64 ")",
             keys->enough);
    return ask(keys, of, of->to, question, is_far, error);
}

static hv_status ask_if_in_line(const hvi_late_keys *keys, const hvi_late_keys_of *of,
                                bool *is_in_line, hv_error **error) {
    char question[512];
    snprintf(question, sizeof question, "SELECT " ITS_LOCK "NOT l.granted AND l.pid" EQ "%d)",
             keys->link.pid);
    return ask(keys, of, of->to, question, is_in_line, error);
}

/* ---- the steps ---- */

static const hvi_form rows_form = {
    .asked = "how many rows a table has",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_INT8},
};

/* The lower one of two estimates: it must not be missed. An unknown one is -1. */
static hv_status estimate(hvi_late_keys *keys, const hvi_late_keys_of *of, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_text(&sql,
                           "SELECT LEAST((SELECT c.reltuples FROM pg_catalog.pg_class AS c"
                           " WHERE c.oid" EQ "t.oid), pg_catalog.pg_stat_get_live_tuples(t.oid))"
                           "::bigint");
    append_table(&sql, of->live, keys->table);
    hv_status status = hvi_link_say(of->from, &sql, hvi_link_deadline(), &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &rows_form, of->from->server->name, of->shard, error);
    if (status == HV_OK)
        keys->enough = hvi_integer_at(result, 0, 0) / 4 * 3;
    PQclear(result);
    return status;
}

static void finish(hvi_late_keys *keys, bool is_missed) {
    hvi_link_close(&keys->link);
    keys->state = is_missed ? HVI_LATE_KEYS_MISSED : HVI_LATE_KEYS_THERE;
}

/* Learn which table it is, if there is one. */
static hv_status find(hvi_late_keys *keys, const hvi_late_keys_of *of, hv_error **error) {
    hvi_buffer table = HVI_BUFFER_EMPTY;
    hv_status status = hvi_journal_read_kept(of->to->session, of->shard, of->id, "late_table",
                                             hvi_link_deadline(), &table, error);
    if (status == HV_OK && !hvi_buffer_ok(&table))
        status = hvi_no_memory(error);
    if (status == HV_OK && table.len > 0) {
        keys->table = hvi_buffer_take(&table);
        keys->state = HVI_LATE_KEYS_EARLY;
        status = keys->table != NULL ? estimate(keys, of, error) : hvi_no_memory(error);
    } else if (status == HV_OK) {
        finish(keys, false);
    }
    hvi_buffer_fini(&table);
    return status;
}

/* Wait for the table's lock, with all but those that only read. */
static hv_status stand_in_line(hvi_late_keys *keys, const hvi_late_keys_of *of, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hv_status status =
        hvi_link_open(&keys->link, of->to->server, hvi_deadline_after(OPEN_MS), error);
    if (status != HV_OK)
        return status;
    hvi_buffer_append_format(&sql,
                             "BEGIN;SET LOCAL lock_timeout TO 0;"
                             "LOCK TABLE ONLY %s.%s IN SHARE ROW EXCLUSIVE MODE",
                             of->name, keys->table);
    keys->state = HVI_LATE_KEYS_WAITING;
    keys->is_in_time = false;
    return hvi_link_start(&keys->link, &sql, error);
}

static hv_status wait_for_copy(hvi_late_keys *keys, const hvi_late_keys_of *of, hv_error **error) {
    bool is_copied = false, is_held = false, has_keys = false, is_far = false;
    /* In this order: the session of a killed command may be making the keys just now. */
    hv_status status = ask(keys, of, of->to, is_copied_sql, &is_copied, error);
    if (status == HV_OK && is_copied)
        status = ask(keys, of, of->to, is_held_sql, &is_held, error);
    if (status == HV_OK && !is_held)
        status = ask(keys, of, of->to, has_keys_sql, &has_keys, error);
    if (status == HV_OK && !is_copied && !has_keys)
        status = ask_if_far(keys, of, &is_far, error);
    if (status != HV_OK || is_held)
        return status;
    if (has_keys || is_copied)
        finish(keys, !has_keys);
    else if (is_far)
        return stand_in_line(keys, of, error);
    return HV_OK;
}

/* It is asked first whether we are in line, and then whether the COPY was over. */
static hv_status look_at_line(hvi_late_keys *keys, const hvi_late_keys_of *of, hv_error **error) {
    bool is_in_line = false, is_copied = false;
    hv_status status = ask_if_in_line(keys, of, &is_in_line, error);
    if (status == HV_OK && is_in_line)
        status = ask(keys, of, of->to, is_copied_sql, &is_copied, error);
    keys->is_in_time = status == HV_OK && is_in_line && !is_copied;
    if (keys->is_in_time)
        hvi_move_reach("late keys: in line");
    return status;
}

static hv_status send_keys(hvi_late_keys *keys, const hvi_late_keys_of *of, hv_error **error) {
    hvi_buffer kept = HVI_BUFFER_EMPTY, sql = HVI_BUFFER_EMPTY;
    hv_status status = hvi_journal_read_kept(of->to->session, of->shard, of->id, "late_keys",
                                             hvi_link_deadline(), &kept, error);
    if (status == HV_OK && !hvi_buffer_ok(&kept))
        status = hvi_no_memory(error);
    if (status == HV_OK) {
        hvi_buffer_append_format(&sql, "ALTER SCHEMA %s RENAME TO %s;", of->name, of->live);
        hvi_buffer_append(&sql, kept.data, kept.len);
        hvi_buffer_append_format(&sql,
                                 ";SET search_path TO pg_catalog;"
                                 "ALTER SCHEMA %s RENAME TO %s;COMMIT",
                                 of->live, of->name);
        status = hvi_link_start(&keys->link, &sql, error);
        keys->state = HVI_LATE_KEYS_MAKING;
        hvi_move_reach("late keys: sent");
    }
    hvi_buffer_fini(&kept);
    return status;
}

/* We have the lock, so nothing changes while we look. */
static hv_status make(hvi_late_keys *keys, const hvi_late_keys_of *of, hv_error **error) {
    bool has_keys = false, is_copied = false;
    hv_status status = ask(keys, of, &keys->link, has_keys_sql, &has_keys, error);
    if (status == HV_OK)
        status = ask(keys, of, &keys->link, is_copied_sql, &is_copied, error);
    if (status != HV_OK)
        return status;
    if (has_keys || (is_copied && !keys->is_in_time)) {
        finish(keys, !has_keys);
        return HV_OK;
    }
    if (is_copied)
        return send_keys(keys, of, error);
    /* That COPY has failed; the server begins another one. */
    hvi_link_close(&keys->link);
    keys->state = HVI_LATE_KEYS_EARLY;
    return HV_OK;
}

static hv_status wait_in_line(hvi_late_keys *keys, const hvi_late_keys_of *of, int64_t deadline,
                              hv_error **error) {
    bool done = false;
    int64_t soon = hvi_deadline_after(LINE_MS);
    if (!keys->is_in_time && soon < deadline)
        deadline = soon;
    hv_status status = hvi_link_advance(&keys->link, deadline, &done, NULL, error);
    if (status != HV_OK)
        return status;
    if (done)
        return make(keys, of, error);
    return keys->is_in_time ? HV_OK : look_at_line(keys, of, error);
}

hv_status hvi_late_keys_advance(hvi_late_keys *keys, const hvi_late_keys_of *of, int64_t deadline,
                                hv_error **error) {
    hv_status status = HV_OK;
    bool done = false;
    switch (keys->state) {
    case HVI_LATE_KEYS_UNKNOWN:
        status = find(keys, of, error);
        break;
    case HVI_LATE_KEYS_EARLY:
        status = wait_for_copy(keys, of, error);
        break;
    case HVI_LATE_KEYS_WAITING:
        status = wait_in_line(keys, of, deadline, error);
        break;
    case HVI_LATE_KEYS_MAKING:
        status = hvi_link_advance(&keys->link, deadline, &done, NULL, error);
        if (status == HV_OK && done)
            finish(keys, false);
        break;
    default:
        break;
    }
    if (status != HV_OK)
        hvi_late_keys_stop(keys);
    return status;
}
