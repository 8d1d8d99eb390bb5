/*
 * target: where an operation goes: a shard, and the server that holds it.
 */
#ifndef HVI_TARGET_H
#define HVI_TARGET_H

#include "pool/router.h"
#include "shard/layout.h"

typedef struct hvi_target {
    hvi_router *router;
    hvi_server *server;
    int shard;                        /* -1: several of the server's */
    char schema[HVI_SCHEMA_NAME_LEN]; /* "shard0012" */
} hvi_target;

/* Find the shard's server. Errors: HV_INVALID, HV_NO_SERVER. */
hv_status hvi_target_init(hvi_target *target, hvi_router *router, int shard, hv_error **error);

/* The same, but if servers would have to be asked first which of them has the shard, there is no
 * server yet: hvi_target_settle() asks them, or a queue does without waiting. */
hv_status hvi_target_init_later(hvi_target *target, hvi_router *router, int shard,
                                hv_error **error);

/* Find the shard's server if it is not known yet, and refuse to write to a shard that two servers
 * claim. Errors: those of hvi_locator_settle(). */
hv_status hvi_target_settle(hvi_target *target, bool is_write, hv_error **error);

/* hvi_target_init_later() for the shard of a key. Errors: also HV_INVALID if it is not a key. */
hv_status hvi_target_init_key(hvi_target *target, hvi_router *router, int64_t key,
                              hv_error **error);

/* Does this key lead to the target's shard? */
bool hvi_target_has_key(const hvi_target *target, int64_t key);

/* Does this refusal mean that the shard is missing there? */
bool hvi_target_is_missing(const hvi_target *target, const hv_error *refusal);

/* ---- errors ---- */

/* An error of a statement on the shard, as the caller gets it. Takes *cause. */
hv_status hvi_target_explain(const hvi_target *target, hv_error **cause, hv_error **error);

/* As hvi_fail_not_stored(), on this shard. */
hv_status hvi_target_fail_not_stored(const hvi_target *target, const hv_error *cause,
                                     hv_error **error);

/* HV_CORRUPT: `function` of the shard's schema has made a key of another shard. */
hv_status hvi_target_fail_keys(const hvi_target *target, const char *function, hv_error **error);

/* HV_CONFLICT: the key has an entity that is not the one to be stored under it. */
hv_status hvi_target_fail_conflict(const hvi_target *target, int64_t key, hv_error **error);

/* HV_CORRUPT: a row without a type (`no_kind`) or a body, which a table without NOT NULL allows. */
hv_status hvi_target_fail_null(const hvi_target *target, int64_t key, bool no_kind,
                               hv_error **error);

#endif
