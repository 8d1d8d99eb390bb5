/*
 * offline: copying a shard under a lock, where there is no logical replication.
 *
 * One transaction of the source keeps all writers out from the first row that is copied to the
 * switch, which is that transaction's end. Readers go on until the switch. If the transaction is
 * lost, the copy is worth nothing and is begun again.
 *
 * Writers wait for max_offline at most: the copy is given up then, and the source ends the
 * transaction by itself if we are gone and it has not noticed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "wire/result.h"
#include "wire/session_copy.h"
#include "move/hook.h"
#include "move/state.h"

#define GENTLE_MS 3000
#define LOCK_MS   50
#define PIECE_MS  60000

static const hvi_form tables_form = {
    .asked = "the tables of a shard",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_BYTES, HVI_IS_BYTES},
};

/* Each table, and its columns in quotes; those that are generated are made again. */
static hv_status list_tables(hvi_move *move, PGresult **tables, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(
        &sql,
        "SELECT pg_catalog.quote_ident(c.relname), (SELECT COALESCE(pg_catalog.string_agg("
        "pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum), '') FROM"
        " pg_catalog.pg_attribute"
        " AS a WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0"
        " AND NOT a.attisdropped AND a.attgenerated OPERATOR(pg_catalog.=) '')"
        " FROM pg_catalog.pg_class AS c WHERE c.relnamespace OPERATOR(pg_catalog.=)"
        " '%s'::pg_catalog.regnamespace AND c.relkind OPERATOR(pg_catalog.=) 'r' ORDER BY c.oid",
        move->names.live);
    hv_status status = hvi_link_say(&move->witness, &sql, hvi_link_deadline(), tables, error);
    return status == HV_OK ? hvi_result_check(*tables, &tables_form, move->from.server->name,
                                              move->shard, error)
                           : status;
}

/* Against writers, not against readers. */
static hv_status lock(hvi_move *move, const PGresult *tables, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY, list = HVI_BUFFER_EMPTY;
    for (int i = 0; i < PQntuples(tables); i++)
        hvi_buffer_append_format(&list, "%sONLY %s.%s", i == 0 ? "" : ", ", move->names.live,
                                 hvi_text_at(tables, i, 0));
    if (!hvi_buffer_ok(&list) || list.len == 0)
        return hvi_no_memory(error);
    hvi_buffer_append_format(&sql,
                             "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
                             "SET LOCAL lock_timeout TO %d;"
                             "LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE;"
                             "SET LOCAL lock_timeout TO %d;"
                             "LOCK TABLE %s IN EXCLUSIVE MODE;"
                             "SET LOCAL idle_in_transaction_session_timeout TO %" PRId64,
                             GENTLE_MS, list.data, LOCK_MS, list.data, move->options.max_offline);
    hvi_buffer_fini(&list);
    hv_status status =
        hvi_link_say(&move->from, &sql, hvi_deadline_after(2L * GENTLE_MS), NULL, error);
    if (status != HV_OK && hvi_link_is_open(&move->from))
        hvi_link_run(&move->from, "ROLLBACK", hvi_link_deadline(), NULL, NULL);
    return status;
}

/* ---- the rows ---- */

static bool is_too_long(const hvi_move *move) {
    return hvi_interrupted() || hvi_clock_us() - move->locked > move->options.max_offline * 1000;
}

/* The writers go on at once; what the copy's sessions are in the middle of ends with them. */
static hv_status give_up(hvi_move *move, hv_error **error) {
    hvi_link_run(&move->from, "ROLLBACK", hvi_link_deadline(), NULL, NULL);
    hvi_link_close(&move->witness);
    hvi_fail(error, HV_TIMEOUT, "the copy of shard %d has taken longer than its writers may wait",
             move->shard);
    hvi_error_where(error, move->from.server->name, move->shard);
    hvi_error_detail(error, "The option max_offline allows %" PRId64 " ms.",
                     move->options.max_offline);
    return HV_TIMEOUT;
}

hv_status hvi_move_check_offline(hvi_move *move, hv_error **error) {
    bool holds = move->row.kind == HVI_MOVE_OFFLINE && move->locked > 0 &&
                 move->row.step > HVI_STEP_COPYING && move->row.step <= HVI_STEP_SWITCHING;
    return holds && is_too_long(move) ? give_up(move, error) : HV_OK;
}

/* A COPY from one server that is a COPY to the other. */
typedef struct pipe_of_rows {
    hvi_move *move;
    char *piece; /* owned, by libpq */
    hv_status status;
    hv_error *error;
} pipe_of_rows;

static bool next_piece(void *context, const char **piece, size_t *len) {
    pipe_of_rows *rows = context;
    PQfreemem(rows->piece);
    rows->piece = NULL;
    if (is_too_long(rows->move)) {
        rows->status = HV_TIMEOUT;
        return false;
    }
    rows->status = hvi_session_copy_next(rows->move->witness.session, rows->move->shard, PIECE_MS,
                                         &rows->piece, len, &rows->error);
    if (rows->status != HV_OK)
        return false;
    *piece = rows->piece;
    rows->move->row.bytes += (int64_t) *len;
    return true;
}

static hv_status copy_table(hvi_move *move, const char *table, const char *columns,
                            hv_error **error) {
    hvi_buffer out = HVI_BUFFER_EMPTY, in = HVI_BUFFER_EMPTY;
    pipe_of_rows rows = {.move = move};
    int64_t stored = 0;
    hvi_buffer_append_format(&out, "COPY (SELECT %s FROM ONLY %s.%s) TO STDOUT (FORMAT binary)",
                             columns, move->names.live, table);
    /* A table may have none, and rows all the same. */
    bool has_columns = *columns != '\0';
    hvi_buffer_append_format(&in, "BEGIN;COPY %s.%s %s%s%s FROM STDIN (FORMAT binary)",
                             move->names.stream, table, has_columns ? "(" : "", columns,
                             has_columns ? ")" : "");
    hv_status status =
        hvi_buffer_ok(&out) && hvi_buffer_ok(&in)
            ? hvi_session_copy_out(move->witness.session, out.data, move->shard, PIECE_MS, error)
            : hvi_no_memory(error);
    if (status == HV_OK)
        status = hvi_session_copy_in(move->to.session, in.data, move->shard, next_piece, &rows,
                                     PIECE_MS, &stored, error);
    if (rows.status == HV_TIMEOUT && rows.error == NULL) {
        /* Whatever the target says of a COPY that ends too early. */
        if (status != HV_OK && error != NULL) {
            hv_error_free(*error);
            *error = NULL;
        }
        status = give_up(move, error);
    } else if (status == HV_OK && rows.status != HV_NOT_FOUND && rows.status != HV_OK)
        status = hvi_error_move(error, &rows.error);
    if (status == HV_OK)
        status = hvi_link_run(&move->to, "COMMIT", hvi_link_deadline(), NULL, error);
    else if (hvi_link_is_open(&move->to))
        hvi_link_run(&move->to, "ROLLBACK", hvi_link_deadline(), NULL, NULL);
    move->row.rows += stored;
    PQfreemem(rows.piece);
    hv_error_free(rows.error);
    hvi_buffer_fini(&out);
    hvi_buffer_fini(&in);
    return status;
}

hv_status hvi_step_copying_offline(hvi_move *move, int64_t deadline, hvi_move_next *what,
                                   hvi_move_step *next, hv_error **error) {
    (void) deadline;
    PGresult *tables = NULL;
    hv_error *cause = NULL;
    char text[96];
    hvi_move_say(move, "waiting for the shard's writers");
    *what = HVI_NEXT_STAY;
    hv_status status = list_tables(move, &tables, error);
    if (status == HV_OK && move->stage == 0) {
        status = lock(move, tables, &cause);
        if (status != HV_OK) {
            PQclear(tables);
            return hvi_move_wait_for_lock(move, &move->witness, status, &cause, what, error);
        }
        move->locked = hvi_clock_us();
        move->row.rows = move->row.bytes = 0;
        move->stage = 1;
        hvi_move_reach("offline: locked");
    } else if (status == HV_OK && move->stage <= PQntuples(tables)) {
        /* One table for each turn. */
        const char *table = hvi_text_at(tables, move->stage - 1, 0);
        snprintf(text, sizeof text, "copying %s, while writers wait", table);
        hvi_move_say(move, text);
        status = copy_table(move, table, hvi_text_at(tables, move->stage - 1, 1), error);
        move->stage++;
    } else if (status == HV_OK) {
        *what = HVI_NEXT_STEP;
        *next = HVI_STEP_INDEXING;
    }
    PQclear(tables);
    return status;
}
