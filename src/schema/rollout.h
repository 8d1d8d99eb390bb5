/*
 * rollout: the struct hv_rollout: on which shards something is done, how many at a time, how long
 * it waits, and when it stops.
 */
#ifndef HVI_ROLLOUT_H
#define HVI_ROLLOUT_H

#include "pool/router.h"

/* Waiting without limit, in ms. */
#define HVI_WAIT_FOREVER (-1)

struct hv_rollout {
    char *shards;   /* as set; owned; NULL: all */
    char **skipped; /* names of servers; owned */
    size_t skipped_count;
    int parallel; /* 0: the default of the work */
    int parallel_total;
    bool canary;
    int max_failures; /* INT_MAX: all */
    int64_t lock_timeout;
    int64_t max_wait; /* ms, or HVI_WAIT_FOREVER; 0: the default of the work */
    int64_t timeout;  /* ms; 0: no limit */
    bool per_server;
    bool write;
    char *once; /* owned; NULL: none */
    hv_rollout_fn observer;
    void *context; /* the observer's */
};

/* A copy (of an empty one for NULL); hv_rollout_free() it. NULL if memory is short. */
hv_rollout *hvi_rollout_copy(const hv_rollout *rollout);

/* The options of hv_each_shard() are for it alone: HV_INVALID, naming the first that is set. */
hv_status hvi_rollout_refuse_each(const hv_rollout *rollout, hv_error **error);

/* Is this server to be left out? */
bool hvi_rollout_skips(const hv_rollout *rollout, const char *server);

/*
 * The shards that are meant, in ascending order: free() *shards. The servers are asked where they
 * are. Errors: HV_INVALID for a text that names none, a shard that no server holds, a server to be
 * skipped that there is not, or if no shard is left; before they are asked, if that is certain.
 */
hv_status hvi_rollout_shards(const hv_rollout *rollout, hvi_router *router, int **shards,
                             int *count, hv_error **error);

/* The same for work that changes them: HV_MISMATCH for one that two servers claim. */
hv_status hvi_rollout_shards_to_change(const hv_rollout *rollout, hvi_router *router, int **shards,
                                       int *count, hv_error **error);

#endif
