/*
 * report: the results of a run, for people and for programs.
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
    const bench_result *result; /* NULL: the run ended before */
    const bench_usage *usage;   /* during the measurement */
    bool complete;              /* it was neither interrupted nor ended by a failure */
    int64_t stored;             /* all entities that were put */
    int64_t unknown;            /* puts that may or may not have stored one */
    int64_t deleted;            /* by the operations that were measured, or before */
    int64_t removed;            /* in the end; -1: they are kept */
} bench_report;

/* For people: first the measurements, later what became of the entities. */
void bench_report_print(const bench_report *report);
void bench_report_print_end(const bench_report *report);

/* All of it as one JSON object. */
void bench_report_print_json(const bench_report *report);

#endif
