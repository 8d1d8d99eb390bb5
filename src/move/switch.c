/*
 * switch: the fence, the one transaction by which a shard goes from one server to another.
 *
 *     gentle locks ──► all locks ──► looked ──► marked ──► arrived ──► durable ──► COMMIT ──► DONE
 *          │              │             │          │          │           │            │
 *          └──────────────┴─────────────┴─────┬────┴──────────┴───────────┘            └──► LOST
 *                                             ▼
 *                                  ROLLBACK: AGAIN, or WRONG
 *
 * What always holds:
 *
 *  1. Until COMMIT, the live name is on the source and only there; the copy has another name, which
 *     no caller knows. So whatever ends the transaction before it, callers go on at the source.
 *  2. The tables are locked against everybody from "all locks" to COMMIT. A transaction that has
 *     written to them has committed before that, or has not written: so all of its changes are in
 *     the log before the marker, which another session writes after the locks were granted.
 *     Prepared transactions keep their locks, and so keep this one out.
 *  3. Changes are applied in the order of the commits. So when the marker has arrived, everything
 *     before it has.
 *  4. The sequences are locked, too, when they are read. A key that a caller has got before is one
 *     of those that the target will not give out again.
 *  5. The commit on the target that sets the sequences waits for the disk, and with it all before
 *     it does. So a crash of the target after COMMIT forgets nothing.
 *  6. The row that says "gone" and the new name of the schema become visible together, at COMMIT.
 *     A caller that finds the name missing finds the row.
 *  7. The row on the target that says "arriving", with this generation, was committed before. So
 *     after COMMIT anybody can publish the shard, and nobody can before, since nobody has read
 *     "gone".
 *  8. If the answer to COMMIT is lost, this session's advisory lock is asked for by another: once
 *     that has it, this transaction has ended, and the row says how.
 *  9. A server that hears nothing from us in the transaction ends it: when a statement or the pause
 *     between two takes longer than the budget.
 *
 * A lock on a table makes all that come later wait behind it. So the budget counts from the moment
 * at which the locks are asked for. Autovacuum, which would keep us waiting for a second until it
 * gives way, is sent away first by a lock that stops nobody else.
 */
#include "move/switch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "value/generator.h"
#include "value/sql_text.h"
#include "wire/result.h"
#include "schema/shard_sql.h"
#include "shard/location.h"
#include "move/hook.h"
#include "move/sequences.h"

#define FIRST_BUDGET_MS 80
#define LOCK_MS         50 /* at first */
#define GENTLE_MS       5000
#define COMMIT_MS       30000
#define POLL_US         500

static int64_t budget_of(const hvi_switch *attempt) {
    int64_t budget = FIRST_BUDGET_MS;
    for (int i = 0; i < attempt->tries && budget < attempt->max_pause_ms; i++)
        budget *= 2;
    return budget < attempt->max_pause_ms ? budget : attempt->max_pause_ms;
}

/* How long a lock is waited for. Transactions that are all longer than the first wait never let it
 * in; those that begin later wait behind it, so a longer one will do. */
static int64_t lock_wait_of(int64_t budget) {
    int64_t wait = budget / 2 > LOCK_MS ? budget / 2 : LOCK_MS;
    return wait < budget ? wait : budget;
}

/* Refused for want of a lock or of time: it may be granted the next time. */
static bool is_in_the_way(const hv_error *cause) {
    static const char *const states[] = {"55P03", "57014",           "40P01",
                                         "40001", HVI_SQLSTATE_BUSY, HVI_GENERATOR_LATER};
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
        if (hvi_error_has_sqlstate(cause, states[i]))
            return true;
    return false;
}

static const hvi_form text_form = {
    .asked = "the tables of a shard",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_BYTES},
};

/* Append "LOCK TABLE ONLY a, b" of the shard's tables, without the mode. */
static hv_status list_tables(const hvi_switch *attempt, hvi_buffer *to, int64_t deadline,
                             hv_error **error) {
    hvi_buffer ask = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_format(
        &ask,
        "SELECT pg_catalog.format('%%s', c.oid::pg_catalog.regclass) FROM pg_catalog.pg_class AS c"
        " WHERE c.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
        " AND c.relkind OPERATOR(pg_catalog.=) 'r' ORDER BY c.oid",
        attempt->names->live);
    hv_status status = hvi_link_say(attempt->from, &ask, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &text_form, attempt->from->server->name, attempt->shard,
                                  error);
    for (int i = 0; status == HV_OK && i < PQntuples(result); i++)
        hvi_buffer_append_format(to, "%s%s", i == 0 ? "LOCK TABLE ONLY " : ", ONLY ",
                                 hvi_text_at(result, i, 0));
    if (status == HV_OK && PQntuples(result) == 0)
        status = hvi_fail_answer(attempt->from->server->name, attempt->shard, text_form.asked,
                                 error, "has none");
    PQclear(result);
    return status;
}

/* ---- the parts ---- */

static hv_status lock_gently(const hvi_switch *attempt, const hvi_buffer *tables, int64_t budget,
                             hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    /* Offline, the transaction is there already, and has these locks and more. What is refused from
     * here on must not take it along. */
    if (attempt->stream == NULL)
        return hvi_link_run(attempt->from, "SAVEPOINT hv", hvi_link_deadline(), NULL, error);
    hvi_buffer_append_format(&sql,
                             "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
                             "SET LOCAL idle_in_transaction_session_timeout TO %" PRId64 ";"
                             "SET LOCAL lock_timeout TO %d;"
                             "%s IN SHARE UPDATE EXCLUSIVE MODE",
                             budget + 100, GENTLE_MS, tables->data);
    return hvi_link_say(attempt->from, &sql, hvi_deadline_after(2 * GENTLE_MS), NULL, error);
}

/* Raises HVI_SQLSTATE_BUSY if another session is changing the schema. */
#define OTHERS_SQL(condition)                                                              \
    "DO $hv$ BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_locks AS l"                        \
    " WHERE l.locktype OPERATOR(pg_catalog.=) 'object' AND l.granted"                      \
    " AND l.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass" \
    " AND l.objid OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace::pg_catalog.oid"    \
    " AND l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid())" condition            \
    " THEN RAISE EXCEPTION USING ERRCODE = '" HVI_SQLSTATE_BUSY "',"                       \
    " MESSAGE = 'a transaction is changing the schema %s'; END IF; END $hv$;"

/* Which relations a schema has. */
#define RELATIONS_SQL                                                                   \
    "SELECT pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(c.oid::bigint))" \
    " FROM pg_catalog.pg_class AS c"                                                    \
    " WHERE c.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"

static const hvi_form relations_form = {
    .asked = "the relations of a shard",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BYTES},
};

/* And look whether somebody is just making or renaming something in the schema: no lock of ours
 * keeps that out, but it has one on the schema until it is committed. */
static hv_status lock_all(hvi_switch *attempt, const hvi_buffer *tables,
                          const hvi_buffer *sequences, int64_t budget, int64_t deadline,
                          hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_format(
        &sql,
        "SET LOCAL idle_in_transaction_session_timeout TO %" PRId64 ";"
        "SET LOCAL lock_timeout TO %" PRId64 ";SET LOCAL statement_timeout TO %" PRId64 ";"
        "%s IN ACCESS EXCLUSIVE MODE;%s" OTHERS_SQL(""),
        budget + 100, lock_wait_of(budget), budget, tables->data,
        sequences->data != NULL ? sequences->data : "", attempt->names->live, attempt->names->live);
    if (attempt->stream != NULL)
        hvi_stream_whole_sql(attempt->stream, &sql);
    hvi_buffer_append_format(&sql, RELATIONS_SQL, attempt->names->live);
    hv_status status = hvi_link_say(attempt->from, &sql, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &relations_form, attempt->from->server->name,
                                  attempt->shard, error);
    if (status == HV_OK)
        snprintf(attempt->relations, sizeof attempt->relations, "%s", hvi_text_at(result, 0, 0));
    PQclear(result);
    return status;
}

static hv_status wait_for_marker(const hvi_switch *attempt, int64_t deadline, bool *late,
                                 hv_error **error) {
    int64_t number;
    bool arrived = false;
    hv_status status = hvi_stream_mark(attempt->stream, deadline, &number, error);
    while (status == HV_OK && !arrived) {
        status = hvi_stream_arrived(attempt->stream, number, deadline, &arrived, error);
        if (status == HV_OK && !arrived) {
            if (hvi_is_late(deadline)) {
                *late = true;
                return HV_OK;
            }
            struct timespec pause = {.tv_nsec = POLL_US * 1000};
            nanosleep(&pause, NULL);
        }
    }
    return status;
}

/* The sequences go on at the target, and what it has is on its disk. */
static hv_status settle_target(const hvi_switch *attempt, int64_t deadline, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&sql, "BEGIN;");
    hv_status status = hvi_sequences_read(attempt->from, attempt->names->live,
                                          attempt->names->stream, &sql, deadline, error);
    if (status != HV_OK) {
        hvi_buffer_fini(&sql);
        return status;
    }
    hvi_buffer_append_format(&sql,
                             "UPDATE hypervault.shard_locations SET changed ="
                             " pg_catalog.clock_timestamp() WHERE shard OPERATOR(pg_catalog.=) %d;"
                             "COMMIT",
                             attempt->shard);
    status = hvi_link_say(attempt->to, &sql, deadline, NULL, error);
    if (status != HV_OK && hvi_link_is_open(attempt->to))
        hvi_link_run(attempt->to, "ROLLBACK", hvi_link_deadline(), NULL, NULL);
    return status;
}

/* One message: whatever is refused in it, COMMIT is not reached. What was made since the locks were
 * taken, which do not keep it out, would be left in the old copy. */
static hv_status commit(const hvi_switch *attempt, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_location_gone(&sql, attempt->shard, attempt->generation, attempt->target);
    if (attempt->stream != NULL)
        hvi_stream_detach_sql(attempt->stream, &sql);
    hvi_buffer_append_format(&sql,
                             "ALTER SCHEMA %s RENAME TO %s;" OTHERS_SQL(
                                 " OR (" RELATIONS_SQL ") OPERATOR(pg_catalog.<>) '%s'") "COMMIT",
                             attempt->names->live, attempt->names->retired, attempt->names->retired,
                             attempt->names->retired, attempt->relations, attempt->names->live);
    return hvi_link_say(attempt->from, &sql, hvi_deadline_after(COMMIT_MS), NULL, error);
}

/* ---- one try ---- */

/* Name what is in the way, for people. */
static void ask_what_waits(hvi_switch *attempt, const hv_error *cause) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_shard_sql_in_the_way(&sql, attempt->shard);
    if (hvi_link_say(attempt->from, &sql, hvi_link_deadline(), &result, NULL) == HV_OK) {
        const char *answer = hvi_shard_sql_answer(result);
        if (answer == NULL)
            answer = cause != NULL ? hv_error_message(cause) : "the stream is behind";
        snprintf(attempt->waits_for, sizeof attempt->waits_for, "%s", answer);
    }
    PQclear(result);
}

static void note_pause(hvi_switch *attempt, int64_t since) {
    int64_t pause = hvi_clock_us() - since;
    if (pause > attempt->pause_us)
        attempt->pause_us = pause;
}

/* Before COMMIT was sent: take it back. */
static hvi_switch_result give_way(hvi_switch *attempt, int64_t since, hv_error **cause,
                                  hv_error **error) {
    bool is_wrong =
        *cause != NULL && !is_in_the_way(*cause) && !hvi_link_is_lost(hv_error_status(*cause));
    const char *back = attempt->stream != NULL ? "ROLLBACK" : "ROLLBACK TO SAVEPOINT hv";
    hv_status status = hvi_link_run(attempt->from, back, hvi_link_deadline(), NULL, NULL);
    if (since > 0)
        note_pause(attempt, since);
    attempt->tries++;
    if (is_wrong) {
        hvi_error_move(error, cause);
        return HVI_SWITCH_WRONG;
    }
    bool is_lost = status != HV_OK || !hvi_link_is_open(attempt->to) ||
                   (attempt->witness != NULL && !hvi_link_is_open(attempt->witness));
    if (is_lost) {
        if (*cause != NULL)
            hvi_error_move(error, cause);
        else
            hvi_fail(error, HV_UNAVAILABLE, "the connection to the server is closed");
        return HVI_SWITCH_LOST;
    }
    ask_what_waits(attempt, *cause);
    hv_error_free(*cause);
    *cause = NULL;
    return HVI_SWITCH_AGAIN;
}

hvi_switch_result hvi_switch_try(hvi_switch *attempt, hv_error **error) {
    hvi_buffer tables = HVI_BUFFER_EMPTY, sequences = HVI_BUFFER_EMPTY;
    hv_error *cause = NULL;
    hvi_switch_result result = HVI_SWITCH_AGAIN;
    int64_t budget = budget_of(attempt);
    int64_t since = 0, deadline = hvi_link_deadline();
    bool late = false;

    hv_status status = list_tables(attempt, &tables, deadline, &cause);
    if (status == HV_OK)
        status = hvi_sequences_lock_sql(attempt->from, attempt->names->live, &sequences, deadline,
                                        &cause);
    if (status == HV_OK && !(hvi_buffer_ok(&tables) && hvi_buffer_ok(&sequences)))
        status = hvi_no_memory(&cause);
    if (status == HV_OK)
        status = lock_gently(attempt, &tables, budget, &cause);
    if (status == HV_OK) {
        since = hvi_clock_us();
        deadline = since + budget * 1000;
        status = lock_all(attempt, &tables, &sequences, budget, deadline, &cause);
    }
    hvi_move_reach("fence: locked");
    if (status == HV_OK && attempt->drift != NULL)
        status = hvi_drift_quick(attempt->drift, attempt->from->session,
                                 attempt->from->server->name, deadline, &cause);
    if (status == HV_OK && attempt->stream != NULL)
        status = wait_for_marker(attempt, deadline, &late, &cause);
    hvi_move_reach("fence: arrived");
    if (status == HV_OK && !late && attempt->verify != NULL) {
        hvi_verify_progress left;
        hvi_verify_progress_of(attempt->verify, &left);
        if (left.left > 0)
            status = hvi_verify_last(attempt->verify, attempt->from->session, attempt->to->session,
                                     deadline, &cause);
    }
    if (status == HV_OK && !late)
        status = settle_target(attempt, deadline, &cause);
    if (status != HV_OK || late || hvi_is_late(deadline)) {
        result = give_way(attempt, since, &cause, error);
    } else {
        hvi_move_reach("fence: before commit");
        status = commit(attempt, &cause);
        note_pause(attempt, since);
        if (status == HV_OK) {
            hvi_move_reach("fence: after commit");
            result = HVI_SWITCH_DONE;
        } else if (hvi_link_is_lost(status) || !hvi_link_is_open(attempt->from)) {
            hvi_error_move(error, &cause);
            result = HVI_SWITCH_LOST;
        } else {
            result = give_way(attempt, since, &cause, error);
        }
    }
    hv_error_free(cause);
    hvi_buffer_fini(&tables);
    hvi_buffer_fini(&sequences);
    return result;
}
