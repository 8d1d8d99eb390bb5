/*
 * load_insert: store rows of a load by the statements of puts.
 *
 * The statement is not kept prepared: it is needed only where triggers or policies of a table rule
 * out COPY, and a statement that is refused in a transaction cannot be mended there.
 */
#include "entity/load_insert.h"

#include <stdlib.h>

#include "wire/refusal.h"
#include "entity/group.h"

void hvi_load_insert_refuse(const hvi_target *target, hvi_load_row *row) {
    hv_error_free(row->error);
    row->error = NULL;
    row->state = HVI_LOAD_REFUSED;
    hvi_target_fail_not_stored(target, NULL, &row->error);
}

static void make_items(const hvi_load_batch *batch, const size_t *numbers, size_t count,
                       hvi_item *items, hvi_item **order) {
    for (size_t i = 0; i < count; i++) {
        const hvi_load_row *row = &batch->rows[numbers[i]];
        items[i] = (hvi_item){.verb = row->key != 0 ? &hvi_put_key : &hvi_put,
                              .shard = row->shard,
                              .key = row->key,
                              .kind = row->kind};
        items[i].body = hvi_load_row_body(batch, row, &items[i].body_len);
        items[i].ends[0] = items[i].body_len;
        order[i] = &items[i];
    }
}

hv_status hvi_load_insert(hvi_session *session, const hvi_target *target, hvi_load_batch *batch,
                          const size_t *numbers, size_t count, int64_t deadline, hv_error **error) {
    hvi_item *items = malloc(count * sizeof *items);
    hvi_item **order = malloc(count * sizeof *order);
    PGresult *result = NULL;
    hvi_group group; /* only one is made, as the keys differ */
    hvi_query query;
    hv_status status = HV_OK;
    if (items == NULL || order == NULL) {
        status = hvi_no_memory(error);
        goto out;
    }
    make_items(batch, numbers, count, items, order);
    hvi_groups_make(order, count, false, &group);
    if (!hvi_group_query(&group, session, false, &query))
        status = hvi_no_memory(error);
    query.id.verb = NULL;
    query.is_write = false; /* the commit is the write */
    if (status == HV_OK)
        status = hvi_session_run(session, &query, deadline, &result, error);
    if (status == HV_OK)
        hvi_group_answer(&group, result, target->server->name);
    if (status == HV_OK && group.error != NULL)
        status = hvi_error_move(error, &group.error);
    for (size_t i = 0; status == HV_OK && i < count; i++) {
        hvi_load_row *row = &batch->rows[numbers[i]];
        if (items[i].answered)
            row->state = HVI_LOAD_STORED;
        else if (items[i].swallowed && row->key == 0)
            hvi_load_insert_refuse(target, row);
    }
    hvi_group_fini(&group);

out:
    PQclear(result);
    free(order);
    free(items);
    return status;
}
