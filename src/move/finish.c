/*
 * finish: what a move does after the switch, or to take itself back.
 *
 * After the switch nothing may fail for good: what cannot be reached for too long is left behind,
 * with its row in that server's journal, and a later move, or a sweep, removes it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "move/hook.h"
#include "move/remains.h"
#include "move/schema_copy.h"
#include "move/state.h"

/* Name what is left on a server that cannot be reached. */
static void note_left(hvi_move *move) {
    if (move->from_given_up)
        snprintf(move->left_behind, sizeof move->left_behind,
                 "server \"%s\" cannot be reached: its slot, its publication and its copy are "
                 "removed by the next move, when it is back",
                 (move->is_back ? move->target : move->source)->name);
    else if (move->to_given_up)
        snprintf(move->left_behind, sizeof move->left_behind,
                 "server \"%s\" cannot be reached: its subscription and its copy are removed by "
                 "the next move, when it is back",
                 (move->is_back ? move->source : move->target)->name);
}

/* ---- switched ---- */

hv_status hvi_step_switched(hvi_move *move, int64_t deadline, hvi_move_next *what,
                            hvi_move_step *next, hv_error **error) {
    (void) deadline;
    hvi_location_state state = HVI_LOCATION_NONE;
    hv_error *cause = NULL;
    hvi_move_say(move, "publishing the shard at its new place");
    if (move->to_location.generation > move->row.generation) {
        /* It has been published, and has moved on since; this is what was left behind then. */
        move->row.keep_ms = 0;
        *what = HVI_NEXT_STEP;
        *next = HVI_STEP_CLEANING;
        return HV_OK;
    }
    hv_status status = hvi_location_publish(move->to.session, move->shard, move->row.generation,
                                            hvi_link_deadline(), &state, &cause);
    if (status != HV_OK)
        return hvi_move_wait_for_lock(move, &move->to, status, &cause, what, error);
    hvi_move_reach("switched: published");
    if (state != HVI_LOCATION_HERE) {
        hvi_fail(error, HV_CORRUPT,
                 "shard %d cannot be published on server \"%s\": its row is "
                 "\"%s\"",
                 move->shard, move->to.server->name, hvi_location_state_name(state));
        hvi_error_where(error, move->to.server->name, move->shard);
        return HV_CORRUPT;
    }
    hvi_router_move(move->router, move->shard, move->to.server->number, move->row.generation);
    bool is_kept = move->row.kind == HVI_MOVE_ONLINE && move->row.keep_ms > 0;
    *what = HVI_NEXT_STEP;
    *next = is_kept ? HVI_STEP_RETURNING : HVI_STEP_CLEANING;
    return HV_OK;
}

/* ---- returning ---- */

hv_status hvi_step_returning(hvi_move *move, int64_t deadline, hvi_move_next *what,
                             hvi_move_step *next, hv_error **error) {
    (void) deadline;
    hvi_stream back = hvi_move_stream_back(move);
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hv_error *cause = NULL;
    *what = HVI_NEXT_STEP;
    *next = HVI_STEP_CLEANING;
    hvi_move_say(move, "starting the stream back");
    if (back.subscriber == NULL) {
        /* The old copy cannot follow: there is nothing to keep. */
        move->row.keep_ms = 0;
        return HV_OK;
    }
    /* The stream there must not go on to the tables that the stream back writes to. */
    hv_status status = hvi_remains_remove_stream(move, &cause);
    if (status == HV_OK) {
        hvi_schema_copy_quiet_sql(move->names.retired, &sql);
        status = hvi_link_say(&move->witness, &sql, hvi_link_deadline(), NULL, &cause);
    }
    if (status == HV_OK) {
        back.tables = move->names.live; /* published meanwhile */
        status = hvi_stream_subscribe(&back, false, hvi_deadline_after(60000), &cause);
    }
    if (status == HV_REFUSED && hvi_link_is_open(&move->to) && hvi_link_is_open(&move->witness)) {
        int64_t pause;
        *what = HVI_NEXT_STAY;
        snprintf(move->waits_for, sizeof move->waits_for, "%s", hv_error_message(cause));
        if (hvi_patience_next(&move->patience, move->options.max_wait, &pause)) {
            hvi_move_stay(move, pause);
        } else {
            /* It had worked before the switch. The move must come to its end all the same. */
            snprintf(move->left_behind, sizeof move->left_behind,
                     "the old copy is not kept, because it cannot follow: %s",
                     hv_error_message(cause));
            move->row.keep_ms = 0;
            *what = HVI_NEXT_STEP;
        }
        hv_error_free(cause);
        return HV_OK;
    }
    if (status != HV_OK)
        return hvi_error_move(error, &cause);
    return HV_OK;
}

/* ---- cleaning ---- */

hv_status hvi_step_cleaning(hvi_move *move, int64_t deadline, hvi_move_next *what,
                            hvi_move_step *next, hv_error **error) {
    (void) deadline;
    hv_error *cause = NULL;
    bool is_kept = move->row.kind == HVI_MOVE_ONLINE && move->row.keep_ms > 0;
    hvi_move_say(move, "removing what is not needed any more");
    hv_status status =
        is_kept ? hvi_remains_remove_stream(move, &cause) : hvi_remains_remove(move, &cause);
    if (status != HV_OK)
        return hvi_move_wait_for_lock(move, move->from_given_up ? &move->to : &move->witness,
                                      status, &cause, what, error);
    *what = HVI_NEXT_STEP;
    *next = is_kept ? HVI_STEP_KEPT : HVI_STEP_DONE;
    return HV_OK;
}

hv_status hvi_step_kept(hvi_move *move, int64_t deadline, hvi_move_next *what, hvi_move_step *next,
                        hv_error **error) {
    (void) move, (void) deadline, (void) next, (void) error;
    *what = HVI_NEXT_OVER;
    return HV_OK;
}

/* ---- the rows ---- */

/* Remove the rows: the target's first, so that as long as anything is left there is the source's.
 */
static hv_status remove_rows(hvi_move *move, hv_error **error) {
    hvi_link *source = move->is_back ? &move->to : &move->from;
    hvi_link *target = move->is_back ? &move->from : &move->to;
    hv_status status = HV_OK;
    if (move->is_back ? !move->from_given_up : !move->to_given_up)
        status = hvi_journal_remove(target->session, move->shard, move->row.id, hvi_link_deadline(),
                                    error);
    hvi_move_reach("between the rows");
    if (status == HV_OK && (move->is_back ? !move->to_given_up : !move->from_given_up))
        status = hvi_journal_remove(source->session, move->shard, move->row.id, hvi_link_deadline(),
                                    error);
    return status;
}

hv_status hvi_step_done(hvi_move *move, int64_t deadline, hvi_move_next *what, hvi_move_step *next,
                        hv_error **error) {
    (void) deadline, (void) next;
    note_left(move);
    *what = HVI_NEXT_OVER;
    return remove_rows(move, error);
}

/* ---- taking back ---- */

static hv_status restore_location(hvi_move *move, hv_error **error) {
    hvi_location before = {
        .shard = move->shard,
        .state = hvi_location_state_of(move->row.before_state),
        .generation = move->row.before_generation,
    };
    if (move->to_given_up)
        return HV_OK;
    snprintf(before.server, sizeof before.server, "%s", move->row.before_server);
    return hvi_location_restore(move->to.session, &before, hvi_link_deadline(), error);
}

/* A row that says "arriving" may be left on a target that cannot be reached. It must never fit a
 * "gone" of a later move: so that one gets a higher generation. */
static hv_status pass_over_generation(hvi_move *move, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_location_write(&sql, move->shard, HVI_LOCATION_HERE, move->row.generation, "", "");
    return hvi_link_say(&move->from, &sql, hvi_link_deadline(), NULL, error);
}

hv_status hvi_step_aborting(hvi_move *move, int64_t deadline, hvi_move_next *what,
                            hvi_move_step *next, hv_error **error) {
    (void) deadline;
    hv_error *cause = NULL;
    hvi_move_say(move, "taking it back");
    hv_status status = restore_location(move, error);
    hvi_move_reach("aborting: restored");
    if (status != HV_OK)
        return status;
    if (move->row.kind == HVI_MOVE_UNDO) {
        /* It is kept, as it was before. */
        move->row.kind = HVI_MOVE_ONLINE;
        move->row.generation--;
        move->is_aborted = true;
        *what = HVI_NEXT_STEP;
        *next = HVI_STEP_KEPT;
        return HV_OK;
    }
    status = hvi_remains_remove(move, &cause);
    if (status != HV_OK)
        return hvi_move_wait_for_lock(move, move->from_given_up ? &move->to : &move->witness,
                                      status, &cause, what, error);
    if (move->to_given_up && !move->from_given_up)
        status = pass_over_generation(move, error);
    if (status != HV_OK)
        return status;
    move->is_aborted = true;
    return hvi_step_done(move, deadline, what, next, error);
}
