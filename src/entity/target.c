/*
 * target: where an operation goes: a shard, and the server that holds it.
 */
#include "entity/target.h"

#include <inttypes.h>

#include "value/limits.h"
#include "wire/refusal.h"
#include "shard/shard_row.h"

hv_status hvi_target_init(hvi_target *target, hvi_router *router, int shard, hv_error **error) {
    *target = (hvi_target){.router = router, .shard = shard};
    hv_status status = hvi_router_find(router, shard, &target->server, error);
    if (status != HV_OK)
        return status;
    hvi_schema_name(shard, target->schema);
    return HV_OK;
}

hv_status hvi_target_init_later(hvi_target *target, hvi_router *router, int shard,
                                hv_error **error) {
    bool may_be_asked = shard >= 0 && shard < HV_SHARDS && hvi_options_auto(router->options);
    if (!may_be_asked || hvi_router_holder(router, shard) >= 0)
        return hvi_target_init(target, router, shard, error);
    *target = (hvi_target){.router = router, .shard = shard};
    hvi_schema_name(shard, target->schema);
    return HV_OK;
}

hv_status hvi_target_settle(hvi_target *target, bool is_write, hv_error **error) {
    hv_status status = HV_OK;
    if (target->server == NULL)
        status = hvi_router_find(target->router, target->shard, &target->server, error);
    if (status == HV_OK && is_write)
        status = hvi_router_settle(target->router, target->shard, true, error);
    return status;
}

hv_status hvi_target_init_key(hvi_target *target, hvi_router *router, int64_t key,
                              hv_error **error) {
    hvi_key_fields fields;
    hv_status status = hvi_check_key(key, &fields, error);
    return status == HV_OK ? hvi_target_init_later(target, router, fields.shard, error) : status;
}

bool hvi_target_has_key(const hvi_target *target, int64_t key) {
    hvi_key_fields fields;
    return hvi_key_unpack(key, &fields) && fields.shard == target->shard;
}

bool hvi_target_is_missing(const hvi_target *target, const hv_error *refusal) {
    bool is_missing = hvi_error_has_sqlstate(refusal, "42P01") || /* no such table … */
                      hvi_error_has_sqlstate(refusal, "3F000");   /* … or schema */
    return is_missing && hv_error_status(refusal) == HV_REFUSED && target->shard >= 0;
}

hv_status hvi_target_explain(const hvi_target *target, hv_error **cause, hv_error **error) {
    hv_status status;
    if (hvi_target_is_missing(target, *cause)) {
        status = hvi_fail_not_initialized(target->server->name, target->shard, error);
        hvi_error_detail(error, "%s", hv_error_message(*cause));
        hvi_error_sqlstate(error, hv_error_sqlstate(*cause));
    } else if (hvi_refusal_is_of_row(*cause)) {
        status = hvi_target_fail_not_stored(target, *cause, error);
    } else {
        hvi_error_where(cause, target->server->name, target->shard);
        return hvi_error_move(error, cause);
    }
    hv_error_free(*cause);
    *cause = NULL;
    return status;
}

hv_status hvi_target_fail_not_stored(const hvi_target *target, const hv_error *cause,
                                     hv_error **error) {
    return hvi_fail_not_stored(cause, target->server->name, target->shard, error);
}

hv_status hvi_target_fail_keys(const hvi_target *target, const char *function, hv_error **error) {
    hvi_fail(error, HV_CORRUPT, "%s.%s() does not make keys of shard %d", target->schema, function,
             target->shard);
    hvi_error_where(error, target->server->name, target->shard);
    return HV_CORRUPT;
}

hv_status hvi_target_fail_conflict(const hvi_target *target, int64_t key, hv_error **error) {
    hvi_fail(error, HV_CONFLICT, "the key %" PRId64 " has another entity", key);
    hvi_error_detail(error, "Its kind or its attributes are not the ones to be stored.");
    hvi_error_where(error, target->server->name, target->shard);
    return HV_CONFLICT;
}

hv_status hvi_target_fail_null(const hvi_target *target, int64_t key, bool no_kind,
                               hv_error **error) {
    const char *column = no_kind ? "type" : "body";
    hvi_fail(error, HV_CORRUPT, "the entity %" PRId64 " of shard %d has no %s", key, target->shard,
             column);
    hvi_error_detail(error, "The column %s of %s.entities is NULL there, which the table allows.",
                     column, target->schema);
    hvi_error_hint(error,
                   "Give it one or remove it; then ALTER TABLE %s.entities ALTER COLUMN %s SET NOT "
                   "NULL.",
                   target->schema, column);
    hvi_error_where(error, target->server->name, target->shard);
    return HV_CORRUPT;
}
