/*
 * bench_report: what came of a run, for people and for programs.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/load.h"
#include "bench/settings.h"
#include "bench/usage.h"
#include "hypervault.h"

typedef struct bench_report {
    const bench_settings *settings;
    const hv_store *store;
    const bench_result *result; /* NULL: it did not come to that */
    const bench_usage *usage;   /* during the measurement */
    bool complete;              /* neither interrupted nor failed before its time */
    int64_t stored;             /* entities, whatever for */
    int64_t unknown;            /* puts that may or may not have stored one */
    int64_t removed;            /* -1: they are kept */
} bench_report;

/* For people: what was measured, and later what has become of the entities. */
void bench_report_print(const bench_report *report);
void bench_report_print_end(const bench_report *report);

/* All of it as one JSON object. */
void bench_report_print_json(const bench_report *report);

#endif
