/*
 * portion: the shards of a selection, by server, in portions that share a statement.
 */
#include "entity/portion.h"

#include <stdlib.h>
#include <string.h>

#include "base/shard_ranges.h"

void hvi_portions_fini(hvi_portions *portions) {
    free(portions->items);
    free(portions->shards);
    *portions = (hvi_portions){0};
}

bool hvi_portion_has(const hvi_portion *portion, int shard) {
    int low = 0, high = portion->count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (portion->shards[middle] < shard)
            low = middle + 1;
        else
            high = middle;
    }
    return low < portion->count && portion->shards[low] == shard;
}

void hvi_portion_text(const hvi_portion *portion, hvi_buffer *text) {
    hvi_shard_writer writer = {.text = text};
    for (int i = 0; i < portion->count; i++)
        hvi_shard_writer_add(&writer, portion->shards[i]);
    hvi_shard_writer_end(&writer);
}

/* ---- dividing ---- */

static bool has_server(const hvi_router *router, const char *name) {
    for (int i = 0; i < router->server_count; i++)
        if (strcmp(router->servers[i].name, name) == 0)
            return true;
    return false;
}

static bool is_skipped(const hv_selection *selection, const hvi_server *server) {
    return hv_dict_get(selection->skip, server->name, HV_STRLEN, NULL, NULL);
}

/* That there is a server for each shard that was asked for, and for each that is to be skipped. */
static hv_status check(hvi_router *router, const hv_selection *selection, hv_error **error) {
    hvi_server *server;
    const char *name;
    for (size_t i = 0; hv_dict_at(selection->skip, i, &name, NULL, NULL, NULL); i++)
        if (!has_server(router, name)) {
            hvi_fail(error, HV_INVALID, "there is no server \"%s\" to skip", name);
            hvi_error_hint(error, "The sections of the configuration name the servers.");
            return HV_INVALID;
        }
    hv_status status = HV_OK;
    for (size_t i = 0; selection->has_shards && i < HV_SHARDS / 64; i++)
        for (uint64_t bits = selection->shards[i]; status == HV_OK && bits != 0; bits &= bits - 1)
            status =
                hvi_router_find(router, (int) (64 * i) + __builtin_ctzll(bits), &server, error);
    /* None may be left out because its server could not be asked. */
    for (int i = 0; status == HV_OK && !selection->has_shards && i < router->server_count; i++)
        if (!is_skipped(selection, &router->servers[i]))
            status = hvi_router_settle_server(router, i, error);
    return status;
}

static hv_status add_skipped(const hvi_portion *all, hvi_missing *missing, hv_error **error) {
    hvi_buffer shards = HVI_BUFFER_EMPTY;
    hv_error *cause = NULL;
    hvi_portion_text(all, &shards);
    hvi_fail(&cause, HV_UNAVAILABLE, "server \"%s\" is skipped", all->server->name);
    if (hvi_buffer_ok(&shards))
        hvi_error_detail(&cause, "Left out: the shards %s.", shards.data);
    hvi_error_where(&cause, all->server->name, -1);
    hvi_buffer_fini(&shards);
    return hvi_missing_add(missing, &cause, error);
}

/* In portions of about the same size. */
static void divide(hvi_portions *portions, const hvi_portion *all) {
    int parts = (all->count + HVI_PORTION_MAX - 1) / HVI_PORTION_MAX;
    for (int i = 0, begin = 0; i < parts; i++) {
        int end = all->count * (i + 1) / parts;
        portions->items[portions->count++] = (hvi_portion){
            .server = all->server, .shards = all->shards + begin, .count = end - begin};
        begin = end;
    }
}

/* The shards that are wanted, with the servers that hold them at one moment: a shard that moves
 * meanwhile is with one of the two. */
typedef struct wanted {
    int count;
    int16_t shards[HV_SHARDS];
    int16_t servers[HV_SHARDS];
} wanted;

static void list_wanted(const hvi_router *router, const hv_selection *selection, wanted *w) {
    w->count = 0;
    for (int shard = -1; (shard = hvi_router_next(router, -1, shard)) >= 0;)
        if (hvi_selection_has_shard(selection, shard)) {
            w->shards[w->count] = (int16_t) shard;
            w->servers[w->count++] = (int16_t) hvi_router_holder(router, shard);
        }
}

/* False if memory is short. */
static bool make_room(hvi_portions *portions, const hvi_router *router, const wanted *w) {
    size_t most = (size_t) (w->count / HVI_PORTION_MAX + router->server_count);
    portions->items = malloc(most * sizeof *portions->items);
    portions->shards = malloc(((size_t) w->count + 1) * sizeof *portions->shards);
    return portions->items != NULL && portions->shards != NULL;
}

/* The server's shards, as one portion. `room` is for all of them. */
static hvi_portion shards_of(const wanted *w, hvi_server *server, int16_t *room) {
    hvi_portion all = {.server = server, .shards = room};
    for (int i = 0; i < w->count; i++)
        if (w->servers[i] == server->number)
            room[all.count++] = w->shards[i];
    return all;
}

static hv_status list_portions(hvi_portions *portions, hvi_router *router,
                               const hv_selection *selection, const wanted *w, hvi_missing *missing,
                               hv_error **error) {
    hv_status status = HV_OK;
    if (!make_room(portions, router, w))
        return hvi_no_memory(error);
    int16_t *room = portions->shards;
    for (int i = 0; i < router->server_count && status == HV_OK; i++) {
        hvi_portion all = shards_of(w, &router->servers[i], room);
        room += all.count;
        if (all.count == 0)
            continue;
        if (is_skipped(selection, all.server))
            status = add_skipped(&all, missing, error);
        else
            divide(portions, &all);
    }
    return status;
}

hv_status hvi_portions_init(hvi_portions *portions, hvi_router *router,
                            const hv_selection *selection, hvi_missing *missing, hv_error **error) {
    wanted w;
    *portions = (hvi_portions){0};
    hv_status status = check(router, selection, error);
    if (status != HV_OK)
        return status;
    list_wanted(router, selection, &w);
    status = list_portions(portions, router, selection, &w, missing, error);
    if (status != HV_OK)
        hvi_portions_fini(portions);
    return status;
}
