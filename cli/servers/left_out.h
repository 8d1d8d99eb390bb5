/*
 * left_out: what shards hold besides entities: further columns of their tables, and further tables.
 *
 * A file of entities has keys, kinds and attributes. So an export does not have what is listed
 * here, and an import leaves it to the defaults: both must say so.
 */
#ifndef LEFT_OUT_H
#define LEFT_OUT_H

#include "servers/sql.h"

/* A column or a table, and the shards that have it. */
typedef struct left_out_item {
    char *name;
    char *type; /* of a column; NULL: a table */
    bool shards[HV_SHARDS];
} left_out_item;

/* All zero: there is nothing. */
typedef struct left_out {
    left_out_item *items; /* owned: columns in the order of names, then tables */
    size_t count;
    bool is_unknown; /* a server has not answered */
} left_out;

/*
 * Ask their servers, all at the same time, what these shards hold. Columns that the server computes
 * from the others, and the tables of the library, are not among them. A server that does not answer
 * is reported in a note.
 */
void find_left_out(hv_store *store, const int *shards, int count, left_out *found);
void left_out_fini(left_out *found);

/* Note it: "further columns of entities are not exported: score (bigint) in shards 1-9"; `what` is
 * the middle of it. Does nothing if there is none. */
void left_out_note_columns(const left_out *found, const char *what);
void left_out_note_tables(const left_out *found, const char *what);

/* [{"name": "score", "type": "bigint", "shards": "1-9"}], tables without "type"; null if it is not
 * known. A new reference. */
struct json_t *left_out_columns_json(const left_out *found);
struct json_t *left_out_tables_json(const left_out *found);

#endif
