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
#define LINE_MS 20 /* for which the server's answer is waited for until it is in line */

void hvi_late_keys_stop(hvi_late_keys *keys) {
    hvi_link_close(&keys->link);
    *keys = (hvi_late_keys){0};
}

/* ---- how far the table is ---- */

#define EQ " OPERATOR(pg_catalog.=) "

#define A_LOCK                                             \
    "EXISTS (SELECT FROM pg_catalog.pg_locks AS l"         \
    " WHERE l.relation" EQ "t.oid AND l.database" EQ       \
    "(SELECT d.oid FROM pg_catalog.pg_database AS d WHERE" \
    " d.datname" EQ "pg_catalog.current_database()) AND "

/* The COPY is committed; changes may have been applied since. */
#define IS_COPIED                                                                        \
    "EXISTS (SELECT FROM pg_catalog.pg_subscription_rel AS r WHERE r.srrelid" EQ "t.oid" \
    " AND r.srsubstate OPERATOR(pg_catalog.<>) 'i' AND r.srsubstate"                     \
    " OPERATOR(pg_catalog.<>) 'd')"

static const char has_keys_sql[] =
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid" EQ
    "t.oid AND (i.indisprimary OR i.indisreplident))";

static const char is_copied_sql[] = "SELECT " IS_COPIED;

/* By the COPY. */
static const char is_locked_sql[] =
    "SELECT " A_LOCK "l.granted AND l.mode" EQ "'RowExclusiveLock')";

static const char is_in_line_sql[] = "SELECT " A_LOCK "NOT l.granted AND l.pid" EQ "%d)";

static const hvi_form answer_form = {
    .asked = "how far a table is copied",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BOOL},
};

/* Ask one of these about a table, of which `table` is the name within the copy, as in SQL. */
static hv_status ask(const hvi_late_keys_of *of, hvi_link *link, const char *table,
                     const char *question, bool *answer, hv_error **error) {
    hvi_buffer name = HVI_BUFFER_EMPTY, sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_format(&name, "%s.%s", of->name, table);
    hvi_buffer_append_format(&sql, "%s FROM (SELECT ", question);
    if (hvi_buffer_ok(&name))
        hvi_sql_text(&sql, name.data, name.len);
    else
        hvi_buffer_break(&sql);
    hvi_buffer_append_text(&sql, "::pg_catalog.regclass::pg_catalog.oid) AS t(oid)");
    hvi_buffer_fini(&name);
    hv_status status = hvi_link_say(link, &sql, hvi_link_deadline(), &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &answer_form, link->server->name, of->shard, error);
    *answer = status == HV_OK && hvi_bool_at(result, 0, 0);
    PQclear(result);
    return status;
}

/* ---- the steps ---- */

static void finish(hvi_late_keys *keys, bool is_missed) {
    hvi_link_close(&keys->link);
    keys->state = is_missed ? HVI_LATE_KEYS_MISSED : HVI_LATE_KEYS_THERE;
}

/* Wait for the table's lock, with all but those that only read. */
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
    keys->state = HVI_LATE_KEYS_WAITING;
    return hvi_link_start(&keys->link, &sql, error);
}

/* Before there is anything of ours in line. */
static hv_status begin(hvi_late_keys *keys, const hvi_late_keys_of *of, const char *table,
                       hv_error **error) {
    bool has_keys = false, is_copied = false, is_locked = false;
    keys->state = HVI_LATE_KEYS_EARLY;
    /* In this order: a session of a killed command, in line, may be making them just now. */
    hv_status status = ask(of, of->to, table, is_copied_sql, &is_copied, error);
    if (status == HV_OK)
        status = ask(of, of->to, table, has_keys_sql, &has_keys, error);
    if (status == HV_OK && !has_keys && !is_copied)
        status = ask(of, of->to, table, is_locked_sql, &is_locked, error);
    if (status != HV_OK)
        return status;
    if (has_keys || is_copied)
        finish(keys, !has_keys);
    else if (is_locked)
        return stand_in_line(keys, of, table, error);
    return HV_OK;
}

/* It is asked first whether we are in line, and then whether the COPY was over. */
static hv_status look_at_line(hvi_late_keys *keys, const hvi_late_keys_of *of, const char *table,
                              hv_error **error) {
    hvi_buffer question = HVI_BUFFER_EMPTY;
    bool is_in_line = false, is_copied = false;
    hvi_buffer_append_format(&question, is_in_line_sql, PQbackendPID(keys->link.session->conn));
    hv_status status = hvi_buffer_ok(&question)
                           ? ask(of, of->to, table, question.data, &is_in_line, error)
                           : hvi_no_memory(error);
    hvi_buffer_fini(&question);
    if (status == HV_OK && is_in_line)
        status = ask(of, of->to, table, is_copied_sql, &is_copied, error);
    keys->is_in_time = status == HV_OK && is_in_line && !is_copied;
    if (keys->is_in_time)
        hvi_move_reach("late keys: in line");
    return status;
}

/* We have the lock. */
static hv_status make(hvi_late_keys *keys, const hvi_late_keys_of *of, const char *table,
                      hv_error **error) {
    hvi_buffer kept = HVI_BUFFER_EMPTY, sql = HVI_BUFFER_EMPTY;
    bool has_keys = false;
    /* A command that was killed in line may have been before this one. */
    hv_status status = ask(of, &keys->link, table, has_keys_sql, &has_keys, error);
    if (status != HV_OK)
        return status;
    if (has_keys || !keys->is_in_time) {
        finish(keys, !has_keys);
        return HV_OK;
    }
    status = hvi_journal_read_kept(of->to->session, of->shard, of->id, "late_keys",
                                   hvi_link_deadline(), &kept, error);
    hvi_buffer_append_format(&sql, "ALTER SCHEMA %s RENAME TO %s;", of->name, of->live);
    hvi_buffer_append(&sql, kept.data, kept.len);
    hvi_buffer_append_format(&sql,
                             ";SET search_path TO pg_catalog;ALTER SCHEMA %s RENAME TO %s;COMMIT",
                             of->live, of->name);
    if (status == HV_OK && !hvi_buffer_ok(&kept))
        status = hvi_no_memory(error);
    hvi_buffer_fini(&kept);
    keys->state = HVI_LATE_KEYS_MAKING;
    if (status == HV_OK)
        status = hvi_link_start(&keys->link, &sql, error);
    hvi_buffer_fini(&sql);
    hvi_move_reach("late keys: sent");
    return status;
}

static hv_status step(hvi_late_keys *keys, const hvi_late_keys_of *of, const char *table,
                      int64_t deadline, hv_error **error) {
    hv_status status = HV_OK;
    bool done = false;
    int64_t soon = hvi_deadline_after(LINE_MS);
    switch (keys->state) {
    case HVI_LATE_KEYS_WAITING:
        if (!keys->is_in_time && soon < deadline)
            deadline = soon;
        status = hvi_link_advance(&keys->link, deadline, &done, NULL, error);
        if (status != HV_OK)
            return status;
        if (done)
            return make(keys, of, table, error);
        return keys->is_in_time ? HV_OK : look_at_line(keys, of, table, error);
    case HVI_LATE_KEYS_MAKING:
        status = hvi_link_advance(&keys->link, deadline, &done, NULL, error);
        if (status == HV_OK && done)
            finish(keys, false);
        return status;
    default:
        return begin(keys, of, table, error);
    }
}

hv_status hvi_late_keys_advance(hvi_late_keys *keys, const hvi_late_keys_of *of, int64_t deadline,
                                hv_error **error) {
    hvi_buffer table = HVI_BUFFER_EMPTY;
    if (keys->state == HVI_LATE_KEYS_THERE || keys->state == HVI_LATE_KEYS_MISSED)
        return HV_OK;
    hv_status status = hvi_journal_read_kept(of->to->session, of->shard, of->id, "late_table",
                                             hvi_link_deadline(), &table, error);
    if (status == HV_OK && !hvi_buffer_ok(&table))
        status = hvi_no_memory(error);
    if (status == HV_OK && table.len == 0)
        finish(keys, false);
    else if (status == HV_OK)
        status = step(keys, of, table.data, deadline, error);
    hvi_buffer_fini(&table);
    if (status != HV_OK)
        hvi_late_keys_stop(keys);
    return status;
}
