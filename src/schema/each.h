/*
 * each: the user's SQL on every shard, or once for each server: the jobs of hv_each_shard().
 */
#ifndef HVI_EACH_H
#define HVI_EACH_H

#include "base/sha256.h"
#include "schema/crew.h"
#include "schema/script.h"

typedef struct hvi_each {
    hvi_sql sql;
    char **parameters; /* owned, as the texts; an entry may be NULL */
    int parameter_count;
    hv_rollout *rollout; /* a copy; owned */
    hvi_crew *crew;      /* owned */
    int64_t max_wait;
    char *once_id; /* its record's, if it is run once; owned */
    char digest[HVI_SHA256_LEN];
} hvi_each;

/* Errors: as hv_each_shard(). hvi_each_fini() it in any case. Nothing is sent yet. */
hv_status hvi_each_init(hvi_each *each, hvi_router *router, const char *sql, int parameter_count,
                        const char *const *parameters, const hv_rollout *rollout, hv_error **error);

/* See hv_each_next(). */
hv_status hvi_each_next(hvi_each *each, hv_shard_answer *answer, hv_error **error);

/* Running statements are cancelled. Also in a forked child. */
void hvi_each_fini(hvi_each *each);

#endif
