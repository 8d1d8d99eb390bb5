/*
 * router: shard → server and its pool.
 */
#include "pool/router.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "wire/connect.h"

/* The part of a pool's configuration that comes from the options. */
static hvi_pool_config pool_config(const hv_options *options, const hvi_server_options *server) {
    return (hvi_pool_config){
        .session =
            {
                .server = server->name,
                .keywords = (const char *const *) server->keywords,
                .values = (const char *const *) server->values,
                .connector = options->has_connector
                                 ? options->connector
                                 : (hv_connector){.disconnect = hvi_libpq_disconnect},
                .own_connections = !options->has_connector,
                .utf8 = pg_char_to_encoding("UTF8"),
                .prepare = options->values[HVI_PREPARE] != 0,
                .prepared_max = (uint32_t) options->values[HVI_PREPARED_MAX],
                .log =
                    {
                        .fn = options->log,
                        .context = options->log_context,
                        .parameters = options->values[HVI_LOG_PARAMETERS] != 0,
                    },
            },
        .max = (int) options->values[HVI_POOL_MAX],
        .max_lifetime_us = options->values[HVI_MAX_LIFETIME] * 1000,
        .idle_timeout_us = options->values[HVI_IDLE_TIMEOUT] * 1000,
    };
}

/* ---- places ---- */

/* A place is one number, so that it can be read and changed at once: above, the generation; below,
 * the server's number and 1, so that 0 is none. */
#define SERVER_BITS 16

static uint64_t place_of(int server, int64_t generation) {
    return (uint64_t) generation << SERVER_BITS | (uint64_t) (server + 1);
}

static int server_of(uint64_t place) {
    return (int) (place & ((1 << SERVER_BITS) - 1)) - 1;
}

static int64_t generation_of(uint64_t place) {
    return (int64_t) (place >> SERVER_BITS);
}

/* Nothing else is read because of what a place says but the servers, which do not change: so the
 * order of this load and others does not matter. */
static uint64_t load_place(const hvi_router *router, int shard) {
    if (shard < 0 || shard >= HV_SHARDS)
        return 0;
    return atomic_load_explicit(&router->places[shard], memory_order_relaxed);
}

/* The shard has a server, for the first time. */
static void note_end(hvi_router *router, int shard) {
    int end = atomic_load(&router->end);
    while (end <= shard && !atomic_compare_exchange_weak(&router->end, &end, shard + 1)) {}
}

/* As the configuration says. */
static void place_shards(hvi_router *router) {
    for (int shard = 0; shard < HV_SHARDS; shard++) {
        int server = hvi_shard_map_server(&router->options->map, shard);
        atomic_init(&router->places[shard], place_of(server, 0));
        if (server >= 0)
            note_end(router, shard);
    }
}

int hvi_router_holder(const hvi_router *router, int shard) {
    return server_of(load_place(router, shard));
}

int64_t hvi_router_generation(const hvi_router *router, int shard) {
    return generation_of(load_place(router, shard));
}

int hvi_router_next(const hvi_router *router, int server, int after) {
    int end = atomic_load(&router->end);
    for (int shard = after < -1 ? 0 : after + 1; shard < end; shard++) {
        int holder = hvi_router_holder(router, shard);
        if (holder >= 0 && (server < 0 || holder == server))
            return shard;
    }
    return -1;
}

int hvi_router_count(const hvi_router *router, int server) {
    int count = 0;
    for (int shard = -1; (shard = hvi_router_next(router, server, shard)) >= 0;)
        count++;
    return count;
}

/* The statement of the event is a comment, so that a log of statements remains one. Takes *text. */
static void report(const hvi_router *router, int shard, int server, hv_status status,
                   hvi_buffer *text) {
    const hv_options *options = router->options;
    hvi_log log = {.fn = options->log, .context = options->log_context};
    hv_log_event event = {
        .statement = text->data,
        .server = router->servers[server].name,
        .shard = shard,
        .status = status,
    };
    if (hvi_buffer_ok(text))
        hvi_log_emit(&log, &event);
    hvi_buffer_fini(text);
}

static void report_move(const hvi_router *router, int shard, int from, int to, int64_t generation) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&text,
                             "-- shard %d has moved from server \"%s\" to server \"%s\""
                             " (generation %" PRId64 ")",
                             shard, router->servers[from].name, router->servers[to].name,
                             generation);
    report(router, shard, to, HV_MOVED, &text);
}

/* May what is known be replaced? */
static bool is_newer(const hvi_router *router, int shard, uint64_t known, int64_t generation,
                     bool overrules) {
    if (server_of(known) < 0 || generation > generation_of(known))
        return true;
    bool is_given = generation == 0 && hvi_shard_map_server(&router->options->map, shard) >= 0;
    return overrules && generation == generation_of(known) && !is_given;
}

static bool place(hvi_router *router, int shard, int server, int64_t generation, bool overrules) {
    if (shard < 0 || shard >= HV_SHARDS || server < 0 || server >= router->server_count)
        return false;
    uint64_t known = load_place(router, shard);
    do {
        if (!is_newer(router, shard, known, generation, overrules))
            return false;
    } while (!atomic_compare_exchange_weak(&router->places[shard], &known,
                                           place_of(server, generation)));
    int from = server_of(known);
    if (generation > generation_of(known))
        atomic_store(&router->rivals[shard], 0);
    if (from < 0)
        note_end(router, shard);
    if (from >= 0 && from != server) {
        atomic_store(&router->has_moved, true);
        report_move(router, shard, from, server, generation);
    }
    return from != server;
}

bool hvi_router_move(hvi_router *router, int shard, int server, int64_t generation) {
    return place(router, shard, server, generation, false);
}

bool hvi_router_learn(hvi_router *router, int shard, int server, int64_t generation) {
    return place(router, shard, server, generation, true);
}

void hvi_router_forget(hvi_router *router, int shard, int server) {
    uint64_t known = place_of(server, 0);
    if (hvi_options_auto(router->options) && hvi_shard_map_server(&router->options->map, shard) < 0)
        atomic_compare_exchange_strong(&router->places[shard], &known, 0);
}

/* ---- disputes ---- */

void hvi_router_dispute(hvi_router *router, int shard, int rival) {
    int16_t before = atomic_exchange(&router->rivals[shard], (int16_t) (rival + 1));
    int holder = hvi_router_holder(router, shard);
    if (rival < 0 || before == rival + 1 || holder < 0)
        return;
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&text,
                             "-- shard %d is on server \"%s\" and on server \"%s\", both at "
                             "generation %" PRId64 ": writes to it are refused",
                             shard, router->servers[holder].name, router->servers[rival].name,
                             hvi_router_generation(router, shard));
    report(router, shard, holder, HV_MISMATCH, &text);
}

hv_status hvi_router_fail_disputed(const hvi_router *router, int shard, hv_error **error) {
    int holder = hvi_router_holder(router, shard), rival = hvi_router_rival(router, shard);
    const char *one = holder >= 0 ? router->servers[holder].name : "";
    const char *other = rival >= 0 ? router->servers[rival].name : "";
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    hvi_fail(error, HV_MISMATCH, "both server \"%s\" and server \"%s\" hold shard %d", one, other,
             shard);
    hvi_error_detail(error,
                     "Both are at generation %" PRId64 ", so neither is known to be the right one. "
                     "Writes are refused; reads go to server \"%s\".",
                     hvi_router_generation(router, shard), one);
    hvi_error_hint(
        error,
        "Find out which one has the newest entities, bring over what only the other has, "
        "and there run ALTER SCHEMA %s RENAME TO %s_old.",
        schema, schema);
    hvi_error_where(error, one, shard);
    return HV_MISMATCH;
}

/* ---- the router ---- */

hv_status hvi_router_init(hvi_router *router, const hv_options *options, hvi_session_check_fn check,
                          void *check_context, hv_error **error) {
    *router = (hvi_router){0};
    hv_status status = hvi_options_validate(options, error);
    if (status != HV_OK)
        return status;
    router->options = hvi_options_copy(options);
    router->servers = calloc((size_t) options->server_count, sizeof *router->servers);
    router->places = malloc(HV_SHARDS * sizeof *router->places);
    router->rivals = calloc(HV_SHARDS, sizeof *router->rivals);
    if (router->options == NULL || router->servers == NULL || router->places == NULL ||
        router->rivals == NULL) {
        hvi_router_fini(router);
        return hvi_no_memory(error);
    }
    for (int i = 0; i < options->server_count; i++) {
        hvi_server *server = &router->servers[i];
        hvi_pool_config config = pool_config(router->options, &router->options->servers[i]);
        config.check = check;
        config.check_context = check_context;
        server->name = router->options->servers[i].name;
        server->number = i;
        status = hvi_pool_init(&server->pool, &config, error);
        if (status != HV_OK) {
            hvi_router_fini(router);
            return status;
        }
        router->server_count++;
    }
    place_shards(router);
    return HV_OK;
}

void hvi_router_fini(hvi_router *router) {
    for (int i = 0; i < router->server_count; i++)
        hvi_pool_fini(&router->servers[i].pool);
    free(router->servers);
    free(router->places);
    free(router->rivals);
    hv_options_free(router->options);
    *router = (hvi_router){0};
}

hv_status hvi_router_settle(hvi_router *router, int shard, bool is_write, hv_error **error) {
    bool has_server = hvi_router_holder(router, shard) >= 0;
    if (has_server && (!is_write || hvi_router_rival(router, shard) < 0))
        return HV_OK;
    if (router->settle != NULL && shard >= 0 && shard < HV_SHARDS)
        return router->settle(router->settle_context, shard, is_write, error);
    if (has_server)
        return hvi_router_fail_disputed(router, shard, error);
    hvi_fail(error, HV_NO_SERVER, "no server holds shard %d", shard);
    hvi_error_hint(error, "Add it to a server's \"shards\" in the configuration.");
    hvi_error_where(error, NULL, shard);
    return HV_NO_SERVER;
}

hv_status hvi_router_find(hvi_router *router, int shard, hvi_server **server, hv_error **error) {
    if (shard < 0 || shard >= HV_SHARDS)
        return hvi_fail(error, HV_INVALID, "shard %d is out of range: 0 to %d", shard,
                        HV_SHARDS - 1);
    int number;
    while ((number = hvi_router_holder(router, shard)) < 0) {
        hv_status status = hvi_router_settle(router, shard, false, error);
        if (status != HV_OK)
            return status;
    }
    *server = &router->servers[number];
    return HV_OK;
}

hv_status hvi_router_server(hvi_router *router, int number, hvi_server **server, hv_error **error) {
    if (number < 0 || number >= router->server_count)
        return hvi_fail(error, HV_INVALID, "server %d is out of range: 0 to %d", number,
                        router->server_count - 1);
    *server = &router->servers[number];
    return HV_OK;
}

int64_t hvi_router_pool_deadline(const hvi_router *router) {
    return hvi_deadline_after(router->options->values[HVI_POOL_BLOCK_TIMEOUT]);
}

int64_t hvi_router_operation_deadline(const hvi_router *router) {
    return hvi_deadline_after(router->options->values[HVI_OPERATION_TIMEOUT]);
}
