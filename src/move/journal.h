/*
 * journal: the table hypervault.moves, in which each step of a move is written down, on both
 * servers, before it is made.
 *
 * A move has one row on the server that the shard was on when it was begun (its source) and one on
 * the other (its target). Rows are written on the target first and removed on the source last, so
 * that a row on the source always says that there may be something to go on with, or to remove; the
 * target's row is the copy that is left when the source is gone for good. If the two differ, the
 * step had not begun: the earlier one of them counts.
 *
 * What counts as "where the shard is" is never the journal, but hypervault.shard_locations.
 */
#ifndef HVI_JOURNAL_H
#define HVI_JOURNAL_H

#include "move/names.h"
#include "wire/session.h"

/* The steps, in their order. The journal has their names: hvi_journal_step_name(). */
typedef enum hvi_move_step {
    HVI_STEP_BEGUN,
    HVI_STEP_SCHEMA,      /* the copy's tables and keys are made, but for late keys */
    HVI_STEP_STREAMING,   /* roots, publication, slot and subscription are made */
    HVI_STEP_COPYING,     /* the subscription copies what there is */
    HVI_STEP_INDEXING,    /* the copy's indexes and all else are made */
    HVI_STEP_CATCHING_UP, /* the stream comes close */
    HVI_STEP_VERIFYING,
    HVI_STEP_READY,     /* what the switch needs is prepared on the target */
    HVI_STEP_SWITCHING, /* the fence is tried */
    HVI_STEP_SWITCHED,  /* it is committed: the target is published */
    HVI_STEP_RETURNING, /* the stream back is made, if it is wanted */
    HVI_STEP_CLEANING,  /* the stream there, and the old copy if it is not kept, are removed */
    HVI_STEP_KEPT,      /* the old copy follows, until its time is over */
    HVI_STEP_ABORTING,  /* all is removed, and the shard is where it was */
    HVI_STEP_DONE,      /* not in the journal: the rows are removed */
    HVI_STEP_COUNT
} hvi_move_step;

typedef enum hvi_move_kind {
    HVI_MOVE_ONLINE,
    HVI_MOVE_OFFLINE,
    HVI_MOVE_UNDO, /* an online move on its way back */
} hvi_move_kind;

/* "catching_up", "online": as in the journal; static. */
const char *hvi_journal_step_name(hvi_move_step step);
const char *hvi_journal_kind_name(hvi_move_kind kind);

#define HVI_JOURNAL_SERVER_LEN 256

typedef struct hvi_journal_row {
    int shard;
    uint32_t id;
    char source[HVI_JOURNAL_SERVER_LEN], target[HVI_JOURNAL_SERVER_LEN]; /* names of servers */
    int64_t generation; /* of the shard after the switch that is being made, or was the last */
    hvi_move_kind kind;
    hvi_move_step step;
    bool is_indexed;    /* of the target's row: the copy has all of its indexes and the rest */
    int64_t keep_ms;    /* how long the old copy is to be kept; 0: not at all */
    int64_t keep_until; /* of HVI_STEP_KEPT: microseconds since 1970, by its server's clock */
    /* The location row that the target had when the move was begun, which an abort gives back: it
     * may say where the shard went from there earlier. "" in `before_state`: none. */
    char before_state[16], before_server[HVI_JOURNAL_SERVER_LEN];
    int64_t before_generation;
    char digest[65];               /* of the schema that was copied: see drift.h */
    char system[24];               /* the target's system identifier */
    int64_t rows, bytes, pause_us; /* of the last line that is reported of it */
    int64_t begun, changed;        /* microseconds since 1970; read only */
    char error[512];               /* the last that went wrong, for people */
} hvi_journal_row;

/* Make the schema and the table where they are missing. For the role that initialised the shards;
 * others may neither read nor write it. */
hv_status hvi_journal_prepare(hvi_session *session, int64_t deadline, hv_error **error);

/* Write a move's row: a new one, or all that changes of one with the same id. `is_source` says
 * whose server this is. Errors: HV_BUSY if the shard has a row of another move. */
hv_status hvi_journal_write(hvi_session *session, const hvi_journal_row *row, bool is_source,
                            int64_t deadline, hv_error **error);

/* Set the last that went wrong; nothing if there is no such row. */
hv_status hvi_journal_fail(hvi_session *session, int shard, uint32_t id, const char *text,
                           int64_t deadline, hv_error **error);

/* Remove a move's row; HV_OK also if there is none. */
hv_status hvi_journal_remove(hvi_session *session, int shard, uint32_t id, int64_t deadline,
                             hv_error **error);

/* The row of a shard: *found is false if there is none, or no table. */
hv_status hvi_journal_read(hvi_session *session, int shard, int64_t deadline, bool *found,
                           hvi_journal_row *row, bool *is_source, hv_error **error);

/* A row as hvi_journal_all() reads it. */
typedef struct hvi_journal_entry {
    hvi_journal_row row;
    bool is_source;
    bool is_running; /* a session has the shard's advisory lock on this server */
    bool is_over;    /* HVI_STEP_KEPT, and its time has passed by this server's clock */
} hvi_journal_entry;

/* All rows of a server, in the order of shards: free() *entries. */
hv_status hvi_journal_all(hvi_session *session, int64_t deadline, hvi_journal_entry **entries,
                          size_t *count, hv_error **error);

/* SQL that sets is_indexed in the target's row, for the transaction that makes the indexes: then a
 * killed move knows whether that was committed. Ends with ";". */
void hvi_journal_indexed_sql(hvi_buffer *sql, int shard, uint32_t id);

/* The SQL that makes the rest of the copy, kept in the target's row: it must be of the same moment
 * as what the copy was made of. "late_table" and "late_keys": see schema_copy.h; "rest": all else.
 * The first is for the transaction that makes the copy. */
void hvi_journal_keep_sql(hvi_buffer *sql, int shard, uint32_t id, const char *what,
                          const hvi_buffer *kept);
hv_status hvi_journal_read_kept(hvi_session *session, int shard, uint32_t id, const char *what,
                                int64_t deadline, hvi_buffer *kept, hv_error **error);

#endif
