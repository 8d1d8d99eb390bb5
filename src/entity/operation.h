/*
 * operation: run one statement on the server that holds a shard: what put, get and reserve share.
 */
#ifndef HVI_OPERATION_H
#define HVI_OPERATION_H

#include "pool/router.h"
#include "shard/layout.h"
#include "entity/lane.h"

typedef struct hvi_operation {
    hvi_router *router;
    hvi_server *server;
    int shard;
    char schema[HVI_SCHEMA_NAME_LEN]; /* "shard0012" */
    bool wants_parameters;            /* does the log want to see them? */
} hvi_operation;

/* Find the shard's server. Errors: HV_INVALID, HV_NO_SERVER. */
hv_status hvi_operation_init(hvi_operation *operation, hvi_router *router, int shard,
                             hv_error **error);

/* The same for the shard of a key. Errors: also HV_INVALID if it is no key. */
hv_status hvi_operation_init_key(hvi_operation *operation, hvi_router *router, int64_t key,
                                 hv_error **error);

/*
 * Run a statement of entities: `query` without its text, its id and its shard. A session that turns
 * out to be broken before the statement can have had an effect is replaced once. `deadline` bounds
 * the statement; waiting for a connection has the pool's own, or `deadline` if that is earlier.
 * *result belongs to the caller. Errors: what hv_put() may give.
 */
hv_status hvi_operation_run(hvi_operation *operation, hvi_statement_verb verb,
                            const hvi_query *query, int64_t deadline, PGresult **result,
                            hv_error **error);

/* An error of a statement on the operation's shard, as the caller gets it. Takes *cause. */
hv_status hvi_operation_explain(const hvi_operation *operation, hv_error **cause, hv_error **error);

/* hvi_lane_run() on the operation's server. The error of answer->status is in *error. */
hvi_lane_outcome hvi_operation_share(hvi_operation *operation, const hvi_lane_request *request,
                                     hvi_lane_answer *answer, hv_error **error);

/* As hvi_fail_not_stored(), on the operation's shard. */
hv_status hvi_operation_fail_not_stored(const hvi_operation *operation, const hv_error *cause,
                                        hv_error **error);

/* The error for an answer without the key that was asked for. */
hv_status hvi_operation_fail_answer(const hvi_operation *operation, hv_error **error);

/* HV_CORRUPT: a row without a type (`no_kind`) or a body, which a table without NOT NULL allows. */
hv_status hvi_operation_fail_null(const hvi_operation *operation, int64_t key, bool no_kind,
                                  hv_error **error);

#endif
