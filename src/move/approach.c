/*
 * approach: what a move does between the copy and the switch: catching up, comparing, preparing,
 * and trying the fence.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "wire/result.h"
#include "move/hook.h"
#include "move/schema_copy.h"
#include "move/state.h"

#define SLOT_MS       5000
#define MARKER_US     200000 /* how long a step waits for a marker at a time */
#define CLOSE_LAG_US  250000 /* the stream is close when a marker takes no longer */
#define SWITCH_LAG_US 40000
#define OPEN_MS       10000
#define WAL_MS        1000 /* how long it may be before the WAL is looked at that the source keeps */

/* The stages of catching up. */
enum { NOT_ANALYZED, ANALYZING, ANALYZED };

/* Offline there is no stream; nobody writes either, and everything has arrived. */
static bool has_stream(const hvi_move *move) {
    return move->row.kind != HVI_MOVE_OFFLINE;
}

/* Send a marker and wait for it, step by step. *lag is -1 until it has arrived. */
static hv_status measure_lag(hvi_move *move, int64_t deadline, int64_t *lag, hv_error **error) {
    hvi_stream stream = hvi_move_stream(move);
    hv_status status = HV_OK;
    bool arrived = false;
    *lag = -1;
    if (move->marker == 0) {
        status = hvi_stream_mark(&stream, hvi_link_deadline(), &move->marker, error);
        move->marked = hvi_clock_us();
    }
    while (status == HV_OK && !arrived) {
        status = hvi_stream_arrived(&stream, move->marker, hvi_link_deadline(), &arrived, error);
        if (status != HV_OK || arrived || hvi_is_late(deadline) ||
            hvi_clock_us() - move->marked > MARKER_US)
            break;
        hvi_pause(2);
    }
    if (status == HV_OK && arrived) {
        *lag = hvi_clock_us() - move->marked;
        move->marker = 0;
    }
    return status;
}

/* ---- the schema ---- */

static hv_status check_drift(hvi_move *move, hv_error **error) {
    hv_status status;
    const char *server = move->from.server->name;
    if (move->drift.description != NULL)
        return hvi_drift_check(&move->drift, move->from.session, server, hvi_link_deadline(),
                               error);
    /* It was resumed, or goes back: only the digest is known. */
    status = hvi_drift_take(&move->drift, move->from.session, move->shard, server,
                            hvi_link_deadline(), error);
    if (status == HV_OK && strcmp(move->drift.digest, move->row.digest) != 0) {
        hvi_drift_fini(&move->drift);
        status = hvi_drift_check_digest(move->row.digest, move->from.session, move->shard, server,
                                        hvi_link_deadline(), error);
    }
    return status;
}

/* ---- statistics ---- */

/* Without them the first callers would meet bad plans. */
static hv_status start_analyze(hvi_move *move, bool *has_tables, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY, ask = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_format(
        &ask,
        "SELECT c.oid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_class AS c"
        " WHERE c.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
        " AND c.relkind OPERATOR(pg_catalog.=) 'r'",
        move->names.stream);
    hv_status status = hvi_link_say(&move->to, &ask, hvi_link_deadline(), &result, error);
    *has_tables = status == HV_OK && PQntuples(result) > 0;
    if (*has_tables) {
        for (int i = 0; i < PQntuples(result); i++)
            hvi_buffer_append_format(&sql, "%s%s", i == 0 ? "ANALYZE " : ", ",
                                     PQgetvalue(result, i, 0));
        status = hvi_link_start(&move->to, &sql, error);
    }
    PQclear(result);
    return status;
}

/* It takes as long as it takes, and the source is looked at meanwhile. What is in the way of it,
 * such as autovacuum, is waited for; if it cannot be had, autovacuum will make it up. */
static hv_status analyze(hvi_move *move, int64_t deadline, hv_error **error) {
    bool done = false;
    int64_t pause;
    hv_status status = HV_OK;
    hv_error *cause = NULL;
    if (move->stage == NOT_ANALYZED) {
        status = start_analyze(move, &done, error);
        if (status != HV_OK)
            return status;
        move->stage = done ? ANALYZING : ANALYZED;
        return HV_OK;
    }
    status = hvi_link_advance(&move->to, deadline, &done, NULL, &cause);
    if (status == HV_OK && !done)
        return hvi_move_look_at_source(move, error);
    if (status != HV_OK && (status != HV_REFUSED || !hvi_link_is_open(&move->to)))
        return hvi_error_move(error, &cause);
    move->stage = ANALYZED;
    if (hvi_error_has_sqlstate(cause, HVI_SQLSTATE_LOCK) ||
        hvi_error_has_sqlstate(cause, "40P01") || hvi_error_has_sqlstate(cause, "57014")) {
        snprintf(move->waits_for, sizeof move->waits_for, "statistics: %s",
                 hv_error_message(cause));
        if (hvi_patience_next(&move->patience, move->options.max_wait, &pause)) {
            hvi_move_stay(move, pause);
            move->stage = NOT_ANALYZED;
        }
    }
    hv_error_free(cause);
    return HV_OK;
}

/* ---- catching up ---- */

hv_status hvi_step_catching_up(hvi_move *move, int64_t deadline, hvi_move_next *what,
                               hvi_move_step *next, hv_error **error) {
    int64_t lag;
    hvi_move_say(move, "catching up");
    *what = HVI_NEXT_STAY;
    /* The schema may have been changed since it was copied, and the stream broken by that. */
    if (move->is_back && move->stage == NOT_ANALYZED && move->drift.description == NULL) {
        hv_status changed = check_drift(move, error);
        if (changed != HV_OK)
            return changed;
    }
    if (move->stage != ANALYZED)
        return analyze(move, deadline, error);
    hv_status status = has_stream(move) ? hvi_move_look_at_stream(move, error) : HV_OK;
    if (status == HV_OK && has_stream(move))
        status = hvi_move_check_worker(move, error);
    if (status == HV_OK && !has_stream(move)) {
        *what = HVI_NEXT_STEP;
        *next = HVI_STEP_VERIFYING;
        return HV_OK;
    }
    if (status == HV_OK)
        status = measure_lag(move, deadline, &lag, error);
    if (status != HV_OK)
        return status;
    if (lag >= 0 && lag < CLOSE_LAG_US) {
        *what = HVI_NEXT_STEP;
        *next = HVI_STEP_VERIFYING;
    }
    return HV_OK;
}

/* ---- verifying ---- */

static hv_status mark(void *context, int64_t deadline, int64_t *number, hv_error **error) {
    hvi_stream stream = hvi_move_stream(context);
    *number = 1;
    if (!has_stream(context))
        return HV_OK;
    return hvi_stream_mark(&stream, deadline, number, error);
}

static hv_status arrived(void *context, int64_t number, int64_t deadline, bool *is_there,
                         hv_error **error) {
    hvi_stream stream = hvi_move_stream(context);
    *is_there = true;
    if (!has_stream(context))
        return HV_OK;
    return hvi_stream_arrived(&stream, number, deadline, is_there, error);
}

hv_status hvi_step_verifying(hvi_move *move, int64_t deadline, hvi_move_next *what,
                             hvi_move_step *next, hv_error **error) {
    hv_status status = HV_OK;
    bool done = !move->options.verify;
    hvi_move_say(move, "comparing both copies");
    *what = HVI_NEXT_STAY;
    if (!done && move->verify == NULL) {
        hvi_server *const servers[] = {move->from.server, move->to.server};
        for (int i = 0; i < 2 && status == HV_OK; i++)
            if (!hvi_link_is_open(&move->readers[i])) {
                hvi_link_close(&move->readers[i]);
                status = hvi_link_open(&move->readers[i], servers[i], hvi_deadline_after(OPEN_MS),
                                       error);
            }
        if (status != HV_OK)
            return status;
        move->sides = (hvi_verify_sides){
            .shard = move->shard,
            .source = move->readers[0].session,
            .target = move->readers[1].session,
            .source_name = move->from.server->name,
            .target_name = move->to.server->name,
            .source_schema = move->names.live,
            .target_schema = move->names.stream,
            .marker = {mark, arrived, move},
        };
        status = hvi_verify_new(&move->sides, &move->verify, error);
    }
    int64_t soon = hvi_deadline_after(WAL_MS);
    if (status == HV_OK && !done)
        status = hvi_verify_step(move->verify, soon < deadline ? soon : deadline, &done, error);
    if (status == HV_OK && !done)
        status = hvi_move_look_at_wal(move, error);
    if (status == HV_OK && done) {
        *what = HVI_NEXT_STEP;
        *next = HVI_STEP_READY;
    }
    return status;
}

/* ---- ready ---- */

/* The publication must not be able to fail once there is no way back. So it is tried before, in the
 * way that it will go, by the function that runs as its owner, and taken back. */
static hv_status try_publishing(hvi_move *move, const char *publish, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_location_state state = HVI_LOCATION_NONE;
    hvi_buffer_append_text(&sql, "BEGIN;SET LOCAL lock_timeout TO 500;");
    hvi_location_write(&sql, move->shard, HVI_LOCATION_ARRIVING, move->row.generation,
                       move->from.server->name, publish);
    hv_status status = hvi_link_say(&move->to, &sql, hvi_link_deadline(), NULL, error);
    if (status == HV_OK)
        status = hvi_location_publish(move->to.session, move->shard, move->row.generation,
                                      hvi_link_deadline(), &state, error);
    if (status == HV_OK && state != HVI_LOCATION_HERE)
        status = hvi_fail_answer(move->to.server->name, move->shard, "hypervault.publish_shard()",
                                 error, "does not publish the shard");
    if (hvi_link_is_open(&move->to))
        hvi_link_run(&move->to, "ROLLBACK", hvi_link_deadline(), NULL, NULL);
    return status;
}

/* The stream back must have a slot before the first change that it is to carry. Until the copy is
 * published, its publication has no tables, so nothing of the way there goes back. */
static hv_status prepare_way_back(hvi_move *move, hvi_buffer *publish, hv_error **error) {
    hvi_stream back = hvi_move_stream_back(move);
    bool done = false;
    hv_status status = hvi_stream_drop_slot(&back, hvi_link_deadline(), error);
    if (status == HV_OK)
        status = hvi_stream_publish(&back, true, hvi_link_deadline(), error);
    if (status == HV_OK)
        status = hvi_stream_slot_start(&back, error);
    /* It waits for the transactions that are running there. */
    int64_t max_wait = move->options.max_wait > SLOT_MS ? move->options.max_wait : SLOT_MS;
    int64_t deadline = hvi_deadline_after(max_wait);
    if (status == HV_OK)
        status = hvi_link_advance(&move->to, deadline, &done, NULL, error);
    if (status == HV_OK && !done) {
        hvi_link_close(&move->to);
        hvi_fail(error, HV_TIMEOUT, "shard %d has waited for other transactions for too long",
                 move->shard);
        hvi_error_where(error, move->router->servers[move->target->number].name, move->shard);
        return HV_TIMEOUT;
    }
    /* After the switch it would be too late to find out that the old server cannot log in. */
    if (status == HV_OK)
        status = hvi_stream_try_subscribing(&back, hvi_deadline_after(60000), error);
    if (status == HV_OK)
        status = hvi_stream_add_sql(&back, publish, hvi_link_deadline(), error);
    return status;
}

hv_status hvi_step_ready(hvi_move *move, int64_t deadline, hvi_move_next *what, hvi_move_step *next,
                         hv_error **error) {
    (void) deadline;
    hvi_buffer publish = HVI_BUFFER_EMPTY;
    hv_error *cause = NULL;
    hvi_move_say(move, "preparing the switch");
    hv_status status = check_drift(move, error);
    if (status != HV_OK)
        return status;
    hvi_buffer_append_format(&publish, "ALTER SCHEMA %s RENAME TO %s;", move->names.stream,
                             move->names.live);
    status = hvi_schema_copy_triggers_sql(&move->witness, move->names.live, &publish,
                                          hvi_link_deadline(), &cause);
    if (status == HV_OK && !move->is_back && move->row.keep_ms > 0)
        status = prepare_way_back(move, &publish, &cause);
    if (status == HV_OK)
        status = hvi_buffer_ok(&publish) ? try_publishing(move, publish.data, &cause)
                                         : hvi_no_memory(&cause);
    hvi_move_reach("ready: tried");
    /* What an abort gives back is in the journal before it is replaced. */
    if (status == HV_OK && move->to_location.state != HVI_LOCATION_ARRIVING) {
        snprintf(move->row.before_state, sizeof move->row.before_state, "%s",
                 hvi_location_state_name(move->to_location.state));
        snprintf(move->row.before_server, sizeof move->row.before_server, "%s",
                 move->to_location.server);
        move->row.before_generation = move->to_location.generation;
        status = hvi_move_write(move, &cause);
    }
    if (status == HV_OK)
        status = hvi_location_arriving(move->to.session, move->shard, move->row.generation,
                                       move->from.server->name, publish.data, hvi_link_deadline(),
                                       &cause);
    hvi_buffer_fini(&publish);
    if (status != HV_OK)
        return hvi_move_wait_for_lock(move, &move->to, status, &cause, what, error);
    *what = HVI_NEXT_STEP;
    *next = HVI_STEP_SWITCHING;
    return HV_OK;
}

/* ---- switching ---- */

static hv_status after_try(hvi_move *move, hvi_move_next *what, hv_error **error) {
    int64_t pause;
    snprintf(move->waits_for, sizeof move->waits_for, "%s", move->fence.waits_for);
    if (!hvi_patience_next(&move->refused, move->options.max_wait, &pause)) {
        hvi_fail(error, HV_TIMEOUT,
                 "shard %d could not be switched without stopping its callers "
                 "for too long",
                 move->shard);
        hvi_error_where(error, move->from.server->name, move->shard);
        hvi_error_detail(error, "On server \"%s\", %s.", move->from.server->name, move->waits_for);
        return HV_TIMEOUT;
    }
    hvi_move_stay(move, pause);
    *what = HVI_NEXT_STAY;
    return HV_OK;
}

hv_status hvi_step_switching(hvi_move *move, int64_t deadline, hvi_move_next *what,
                             hvi_move_step *next, hv_error **error) {
    int64_t lag = 0;
    hvi_stream stream = hvi_move_stream(move);
    hvi_move_say(move, "switching");
    *what = HVI_NEXT_STAY;
    hv_status status = has_stream(move) ? hvi_move_look_at_stream(move, error) : HV_OK;
    /* Without a worker the marker never arrives. */
    if (status == HV_OK && has_stream(move))
        status = hvi_move_check_worker(move, error);
    if (status == HV_OK && has_stream(move))
        status = measure_lag(move, deadline, &lag, error);
    if (status != HV_OK || lag < 0)
        return status;
    if (lag > SWITCH_LAG_US) {
        snprintf(move->fence.waits_for, sizeof move->fence.waits_for, "the stream is %d ms behind",
                 (int) (lag / 1000));
        return after_try(move, what, error);
    }
    status = check_drift(move, error);
    if (status != HV_OK)
        return status;
    move->fence.from = &move->from;
    move->fence.to = &move->to;
    move->fence.witness = &move->witness;
    move->fence.shard = move->shard;
    move->fence.names = &move->names;
    move->fence.generation = move->row.generation;
    move->fence.target = move->to.server->name;
    move->fence.stream = has_stream(move) ? &stream : NULL;
    move->fence.drift = move->drift.description != NULL ? &move->drift : NULL;
    move->fence.verify = move->verify;
    move->fence.max_pause_ms = move->options.max_pause;
    hvi_switch_result result = hvi_switch_try(&move->fence, error);
    if (!has_stream(move))
        move->fence.pause_us = hvi_clock_us() - move->locked;
    if (move->fence.pause_us > move->row.pause_us)
        move->row.pause_us = move->fence.pause_us;
    switch (result) {
    case HVI_SWITCH_DONE:
        *what = HVI_NEXT_STEP;
        *next = HVI_STEP_SWITCHED;
        return HV_OK;
    case HVI_SWITCH_AGAIN:
        return after_try(move, what, error);
    case HVI_SWITCH_LOST:
        return HV_UNAVAILABLE;
    case HVI_SWITCH_WRONG:
        return error != NULL && *error != NULL ? hv_error_status(*error) : HV_REFUSED;
    }
    return HV_OK;
}
