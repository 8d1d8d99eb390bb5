/*
 * move: the driver of a move.
 *
 *              ┌───────────────── a connection is lost ◄──────────────┐
 *              ▼                                                      │
 *     FINDING ──► LOOKING ──► AT_WORK: begun ► schema ► streaming ► copying ► indexing
 *        │          │              ► catching_up ► verifying ► ready ► switching
 *        │          │                    (the fence is committed)
 *        │          │              ► switched ► returning ► cleaning ► kept ──► OVER
 *        │          │                                    └─► done ────────────► OVER
 *        │          │              before the fence: ► aborting ──────────────► OVER
 *        └──────────┴──────────────────────┬───────────────────────────────────► BROKEN
 *                                    an error
 *
 * advance() is the one function that changes the state, and take_step() the one that changes the
 * step. What always holds:
 *
 *  1. Nothing is made before the step that makes it is in both journals, the target's first. So
 *     whatever exists of a move is removed by its row on the source, or by that on the target if
 * the source has none.
 *  2. Every step begins by removing what it may have made before; from "schema" and "streaming" it
 *     goes back to "schema", and so it does from "copying" if late keys were missed. So it does not
 * matter where in a step anything was killed.
 *  3. Whether the shard was switched is asked of the old server's location row, under its advisory
 *     lock, and never of the journal: see look.c. Before the switch a move can be taken back, and
 *     after it only brought to its end.
 *  4. The mover has the shard's advisory lock on both servers, by the sessions with which it works.
 *     If one is lost it stops, and begins by looking: another mover may have been at work.
 *  5. Rows are removed last, the target's before the source's; and the target's location row is
 *     given back before anything else is taken back.
 *  6. A copy, a slot or a stream is removed by its name, which nothing else has: see names.h; and
 *     roots and copies by the two functions that cannot take a live table along: see stream.c and
 *     schema_copy.c.
 *  7. A server that cannot be reached is waited for, for max_wait. Then it is given up if what is
 *     known without it is enough: after the switch the old server, and in taking back the target.
 * If the target was given up, the source passes over the generation of this move, so that what the
 *     target still says never comes true.
 */
#include "move/move.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/utf8.h"
#include "move/hook.h"
#include "move/state.h"

static const struct step {
    hvi_move_step_fn fn;
    hv_move_phase phase;
} steps[HVI_STEP_COUNT] = {
    [HVI_STEP_BEGUN] = {hvi_step_begun, HV_MOVE_BEGUN},
    [HVI_STEP_SCHEMA] = {hvi_step_schema, HV_MOVE_SCHEMA},
    [HVI_STEP_STREAMING] = {hvi_step_streaming, HV_MOVE_COPYING},
    [HVI_STEP_COPYING] = {hvi_step_copying, HV_MOVE_COPYING},
    [HVI_STEP_INDEXING] = {hvi_step_indexing, HV_MOVE_INDEXING},
    [HVI_STEP_CATCHING_UP] = {hvi_step_catching_up, HV_MOVE_CATCHING_UP},
    [HVI_STEP_VERIFYING] = {hvi_step_verifying, HV_MOVE_VERIFYING},
    [HVI_STEP_READY] = {hvi_step_ready, HV_MOVE_SWITCHING},
    [HVI_STEP_SWITCHING] = {hvi_step_switching, HV_MOVE_SWITCHING},
    [HVI_STEP_SWITCHED] = {hvi_step_switched, HV_MOVE_CLEANING},
    [HVI_STEP_RETURNING] = {hvi_step_returning, HV_MOVE_CLEANING},
    [HVI_STEP_CLEANING] = {hvi_step_cleaning, HV_MOVE_CLEANING},
    [HVI_STEP_KEPT] = {hvi_step_kept, HV_MOVE_KEPT},
    [HVI_STEP_ABORTING] = {hvi_step_aborting, HV_MOVE_ABORTING},
    [HVI_STEP_DONE] = {hvi_step_done, HV_MOVE_DONE},
};

/* ---- life ---- */

hv_status hvi_move_new(hvi_router *router, hvi_move_order order, int shard, int target,
                       const struct hv_move_options *options, hvi_move **move, hv_error **error) {
    hvi_server *server;
    if (shard < 0 || shard >= HV_SHARDS)
        return hvi_fail(error, HV_INVALID, "there is no shard %d", shard);
    hv_status status =
        order == HVI_ORDER_MOVE ? hvi_router_server(router, target, &server, error) : HV_OK;
    if (status != HV_OK)
        return status;
    hvi_move *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    made->router = router;
    made->order = order;
    made->shard = shard;
    made->wanted = target;
    made->began = hvi_clock_us();
    if (options != NULL)
        made->options = *options;
    else
        hvi_move_options_init(&made->options);
    if (made->options.offline && made->options.keep_undo > 0) {
        free(made);
        return hvi_fail(error, HV_INVALID, "an offline move cannot be kept for an undo");
    }
    *move = made;
    return HV_OK;
}

void hvi_move_only(hvi_move *move, uint32_t id) {
    move->only_id = true;
    move->id = id;
}

static void free_rest(hvi_move *move) {
    hvi_drift_fini(&move->drift);
    hv_error_free(move->cause);
    hv_error_free(move->lost);
    free(move);
}

void hvi_move_free(hvi_move *move) {
    if (move == NULL)
        return;
    hvi_move_close_links(move);
    free_rest(move);
}

void hvi_move_abandon(hvi_move *move) {
    hvi_late_keys_disown(&move->late_keys);
    hvi_link_disown(&move->readers[0]);
    hvi_link_disown(&move->readers[1]);
    hvi_link_disown(&move->witness);
    hvi_link_disown(&move->to);
    hvi_link_disown(&move->from);
    free_rest(move);
}

/* ---- failing ---- */

/* It is over for this object: write down why, as far as the servers are there. */
static hv_status break_off(hvi_move *move, hv_status status, hv_error **error) {
    const char *said = error != NULL && *error != NULL ? hv_error_message(*error) : "";
    hvi_link *links[] = {&move->witness, &move->to};
    bool is_known = move->state == HVI_MOVE_AT_WORK || move->is_stuck;
    for (size_t i = 0; i < 2 && is_known; i++)
        if (hvi_link_is_open(links[i]) && links[i]->sql == NULL &&
            PQtransactionStatus(links[i]->session->conn) == PQTRANS_IDLE)
            hvi_journal_fail(links[i]->session, move->shard, move->row.id, said,
                             hvi_deadline_after(3000), NULL);
    move->state = HVI_MOVE_BROKEN;
    hvi_move_close_links(move);
    hvi_error_where(error, NULL, move->shard);
    return status;
}

/* May what cannot be reached be given up? Before anything was found, nothing may. */
static bool may_give_up(const hvi_move *move) {
    if (move->state == HVI_MOVE_FINDING || move->is_new)
        return false;
    /* Both are needed for the way back. */
    if (move->order == HVI_ORDER_UNDO && move->row.kind != HVI_MOVE_UNDO)
        return false;
    if (move->lost_side == HVI_LOST_FROM)
        return !move->from_given_up && !move->to_given_up;
    return move->lost_side == HVI_LOST_TO && !move->to_given_up && !move->from_given_up &&
           (move->order == HVI_ORDER_ABORT || move->cause != NULL ||
            move->row.step == HVI_STEP_ABORTING);
}

/* A server cannot be reached, or another run has the lock: wait, and look again. */
static hv_status wait_for_server(hvi_move *move, hv_status status, hv_error **cause,
                                 hv_error **error) {
    int64_t pause;
    bool is_busy = status == HV_BUSY;
    if (move->state != HVI_MOVE_FINDING)
        move->state = HVI_MOVE_LOOKING;
    hvi_move_close_links(move);
    if (!is_busy)
        snprintf(move->waits_for, sizeof move->waits_for, "%s",
                 *cause != NULL ? hv_error_message(*cause) : "a server");
    /* A second move of one shard need not wait for the end of the first. */
    int64_t max_wait =
        is_busy && move->is_new && move->options.max_wait > 3000 ? 3000 : move->options.max_wait;
    if (hvi_patience_next(&move->patience, max_wait, &pause)) {
        move->wake_at = hvi_clock_us() + pause * 1000;
        hv_error_free(move->lost);
        move->lost = *cause;
        *cause = NULL;
        return HV_OK;
    }
    if (!is_busy && may_give_up(move)) {
        if (move->lost_side == HVI_LOST_FROM)
            move->from_given_up = true;
        else
            move->to_given_up = true;
        move->patience = (hvi_patience){0};
        hv_error_free(*cause);
        *cause = NULL;
        return HV_OK;
    }
    hvi_error_move(error, cause);
    return break_off(move, status, error);
}

/* These end a move that is not switched by themselves: what it would take to the target is wrong,
 * it is a danger to the source, or it has hardly begun. */
static bool turns_back(const hvi_move *move, hv_status status, const hv_error *cause) {
    if (move->row.step >= HVI_STEP_SWITCHED || move->cause != NULL)
        return false;
    /* Until the stream runs, there is nothing that would be worth going on with. */
    /* Its writers have waited for too long. */
    if (move->row.kind == HVI_MOVE_OFFLINE && move->row.step >= HVI_STEP_COPYING &&
        status == HV_TIMEOUT && !hvi_link_is_open(&move->witness))
        return true;
    return status == HV_MISMATCH || hvi_error_has_sqlstate(cause, HVI_SQLSTATE_REWRITTEN) ||
           move->row.step <= HVI_STEP_STREAMING;
}

static hv_status turn_back(hvi_move *move, hv_error **cause) {
    move->cause = *cause;
    *cause = NULL;
    hvi_verify_free(move->verify);
    move->verify = NULL;
    hvi_late_keys_stop(&move->late_keys);
    snprintf(move->row.error, sizeof move->row.error, "%s",
             move->cause != NULL ? hv_error_message(move->cause) : "");
    move->row.step = HVI_STEP_ABORTING;
    move->is_begun = false;
    move->stage = 0;
    move->patience = (hvi_patience){0};
    return HV_OK;
}

/* ---- going on ---- */

static hv_status take_step(hvi_move *move, hvi_move_step step) {
    hvi_late_keys_stop(&move->late_keys);
    move->row.step = step;
    move->is_begun = false;
    move->stage = 0;
    move->marker = 0;
    move->patience = (hvi_patience){0};
    move->waits_for[0] = '\0';
    return HV_OK;
}

static bool are_open(const hvi_move *move) {
    return (move->from_given_up ||
            (hvi_link_is_open(&move->from) && hvi_link_is_open(&move->witness))) &&
           (move->to_given_up || hvi_link_is_open(&move->to));
}

/* Write the step down, and then do a part of it. */
static hv_status work(hvi_move *move, int64_t deadline, hv_error **error) {
    const char *name = hvi_journal_step_name(move->row.step);
    /* Whoever is not given up is there: otherwise its part would be left out in silence. */
    if (!are_open(move)) {
        hvi_fail(error, HV_UNAVAILABLE, "a connection of the move of shard %d is closed",
                 move->shard);
        return HV_UNAVAILABLE;
    }
    hvi_move_next what = HVI_NEXT_STAY;
    hvi_move_step next = move->row.step;
    hv_status status = HV_OK;
    if (!move->is_begun && move->row.step != HVI_STEP_DONE) {
        /* The shard has no place from the fence's commit until it is published. */
        bool is_urgent = move->row.step == HVI_STEP_SWITCHED;
        hvi_move_reach("before the rows");
        if (!is_urgent)
            status = hvi_move_write(move, error);
        if (status != HV_OK)
            return status;
    }
    if (!move->is_begun)
        hvi_move_reach(name);
    move->is_begun = true;
    status = hvi_move_check_offline(move, error);
    if (status != HV_OK)
        return status;
    status = steps[move->row.step].fn(move, deadline, &what, &next, error);
    if (status != HV_OK || what == HVI_NEXT_STAY)
        return status;
    if (what == HVI_NEXT_STEP)
        return take_step(move, next);
    move->state = HVI_MOVE_OVER;
    hvi_move_reach("over");
    return HV_OK;
}

/* Where a text was too long, it may end within a character. */
static void end_texts(hvi_move *move) {
    char *const texts[] = {move->step_text, move->waits_for, move->left_behind, move->row.error};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        texts[i][hvi_utf8_prefix(texts[i], strlen(texts[i]))] = '\0';
}

/* One turn. */
static hv_status turn(hvi_move *move, int64_t deadline, hv_error **error) {
    hv_error *cause = NULL;
    hv_status status = HV_OK;
    switch (move->state) {
    case HVI_MOVE_FINDING:
        status = hvi_move_find(move, &cause);
        if (status == HV_OK)
            move->state = HVI_MOVE_LOOKING;
        break;
    case HVI_MOVE_LOOKING:
        status = hvi_move_look(move, &cause);
        if (status == HV_OK) {
            move->patience = (hvi_patience){0};
            move->waits_for[0] = '\0';
        }
        break;
    case HVI_MOVE_AT_WORK:
        status = work(move, deadline, &cause);
        break;
    default:
        return HV_OK;
    }
    if (status == HV_OK)
        return HV_OK;
    if (hvi_interrupted()) {
        hv_error_free(cause);
        hvi_fail(error, HV_TIMEOUT, "the move of shard %d was interrupted", move->shard);
        hvi_error_hint(error,
                       "hv move --resume %d goes on with it, hv move --abort %d takes it "
                       "back.",
                       move->shard, move->shard);
        return break_off(move, HV_TIMEOUT, error);
    }
    bool is_waiting =
        status == HV_UNAVAILABLE || status == HV_OUTCOME_UNKNOWN ||
        (status == HV_BUSY && move->state == HVI_MOVE_LOOKING && move->waits_for[0] != '\0') ||
        (status == HV_TIMEOUT && move->state != HVI_MOVE_AT_WORK);
    if (is_waiting && !move->is_stuck)
        return wait_for_server(move, status, &cause, error);
    if (move->state == HVI_MOVE_AT_WORK && turns_back(move, status, cause))
        return turn_back(move, &cause);
    hvi_error_move(error, &cause);
    return break_off(move, status, error);
}

/* The end of a move that has taken itself back is the error because of which it did. */
static hv_status end(hvi_move *move, bool *done, hv_error **error) {
    *done = true;
    hvi_move_close_links(move);
    if (move->cause == NULL)
        return HV_OK;
    hv_status status = hv_error_status(move->cause);
    hvi_error_move(error, &move->cause);
    move->cause = NULL;
    if (error == NULL || hv_error_hint(*error) != NULL)
        return status;
    if (move->left_behind[0] != '\0')
        hvi_error_hint(error, "The move was taken back: shard %d is where it was. Left behind: %s.",
                       move->shard, move->left_behind);
    else
        hvi_error_hint(error,
                       "The move was taken back: shard %d is where it was, and nothing is left.",
                       move->shard);
    return status;
}

hv_status hvi_move_advance(hvi_move *move, int64_t timeout, bool *done, hv_error **error) {
    int64_t deadline = hvi_deadline_after(timeout);
    *done = false;
    if (move->state == HVI_MOVE_BROKEN)
        return hvi_fail(error, HV_INVALID, "the move of shard %d has failed; resume or abort it",
                        move->shard);
    do {
        int64_t now = hvi_clock_us();
        if (move->wake_at > now) {
            int64_t until = move->wake_at < deadline ? move->wake_at : deadline;
            hvi_pause((until - now + 999) / 1000);
            if (move->wake_at > hvi_clock_us() && !hvi_interrupted())
                continue;
        }
        move->wake_at = 0;
        hv_status status =
            hvi_interrupted()
                ? hvi_fail(error, HV_TIMEOUT, "the move of shard %d was interrupted", move->shard)
                : turn(move, deadline, error);
        end_texts(move);
        if (status != HV_OK)
            return move->state == HVI_MOVE_BROKEN ? status : break_off(move, status, error);
        if (move->state == HVI_MOVE_OVER)
            return end(move, done, error);
    } while (!hvi_is_late(deadline));
    return hvi_interrupted()
               ? hvi_fail(error, HV_TIMEOUT, "the move of shard %d was interrupted", move->shard)
               : HV_OK;
}

/* ---- how far it is ---- */

/* Has the stream been looked at? */
static bool looked(const hvi_move *move) {
    return move->looked != 0 || move->stream_state.tables > 0;
}

static hv_move_phase phase_of(const hvi_move *move) {
    if (move->state == HVI_MOVE_OVER)
        return move->row.step == HVI_STEP_KEPT && !move->is_aborted ? HV_MOVE_KEPT
               : move->is_aborted                                   ? HV_MOVE_ABORTED
                                                                    : HV_MOVE_DONE;
    return move->state == HVI_MOVE_FINDING ? HV_MOVE_BEGUN : steps[move->row.step].phase;
}

void hvi_move_progress(const hvi_move *move, hv_move_status *status) {
    bool is_back = move->row.kind == HVI_MOVE_UNDO;
    bool copies = move->row.step == HVI_STEP_COPYING || move->row.step == HVI_STEP_STREAMING;
    const hvi_stream_state *stream = &move->stream_state;
    hvi_verify_progress verify = {0};
    bool verifies = move->verify != NULL && move->row.step == HVI_STEP_VERIFYING;
    if (verifies)
        hvi_verify_progress_of(move->verify, &verify);
    *status = (hv_move_status){
        .shard = move->shard,
        .source = is_back ? move->row.target : move->row.source,
        .target = is_back ? move->row.source : move->row.target,
        .kind = hvi_journal_kind_name(move->row.kind),
        .phase = phase_of(move),
        .step = move->step_text,
        .waits_for = move->waits_for[0] != '\0' ? move->waits_for : NULL,
        .rows = verifies ? verify.rows
                : copies ? stream->rows
                         : move->row.rows,
        .rows_total = verifies       ? verify.rows_total
                      : looked(move) ? stream->rows_total
                                     : -1,
        .bytes = copies ? stream->bytes : move->row.bytes,
        .bytes_total = looked(move) ? stream->bytes_total : -1,
        .lag_bytes = looked(move) ? stream->lag_bytes : -1,
        .seconds = (double) (hvi_clock_us() - move->began) / 1e6,
        .pause_ms = (double) move->row.pause_us / 1e3,
        .keep_until =
            move->row.step == HVI_STEP_KEPT ? hvi_clock_unix_us() + move->row.keep_ms * 1000 : 0,
        .left_behind = move->left_behind[0] != '\0' ? move->left_behind : NULL,
    };
}

const char *hv_move_phase_name(hv_move_phase phase) {
    static const char *const names[] = {
        [HV_MOVE_BEGUN] = "begun",
        [HV_MOVE_SCHEMA] = "schema",
        [HV_MOVE_COPYING] = "copying",
        [HV_MOVE_INDEXING] = "indexing",
        [HV_MOVE_CATCHING_UP] = "catching up",
        [HV_MOVE_VERIFYING] = "verifying",
        [HV_MOVE_SWITCHING] = "switching",
        [HV_MOVE_CLEANING] = "cleaning",
        [HV_MOVE_KEPT] = "kept",
        [HV_MOVE_DONE] = "done",
        [HV_MOVE_ABORTING] = "aborting",
        [HV_MOVE_ABORTED] = "aborted",
    };
    return (size_t) phase < sizeof names / sizeof names[0] ? names[phase] : "unknown";
}
