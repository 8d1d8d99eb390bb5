/*
 * explain: how the servers would find what a selection means; hv_explain().
 *
 * Each shard is asked for the plan of its first page, read alone, since its table may have other
 * indexes and other statistics than that of the next.
 */
#include <stdlib.h>

#include "entity/plan.h"
#include "store/store.h"
#include "store/survey.h"

/* The first page of a find has no more rows. */
#define PAGE_ROWS 256

typedef struct explained {
    int shard;
    hvi_plan plan; /* owned */
} explained;

typedef struct explanation {
    hvi_page page;     /* but its portion */
    explained *shards; /* with room for all; owned */
    size_t count;
} explanation;

static hvi_ask *ask(void *context, hvi_portion portion) {
    const explanation *e = context;
    hvi_page page = e->page;
    page.portion = portion;
    return hvi_plan_ask(&page);
}

static hv_status answer(void *context, hvi_portion portion, const PGresult *result,
                        hv_error **error) {
    explanation *e = context;
    explained *one = &e->shards[e->count++];
    *one = (explained){.shard = portion.shards[0], .plan = HVI_PLAN_EMPTY};
    for (int row = 0; row < PQntuples(result); row++)
        hvi_plan_add(&one->plan, PQgetvalue(result, row, 0));
    return hvi_buffer_ok(&one->plan.text) ? HV_OK : hvi_no_memory(error);
}

static int compare(const void *left, const void *right) {
    const explained *a = left, *b = right;
    return a->shard - b->shard;
}

/* How many entities each shard has between the bounds of the selection, by estimate. */
static hv_status estimate(hv_store *store, const hv_selection *selection, hvi_key_range range,
                          hv_counts **counts, hv_error **error) {
    hv_selection *bare = hv_selection_new();
    if (bare == NULL)
        return hvi_no_memory(error);
    hv_status status = HV_OK;
    const char *name;
    for (size_t i = 0; status == HV_OK && hv_dict_at(selection->skip, i, &name, NULL, NULL, NULL);
         i++)
        status = hv_selection_skip(bare, name, error);
    bare->has_shards = selection->has_shards;
    memcpy(bare->shards, selection->shards, sizeof bare->shards);
    bare->from = range.first;
    bare->until = hvi_key_range_is_empty(range) ? range.first
                  : range.last < INT64_MAX      ? range.last + 1
                                                : 0;
    bare->timeout = selection->timeout;
    if (status == HV_OK)
        status = hv_count(store, bare, HV_COUNT_SHARD, NULL, NULL, true, counts, error);
    hv_selection_free(bare);
    return status;
}

static int64_t count_of(const hv_counts *counts, int shard) {
    int64_t group, count;
    for (size_t i = 0; hv_counts_at(counts, i, &group, &count); i++)
        if (group == shard)
            return count;
    return 0;
}

static hv_status report(const explanation *e, const hv_counts *counts, hv_explain_fn each,
                        void *context, hv_error **error) {
    hvi_buffer warning = HVI_BUFFER_EMPTY;
    hv_status status = HV_OK;
    for (size_t i = 0; i < e->count && status == HV_OK; i++) {
        const explained *one = &e->shards[i];
        hvi_buffer_reset(&warning);
        hvi_plan_warn(&one->plan, count_of(counts, one->shard), e->page.selection->limit, &warning);
        if (!hvi_buffer_ok(&warning))
            status = hvi_no_memory(error);
        else
            each(context, one->shard, one->plan.text.len > 0 ? one->plan.text.data : "",
                 warning.len > 0 ? warning.data : NULL);
    }
    hvi_buffer_fini(&warning);
    return status;
}

/* Ask about each shard of the portions alone. */
static hv_status ask_all(hv_store *store, explanation *e, const hvi_portions *portions,
                         hv_error **error) {
    size_t count = 0, at = 0;
    for (size_t i = 0; i < portions->count; i++)
        count += (size_t) portions->items[i].count;
    hvi_portion *shards = malloc((count + 1) * sizeof *shards);
    e->shards = malloc((count + 1) * sizeof *e->shards);
    hv_status status = shards != NULL && e->shards != NULL ? HV_OK : hvi_no_memory(error);
    for (size_t i = 0; status == HV_OK && i < portions->count; i++) {
        const hvi_portion *portion = &portions->items[i];
        for (int j = 0; j < portion->count; j++)
            shards[at++] = (hvi_portion){portion->server, portion->shards + j, 1};
    }
    const hvi_survey survey = {
        .store = store,
        .selection = e->page.selection,
        .context = e,
        .ask = ask,
        .answer = answer,
    };
    if (status == HV_OK)
        status = hvi_survey_run(&survey, shards, count, error);
    if (status == HV_OK)
        qsort(e->shards, e->count, sizeof *e->shards, compare);
    free(shards);
    return status;
}

static hv_status explain(hv_store *store, const hv_selection *selection, hv_explain_fn each,
                         void *context, hv_error **error) {
    explanation e = {.page = {.selection = selection, .rows = PAGE_ROWS}};
    hvi_portions portions = {0};
    hvi_missing skipped = {0};
    hv_counts *counts = NULL;
    if (selection->limit > 0 && selection->limit < PAGE_ROWS)
        e.page.rows = (int) selection->limit;
    hv_status status = hvi_selection_bounds(selection, store->epoch, &e.page.range, error);
    if (status == HV_OK)
        status = hvi_portions_init(&portions, &store->router, selection, &skipped, error);
    if (status == HV_OK)
        status = estimate(store, selection, e.page.range, &counts, error);
    if (status == HV_OK)
        status = ask_all(store, &e, &portions, error);
    if (status == HV_OK)
        status = report(&e, counts, each, context, error);
    for (size_t i = 0; i < e.count; i++)
        hvi_plan_fini(&e.shards[i].plan);
    free(e.shards);
    hv_counts_free(counts);
    hvi_missing_fini(&skipped);
    hvi_portions_fini(&portions);
    return status;
}

hv_status hv_explain(hv_store *store, const hv_selection *selection, hv_explain_fn each,
                     void *context, hv_error **error) {
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    hv_selection *copy = hvi_selection_copy(selection);
    if (copy != NULL) {
        copy->partial = false; /* there is no list of what is missing */
        status = explain(store, copy, each, context, error);
    } else {
        status = hvi_no_memory(error);
    }
    hv_selection_free(copy);
    return hvi_store_leave(&visit, status);
}
