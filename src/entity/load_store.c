/*
 * load_store: store the rows of a batch by COPY within a transaction, and find those that the
 * server refuses.
 *
 * The rows of each shard are one COPY in a savepoint. If the server refuses it, nothing of it is
 * stored: the rows before the bad one, which the server names, are then sent again, next the bad
 * one alone, to confirm that it is bad, and then the rest. If the server names none (an AFTER
 * trigger, say), halves are tried. The number of rows sent at once is limited after a refusal, and
 * grows again with success: so a shard full of bad rows costs a few times as much as one without,
 * not the square of it.
 *
 * A COPY that the server has not refused may still have stored fewer rows than were sent, because a
 * trigger can drop rows without an error, and it only reports how many were stored. Then it is
 * undone as well, and the shard's rows are stored by the statements of puts, which report it for
 * each row. So are rows with keys where a trigger might change these, and all rows where row-level
 * security does not allow COPY.
 */
#include "entity/load_store.h"

#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "wire/refusal.h"
#include "entity/load_insert.h"
#include "entity/load_keys.h"

/* The size of a COPY's pieces, in bytes. */
#define PIECE ((size_t) 64 << 10)

/* Bytes of rows in an INSERT, which has at least one row. */
#define INSERT_BYTES ((size_t) 1 << 20)

/* The most rows in a COPY after a refusal. */
#define CAREFUL 256

/* How often a row with a transient error is tried at once, with growing pauses in between. */
#define QUICK_TRIES 6

/* How often a COPY whose made keys met existing ones is tried before fewer rows are sent. */
#define COLLISION_TRIES 4

/* The rows of one shard. */
typedef struct shard_rows {
    hvi_load_store *store;
    hvi_target target;
    hvi_load_keys keys;
    size_t limit; /* of rows in a COPY */
    int tries;    /* of the same rows, so far */
    bool inserts; /* by the statements of puts, not by COPY */
    bool is_lost; /* it failed with rows marked as stored: all must be undone */
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

/* The SQL that opens the savepoint for undo(), and releases the one before. */
static const char *savepoint(hvi_load_store *store) {
    bool was_in = store->in_savepoint;
    store->in_savepoint = true;
    return was_in ? "RELEASE SAVEPOINT hv_load; SAVEPOINT hv_load;" : "SAVEPOINT hv_load;";
}

/* Copy all of order[from .. end), or nothing; but *stored is less if the server dropped some. */
static hv_status copy(const shard_rows *shard, size_t from, size_t end, int64_t *stored,
                      hv_error **error) {
    hvi_load_store *store = shard->store;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    tuple_source source = {.store = store, .next = from, .end = end, .piece = HVI_BUFFER_EMPTY};
    hvi_buffer_append_format(&sql, "%sCOPY %s.entities (%stype, body) FROM STDIN (FORMAT binary)",
                             savepoint(store), shard->target.schema,
                             row_at(store, from)->key != 0 ? "id, " : "");
    hvi_buffer_reserve(&source.piece, PIECE);
    hv_status status = hvi_buffer_ok(&sql) && hvi_buffer_ok(&source.piece)
                           ? hvi_session_copy_in(store->session, sql.data, shard->target.shard,
                                                 next_piece, &source, store->timeout, stored, error)
                           : hvi_no_memory(error);
    if (status != HV_OK && !hvi_buffer_ok(&source.piece))
        status = hvi_no_memory(error);
    hvi_buffer_fini(&sql);
    hvi_buffer_fini(&source.piece);
    return status;
}

static hv_status undo(const shard_rows *shard, hv_error **error) {
    shard->store->in_savepoint = false;
    return hvi_session_script(
        shard->store->session, "ROLLBACK TO SAVEPOINT hv_load; RELEASE SAVEPOINT hv_load",
        shard->target.shard, false, hvi_deadline_after(shard->store->timeout), NULL, error);
}

/* ---- what to do about a refusal ---- */

/* Is a row the cause, and not the shard, the role or the server? */
static bool is_fault_of_row(hv_status status, const hv_error *cause) {
    static const char *const others[] = {
        "08", /* connection */
        "25", /* the transaction: the server is read-only */
        "28", /* login */
        "3D", /* no such database */
        "3F", /* no such schema */
        "42", /* no privilege, or no such table or column */
        "53", /* disk full, out of memory */
        "55", /* another session has locked the table */
        "57", /* shutting down, canceled */
    };
    const char *sqlstate = cause != NULL ? hv_error_sqlstate(cause) : NULL;
    if (status != HV_REFUSED || sqlstate == NULL || hvi_refusal_is_stale(cause))
        return false;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strncmp(sqlstate, others[i], 2) == 0)
            return false;
    return true;
}

/* Has the server refused a COPY where it would allow an INSERT? */
static bool is_refused_copy(const shard_rows *shard, const hv_error *cause) {
    return !shard->inserts && hvi_error_has_sqlstate(cause, "0A000");
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
    row->error = NULL;
    if (hvi_refusal_is_of_row(*cause))
        hvi_target_explain(&shard->target, cause, &row->error);
    else
        hvi_error_move(&row->error, cause);
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

/* Several rows were refused: store those before the bad one and that one, or one half; *from moves
 * past the rows that are decided then. */
static hv_status divide(shard_rows *shard, size_t *from, size_t end, const hv_error *cause,
                        hv_error **error) {
    int64_t named = hvi_error_copy_row_of(cause);
    bool known = named >= 1 && (size_t) named <= end - *from;
    size_t bad = known ? *from + (size_t) named - 1 : *from + (end - *from) / 2;
    hv_status status = HV_OK;
    if (bad > *from)
        status = store_range(shard, *from, bad, error);
    if (status == HV_OK && known)
        status = store_range(shard, bad, bad + 1, error);
    *from = known ? bad + 1 : bad;
    return status;
}

/* A COPY of order[from .. end) was refused, and undone. */
static hv_status answer_refusal(shard_rows *shard, size_t *from, size_t *end, hv_error **cause,
                                hv_error **error) {
    hvi_load_store *store = shard->store;
    bool has_key = row_at(store, *from)->key != 0;
    if (has_key && hvi_refusal_is_unique_violation(*cause)) {
        size_t before = *end;
        hv_status status = hvi_load_keys_sift(&shard->keys, *from, end, error);
        if (status != HV_OK || *end < before)
            return status;
    }
    if (!has_key && hvi_refusal_is_key_collision(*cause) && ++shard->tries < COLLISION_TRIES)
        return HV_OK;
    if (!has_key && hvi_refusal_is_key_collision(*cause) && *end - *from == 1)
        hvi_refusal_explain_collision(cause);
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

/* ---- by the statements of puts ---- */

/* Has this row the key of the one before it? Those of a shard are ordered by their keys. */
static bool is_double(const hvi_load_store *store, size_t position) {
    int64_t key = row_at(store, position)->key;
    return key != 0 && key == row_at(store, position - 1)->key;
}

/* The end of the rows that can be stored at once: their keys differ. */
static size_t end_of_insert(const hvi_load_store *store, size_t from, size_t end) {
    size_t most = store->session->hstore_array_type != 0 ? HVI_LOAD_INSERT_MAX : 1, bytes = 0;
    size_t at = from;
    while (at < end && at - from < most && bytes < INSERT_BYTES &&
           (at == from || !is_double(store, at)))
        bytes += row_at(store, at++)->len;
    return at;
}

/* Store order[from .. end), and decide all of them, or nothing. The range's order is lost. */
static hv_status insert(shard_rows *shard, size_t from, size_t end, hv_error **error) {
    hvi_load_store *store = shard->store;
    size_t *order = store->batch->order, left = from;
    int64_t deadline = hvi_deadline_after(store->timeout);
    hv_status status = hvi_session_script(store->session, savepoint(store), shard->target.shard,
                                          false, deadline, NULL, error);
    if (status == HV_OK)
        status = hvi_load_insert(store->session, &shard->target, store->batch, order + from,
                                 end - from, deadline, error);
    if (status != HV_OK)
        return status;
    for (size_t i = from; i < end; i++)
        if (row_at(store, i)->state == HVI_LOAD_WAITING)
            order[left++] = order[i];
    if (left > from)
        status = hvi_load_keys_sift(&shard->keys, from, &left, error);
    shard->is_lost = status != HV_OK;
    for (size_t i = from; status == HV_OK && i < left; i++)
        hvi_load_insert_refuse(&shard->target, row_at(store, i));
    return status;
}

/* Store order[from .. *end), or fewer: then *end moves. */
static hv_status store_some(shard_rows *shard, size_t from, size_t *end, hv_error **error) {
    int64_t stored = 0;
    if (!shard->inserts) {
        hv_status status = copy(shard, from, *end, &stored, error);
        if (status == HV_OK && (size_t) stored == *end - from)
            mark_stored(shard->store, from, *end);
        if (status != HV_OK || (size_t) stored == *end - from)
            return status;
        shard->inserts = true;
        status = undo(shard, error);
        if (status != HV_OK)
            return status;
    }
    *end = end_of_insert(shard->store, from, *end);
    return insert(shard, from, *end, error);
}

/* Store all of order[from .. end): rows of one shard, all with keys or all without. */
static hv_status store_range(shard_rows *shard, size_t from, size_t end, hv_error **error) {
    hvi_load_store *store = shard->store;
    hv_status status = HV_OK;
    shard->tries = 0;
    while (status == HV_OK && from < end) {
        size_t part = end - from < shard->limit ? end : from + shard->limit;
        hv_error *cause = NULL;
        status = store_some(shard, from, &part, &cause);
        if (status == HV_OK) {
            from = part;
            shard->tries = 0;
            shard->limit = shard->limit < SIZE_MAX / 2 ? 2 * shard->limit : SIZE_MAX;
            continue;
        }
        if (shard->is_lost || !is_fault_of_row(status, cause))
            return hvi_target_explain(&shard->target, &cause, error);
        status = undo(shard, error);
        size_t left = part;
        if (status == HV_OK && is_refused_copy(shard, cause))
            shard->inserts = true;
        else if (status == HV_OK)
            status = answer_refusal(shard, &from, &left, &cause, error);
        hv_error_free(cause);
        /* Rows that were sifted out are decided: close the gap. */
        size_t decided = part - left;
        if (decided > 0) {
            size_t *order = store->batch->order;
            memmove(order + left, order + part, (end - part) * sizeof *order);
            end -= decided;
        }
    }
    return status;
}

/* ---- all shards ---- */

static hv_status store_shard(hvi_load_store *store, size_t from, size_t end, hv_error **error) {
    shard_rows shard = {.store = store, .limit = SIZE_MAX};
    hv_status status =
        hvi_target_init(&shard.target, store->router, row_at(store, from)->shard, error);
    shard.keys = (hvi_load_keys){
        .session = store->session,
        .batch = store->batch,
        .target = &shard.target,
        .epoch = store->router->options->values[HVI_EPOCH],
        .timeout = store->timeout,
    };
    size_t keyed = from; /* the first row that has a key */
    while (keyed < end && row_at(store, keyed)->key == 0)
        keyed++;
    if (status == HV_OK && from < keyed)
        status = store_range(&shard, from, keyed, error);
    bool has_triggers = false;
    if (status == HV_OK && keyed < end)
        status = hvi_load_keys_prepare(&shard.keys, keyed, &end, &has_triggers, error);
    shard.inserts = shard.inserts || has_triggers;
    if (status == HV_OK && keyed < end)
        status = store_range(&shard, keyed, end, error);
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
