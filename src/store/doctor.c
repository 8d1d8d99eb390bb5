/*
 * doctor: the public function that looks for what would keep shards from moving.
 */
#include "move/doctor.h"
#include "store/store.h"

static hv_status check_number(const hv_store *store, int server, hv_error **error) {
    if (server < store->router.server_count)
        return HV_OK;
    return hvi_fail(error, HV_INVALID, "server %d is out of range: 0 to %d", server,
                    store->router.server_count - 1);
}

hv_status hv_doctor(hv_store *store, int from, int to, int shard, hv_findings **findings,
                    hv_error **error) {
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    hvi_server *server = NULL;
    status = check_number(store, from, error);
    if (status == HV_OK)
        status = check_number(store, to, error);
    if (status == HV_OK)
        hvi_router_locate(&store->router);
    if (status == HV_OK && shard >= 0)
        status = hvi_router_find(&store->router, shard, &server, error);
    if (status == HV_OK && shard >= 0 && from >= 0 && server->number != from) {
        status = hvi_fail(error, HV_INVALID, "shard %d is not on server \"%s\"", shard,
                          store->router.servers[from].name);
        hvi_error_hint(error, "It is on server \"%s\".", server->name);
    }
    if (status == HV_OK)
        status = hvi_doctor(&store->router, from, to, shard, findings, error);
    return hvi_store_leave(&visit, status);
}
