/*
 * steps: what a move does until the copy has all rows and follows, step by step.
 *
 * Each function may be called again from its beginning after anything was killed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "wire/result.h"
#include "schema/shard_sql.h"
#include "move/fit.h"
#include "move/hook.h"
#include "move/remains.h"
#include "move/schema_copy.h"
#include "move/sequences.h"
#include "move/state.h"

#define DUMP_MS 600000
#define LOOK_US 200000 /* how often a stream is looked at */
#define WELL_US 8000000

#define SQLSTATE_DISK_FULL "53100"

hv_status hvi_move_wait_for_lock(hvi_move *move, hvi_link *on, hv_status status, hv_error **cause,
                                 hvi_move_next *what, hv_error **error) {
    static const char *const states[] = {HVI_SQLSTATE_LOCK, HVI_SQLSTATE_IN_USE, "40P01", "57014"};
    bool is_wait = false;
    int64_t pause;
    for (size_t i = 0; status == HV_REFUSED && i < sizeof states / sizeof states[0]; i++)
        is_wait = is_wait || hvi_error_has_sqlstate(*cause, states[i]);
    if (!is_wait || !hvi_link_is_open(on))
        return hvi_error_move(error, cause);
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_shard_sql_in_the_way(&sql, move->shard);
    const char *holder = NULL;
    if (hvi_link_say(on, &sql, hvi_link_deadline(), &result, NULL) == HV_OK)
        holder = hvi_shard_sql_answer(result);
    snprintf(move->waits_for, sizeof move->waits_for, "%s",
             holder != NULL ? holder : hv_error_message(*cause));
    PQclear(result);
    if (!hvi_patience_next(&move->patience, move->options.max_wait, &pause)) {
        hv_error_free(*cause);
        *cause = NULL;
        hvi_fail(error, HV_TIMEOUT, "shard %d has waited for a lock for too long", move->shard);
        hvi_error_where(error, on->server->name, move->shard);
        hvi_error_detail(error, "On server \"%s\", %s.", on->server->name, move->waits_for);
        return HV_TIMEOUT;
    }
    hv_error_free(*cause);
    *cause = NULL;
    hvi_move_stay(move, pause);
    *what = HVI_NEXT_STAY;
    return HV_OK;
}

/* ---- begun ---- */

static const hvi_form facts_form = {
    .asked = "what a move needs",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BYTES, HVI_IS_BYTES, HVI_IS_BOOL, HVI_IS_BYTES, HVI_IS_BOOL},
};

static const char facts_sql[] =
    "SELECT pg_catalog.current_setting('wal_level'), (SELECT pg_catalog.concat(system_identifier,"
    " ' ', pg_catalog.pg_postmaster_start_time(), ' ', (SELECT oid FROM pg_catalog.pg_database "
    "WHERE datname OPERATOR(pg_catalog.=)"
    " pg_catalog.current_database())) FROM pg_catalog.pg_control_system()),"
    " (SELECT r.rolsuper OR r.rolreplication FROM pg_catalog.pg_roles AS r WHERE r.rolname"
    " OPERATOR(pg_catalog.=) CURRENT_USER), (SELECT system_identifier::pg_catalog.text"
    " FROM pg_catalog.pg_control_system()), pg_catalog.to_regnamespace('%s') IS NOT NULL";

static hv_status fail_at(const hvi_move *move, const hvi_link *at, hv_error **error,
                         const char *message, const char *hint) {
    hvi_fail(error, HV_INVALID, "%s", message);
    hvi_error_where(error, at->server->name, move->shard);
    hvi_error_hint(error, "%s", hint);
    return HV_INVALID;
}

hv_status hvi_step_begun(hvi_move *move, int64_t deadline, hvi_move_next *what, hvi_move_step *next,
                         hv_error **error) {
    (void) deadline;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *from = NULL, *to = NULL;
    hvi_move_say(move, "looking at both servers");
    hvi_buffer_append_format(&sql, facts_sql, move->names.live);
    hv_status status = hvi_link_say(&move->from, &sql, hvi_link_deadline(), &from, error);
    if (status == HV_OK) {
        hvi_buffer_append_format(&sql, facts_sql, move->names.live);
        status = hvi_link_say(&move->to, &sql, hvi_link_deadline(), &to, error);
    }
    if (status == HV_OK)
        status = hvi_result_check(from, &facts_form, move->from.server->name, move->shard, error);
    if (status == HV_OK)
        status = hvi_result_check(to, &facts_form, move->to.server->name, move->shard, error);
    bool is_offline = move->row.kind == HVI_MOVE_OFFLINE;
    if (status != HV_OK)
        ;
    else if (strcmp(hvi_text_at(from, 0, 1), hvi_text_at(to, 0, 1)) == 0)
        status = fail_at(move, &move->to, error, "both servers are the same database",
                         "Look at host, port and dbname of both in the configuration.");
    else if (!hvi_bool_at(from, 0, 4))
        status = hvi_fail(error, HV_NOT_INITIALIZED, "server \"%s\" does not have shard %d",
                          move->from.server->name, move->shard);
    else if (hvi_bool_at(to, 0, 4))
        status = fail_at(move, &move->to, error, "the target has a schema of this name already",
                         "Two servers must not have one shard. Find out which is right, and rename "
                         "the other schema.");
    else if (!is_offline && strcmp(hvi_text_at(from, 0, 0), "logical") != 0)
        status = fail_at(move, &move->from, error, "the source's wal_level is not \"logical\"",
                         "Set wal_level = logical there and restart it, or move offline.");
    else if (!is_offline && !hvi_bool_at(from, 0, 2))
        status = fail_at(move, &move->from, error, "the role lacks REPLICATION",
                         "ALTER ROLE … REPLICATION on the source.");
    else if (move->row.keep_ms > 0 && (is_offline || strcmp(hvi_text_at(to, 0, 0), "logical") != 0))
        status =
            fail_at(move, &move->to, error, "an undo needs wal_level \"logical\" on both servers",
                    "Set wal_level = logical on the target and restart it, or move without "
                    "keep_undo.");
    else
        snprintf(move->row.system, sizeof move->row.system, "%s", hvi_text_at(to, 0, 3));
    if (status == HV_OK)
        status = hvi_sequences_check(&move->from, &move->to, move->shard, move->names.live,
                                     hvi_link_deadline(), error);
    if (status == HV_OK)
        status = hvi_fit_check(&move->from, move->shard, move->names.live, is_offline,
                               hvi_link_deadline(), error);
    PQclear(from);
    PQclear(to);
    *what = HVI_NEXT_STEP;
    *next = HVI_STEP_SCHEMA;
    return status;
}

/* ---- schema ---- */

/* The digest and the dump must be of the same schema: the digest is taken again after the dump. */
static hv_status dump(hvi_move *move, const hvi_schema_copy *copy, hvi_schema_texts *texts,
                      hv_error **error) {
    hvi_drift_fini(&move->drift);
    hv_status status = hvi_drift_take(&move->drift, move->from.session, move->shard,
                                      move->from.server->name, hvi_link_deadline(), error);
    if (status == HV_OK)
        status = hvi_schema_copy_dump(copy, texts, hvi_deadline_after(DUMP_MS), error);
    if (status == HV_OK)
        status = hvi_drift_check(&move->drift, move->from.session, move->from.server->name,
                                 hvi_link_deadline(), error);
    if (status == HV_OK)
        memcpy(move->row.digest, move->drift.digest, sizeof move->row.digest);
    return status;
}

/* Offline there are no changes that need the keys: they are the first of the rest. */
static void keep_rest(const hvi_move *move, hvi_schema_texts *texts, hvi_buffer *sql) {
    bool is_offline = move->row.kind == HVI_MOVE_OFFLINE;
    hvi_buffer nothing = HVI_BUFFER_EMPTY, *keys = &texts->late_keys;
    if (is_offline) {
        hvi_buffer_append(keys, texts->after.data, texts->after.len);
        if (!hvi_buffer_ok(keys))
            hvi_buffer_break(sql);
    }
    hvi_journal_keep_sql(sql, move->shard, move->row.id, "rest", is_offline ? keys : &texts->after);
    hvi_journal_keep_sql(sql, move->shard, move->row.id, "late_keys", is_offline ? &nothing : keys);
    hvi_journal_keep_sql(sql, move->shard, move->row.id, "late_table",
                         is_offline ? &nothing : &texts->late_table);
}

hv_status hvi_step_schema(hvi_move *move, int64_t deadline, hvi_move_next *what,
                          hvi_move_step *next, hv_error **error) {
    (void) deadline;
    hvi_schema_texts texts = {0};
    hvi_buffer also = HVI_BUFFER_EMPTY;
    hv_error *cause = NULL;
    const hvi_schema_copy copy = {
        .from = &move->witness,
        .to = &move->to,
        .shard = move->shard,
        .live = move->names.live,
        .name = move->names.stream,
        .no_late_keys = move->has_missed_keys || PQserverVersion(move->to.session->conn) < 140000,
    };
    hvi_move_say(move, "making the tables");
    /* What an earlier try has left. With the roots in place the dump would be another. */
    hv_status status = hvi_remains_remove(move, &cause);
    if (status != HV_OK)
        return hvi_move_wait_for_lock(move, &move->witness, status, &cause, what, error);
    status = dump(move, &copy, &texts, error);
    hvi_move_reach("schema: dumped");
    if (status == HV_OK) {
        keep_rest(move, &texts, &also);
        status = hvi_buffer_ok(&also) ? hvi_schema_copy_make(&copy, &texts.before, also.data,
                                                             hvi_deadline_after(DUMP_MS), error)
                                      : hvi_no_memory(error);
    }
    hvi_schema_texts_fini(&texts);
    hvi_buffer_fini(&also);
    *what = HVI_NEXT_STEP;
    *next = move->row.kind == HVI_MOVE_OFFLINE ? HVI_STEP_COPYING : HVI_STEP_STREAMING;
    return status;
}

/* ---- streaming ---- */

/* Name the transaction that the slot waits for. */
static void name_oldest(hvi_move *move) {
    PGresult *result = NULL;
    static const char sql[] =
        "SELECT pg_catalog.concat(t.name, ' for ', pg_catalog.floor(EXTRACT(epoch FROM"
        " pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) t.began)), ' s') FROM ("
        "SELECT pg_catalog.concat('process ', a.pid, ' (', a.application_name, ', ', a.state,"
        " ') has had a transaction open'), a.xact_start FROM pg_catalog.pg_stat_activity AS a"
        " WHERE a.backend_xid IS NOT NULL"
        " AND a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()"
        " UNION ALL SELECT pg_catalog.concat('the transaction \"', p.gid, '\" has been prepared'),"
        " p.prepared FROM pg_catalog.pg_prepared_xacts AS p"
        ") AS t(name, began) ORDER BY t.began LIMIT 1";
    snprintf(move->waits_for, sizeof move->waits_for, "another transaction is open");
    if (hvi_link_run(&move->from, sql, hvi_link_deadline(), &result, NULL) == HV_OK) {
        const char *said = hvi_shard_sql_answer(result);
        if (said != NULL)
            snprintf(move->waits_for, sizeof move->waits_for, "%s", said);
    }
    PQclear(result);
}

/* It need not be there yet. */
static hv_status look_at_new_slot(hvi_move *move, hv_error **error) {
    hv_error *cause = NULL;
    hv_status status = hvi_move_look_at_wal(move, &cause);
    if (status == HV_MISMATCH && move->stream_state.is_lost) {
        hv_error_free(cause);
        return HV_OK;
    }
    return status == HV_OK ? HV_OK : hvi_error_move(error, &cause);
}

static hv_status make_slot(hvi_move *move, const hvi_stream *stream, int64_t deadline, bool *done,
                           hv_error **error) {
    int64_t pause;
    hv_status status = HV_OK;
    if (move->witness.sql == NULL)
        status = hvi_stream_slot_start(stream, error);
    if (status == HV_OK) {
        int64_t soon = hvi_deadline_after(300);
        status =
            hvi_link_advance(&move->witness, soon < deadline ? soon : deadline, done, NULL, error);
    }
    if (status != HV_OK || *done)
        return status;
    /* From the beginning on it keeps WAL. */
    status = look_at_new_slot(move, error);
    if (status != HV_OK) {
        hvi_link_close(&move->witness);
        return status;
    }
    name_oldest(move);
    if (hvi_patience_next(&move->patience, move->options.max_wait, &pause))
        return HV_OK;
    hvi_link_close(&move->witness);
    hvi_fail(error, HV_TIMEOUT, "shard %d has waited for other transactions for too long",
             move->shard);
    hvi_error_where(error, move->from.server->name, move->shard);
    hvi_error_detail(error, "On server \"%s\", %s.", move->from.server->name, move->waits_for);
    return HV_TIMEOUT;
}

hv_status hvi_step_streaming(hvi_move *move, int64_t deadline, hvi_move_next *what,
                             hvi_move_step *next, hv_error **error) {
    hvi_stream stream = hvi_move_stream(move);
    hv_error *cause = NULL;
    hv_status status = HV_OK;
    bool done = false;
    hvi_move_say(move, "starting the stream");
    *what = HVI_NEXT_STAY;
    if (move->stage == 0) {
        /* The publication before the slot, which must know it from its first record on. */
        status = hvi_stream_publish(&stream, false, hvi_link_deadline(), &cause);
        if (status != HV_OK)
            return hvi_move_wait_for_lock(move, &move->witness, status, &cause, what, error);
        hvi_move_reach("streaming: published");
        move->stage = 1;
        move->patience = (hvi_patience){0};
    }
    if (move->stage == 1) {
        status = make_slot(move, &stream, deadline, &done, error);
        if (status != HV_OK || !done)
            return status;
        hvi_move_reach("streaming: slot");
        move->stage = 2;
    }
    status = hvi_stream_subscribe(&stream, true, hvi_deadline_after(60000), error);
    /* A source that is just being restarted is waited for. */
    if (status == HV_REFUSED &&
        hvi_link_run(&move->from, "SELECT", hvi_link_deadline(), NULL, NULL) != HV_OK)
        return HV_UNAVAILABLE;
    if (status == HV_REFUSED && error != NULL)
        hvi_error_hint(error,
                       "The target reaches the source as move_host, move_port, move_user and "
                       "so on of [server %s] say; hv doctor shows more.",
                       move->from.server->name);
    *what = HVI_NEXT_STEP;
    *next = HVI_STEP_COPYING;
    return status;
}

/* ---- copying ---- */

/* Is the stream a danger to the source, or worth nothing any more? */
static hv_status judge(hvi_move *move, hv_error **error) {
    const hvi_stream_state *state = &move->stream_state;
    hv_status status = HV_OK;
    if (state->is_lost) {
        hvi_fail(error, HV_MISMATCH, "the source has removed WAL that the move of shard %d needs",
                 move->shard);
        hvi_error_detail(error, "The slot \"%s\" is lost: max_slot_wal_keep_size.",
                         move->names.stream);
        status = HV_MISMATCH;
    } else if (state->is_rewritten) {
        hvi_fail(error, HV_MISMATCH,
                 "a table of shard %d was truncated or rewritten while it was moved", move->shard);
        hvi_error_hint(error, "Move the shard again.");
        status = HV_MISMATCH;
    } else if (state->retained_bytes > move->options.max_wal) {
        hvi_fail(error, HV_MISMATCH,
                 "the source keeps %" PRId64 " MB of WAL for the move of shard %d",
                 state->retained_bytes >> 20, move->shard);
        hvi_error_detail(error, "The option max_wal allows %" PRId64 " MB.",
                         move->options.max_wal >> 20);
        status = HV_MISMATCH;
    }
    if (status != HV_OK)
        hvi_error_where(error, move->from.server->name, move->shard);
    return status;
}

/* Look at the stream now and then; a move that is a danger to the source is taken back. */
static hv_status look_at(hvi_move *move, bool whole, hv_error **error) {
    hvi_stream stream = hvi_move_stream(move);
    if (move->looked != 0 && hvi_clock_us() - move->looked < LOOK_US)
        return HV_OK;
    hvi_stream_state *state = &move->stream_state;
    hv_status status =
        whole ? hvi_stream_look(&stream, hvi_link_deadline(), state, error)
              : hvi_stream_look_at_publisher(&stream, hvi_link_deadline(), state, error);
    move->looked = hvi_clock_us();
    return status == HV_OK ? judge(move, error) : status;
}

hv_status hvi_move_look_at_stream(hvi_move *move, hv_error **error) {
    return look_at(move, true, error);
}

hv_status hvi_move_look_at_source(hvi_move *move, hv_error **error) {
    hv_status status = move->row.kind == HVI_MOVE_OFFLINE ? HV_OK : look_at(move, false, error);
    if (status != HV_OK)
        hvi_link_close(&move->to);
    return status;
}

hv_status hvi_move_look_at_wal(hvi_move *move, hv_error **error) {
    hvi_stream stream = hvi_move_stream(move);
    int64_t now = hvi_clock_us();
    if (move->row.kind == HVI_MOVE_OFFLINE || now - move->looked_at_wal < LOOK_US)
        return HV_OK;
    move->looked_at_wal = now;
    hv_status status = hvi_stream_look_at_slot(&stream, &move->from, hvi_link_deadline(),
                                               &move->stream_state, error);
    return status == HV_OK ? judge(move, error) : status;
}

void hvi_move_protect_source(hvi_move *move) {
    hv_error *cause = NULL;
    hvi_location at;
    if (move->is_new || move->cause != NULL || move->row.kind != HVI_MOVE_ONLINE ||
        move->row.step < HVI_STEP_STREAMING || move->row.step >= HVI_STEP_SWITCHED ||
        move->lost_side != HVI_LOST_TO || !hvi_link_is_open(&move->from))
        return;
    if (hvi_location_read(move->from.session, move->shard, hvi_link_deadline(), &at, NULL) !=
            HV_OK ||
        at.state == HVI_LOCATION_GONE)
        return;
    if (look_at_new_slot(move, &cause) == HV_MISMATCH) {
        move->to_given_up = true;
        hvi_error_move(&move->cause, &cause);
    }
    hv_error_free(cause);
}

/* Why a worker has failed is in the server's log only. The commonest cause can be found out: is
 * there space for a little more? */
static void look_for_space(hvi_move *move) {
    static const char sql[] =
        "BEGIN;"
        "CREATE TEMPORARY TABLE hv_space (filler pg_catalog.text) ON COMMIT DROP;"
        "INSERT INTO pg_temp.hv_space SELECT pg_catalog.repeat('x', 1000)"
        " FROM pg_catalog.generate_series(1, 4000);"
        "ROLLBACK";
    hv_error *cause = NULL;
    move->no_space[0] = '\0';
    if (hvi_link_run(&move->to, sql, hvi_link_deadline(), NULL, &cause) == HV_REFUSED &&
        hvi_error_has_sqlstate(cause, SQLSTATE_DISK_FULL))
        snprintf(move->no_space, sizeof move->no_space, "%s", hv_error_message(cause));
    hv_error_free(cause);
}

/* Nothing works on the subscription: for how long may that be? */
hv_status hvi_move_check_worker(hvi_move *move, hv_error **error) {
    int64_t pause;
    int64_t now = hvi_clock_us();
    if (move->stream_state.failures != move->failures) {
        move->failures = move->stream_state.failures;
        move->failed_at = now;
        look_for_space(move);
    }
    /* A worker that fails is started again: it must have been well for a while. */
    bool is_well = move->failed_at == 0 || now - move->failed_at > WELL_US;
    if (move->stream_state.is_working && is_well) {
        move->patience = (hvi_patience){0};
        move->waits_for[0] = '\0';
        return HV_OK;
    }
    if (move->no_space[0] != '\0')
        snprintf(move->waits_for, sizeof move->waits_for, "space on server \"%s\": %s",
                 move->to.server->name, move->no_space);
    else if (move->stream_state.failures == 0)
        snprintf(move->waits_for, sizeof move->waits_for,
                 "the subscription on server \"%s\" to start", move->to.server->name);
    else
        snprintf(move->waits_for, sizeof move->waits_for,
                 "the subscription \"%s\" on server \"%s\" to be at work; it has failed %" PRId64
                 " times",
                 move->names.stream, move->to.server->name, move->stream_state.failures);
    if (hvi_patience_next(&move->patience, move->options.max_wait, &pause))
        return HV_OK;
    hvi_fail(error, HV_TIMEOUT, "the stream of shard %d does not get on", move->shard);
    hvi_error_where(error, move->to.server->name, move->shard);
    hvi_error_detail(error, "It has waited for %s.", move->waits_for);
    if (move->no_space[0] != '\0')
        hvi_error_hint(error,
                       "Make space there; then hv move --resume %d goes on, and hv move --abort %d "
                       "takes it back. Until then server \"%s\" keeps WAL for it.",
                       move->shard, move->shard, move->from.server->name);
    else
        hvi_error_hint(error, "The log of server \"%s\" has the cause.", move->to.server->name);
    return HV_TIMEOUT;
}

static hv_status look_at_copy(hvi_move *move, hv_error **error) {
    if (move->late_keys.state == HVI_LATE_KEYS_MAKING)
        return hvi_move_look_at_source(move, error);
    hv_status status = hvi_move_look_at_stream(move, error);
    /* The worker may wait behind us. */
    return status == HV_OK && move->late_keys.state != HVI_LATE_KEYS_WAITING
               ? hvi_move_check_worker(move, error)
               : status;
}

static void stay_copying(hvi_move *move) {
    move->looked = 0;
    hvi_move_stay(move, hvi_clock_us() - move->began > 5000000 ? 200 : 50);
}

static hv_status make_late_keys(hvi_move *move, int64_t deadline, hvi_move_next *what,
                                hvi_move_step *next, hv_error **error) {
    const hvi_late_keys_of of = {
        .from = &move->witness,
        .to = &move->to,
        .shard = move->shard,
        .id = move->row.id,
        .live = move->names.live,
        .name = move->names.stream,
    };
    hv_error *cause = NULL;
    int64_t soon = hvi_deadline_after(LOOK_US / 1000);
    hv_status status =
        hvi_late_keys_advance(&move->late_keys, &of, soon < deadline ? soon : deadline, &cause);
    if (status != HV_OK)
        return hvi_move_wait_for_lock(move, &move->to, status, &cause, what, error);
    if (move->late_keys.state == HVI_LATE_KEYS_EARLY) {
        stay_copying(move);
    } else if (move->late_keys.state == HVI_LATE_KEYS_MISSED) {
        move->has_missed_keys = true;
        move->looked = 0;
        move->stream_state = (hvi_stream_state){0};
        *what = HVI_NEXT_STEP;
        *next = HVI_STEP_SCHEMA;
    }
    return HV_OK;
}

hv_status hvi_step_copying(hvi_move *move, int64_t deadline, hvi_move_next *what,
                           hvi_move_step *next, hv_error **error) {
    if (move->row.kind == HVI_MOVE_OFFLINE)
        return hvi_step_copying_offline(move, deadline, what, next, error);
    const hvi_stream_state *state = &move->stream_state;
    bool is_making = move->late_keys.state == HVI_LATE_KEYS_MAKING;
    *what = HVI_NEXT_STAY;
    hvi_move_say(move, is_making ? "making the key of the largest table" : "copying rows");
    hv_status status = look_at_copy(move, error);
    if (status == HV_OK && move->late_keys.state != HVI_LATE_KEYS_THERE)
        return make_late_keys(move, deadline, what, next, error);
    if (status != HV_OK)
        return status;
    if (state->tables > 0 && state->ready == state->tables) {
        move->row.rows = state->rows;
        move->row.bytes = state->bytes;
        *what = HVI_NEXT_STEP;
        *next = HVI_STEP_INDEXING;
        return HV_OK;
    }
    stay_copying(move);
    return HV_OK;
}

/* ---- indexing ---- */

static hv_status start_rest(hvi_move *move, hv_error **error) {
    hvi_buffer rest = HVI_BUFFER_EMPTY, also = HVI_BUFFER_EMPTY, sql = HVI_BUFFER_EMPTY;
    const hvi_schema_copy copy = {
        .from = &move->witness,
        .to = &move->to,
        .shard = move->shard,
        .live = move->names.live,
        .name = move->names.stream,
    };
    hv_status status = hvi_journal_read_kept(move->to.session, move->shard, move->row.id, "rest",
                                             hvi_link_deadline(), &rest, error);
    hvi_journal_indexed_sql(&also, move->shard, move->row.id);
    if (status == HV_OK && !(hvi_buffer_ok(&rest) && hvi_buffer_ok(&also)))
        status = hvi_no_memory(error);
    if (status == HV_OK) {
        hvi_schema_copy_rest_sql(&copy, &rest, also.data, &sql);
        status = hvi_link_start(&move->to, &sql, error);
    }
    hvi_buffer_fini(&rest);
    hvi_buffer_fini(&also);
    hvi_buffer_fini(&sql);
    return status;
}

hv_status hvi_step_indexing(hvi_move *move, int64_t deadline, hvi_move_next *what,
                            hvi_move_step *next, hv_error **error) {
    hv_status status = HV_OK;
    hv_error *cause = NULL;
    bool done = false;
    hvi_move_say(move, "making indexes and the rest");
    *what = HVI_NEXT_STAY;
    if (move->stage == 0) {
        status = start_rest(move, error);
        if (status != HV_OK)
            return status;
        hvi_move_reach("indexing: sent");
        move->stage = 1;
    }
    int64_t soon = hvi_deadline_after(LOOK_US / 1000);
    status = hvi_link_advance(&move->to, soon < deadline ? soon : deadline, &done, NULL, &cause);
    if (status != HV_OK) {
        /* The locks are taken before anything is made. */
        move->stage = 0;
        return hvi_move_wait_for_lock(move, &move->to, status, &cause, what, error);
    }
    if (!done)
        return hvi_move_look_at_source(move, error);
    *what = HVI_NEXT_STEP;
    *next = HVI_STEP_CATCHING_UP;
    move->row.is_indexed = true;
    return HV_OK;
}
