/*
 * operation: one operation on an entity, and what each answer or failure means for it.
 */
#include "entity/operation.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "value/hstore.h"
#include "wire/exchange.h"
#include "wire/refusal.h"

/* How often an operation takes another connection because one has cached something obsolete. */
#define MAX_STALE 2

/* The pause between tries of an operation that is repeated until it is done. */
#define RETRY_MS 20

/* How often an operation goes from one server to another after its shard. */
#define MAX_HOPS 8

/* ---- life ---- */

hv_status hvi_operation_init(hvi_operation *op, const hvi_verb *verb, hvi_router *router, int shard,
                             hv_error **error) {
    *op = (hvi_operation){.verb = verb, .item = {.verb = verb, .shard = shard}};
    return hvi_target_init_later(&op->target, router, shard, error);
}

hv_status hvi_operation_init_key(hvi_operation *op, const hvi_verb *verb, hvi_router *router,
                                 int64_t key, hv_error **error) {
    *op = (hvi_operation){.verb = verb, .item = {.verb = verb, .key = key}, .key = key};
    hv_status status = hvi_target_init_key(&op->target, router, key, error);
    op->item.shard = op->target.shard;
    return status;
}

/* The server closes the connection over a message of more than a gigabyte. The rest of the message
 * with the body needs less than the 256 bytes that this leaves. */
#define BODY_MAX ((size_t) 0x3FFFFF00)

/* Is there room for a part of this size? */
static hv_status check_room(const hvi_operation *op, size_t size, hv_error **error) {
    size_t total = op->body.len + size;
    if (total <= BODY_MAX)
        return HV_OK;
    hvi_fail(error, HV_INVALID, "the attributes are too large");
    hvi_error_detail(error, "They take %zu bytes; an entity has room for %zu.", total, BODY_MAX);
    return HV_INVALID;
}

static hv_status end_part(hvi_operation *op, hv_error **error) {
    op->item.body = op->body.data;
    op->item.body_len = op->item.ends[op->part_count++] = op->body.len;
    return hvi_buffer_ok(&op->body) ? HV_OK : hvi_no_memory(error);
}

hv_status hvi_operation_add_part(hvi_operation *op, const hv_dict *dict, hv_error **error) {
    hv_status status = check_room(op, hvi_hstore_size(dict), error);
    if (status != HV_OK)
        return status;
    hvi_hstore_encode(dict, &op->body);
    return end_part(op, error);
}

hv_status hvi_operation_add_text(hvi_operation *op, const char *text, hv_error **error) {
    hv_status status = check_room(op, strlen(text), error);
    if (status != HV_OK)
        return status;
    hvi_buffer_append_text(&op->body, text);
    return end_part(op, error);
}

void hvi_operation_fini(hvi_operation *op) {
    hv_error_free(op->way.refusal);
    hv_error_free(op->refusal);
    hv_error_free(op->cause);
    hv_error_free(op->error);
    hv_entity_free(op->entity);
    hvi_buffer_fini(&op->body);
    hvi_ask_free(op->item.ask);
    op->item.ask = NULL;
    op->way.refusal = op->refusal = op->cause = op->error = NULL;
    op->entity = NULL;
}

void hvi_operation_prepare(hvi_operation *op) {
    hvi_item *item = &op->item;
    item->error = NULL;
    item->answered = false;
    item->swallowed = false;
    item->is_there = item->holds = item->shares_key = false;
    item->new_key = 0;
    item->result = NULL;
    if (op->verb->prepare != NULL && op->way.stopped == NULL)
        op->verb->prepare(op);
}

/* ---- ends ---- */

hvi_next hvi_operation_done(hvi_operation *op, hv_status status) {
    op->status = status;
    return HVI_DONE;
}

/* No try was confirmed, and one may have succeeded. `cause` is that of the last. */
static hvi_next fail_unknown(hvi_operation *op, const hv_error *cause) {
    hv_error **error = &op->error;
    hvi_operation_fail_unknown(op);
    hvi_error_detail(error, "Last: %s", hv_error_message(cause));
    hvi_error_sqlstate(error, hv_error_sqlstate(cause));
    return HVI_DONE;
}

hvi_next hvi_operation_fail_unknown(hvi_operation *op) {
    hv_error **error = &op->error;
    const char *deed = op->verb->deed;
    int64_t key = op->item.key;
    if (hvi_interrupted())
        hvi_fail(error, HV_OUTCOME_UNKNOWN, "interrupted before %s %" PRId64 " was confirmed", deed,
                 key);
    else
        hvi_fail(error, HV_OUTCOME_UNKNOWN, "%s %" PRId64 " was not confirmed", deed, key);
    hvi_error_hint(error, "%s", op->verb->if_unknown);
    hvi_error_where(error, op->target.server->name, op->target.shard);
    return hvi_operation_done(op, HV_OUTCOME_UNKNOWN);
}

/* No unused key was found before the deadline. */
static hvi_next fail_collision(hvi_operation *op) {
    hvi_refusal_explain_collision(&op->cause);
    return hvi_operation_done(op, hvi_error_move(&op->error, &op->cause));
}

hvi_next hvi_operation_fail(hvi_operation *op, hv_error **cause) {
    if (op->repeat != HVI_REPEAT_NEVER && op->unknown)
        return fail_unknown(op, *cause);
    if (op->collisions > 0 && hv_error_status(*cause) == HV_TIMEOUT)
        return fail_collision(op);
    return hvi_operation_done(op, hvi_target_explain(&op->target, cause, &op->error));
}

static hvi_next fail_as(hvi_operation *op, const hv_error *cause) {
    hv_error *copy = hvi_error_copy(cause);
    hvi_next next = hvi_operation_fail(op, &copy);
    hv_error_free(copy);
    return next;
}

/* ---- another try ---- */

hvi_next hvi_operation_again(hvi_operation *op, const hvi_verb *sends, bool apart) {
    op->item.verb = sends;
    op->apart = apart;
    return HVI_AGAIN;
}

hvi_next hvi_operation_pause(hvi_operation *op, const hvi_verb *sends, bool apart, int ms,
                             hv_error **cause) {
    if (cause != NULL)
        hvi_error_move(&op->cause, cause);
    op->pause_ms = ms;
    hvi_operation_again(op, sends, apart);
    return HVI_PAUSE;
}

/* Wait until the cause has passed. */
static hvi_next wait_out(hvi_operation *op, bool apart, const hv_error *cause) {
    hv_error *copy = hvi_error_copy(cause);
    return hvi_operation_pause(op, op->item.verb, apart, RETRY_MS, &copy);
}

/* ---- a shard that has moved ---- */

/* Ask where it is, unless the router has heard of it meanwhile. */
static hvi_next look_for_shard(hvi_operation *op, const hv_error *cause) {
    const hvi_target *target = &op->target;
    hvi_way *way = &op->way;
    way->stopped = op->item.verb;
    way->apart = op->apart;
    hv_error_free(way->refusal);
    way->refusal = hvi_error_copy(cause);
    int holder = hvi_router_holder(target->router, target->shard);
    if (holder >= 0 && holder != target->server->number && !way->is_detour)
        return hvi_operation_follow(op, &target->router->servers[holder]);
    return hvi_operation_again(op, &hvi_locate, false);
}

static hvi_next fail_hops(hvi_operation *op) {
    hv_error *cause = NULL;
    hvi_fail(&cause, HV_MISMATCH, "shard %d is on none of the servers that should have it",
             op->target.shard);
    hvi_error_detail(&cause, "Each named another one, %d times.", MAX_HOPS);
    hvi_error_hint(&cause, "See the table hypervault.shard_locations on the servers.");
    hvi_next next = hvi_operation_fail(op, &cause);
    hv_error_free(cause);
    return next;
}

hvi_next hvi_operation_follow(hvi_operation *op, hvi_server *server) {
    hvi_way *way = &op->way;
    const hvi_verb *stopped = way->stopped;
    op->target.server = server;
    op->lost = op->stale = 0;
    way->stopped = NULL;
    way->is_detour = false;
    way->repeats = 0;
    if (way->hops++ == MAX_HOPS)
        return fail_hops(op);
    return hvi_operation_again(op, stopped, way->apart);
}

/* ---- fates ---- */

/* While it asks where its shard is, that verb decides. */
static const hvi_verb *decider(const hvi_operation *op) {
    return op->way.stopped != NULL ? op->item.verb : op->verb;
}

/* Nothing has happened. If the cause is only something that the connection has cached, it is worth
 * another try on another connection, with a statement that refers to nothing by its number. */
static hvi_next refused(hvi_operation *op, const hv_error *cause) {
    hvi_refusal refusal = hvi_error_refusal_of(cause);
    bool is_stale = refusal == HVI_REFUSAL_TYPES || refusal == HVI_REFUSAL_RESULT;
    if (!op->in_transaction && is_stale && op->stale++ < MAX_STALE)
        return hvi_operation_again(op, op->item.verb, true);
    if (!op->in_transaction && op->repeat == HVI_REPEAT_UNTIL_DONE && hv_error_retriable(cause))
        return wait_out(op, true, cause);
    if (!op->in_transaction && op->way.stopped == NULL && hvi_target_is_missing(&op->target, cause))
        return look_for_shard(op, cause);
    hv_error *copy = hvi_error_copy(cause);
    hvi_next next = decider(op)->refused(op, &copy);
    hv_error_free(copy);
    return next;
}

/* A lost connection leaves nothing unknown about a read: nothing was to be written. */
static hvi_next fail_read(hvi_operation *op, const hv_error *cause) {
    if (hv_error_status(cause) != HV_OUTCOME_UNKNOWN || op->unknown)
        return fail_as(op, cause);
    op->status = hvi_fail_lost(op->target.server->name, op->target.shard, &op->error);
    if (hv_error_detail(cause) != NULL)
        hvi_error_detail(&op->error, "%s", hv_error_detail(cause));
    hvi_error_sqlstate(&op->error, hv_error_sqlstate(cause));
    return HVI_DONE;
}

/* `cause` is the error of all operations that shared the connection. */
static hvi_next lost(hvi_operation *op, const hv_error *cause) {
    hv_status status = hv_error_status(cause);
    if (op->in_transaction)
        return fail_as(op, cause);
    bool is_unknown = status == HV_OUTCOME_UNKNOWN && op->item.verb->is_write;
    op->unknown = op->unknown || is_unknown;
    if (hvi_is_late(op->deadline) && status == HV_OUTCOME_UNKNOWN && !is_unknown)
        return hvi_operation_late(op, true);
    if (hvi_is_late(op->deadline))
        return fail_as(op, cause);
    if (is_unknown && (op->repeat == HVI_REPEAT_NEVER || op->item.shares_key))
        return fail_as(op, cause);
    if (op->repeat == HVI_REPEAT_UNTIL_DONE && status != HV_NO_MEMORY)
        return wait_out(op, false, cause);
    if (status == HV_TIMEOUT || (status != HV_NO_MEMORY && op->lost++ == 0))
        return hvi_operation_again(op, op->item.verb, op->apart);
    return is_unknown ? fail_as(op, cause) : fail_read(op, cause);
}

/* There was no connection available for it. */
static hvi_next unsent(hvi_operation *op, const hv_error *cause) {
    bool waits = op->repeat == HVI_REPEAT_UNTIL_DONE && hv_error_retriable(cause);
    return waits ? wait_out(op, op->apart, cause) : fail_as(op, cause);
}

/* One of many servers that are asked which has the shard could not be. */
static hvi_next ask_others(hvi_operation *op, const hv_error *cause) {
    hv_error *copy = hvi_error_copy(cause);
    hvi_next next = op->item.verb->refused(op, &copy);
    hv_error_free(copy);
    return next;
}

hvi_next hvi_operation_take(hvi_operation *op) {
    const hv_error *cause = op->item.error;
    if (op->way.searched > 0 && cause != NULL && !hvi_is_late(op->deadline))
        return ask_others(op, cause);
    switch (op->item.fate) {
    case HVI_FATE_ANSWERED:
        return cause == NULL ? decider(op)->answered(op) : fail_as(op, cause);
    case HVI_FATE_REFUSED:
        return refused(op, cause);
    case HVI_FATE_LOST:
        return lost(op, cause);
    case HVI_FATE_BEHIND:
        return hvi_operation_again(op, op->item.verb, op->apart);
    default:
        return unsent(op, cause);
    }
}

bool hvi_operation_wait(hvi_operation *op) {
    int ms = op->pause_ms;
    if (!hvi_is_late(op->deadline - INT64_C(1000) * ms) && hvi_pause(ms))
        return true;
    hvi_operation_late(op, false);
    return false;
}

static void fail_waiting(const hvi_operation *op, hv_error **error) {
    hvi_fail_waiting(op->target.server->name, "connection", error);
    if (!hvi_interrupted())
        hvi_error_hint(error, "The server is too slow for its load: see the option "
                              "\"operation_timeout\".");
    else if (op->cause != NULL)
        hvi_error_detail(error, "Last: %s", hv_error_message(op->cause));
}

hvi_next hvi_operation_late(hvi_operation *op, bool is_sent) {
    hv_error *cause = NULL;
    bool is_unknown = is_sent && op->item.verb->is_write;
    if (is_sent)
        hvi_fail_late(op->target.server->name, op->target.shard, is_unknown, &cause);
    else if (hvi_interrupted() || (op->cause == NULL && op->refusal == NULL))
        fail_waiting(op, &cause);
    else if (op->collisions > 0)
        return fail_collision(op);
    else
        hvi_error_move(&cause, op->cause != NULL ? &op->cause : &op->refusal);
    op->unknown = op->unknown || is_unknown;
    hvi_next next = hvi_operation_fail(op, &cause);
    hv_error_free(cause);
    return next;
}
