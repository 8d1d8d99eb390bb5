/*
 * work: the public functions that work on all shards: SQL, migrations, indexes, drift.
 *
 * Each enters the store and calls the module in src/schema that does it.
 */
#include <stdlib.h>

#include "schema/check.h"
#include "schema/each.h"
#include "schema/index_build.h"
#include "schema/index_list.h"
#include "schema/ledger_status.h"
#include "schema/migrate.h"
#include "schema/plan.h"
#include "store/store.h"

/* ---- SQL ---- */

struct hv_each {
    hv_store *store;
    unsigned generation; /* hvi_fork_generation() when it was made */
    hvi_each each;
};

hv_status hv_each_shard(hv_store *store, const char *sql, int parameter_count,
                        const char *const *parameters, const hv_rollout *rollout, hv_each **each,
                        hv_error **error) {
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    hv_each *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_store_leave(&visit, hvi_no_memory(error));
    made->store = store;
    made->generation = hvi_fork_generation();
    status = hvi_each_init(&made->each, &store->router, sql, parameter_count, parameters, rollout,
                           error);
    if (status == HV_OK) {
        *each = made;
    } else {
        hvi_each_fini(&made->each);
        free(made);
    }
    return hvi_store_leave_object(&visit, status);
}

static hv_status check_own(const hv_each *each, hv_error **error) {
    if (hvi_store_is_foreign(each->generation))
        return hvi_fail(error, HV_INVALID, "the answers of all shards are another process's");
    return HV_OK;
}

hv_status hv_each_next(hv_each *each, hv_shard_answer *answer, hv_error **error) {
    hvi_visit visit;
    hv_status status = check_own(each, error);
    if (status == HV_OK)
        status = hvi_store_enter(&visit, each->store, error);
    if (status != HV_OK)
        return status;
    return hvi_store_leave(&visit, hvi_each_next(&each->each, answer, error));
}

hv_status hv_each_summary(const hv_each *each, hv_summary **summary, hv_error **error) {
    hv_status status = check_own(each, error);
    return status == HV_OK ? hvi_crew_summary(each->each.crew, summary, error) : status;
}

void hv_each_close(hv_each *each) {
    if (each == NULL)
        return;
    bool is_foreign = hvi_store_is_foreign(each->generation);
    hvi_each_fini(&each->each);
    if (!is_foreign)
        hvi_store_drop_object(each->store);
    free(each);
}

/* ---- migrations ---- */

hv_status hv_migrate(hv_store *store, const hv_migrations *migrations, const hv_rollout *rollout,
                     hv_summary **summary, hv_error **error) {
    hvi_visit visit;
    if (summary != NULL)
        *summary = NULL;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_migrate(&store->router, migrations, rollout, summary, error);
    return hvi_store_leave(&visit, status);
}

hv_status hv_migrate_status(hv_store *store, const hv_migrations *migrations,
                            const hv_rollout *rollout, hv_ledger **ledger, hv_error **error) {
    hvi_visit visit;
    *ledger = NULL;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_migrate_status(&store->router, migrations, rollout, ledger, error);
    return hvi_store_leave(&visit, status);
}

hv_status hv_migrate_plan(hv_store *store, const hv_migrations *migrations,
                          const hv_rollout *rollout, hv_plan **plan, hv_error **error) {
    hvi_visit visit;
    *plan = NULL;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_migrate_plan(&store->router, migrations, rollout, plan, error);
    return hvi_store_leave(&visit, status);
}

/* ---- indexes ---- */

hv_status hv_index_create(hv_store *store, const hv_index *index, const hv_rollout *rollout,
                          hv_summary **summary, hv_error **error) {
    hvi_visit visit;
    if (summary != NULL)
        *summary = NULL;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    return hvi_store_leave(&visit,
                           hvi_index_create(&store->router, index, rollout, summary, error));
}

hv_status hv_index_drop(hv_store *store, const char *name, const hv_rollout *rollout,
                        hv_summary **summary, hv_error **error) {
    hvi_visit visit;
    if (summary != NULL)
        *summary = NULL;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    return hvi_store_leave(&visit, hvi_index_drop(&store->router, name, rollout, summary, error));
}

hv_status hv_index_list(hv_store *store, const hv_rollout *rollout, hv_indexes **indexes,
                        hv_error **error) {
    hvi_visit visit;
    *indexes = NULL;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    return hvi_store_leave(&visit, hvi_index_list(&store->router, rollout, indexes, error));
}

/* ---- drift ---- */

hv_status hv_schema_check(hv_store *store, const hv_rollout *rollout, hv_schema_report **report,
                          hv_error **error) {
    hvi_visit visit;
    *report = NULL;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    return hvi_store_leave(&visit, hvi_schema_check(&store->router, rollout, report, error));
}
