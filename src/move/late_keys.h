/*
 * late_keys: the keys of a shard's largest table are made when its rows are there.
 *
 * COPY into a table that has a key takes about twice as long as COPY into one that has none. But
 * changes that the stream brings find their rows by the key, and they come right after the COPY:
 * one that came before the key would be lost without a word. So we wait in line for the table's
 * lock while the COPY has it, and have it before the first of the changes.
 *
 * Whether that was so must be certain. It is if our session is seen to wait, and the COPY is seen
 * not to be committed after that. A table that was copied and has no keys, because the command or
 * the server was killed then, must be copied anew.
 *
 * The worker that applies the changes of all tables takes the lock, too, if there are changes of
 * this one, and starts no other table meanwhile. So we stand in line only for the last quarter of
 * the COPY, by the source's estimate of its rows.
 */
#ifndef HVI_LATE_KEYS_H
#define HVI_LATE_KEYS_H

#include "move/link.h"

/* Only a table of at least this size gets its keys late: the last quarter of a smaller one's COPY
 * is too short to stand in line in time. 256 MB; tests set it lower, and make the COPY slow. */
extern int64_t hvi_late_keys_bytes;

typedef struct hvi_late_keys {
    enum {
        HVI_LATE_KEYS_UNKNOWN, /* at first, and after an error */
        HVI_LATE_KEYS_EARLY,   /* the COPY has not come so far */
        HVI_LATE_KEYS_WAITING, /* for the table's lock */
        HVI_LATE_KEYS_MAKING,  /* the table cannot be read meanwhile */
        HVI_LATE_KEYS_THERE,   /* or there are none that are made late */
        HVI_LATE_KEYS_MISSED,  /* changes may have come before them: the copy is worth nothing */
    } state;
    bool is_in_time; /* it was in line before the COPY was committed */
    hvi_link link;   /* the session that makes them */
    char *table;     /* owned: its name within the copy, as in SQL; NULL: not known yet */
    int64_t enough;  /* rows that are copied when it stands in line */
} hvi_late_keys;

/* Which copy it is. */
typedef struct hvi_late_keys_of {
    hvi_link *from, *to;
    int shard;
    uint32_t id;      /* of the move, in whose row on the target they are */
    const char *live; /* "shard0012" */
    const char *name; /* the schema of the copy */
} hvi_late_keys_of;

/* Go on, until the deadline at most if it waits or makes them. Call it until the state is
 * HVI_LATE_KEYS_THERE or HVI_LATE_KEYS_MISSED. After an error it begins anew. Errors: HV_REFUSED;
 * those of hvi_link_open() and hvi_link_run(). */
hv_status hvi_late_keys_advance(hvi_late_keys *keys, const hvi_late_keys_of *of, int64_t deadline,
                                hv_error **error);

/* Give up what is under way, and forget all. */
void hvi_late_keys_stop(hvi_late_keys *keys);

/* In a forked child, instead. */
void hvi_late_keys_disown(hvi_late_keys *keys);

#endif
