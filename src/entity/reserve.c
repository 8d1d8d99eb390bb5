/*
 * reserve: unused keys of a shard.
 *
 * The shard's function reserve_ids() gives keys that neither it nor next_id() gives again. That a
 * connection is lost during a reservation does no harm: the keys are forgotten.
 */
#include "entity/reserve.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "value/key.h"

/* A shard made before there was reserve_ids(). */
static hv_status fail_no_function(const hvi_operation *operation, hv_error **error) {
    const char *server = operation->server->name;
    hvi_fail(error, HV_NOT_INITIALIZED, "shard %d on server \"%s\" cannot reserve keys",
             operation->shard, server);
    hvi_error_detail(error, "The function %s.reserve_ids() is missing.", operation->schema);
    hvi_error_hint(error, "Run `hv init --keys=strict` or `hv init --keys=portable`.");
    hvi_error_where(error, server, operation->shard);
    return HV_NOT_INITIALIZED;
}

hv_status hvi_reserve_check_key(const hvi_operation *operation, int64_t key, hv_error **error) {
    hvi_key_fields fields;
    if (hvi_key_unpack(key, &fields) && fields.shard == operation->shard)
        return HV_OK;
    hvi_fail(error, HV_CORRUPT, "%s.reserve_ids() does not make keys of shard %d",
             operation->schema, operation->shard);
    hvi_error_where(error, operation->server->name, operation->shard);
    return HV_CORRUPT;
}

hv_status hvi_reserve_fail(const hvi_operation *operation, hv_error **cause, hv_error **error) {
    const char *sqlstate = hv_error_sqlstate(*cause);
    if (sqlstate == NULL || strcmp(sqlstate, "42883") != 0 || /* no such function */
        hvi_generator_lacks_extension(sqlstate, hv_error_message(*cause)))
        return hvi_error_move(error, cause);
    hv_error_free(*cause);
    *cause = NULL;
    return fail_no_function(operation, error);
}

static hv_status take_keys(const hvi_operation *operation, const PGresult *result, int count,
                           int64_t *keys, hv_error **error) {
    const hvi_form *form = hvi_answer_form(HVI_STATEMENT_RESERVE);
    const char *server = operation->server->name;
    hv_status status = hvi_result_check(result, form, server, operation->shard, error);
    if (status == HV_OK && PQntuples(result) != count)
        status = hvi_fail_answer(server, operation->shard, form->asked, error,
                                 "sent %d keys, not %d", PQntuples(result), count);
    for (int i = 0; status == HV_OK && i < count; i++)
        status = hvi_reserve_check_key(operation, hvi_integer_at(result, i, 0), error);
    for (int i = 0; status == HV_OK && i < count; i++)
        keys[i] = hvi_integer_at(result, i, 0);
    return status;
}

/* With a statement of its own. */
static hv_status reserve_alone(hvi_operation *operation, int count, int64_t deadline, int64_t *keys,
                               hv_error **error) {
    char count_text[16];
    uint32_t count_wire = htobe32((uint32_t) count);
    snprintf(count_text, sizeof count_text, "%d", count);
    const char *log_values[] = {count_text};
    const char *values[] = {(const char *) &count_wire};
    const int lengths[] = {sizeof count_wire};
    const int formats[] = {1};
    hvi_query query = {
        .parameter_count = 1,
        .values = values,
        .lengths = lengths,
        .formats = formats,
        .binary_result = true,
        .log_values = operation->wants_parameters ? log_values : NULL,
    };
    PGresult *result = NULL;
    hv_status status =
        hvi_operation_run(operation, HVI_STATEMENT_RESERVE, &query, deadline, &result, error);
    if (status == HV_OK)
        status = take_keys(operation, result, count, keys, error);
    PQclear(result);
    return status;
}

/* A single key: in a lane, if that can be. */
static hv_status reserve_one(hvi_operation *operation, int64_t deadline, int64_t *key,
                             hv_error **error) {
    hvi_lane_request request = {.item = {.verb = HVI_RESERVE, .shard = operation->shard},
                                .deadline = deadline};
    hvi_lane_answer answer;
    hvi_lane_outcome outcome = hvi_operation_share(operation, &request, &answer, error);
    hv_status status;
    if (outcome != HVI_LANE_DONE) {
        status = reserve_alone(operation, 1, deadline, key, error);
        if (outcome == HVI_LANE_ALONE)
            hvi_lane_leave(operation->server->lanes, &answer);
        return status;
    }
    status = answer.status;
    if (status == HV_OK)
        status = hvi_reserve_check_key(operation, answer.key, error);
    if (status == HV_OK)
        *key = answer.key;
    hvi_lane_answer_fini(&answer);
    return status;
}

hv_status hvi_reserve(hvi_operation *operation, int count, int64_t deadline, int64_t *keys,
                      hv_error **error) {
    hv_error *cause = NULL;
    hv_status status = count == 1 ? reserve_one(operation, deadline, keys, &cause)
                                  : reserve_alone(operation, count, deadline, keys, &cause);
    if (status != HV_OK)
        status = hvi_reserve_fail(operation, &cause, error);
    return status;
}
