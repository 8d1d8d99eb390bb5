/*
 * scan: the entities of a shard in the order of their keys, by COPY, in bounded memory.
 *
 * One statement, so one snapshot. It has a transaction of its own, for two settings: no time limit
 * of the server on a statement that may well take hours, and no sorting, so that the server follows
 * the primary key and the first row comes at once, however large the shard is.
 *
 * A scan counts as a user of the store from its opening to its end, so that hv_close() does not
 * free a store that is in use.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/fork.h"
#include "value/copy_rows.h"
#include "value/hstore.h"
#include "value/limits.h"
#include "value/hstore_text.h"
#include "wire/session_copy.h"
#include "entity/locate.h"
#include "entity/target.h"
#include "entity/verb.h"
#include "store/store.h"

/* How often a shard that has gone is followed. */
#define MAX_HOPS 8

struct hv_scan {
    hv_store *store;
    hvi_target target;
    unsigned generation;  /* hvi_fork_generation() when it was opened */
    hvi_session *session; /* acquired; NULL when the scan is over */
    bool reads_text;      /* that of the session that it had */
    int64_t timeout;
    int64_t last; /* the previous key */
    bool goes_on; /* a row has failed, not the scan */
    hvi_copy_reader reader;
    hvi_copy_row row;
    hv_dict *dict; /* of the row; owned; NULL until it is asked for */
};

#define BEGIN                                             \
    "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;"     \
    "SET LOCAL statement_timeout TO 0;"                   \
    "SET LOCAL idle_in_transaction_session_timeout TO 0;" \
    "SET LOCAL enable_sort TO off;"

/* The entities to be scanned. */
typedef struct selection {
    int64_t from;
    int64_t until; /* 0: all */
    const int *kinds;
    size_t kind_count; /* 0: all */
} selection;

static void append_statement(hvi_buffer *sql, const char *schema, const selection *of,
                             bool as_text) {
    hvi_buffer_append_format(sql,
                             BEGIN "COPY (SELECT id, type, %s FROM %s.entities"
                                   " WHERE id OPERATOR(pg_catalog.>=) %" PRId64,
                             hvi_body_column(as_text), schema, of->from);
    if (of->until > 0)
        hvi_buffer_append_format(sql, " AND id OPERATOR(pg_catalog.<) %" PRId64, of->until);
    for (size_t i = 0; i < of->kind_count; i++)
        hvi_buffer_append_format(
            sql, "%s%d", i == 0 ? " AND type OPERATOR(pg_catalog.=) ANY ('{" : ",", of->kinds[i]);
    hvi_buffer_append_format(sql, "%s ORDER BY id) TO STDOUT (FORMAT binary)",
                             of->kind_count > 0 ? "}'::smallint[])" : "");
}

static hv_status begin(hv_scan *scan, const selection *of, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_pool *pool = &scan->target.server->pool;
    hv_error *cause = NULL;
    hv_status status = HV_OK;
    bool again = true;
    for (int try = 0; again; try++) {
        status = hvi_pool_acquire(pool, hvi_router_pool_deadline(scan->target.router),
                                  &scan->session, &cause);
        if (status != HV_OK)
            break;
        scan->reads_text = scan->session->reads_text;
        hvi_buffer_reset(&sql);
        append_statement(&sql, scan->target.schema, of, scan->reads_text);
        status = hvi_buffer_ok(&sql)
                     ? hvi_session_copy_out(scan->session, sql.data, scan->target.shard,
                                            scan->timeout, &cause)
                     : hvi_no_memory(&cause);
        again = status == HV_UNAVAILABLE && scan->session->broken && try == 0;
        if (status != HV_OK) {
            hvi_pool_release(pool, scan->session);
            scan->session = NULL;
        }
    }
    hvi_buffer_fini(&sql);
    if (status != HV_OK)
        return hvi_target_explain(&scan->target, &cause, error);
    hv_error_free(cause); /* of the first try */
    return HV_OK;
}

/* The same, on another server if the shard has gone there. Once the COPY has begun, its lock keeps
 * the shard where it is. */
static hv_status begin_where_it_is(hv_scan *scan, const selection *of, hv_error **error) {
    hv_error *cause = NULL;
    hv_status status = begin(scan, of, &cause);
    hvi_target *target = &scan->target;
    for (int hops = 0; status == HV_NOT_INITIALIZED && hops < MAX_HOPS; hops++) {
        hvi_server *other = hvi_where_else(target->router, target->shard, target->server);
        if (other == NULL)
            break;
        target->server = other;
        hv_error_free(cause);
        cause = NULL;
        status = begin(scan, of, &cause);
    }
    return status == HV_OK ? HV_OK : hvi_error_move(error, &cause);
}

/* Return the connection: at rest, or, in the middle of the COPY, to be closed. */
static void end(hv_scan *scan, bool at_rest) {
    if (scan->session == NULL)
        return;
    if (!at_rest)
        scan->session->broken = true;
    hvi_pool_release(&scan->target.server->pool, scan->session);
    scan->session = NULL;
}

static void free_scan(hv_scan *scan) {
    end(scan, false);
    hvi_copy_reader_fini(&scan->reader);
    hv_dict_free(scan->dict);
    free(scan);
}

static hv_status make_scan(hv_store *store, int shard, const selection *of, hv_scan **scan,
                           hv_error **error) {
    hv_status status = HV_OK;
    for (size_t i = 0; status == HV_OK && i < of->kind_count; i++)
        status = hvi_check_kind(of->kinds[i], error);
    if (status != HV_OK)
        return status;
    hv_scan *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    hvi_copy_reader_init(&made->reader);
    made->store = store;
    made->timeout = store->router.options->values[HVI_OPERATION_TIMEOUT];
    made->last = INT64_MIN;
    made->generation = hvi_fork_generation();
    status = hvi_target_init(&made->target, &store->router, shard, error);
    if (status == HV_OK)
        status = begin_where_it_is(made, of, error);
    if (status != HV_OK) {
        free_scan(made);
        return status;
    }
    *scan = made;
    return HV_OK;
}

hv_status hv_scan_open(hv_store *store, int shard, int64_t from, int64_t until, const int *kinds,
                       size_t kind_count, hv_scan **scan, hv_error **error) {
    const selection of = {from, until, kinds, kind_count};
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    return hvi_store_leave_object(&visit, make_scan(store, shard, &of, scan, error));
}

/* Read more of the stream. HV_NOT_FOUND at its end. */
static hv_status feed(hv_scan *scan, hv_error **error) {
    char *piece = NULL;
    size_t len = 0;
    hv_error *cause = NULL;
    hvi_interruptible operation;
    hvi_interrupt_begin(&operation, hvi_router_interrupt(scan->target.router));
    hv_status status = hvi_session_copy_next(scan->session, scan->target.shard, scan->timeout,
                                             &piece, &len, &cause);
    hvi_interrupt_end(&operation);
    if (status == HV_OK && !hvi_copy_feed(&scan->reader, piece, len))
        status = hvi_no_memory(&cause);
    PQfreemem(piece);
    if (status == HV_NOT_FOUND && !scan->reader.ended)
        status = hvi_fail(&cause, HV_CORRUPT, "a COPY ended in the middle");
    if (status != HV_OK)
        end(scan, status == HV_NOT_FOUND);
    if (status == HV_OK || status == HV_NOT_FOUND)
        return status;
    return hvi_target_explain(&scan->target, &cause, error);
}

static hv_status read_entity(hv_scan *scan, hv_error **error) {
    const hvi_copy_row *row = &scan->row;
    if (!row->has_kind || row->body == NULL)
        return hvi_target_fail_null(&scan->target, row->key, !row->has_kind, error);
    return scan->reads_text ? hvi_hstore_decode_text(row->body, row->body_len, &scan->dict, error)
                            : hvi_hstore_decode(row->body, row->body_len, &scan->dict, error);
}

hv_status hv_scan_next(hv_scan *scan, hv_error **error) {
    hv_error *cause = NULL;
    hv_status status;
    if (hvi_store_is_foreign(scan->generation))
        return hvi_fail(error, HV_INVALID, "the scan is another process's");
    hv_dict_free(scan->dict);
    scan->dict = NULL;
    scan->goes_on = false;
    while ((status = hvi_copy_read(&scan->reader, &scan->row, &cause)) == HV_NOT_FOUND) {
        if (scan->session == NULL)
            return HV_NOT_FOUND;
        status = feed(scan, error);
        if (status != HV_OK)
            return status;
    }
    if (status == HV_OK && scan->row.key <= scan->last)
        status = hvi_fail(&cause, HV_CORRUPT, "keys of a scan are not in order");
    if (status != HV_OK) {
        end(scan, false);
        scan->reader.ended = true;
        return hvi_target_explain(&scan->target, &cause, error);
    }
    scan->last = scan->row.key;
    status = read_entity(scan, &cause);
    scan->goes_on = status == HV_CORRUPT;
    return status == HV_OK ? HV_OK : hvi_target_explain(&scan->target, &cause, error);
}

bool hv_scan_goes_on(const hv_scan *scan) {
    return scan->goes_on;
}

void hv_scan_close(hv_scan *scan) {
    if (scan == NULL)
        return;
    hv_store *store = scan->store;
    bool foreign = hvi_store_is_foreign(scan->generation);
    if (foreign)
        scan->session = NULL;
    free_scan(scan);
    if (!foreign)
        hvi_store_drop_object(store);
}

int64_t hv_scan_key(const hv_scan *scan) {
    return scan->row.key;
}

int hv_scan_kind(const hv_scan *scan) {
    return scan->row.kind;
}

const hv_dict *hv_scan_dict(const hv_scan *scan) {
    return scan->dict;
}
