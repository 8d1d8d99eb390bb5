/*
 * router: shard → server and its pool.
 *
 * At first shards are where the configuration says, with the generation 0. A shard that moves gets
 * a higher generation with each move, and the router follows: it believes the highest generation
 * that it has heard of. Looking a shard up is one load without a lock, by any number of threads.
 */
#ifndef HVI_ROUTER_H
#define HVI_ROUTER_H

#include <stdatomic.h>

#include "config/options.h"
#include "pool/pool.h"

typedef struct hvi_server {
    const char *name; /* owned by the router's options */
    int number;
    hvi_pool pool;
    struct hvi_lanes *lanes; /* on the pool; made and freed by the router's owner */
} hvi_server;

typedef struct hvi_router {
    hv_options *options; /* a copy; owned */
    hvi_server *servers; /* owned */
    int server_count;
    _Atomic uint64_t *places; /* of each shard: its generation and server; owned */
    _Atomic int end;          /* no shard from here on has a server */
    _Atomic int16_t *rivals;  /* of each shard: the other server that claims it, and 1; owned */
    atomic_bool has_moved;    /* a shard has, since the servers were last asked; see locator */

    /* The locator's, which finds out where a shard is that has no server, or whether it is still
     * disputed; it may take a while. NULL in tests. */
    hv_status (*settle)(void *context, int shard, bool is_write, hv_error **error);
    hv_status (*settle_server)(void *context, int server, hv_error **error);
    void (*locate)(void *context);
    void *settle_context;
} hvi_router;

/* Validates and copies the options and makes a pool for each server. `check` is called with each
 * new session. */
hv_status hvi_router_init(hvi_router *router, const hv_options *options, hvi_session_check_fn check,
                          void *check_context, hv_error **error);

/* Nothing may be lent. */
void hvi_router_fini(hvi_router *router);

/* The server that holds a shard; if it has none, servers may be asked first, and waited for.
 * Errors: HV_INVALID for a number out of range, HV_NO_SERVER; HV_UNAVAILABLE: it may be on a server
 * that could not be asked. */
hv_status hvi_router_find(hvi_router *router, int shard, hvi_server **server, hv_error **error);

/* The number of the server that holds a shard; -1: none, or the shard is out of range. */
int hvi_router_holder(const hvi_router *router, int shard);

/* The generation of what is known about a shard; 0: it is where the configuration says. */
int64_t hvi_router_generation(const hvi_router *router, int shard);

/*
 * A shard is on this server since this generation, or a database says so for the first time of a
 * shard that had none. True if that is news: then it is reported once, through the log callback.
 * What is older than what is known, or as old, is ignored.
 */
bool hvi_router_move(hvi_router *router, int shard, int server, int64_t generation);

/* A shard that is on this server was asked for there and elsewhere. As hvi_router_move(), but it
 * may overrule what is as old, unless the configuration says so. */
bool hvi_router_learn(hvi_router *router, int shard, int server, int64_t generation);

/* A server that was asked for its shards has not got this one after all: ask again when it is next
 * used. Not if the configuration gives it to the server, or it has moved there. */
void hvi_router_forget(hvi_router *router, int shard, int server);

/* Another server (-1: none any more) claims the shard at the same generation: it is reported once,
 * through the log callback. Ends by itself with a higher generation. */
void hvi_router_dispute(hvi_router *router, int shard, int rival);

/* The server that disputes a shard, or -1. */
static inline int hvi_router_rival(const hvi_router *router, int shard) {
    return atomic_load_explicit(&router->rivals[shard], memory_order_relaxed) - 1;
}

/* Make sure that a shard can be used: see hvi_locator_settle(). */
hv_status hvi_router_settle(hvi_router *router, int shard, bool is_write, hv_error **error);

/* Before something is done with all shards of a server: make sure that they are known. Errors: that
 * of asking the server, with `shards = auto`. */
static inline hv_status hvi_router_settle_server(hvi_router *router, int server, hv_error **error) {
    return router->settle_server != NULL
               ? router->settle_server(router->settle_context, server, error)
               : HV_OK;
}

/* Ask the servers where their shards are, before work that lasts and would fail on a shard that is
 * missing where it is thought to be. One that does not answer within a second (the pool's
 * connections may all be lent) is met by the work itself. */
static inline void hvi_router_locate(hvi_router *router) {
    if (router->locate != NULL)
        router->locate(router->settle_context);
}

/* HV_MISMATCH: two servers claim the shard. */
hv_status hvi_router_fail_disputed(const hvi_router *router, int shard, hv_error **error);

/* The first shard above `after` that a server (-1: any) holds now, or -1. */
int hvi_router_next(const hvi_router *router, int server, int after);

/* The number of shards that a server (-1: any) holds now. */
int hvi_router_count(const hvi_router *router, int server);

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
