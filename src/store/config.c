/*
 * config: the public functions on the configuration that a store was opened with, and its file.
 */
#include <stdlib.h>
#include <string.h>

#include "base/shard_ranges.h"
#include "config/config_writer.h"
#include "store/store.h"

int hv_configured_server(const hv_store *store, int shard) {
    return hvi_shard_map_server(&store->router.options->map, shard);
}

bool hv_server_is_auto(const hv_store *store, int server) {
    return server >= 0 && server < store->router.server_count &&
           store->router.options->servers[server].is_auto;
}

int hv_shard_rival(const hv_store *store, int shard) {
    return shard >= 0 && shard < HV_SHARDS ? hvi_router_rival(&store->router, shard) : -1;
}

/* The shards that a server has now. */
static char *shards_of(const hvi_router *router, int server) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_shard_writer writer = {.text = &text};
    for (int shard = -1; (shard = hvi_router_next(router, server, shard)) >= 0;)
        hvi_shard_writer_add(&writer, shard);
    hvi_shard_writer_end(&writer);
    hvi_buffer_append(&text, "", 0); /* so that it has data */
    return hvi_buffer_take(&text);
}

/* The file must be this store's. */
static hv_status check_servers(const hvi_router *router, const hv_options *file, const char *path,
                               hv_error **error) {
    const char *stranger = NULL;
    for (int i = 0; i < file->server_count; i++)
        if (hvi_options_server(router->options, file->servers[i].name) < 0)
            stranger = file->servers[i].name;
    if (stranger != NULL) {
        hvi_fail(error, HV_BAD_CONFIG, "the store has no server \"%s\", which \"%s\" names",
                 stranger, path);
        hvi_error_hint(error, "Open the store with this file.");
        return HV_BAD_CONFIG;
    }
    for (int i = 0; i < router->server_count; i++) {
        if (hvi_options_server(file, router->servers[i].name) >= 0 ||
            hvi_router_count(router, i) == 0)
            continue;
        hvi_fail(error, HV_BAD_CONFIG, "\"%s\" has no section of server \"%s\", which holds shards",
                 path, router->servers[i].name);
        hvi_error_hint(error, "Add a section [server %s] first.", router->servers[i].name);
        return HV_BAD_CONFIG;
    }
    return HV_OK;
}

/* The changes that a file needs. */
typedef struct needed {
    hvi_config_change *changes; /* owned, as the array of their texts and the texts */
    char **texts;
    size_t count;
} needed;

static void fini_needed(needed *n) {
    for (size_t i = 0; i < n->count; i++)
        free(n->texts[i]);
    free(n->texts);
    free(n->changes);
}

/* Add a server's change, if there is one. */
static hv_status note_change(const hvi_router *router, const hv_options *file, int number,
                             needed *n, hv_error **error) {
    const hvi_server_options *server = &file->servers[number];
    char *now = shards_of(router, hvi_options_server(router->options, server->name));
    hvi_buffer was = HVI_BUFFER_EMPTY;
    hvi_config_shards(file, number, &was);
    hv_status status = now != NULL && hvi_buffer_ok(&was) ? HV_OK : hvi_no_memory(error);
    if (status == HV_OK && (server->is_auto || strcmp(now, was.data) != 0)) {
        n->changes[n->count] = (hvi_config_change){.server = server->name, .shards = now};
        n->texts[n->count++] = now;
        now = NULL;
    }
    free(now);
    hvi_buffer_fini(&was);
    return status;
}

static hv_status write_changes(const hvi_router *router, const hv_options *file, const char *path,
                               hv_error **error) {
    hv_status status = check_servers(router, file, path, error);
    if (status != HV_OK)
        return status;
    size_t most = (size_t) file->server_count;
    needed n = {.changes = calloc(most, sizeof *n.changes), .texts = calloc(most, sizeof *n.texts)};
    if (n.changes == NULL || n.texts == NULL)
        status = hvi_no_memory(error);
    for (int i = 0; status == HV_OK && i < file->server_count; i++)
        status = note_change(router, file, i, &n, error);
    if (status == HV_OK && n.count > 0)
        status = hvi_config_write(path, n.changes, n.count, error);
    fini_needed(&n);
    return status;
}

hv_status hv_config_write(hv_store *store, const char *path, hv_error **error) {
    hvi_visit visit;
    char *found = NULL;
    hv_options *file = hv_options_new();
    if (file == NULL)
        return hvi_no_memory(error);
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK) {
        hv_options_free(file);
        return status;
    }
    int64_t deadline = hvi_router_pool_deadline(&store->router);
    status = hv_options_load(file, path, &found, error);
    if (status == HV_OK)
        status = hvi_locator_ask_all(&store->locator, deadline, error);
    if (status == HV_OK)
        status = write_changes(&store->router, file, found, error);
    free(found);
    hv_options_free(file);
    return hvi_store_leave(&visit, status);
}
