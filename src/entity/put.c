/*
 * put: store one entity.
 *
 * The statements that a put's item sends, and what leads from one to the next:
 *
 *     put:       put ──► stored, or swallowed: HV_NOT_STORED
 *                 └─ the made key has an entity: put again, apart
 *
 *     put_key:   put_key ──► stored
 *                 │   ▲
 *                 ▼   │ there is nothing: again, apart, where the server says why it is not stored;
 *                 │   │ but HV_NOT_STORED if it was swallowed
 *                get ─┴──► the same: as stored; another: HV_CONFLICT
 *
 *     put_once:  reserve ──► put_once ──► stored; get as above
 *                   ▲           └─ the key has an entity: `unknown`: it is this put's, so stored
 *                   └──────────────────────────────────── else: an older one, take another key
 *
 * The primary key is why a put is never doubled or mixed up with another. A put under a key that
 * the database made and that meets an entity (the portable generator may make a key twice) has
 * stored nothing and takes another key. A put under a reserved key that meets an entity has met its
 * own earlier try: no other put was given that key.
 */
#include "entity/put.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "value/hstore.h"
#include "value/limits.h"
#include "wire/refusal.h"
#include "entity/get.h"
#include "entity/group.h"
#include "entity/reserve.h"

/* Collisions of made keys that are tried again at once; after that, a pause between tries. */
#define QUICK_TRIES 8
#define PAUSE_MS    1

/* How often a key is tried that has an entity which is never found when it is fetched. */
#define HIDDEN_TRIES 8

/* ---- setting up ---- */

/* Set the rest of a put; `status` is the outcome of setting up its target. */
static hv_status set_content(hvi_operation *op, hv_status status, int kind, const hv_dict *dict,
                             hv_error **error) {
    if (status == HV_OK)
        status = hvi_check_kind(kind, error);
    op->item.kind = kind;
    op->item.count = 1; /* of keys, if one is to be reserved */
    return status == HV_OK ? hvi_operation_add_part(op, dict, error) : status;
}

hv_status hvi_put_init(hvi_operation *op, hvi_router *router, hvi_key_cache *reserved, int shard,
                       int kind, const hv_dict *dict, hv_error **error) {
    const hvi_verb *verb = reserved != NULL ? &hvi_put_once : &hvi_put;
    hv_status status = hvi_operation_init(op, verb, router, shard, error);
    op->reserved = reserved;
    op->repeat = reserved != NULL ? HVI_REPEAT_UNTIL_DONE : HVI_REPEAT_NEVER;
    return set_content(op, status, kind, dict, error);
}

hv_status hvi_put_key_init(hvi_operation *op, hvi_router *router, int64_t key, int kind,
                           const hv_dict *dict, hv_error **error) {
    hv_status status = hvi_operation_init_key(op, &hvi_put_key, router, key, error);
    return set_content(op, status, kind, dict, error);
}

/* ---- what a statement has stored ---- */

static void answer_new_key(hvi_item *item, int64_t key) {
    item->answered = true;
    item->new_key = key;
}

/* The plain statements return the key that was stored; put_once returns the next key. No row:
 * nothing was stored. */
bool hvi_put_read(hvi_item *const *items, size_t count, const PGresult *result) {
    (void) count; /* 1 */
    hvi_item *item = items[0];
    item->swallowed = PQntuples(result) == 0;
    if (item->swallowed)
        return true;
    int64_t key = hvi_integer_at(result, 0, 0);
    if (item->verb == &hvi_put_key)
        item->answered = key == item->key;
    else
        answer_new_key(item, key);
    return item->answered;
}

/* Is this key in the array? Answers mostly come in the order of the items: the search begins at
 * *next, which then moves past the key that was found. */
static bool has_stored(const PGresult *result, int column, size_t count, int64_t key,
                       size_t *next) {
    for (size_t i = 0; i < count; i++) {
        size_t place = *next + i < count ? *next + i : *next + i - count;
        if (hvi_array_at(result, column, place) == key) {
            *next = place + 1 < count ? place + 1 : 0;
            return true;
        }
    }
    return false;
}

/* The answer: the keys that were made for the items, in their order, and those of them that were
 * stored; NULL: all. Allocates no memory: what is stored must be reported as stored. */
bool hvi_put_read_many(hvi_item *const *items, size_t count, const PGresult *result) {
    size_t made, stored = 0, next = 0, found = 0;
    bool all = PQgetisnull(result, 0, 1);
    if (!hvi_array_check(result, 0, &made) || made != count ||
        (!all && !hvi_array_check(result, 1, &stored)))
        return false;
    for (size_t i = 0; i < count; i++) {
        int64_t key = hvi_array_at(result, 0, i);
        if (all || has_stored(result, 1, stored, key, &next)) {
            answer_new_key(items[i], key);
            found++;
        } else {
            items[i]->swallowed = true;
        }
    }
    return all || found == stored;
}

/* An entity is stored under this key. False if no item puts under it. */
static bool answer_key(hvi_item *const *items, size_t count, int64_t key, int64_t next) {
    size_t at = hvi_items_find(items, count, key);
    if (at == count || items[at]->key != key)
        return false;
    answer_new_key(items[at], next);
    return true;
}

/* The answer: the keys that were stored; NULL: all. */
bool hvi_put_key_read_many(hvi_item *const *items, size_t count, const PGresult *result) {
    size_t stored = count;
    bool all = PQgetisnull(result, 0, 0);
    if (!all && !hvi_array_check(result, 0, &stored))
        return false;
    for (size_t i = 0; i < stored; i++)
        if (!answer_key(items, count, all ? items[i]->key : hvi_array_at(result, 0, i), 0))
            return false;
    return true;
}

/* The answer: a row for each item that was stored, with its key and the next one. */
bool hvi_put_once_read_many(hvi_item *const *items, size_t count, const PGresult *result) {
    for (int row = 0; row < PQntuples(result); row++)
        if (!answer_key(items, count, hvi_integer_at(result, row, 0),
                        hvi_integer_at(result, row, 1)))
            return false;
    return true;
}

/* ---- under a new key ---- */

/* The server has neither stored it nor reported an error. */
static hvi_next end_swallowed(hvi_operation *op) {
    hv_error *cause = NULL;
    hvi_target_fail_not_stored(&op->target, NULL, &cause);
    hvi_next next = hvi_operation_fail(op, &cause);
    hv_error_free(cause);
    return next;
}

/* An entity whose key does not lead back to its shard would never be found again. */
static hv_status check_made_key(const hvi_operation *op, int64_t made, hv_error **error) {
    if (hvi_target_has_key(&op->target, made))
        return HV_OK;
    hv_status status = hvi_target_fail_keys(&op->target, "next_id", error);
    hvi_error_detail(error, "The entity was stored with the key %" PRId64 ".", made);
    return status;
}

hvi_next hvi_put_answered(hvi_operation *op) {
    const hvi_item *item = &op->item;
    if (item->swallowed)
        return end_swallowed(op);
    hv_status status = check_made_key(op, item->new_key, &op->error);
    if (status == HV_OK)
        op->key = item->new_key;
    return hvi_operation_done(op, status);
}

/* A made key that already has an entity does not concern the caller: another is taken. */
hvi_next hvi_put_refused(hvi_operation *op, hv_error **cause) {
    if (op->in_transaction || !hvi_refusal_is_key_collision(*cause))
        return hvi_operation_fail(op, cause);
    if (++op->collisions >= QUICK_TRIES)
        return hvi_operation_pause(op, &hvi_put, true, PAUSE_MS, cause);
    hvi_error_move(&op->cause, cause);
    return hvi_operation_again(op, &hvi_put, true);
}

/* ---- under a given key ---- */

static hvi_next fail_conflict(hvi_operation *op) {
    hv_status status = hvi_target_fail_conflict(&op->target, op->item.key, &op->error);
    hvi_error_hint(&op->error, "Use each reserved key for one entity.");
    return hvi_operation_done(op, status);
}

/* The key has an entity that cannot be read: op->refusal says that it is there. */
static hvi_next fail_hidden(hvi_operation *op) {
    hv_error **error = &op->error;
    hvi_fail(error, HV_CONFLICT, "the key %" PRId64 " has an entity that cannot be read",
             op->item.key);
    hvi_error_detail(error, "The server said: %s", hv_error_message(op->refusal));
    hvi_error_hint(error, "See whether the table has row-level security that hides it from this "
                          "role.");
    hvi_error_sqlstate(error, hv_error_sqlstate(op->refusal));
    hvi_error_where(error, op->target.server->name, op->target.shard);
    return hvi_operation_done(op, HV_CONFLICT);
}

/* Is the entity under the key the one that was to be put there? */
static hv_status compare(hvi_operation *op, bool *same) {
    hv_entity *there = NULL;
    hv_dict *dict = NULL;
    const hvi_item *item = &op->item;
    hv_status status = hvi_get_take(op, &there, &op->error);
    if (status == HV_OK)
        status = hvi_hstore_decode(item->body, item->body_len, &dict, &op->error);
    if (status == HV_OK)
        *same = hv_entity_kind(there) == item->kind && hv_dict_equal(hv_entity_dict(there), dict);
    hv_entity_free(there);
    hv_dict_free(dict);
    return status;
}

static hvi_next take_another_key(hvi_operation *op) {
    hv_error_free(op->refusal); /* of the key that it leaves */
    op->refusal = NULL;
    op->item.key = 0;
    return hvi_operation_again(op, op->verb, false);
}

static hvi_next end_stored(hvi_operation *op) {
    op->key = op->item.key;
    return hvi_operation_done(op, HV_OK);
}

/* There is no entity under the key, though one was in the way. */
static hvi_next put_again(hvi_operation *op) {
    /* It was removed between the two statements; or it was never there, and the put was refused for
     * another constraint, or was swallowed when it went together with others. */
    if (op->refusal == NULL)
        return hvi_operation_again(op, op->verb, true);
    if (!hvi_refusal_is_key_collision(op->refusal))
        return hvi_operation_fail(op, &op->refusal);
    if (++op->hidden < HIDDEN_TRIES)
        return hvi_operation_pause(op, op->verb, true, PAUSE_MS, NULL);
    if (op->verb != &hvi_put_once)
        return fail_hidden(op);
    return op->unknown ? end_stored(op) : take_another_key(op);
}

static hvi_next compared(hvi_operation *op) {
    bool same = false;
    if (!op->item.answered)
        return op->swallowed ? end_swallowed(op) : put_again(op);
    if (op->verb == &hvi_put_once)
        return op->unknown ? end_stored(op) : take_another_key(op);
    hv_status status = compare(op, &same);
    return status == HV_OK && !same ? fail_conflict(op) : hvi_operation_done(op, status);
}

/* The key has an entity: fetch it, to compare. */
static hvi_next fetch(hvi_operation *op) {
    return hvi_operation_again(op, &hvi_get, false);
}

hvi_next hvi_put_key_answered(hvi_operation *op) {
    if (op->item.verb == &hvi_get)
        return compared(op);
    if (op->item.answered)
        return end_stored(op);
    op->swallowed = op->item.swallowed;
    hv_error_free(op->refusal);
    op->refusal = NULL;
    return fetch(op);
}

hvi_next hvi_put_key_refused(hvi_operation *op, hv_error **cause) {
    if (op->item.verb == &hvi_reserve && !op->unknown)
        return hvi_reserve_refused(op, cause);
    bool is_put = op->item.verb == op->verb;
    if (!is_put || (!hvi_refusal_is_unique_violation(*cause) && !hvi_refusal_is_of_row(*cause)))
        return hvi_operation_fail(op, cause);
    if (op->in_transaction && !hvi_refusal_is_key_collision(*cause))
        return hvi_operation_fail(op, cause);
    hvi_error_move(&op->refusal, cause);
    op->swallowed = false;
    return op->in_transaction ? fail_hidden(op) : fetch(op);
}

/* ---- exactly once ---- */

/* Without a key, take one that came with an earlier put, or else reserve one first. */
void hvi_put_once_prepare(hvi_operation *op) {
    hvi_item *item = &op->item;
    op->asked_at = hvi_clock_us();
    if (item->key != 0)
        return;
    bool has_key = hvi_key_cache_take(op->reserved, op->target.shard, op->asked_at, &item->key);
    item->verb = has_key ? &hvi_put_once : &hvi_reserve;
}

hvi_next hvi_put_once_answered(hvi_operation *op) {
    hvi_item *item = &op->item;
    if (item->verb == &hvi_reserve) {
        hv_status status = hvi_reserve_take(op, &item->key, &op->error);
        return status == HV_OK ? hvi_operation_again(op, &hvi_put_once, false)
                               : hvi_operation_done(op, status);
    }
    if (hvi_target_has_key(&op->target, item->new_key))
        hvi_key_cache_give(op->reserved, op->target.shard, item->new_key, op->asked_at);
    return hvi_put_key_answered(op);
}
