/*
 * operation: run one statement on the server that holds a shard.
 */
#include "entity/operation.h"

#include <inttypes.h>
#include <string.h>

#include "base/interrupt.h"
#include "value/limits.h"
#include "wire/refusal.h"
#include "wire/result.h"
#include "shard/shard_row.h"
#include "entity/entity_sql.h"

hv_status hvi_operation_init(hvi_operation *operation, hvi_router *router, int shard,
                             hv_error **error) {
    *operation = (hvi_operation){.router = router, .shard = shard};
    hv_status status = hvi_router_find(router, shard, &operation->server, error);
    if (status != HV_OK)
        return status;
    const hvi_log *log = &operation->server->pool.config.session.log;
    operation->wants_parameters = log->fn != NULL && log->parameters;
    hvi_schema_name(shard, operation->schema);
    return HV_OK;
}

hv_status hvi_operation_init_key(hvi_operation *operation, hvi_router *router, int64_t key,
                                 hv_error **error) {
    hvi_key_fields fields;
    hv_status status = hvi_check_key(key, &fields, error);
    return status == HV_OK ? hvi_operation_init(operation, router, fields.shard, error) : status;
}

/* The server does not know the shard's schema or table, or one of its functions. */
static hv_status fail_not_initialized(const hvi_operation *operation, const hv_error *cause,
                                      hv_error **error) {
    hv_status status = hvi_fail_not_initialized(operation->server->name, operation->shard, error);
    hvi_error_detail(error, "%s", hv_error_message(cause));
    hvi_error_sqlstate(error, hv_error_sqlstate(cause));
    return status;
}

static bool is_missing_relation(const hv_error *cause) {
    const char *sqlstate = hv_error_sqlstate(cause);
    return sqlstate != NULL && (strcmp(sqlstate, "42P01") == 0 || strcmp(sqlstate, "3F000") == 0);
}

hv_status hvi_operation_run(hvi_operation *operation, hvi_statement_verb verb,
                            const hvi_query *query, int64_t deadline, PGresult **result,
                            hv_error **error) {
    char sql[HVI_ENTITY_SQL_LEN];
    hvi_query sent = *query;
    sent.sql = sql;
    sent.shard = operation->shard;
    sent.id = hvi_statement_id(verb, operation->shard);
    hvi_pool *pool = &operation->server->pool;
    hv_error *cause = NULL;
    hv_status status = HV_OK;
    bool again = true;
    for (int try = 0; again; try++) {
        hvi_session *session = NULL;
        int64_t pool_deadline = hvi_router_pool_deadline(operation->router);
        status = hvi_pool_acquire(pool, pool_deadline < deadline ? pool_deadline : deadline,
                                  &session, &cause);
        if (status != HV_OK)
            break;
        hvi_entity_sql(verb, operation->schema, session->reads_text, sql);
        if (hvi_interrupted()) /* while it is certain that nothing happens */
            status = hvi_fail_late(operation->server->name, operation->shard, false, &cause);
        else
            status = hvi_session_run(session, &sent, deadline, result, &cause);
        bool is_lost = status == HV_UNAVAILABLE && session->broken;
        bool is_stale = status == HV_REFUSED && session->age != HVI_SESSION_CURRENT &&
                        hvi_refusal_is_stale(cause);
        again = (is_lost || is_stale) && try == 0;
        hvi_pool_release(pool, session);
    }
    if (status == HV_OK) {
        hv_error_free(cause); /* of the try before */
        return HV_OK;
    }
    return hvi_operation_explain(operation, &cause, error);
}

hv_status hvi_operation_explain(const hvi_operation *operation, hv_error **cause,
                                hv_error **error) {
    if (hv_error_status(*cause) == HV_REFUSED && is_missing_relation(*cause)) {
        hv_status status = fail_not_initialized(operation, *cause, error);
        hv_error_free(*cause);
        *cause = NULL;
        return status;
    }
    if (hvi_refusal_is_of_row(*cause)) {
        hvi_operation_fail_not_stored(operation, *cause, error);
        hv_error_free(*cause);
        *cause = NULL;
        return HV_NOT_STORED;
    }
    hvi_error_where(cause, operation->server->name, operation->shard);
    return hvi_error_move(error, cause);
}

hv_status hvi_operation_fail_not_stored(const hvi_operation *operation, const hv_error *cause,
                                        hv_error **error) {
    return hvi_fail_not_stored(cause, operation->server->name, operation->shard, error);
}

hvi_lane_outcome hvi_operation_share(hvi_operation *operation, const hvi_lane_request *request,
                                     hvi_lane_answer *answer, hv_error **error) {
    if (operation->wants_parameters) /* a batch's parameters are no one operation's */
        return HVI_LANE_NONE;
    hv_error *cause = NULL;
    hvi_lane_outcome outcome = hvi_lane_run(operation->server->lanes, request, answer, &cause);
    if (cause != NULL)
        answer->status = hvi_operation_explain(operation, &cause, error);
    return outcome;
}

hv_status hvi_operation_fail_answer(const hvi_operation *operation, hv_error **error) {
    return hvi_fail_answer(operation->server->name, operation->shard, "a key", error, "sent none");
}

hv_status hvi_operation_fail_null(const hvi_operation *operation, int64_t key, bool no_kind,
                                  hv_error **error) {
    const char *column = no_kind ? "type" : "body";
    hvi_fail(error, HV_CORRUPT, "the entity %" PRId64 " of shard %d has no %s", key,
             operation->shard, column);
    hvi_error_detail(error, "The column %s of %s.entities is NULL there, which the table allows.",
                     column, operation->schema);
    hvi_error_hint(error,
                   "Give it one or remove it; then ALTER TABLE %s.entities ALTER COLUMN %s SET NOT "
                   "NULL.",
                   operation->schema, column);
    hvi_error_where(error, operation->server->name, operation->shard);
    return HV_CORRUPT;
}
