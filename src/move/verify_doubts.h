/*
 * verify_doubts: rows as they are compared, rows that are in doubt, and what was found to differ.
 */
#ifndef HVI_VERIFY_DOUBTS_H
#define HVI_VERIFY_DOUBTS_H

#include "move/verify_table.h"

/* The rows of an answer, in the order of their keys' bytes. */
typedef struct hvi_verify_row {
    const char *key; /* the result's */
    uint64_t hash;
} hvi_verify_row;

typedef struct hvi_verify_list {
    hvi_verify_row *rows; /* owned */
    size_t count;
} hvi_verify_list;

/* Read the answer to hvi_verify_rows() or hvi_verify_look(), which must outlive the list. Errors:
 * HV_CORRUPT, HV_NO_MEMORY. */
hv_status hvi_verify_list_read(hvi_verify_list *list, const PGresult *result, const char *server,
                               hv_error **error);
void hvi_verify_list_fini(hvi_verify_list *list);

/* NULL: it is not there. */
const hvi_verify_row *hvi_verify_list_find(const hvi_verify_list *list, const char *key);

/* A row that was different on the two servers when it was last looked at. */
typedef struct hvi_doubt {
    size_t table, part;
    char *key; /* owned */
    /* On the source, when it was last looked at; and in how many looks before it was the same. */
    bool is_there;
    uint64_t hash;
    int same;
    int looks;
    int64_t since; /* hvi_clock_us() */
} hvi_doubt;

typedef struct hvi_doubts {
    hvi_doubt *all; /* owned */
    size_t count, room;
} hvi_doubts;

/* Add one. False if memory is short. */
bool hvi_doubts_add(hvi_doubts *doubts, size_t table, size_t part, const char *key);

/* Move one to another list; its place is taken by the last one. False if memory is short. */
bool hvi_doubts_move(hvi_doubts *from, size_t index, hvi_doubts *to);

/* Take one out; its place is taken by the last one. */
void hvi_doubts_drop(hvi_doubts *doubts, size_t index);

/* Of those with the same key, all of one table, only one stays. */
void hvi_doubts_unite(hvi_doubts *doubts);

/* Their keys, for hvi_verify_look(): free() the array. NULL if memory is short. */
const char **hvi_doubts_keys(const hvi_doubts *doubts);

void hvi_doubts_fini(hvi_doubts *doubts);

/* Add the rows that differ between the lists, of the source and the target, up to `most`
 * altogether. *all is false if there are more. False if memory is short. */
bool hvi_doubts_compare(hvi_doubts *doubts, size_t table, size_t part,
                        const hvi_verify_list lists[2], size_t most, bool *all);

/* A part of a table that is really different. */
typedef struct hvi_found {
    size_t table, part;
    size_t rows; /* how many of its rows */
    char *key;   /* of the first that was found; owned */
    char what;   /* '+': only the source has it, '-': only the target, '!': it differs */
} hvi_found;

typedef struct hvi_findings {
    hvi_found *all; /* owned */
    size_t count;
} hvi_findings;

bool hvi_findings_add(hvi_findings *findings, const hvi_doubt *of, char what);
void hvi_findings_fini(hvi_findings *findings);

/* HV_MISMATCH: the error that names all of them. */
hv_status hvi_findings_fail(const hvi_findings *findings, const hvi_verify_tables *tables,
                            int shard, const char *const servers[2], hv_error **error);

#endif
