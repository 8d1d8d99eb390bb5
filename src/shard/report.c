/*
 * report: the state of a server, and the comparison of several.
 *
 * hvi_inspect() fills a report from one server. Only a comparison with another's report shows that
 * both hold the same shard: hv_compare_reports() writes it into both.
 */
#include "shard/report.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "shard/placement.h"

void hv_report_free(hv_report *report) {
    if (report == NULL)
        return;
    free(report->server);
    free(report->identity);
    free(report->postgres_version);
    free(report->database);
    free(report->extension);
    for (size_t i = 0; i < report->shard_count; i++) {
        free(report->shards[i].detail);
        free(report->shards[i].hint);
    }
    free(report->shards);
    free(report);
}

const char *hv_report_postgres_version(const hv_report *report) {
    return report->postgres_version;
}

const char *hv_report_database(const hv_report *report) {
    return report->database;
}

int hv_report_layout(const hv_report *report) {
    return report->layout;
}

const char *hv_report_extension(const hv_report *report) {
    return report->extension;
}

int hv_report_connections(const hv_report *report) {
    return report->connections;
}

int hv_report_max_connections(const hv_report *report) {
    return report->max_connections;
}

size_t hv_report_shard_count(const hv_report *report) {
    return report->shard_count;
}

bool hv_report_shard(const hv_report *report, size_t index, int *shard, hv_shard_state *state,
                     int64_t *entities, bool *exact, int64_t *bytes) {
    if (index >= report->shard_count)
        return false;
    const hvi_report_shard *at = &report->shards[index];
    if (shard != NULL)
        *shard = at->shard;
    if (state != NULL)
        *state = at->state;
    if (entities != NULL)
        *entities = at->entities;
    if (exact != NULL)
        *exact = at->exact;
    if (bytes != NULL)
        *bytes = at->bytes;
    return true;
}

hv_keys hv_report_shard_keys(const hv_report *report, size_t index) {
    return index < report->shard_count ? report->shards[index].keys : HV_KEYS_NONE;
}

const char *hv_report_shard_detail(const hv_report *report, size_t index) {
    return index < report->shard_count ? report->shards[index].detail : NULL;
}

const char *hv_report_shard_hint(const hv_report *report, size_t index) {
    return index < report->shard_count ? report->shards[index].hint : NULL;
}

/* ---- several together ---- */

static hvi_report_shard *find_shard(const hv_report *report, int shard) {
    size_t low = 0, high = report->shard_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (report->shards[middle].shard < shard)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < report->shard_count && report->shards[low].shard == shard;
    return found ? &report->shards[low] : NULL;
}

/* Put words before those that are in a text. */
static hv_status add_words(char **to, const char *format, const char *server, hv_error **error) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&text, format, server);
    if (*to != NULL)
        hvi_buffer_append_format(&text, "; %s", *to);
    free(*to);
    *to = hvi_buffer_take(&text);
    return *to != NULL ? HV_OK : hvi_no_memory(error);
}

static hv_status set_hint(char **to, const char *text, hv_error **error) {
    free(*to);
    *to = strdup(text);
    return *to != NULL ? HV_OK : hvi_no_memory(error);
}

static const char which_hint[] =
    "Find out which of them has the shard's entities, and rename or drop the schema on the other.";
static const char place_hint[] =
    "Correct \"shards\" in the configuration, or move the shard with all its entities; `hv init` "
    "would make an empty one.";

/* The configuration gives the shard to this server, and another holds it, as well or instead. */
static hv_status note_held(const hv_report *report, hvi_report_shard *shard,
                           const hv_report *holder, hvi_report_shard *held, hv_error **error) {
    bool twice = shard->is_held;
    hv_status status =
        add_words(&shard->detail, twice ? "server \"%s\" holds it too" : "server \"%s\" holds it",
                  holder->server, error);
    if (status == HV_OK)
        status = set_hint(&shard->hint, twice ? which_hint : place_hint, error);
    if (status == HV_OK)
        status =
            add_words(&held->detail,
                      twice ? "server \"%s\", to which the configuration gives it, holds it too"
                            : "the configuration gives it to server \"%s\"",
                      report->server, error);
    if (status == HV_OK)
        status = set_hint(&held->hint, twice ? which_hint : place_hint, error);
    shard->state = twice ? HV_SHARD_TWICE : HV_SHARD_ELSEWHERE;
    if (twice)
        held->state = HV_SHARD_TWICE;
    return status;
}

static hv_status compare(const hv_report *report, const hv_report *other, hv_error **error) {
    hv_status status = HV_OK;
    if (strcmp(report->identity, other->identity) == 0) /* two names of one database */
        return HV_OK;
    for (size_t i = 0; status == HV_OK && i < other->shard_count; i++) {
        hvi_report_shard *held = &other->shards[i];
        hvi_report_shard *shard = held->is_held ? find_shard(report, held->shard) : NULL;
        if (shard != NULL && shard->is_configured)
            status = note_held(report, shard, other, held, error);
    }
    return status;
}

hv_status hv_compare_reports(hv_report *const *reports, size_t count, hv_error **error) {
    hv_status status = HV_OK;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; status == HV_OK && j < count; j++)
            if (i != j && reports[i] != NULL && reports[j] != NULL)
                status = compare(reports[i], reports[j], error);
    return status;
}

hv_status hv_check_reports(hv_report *const *reports, size_t count, size_t index,
                           hv_error **error) {
    const hv_report *report = reports[index];
    for (size_t i = 0; report != NULL && i < count; i++) {
        const hv_report *other = reports[i];
        bool held[HV_SHARDS] = {false}, any = false;
        if (other == NULL || strcmp(report->identity, other->identity) == 0)
            continue;
        for (size_t j = 0; j < other->shard_count; j++) {
            const hvi_report_shard *at = &other->shards[j];
            const hvi_report_shard *ours = at->is_held ? find_shard(report, at->shard) : NULL;
            if (ours != NULL && ours->is_configured && !ours->is_held)
                any = held[at->shard] = true;
        }
        if (any)
            return hvi_placement_fail(report->server, other->server, held, error);
    }
    return HV_OK;
}
