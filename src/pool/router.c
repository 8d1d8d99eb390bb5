/*
 * router: shard → server and its pool.
 */
#include "pool/router.h"

#include <stdlib.h>

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

/* Note which shards each server holds. */
static void list_shards(hvi_router *router) {
    int16_t *next = router->shards;
    for (int i = 0; i < router->server_count; i++) {
        hvi_server *server = &router->servers[i];
        int shard = -1;
        server->shards = next;
        while ((shard = hvi_shard_map_next(&router->options->map, i, shard)) >= 0)
            *next++ = (int16_t) shard;
        server->shard_count = (int) (next - server->shards);
    }
}

hv_status hvi_router_init(hvi_router *router, const hv_options *options, hvi_session_check_fn check,
                          void *check_context, hv_error **error) {
    *router = (hvi_router){0};
    hv_status status = hvi_options_validate(options, error);
    if (status != HV_OK)
        return status;
    router->options = hvi_options_copy(options);
    router->servers = calloc((size_t) options->server_count, sizeof *router->servers);
    router->shards = malloc(HV_SHARDS * sizeof *router->shards);
    if (router->options == NULL || router->servers == NULL || router->shards == NULL) {
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
    list_shards(router);
    return HV_OK;
}

void hvi_router_fini(hvi_router *router) {
    for (int i = 0; i < router->server_count; i++)
        hvi_pool_fini(&router->servers[i].pool);
    free(router->servers);
    free(router->shards);
    hv_options_free(router->options);
    *router = (hvi_router){0};
}

hv_status hvi_router_find(hvi_router *router, int shard, hvi_server **server, hv_error **error) {
    if (shard < 0 || shard >= HV_SHARDS)
        return hvi_fail(error, HV_INVALID, "shard %d is out of range: 0 to %d", shard,
                        HV_SHARDS - 1);
    int number = hvi_shard_map_server(&router->options->map, shard);
    if (number < 0) {
        hvi_fail(error, HV_NO_SERVER, "no server holds shard %d", shard);
        hvi_error_hint(error, "Add it to a server's \"shards\" in the configuration.");
        hvi_error_where(error, NULL, shard);
        return HV_NO_SERVER;
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
