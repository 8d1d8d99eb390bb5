/*
 * import: the types that the parts of an import share: settings, rows, totals.
 */
#ifndef IMPORT_H
#define IMPORT_H

#include "hypervault.h"
#include "import/rejects.h"
#include "import/resume.h"
#include "rows/reader.h"

/* If all of the first so many rows are rejected, the rows are not to blame. */
#define IMPORT_TRIAL_ROWS 100

typedef struct import_settings {
    hv_store *store; /* like `rejects`, must outlive the workers */
    import_rejects *rejects;
    const char *id;      /* the import's name, for its records */
    const char *file;    /* the input's name, for its records */
    import_parts *parts; /* the records of earlier runs, which are read anew */
    int shard;           /* the only one that rows will go to; -1: any */
    int jobs;            /* workers for each server */
    int64_t retry_for;   /* milliseconds */
    int64_t first_row;   /* the number of the first row that will be given, minus one */
    bool (*interrupted)(void);
    void (*decided)(void *context, int64_t rows); /* called by any thread; may be NULL */
    void *context;
} import_settings;

/* A row that is being imported. */
typedef struct import_item {
    row *row;   /* owned; its dict is freed as soon as there is a body */
    char *body; /* the attributes in hstore's binary form; owned; NULL: not yet, or malformed */
    size_t body_len;
    int64_t key; /* 0: the database makes one */
    int shard;   /* -1: none; the row is malformed */
    int kind;
    int64_t before;  /* the line of the row before it; 0: there is none */
    uint64_t digest; /* of all rows up to this one */
} import_item;

void import_item_free(import_item *item);

/* Why an import ended before its last row. */
typedef enum import_stop {
    IMPORT_COMPLETE,
    IMPORT_INTERRUPTED,
    IMPORT_FAILED,     /* totals.error will hit every row */
    IMPORT_HOPELESS,   /* the first IMPORT_TRIAL_ROWS were rejected, the last for totals.reason */
    IMPORT_NO_REJECTS, /* the rejects file cannot be written: totals.write_errno */
    IMPORT_UNREAD,     /* the input cannot be used: import_workers_abandon() */
} import_stop;

typedef struct import_totals {
    import_stop stop;
    int64_t stored;
    int64_t known; /* of these: equal entities that existed before */
    int64_t rejected;
    int64_t passed;    /* decided by an earlier run */
    int64_t unknown;   /* it is not known yet whether they are stored */
    int64_t last_row;  /* up to this number all rows are decided; first_row: none is */
    int64_t last_line; /* the line at which it starts; 0: there is none */
    bool ahead;        /* rows after it are stored too */
    hv_error *error;   /* hv_error_free() it; NULL unless stop is IMPORT_FAILED */
    char *reason;      /* free() it; NULL unless stop is IMPORT_HOPELESS */
    int write_errno;
} import_totals;

#endif
