/*
 * look: what a move finds: the servers, the rows of the journal, where the shard is, and the step
 * to go on with.
 *
 * A move that is begun, one that is resumed on another machine and one that has lost a connection
 * all come through here, so that there is one way to find out what has happened.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "wire/result.h"
#include "schema/shard_sql.h"
#include "move/hook.h"
#include "move/state.h"

#define OPEN_MS    5000
#define FOLLOW_MAX 8

static hvi_server *server_called(hvi_router *router, const char *name) {
    for (int i = 0; i < router->server_count; i++)
        if (strcmp(router->servers[i].name, name) == 0)
            return &router->servers[i];
    return NULL;
}

void hvi_move_close_links(hvi_move *move) {
    /* The verification has work under way on two of them. */
    hvi_verify_free(move->verify);
    move->verify = NULL;
    hvi_late_keys_stop(&move->late_keys);
    hvi_link_close(&move->readers[0]);
    hvi_link_close(&move->readers[1]);
    hvi_link_close(&move->witness);
    hvi_link_close(&move->to);
    hvi_link_close(&move->from);
}

static hv_status copy_name(char *to, size_t size, const char *name, hv_error **error) {
    if (strlen(name) >= size)
        return hvi_fail(error, HV_INVALID,
                        "the name of a server that shards move to is longer "
                        "than %zu bytes",
                        size - 1);
    memcpy(to, name, strlen(name) + 1);
    return HV_OK;
}

/* ---- finding a new one's servers ---- */

/* Follow the shard from where the router believes that it is. On HV_OK move->from is open. */
static hv_status follow(hvi_move *move, hv_error **error) {
    hvi_server *server;
    hv_status status = hvi_router_find(move->router, move->shard, &server, error);
    for (int hop = 0; status == HV_OK && hop < FOLLOW_MAX; hop++) {
        hvi_location *at = &move->from_location;
        bool has = false;
        status = hvi_link_open(&move->from, server, hvi_deadline_after(OPEN_MS), error);
        if (status == HV_OK)
            status =
                hvi_location_read(move->from.session, move->shard, hvi_link_deadline(), at, error);
        if (status == HV_OK)
            status = hvi_location_has_schema(move->from.session, move->shard, hvi_link_deadline(),
                                             &has, error);
        if (status != HV_OK || (has && at->state != HVI_LOCATION_GONE))
            return status;
        hvi_link_close(&move->from);
        if (at->state != HVI_LOCATION_GONE && at->state != HVI_LOCATION_ARRIVING) {
            hvi_fail(error, HV_NOT_INITIALIZED, "server \"%s\" does not have shard %d",
                     server->name, move->shard);
            hvi_error_where(error, server->name, move->shard);
            return HV_NOT_INITIALIZED;
        }
        hvi_server *next = server_called(move->router, at->server);
        if (next == NULL) {
            hvi_fail(error, HV_NO_SERVER, "shard %d is on server \"%s\", which is not configured",
                     move->shard, at->server);
            hvi_error_where(error, server->name, move->shard);
            return HV_NO_SERVER;
        }
        if (at->state == HVI_LOCATION_GONE)
            hvi_router_move(move->router, move->shard, next->number, at->generation);
        server = next;
    }
    return status != HV_OK ? status
                           : hvi_fail(error, HV_MISMATCH,
                                      "shard %d is on no server that another "
                                      "one names",
                                      move->shard);
}

static hv_status fail_is_there(hvi_move *move, const hvi_server *server, hv_error **error) {
    hvi_fail(error, HV_INVALID, "shard %d is on server \"%s\" already", move->shard, server->name);
    hvi_error_where(error, server->name, move->shard);
    return HV_INVALID;
}

static hv_status find_new(hvi_move *move, hv_error **error) {
    bool found;
    hvi_server *wanted = &move->router->servers[move->wanted];
    hv_status status = follow(move, error);
    if (status != HV_OK)
        return status;
    hvi_server *here = move->from.server;
    status = hvi_journal_read(move->from.session, move->shard, hvi_link_deadline(), &found,
                              &move->row, NULL, error);
    if (status != HV_OK)
        return status;
    if (found && move->row.step == HVI_STEP_KEPT && here != wanted) {
        hvi_fail(error, HV_INVALID, "the old copy of shard %d on server \"%s\" is kept for an undo",
                 move->shard, move->row.source);
        hvi_error_hint(error, "Drop it first: hv move --clean %d", move->shard);
        return HV_INVALID;
    }
    if (found && (strcmp(move->row.target, wanted->name) != 0 || move->row.kind == HVI_MOVE_UNDO)) {
        hvi_fail(error, HV_BUSY, "shard %d is being moved from server \"%s\" to \"%s\"",
                 move->shard, move->row.kind == HVI_MOVE_UNDO ? move->row.target : move->row.source,
                 move->row.kind == HVI_MOVE_UNDO ? move->row.source : move->row.target);
        hvi_error_hint(error,
                       "hv move --resume %d goes on with that, hv move --abort %d takes it "
                       "back.",
                       move->shard, move->shard);
        return HV_BUSY;
    }
    if (here == wanted && (!found || move->row.step == HVI_STEP_KEPT))
        return fail_is_there(move, here, error);
    if (!found) {
        move->is_new = true;
        move->row = (hvi_journal_row){
            .shard = move->shard,
            .id = hvi_move_new_id(),
            .kind = move->options.offline ? HVI_MOVE_OFFLINE : HVI_MOVE_ONLINE,
            .keep_ms = move->options.keep_undo,
        };
        status = copy_name(move->row.source, sizeof move->row.source, here->name, error);
        if (status == HV_OK)
            status = copy_name(move->row.target, sizeof move->row.target, wanted->name, error);
    }
    /* Which of the servers this link is to depends on the row: it is opened again. */
    hvi_link_close(&move->from);
    return status;
}

/* ---- finding one that is in the journal ---- */

static hv_status fail_none(const hvi_move *move, hv_error **error) {
    switch (move->order) {
    case HVI_ORDER_UNDO:
        hvi_fail(error, HV_INVALID, "no old copy of shard %d is kept", move->shard);
        hvi_error_hint(error, "A move can be undone if it was begun with keep_undo, and for so "
                              "long.");
        break;
    case HVI_ORDER_CLEAN:
        hvi_fail(error, HV_INVALID, "no old copy of shard %d is kept", move->shard);
        break;
    default:
        hvi_fail(error, HV_INVALID, "no move of shard %d is under way", move->shard);
    }
    hvi_error_where(error, NULL, move->shard);
    return HV_INVALID;
}

static hv_status find_journalled(hvi_move *move, hv_error **error) {
    hv_error *first = NULL;
    int holder = hvi_router_holder(move->router, move->shard);
    for (int i = -1; i < move->router->server_count; i++) {
        int number = i < 0 ? holder : i;
        hvi_link link = {0};
        hv_error *cause = NULL;
        bool found = false;
        if (number < 0 || (i >= 0 && i == holder))
            continue;
        hv_status status = hvi_link_open(&link, &move->router->servers[number],
                                         hvi_deadline_after(OPEN_MS), &cause);
        if (status == HV_OK)
            status = hvi_journal_read(link.session, move->shard, hvi_link_deadline(), &found,
                                      &move->row, NULL, &cause);
        hvi_link_close(&link);
        if (found && move->only_id && move->row.id != move->id)
            found = false;
        if (status == HV_OK && found) {
            hv_error_free(first);
            return HV_OK;
        }
        if (status != HV_OK && first == NULL)
            hvi_error_move(&first, &cause);
        hv_error_free(cause);
    }
    if (first != NULL)
        return hvi_error_move(error, &first);
    return fail_none(move, error);
}

hv_status hvi_move_find(hvi_move *move, hv_error **error) {
    hv_status status =
        move->order == HVI_ORDER_MOVE ? find_new(move, error) : find_journalled(move, error);
    if (status != HV_OK) {
        hvi_link_close(&move->from);
        return status;
    }
    move->source = server_called(move->router, move->row.source);
    move->target = server_called(move->router, move->row.target);
    if (move->source == NULL || move->target == NULL) {
        const char *name = move->source == NULL ? move->row.source : move->row.target;
        hvi_fail(error, HV_NO_SERVER,
                 "shard %d moves from server \"%s\" to \"%s\", and \"%s\" is "
                 "not configured",
                 move->shard, move->row.source, move->row.target, name);
        hvi_error_hint(error, "Add [server %s] to the configuration; it need not run.", name);
        return HV_NO_SERVER;
    }
    return HV_OK;
}

/* ---- links and locks ---- */

static const hvi_form lock_form = {
    .asked = "the lock of a shard",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BOOL},
};

/* HV_BUSY: another session has it; waits_for says which. */
static hv_status lock(hvi_move *move, hvi_link *link, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_shard_sql_try_session_lock(&sql, move->shard);
    hv_status status = hvi_link_say(link, &sql, hvi_link_deadline(), &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &lock_form, link->server->name, move->shard, error);
    bool has = status == HV_OK && hvi_bool_at(result, 0, 0);
    PQclear(result);
    if (status != HV_OK || has)
        return status;
    result = NULL;
    hvi_shard_sql_holder(&sql, move->shard);
    status = hvi_link_say(link, &sql, hvi_link_deadline(), &result, error);
    const char *holder = status == HV_OK ? hvi_shard_sql_answer(result) : NULL;
    if (status == HV_OK) {
        snprintf(move->waits_for, sizeof move->waits_for, "%s",
                 holder != NULL ? holder : "another run");
        hvi_fail(error, HV_BUSY, "another run is working on shard %d", move->shard);
        hvi_error_where(error, link->server->name, move->shard);
        hvi_error_detail(error, "On server \"%s\", %s.", link->server->name, move->waits_for);
        status = HV_BUSY;
    }
    if (status == HV_BUSY && move->is_new && link == &move->to)
        status = hvi_move_check_same(move, status, error);
    PQclear(result);
    hvi_link_close(link);
    return status;
}

static hv_status prepare(hvi_link *link, hv_error **error) {
    hv_status status = hvi_location_prepare(link->session, hvi_link_deadline(), error);
    return status == HV_OK ? hvi_journal_prepare(link->session, hvi_link_deadline(), error)
                           : status;
}

/* Open a link that has the lock, with the tables that a move needs. A new move makes nothing yet.
 */
static hv_status open_locked(hvi_move *move, hvi_link *link, hvi_server *server, hv_error **error) {
    if (hvi_link_is_open(link))
        return HV_OK;
    hvi_link_close(link);
    hv_status status = hvi_link_open(link, server, hvi_deadline_after(OPEN_MS), error);
    /* The lock would stay with a connection that others are lent. */
    if (status == HV_OK && link->is_pooled)
        status = hvi_link_check_pooler(link, hvi_link_deadline(), error);
    if (status == HV_OK)
        status = lock(move, link, error);
    if (status == HV_OK && !move->is_new)
        status = prepare(link, error);
    return status;
}

static hv_status open_links(hvi_move *move, hv_error **error) {
    hvi_server *from = move->is_back ? move->target : move->source;
    hvi_server *to = move->is_back ? move->source : move->target;
    hv_status status = HV_OK;
    move->lost_side = HVI_LOST_FROM;
    if (!move->from_given_up)
        status = open_locked(move, &move->from, from, error);
    if (status == HV_OK && !move->from_given_up && !hvi_link_is_open(&move->witness)) {
        hvi_link_close(&move->witness);
        status = hvi_link_open(&move->witness, from, hvi_deadline_after(OPEN_MS), error);
    }
    if (status != HV_OK)
        return status;
    move->lost_side = HVI_LOST_TO;
    if (!move->to_given_up)
        status = open_locked(move, &move->to, to, error);
    if (status == HV_OK)
        move->lost_side = HVI_LOST_NONE;
    return status;
}

/* ---- what there is ---- */

/* How far a row is, over the whole story: an undo begins where the move there was kept. */
static int progress_of(const hvi_journal_row *row) {
    return row->kind == HVI_MOVE_UNDO ? HVI_STEP_COUNT + (int) row->step : (int) row->step;
}

typedef struct found {
    bool has_source, has_target; /* rows of the move as it was begun */
    hvi_journal_row source, target;
} found;

static hv_status read_side(hvi_move *move, hvi_link *link, hvi_location *location, found *rows,
                           hv_error **error) {
    hvi_journal_row row;
    bool has = false;
    int64_t deadline = hvi_link_deadline();
    if (link->session == NULL)
        return HV_OK;
    hv_status status = hvi_location_read(link->session, move->shard, deadline, location, error);
    if (status == HV_OK)
        status = hvi_journal_read(link->session, move->shard, deadline, &has, &row, NULL, error);
    if (status != HV_OK || !has)
        return status;
    /* What an earlier move has left here says nothing about this one. */
    if (row.id != move->row.id && !move->is_new)
        return HV_OK;
    if (row.id != move->row.id) {
        hvi_fail(error, HV_BUSY, "server \"%s\" has another move of shard %d in its journal",
                 link->server->name, move->shard);
        hvi_error_where(error, link->server->name, move->shard);
        hvi_error_hint(error, "hv move --abort %d removes it if it is nothing but left over.",
                       move->shard);
        return HV_BUSY;
    }
    if (link->server == move->source) {
        rows->has_source = true;
        rows->source = row;
    } else {
        rows->has_target = true;
        rows->target = row;
    }
    return HV_OK;
}

/* Has the fence of the way that the row is on been committed? The old server's row says so, or, if
 * it cannot be reached, that the new one has been published. *known is false if nobody can say. */
static bool is_switched(const hvi_move *move, bool *known) {
    const hvi_location *from = &move->from_location, *to = &move->to_location;
    int64_t generation = move->row.generation;
    *known = true;
    if (move->from.session != NULL)
        return from->state == HVI_LOCATION_GONE && from->generation == generation;
    if (move->to.session != NULL && to->state == HVI_LOCATION_HERE && to->generation >= generation)
        return true;
    /* Before a row that says "arriving" was written, there was no fence. */
    *known = move->to.session != NULL &&
             !(to->state == HVI_LOCATION_ARRIVING && to->generation == generation);
    return false;
}

/* The step to go on with, before the switch: what is half done is begun again. */
static hvi_move_step first_step(const hvi_move *move) {
    /* The transaction under whose locks it was copied is gone. */
    if (move->row.kind == HVI_MOVE_OFFLINE && move->row.step > HVI_STEP_SCHEMA &&
        move->row.step <= HVI_STEP_SWITCHING)
        return HVI_STEP_SCHEMA;
    switch (move->row.step) {
    case HVI_STEP_SCHEMA:
    case HVI_STEP_STREAMING:
        return HVI_STEP_SCHEMA;
    case HVI_STEP_INDEXING:
        return move->row.is_indexed ? HVI_STEP_CATCHING_UP : HVI_STEP_INDEXING;
    case HVI_STEP_VERIFYING:
    case HVI_STEP_READY:
    case HVI_STEP_SWITCHING:
        return HVI_STEP_CATCHING_UP;
    default:
        return move->row.step;
    }
}

static hv_status fail_unknown(hvi_move *move, hv_error **error) {
    move->is_stuck = true;
    hvi_fail(error, HV_UNAVAILABLE, "it is not known whether shard %d was switched", move->shard);
    hvi_error_where(error, move->row.source, move->shard);
    hvi_error_detail(error, "Only the server that it leaves knows, and that cannot be reached.");
    hvi_error_hint(error, "Start that server, and resume or abort the move then.");
    return HV_UNAVAILABLE;
}

/* Before the switch the server that has the shard has all that counts, and afterwards the other
 * one: without that nothing is gone on with, and least of all is a copy dropped, which may be all
 * that is left. */
static hv_status fail_without(hvi_move *move, bool switched, hv_error **error) {
    const hvi_server *from = move->is_back ? move->target : move->source;
    const hvi_server *to = move->is_back ? move->source : move->target;
    const hvi_server *lost = switched ? to : from;
    move->is_stuck = true;
    hvi_fail(error, HV_UNAVAILABLE, "server \"%s\", which has shard %d, cannot be reached",
             lost->name, move->shard);
    hvi_error_where(error, lost->name, move->shard);
    if (switched)
        hvi_error_detail(error,
                         "The shard was switched. The old copy on server \"%s\", \"%s\", is left "
                         "as it is.",
                         from->name, move->names.retired);
    hvi_error_hint(error, "Start that server, and resume or abort the move then.");
    return HV_UNAVAILABLE;
}

/* The old copy is of use until the other server has the shard, which it may have lost again: it may
 * have been restored from an older backup. */
static hv_status check_has(hvi_move *move, hv_error **error) {
    const hvi_location *at = &move->to_location;
    int64_t generation = move->row.generation;
    bool has = false;
    hv_status status = HV_OK;
    if (at->state == HVI_LOCATION_HERE && at->generation >= generation)
        status = hvi_location_has_schema(move->to.session, move->shard, hvi_link_deadline(), &has,
                                         error);
    else if (at->state == HVI_LOCATION_ARRIVING && at->generation == generation)
        has = move->row.step <= HVI_STEP_SWITCHED;
    else
        has = at->state == HVI_LOCATION_GONE && at->generation > generation;
    if (status != HV_OK || has)
        return status;
    const hvi_server *from = move->is_back ? move->target : move->source;
    move->is_stuck = true;
    hvi_fail(error, HV_MISMATCH, "shard %d was switched to server \"%s\", which does not have it",
             move->shard, move->to.server->name);
    hvi_error_where(error, move->to.server->name, move->shard);
    hvi_error_detail(error, "The old copy on server \"%s\", \"%s\", is left as it is.", from->name,
                     move->names.retired);
    hvi_error_hint(error,
                   "Has server \"%s\" been restored from a backup? Find out which copy is "
                   "the right one before anything is dropped.",
                   move->to.server->name);
    return HV_MISMATCH;
}

/* Apply what is asked for to a move that was kept. */
static hv_status decide_kept(hvi_move *move, hvi_move_step *step, hv_error **error) {
    switch (move->order) {
    case HVI_ORDER_UNDO:
        move->row.kind = HVI_MOVE_UNDO;
        move->row.generation++;
        move->row.pause_us = 0; /* its own is to be seen, not that of the way there */
        *step = HVI_STEP_CATCHING_UP;
        /* From now on the way goes in the other direction: look again. */
        hvi_move_close_links(move);
        move->is_back = true;
        return HV_OK;
    case HVI_ORDER_CLEAN:
        move->row.keep_ms = 0;
        *step = HVI_STEP_CLEANING;
        return HV_OK;
    case HVI_ORDER_ABORT:
        hvi_fail(error, HV_INVALID, "the move of shard %d is over", move->shard);
        hvi_error_hint(error, "hv move --undo %d goes back, hv move --clean %d drops the old copy.",
                       move->shard, move->shard);
        return HV_INVALID;
    default:
        *step = HVI_STEP_KEPT;
        return HV_OK;
    }
}

static hv_status decide(hvi_move *move, const found *rows, hvi_move_step *step, hv_error **error) {
    bool known;
    bool all_there = move->from.session != NULL && move->to.session != NULL;
    bool has_both = rows->has_source && rows->has_target;
    bool switched = is_switched(move, &known);
    *step = first_step(move);
    if (!known)
        return fail_unknown(move, error);
    if (switched) {
        if (move->to_given_up)
            return fail_without(move, true, error);
        hv_status status = check_has(move, error);
        if (status != HV_OK)
            return status;
        if (move->row.step == HVI_STEP_KEPT && move->row.kind != HVI_MOVE_UNDO && has_both)
            return decide_kept(move, step, error);
        /* The target's row is removed first: the rest is to be removed. */
        if (all_there && !has_both && !(rows->has_target && move->row.step <= HVI_STEP_SWITCHED))
            move->row.keep_ms = 0;
        *step = move->row.keep_ms == 0 && move->row.step >= HVI_STEP_CLEANING ? HVI_STEP_CLEANING
                                                                              : HVI_STEP_SWITCHED;
        return HV_OK;
    }
    if (move->row.kind != HVI_MOVE_UNDO && move->row.step >= HVI_STEP_SWITCHED &&
        move->row.step != HVI_STEP_ABORTING) {
        /* The location row of the source is older than its journal: somebody has changed it. */
        hvi_fail(error, HV_CORRUPT,
                 "the journal says that shard %d was switched, but server "
                 "\"%s\" does not",
                 move->shard, move->row.source);
        hvi_error_where(error, move->row.source, move->shard);
        return HV_CORRUPT;
    }
    if (move->order == HVI_ORDER_ABORT || move->cause != NULL || (all_there && !has_both))
        *step = HVI_STEP_ABORTING;
    if (move->order == HVI_ORDER_UNDO && move->row.kind != HVI_MOVE_UNDO)
        return fail_none(move, error);
    if (move->order == HVI_ORDER_CLEAN) {
        hvi_fail(error, HV_INVALID, "the move of shard %d is not over", move->shard);
        hvi_error_hint(error,
                       "hv move --resume %d goes on with it, hv move --abort %d takes it "
                       "back.",
                       move->shard, move->shard);
        return HV_INVALID;
    }
    return move->from_given_up && *step != HVI_STEP_ABORTING ? fail_without(move, false, error)
                                                             : HV_OK;
}

/* A move that is not in the journal yet: if nothing is in its way, now it is. */
static hv_status begin_new(hvi_move *move, hv_error **error) {
    int64_t here = move->from_location.generation, there = move->to_location.generation;
    move->row.generation = (here > there ? here : there) + 1;
    move->row.step = HVI_STEP_BEGUN;
    hv_status status = hvi_move_check_before(move, error);
    if (status == HV_OK)
        status = prepare(&move->from, error);
    if (status == HV_OK)
        status = prepare(&move->to, error);
    if (status == HV_OK)
        status = hvi_move_write(move, error);
    if (status == HV_OK)
        move->is_new = false;
    return status;
}

hv_status hvi_move_look(hvi_move *move, hv_error **error) {
    found rows = {0};
    hvi_move_step step = HVI_STEP_BEGUN;
    hv_status status = HV_OK;
    move->is_back = move->row.kind == HVI_MOVE_UNDO;
    hvi_move_names_of(move->shard, move->row.id, move->is_back, &move->names);
    move->from_location = move->to_location = (hvi_location){.shard = move->shard};
    hvi_move_reach("looking");
    status = open_links(move, error);
    if (status != HV_OK)
        hvi_move_protect_source(move);
    if (status == HV_OK)
        status = read_side(move, &move->from, &move->from_location, &rows, error);
    if (status == HV_OK)
        status = read_side(move, &move->to, &move->to_location, &rows, error);
    if (status != HV_OK)
        return status;
    if (move->is_new && move->from_location.state == HVI_LOCATION_GONE) {
        /* Another move has ended since: where the shard is has to be found again. */
        hvi_move_close_links(move);
        move->is_new = false;
        move->state = HVI_MOVE_FINDING;
        return HV_OK;
    }
    /* Its own rows may be there already, if a connection was lost while they were written. */
    if (move->is_new) {
        status = begin_new(move, error);
    } else {
        hvi_move_kind kind = move->row.kind;
        int64_t pause = move->row.pause_us;
        if (!rows.has_source && !rows.has_target) {
            /* Somebody else has ended it, between two of our looks. */
            return fail_none(move, error);
        }
        const hvi_journal_row *row = !rows.has_target   ? &rows.source
                                     : !rows.has_source ? &rows.target
                                     : progress_of(&rows.target) < progress_of(&rows.source)
                                         ? &rows.target
                                         : &rows.source;
        move->row = *row;
        move->row.is_indexed = rows.has_target && rows.target.is_indexed;
        move->row.pause_us = pause > row->pause_us ? pause : row->pause_us;
        if (kind != move->row.kind) {
            /* The other row made us believe that it goes the other way. */
            hvi_move_close_links(move);
            return hvi_move_look(move, error);
        }
        hvi_move_kind before = move->row.kind;
        status = decide(move, &rows, &step, error);
        if (status == HV_OK && before != move->row.kind) {
            hvi_move_names_of(move->shard, move->row.id, true, &move->names);
            move->from_location = move->to_location = (hvi_location){.shard = move->shard};
            status = open_links(move, error);
            if (status == HV_OK)
                status = read_side(move, &move->from, &move->from_location, &rows, error);
            if (status == HV_OK)
                status = read_side(move, &move->to, &move->to_location, &rows, error);
        }
    }
    if (status != HV_OK)
        return status;
    move->row.step = step;
    /* What went wrong earlier is not wrong any more. */
    if (step != HVI_STEP_ABORTING)
        move->row.error[0] = '\0';
    move->is_begun = false;
    move->stage = 0;
    move->state = HVI_MOVE_AT_WORK;
    return HV_OK;
}
