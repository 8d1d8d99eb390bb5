/*
 * summary: the struct hv_summary.
 */
#include "schema/summary.h"

#include <stdlib.h>

static const char *const names[] = {
    [HV_WORK_NOT_BEGUN] = "not begun", [HV_WORK_RUNNING] = "running",
    [HV_WORK_WAITING] = "waiting",     [HV_WORK_DONE] = "done",
    [HV_WORK_UNCHANGED] = "unchanged", [HV_WORK_FAILED] = "failed",
};

const char *hv_work_name(hv_work work) {
    return (size_t) work < sizeof names / sizeof names[0] ? names[work] : "?";
}

hv_summary *hvi_summary_new(size_t count) {
    hv_summary *summary = calloc(1, sizeof *summary);
    if (summary == NULL)
        return NULL;
    summary->entries = calloc(count > 0 ? count : 1, sizeof *summary->entries);
    if (summary->entries == NULL) {
        free(summary);
        return NULL;
    }
    summary->count = count;
    return summary;
}

void hv_summary_free(hv_summary *summary) {
    if (summary == NULL)
        return;
    for (size_t i = 0; i < summary->count; i++)
        hv_error_free(summary->entries[i].error);
    free(summary->entries);
    free(summary);
}

static int compare(const void *one, const void *other) {
    const hvi_summary_entry *a = one, *b = other;
    if (a->shard != b->shard)
        return a->shard < b->shard ? -1 : 1;
    return (a->server > b->server) - (a->server < b->server);
}

void hvi_summary_sort(hv_summary *summary) {
    qsort(summary->entries, summary->count, sizeof *summary->entries, compare);
}

size_t hv_summary_shards(const hv_summary *summary) {
    return summary->count;
}

size_t hv_summary_count(const hv_summary *summary, hv_work work) {
    size_t count = 0;
    for (size_t i = 0; i < summary->count; i++)
        count += summary->entries[i].work == work;
    return count;
}

bool hv_summary_at(const hv_summary *summary, size_t index, int *server, int *shard, hv_work *work,
                   const hv_error **error) {
    if (index >= summary->count)
        return false;
    const hvi_summary_entry *entry = &summary->entries[index];
    if (server != NULL)
        *server = entry->server;
    if (shard != NULL)
        *shard = entry->shard;
    if (work != NULL)
        *work = entry->work;
    if (error != NULL)
        *error = entry->error;
    return true;
}
