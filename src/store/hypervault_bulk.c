/*
 * hypervault_bulk: the public functions for many entities at once: loads and scans.
 *
 * A load or scan counts as an operation under way from its opening to its end, so that hv_close()
 * does not take the store from under it.
 */
#include "entity/load.h"
#include "entity/scan.h"
#include "store/store.h"

/* ---- loads ---- */

hv_status hv_load_open(hv_store *store, int server, const char *name, hv_load **load,
                       hv_error **error) {
    hvi_server *found = NULL;
    hvi_visit visit;
    hv_status status = hvi_store_enter_server(&visit, store, server, &found, error);
    if (status != HV_OK)
        return status;
    status = hvi_load_open(&store->router, found, name, &store->users, load, error);
    return hvi_store_leave_behind(&visit, status);
}

hv_status hv_load_list(hv_store *store, int server, const char *prefix, hv_load_fn tell,
                       void *context, hv_error **error) {
    hvi_server *found = NULL;
    hvi_visit visit;
    hv_status status = hvi_store_enter_server(&visit, store, server, &found, error);
    if (status != HV_OK)
        return status;
    status = hvi_load_list(&store->router, found, prefix, tell, context, error);
    return hvi_store_leave(&visit, status);
}

/* ---- scans ---- */

hv_status hv_scan_open(hv_store *store, int shard, int64_t from, int64_t until, const int *kinds,
                       size_t kind_count, hv_scan **scan, hv_error **error) {
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_scan_open(&store->router, shard, from, until, kinds, kind_count, &store->users,
                           scan, error);
    return hvi_store_leave_behind(&visit, status);
}
