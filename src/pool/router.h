/*
 * router: shard → server and its pool.
 */
#ifndef HVI_ROUTER_H
#define HVI_ROUTER_H

#include "config/options.h"
#include "pool/pool.h"

typedef struct hvi_server {
    const char *name; /* owned by the router's options */
    int number;
    const int16_t *shards; /* that it holds, in ascending order; the router's */
    int shard_count;
    hvi_pool pool;
    struct hvi_lanes *lanes; /* on the pool; made and freed by the router's owner */
} hvi_server;

typedef struct hvi_router {
    hv_options *options; /* a copy; owned */
    hvi_server *servers; /* owned */
    int server_count;
    int16_t *shards; /* of all servers; owned */
} hvi_router;

/* Validates and copies the options and makes a pool for each server. `check` is called with each
 * new session. */
hv_status hvi_router_init(hvi_router *router, const hv_options *options, hvi_session_check_fn check,
                          void *check_context, hv_error **error);

/* Nothing may be lent. */
void hvi_router_fini(hvi_router *router);

/* The server that holds a shard. Errors: HV_INVALID for a number out of range, HV_NO_SERVER. */
hv_status hvi_router_find(hvi_router *router, int shard, hvi_server **server, hv_error **error);

/* A server by its number. Errors: HV_INVALID. */
hv_status hvi_router_server(hvi_router *router, int number, hvi_server **server, hv_error **error);

/* The hook that interrupts operations. */
static inline const hvi_interrupt *hvi_router_interrupt(const hvi_router *router) {
    return &router->options->interrupt;
}

/* How long a caller may wait for a connection: a deadline from now. */
int64_t hvi_router_pool_deadline(const hvi_router *router);

/* How long a statement of the store may take: a deadline from now. */
int64_t hvi_router_operation_deadline(const hvi_router *router);

#endif
