/*
 * import_lanes: threads that store rows, each in transactions of its own, retry what can be
 * retried, and count what became of each row.
 *
 * A lane is a load (hv_load) on one server, with some of its shards: every row has one lane, which
 * its shard decides; malformed rows are the first lane's. Rows are given in the order of their
 * numbers, and each lane decides its own in that order. A lane's position is the number of the last
 * row that it has decided, committed with the rows: so an import that ended in whatever way is gone
 * on with by giving it all rows again, of which each lane passes over those it has decided.
 *
 * A row is rejected in this order: it is written to the rejects file, then the transaction is
 * committed that moves the position past it.
 */
#ifndef IMPORT_LANES_H
#define IMPORT_LANES_H

#include "hypervault.h"
#include "import_rejects.h"
#include "row_reader.h"

/* If all of the first so many rows are rejected, the fault lies elsewhere. */
#define IMPORT_TRIAL_ROWS 100

typedef struct import_settings {
    hv_store *store; /* as `rejects`, must outlive the lanes */
    import_rejects *rejects;
    const char *id;    /* the import's name, for its records */
    const char *file;  /* what is imported, to be told in the records */
    int shard;         /* the only one that rows will go to; -1: any */
    int jobs;          /* lanes for each server */
    int64_t retry_for; /* milliseconds */
    int64_t first_row; /* the number of the first row that will be given, less one */
    bool (*interrupted)(void);
    void (*decided)(void *context, int64_t rows); /* told by any thread; may be NULL */
    void *context;
} import_settings;

/* A row on its way. */
typedef struct import_item {
    row *row;   /* owned; its dict goes as soon as there is a body */
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
    IMPORT_UNREAD,     /* the input is no good: import_lanes_abandon() */
} import_stop;

typedef struct import_totals {
    import_stop stop;
    int64_t stored;
    int64_t known; /* of these: equal entities that were there before */
    int64_t rejected;
    int64_t passed;    /* decided by an earlier run */
    int64_t unknown;   /* nobody knows yet whether they are stored */
    int64_t last_row;  /* up to this number all rows are decided; first_row: none is */
    int64_t last_line; /* the line at which it starts; 0: there is none */
    bool ahead;        /* rows behind it are stored too */
    hv_error *error;   /* hv_error_free() it; NULL unless stop is IMPORT_FAILED */
    char *reason;      /* free() it; NULL unless stop is IMPORT_HOPELESS */
    int write_errno;
} import_totals;

typedef struct import_lanes import_lanes;

/* Open the loads. NULL after saying why. */
import_lanes *import_lanes_open(const import_settings *settings);

/* Up to which row is everything decided that concerns a shard (-1: malformed rows)? */
int64_t import_lanes_position(const import_lanes *lanes, int shard);

/* Are all lanes at the end, in an earlier run? */
bool import_lanes_complete(const import_lanes *lanes);

/* Have earlier runs decided anything? */
bool import_lanes_resumed(const import_lanes *lanes);

/* Does what earlier runs have recorded agree with the rows up to this number having this digest? */
bool import_lanes_agree(const import_lanes *lanes, int64_t number, uint64_t digest);

/* The number of the last row that earlier runs have decided. */
int64_t import_lanes_farthest(const import_lanes *lanes);

/* Start the threads. False, with errno set, if one cannot be. */
bool import_lanes_start(import_lanes *lanes);

/* Give a row, to be stored or, if it has a fault, rejected. It is freed in any case. Waits for
 * room; false: the import has ended early, and the row is left undecided. */
bool import_lanes_give(import_lanes *lanes, import_item *given);

/* Has the import ended early? Also looks whether it was interrupted. */
bool import_lanes_stopped(import_lanes *lanes);

/* End early, for a reason that the caller has told; decide the rows that were given, or no more. */
void import_lanes_abandon(import_lanes *lanes, bool decide_given);

/* Wait until all rows are decided or, after an early end, those under way; `digest` is that of all
 * rows. Then free. */
void import_lanes_finish(import_lanes *lanes, uint64_t digest, import_totals *totals);

/* Free lanes that were not started. NULL is allowed. */
void import_lanes_free(import_lanes *lanes);

#endif
