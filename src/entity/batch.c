/*
 * batch: items that travel to a server and back on one session.
 *
 * The states, and what leads from one to the next: end_together(), end_mending(), end_apart().
 *
 *     TOGETHER ───────────────────► DONE    answered, lost, or the only item was refused
 *      │  ▲ │ refused as stale
 *      │  │ └─────► MENDING ──────► DONE    lost: nothing has happened
 *      │  └──────────┘ │            ▲
 *      │ refused       │ types were │
 *      └─► APART ◄─────┘ made anew  │
 *            └──────────────────────┘       each item has its own fate
 *
 * Apart, statements are not prepared and refer to no type by its number, so that they work whatever
 * has become of the types. If one is refused as stale even so, the cause is something that the
 * connection's server process has cached: then the session is not used again, and the operation
 * takes another.
 */
#include "entity/batch.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "wire/refusal.h"

/* How often one batch mends its session's prepared statements. */
#define MAX_MENDED 2

/* ---- life ---- */

void hvi_batch_init(hvi_batch *b, hvi_item *const *items, size_t count) {
    /* Not one_group: it is large, and is made when it is needed. */
    b->items = items;
    b->count = count;
    b->log = false;
    b->in_transaction = false;
    b->state = HVI_BATCH_DONE;
    b->session = NULL;
    b->is_built = false;
    b->in_turn = false;
    b->deadline = HVI_NEVER;
    b->mended = 0;
    b->error = NULL;
    b->sorted = &b->one_item;
    b->groups = &b->one_group;
    b->queries = &b->one_query;
    b->results = &b->one_result;
    b->group_count = 0;
    b->one_result = NULL;
}

/* Free what was sent, and its answers. */
static void clear(hvi_batch *b) {
    for (size_t i = 0; i < b->group_count; i++) {
        hvi_group_fini(&b->groups[i]);
        PQclear(b->results[i]);
        b->results[i] = NULL;
    }
    b->group_count = 0;
}

void hvi_batch_fini(hvi_batch *b) {
    clear(b);
    hv_error_free(b->error);
    if (b->groups == &b->one_group)
        return;
    free(b->sorted);
    free(b->groups);
    free(b->queries);
    free(b->results);
}

/* False if memory is short. */
static bool make_room(hvi_batch *b) {
    if (b->count == 1 || b->groups != &b->one_group)
        return true;
    size_t room = 2 * b->count;
    b->sorted = malloc(room * sizeof *b->sorted);
    b->groups = malloc(room * sizeof *b->groups);
    b->queries = malloc(room * sizeof *b->queries);
    b->results = calloc(room, sizeof(PGresult *));
    return b->sorted != NULL && b->groups != NULL && b->queries != NULL && b->results != NULL;
}

/* ---- sending ---- */

/* Must a single item use the statement for many? A refusal of the statement for one would end the
 * transaction that it is a part of. */
static bool needs_many(const hvi_batch *b) {
    return b->in_transaction && b->items[0]->verb->refuses_taken_keys;
}

/* Make groups and queries from the items. False if memory is short. */
static bool build(hvi_batch *b, bool apart) {
    if (!make_room(b))
        return false;
    for (size_t i = 0; i < b->count; i++)
        b->sorted[i] = b->items[i];
    size_t count = apart && b->in_turn ? hvi_items_first(b->sorted, b->count) : b->count;
    b->group_count = hvi_groups_make(b->sorted, count, apart, b->groups);
    if (!apart && needs_many(b))
        b->groups[0].plain = false;
    for (size_t i = 0; i < b->group_count; i++) {
        if (!hvi_group_query(&b->groups[i], b->session, b->log, &b->queries[i]))
            return false;
        b->queries[i].is_write = b->queries[i].is_write && !b->in_transaction;
    }
    return true;
}

/* Send the items; `state` is TOGETHER or APART. */
static void send(hvi_batch *b, hvi_batch_state state) {
    bool apart = state == HVI_BATCH_APART;
    clear(b);
    b->state = state;
    b->is_built = build(b, apart);
    if (!b->is_built)
        return; /* end_pipeline() reports it */
    hvi_pipeline_start(&b->pipeline, b->session, b->queries, b->group_count, apart);
    b->pipeline.is_mended = !apart && !b->in_transaction && b->mended < MAX_MENDED;
    for (size_t i = 0; i < b->group_count && !b->log; i++)
        hvi_group_forget_parameters(&b->groups[i]);
}

void hvi_batch_start(hvi_batch *b, hvi_session *session, bool apart) {
    b->session = session;
    /* Several items need the array types; without these they go apart. */
    bool is_array = b->count > 1 || needs_many(b);
    bool knows = !is_array || hvi_session_knows_arrays(session);
    send(b, apart || !knows ? HVI_BATCH_APART : HVI_BATCH_TOGETHER);
}

/* ---- fates ---- */

static void set_fate(hvi_item *item, hvi_fate fate, const hv_error *error) {
    item->fate = fate;
    item->error = error;
}

void hvi_batch_fail(hvi_batch *b, hvi_fate fate, hv_error **cause) {
    hvi_error_move(&b->error, cause);
    for (size_t i = 0; i < b->count; i++)
        set_fate(b->items[i], fate, b->error);
    b->state = HVI_BATCH_DONE;
}

static hv_status end_pipeline(hvi_batch *b, hv_error **cause) {
    return b->is_built ? hvi_pipeline_finish(&b->pipeline, b->results, cause)
                       : hvi_no_memory(cause);
}

static void answer(hvi_batch *b, size_t number) {
    hvi_group *group = &b->groups[number];
    hvi_group_answer(group, b->results[number], b->session->config->server);
    hvi_ask *ask = hvi_item_ask(group->items[0]);
    if (ask == NULL)
        return;
    if (group->error == NULL && ask->is_misplaced != NULL && ask->is_misplaced(b->results[number]))
        hvi_session_doubt(b->session);
    hvi_ask_give(ask, &b->results[number]);
}

/* Nothing has happened, and the batch is not to be sent (again): the connection is lost, or it is
 * too late. */
static void end_without_effect(hvi_batch *b, bool is_lost) {
    const char *server = b->session->config->server;
    hv_error *cause = NULL;
    if (is_lost)
        hvi_fail_lost(server, -1, &cause);
    else
        hvi_fail_late(server, -1, false, &cause);
    hvi_batch_fail(b, HVI_FATE_LOST, &cause);
}

/* A session that was opened before hstore existed does not know the schema of its functions, so the
 * statements that call them have none: a syntax error, and no other statement of ours has any. */
static bool is_stale(const hvi_batch *b, hv_error **cause) {
    if (b->session->hstore_schema[0] == '\0' && hvi_error_has_sqlstate(*cause, "42601"))
        hvi_error_refusal(cause, HVI_REFUSAL_TYPES);
    return hvi_refusal_is_stale(*cause);
}

/* The server has refused one of the statements, and none has had an effect. Takes *cause. */
static void end_refused(hvi_batch *b, hv_error **cause) {
    bool may_mend = is_stale(b, cause);
    b->in_turn = may_mend || hv_error_retriable(*cause);
    if (b->in_transaction) {
        hvi_batch_fail(b, HVI_FATE_REFUSED, cause);
    } else if (b->count > 1 && (b->session->broken || hvi_is_late(b->deadline))) {
        end_without_effect(b, b->session->broken);
    } else if (may_mend && !b->session->broken && b->mended < MAX_MENDED) {
        b->mended++;
        b->state = HVI_BATCH_MENDING;
        hvi_mending_start(&b->mending, b->session, *cause);
    } else if (b->count > 1) {
        send(b, HVI_BATCH_APART);
    } else {
        hvi_batch_fail(b, HVI_FATE_REFUSED, cause);
    }
}

static void end_together(hvi_batch *b) {
    hv_error *cause = NULL;
    hv_status status = end_pipeline(b, &cause);
    if (status == HV_REFUSED) {
        end_refused(b, &cause);
    } else if (status != HV_OK) {
        hvi_batch_fail(b, HVI_FATE_LOST, &cause);
    } else {
        for (size_t i = 0; i < b->group_count; i++)
            answer(b, i);
        b->session->seen_alive = hvi_clock_us();
        b->state = HVI_BATCH_DONE;
    }
    hv_error_free(cause);
}

/* Parameters refer to types by their numbers, too: if those types no longer exist, mending the
 * prepared statements is not enough. */
static void end_mending(hvi_batch *b) {
    bool is_mended = hvi_mending_finish(&b->mending) && b->session->age == HVI_SESSION_CURRENT;
    if (b->session->broken || hvi_is_late(b->deadline))
        end_without_effect(b, b->session->broken);
    else
        send(b, is_mended ? HVI_BATCH_TOGETHER : HVI_BATCH_APART);
}

/* An item that went apart was refused. */
static void refuse(hvi_batch *b, hvi_item *item, hv_error **cause) {
    if (is_stale(b, cause))
        hvi_session_doubt(b->session);
    set_fate(item, HVI_FATE_REFUSED, *cause);
}

static void end_apart(hvi_batch *b) {
    hv_status status = end_pipeline(b, &b->error);
    for (size_t i = 0; i < b->count; i++)
        set_fate(b->items[i], b->is_built ? HVI_FATE_BEHIND : HVI_FATE_LOST, b->error);
    for (size_t i = 0; i < b->group_count && b->is_built; i++) {
        hvi_item *item = b->groups[i].items[0];
        const PGresult *result = b->results[i];
        if (hvi_result_is_good(result)) {
            answer(b, i);
        } else if (result != NULL) {
            hvi_fail_refused(b->session->config->server, item->shard, result, &b->groups[i].error);
            refuse(b, item, &b->groups[i].error);
        } else if (status == HV_REFUSED) { /* the only one */
            refuse(b, item, &b->error);
        } else {
            set_fate(item, HVI_FATE_LOST, b->error);
        }
    }
    b->state = HVI_BATCH_DONE;
}

/* ---- the steps ---- */

hvi_wants hvi_batch_advance(hvi_batch *b) {
    while (b->state != HVI_BATCH_DONE) {
        hvi_wants wants = HVI_WANTS_NOTHING;
        if (b->state == HVI_BATCH_MENDING)
            wants = hvi_mending_advance(&b->mending);
        else if (b->is_built)
            wants = hvi_pipeline_advance(&b->pipeline);
        if (wants != HVI_WANTS_NOTHING)
            return wants;
        if (b->state == HVI_BATCH_TOGETHER)
            end_together(b);
        else if (b->state == HVI_BATCH_MENDING)
            end_mending(b);
        else
            end_apart(b);
    }
    return HVI_WANTS_NOTHING;
}

static hvi_wants advance(void *what) {
    return hvi_batch_advance(what);
}

void hvi_batch_await(hvi_batch *b, int64_t deadline) {
    b->deadline = deadline;
    hvi_session_await(b->session, deadline, advance, b);
}

bool hvi_batch_is_sent(const hvi_batch *b) {
    return b->state != HVI_BATCH_MENDING && b->is_built && b->pipeline.exchange.sent;
}

void hvi_batch_finish(hvi_batch *b) {
    if (b->state == HVI_BATCH_MENDING) {
        hvi_mending_finish(&b->mending); /* which breaks the session */
        end_without_effect(b, false);
    } else if (b->state == HVI_BATCH_TOGETHER) {
        end_together(b);
    } else if (b->state == HVI_BATCH_APART) {
        end_apart(b);
    }
}

void hvi_batch_forget(hvi_batch *b) {
    if (b->state == HVI_BATCH_MENDING)
        hvi_exchange_fini(&b->mending.exchange);
    else if (b->state != HVI_BATCH_DONE && b->is_built)
        hvi_pipeline_forget(&b->pipeline);
    b->state = HVI_BATCH_DONE;
}
