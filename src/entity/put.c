/*
 * put: store one entity.
 *
 * Why a put is never doubled or mixed up with another's: the primary key. A put under a key of the
 * database's making that meets an entity (the portable generator may make a key twice) has stored
 * nothing and takes another key. A put under a reserved key that meets an entity has met its own
 * earlier try: nobody else was given that key.
 */
#include "entity/put.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "value/hstore.h"
#include "value/hstore_text.h"
#include "value/key.h"
#include "value/limits.h"
#include "entity/get.h"
#include "entity/reserve.h"

/* The server ends the connection over a message of more than a gigabyte. What else is in the
 * message that takes the body there needs less than the 256 bytes that this leaves. */
#define BODY_MAX ((size_t) 0x3FFFFF00)

/* ---- the statement ---- */

/* One put's parameters: key (not for made ones), kind, body. */
typedef struct hvi_put_call {
    hvi_operation operation;
    int64_t key; /* 0: the database makes one */
    int kind;
    const hv_dict *dict;
    hvi_buffer body;      /* hstore, binary */
    hvi_buffer body_text; /* for the log; empty if it does not want it */
} hvi_put_call;

hv_status hvi_put_encode(const hv_dict *dict, hvi_buffer *body, hv_error **error) {
    size_t size = hvi_hstore_size(dict);
    if (size > BODY_MAX) {
        hvi_fail(error, HV_INVALID, "the attributes are too large");
        hvi_error_detail(error, "They take %zu bytes; an entity has room for %zu.", size, BODY_MAX);
        return HV_INVALID;
    }
    hvi_hstore_encode(dict, body);
    return hvi_buffer_ok(body) ? HV_OK : hvi_no_memory(error);
}

/* The operation is set up; encode the rest. */
static hv_status init_call(hvi_put_call *call, int kind, const hv_dict *dict, hv_error **error) {
    call->kind = kind;
    call->dict = dict;
    hv_status status = hvi_put_encode(dict, &call->body, error);
    if (status == HV_OK && call->operation.wants_parameters && dict != NULL)
        hvi_hstore_print(dict, &call->body_text);
    return hvi_buffer_ok(&call->body_text) ? status : hvi_no_memory(error);
}

static void fini_call(hvi_put_call *call) {
    hvi_buffer_fini(&call->body);
    hvi_buffer_fini(&call->body_text);
}

/* What the plain statement gave: the key of the row that was stored; of PUT_ONCE the next one. */
static hv_status take_answer(const hvi_put_call *call, hvi_statement_verb verb,
                             const PGresult *result, int64_t *key, hv_error **error) {
    const hvi_operation *operation = &call->operation;
    const hvi_form *form = hvi_answer_form(verb);
    const char *server = operation->server->name;
    hv_status status = hvi_result_check(result, form, server, operation->shard, error);
    *key = 0;
    if (status != HV_OK)
        return status;
    if (PQntuples(result) == 0)
        return hvi_operation_fail_not_stored(operation, NULL, error);
    *key = hvi_integer_at(result, 0, 0);
    if (verb == HVI_STATEMENT_PUT_KEY && *key != call->key)
        return hvi_fail_answer(server, operation->shard, form->asked, error, "sent another");
    return HV_OK;
}

/* With the plain statement. */
static hv_status run_alone(hvi_put_call *call, hvi_verb as, int64_t deadline, int64_t *key,
                           hv_error **error) {
    hvi_statement_verb verb = as == HVI_PUT       ? HVI_STATEMENT_PUT
                              : as == HVI_PUT_KEY ? HVI_STATEMENT_PUT_KEY
                                                  : HVI_STATEMENT_PUT_ONCE;
    hvi_operation *operation = &call->operation;
    char kind_text[16], key_text[32];
    uint16_t kind_wire = htobe16((uint16_t) call->kind);
    uint64_t key_wire = htobe64((uint64_t) call->key);
    if (operation->wants_parameters) {
        snprintf(kind_text, sizeof kind_text, "%d", call->kind);
        snprintf(key_text, sizeof key_text, "%" PRId64, call->key);
    }
    const char *body_text = call->body_text.len > 0 ? call->body_text.data : "";
    const char *log_values[] = {kind_text, body_text, key_text};
    const char *values[] = {(const char *) &kind_wire, call->body.data, (const char *) &key_wire};
    const int lengths[] = {sizeof kind_wire, (int) call->body.len, sizeof key_wire};
    const int formats[] = {1, 1, 1};
    hvi_query query = {
        .is_write = true,
        .parameter_count = call->key != 0 ? 3 : 2,
        .values = values,
        .lengths = lengths,
        .formats = formats,
        .binary_result = true,
        .log_values = operation->wants_parameters ? log_values : NULL,
    };
    PGresult *result = NULL;
    hv_status status = hvi_operation_run(operation, verb, &query, deadline, &result, error);
    if (status == HV_OK)
        status = take_answer(call, verb, result, key, error);
    PQclear(result);
    return status;
}

/*
 * Run PUT, PUT_KEY or PUT_ONCE, in a lane if that can be. *key is what it gives back: the key that
 * was made, or the next one, reserved; 0 if there is none.
 */
static hv_status run_call(hvi_put_call *call, hvi_verb verb, int64_t deadline, int64_t *key,
                          hv_error **error) {
    hvi_operation *operation = &call->operation;
    hvi_lane_request request = {
        .item = {.verb = verb,
                 .shard = operation->shard,
                 .key = call->key,
                 .kind = call->kind,
                 .body = call->body.data,
                 .body_len = call->body.len},
        .deadline = deadline,
    };
    hvi_lane_answer answer;
    hv_status status;
    switch (hvi_operation_share(operation, &request, &answer, error)) {
    case HVI_LANE_DONE:
        *key = answer.key;
        hvi_lane_answer_fini(&answer);
        return answer.status;
    case HVI_LANE_ALONE:
        status = run_alone(call, verb, deadline, key, error);
        hvi_lane_leave(operation->server->lanes, &answer);
        return status;
    default:
        return run_alone(call, verb, deadline, key, error);
    }
}

hv_status hvi_put_check_made_key(const hvi_operation *operation, int64_t made, hv_error **error) {
    hvi_key_fields fields;
    if (hvi_key_unpack(made, &fields) && fields.shard == operation->shard)
        return HV_OK;
    hvi_fail(error, HV_CORRUPT, "%s.next_id() does not make keys of shard %d", operation->schema,
             operation->shard);
    hvi_error_detail(error, "The entity was stored with the key %" PRId64 ".", made);
    hvi_error_where(error, operation->server->name, operation->shard);
    return HV_CORRUPT;
}

bool hvi_put_is_unique_violation(const hv_error *cause) {
    const char *sqlstate = hv_error_sqlstate(cause);
    return sqlstate != NULL && strcmp(sqlstate, "23505") == 0;
}

bool hvi_put_is_key_collision(const hv_error *cause) {
    const char *constraint = hv_error_constraint(cause);
    return hvi_put_is_unique_violation(cause) && constraint != NULL &&
           strcmp(constraint, HVI_ENTITIES_KEY) == 0;
}

/* ---- under a new key ---- */

hv_status hvi_put_fail_collision(hv_error **cause, hv_error **error) {
    hvi_error_hint(cause, "The shard makes keys that it has made before: its server's clock may "
                          "have been set back. Strict keys do not depend on it.");
    hvi_error_retriable(cause, true);
    return hvi_error_move(error, cause);
}

/* A made key that an entity has already is not the caller's affair: another is taken. */
static hv_status put_under_made_key(hvi_put_call *call, int64_t deadline, int64_t *made,
                                    hv_error **error) {
    hv_error *cause = NULL, *collision = NULL;
    hv_status status;
    for (int try = 1;; try++) {
        status = run_call(call, HVI_PUT, deadline, made, &cause);
        bool collides = status == HV_REFUSED && hvi_put_is_key_collision(cause);
        if (collides)
            hvi_error_move(&collision, &cause);
        bool is_late =
            status == HV_TIMEOUT || (collides && hvi_is_late(deadline - HVI_PUT_PAUSE_MS * 1000));
        if (collision != NULL && is_late) {
            status = hvi_put_fail_collision(&collision, error);
            break;
        }
        if (!collides) {
            if (status != HV_OK)
                hvi_error_move(error, &cause);
            break;
        }
        if (try >= HVI_PUT_QUICK_TRIES)
            hvi_pause(HVI_PUT_PAUSE_MS);
    }
    hv_error_free(cause);
    hv_error_free(collision);
    if (status == HV_OK && *made == 0)
        status = hvi_operation_fail_answer(&call->operation, error);
    return status;
}

hv_status hvi_put(hvi_router *router, int shard, int kind, const hv_dict *dict, int64_t deadline,
                  int64_t *key, hv_error **error) {
    hvi_put_call call = {.body = HVI_BUFFER_EMPTY, .body_text = HVI_BUFFER_EMPTY};
    int64_t made = 0;
    hv_status status = hvi_check_kind(kind, error);
    if (status == HV_OK)
        status = hvi_operation_init(&call.operation, router, shard, error);
    if (status == HV_OK)
        status = init_call(&call, kind, dict, error);
    if (status == HV_OK)
        status = put_under_made_key(&call, deadline, &made, error);
    if (status == HV_OK)
        status = hvi_put_check_made_key(&call.operation, made, error);
    if (status == HV_OK)
        *key = made;
    fini_call(&call);
    return status;
}

/* ---- under a key that the caller has ---- */

/* Is what lies under the key what the call would put there? *same is set on HV_OK; HV_NOT_FOUND if
 * nothing is there. */
static hv_status compare(hvi_put_call *call, int64_t deadline, bool *same, hv_error **error) {
    hv_entity *there = NULL;
    hv_status status = hvi_get(call->operation.router, call->key, deadline, &there, error);
    if (status == HV_OK) {
        static const hv_dict nothing;
        const hv_dict *dict = call->dict != NULL ? call->dict : &nothing;
        *same = hv_entity_kind(there) == call->kind && hv_dict_equal(hv_entity_dict(there), dict);
    }
    hv_entity_free(there);
    return status;
}

/* Is it one that the statement may reserve? */
static bool is_of_shard(const hvi_put_call *call, int64_t key) {
    hvi_key_fields fields;
    return hvi_key_unpack(key, &fields) && fields.shard == call->operation.shard;
}

hv_status hvi_put_fail_conflict(const hvi_operation *operation, int64_t key, hv_error **error) {
    hvi_fail(error, HV_CONFLICT, "the key %" PRId64 " has another entity", key);
    hvi_error_detail(error, "Its kind or its attributes are not the ones that were to be put.");
    hvi_error_hint(error, "Use each reserved key for one entity.");
    hvi_error_where(error, operation->server->name, operation->shard);
    return HV_CONFLICT;
}

hv_status hvi_put_fail_hidden(const hvi_operation *operation, int64_t key, hv_error **cause,
                              hv_error **error) {
    hvi_fail(error, HV_CONFLICT, "the key %" PRId64 " has an entity that cannot be read", key);
    hvi_error_detail(error, "The server said: %s", hv_error_message(*cause));
    hvi_error_hint(error, "See whether the table has row-level security that hides it from this "
                          "role.");
    hvi_error_sqlstate(error, hv_error_sqlstate(*cause));
    hvi_error_where(error, operation->server->name, operation->shard);
    hv_error_free(*cause);
    *cause = NULL;
    return HV_CONFLICT;
}

/*
 * Put under call->key, unless it has an entity. If that has the same content it is HV_OK too, and
 * *was_there is true; with another content it is HV_CONFLICT. If `next` is not NULL, the statement
 * also reserves the next key, in *next; 0 if it did not come to that.
 */
static hv_status put_under_key(hvi_put_call *call, int64_t deadline, bool *was_there, int64_t *next,
                               hv_error **error) {
    hvi_verb verb = next != NULL ? HVI_PUT_ONCE : HVI_PUT_KEY;
    int64_t reserved;
    if (next != NULL)
        *next = 0;
    hv_error *cause = NULL;
    hv_status status;
    *was_there = false;
    for (int try = 0;; try++) {
        /* What shares a lane is only known not to be stored: see hvi_group_answer(). */
        status = try == 0 ? run_call(call, verb, deadline, &reserved, &cause)
                          : run_alone(call, verb, deadline, &reserved, &cause);
        hv_status put = status;
        if (put != HV_NOT_STORED && (put != HV_REFUSED || !hvi_put_is_unique_violation(cause)))
            break;
        bool same = false;
        status = compare(call, deadline, &same, error);
        if (status == HV_NOT_FOUND && hvi_put_is_key_collision(cause)) {
            if (try == HVI_PUT_HIDDEN_TRIES) {
                status = hvi_put_fail_hidden(&call->operation, call->key, &cause, error);
                goto out;
            }
            if (try > 0)
                hvi_pause(HVI_PUT_PAUSE_MS); /* it was removed between the two statements */
            continue;
        }
        if (status == HV_NOT_FOUND) {
            status = put; /* for another constraint, or swallowed */
            break;
        }
        if (status == HV_OK && !same)
            status = hvi_put_fail_conflict(&call->operation, call->key, error);
        *was_there = status == HV_OK;
        goto out;
    }
    if (status != HV_OK)
        hvi_error_move(error, &cause);
    else if (next != NULL && is_of_shard(call, reserved))
        *next = reserved;

out:
    hv_error_free(cause);
    return status;
}

hv_status hvi_put_key(hvi_router *router, int64_t key, int kind, const hv_dict *dict,
                      int64_t deadline, hv_error **error) {
    hvi_put_call call = {.key = key, .body = HVI_BUFFER_EMPTY, .body_text = HVI_BUFFER_EMPTY};
    bool was_there;
    hv_status status = hvi_check_kind(kind, error);
    if (status == HV_OK)
        status = hvi_operation_init_key(&call.operation, router, key, error);
    if (status == HV_OK)
        status = init_call(&call, kind, dict, error);
    if (status == HV_OK)
        status = put_under_key(&call, deadline, &was_there, NULL, error);
    fini_call(&call);
    return status;
}

/* ---- exactly once ---- */

bool hvi_put_may_pass(hv_status status, const hv_error *cause) {
    return status == HV_OUTCOME_UNKNOWN || (cause != NULL && hv_error_retriable(cause));
}

/* Reserve one key, whatever happens to connections. */
static hv_status reserve_one(hvi_put_call *call, int64_t deadline, int64_t *asked_at,
                             hv_error **error) {
    hv_error *cause = NULL;
    hv_status status;
    for (;;) {
        *asked_at = hvi_clock_us();
        status = hvi_reserve(&call->operation, 1, deadline, &call->key, &cause);
        if (status == HV_OK || !hvi_put_may_pass(status, cause) ||
            hvi_is_late(deadline - HVI_PUT_RECONNECT_MS * 1000))
            break;
        hvi_pause(HVI_PUT_RECONNECT_MS);
    }
    if (status != HV_OK)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    return HV_OK;
}

hv_status hvi_put_fail_unknown(const hvi_operation *operation, int64_t key, const hv_error *cause,
                               hv_error **error) {
    if (hvi_interrupted())
        hvi_fail(error, HV_OUTCOME_UNKNOWN,
                 "interrupted before a put under the key %" PRId64 " was confirmed", key);
    else
        hvi_fail(error, HV_OUTCOME_UNKNOWN, "a put under the key %" PRId64 " was not confirmed",
                 key);
    hvi_error_detail(error, "Last: %s", hv_error_message(cause));
    hvi_error_hint(error, "The entity may or may not be there: get the key, or put the same under "
                          "it again.");
    hvi_error_sqlstate(error, hv_error_sqlstate(cause));
    hvi_error_where(error, operation->server->name, operation->shard);
    return HV_OUTCOME_UNKNOWN;
}

/*
 * Put under the call's reserved key until it is confirmed. HV_CONFLICT if it has an entity that is
 * not this put's: then nothing was put.
 */
static hv_status put_until_confirmed(hvi_put_call *call, int64_t deadline, int64_t *next,
                                     hv_error **error) {
    hv_error *cause = NULL;
    hv_status status;
    bool unknown = false; /* may an earlier try have succeeded? */
    for (;;) {
        bool was_there;
        status = put_under_key(call, deadline, &was_there, next, &cause);
        if (status == HV_OK && was_there && !unknown)
            status = hvi_put_fail_conflict(&call->operation, call->key, &cause);
        else if (status == HV_CONFLICT && unknown)
            status = HV_OK; /* it has: nobody else was given the key. Then it was changed. */
        unknown = unknown || status == HV_OUTCOME_UNKNOWN;
        if (status == HV_OK || !hvi_put_may_pass(status, cause) ||
            hvi_is_late(deadline - HVI_PUT_RECONNECT_MS * 1000))
            break;
        hvi_pause(HVI_PUT_RECONNECT_MS);
    }
    if (status != HV_OK && unknown)
        status = hvi_put_fail_unknown(&call->operation, call->key, cause, error);
    else if (status != HV_OK)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    return status;
}

hv_status hvi_put_once(hvi_router *router, hvi_key_cache *cache, int shard, int kind,
                       const hv_dict *dict, int64_t deadline, int64_t *key, hv_error **error) {
    hvi_put_call call = {.body = HVI_BUFFER_EMPTY, .body_text = HVI_BUFFER_EMPTY};
    hv_error *cause = NULL;
    hv_status status = hvi_check_kind(kind, error);
    if (status == HV_OK)
        status = hvi_operation_init(&call.operation, router, shard, error);
    if (status == HV_OK)
        status = init_call(&call, kind, dict, error);
    while (status == HV_OK) {
        int64_t asked_at = hvi_clock_us(), next = 0;
        if (!hvi_key_cache_take(cache, shard, asked_at, &call.key))
            status = reserve_one(&call, deadline, &asked_at, error);
        if (status != HV_OK)
            break;
        asked_at = hvi_clock_us();
        status = put_until_confirmed(&call, deadline, &next, &cause);
        if (next != 0)
            hvi_key_cache_give(cache, shard, next, asked_at);
        if (status == HV_OK) {
            *key = call.key;
            break;
        }
        if (status != HV_CONFLICT || hvi_is_late(deadline)) {
            hvi_error_move(error, &cause);
            break;
        }
        status = HV_OK; /* an entity from before the key was reserved: take another key */
    }
    hv_error_free(cause);
    fini_call(&call);
    return status;
}
