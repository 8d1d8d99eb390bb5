/*
 * verify_parts: comparing tables part by part.
 */
#include "move/verify_parts.h"

#include <stdlib.h>
#include <string.h>

#include "move/verify_looks.h"
#include "move/verify_sql.h"
#include "wire/result.h"

/* Rows in doubt are looked at together: at the end of a table, or if there are so many. */
#define DOUBTS_MANY 2000
#define DOUBTS_MAX  10000

/* After work on the servers they rest for this part of its time, so that others get their turn. */
#define REST_SHARE 4

/* A part with more of them than there is room for is compared again, so often. */
#define PART_TRIES 50

/* More rows that differ than this are read in pieces. */
#define PIECE_ROWS 200000

/* Parts that differ, after which it stops looking for more. */
#define FOUND_MAX 8

static bool is_by_hash(const hvi_verify_table *table) {
    return !table->by_range && table->part_count > 1;
}

/* ---- SQL ---- */

static void write_hashing(hvi_buffer *sql, const hvi_verify *verify, hvi_side side) {
    (void) verify, (void) side;
    hvi_verify_hashing_ask(sql);
}

static void write_tables(hvi_buffer *sql, const hvi_verify *verify, hvi_side side) {
    hvi_verify_tables_ask(sql, verify->tables.schemas[side]);
}

static void write_changes(hvi_buffer *sql, const hvi_verify *verify, hvi_side side) {
    hvi_verify_changes(sql, &verify->tables, hvi_verify_table_of(verify), side,
                       is_by_hash(hvi_verify_table_of(verify)) ? 0 : verify->part);
}

static void write_digest(hvi_buffer *sql, const hvi_verify *verify, hvi_side side) {
    hvi_verify_digest(sql, &verify->tables, hvi_verify_table_of(verify), side, verify->part);
}

static void write_rows(hvi_buffer *sql, const hvi_verify *verify, hvi_side side) {
    hvi_verify_rows(sql, &verify->tables, hvi_verify_table_of(verify), side, verify->part,
                    verify->pieces, verify->piece);
}

/* ---- from part to part ---- */

static void begin_pieces(hvi_verify *verify) {
    const hvi_part *part = &hvi_verify_table_of(verify)->parts[verify->part];
    int64_t rows = part->digests[HVI_SOURCE].rows > part->digests[HVI_TARGET].rows
                       ? part->digests[HVI_SOURCE].rows
                       : part->digests[HVI_TARGET].rows;
    verify->pieces = 1;
    while (verify->pieces < (1 << 20) && verify->pieces * (int64_t) PIECE_ROWS < rows)
        verify->pieces *= 2;
    verify->piece = 0;
    for (int side = 0; side < 2; side++) /* all that is read now is read after that */
        verify->read[side] = (hvi_part_digest){.horizon = verify->horizons[side]};
    hvi_verify_go(verify, HVI_VERIFY_ROWS);
}

/* How a part is begun. */
static void begin_part(hvi_verify *verify) {
    const hvi_verify_table *table = hvi_verify_table_of(verify);
    if (is_by_hash(table)) {
        begin_pieces(verify);
    } else if (verify->pass > 1 && table->parts[verify->part].is_known) {
        hvi_verify_go(verify, HVI_VERIFY_CHANGES);
    } else if (verify->direct && table->part_count > 1) {
        begin_pieces(verify);
    } else {
        hvi_verify_go(verify, HVI_VERIFY_DIGEST);
    }
}

/* Rows that were left in an earlier pass have another chance. If memory is short, they stay. */
static void recall_left(hvi_verify *verify) {
    for (size_t i = verify->left.count; i-- > 0;)
        if (verify->left.all[i].table == verify->table)
            hvi_doubts_move(&verify->left, i, &verify->doubts);
}

static void begin_table(hvi_verify *verify, size_t table) {
    verify->table = table;
    verify->part = 0;
    verify->table_rows = 0;
    verify->direct = false;
    hvi_verify_go(verify, HVI_VERIFY_NEXT);
    if (table == verify->tables.count)
        return;
    recall_left(verify);
    if (verify->pass == 1)
        hvi_verify_go(verify, HVI_VERIFY_SAMPLE);
    else if (is_by_hash(hvi_verify_table_of(verify)))
        hvi_verify_go(verify, HVI_VERIFY_CHANGES);
}

void hvi_verify_parts_again(hvi_verify *verify) {
    verify->pass++;
    verify->rows = 0;
    verify->parts_done = 0;
    begin_table(verify, 0);
}

/* The table's rows are all right, or left, or found to be wrong. */
static void end_table(hvi_verify *verify) {
    hvi_verify_table *table = hvi_verify_table_of(verify);
    verify->rows_total += verify->table_rows - table->rows;
    table->rows = verify->table_rows;
    free(verify->same);
    verify->same = NULL;
    begin_table(verify, verify->table + 1);
}

/* Is there no need to look any further? */
static bool has_found_enough(const hvi_verify *verify) {
    const hvi_verify_table *table = hvi_verify_table_of(verify);
    bool is_repeated = verify->part < table->part_count && table->parts[verify->part].tries > 0;
    return verify->found.count >= FOUND_MAX || (verify->found.count > 0 && is_repeated);
}

void hvi_verify_parts_next(hvi_verify *verify) {
    if (verify->table == verify->tables.count) {
        if (verify->pass == 1 && verify->found.count == 0)
            hvi_verify_parts_again(verify);
        else
            hvi_verify_go(verify, HVI_VERIFY_DONE);
        return;
    }
    const hvi_verify_table *table = hvi_verify_table_of(verify);
    while (verify->part < table->part_count && verify->same != NULL && verify->same[verify->part])
        verify->part++;
    bool is_end = verify->part == table->part_count;
    if (has_found_enough(verify))
        hvi_verify_go(verify, HVI_VERIFY_DONE);
    else if (verify->doubts.count >= DOUBTS_MANY || (is_end && verify->doubts.count > 0))
        hvi_verify_looks_begin(verify);
    else if (is_end)
        end_table(verify);
    else
        begin_part(verify);
}

static void end_part(hvi_verify *verify, int64_t rows) {
    verify->rows += rows;
    verify->table_rows += rows;
    verify->parts_done++;
    verify->part++;
    hvi_verify_go(verify, HVI_VERIFY_NEXT);
}

/* ---- answers about parts ---- */

static hv_status take_hashing(hvi_verify *verify) {
    const PGresult *left = verify->pair.results[HVI_SOURCE];
    const PGresult *right = verify->pair.results[HVI_TARGET];
    const char *ours = PQntuples(left) == 1 ? hvi_text_at(left, 0, 0) : NULL;
    const char *theirs = PQntuples(right) == 1 ? hvi_text_at(right, 0, 0) : NULL;
    bool alike = ours != NULL && theirs != NULL && strcmp(ours, theirs) == 0;
    verify->tables.hashing = alike ? HVI_HASH_RECORD : HVI_HASH_TEXT;
    hvi_verify_go(verify, HVI_VERIFY_TABLES);
    return HV_OK;
}

static hv_status take_tables(hvi_verify *verify, hv_error **error) {
    hv_status status =
        hvi_verify_tables_read(&verify->tables, verify->pair.results, &verify->pair, error);
    if (status != HV_OK)
        return status;
    for (size_t i = 0; i < verify->tables.count; i++)
        verify->rows_total += verify->tables.all[i].rows;
    begin_table(verify, 0);
    return HV_OK;
}

static hv_status divide(hvi_verify *verify, const PGresult *sample, hv_error **error) {
    hvi_verify_table *table = hvi_verify_table_of(verify);
    hv_status status =
        hvi_verify_divide(table, sample, hvi_verify_server_of(verify, HVI_SOURCE), error);
    if (status != HV_OK)
        return status;
    if (is_by_hash(table))
        hvi_verify_go(verify, HVI_VERIFY_DIGEST);
    else
        hvi_verify_go(verify, HVI_VERIFY_NEXT);
    return HV_OK;
}

/* The digests of both sides, of one part or all: free() them. */
static hv_status read_digests(hvi_verify *verify, size_t count, hvi_part_digest *digests[2],
                              hv_error **error) {
    hv_status status = HV_OK;
    for (int side = 0; side < 2 && status == HV_OK; side++) {
        digests[side] = calloc(count, sizeof *digests[side]);
        status =
            digests[side] == NULL
                ? hvi_no_memory(error)
                : hvi_verify_digest_read(verify->pair.results[side], hvi_verify_table_of(verify),
                                         hvi_verify_server_of(verify, side), digests[side], error);
        if (status == HV_OK)
            verify->horizons[side] = digests[side][0].horizon;
    }
    return status;
}

/* Are these the rows that were there before? `now` says how many there are, and are newer. */
static bool is_unchanged(const hvi_part_digest *before, const hvi_part_digest *now) {
    return now->content == 0 && now->rows == before->rows;
}

/* Take in what was counted and hashed; with `content`, otherwise only whether it has changed. */
static hv_status take_digests(hvi_verify *verify, bool content, hv_error **error) {
    hvi_verify_table *table = hvi_verify_table_of(verify);
    bool by_hash = is_by_hash(table), all_same = true;
    size_t count = by_hash ? table->part_count : 1;
    int64_t rows = 0;
    hvi_part_digest *digests[2] = {NULL, NULL};
    hv_status status = read_digests(verify, count, digests, error);
    if (status == HV_OK && by_hash && verify->same == NULL) {
        verify->same = calloc(count, sizeof *verify->same);
        status = verify->same == NULL ? hvi_no_memory(error) : HV_OK;
    }
    for (size_t i = 0; i < count && status == HV_OK; i++) {
        hvi_part *part = &table->parts[by_hash ? i : verify->part];
        const hvi_part_digest *ours = &digests[HVI_SOURCE][i], *theirs = &digests[HVI_TARGET][i];
        bool same = content ? ours->rows == theirs->rows && ours->content == theirs->content
                            : part->is_known && is_unchanged(&part->digests[HVI_SOURCE], ours) &&
                                  is_unchanged(&part->digests[HVI_TARGET], theirs);
        if (content) {
            part->digests[HVI_SOURCE] = *ours;
            part->digests[HVI_TARGET] = *theirs;
            part->is_known = true;
        }
        all_same = all_same && same;
        rows += same ? ours->rows : 0;
        if (by_hash)
            verify->same[i] = same;
    }
    free(digests[HVI_SOURCE]);
    free(digests[HVI_TARGET]);
    if (status != HV_OK)
        return status;
    verify->direct = false;
    if (by_hash && (content || all_same)) {
        verify->rows += rows;
        verify->table_rows += rows;
        hvi_verify_go(verify, HVI_VERIFY_NEXT);
    } else if (all_same) {
        end_part(verify, rows);
    } else if (content) {
        begin_pieces(verify);
    } else {
        hvi_verify_go(verify, HVI_VERIFY_DIGEST);
    }
    return HV_OK;
}

/* A part whose doubts are too many is compared again, after these were looked at, and so after what
 * the stream carried meanwhile has arrived. */
static hv_status repeat_part(hvi_verify *verify, hv_error **error) {
    hvi_part *part = &hvi_verify_table_of(verify)->parts[verify->part];
    if (++part->tries > PART_TRIES) {
        hvi_fail(error, HV_TIMEOUT, "shard %d is changed faster than it can be compared",
                 verify->sides.shard);
        hvi_error_detail(error, "The table %s still differs in more than %d rows.",
                         hvi_verify_table_of(verify)->title, DOUBTS_MAX);
        hvi_error_hint(error, HVI_VERIFY_TOO_FAST_HINT);
        hvi_error_where(error, hvi_verify_server_of(verify, HVI_TARGET), verify->sides.shard);
        return HV_TIMEOUT;
    }
    part->is_known = false;
    hvi_verify_looks_begin(verify);
    return HV_OK;
}

/* In a table without a key, a row's hash is the key, and there may be several of it. */
static void count_rows(hvi_part_digest *digest, const hvi_verify_table *table,
                       const hvi_verify_list *list) {
    if (table->key_count > 0)
        digest->rows += (int64_t) list->count;
    for (size_t i = 0; table->key_count == 0 && i < list->count; i++)
        digest->rows += (int64_t) list->rows[i].hash;
}

static hv_status take_rows(hvi_verify *verify, hv_error **error) {
    hvi_part *part = &hvi_verify_table_of(verify)->parts[verify->part];
    hvi_verify_list lists[2] = {{NULL, 0}, {NULL, 0}};
    hv_status status = HV_OK;
    size_t before = verify->doubts.count;
    bool all = true;
    for (int side = 0; side < 2 && status == HV_OK; side++) {
        status = hvi_verify_list_read(&lists[side], verify->pair.results[side],
                                      hvi_verify_server_of(verify, side), error);
        count_rows(&verify->read[side], hvi_verify_table_of(verify), &lists[side]);
    }
    if (status == HV_OK &&
        !hvi_doubts_compare(&verify->doubts, verify->table, verify->part, lists, DOUBTS_MAX, &all))
        status = hvi_no_memory(error);
    hvi_verify_list_fini(&lists[HVI_SOURCE]);
    hvi_verify_list_fini(&lists[HVI_TARGET]);
    if (status != HV_OK)
        return status;
    verify->direct = verify->doubts.count > before;
    if (!all) {
        memcpy(part->digests, verify->read, sizeof part->digests);
        return repeat_part(verify, error);
    }
    if (++verify->piece < verify->pieces)
        return HV_OK;
    memcpy(part->digests, verify->read, sizeof part->digests);
    part->is_known = true;
    end_part(verify, part->digests[HVI_SOURCE].rows);
    return HV_OK;
}

/* ---- steps ---- */

static hv_status send_both(hvi_verify *verify, hvi_verify_writer write, hv_error **error) {
    hv_status status = hvi_verify_send(verify, HVI_TARGET, write, error);
    return status == HV_OK ? hvi_verify_send(verify, HVI_SOURCE, write, error) : status;
}

/* A table that needs no sample is not asked for one. */
static hv_status enter_sample(hvi_verify *verify, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_verify_sample(&sql, &verify->tables, hvi_verify_table_of(verify));
    if (sql.len == 0 && hvi_buffer_ok(&sql))
        return divide(verify, NULL, error);
    return hvi_pair_send(&verify->pair, HVI_SOURCE, &sql, error);
}

hv_status hvi_verify_parts_enter(hvi_verify *verify, hv_error **error) {
    switch (verify->state) {
    case HVI_VERIFY_HASHING:
        return send_both(verify, write_hashing, error);
    case HVI_VERIFY_TABLES:
        return send_both(verify, write_tables, error);
    case HVI_VERIFY_SAMPLE:
        return enter_sample(verify, error);
    case HVI_VERIFY_CHANGES:
        return send_both(verify, write_changes, error);
    case HVI_VERIFY_DIGEST:
        return send_both(verify, write_digest, error);
    default:
        return send_both(verify, write_rows, error);
    }
}

/* The servers rest in proportion to what they did. */
static void rest(hvi_verify *verify) {
    hvi_verify_rest(verify, (hvi_clock_us() - verify->pair.started) / REST_SHARE);
}

hv_status hvi_verify_parts_answered(hvi_verify *verify, hv_error **error) {
    switch (verify->state) {
    case HVI_VERIFY_HASHING:
        return take_hashing(verify);
    case HVI_VERIFY_TABLES:
        return take_tables(verify, error);
    case HVI_VERIFY_SAMPLE:
        return divide(verify, verify->pair.results[HVI_SOURCE], error);
    case HVI_VERIFY_CHANGES:
        rest(verify);
        return take_digests(verify, false, error);
    case HVI_VERIFY_DIGEST:
        rest(verify);
        return take_digests(verify, true, error);
    default:
        rest(verify);
        return take_rows(verify, error);
    }
}
