/*
 * load_batch: rows that wait to be stored, as COPY will send them, and the state of each.
 */
#include "entity/load_batch.h"

#include <stdlib.h>
#include <string.h>

/* The bytes before the body in a tuple: number of columns, key if any, kind, body's length. */
#define BEFORE_BODY     (2 + 4 + 2 + 4)
#define BEFORE_BODY_KEY (BEFORE_BODY + 4 + 8)

void hvi_load_batch_fini(hvi_load_batch *batch) {
    for (size_t i = 0; i < batch->count; i++)
        hv_error_free(batch->rows[i].error);
    hvi_buffer_fini(&batch->tuples);
    free(batch->rows);
    free(batch->order);
    *batch = (hvi_load_batch){.tuples = HVI_BUFFER_EMPTY};
}

/* Record the row whose tuple is the last in `tuples`. */
static hv_status note_row(hvi_load_batch *batch, int64_t key, int shard, int kind,
                          hv_error **error) {
    if (batch->count == batch->room) {
        size_t room = batch->room > 0 ? 2 * batch->room : 256;
        hvi_load_row *rows = realloc(batch->rows, room * sizeof *rows);
        if (rows == NULL)
            return hvi_no_memory(error);
        batch->rows = rows;
        batch->room = room;
    }
    if (!hvi_buffer_ok(&batch->tuples))
        return hvi_no_memory(error);
    const hvi_load_row *last = batch->count > 0 ? &batch->rows[batch->count - 1] : NULL;
    size_t at = last != NULL ? last->at + last->len : 0;
    batch->rows[batch->count++] = (hvi_load_row){
        .key = key, .shard = shard, .kind = kind, .at = at, .len = batch->tuples.len - at};
    return HV_OK;
}

hv_status hvi_load_batch_add(hvi_load_batch *batch, int64_t key, int shard, int kind,
                             const hv_dict *dict, hv_error **error) {
    hvi_copy_append_row(&batch->tuples, key, kind, dict);
    return note_row(batch, key, shard, kind, error);
}

hv_status hvi_load_batch_add_encoded(hvi_load_batch *batch, int64_t key, int shard, int kind,
                                     const char *body, size_t body_len, hv_error **error) {
    hvi_copy_append_encoded_row(&batch->tuples, key, kind, body, body_len);
    return note_row(batch, key, shard, kind, error);
}

/* ---- the order of storing ---- */

static int compare(const void *left, const void *right, void *context) {
    const hvi_load_row *rows = context;
    size_t a = *(const size_t *) left, b = *(const size_t *) right;
    if (rows[a].shard != rows[b].shard)
        return rows[a].shard < rows[b].shard ? -1 : 1;
    if (rows[a].key != rows[b].key)
        return rows[a].key < rows[b].key ? -1 : 1;
    return a < b ? -1 : 1;
}

hv_status hvi_load_batch_sort(hvi_load_batch *batch, size_t count, size_t *waiting,
                              hv_error **error) {
    if (batch->order_room < count) {
        size_t *order = realloc(batch->order, batch->room * sizeof *order);
        if (order == NULL)
            return hvi_no_memory(error);
        batch->order = order;
        batch->order_room = batch->room;
    }
    size_t found = 0;
    bool sorted = true;
    for (size_t i = 0; i < count; i++) {
        if (batch->rows[i].state != HVI_LOAD_WAITING)
            continue;
        batch->order[found] = i;
        sorted = sorted && (found == 0 || compare(&batch->order[found - 1], &batch->order[found],
                                                  batch->rows) < 0);
        found++;
    }
    if (!sorted)
        qsort_r(batch->order, found, sizeof *batch->order, compare, batch->rows);
    *waiting = found;
    return HV_OK;
}

/* ---- afterwards ---- */

void hvi_load_batch_undo(hvi_load_batch *batch) {
    for (size_t i = 0; i < batch->count; i++)
        if (batch->rows[i].state == HVI_LOAD_STORED || batch->rows[i].state == HVI_LOAD_KNOWN)
            batch->rows[i].state = HVI_LOAD_WAITING;
}

void hvi_load_batch_drop(hvi_load_batch *batch, size_t count) {
    if (count == 0) /* there may be no rows, and no memory for them */
        return;
    for (size_t i = 0; i < count; i++)
        hv_error_free(batch->rows[i].error);
    size_t left = batch->count - count;
    size_t from = left > 0 ? batch->rows[count].at : batch->tuples.len;
    memmove(batch->rows, batch->rows + count, left * sizeof *batch->rows);
    if (from > 0)
        memmove(batch->tuples.data, batch->tuples.data + from, batch->tuples.len - from);
    batch->tuples.len -= from;
    for (size_t i = 0; i < left; i++)
        batch->rows[i].at -= from;
    batch->count = left;
}

const char *hvi_load_row_body(const hvi_load_batch *batch, const hvi_load_row *row, size_t *len) {
    size_t before = row->key != 0 ? BEFORE_BODY_KEY : BEFORE_BODY;
    *len = row->len - before;
    return batch->tuples.data + row->at + before;
}
