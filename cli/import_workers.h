/*
 * import_workers: threads that store rows, retry what can be retried, and count what became of
 * each.
 *
 * Rows are given in the order of their numbers and taken in that order. At the end those that were
 * decided (stored, or written to the rejects file) are exactly the first ones, up to
 * totals.last_row: an import that ended early can be continued behind that row without storing
 * anything twice. To keep that so, rows that were under way when it ended, and are followed by
 * decided ones, are rejected; the others under way are left undecided.
 */
#ifndef IMPORT_WORKERS_H
#define IMPORT_WORKERS_H

#include "hypervault.h"
#include "import_rejects.h"
#include "row_reader.h"

/* If all of the first so many rows are rejected, the fault lies elsewhere. */
#define IMPORT_TRIAL_ROWS 100

typedef struct import_settings {
    hv_store *store; /* as `rejects`, must outlive the workers */
    import_rejects *rejects;
    int kind;
    int jobs;          /* threads */
    int64_t retry_for; /* milliseconds */
    int64_t first_row; /* the number of the first row that will be given, less one */
    bool (*interrupted)(void);
    void (*decided)(void *context, const row *row); /* told by any thread; may be NULL */
    void *context;
} import_settings;

/* Why an import ended before its last row. */
typedef enum import_stop {
    IMPORT_COMPLETE,
    IMPORT_INTERRUPTED,
    IMPORT_FAILED,     /* totals.error will hit every row */
    IMPORT_HOPELESS,   /* the first IMPORT_TRIAL_ROWS were rejected, the last for totals.reason */
    IMPORT_NO_REJECTS, /* the rejects file cannot be written: totals.write_errno */
} import_stop;

typedef struct import_totals {
    import_stop stop;
    int64_t stored;
    int64_t rejected;  /* with the following two */
    int64_t unknown;   /* may or may not be stored */
    int64_t lost;      /* rejected, but in no file, because it cannot be written */
    int64_t last_row;  /* the number of the last row decided, or first_row */
    int64_t last_line; /* the line at which it starts; 0: none was decided */
    hv_error *error;   /* hv_error_free() it; NULL unless stop is IMPORT_FAILED */
    char *reason;      /* free() it; NULL unless stop is IMPORT_HOPELESS */
    int write_errno;
} import_totals;

typedef struct import_workers import_workers;

/* Start the threads. NULL, with errno set, if there is none. */
import_workers *import_workers_start(const import_settings *settings);

/* Give a row, to be stored in `shard` or, if it has a fault, rejected. It is freed in any case.
 * Waits for room; false: the import has ended early, and the row is left undecided. */
bool import_workers_give(import_workers *workers, row *given, int shard);

/* Has the import ended early? Also looks whether it was interrupted. */
bool import_workers_stopped(import_workers *workers);

/* Wait until all rows are decided or, after an early end, those under way; then free. `lost_row` is
 * told of each row counted in totals.lost. */
void import_workers_finish(import_workers *workers, import_totals *totals,
                           void (*lost_row)(const row *row, const char *reason));

#endif
