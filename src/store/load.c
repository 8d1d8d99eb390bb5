/*
 * load: many entities into one server, transaction by transaction, each exactly once.
 *
 * The states, and what happens to the waiting rows:
 *
 *              send            commit
 *     IDLE ──────────► SENT ───────────► IDLE (the rows are dropped)
 *      ▲ │              │ │
 *      │ └── refused ◄──┘ └── outcome unknown ──► UNKNOWN ── send ──► SENT (they were not
 *      └──────┘ (rolled back)                        │                committed: sent again)
 *                                                    └───── send ──► SETTLED (they were) ── commit
 *                                                                                    ──► IDLE
 *
 * set_state() is the one function that changes the state. How UNKNOWN is resolved: every
 * transaction locks the load's record first. The next one to get the lock begins when the one
 * before has ended, whatever happened to its connection, and reads what that one left.
 *
 * A load counts as a user of the store from its opening to its end, so that hv_close() does not
 * free a store that is in use.
 */

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fork.h"
#include "base/utf8.h"
#include "value/hstore.h"
#include "value/limits.h"
#include "wire/refusal.h"
#include "shard/load_record.h"
#include "entity/lane.h"
#include "entity/load_store.h"
#include "entity/locate.h"
#include "store/store.h"

typedef enum load_state {
    LOAD_IDLE,
    LOAD_SENT,
    LOAD_UNKNOWN,
    LOAD_SETTLED,
} load_state;

struct hv_load {
    hv_store *store;
    hvi_router *router; /* the store's */
    hvi_server *server;
    unsigned generation;    /* hvi_fork_generation() when it was opened */
    hvi_load_record record; /* as it is committed */
    hvi_load_batch batch;
    int64_t timeout;
    load_state state;
    hvi_session *session;    /* in the transaction; not NULL only while SENT */
    size_t sent;             /* how many of the first rows are in it */
    int64_t unknown;         /* while UNKNOWN or SETTLED: the position that was to be committed */
    char *unknown_note;      /* and the note; owned; NULL: it stays */
    bool checked[HV_SHARDS]; /* next_id() makes keys of this shard */
};

/* Change the state. Any other session is released, which rolls back what is not committed. */
static void set_state(hv_load *load, load_state state, hvi_session *session) {
    if (load->session != NULL && load->session != session)
        hvi_pool_release(&load->server->pool, load->session);
    load->session = session;
    load->state = state;
    if (state == LOAD_IDLE)
        hvi_load_batch_undo(&load->batch);
}

static hv_status acquire(const hv_load *load, hvi_session **session, hv_error **error) {
    return hvi_pool_acquire(&load->server->pool, hvi_router_pool_deadline(load->router), session,
                            error);
}

static hv_status check_process(const hv_load *load, hv_error **error) {
    return hvi_store_is_foreign(load->generation)
               ? hvi_fail(error, HV_INVALID, "the load is another process's")
               : HV_OK;
}

static bool is_text(const char *text) {
    size_t len = strlen(text);
    return hvi_utf8_prefix(text, len) == len;
}

/* ---- opening ---- */

static hv_status open_record(hv_load *load, hv_error **error) {
    hvi_session *session = NULL;
    int shard = hvi_router_next(load->router, load->server->number, -1);
    hv_status status = acquire(load, &session, error);
    if (status != HV_OK)
        return status;
    status = hvi_load_record_open(session, shard, load->timeout, &load->record, error);
    hvi_pool_release(&load->server->pool, session);
    return status;
}

static void free_load(hv_load *load) {
    set_state(load, LOAD_IDLE, NULL);
    hvi_load_record_fini(&load->record);
    hvi_load_batch_fini(&load->batch);
    free(load->unknown_note);
    free(load);
}

static hv_status make_load(hv_store *store, hvi_server *server, const char *name, hv_load **load,
                           hv_error **error) {
    size_t len = strlen(name);
    if (len == 0 || len > HVI_LOAD_NAME_MAX || !is_text(name))
        return hvi_fail(error, HV_INVALID, "the name of a load must be 1 to %d bytes of UTF-8",
                        HVI_LOAD_NAME_MAX);
    hv_load *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    made->store = store;
    made->router = &store->router;
    made->server = server;
    made->generation = hvi_fork_generation();
    made->timeout = store->router.options->values[HVI_OPERATION_TIMEOUT];
    made->record.name = strdup(name);
    hv_status status = made->record.name != NULL ? open_record(made, error) : hvi_no_memory(error);
    if (status != HV_OK) {
        free_load(made);
        return status;
    }
    *load = made;
    return HV_OK;
}

hv_status hv_load_open(hv_store *store, int server, const char *name, hv_load **load,
                       hv_error **error) {
    hvi_server *found = NULL;
    hvi_visit visit;
    hv_status status = hvi_store_enter_server(&visit, store, server, &found, error);
    if (status != HV_OK)
        return status;
    return hvi_store_leave_object(&visit, make_load(store, found, name, load, error));
}

void hv_load_free(hv_load *load) {
    if (load == NULL)
        return;
    hv_store *store = load->store;
    bool foreign = hvi_store_is_foreign(load->generation);
    if (foreign)
        load->session = NULL;
    free_load(load);
    if (!foreign)
        hvi_store_drop_object(store);
}

int64_t hv_load_position(const hv_load *load) {
    return load->record.position;
}

const char *hv_load_note(const hv_load *load) {
    return load->record.note;
}

/* ---- shards that move ---- */

/* Not retriable: a load is of one server, where its record is. */
static hv_status fail_moved(const hv_load *load, int shard, const hvi_server *server,
                            hv_error **error) {
    hvi_fail(error, HV_MOVED, "shard %d has moved to server \"%s\"", shard, server->name);
    hvi_error_detail(
        error,
        "The load \"%s\" is of server \"%s\". What it has committed has moved with the "
        "shard; nothing else was stored.",
        load->record.name, load->server->name);
    hvi_error_hint(error,
                   "Move the shard back, and go on; or load the rest of its rows on server "
                   "\"%s\".",
                   server->name);
    hvi_error_retriable(error, false);
    hvi_error_where(error, load->server->name, shard);
    return HV_MOVED;
}

/* The rows were refused because a shard was missing. If it has moved, that is the error. */
static hv_status explain_missing(const hv_load *load, hv_error **error) {
    int shard = hv_error_shard(*error);
    bool is_missing =
        hvi_error_has_sqlstate(*error, "42P01") || hvi_error_has_sqlstate(*error, "3F000");
    hv_status status = hv_error_status(*error);
    const hvi_server *other =
        is_missing && shard >= 0 ? hvi_where_else(load->router, shard, load->server) : NULL;
    if (other == NULL)
        return status;
    hv_error_free(*error);
    *error = NULL;
    return fail_moved(load, shard, other, error);
}

/* ---- rows ---- */

/* Can this row be stored here? With a key *shard may be -1, as the key determines it. */
static hv_status check_row(const hv_load *load, int64_t key, int *shard, int kind, size_t body_len,
                           hv_error **error) {
    hvi_key_fields fields;
    hvi_server *server = NULL;
    hv_status status = hvi_check_kind(kind, error);
    if (status == HV_OK && body_len > HVI_DICT_MAX_LEN)
        status = hvi_fail(error, HV_INVALID, "the attributes are too large");
    if (status == HV_OK)
        status = check_process(load, error);
    if (status == HV_OK && key != 0)
        status = hvi_check_key(key, &fields, error);
    if (status != HV_OK)
        return status;
    if (key != 0 && *shard >= 0 && fields.shard != *shard)
        return hvi_fail(error, HV_INVALID, "the key %lld is of shard %d, not %d", (long long) key,
                        fields.shard, *shard);
    if (key != 0)
        *shard = fields.shard;
    status = hvi_router_find(load->router, *shard, &server, error);
    if (status == HV_OK)
        status = hvi_router_settle(load->router, *shard, true, error);
    if (status == HV_OK && server != load->server &&
        hvi_router_generation(load->router, *shard) > 0)
        return fail_moved(load, *shard, server, error);
    if (status == HV_OK && server != load->server) {
        status = hvi_fail(error, HV_INVALID, "shard %d is on server \"%s\", not on \"%s\"", *shard,
                          server->name, load->server->name);
        hvi_error_where(error, NULL, *shard);
    }
    return status;
}

hv_status hv_load_add(hv_load *load, int64_t key, int shard, int kind, const hv_dict *dict,
                      hv_error **error) {
    hv_status status = check_row(load, key, &shard, kind, hvi_hstore_size(dict), error);
    if (status == HV_OK)
        status = hvi_load_batch_add(&load->batch, key, shard, kind, dict, error);
    return status;
}

hv_status hv_load_add_binary(hv_load *load, int64_t key, int shard, int kind, const char *bytes,
                             size_t len, hv_error **error) {
    hv_status status = check_row(load, key, &shard, kind, len, error);
    if (status == HV_OK)
        status = hvi_load_batch_add_encoded(&load->batch, key, shard, kind, bytes, len, error);
    return status;
}

size_t hv_load_count(const hv_load *load) {
    return load->batch.count;
}

/* ---- sending ---- */

static const hvi_form key_form = {
    .asked = "a new key",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_INT8},
};

/* An entity whose key does not lead back to its shard would never be found again: have a key made,
 * and check it. A shard that has no next_id() has another default, or COPY will report it. */
static hv_status check_generator(hv_load *load, hvi_session *session, int shard, hv_error **error) {
    hvi_target target;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hv_error *cause = NULL;
    hv_status status = hvi_target_init(&target, load->router, shard, error);
    if (status != HV_OK)
        return status;
    hvi_buffer_append_format(&sql, "SELECT %s.next_id()", target.schema);
    status = hvi_buffer_ok(&sql)
                 ? hvi_session_script(session, sql.data, shard, false,
                                      hvi_deadline_after(load->timeout), &result, &cause)
                 : hvi_no_memory(&cause);
    if (status == HV_OK)
        status = hvi_result_check(result, &key_form, load->server->name, shard, &cause);
    if (hvi_error_has_sqlstate(cause, "42883")) /* no such function */
        status = HV_OK;
    else if (status != HV_OK)
        status = hvi_target_explain(&target, &cause, error);
    else if (!hvi_target_has_key(&target, hvi_integer_at(result, 0, 0)))
        status = hvi_target_fail_keys(&target, "next_id", error);
    load->checked[shard] = status == HV_OK;
    hv_error_free(cause);
    PQclear(result);
    hvi_buffer_fini(&sql);
    return status;
}

static hv_status check_generators(hv_load *load, hvi_session *session, size_t count,
                                  hv_error **error) {
    hv_status status = HV_OK;
    for (size_t i = 0; status == HV_OK && i < count; i++) {
        const hvi_load_row *row = &load->batch.rows[i];
        if (row->key == 0 && !load->checked[row->shard])
            status = check_generator(load, session, row->shard, error);
    }
    return status;
}

/* Begin the transaction, and see how the one before ended. *settled: it was committed. */
static hv_status begin(hv_load *load, hvi_session *session, bool *settled, hv_error **error) {
    const hvi_load_record *record = &load->record;
    hvi_load_record found = {.name = NULL};
    const char *note = load->unknown_note != NULL ? load->unknown_note : record->note;
    hv_status status = hvi_load_record_begin(session, record, load->timeout, &found, error);
    *settled = status == HV_OK && load->state == LOAD_UNKNOWN &&
               hvi_load_record_is(&found, load->unknown, note);
    bool is_same = hvi_load_record_is(&found, record->position, record->note);
    hvi_load_record_fini(&found);
    if (status != HV_OK || *settled || is_same)
        return status;
    status = hvi_fail(error, HV_CONFLICT, "another process goes on with the import \"%s\"",
                      load->record.name);
    hvi_error_hint(error, "Let one process do it.");
    hvi_error_where(error, load->server->name, -1);
    return status;
}

static hv_status store(hv_load *load, hvi_session *session, size_t count, size_t *blocked,
                       hv_error **error) {
    hvi_load_store work = {
        .session = session,
        .router = load->router,
        .batch = &load->batch,
        .timeout = load->timeout,
    };
    hv_error *cause = NULL;
    hv_status status = hvi_load_store_rows(&work, count, &cause);
    if (blocked != NULL)
        *blocked = work.blocked;
    if (status == HV_OK)
        return HV_OK;
    if (hvi_refusal_is_stale(cause)) /* in a transaction that can only be rolled back now */
        session->age = HVI_SESSION_OUTDATED;
    return hvi_error_move(error, &cause);
}

/* *outdated: it was refused over types that no longer exist, and is worth another try. */
static hv_status send_rows(hv_load *load, size_t count, size_t *blocked, bool *outdated,
                           hv_error **error) {
    hvi_session *session = NULL;
    bool settled = false;
    if (blocked != NULL)
        *blocked = HVI_LOAD_NOT_BLOCKED;
    if (!hvi_buffer_ok(&load->batch.tuples))
        return hvi_no_memory(error);
    if (load->state == LOAD_SETTLED)
        return HV_OK;
    if (load->state == LOAD_SENT)
        set_state(load, LOAD_IDLE, NULL);
    if (load->state == LOAD_UNKNOWN)
        count = load->sent;
    if (count > load->batch.count)
        count = load->batch.count;
    hv_status status = acquire(load, &session, error);
    if (status != HV_OK)
        return status;
    status = check_generators(load, session, count, error);
    if (status == HV_OK)
        status = begin(load, session, &settled, error);
    if (status == HV_OK && settled) {
        hvi_pool_release(&load->server->pool, session);
        set_state(load, LOAD_SETTLED, NULL);
        return HV_OK;
    }
    if (status != HV_OK) { /* an unknown outcome stays unknown */
        hvi_pool_release(&load->server->pool, session);
        return status;
    }
    set_state(load, LOAD_IDLE, NULL);
    set_state(load, LOAD_SENT, session);
    load->sent = count;
    status = store(load, session, count, blocked, error);
    *outdated = session->age == HVI_SESSION_OUTDATED;
    if (status != HV_OK)
        set_state(load, LOAD_IDLE, NULL);
    return status;
}

hv_status hv_load_send(hv_load *load, size_t count, size_t *blocked, hv_error **error) {
    hvi_interruptible operation;
    hv_error *cause = NULL;
    hv_status status = check_process(load, error);
    if (status != HV_OK)
        return status;
    hvi_interrupt_begin(&operation, hvi_router_interrupt(load->router));
    bool outdated = false;
    status = send_rows(load, count, blocked, &outdated, &cause);
    if (status == HV_REFUSED && outdated)
        status = send_rows(load, count, blocked, &outdated, &cause);
    if (status != HV_OK)
        status = explain_missing(load, &cause);
    hvi_interrupt_end(&operation);
    if (status != HV_OK)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    return status;
}

hv_status hv_load_row(const hv_load *load, size_t index, bool *known, const hv_error **error) {
    const hvi_load_row *row = index < load->sent ? &load->batch.rows[index] : NULL;
    if (row == NULL || index >= load->batch.count)
        return HV_INVALID;
    if (known != NULL)
        *known = row->state == HVI_LOAD_KNOWN;
    if (row->state != HVI_LOAD_REFUSED)
        return HV_OK;
    if (error != NULL)
        *error = row->error;
    return hv_error_status(row->error);
}

void hv_load_give_up(hv_load *load, size_t index) {
    hvi_load_row *row = index < load->batch.count ? &load->batch.rows[index] : NULL;
    if (row != NULL && row->state == HVI_LOAD_WAITING && row->error != NULL)
        row->state = HVI_LOAD_REFUSED;
}

/* ---- committing ---- */

/* It is committed: forget the rows. */
static void forget(hv_load *load, int64_t position, char *note) {
    set_state(load, LOAD_SENT, NULL);
    hvi_load_batch_drop(&load->batch, load->sent);
    load->sent = 0;
    load->record.position = position;
    if (note != NULL) {
        free(load->record.note);
        load->record.note = note;
    }
    set_state(load, LOAD_IDLE, NULL);
}

static hv_status commit_rows(hv_load *load, int64_t position, const char *note, hv_error **error) {
    if (load->state == LOAD_SETTLED) {
        char *kept = load->unknown_note;
        load->unknown_note = NULL;
        forget(load, load->unknown, kept);
        return HV_OK;
    }
    if (load->state != LOAD_SENT)
        return hvi_fail(error, HV_INVALID, "there is nothing to commit");
    if (position <= load->record.position && load->sent > 0)
        return hvi_fail(error, HV_INVALID, "the position of a load must grow");
    if (note != NULL && !is_text(note))
        return hvi_fail(error, HV_INVALID, "the note of a load is not UTF-8");
    char *copy = note != NULL ? strdup(note) : NULL;
    if (note != NULL && copy == NULL)
        return hvi_no_memory(error);
    hv_status status =
        hvi_load_record_commit(load->session, &load->record, position, note, load->timeout, error);
    if (status == HV_OK) {
        forget(load, position, copy);
        return HV_OK;
    }
    if (status == HV_OUTCOME_UNKNOWN) {
        free(load->unknown_note);
        load->unknown_note = copy;
        load->unknown = position;
        set_state(load, LOAD_UNKNOWN, NULL);
        return status;
    }
    free(copy);
    set_state(load, LOAD_IDLE, NULL);
    return status;
}

hv_status hv_load_commit(hv_load *load, int64_t position, const char *note, hv_error **error) {
    hvi_interruptible operation;
    hv_status status = check_process(load, error);
    if (status != HV_OK)
        return status;
    hvi_interrupt_begin(&operation, hvi_router_interrupt(load->router));
    status = commit_rows(load, position, note, error);
    hvi_interrupt_end(&operation);
    return status;
}

/* ---- listing ---- */

hv_status hv_load_list(hv_store *store, int server, const char *prefix, hv_load_fn each,
                       void *context, hv_error **error) {
    const hvi_router *router = &store->router;
    hvi_server *found = NULL;
    hvi_session *session = NULL;
    hvi_visit visit;
    hv_status status = hvi_store_enter_server(&visit, store, server, &found, error);
    if (status != HV_OK)
        return status;
    status = hvi_pool_acquire(&found->pool, hvi_router_pool_deadline(router), &session, error);
    if (status == HV_OK) {
        status = hvi_load_record_list(
            session, prefix, router->options->values[HVI_OPERATION_TIMEOUT], each, context, error);
        hvi_pool_release(&found->pool, session);
    }
    return hvi_store_leave(&visit, status);
}
