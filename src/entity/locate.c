/*
 * locate: where a shard is that is missing on the server where an operation looked for it.
 *
 * What the server's row for the shard says (see shard/location.h), and what is next:
 *
 *     hvi_locate ──► gone to another server: go there; the router remembers it
 *                 ├► gone to a name that means nothing here: ask the others which of them has it
 *                 ├► arriving, and it is gone from where it was: hvi_publish ──► there: again
 *                 │                                               └─ not allowed: pause, again
 *                 ├► arriving, and so it is still where it comes from: go there; the router
 *                 │  remembers that if it is news, else it is for this time only
 *                 ├► here: it has come meanwhile: again, a few times
 *                 └► nothing: then it does not exist; but pause, again, if we were sent here
 *
 * An operation ends up in no circle: it believes only what is of a higher generation than all that
 * the router knows. What the router has learned from others meanwhile goes before all answers.
 *
 * Only what is committed on the old server may be published on the new one. The router's generation
 * of a shard is known from rows that say "gone" or "here", never from one that says "arriving"; so
 * a shard that arrives with that generation is gone from where it was.
 */
#include "entity/locate.h"

#include <inttypes.h>
#include <string.h>

#include "shard/location.h"
#include "entity/lane.h"

/* The pauses until a shard is published grow from 1 ms to this. */
#define MAX_PAUSE_MS 50

/* How often an operation comes again where the shard is said to be, and is not seen. */
#define MAX_REPEATS 12

/* ---- is it there? ---- */

hv_status hvi_where_init(hvi_operation *op, hvi_router *router, int shard, hv_error **error) {
    return hvi_operation_init(op, &hvi_where, router, shard, error);
}

hvi_server *hvi_where_else(hvi_router *router, int shard, const hvi_server *server) {
    hvi_operation op;
    hvi_server *found = NULL;
    if (hvi_where_init(&op, router, shard, NULL) != HV_OK)
        return NULL;
    op.deadline = hvi_router_operation_deadline(router);
    hvi_lanes_run(&op);
    if (op.status == HV_OK && op.target.server != server)
        found = op.target.server;
    hvi_operation_fini(&op);
    return found;
}

bool hvi_where_read(hvi_item *const *items, size_t count, const PGresult *result) {
    (void) result;
    for (size_t i = 0; i < count; i++)
        items[i]->answered = true;
    return true;
}

static hvi_next found(hvi_operation *op) {
    op->key = op->target.server->number;
    return hvi_operation_done(op, HV_OK);
}

hvi_next hvi_where_answered(hvi_operation *op) {
    return found(op);
}

/* A schema that may not be used is there. */
hvi_next hvi_where_refused(hvi_operation *op, hv_error **cause) {
    if (hvi_error_has_sqlstate(*cause, "42501"))
        return found(op);
    return hvi_operation_fail(op, cause);
}

/* ---- rows ---- */

/* A row, or the answer of publish_shard(). */
bool hvi_locate_read(hvi_item *const *items, size_t count, const PGresult *result) {
    for (size_t i = 0; i < count; i++) {
        items[i]->answered = PQntuples(result) > 0;
        items[i]->result = result;
        items[i]->row = 0;
    }
    return true;
}

typedef struct place {
    hvi_location_state state;
    int64_t generation;
    const char *server; /* the result's */
} place;

static place read_place(const hvi_item *item) {
    if (!item->answered)
        return (place){.state = HVI_LOCATION_NONE};
    return (place){
        .state = hvi_location_state_of(hvi_text_at(item->result, item->row, 0)),
        .generation = hvi_integer_at(item->result, item->row, 1),
        .server = hvi_text_at(item->result, item->row, 2),
    };
}

/* ---- what is next ---- */

static hvi_server *believed(const hvi_operation *op) {
    int holder = hvi_router_holder(op->target.router, op->target.shard);
    return holder >= 0 ? &op->target.router->servers[holder] : op->target.server;
}

static int64_t generation(const hvi_operation *op) {
    return hvi_router_generation(op->target.router, op->target.shard);
}

/* Send again what has stopped. */
static hvi_next go_on(hvi_operation *op) {
    const hvi_verb *stopped = op->way.stopped;
    op->way.stopped = NULL;
    return hvi_operation_again(op, stopped, op->way.apart);
}

/* The same in a while. */
static hvi_next wait(hvi_operation *op, hv_error **cause) {
    hvi_way *way = &op->way;
    const hvi_verb *stopped = way->stopped;
    int ms = way->pauses < 6 ? 1 << way->pauses++ : MAX_PAUSE_MS;
    way->stopped = NULL;
    return hvi_operation_pause(op, stopped, way->apart, ms, cause);
}

static hvi_next fail(hvi_operation *op, hv_error **cause) {
    op->way.stopped = NULL;
    op->way.searched = 0;
    hvi_next next = hvi_operation_fail(op, cause);
    hv_error_free(*cause); /* if another one counts */
    *cause = NULL;
    return next;
}

/* There is nothing to follow. If the operation was sent here, the shard may still come. */
static hvi_next absent(hvi_operation *op) {
    hv_error *cause = hvi_error_copy(op->way.refusal);
    bool was_sent = op->way.hops > 0 && generation(op) > 0;
    if (!was_sent)
        hvi_router_forget(op->target.router, op->target.shard, op->target.server->number);
    hvi_next next = was_sent ? wait(op, &cause) : fail(op, &cause);
    hv_error_free(cause);
    return next;
}

static hvi_next fail_stranger(hvi_operation *op, const place *to) {
    const hvi_target *target = &op->target;
    hv_error *cause = NULL;
    hvi_fail(&cause, HV_NO_SERVER,
             "shard %d has moved to server \"%s\", which the configuration does not name",
             target->shard, to->server);
    hvi_error_detail(&cause, "Server \"%s\" says so.", target->server->name);
    hvi_error_hint(&cause, "Add a section [server %s] to the configuration.", to->server);
    return fail(op, &cause);
}

/* The server that the router believes in says that it has not got the shard any more, and what it
 * says is not new: another one that knows better has sent us here. */
static hvi_next fail_disagreement(hvi_operation *op, const place *to) {
    const hvi_target *target = &op->target;
    hv_error *cause = NULL;
    hvi_fail(&cause, HV_MISMATCH, "servers do not agree on where shard %d is", target->shard);
    hvi_error_detail(&cause,
                     "Server \"%s\" says that it has gone to server \"%s\" with generation "
                     "%" PRId64 "; but it came from there to server \"%s\" with generation "
                     "%" PRId64 ".",
                     target->server->name, to->server, to->generation, target->server->name,
                     generation(op));
    hvi_error_hint(&cause, "See the table hypervault.shard_locations on the servers.");
    return fail(op, &cause);
}

/* ---- a name that means nothing here ---- */

/* May this server be the one that another one gave this name? Numbered names are places in a list,
 * and lists differ. */
static bool may_be(const hvi_server *server, const char *name) {
    return hvi_layout_is_numbered(name) || hvi_layout_is_numbered(server->name);
}

static int number_of(const hvi_operation *op, const char *name) {
    return hvi_layout_is_numbered(name) ? -1 : hvi_options_server(op->target.router->options, name);
}

/* Ask the next server after this number. NULL: all have been asked. */
static hvi_server *next_candidate(const hvi_operation *op, int after) {
    hvi_router *router = op->target.router;
    for (int i = after + 1; i < router->server_count; i++)
        if (i != op->way.asker->number)
            return &router->servers[i];
    return NULL;
}

static hvi_next ask_next(hvi_operation *op, int after) {
    hvi_server *next = next_candidate(op, after);
    if (next != NULL) {
        op->target.server = next;
        return hvi_operation_again(op, &hvi_locate, false);
    }
    hv_error *cause = NULL;
    op->target.server = op->way.asker;
    if (op->cause != NULL) { /* one of them could not be asked */
        hvi_error_move(&cause, &op->cause);
    } else {
        hvi_fail(&cause, HV_NO_SERVER, "shard %d has moved, and no server of the store has it",
                 op->target.shard);
        hvi_error_detail(&cause, "It has gone from server \"%s\".", op->way.asker->name);
        hvi_error_hint(&cause, "Add the server to the configuration that has it.");
    }
    hvi_next end = fail(op, &cause);
    hv_error_free(cause);
    return end;
}

static hvi_next search(hvi_operation *op, const place *to) {
    const hvi_router *router = op->target.router;
    bool any = false;
    for (int i = 0; i < router->server_count; i++)
        any = any || (i != op->target.server->number && may_be(&router->servers[i], to->server));
    if (!any)
        return fail_stranger(op, to);
    op->way.searched = to->generation;
    op->way.asker = op->target.server;
    return ask_next(op, -1);
}

/* What one of all servers says. One from which it has gone again knows of a later move. */
static hvi_next take_found(hvi_operation *op, const place *found) {
    hvi_server *server = op->target.server;
    bool has_it = found->state == HVI_LOCATION_GONE ? found->generation > op->way.searched
                                                    : found->generation >= op->way.searched;
    if (found->state == HVI_LOCATION_NONE || !has_it)
        return ask_next(op, server->number);
    hvi_router_move(op->target.router, op->target.shard, server->number, op->way.searched);
    op->way.searched = 0;
    return hvi_operation_follow(op, believed(op));
}

/* ---- answers ---- */

/* It is not published, for this reason; NULL: it is not said why. */
static hvi_next await_publication(hvi_operation *op, const hv_error *why) {
    const hvi_target *target = &op->target;
    hv_error *cause = NULL;
    hvi_fail(&cause, HV_TIMEOUT, "shard %d has moved to server \"%s\", but was not published there",
             target->shard, target->server->name);
    if (why != NULL)
        hvi_error_detail(&cause, "%s", hv_error_message(why));
    hvi_error_hint(&cause, "The move goes on with `hv move --resume`.");
    hvi_error_where(&cause, target->server->name, target->shard);
    hvi_next next = wait(op, &cause);
    hv_error_free(cause);
    return next;
}

static hvi_next go_after(hvi_operation *op, const place *to) {
    int number = number_of(op, to->server);
    if (number < 0 && to->generation > generation(op))
        return search(op, to);
    if (number >= 0)
        hvi_router_move(op->target.router, op->target.shard, number, to->generation);
    hvi_server *server = believed(op);
    return server != op->target.server ? hvi_operation_follow(op, server)
                                       : fail_disagreement(op, to);
}

/* It has not gone from its old server yet, where it has the generation before, if that is news. If
 * it is not, the configuration is ahead of a move; then the router does not change. */
static hvi_next go_back(hvi_operation *op, const place *from) {
    const place old = {HVI_LOCATION_HERE, from->generation - 1, from->server};
    hvi_router *router = op->target.router;
    int number = number_of(op, old.server);
    if (number < 0)
        return old.generation > generation(op) ? search(op, &old) : await_publication(op, NULL);
    if (number == op->target.server->number)
        return fail_disagreement(op, from);
    hvi_router_move(router, op->target.shard, number, old.generation);
    bool is_detour = believed(op) != &router->servers[number];
    hvi_next next = hvi_operation_follow(op, &router->servers[number]);
    op->way.is_detour = is_detour && next != HVI_DONE;
    return next;
}

static hvi_next arrive(hvi_operation *op, const place *at) {
    if (at->generation > generation(op))
        return go_back(op, at);
    if (at->generation < generation(op))
        return absent(op);
    op->item.generation = at->generation;
    return hvi_operation_again(op, &hvi_publish, true); /* apart: it locks what others lock, too */
}

/* The row can be seen a moment before the schema: a transaction that commits is visible before it
 * has invalidated what other processes have cached of the catalogue, and on a busy machine that
 * moment may last. */
static hvi_next stay(hvi_operation *op, const place *at) {
    const hvi_target *target = &op->target;
    if (at->generation < generation(op) || op->way.repeats == MAX_REPEATS)
        return absent(op);
    hvi_router_move(target->router, target->shard, target->server->number, at->generation);
    if (op->way.repeats++ == 0)
        return go_on(op);
    hv_error *cause = hvi_error_copy(op->way.refusal);
    hvi_next next = wait(op, &cause);
    hv_error_free(cause);
    return next;
}

static hvi_next take_place(hvi_operation *op, const place *found) {
    if (op->way.searched > 0)
        return take_found(op, found);
    if (believed(op) != op->target.server && !op->way.is_detour)
        return hvi_operation_follow(op, believed(op));
    switch (found->state) {
    case HVI_LOCATION_GONE:
        return go_after(op, found);
    case HVI_LOCATION_ARRIVING:
        return arrive(op, found);
    case HVI_LOCATION_HERE:
        return stay(op, found);
    default:
        return absent(op);
    }
}

hvi_next hvi_locate_answered(hvi_operation *op) {
    place found = read_place(&op->item);
    return take_place(op, &found);
}

/* Without a table, or without the right to read it, nothing is known. When all servers are asked,
 * one that cannot be is passed over. */
hvi_next hvi_locate_refused(hvi_operation *op, hv_error **cause) {
    if (op->way.searched > 0 && !hvi_location_is_unknown(*cause)) {
        hvi_error_move(&op->cause, cause);
        return ask_next(op, op->target.server->number);
    }
    if (hvi_location_is_unknown(*cause))
        return take_place(op, &(place){.state = HVI_LOCATION_NONE});
    return fail(op, cause);
}

hvi_next hvi_publish_answered(hvi_operation *op) {
    const hvi_item *item = &op->item;
    hvi_location_state state = hvi_location_state_of(hvi_text_at(item->result, item->row, 0));
    return state == HVI_LOCATION_HERE ? go_on(op) : await_publication(op, NULL);
}

hvi_next hvi_publish_refused(hvi_operation *op, hv_error **cause) {
    return await_publication(op, *cause);
}
