/*
 * load_store: store the rows of a batch by COPY within a transaction, and find those that the
 * server refuses.
 *
 * The rows of each shard are one COPY in a savepoint. When the server refuses it, nothing of it is
 * stored: the rows before the guilty one, which the server names, are then sent again, the guilty
 * one alone, to be sure that it is, and the others behind it. If the server names none (an AFTER
 * trigger, say), halves are tried. What is sent at once is bounded after a refusal, and grows again
 * with success: so a shard full of guilty rows costs a few times as much as one without, and not
 * the square.
 */
#include "load_store.h"

#include <string.h>

#include "clock.h"
#include "interrupt.h"
#include "load_keys.h"

/* Pieces of a COPY. */
#define PIECE ((size_t) 64 << 10)

/* Rows in a COPY after a refusal. */
#define CAREFUL 256

/* A row whose error may go by is tried so often at once, with growing pauses between. */
#define QUICK_TRIES 6

/* Tries of a COPY whose made keys met existing ones, before less is tried at once. */
#define COLLISION_TRIES 4

/* Of one shard. */
typedef struct shard_rows {
    hvi_load_store *store;
    hvi_operation operation;
    hvi_load_keys keys;
    size_t limit; /* of rows in a COPY */
    int tries;    /* of the same rows, so far */
} shard_rows;

static hvi_load_row *row_at(const hvi_load_store *store, size_t position) {
    return &store->batch->rows[store->batch->order[position]];
}

/* ---- one COPY ---- */

/* A walk over the tuples of order[next .. end). */
typedef struct tuple_source {
    const hvi_load_store *store;
    size_t next;
    size_t end;
    bool begun;
    bool ended;
    hvi_buffer piece;
} tuple_source;

static bool next_piece(void *context, const char **piece, size_t *len) {
    tuple_source *source = context;
    hvi_buffer *out = &source->piece;
    if (source->ended)
        return false;
    hvi_buffer_reset(out);
    if (!source->begun)
        hvi_buffer_append(out, hvi_copy_header, HVI_COPY_HEADER_LEN);
    source->begun = true;
    while (source->next < source->end && out->len < PIECE && hvi_buffer_ok(out)) {
        const hvi_load_row *row = row_at(source->store, source->next++);
        hvi_buffer_append(out, source->store->batch->tuples.data + row->at, row->len);
    }
    if (source->next == source->end) {
        hvi_buffer_append(out, hvi_copy_trailer, HVI_COPY_TRAILER_LEN);
        source->ended = true;
    }
    /* Without memory the COPY ends in the middle of a row, and the server refuses it. */
    *piece = hvi_buffer_ok(out) ? out->data : "";
    *len = out->len;
    source->ended = source->ended || !hvi_buffer_ok(out);
    return true;
}

/* All of order[from .. end), or nothing. */
static hv_status copy(const shard_rows *shard, size_t from, size_t end, hv_error **error) {
    hvi_load_store *store = shard->store;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    tuple_source source = {.store = store, .next = from, .end = end, .piece = HVI_BUFFER_EMPTY};
    hvi_buffer_append_format(&sql,
                             "SAVEPOINT hv_load;"
                             "COPY %s.entities (%stype, body) FROM STDIN (FORMAT binary);"
                             "RELEASE SAVEPOINT hv_load",
                             shard->operation.schema, row_at(store, from)->key != 0 ? "id, " : "");
    hvi_buffer_reserve(&source.piece, PIECE);
    hv_status status = hvi_buffer_ok(&sql) && hvi_buffer_ok(&source.piece)
                           ? hvi_session_copy_in(store->session, sql.data, shard->operation.shard,
                                                 next_piece, &source, store->timeout, error)
                           : hvi_no_memory(error);
    if (status != HV_OK && !hvi_buffer_ok(&source.piece))
        status = hvi_no_memory(error);
    hvi_buffer_fini(&sql);
    hvi_buffer_fini(&source.piece);
    return status;
}

static hv_status undo_copy(const shard_rows *shard, hv_error **error) {
    return hvi_session_script(
        shard->store->session, "ROLLBACK TO SAVEPOINT hv_load; RELEASE SAVEPOINT hv_load",
        shard->operation.shard, false, hvi_deadline_after(shard->store->timeout), NULL, error);
}

/* ---- what is to be done about a refusal ---- */

/* Is it the fault of a row, and not of the shard, the role or the server? */
static bool is_fault_of_row(hv_status status, const hv_error *cause) {
    static const char *const others[] = {
        "08", /* connection */
        "25", /* the transaction: the server is read-only */
        "28", /* login */
        "3D", /* no such database */
        "3F", /* no such schema */
        "42", /* no right to, or no such table or column */
        "53", /* disk full, out of memory */
        "55", /* somebody has locked the table */
        "57", /* shutting down, canceled */
    };
    const char *sqlstate = cause != NULL ? hv_error_sqlstate(cause) : NULL;
    if (status != HV_REFUSED || sqlstate == NULL)
        return false;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strncmp(sqlstate, others[i], 2) == 0)
            return false;
    return true;
}

static bool is_unique_violation(const hv_error *cause) {
    const char *sqlstate = hv_error_sqlstate(cause);
    return sqlstate != NULL && strcmp(sqlstate, "23505") == 0;
}

/* Did a key of the database's making meet an entity, and not a value that the user wants unique? */
static bool is_collision(const hv_error *cause) {
    const char *constraint = hv_error_constraint(cause);
    return is_unique_violation(cause) && constraint != NULL &&
           strcmp(constraint, "entities_pkey") == 0;
}

static void mark_stored(const hvi_load_store *store, size_t from, size_t end) {
    for (; from < end; from++)
        row_at(store, from)->state = HVI_LOAD_STORED;
}

/* The only row of a COPY was refused. HV_OK: it is decided, or, with *again, to be tried again. */
static hv_status refuse(shard_rows *shard, size_t position, hv_error **cause, bool *again,
                        hv_error **error) {
    hvi_load_store *store = shard->store;
    hvi_load_row *row = row_at(store, position);
    hv_error_free(row->error);
    row->error = *cause;
    *cause = NULL;
    if (!hv_error_retriable(row->error)) {
        row->state = HVI_LOAD_REFUSED;
        return HV_OK;
    }
    if (++shard->tries < QUICK_TRIES) {
        hvi_pause(shard->tries - 1);
        *again = true;
        return HV_OK;
    }
    store->blocked = store->batch->order[position];
    hv_error *copy = hvi_error_copy(row->error);
    return hvi_error_move(error, &copy);
}

static hv_status store_range(shard_rows *shard, size_t from, size_t end, hv_error **error);

/* Several rows were refused: store those before the guilty one, that one, or a half; *from moves
 * behind what is decided then. */
static hv_status divide(shard_rows *shard, size_t *from, size_t end, const hv_error *cause,
                        hv_error **error) {
    int64_t told = hvi_error_copy_row_of(cause);
    bool known = told >= 1 && (size_t) told <= end - *from;
    size_t guilty = known ? *from + (size_t) told - 1 : *from + (end - *from) / 2;
    hv_status status = HV_OK;
    if (guilty > *from)
        status = store_range(shard, *from, guilty, error);
    if (status == HV_OK && known)
        status = store_range(shard, guilty, guilty + 1, error);
    *from = known ? guilty + 1 : guilty;
    return status;
}

/* A COPY of order[from .. end) was refused, and undone. */
static hv_status answer_refusal(shard_rows *shard, size_t *from, size_t *end, hv_error **cause,
                                hv_error **error) {
    hvi_load_store *store = shard->store;
    bool kept = row_at(store, *from)->key != 0;
    if (kept && is_unique_violation(*cause)) {
        size_t before = *end;
        hv_status status = hvi_load_keys_sift(&shard->keys, *from, end, error);
        if (status != HV_OK || *end < before)
            return status;
    }
    if (!kept && is_collision(*cause) && ++shard->tries < COLLISION_TRIES)
        return HV_OK;
    if (!kept && is_collision(*cause) && *end - *from == 1) {
        hvi_error_hint(cause, "The shard makes keys that it has made before: its server's clock "
                              "may have been set back. Strict keys do not depend on it.");
        hvi_error_retriable(cause, true);
    }
    if (*end - *from == 1) {
        bool again = false;
        hv_status status = refuse(shard, *from, cause, &again, error);
        if (!again) {
            shard->tries = 0;
            ++*from;
        }
        return status;
    }
    shard->limit = shard->limit > CAREFUL ? CAREFUL : shard->limit;
    shard->tries = 0;
    return divide(shard, from, *end, *cause, error);
}

/* Store all of order[from .. end): rows of one shard, all with keys or all without. */
static hv_status store_range(shard_rows *shard, size_t from, size_t end, hv_error **error) {
    hvi_load_store *store = shard->store;
    hv_status status = HV_OK;
    shard->tries = 0;
    while (status == HV_OK && from < end) {
        size_t part = end - from < shard->limit ? end : from + shard->limit;
        hv_error *cause = NULL;
        status = copy(shard, from, part, &cause);
        if (status == HV_OK) {
            mark_stored(store, from, part);
            from = part;
            shard->tries = 0;
            shard->limit = shard->limit < SIZE_MAX / 2 ? 2 * shard->limit : SIZE_MAX;
            continue;
        }
        if (!is_fault_of_row(status, cause))
            return hvi_operation_explain(&shard->operation, &cause, error);
        status = undo_copy(shard, error);
        size_t left = part;
        if (status == HV_OK)
            status = answer_refusal(shard, &from, &left, &cause, error);
        hv_error_free(cause);
        /* What was sifted out is decided: close the gap. */
        size_t gone = part - left;
        if (gone > 0) {
            size_t *order = store->batch->order;
            memmove(order + left, order + part, (end - part) * sizeof *order);
            end -= gone;
        }
    }
    return status;
}

/* ---- all shards ---- */

static hv_status store_shard(hvi_load_store *store, size_t from, size_t end, hv_error **error) {
    shard_rows shard = {.store = store, .limit = SIZE_MAX};
    hv_status status =
        hvi_operation_init(&shard.operation, store->router, row_at(store, from)->shard, error);
    shard.keys = (hvi_load_keys){
        .session = store->session,
        .batch = store->batch,
        .operation = &shard.operation,
        .epoch = store->router->options->values[HVI_EPOCH],
        .timeout = store->timeout,
    };
    size_t kept = from; /* the first row that has a key */
    while (kept < end && row_at(store, kept)->key == 0)
        kept++;
    if (status == HV_OK && from < kept)
        status = store_range(&shard, from, kept, error);
    if (status == HV_OK && kept < end)
        status = hvi_load_keys_prepare(&shard.keys, kept, &end, error);
    if (status == HV_OK && kept < end)
        status = store_range(&shard, kept, end, error);
    return status;
}

hv_status hvi_load_store_rows(hvi_load_store *store, size_t count, hv_error **error) {
    size_t waiting = 0;
    store->blocked = HVI_LOAD_NOT_BLOCKED;
    hv_status status = hvi_load_batch_sort(store->batch, count, &waiting, error);
    for (size_t from = 0; status == HV_OK && from < waiting;) {
        size_t end = from + 1;
        while (end < waiting && row_at(store, end)->shard == row_at(store, from)->shard)
            end++;
        status = store_shard(store, from, end, error);
        from = end;
    }
    return status;
}
