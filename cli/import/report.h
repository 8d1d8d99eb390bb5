/*
 * import_report: tell what came of an import.
 */
#ifndef IMPORT_REPORT_H
#define IMPORT_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "import/import.h"

/* Nothing of it is owned. */
typedef struct import_outcome {
    const char *id;
    const import_totals *totals;
    import_rejects *rejects;
    int64_t duration; /* microseconds */
} import_outcome;

bool import_is_complete(const import_totals *totals);

/* Why the import ended early, if the reader has not said so. */
void import_report_stop(const import_outcome *outcome);

/* How many rows became what, where the rejected ones are, and how to go on. */
void import_report(const import_outcome *outcome);

/* An earlier run has done it all. */
void import_report_done_before(const import_outcome *outcome);

#endif
