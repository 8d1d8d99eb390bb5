/*
 * verify_state: where a comparison is.
 *
 *     HASHING, TABLES: once
 *         │
 *         ▼
 *       NEXT ◄──────────────────────────────────────────────┐
 *         │ a part: SAMPLE (for a table's first), CHANGES   │
 *         ├──► (from the second pass on), DIGEST, ROWS ─────┤
 *         │ rows in doubt, at the end of a table or many    │
 *         ├──► LOOK_SOURCE ─► MARK ─► WAIT ─► LOOK_TARGET ──┤ again, until they agree or are left
 *         │                                       │         │
 *         │                                     UNLOCK ─────┘ if the table was locked
 *         ▼
 *       DONE
 *
 * verify_parts has what goes on above, verify_looks what is below, verify the way through both.
 * hvi_verify_go() changes the state.
 */
#ifndef HVI_VERIFY_STATE_H
#define HVI_VERIFY_STATE_H

#include "base/clock.h"
#include "move/verify_doubts.h"
#include "move/verify_sides.h"

typedef enum hvi_verify_state {
    HVI_VERIFY_HASHING,
    HVI_VERIFY_TABLES,
    HVI_VERIFY_SAMPLE,
    HVI_VERIFY_CHANGES,
    HVI_VERIFY_DIGEST,
    HVI_VERIFY_ROWS,
    HVI_VERIFY_LOOK_SOURCE,
    HVI_VERIFY_MARK,
    HVI_VERIFY_WAIT,
    HVI_VERIFY_LOOK_TARGET,
    HVI_VERIFY_UNLOCK,
    HVI_VERIFY_NEXT, /* part, or table */
    HVI_VERIFY_DONE,
} hvi_verify_state;

struct hvi_verify {
    hvi_verify_sides sides;
    hvi_pair pair;
    hvi_verify_tables tables;
    hvi_verify_state state;
    int pass;
    size_t table, part; /* at hand */
    int pieces, piece;
    bool direct;             /* the last part had doubts: read the rows of the next at once */
    hvi_part_digest read[2]; /* of the pieces so far */
    uint32_t horizons[2];    /* of the newest digests */
    bool *same;              /* of the table's parts, by hash: which need no look; owned */
    hvi_doubts doubts;       /* of the table at hand */
    hvi_doubts left;         /* for hvi_verify_last(), of all tables */
    hvi_findings found;
    bool locked; /* the source has an open transaction that locks the table */
    int lock_tries;
    int looks; /* in a row */
    int64_t locked_at, rest_until;
    int64_t marker, wait_ms;
    int64_t rows, rows_total, table_rows, parts_done;
    char waits_for[160];
};

static inline hvi_verify_table *hvi_verify_table_of(const hvi_verify *verify) {
    return &verify->tables.all[verify->table];
}

static inline const char *hvi_verify_server_of(const hvi_verify *verify, int side) {
    return side == HVI_SOURCE ? verify->sides.source_name : verify->sides.target_name;
}

static inline void hvi_verify_go(hvi_verify *verify, hvi_verify_state to) {
    verify->state = to;
    verify->waits_for[0] = '\0';
}

static inline void hvi_verify_rest(hvi_verify *verify, int64_t us) {
    verify->rest_until = hvi_clock_us() + us;
}

/* SQL for one side of what is at hand. */
typedef void (*hvi_verify_writer)(hvi_buffer *sql, const hvi_verify *verify, hvi_side side);

static inline hv_status hvi_verify_send(hvi_verify *verify, hvi_side side, hvi_verify_writer write,
                                        hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    write(&sql, verify, side);
    return hvi_pair_send(&verify->pair, side, &sql, error);
}

/* The hint of errors that a comparison cannot keep up. */
#define HVI_VERIFY_TOO_FAST_HINT \
    "Move it when less is written to it, or set the option \"verify\" to off."

#endif
