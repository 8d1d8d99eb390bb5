/*
 * reserve: unused keys of a shard.
 *
 * The shard's function reserve_ids() returns keys that neither it nor next_id() returns again.
 * Losing a connection during a reservation does no harm: the keys are never used.
 */
#include "entity/reserve.h"

#include "value/generator.h"

hv_status hvi_reserve_init(hvi_operation *op, hvi_router *router, int shard, int count,
                           int64_t *keys, hv_error **error) {
    hv_status status = hvi_operation_init(op, &hvi_reserve, router, shard, error);
    op->item.count = count;
    op->keys = keys;
    if (status == HV_OK && (count < 1 || count > HVI_RESERVE_MAX))
        status = hvi_fail(error, HV_INVALID, "%d keys cannot be reserved at once: 1 to %d", count,
                          HVI_RESERVE_MAX);
    return status;
}

/* One key per row, in ascending order: each item takes as many as it asked for. */
bool hvi_reserve_read(hvi_item *const *items, size_t count, const PGresult *result) {
    int next = 0;
    for (size_t i = 0; i < count; i++) {
        items[i]->answered = next + items[i]->count <= PQntuples(result);
        items[i]->result = result;
        items[i]->row = next;
        next += items[i]->count;
    }
    return PQntuples(result) == next;
}

hv_status hvi_reserve_take(const hvi_operation *op, int64_t *keys, hv_error **error) {
    const hvi_item *item = &op->item;
    for (int i = 0; i < item->count; i++) {
        if (!hvi_target_has_key(&op->target, hvi_integer_at(item->result, item->row + i, 0)))
            return hvi_target_fail_keys(&op->target, "reserve_ids", error);
    }
    for (int i = 0; i < item->count; i++)
        keys[i] = hvi_integer_at(item->result, item->row + i, 0);
    return HV_OK;
}

hvi_next hvi_reserve_answered(hvi_operation *op) {
    return hvi_operation_done(op, hvi_reserve_take(op, op->keys, &op->error));
}

/* A shard that was made before reserve_ids() existed lacks it. */
hvi_next hvi_reserve_refused(hvi_operation *op, hv_error **cause) {
    const char *server = op->target.server->name;
    if (!hvi_error_has_sqlstate(*cause, "42883") || /* no such function */
        hvi_generator_lacks_extension(hv_error_sqlstate(*cause), hv_error_message(*cause)))
        return hvi_operation_fail(op, cause);
    hvi_fail(&op->error, HV_NOT_INITIALIZED, "shard %d on server \"%s\" cannot reserve keys",
             op->target.shard, server);
    hvi_error_detail(&op->error, "The function %s.reserve_ids() is missing.", op->target.schema);
    hvi_error_hint(&op->error, "Run `hv init --keys=strict` or `hv init --keys=portable`.");
    hvi_error_where(&op->error, server, op->target.shard);
    return hvi_operation_done(op, HV_NOT_INITIALIZED);
}
