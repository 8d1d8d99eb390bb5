/*
 * report: the results of a run, for people.
 */
#include "bench/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ui/memory.h"
#include "ui/ui.h"

/* ---- Numbers --------------------------------------------------------------------------------- */

/* A short time with three digits: "850 us", "1.25 ms". */
static const char *latency(char text[UI_NUMBER_SIZE], double ns) {
    static const char *const units[] = {"ns", "us", "ms", "s"};
    size_t unit = 0;
    while (ns >= 999.5 && unit < 3) {
        ns /= 1000;
        unit++;
    }
    int decimals = unit == 0 || ns >= 99.95 ? 0 : ns >= 9.995 ? 1 : 2;
    snprintf(text, UI_NUMBER_SIZE, "%.*f %s", decimals, ns, units[unit]);
    return text;
}

/* The time for each operation, or "-". */
static const char *each(char text[UI_NUMBER_SIZE], int64_t us, int64_t count) {
    if (us < 0 || count <= 0)
        snprintf(text, UI_NUMBER_SIZE, "-");
    else
        latency(text, (double) us * 1000 / (double) count);
    return text;
}

static int64_t per_second(int64_t count, int64_t duration) {
    return duration > 0 ? (int64_t) ((double) count * 1e9 / (double) duration + 0.5) : 0;
}

/* ---- What was measured ----------------------------------------------------------------------- */

static void print_settings(const bench_report *report) {
    const bench_settings *settings = report->settings;
    char number[UI_NUMBER_SIZE];
    printf("%s: %d caller%s", settings->work, settings->callers, settings->callers == 1 ? "" : "s");
    if (settings->rate > 0)
        printf(", %s operations/s due", ui_number(number, settings->rate));
    printf(", %s", ui_duration(number, report->result->duration / 1000));
    printf(" after %" PRId64 " s of warm-up", settings->warmup);
    printf(", %d shard%s", settings->shard_count, settings->shard_count == 1 ? "" : "s");
    if (settings->batch > 1)
        printf(", %d operations a call", settings->batch);
    printf(", via %s\n", bench_way_name(settings->way));
    printf("entities: kind %d, ", settings->kind);
    if (settings->value_size < 0)
        printf("three small attributes");
    else
        printf("a value of %s", ui_bytes(number, settings->value_size));
    printf(", " BENCH_MARK "=%s\n\n", settings->mark);
}

static void add_latency(ui_table *table, const char *name, const bench_histogram *histogram,
                        int64_t duration) {
    static const int shares[] = {50000, 90000, 99000, 99900};
    char number[UI_NUMBER_SIZE];
    ui_cell(table, UI_NAME, "%s", name);
    ui_cell(table, UI_PLAIN, "%s", ui_number(number, (int64_t) histogram->count));
    ui_cell(table, UI_BOLD, "%s",
            ui_number(number, per_second((int64_t) histogram->count, duration)));
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++)
        ui_cell(table, UI_PLAIN, "%s",
                latency(number, (double) bench_histogram_percentile(histogram, shares[i])));
    ui_cell(table, UI_PLAIN, "%s", latency(number, (double) histogram->max));
}

static void print_latencies(const bench_report *report) {
    static const ui_column columns[] = {
        {"operation", false}, {"done", true}, {"per second", true}, {"p50", true},
        {"p90", true},        {"p99", true},  {"p99.9", true},      {"max", true},
    };
    const bench_result *result = report->result;
    ui_table *table = ui_table_new(columns, 8);
    int shown = 0;
    for (int verb = 0; verb < BENCH_VERBS; verb++) {
        bool wanted = bench_has_verb(report->settings, (bench_verb) verb);
        if (wanted)
            add_latency(table, bench_verb_name((bench_verb) verb), &result->latency[verb],
                        result->duration);
        shown += wanted;
    }
    if (shown > 1) {
        bench_histogram *both = new_memory(sizeof *both);
        for (int verb = 0; verb < BENCH_VERBS; verb++)
            bench_histogram_merge(both, &result->latency[verb]);
        add_latency(table, "both", both, result->duration);
        free(both);
    }
    ui_table_print(table);
    ui_table_free(table);
}

static void print_errors(const bench_report *report) {
    static const ui_column columns[] = {{"error", false}, {"count", true}, {"first", false}};
    const bench_errors *errors = &report->result->errors;
    char number[UI_NUMBER_SIZE];
    if (errors->total == 0) {
        printf("%sno errors%s\n", ui_on(stdout, UI_GOOD), ui_off(stdout));
        return;
    }
    ui_table *table = ui_table_new(columns, 3);
    for (int status = 0; status < BENCH_STATUSES; status++) {
        if (errors->count[status] == 0)
            continue;
        ui_cell(table, UI_BAD, "%s", hv_status_name((hv_status) status));
        ui_cell(table, UI_PLAIN, "%s", ui_number(number, errors->count[status]));
        ui_cell(table, UI_PLAIN, "%s", errors->first[status] != NULL ? errors->first[status] : "");
    }
    putchar('\n');
    ui_table_print(table);
    ui_table_free(table);
}

/* ---- Over time ------------------------------------------------------------------------------- */

/* A bar for each second, or for several if the line is too short for all. */
static void print_bars(const bench_second *seconds, int count, int64_t most) {
    static const char *const blocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const plain[] = {" ", "_", ".", "-", "=", "+", "*", "%", "#"};
    int room = ui_width(stdout) - 40;
    if (room < 10)
        return;
    int group = (count + room - 1) / room;
    printf("%s", ui_on(stdout, UI_NAME));
    for (int i = 0; i < count; i += group) {
        int64_t sum = 0;
        int members = 0;
        for (; members < group && i + members < count; members++)
            sum += seconds[i + members].succeeded;
        int64_t mean = sum / members;
        size_t level = (size_t) (most > 0 ? (mean * 8 + most - 1) / most : 0);
        fputs(ui_unicode() ? blocks[level] : plain[level], stdout);
    }
    printf("%s  ", ui_off(stdout));
}

static void print_over_time(const bench_report *report) {
    const bench_result *result = report->result;
    int64_t whole = result->duration / 1000000000;
    int count = (int) (whole < report->settings->seconds ? whole : report->settings->seconds);
    if (count < 2)
        return;
    int64_t least = INT64_MAX, most = 0;
    for (int i = 0; i < count; i++) {
        int64_t done = result->seconds[i].succeeded;
        least = done < least ? done : least;
        most = done > most ? done : most;
    }
    char number[UI_NUMBER_SIZE];
    printf("each second  ");
    if (ui_is_terminal(stdout))
        print_bars(result->seconds, count, most);
    printf("%s to ", ui_number(number, least));
    printf("%s\n", ui_number(number, most));
}

/* ---- What it cost ---------------------------------------------------------------------------- */

/* How much of one core was busy. */
static const char *busy(char text[UI_NUMBER_SIZE], int64_t cpu_us, int64_t duration) {
    if (cpu_us < 0 || duration <= 0)
        snprintf(text, UI_NUMBER_SIZE, "-");
    else
        snprintf(text, UI_NUMBER_SIZE, "%.0f %%", (double) cpu_us * 1e5 / (double) duration);
    return text;
}

static void print_usage(const bench_report *report) {
    static const ui_column columns[] = {
        {"server", false}, {"connections", true}, {"opened", true}, {"loans", true},
        {"waits", true},   {"mean wait", true},   {"CPU", true},
    };
    const bench_usage *usage = report->usage;
    const bench_result *result = report->result;
    char number[UI_NUMBER_SIZE];
    ui_table *table = ui_table_new(columns, 7);
    for (int i = 0; i < usage->server_count; i++) {
        const bench_server_usage *server = &usage->servers[i];
        int64_t waits = server->stats[HV_STAT_WAITS];
        ui_cell(table, UI_NAME, "%s", hv_server_name(report->store, i));
        ui_cell(table, UI_PLAIN, "%s", ui_number(number, server->stats[HV_STAT_OPEN]));
        ui_cell(table, UI_PLAIN, "%s", ui_number(number, server->stats[HV_STAT_OPENED]));
        ui_cell(table, UI_PLAIN, "%s", ui_number(number, server->stats[HV_STAT_LOANS]));
        ui_cell(table, UI_PLAIN, "%s", ui_number(number, waits));
        ui_cell(table, UI_PLAIN, "%s", each(number, server->stats[HV_STAT_WAIT_US], waits));
        ui_cell(table, UI_PLAIN, "%s", busy(number, server->cpu_us, result->duration));
    }
    ui_table_print(table);
    ui_table_free(table);
    printf("CPU time of each operation: %s here",
           each(number, usage->client_us, result->succeeded));
    if (usage->servers_us >= 0)
        printf(", %s in the servers\n", each(number, usage->servers_us, result->succeeded));
    else
        printf("; in the servers it is not known: not all of them were on this machine all the "
               "time\n");
}

/* ---- Public ---------------------------------------------------------------------------------- */

void bench_report_print(const bench_report *report) {
    const bench_result *result = report->result;
    if (result == NULL || !result->measured) {
        bool used_up = result != NULL && result->used_up;
        printf("nothing was measured%s\n",
               used_up ? ": all entities were deleted during the warm-up" : "");
        return;
    }
    char number[UI_NUMBER_SIZE];
    print_settings(report);
    print_latencies(report);
    print_over_time(report);
    if (result->missed > 0)
        printf(
            "%s%s operations were due and had not begun at the end%s: the rate was too high, and\n"
            "the latencies, which do not include them, are too low\n",
            ui_on(stdout, UI_WARN), ui_number(number, result->missed), ui_off(stdout));
    if (result->used_up)
        printf("%sall entities were deleted before the time was over%s: put more with --entities\n",
               ui_on(stdout, UI_WARN), ui_off(stdout));
    print_errors(report);
    putchar('\n');
    print_usage(report);
}

void bench_report_print_end(const bench_report *report) {
    char number[UI_NUMBER_SIZE];
    if (report->stored + report->unknown == 0)
        return;
    printf("%s entities were put", ui_number(number, report->stored));
    if (report->deleted > 0)
        printf(", %s deleted", ui_number(number, report->deleted));
    if (report->removed < 0)
        puts(report->deleted > 0 ? ", the others are kept" : " and are kept");
    else
        printf(", %s removed\n", ui_number(number, report->removed));
    if (report->unknown > 0)
        printf("it is not known whether %s more puts stored one\n",
               ui_number(number, report->unknown));
}
