/*
 * report: print the outcome of an import.
 */
#ifndef IMPORT_REPORT_H
#define IMPORT_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "import/import.h"
#include "servers/left_out.h"

/* It owns nothing. */
typedef struct import_outcome {
    const char *id;
    const char *spread; /* the shards that rows were spread over by an attribute, or NULL */
    const import_totals *totals;
    import_rejects *rejects;
    const left_out *left_out; /* what the shards hold besides entities */
    int64_t duration;         /* microseconds */
} import_outcome;

bool import_is_complete(const import_totals *totals);

/* Report why the import ended early, unless the reader has reported it. */
void import_report_stop(const import_outcome *outcome);

/* Print how many rows were stored and rejected, where the rejected ones are, and how to
 * continue. */
void import_report(const import_outcome *outcome);

/* Report that an earlier run has completed the import. */
void import_report_done_before(const import_outcome *outcome);

#endif
