/*
 * report_json: the results of a run, for programs.
 *
 * Latencies are nanoseconds, CPU times microseconds. A bucket of a histogram is the pair of the
 * longest time it holds and how many it holds.
 */
#include <jansson.h>

#include "bench/report.h"
#include "ui/output.h"

static json_t *buckets_as_json(const bench_histogram *histogram) {
    json_t *list = json_array();
    for (size_t i = 0; i < BENCH_BUCKETS; i++) {
        if (histogram->buckets[i] == 0)
            continue;
        int64_t limit = bench_histogram_limit(i);
        if (limit > histogram->max || i == BENCH_BUCKETS - 1)
            limit = histogram->max;
        json_array_append_new(
            list, json_pack("[I, I]", (json_int_t) limit, (json_int_t) histogram->buckets[i]));
    }
    return list;
}

static json_t *latency_as_json(const bench_histogram *histogram) {
    static const struct {
        const char *name;
        int share;
    } shares[] = {{"p50", 50000}, {"p75", 75000},   {"p90", 90000},   {"p95", 95000},
                  {"p99", 99000}, {"p99.9", 99900}, {"p99.99", 99990}};
    json_t *object = json_object();
    json_object_set_new(object, "count", json_integer((json_int_t) histogram->count));
    if (histogram->count == 0)
        return object;
    json_object_set_new(object, "min", json_integer(histogram->min));
    json_object_set_new(object, "mean",
                        json_integer((json_int_t) (histogram->sum / histogram->count)));
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++)
        json_object_set_new(object, shares[i].name,
                            json_integer(bench_histogram_percentile(histogram, shares[i].share)));
    json_object_set_new(object, "max", json_integer(histogram->max));
    json_object_set_new(object, "buckets", buckets_as_json(histogram));
    return object;
}

static json_t *latencies_as_json(const bench_result *result) {
    json_t *object = json_object();
    for (int verb = 0; verb < BENCH_VERBS; verb++)
        json_object_set_new(object, bench_verb_name((bench_verb) verb),
                            latency_as_json(&result->latency[verb]));
    return object;
}

static json_t *errors_as_json(const bench_errors *errors) {
    json_t *object = json_object();
    for (int status = 0; status < BENCH_STATUSES; status++)
        if (errors->count[status] > 0)
            json_object_set_new(object, hv_status_name((hv_status) status),
                                json_pack("{s:I, s:s?}", "count",
                                          (json_int_t) errors->count[status], "first",
                                          errors->first[status]));
    return object;
}

/* One number a second, up to the last operation. */
static json_t *seconds_as_json(const bench_result *result, bool failed) {
    json_t *list = json_array();
    int64_t count = (result->duration + 999999999) / 1000000000;
    for (int i = 0; i < count && i < result->second_count; i++) {
        const bench_second *second = &result->seconds[i];
        json_array_append_new(list, json_integer(failed ? second->failed : second->succeeded));
    }
    return list;
}

/* A number that is not known is null. */
static json_t *known(int64_t number) {
    return number >= 0 ? json_integer(number) : json_null();
}

static json_t *servers_as_json(const bench_report *report) {
    json_t *list = json_array();
    for (int i = 0; i < report->usage->server_count; i++) {
        const bench_server_usage *server = &report->usage->servers[i];
        json_t *pool = json_object();
        const char *name;
        for (int stat = 0; stat < BENCH_STATS && (name = hv_stat_name((hv_stat) stat)) != NULL;
             stat++)
            json_object_set_new(pool, name, known(server->stats[stat]));
        json_array_append_new(list,
                              json_pack("{s:s, s:o, s:o}", "name", hv_server_name(report->store, i),
                                        "pool", pool, "cpu_us", known(server->cpu_us)));
    }
    return list;
}

static json_t *settings_as_json(const bench_settings *settings) {
    json_t *shards = json_array();
    for (int i = 0; i < settings->shard_count; i++)
        json_array_append_new(shards, json_integer(settings->shards[i]));
    return json_pack("{s:s, s:i, s:s, s:i, s:i, s:i, s:I, s:I, s:o, s:i, s:o, s:I, s:s, s:s, s:o}",
                     "operation", settings->work, "get_percent", settings->get_percent, "writes",
                     bench_verb_name(settings->write), "callers", settings->callers, "batch",
                     settings->batch, "lanes", settings->lanes, "seconds",
                     (json_int_t) settings->seconds, "warmup", (json_int_t) settings->warmup,
                     "rate", settings->rate > 0 ? json_integer(settings->rate) : json_null(),
                     "kind", settings->kind, "value_size", known(settings->value_size), "entities",
                     (json_int_t) settings->entities, "via", bench_way_name(settings->way),
                     BENCH_MARK, settings->mark, "shards", shards);
}

void bench_report_print_json(const bench_report *report) {
    const bench_result *result = report->result;
    json_t *object =
        json_pack("{s:b, s:o, s:I, s:I, s:I, s:o}", "complete", report->complete, "settings",
                  settings_as_json(report->settings), "stored", (json_int_t) report->stored,
                  "outcome_unknown", (json_int_t) report->unknown, "deleted",
                  (json_int_t) report->deleted, "removed", known(report->removed));
    if (result != NULL && result->measured) {
        double seconds = (double) result->duration / 1e9;
        json_object_update_new(
            object,
            json_pack("{s:f, s:I, s:I, s:I, s:f, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "duration",
                      seconds, "succeeded", (json_int_t) result->succeeded, "failed",
                      (json_int_t) result->errors.total, "missed", (json_int_t) result->missed,
                      "per_second", (double) result->succeeded / seconds, "errors",
                      errors_as_json(&result->errors), "latency_ns", latencies_as_json(result),
                      "succeeded_each_second", seconds_as_json(result, false), "failed_each_second",
                      seconds_as_json(result, true), "client_cpu_us",
                      known(report->usage->client_us), "servers_cpu_us",
                      known(report->usage->servers_us), "servers", servers_as_json(report)));
    }
    print_json(object);
}
