/*
 * verify_table: the tables that are compared, and their parts.
 *
 * A table is divided into parts: by ranges of its key if the first column of that is an integer,
 * otherwise by the key's hash. A row is known by its key, as text, or where a table has no key by
 * its own hash, of which there may be several.
 */
#ifndef HVI_VERIFY_TABLE_H
#define HVI_VERIFY_TABLE_H

#include "move/pair.h"

/* How rows are hashed. By text is for a server that cannot do the other, or does it differently;
 * it takes several times as long. */
typedef enum hvi_hashing { HVI_HASH_RECORD, HVI_HASH_TEXT } hvi_hashing;

/*
 * What was counted and hashed of a part. Sums of hashes are modulo 2^64.
 *
 * The horizon is the oldest transaction that ran when this, or something before it, was read (the
 * xmin of a snapshot). A row that is there later is one of these rows if its own transaction is
 * older; so if all are, and they are as many, nothing has changed.
 */
typedef struct hvi_part_digest {
    int64_t rows;
    uint64_t content;
    uint32_t horizon;
} hvi_part_digest;

/* A part of a table: the keys above `after` up to `upto`; or those with one remainder of the hash.
 */
typedef struct hvi_part {
    int64_t after, upto;
    bool has_after, has_upto;
    bool is_known; /* the digests are those of this or an earlier pass */
    hvi_part_digest digests[2];
    int tries;
} hvi_part;

typedef struct hvi_key_column {
    char *name;         /* quoted; owned, as the rest */
    char *types[2];     /* by hvi_side */
    char *operators[2]; /* that of equality: "OPERATOR(pg_catalog.=)" */
} hvi_key_column;

typedef struct hvi_verify_table {
    char *name;    /* quoted, for SQL */
    char *title;   /* for people */
    char *columns; /* all but generated ones, as they are hashed: "t.id, t.body::…" */
    hvi_key_column *key;
    size_t key_count; /* 0: it has none */
    bool by_range;
    int64_t rows; /* as the source's statistics estimate, or its size */
    int64_t bytes;
    hvi_part *parts; /* owned; one, until it is divided */
    size_t part_count;
} hvi_verify_table;

typedef struct hvi_verify_tables {
    const char *schemas[2]; /* not owned; lower case, and need no quotes */
    hvi_hashing hashing;
    hvi_verify_table *all; /* owned */
    size_t count;
} hvi_verify_tables;

/* Which tables there are, for both sides; and what their answers say. Errors: HV_MISMATCH if a
 * table or a column is only on one of them, HV_CORRUPT, HV_NO_MEMORY. */
void hvi_verify_tables_ask(hvi_buffer *sql, const char *schema);
hv_status hvi_verify_tables_read(hvi_verify_tables *tables, PGresult *const answers[2],
                                 const hvi_pair *pair, hv_error **error);
void hvi_verify_tables_fini(hvi_verify_tables *tables);

/* How many parts a table that is divided by ranges should have. */
int64_t hvi_verify_parts_wanted(const hvi_verify_table *table);

/* Divide a table into parts, by a sample of its keys (hvi_verify_sample()) if it is divided by
 * ranges; NULL: it stays whole. */
hv_status hvi_verify_divide(hvi_verify_table *table, const PGresult *sample, const char *server,
                            hv_error **error);

/* The part's keys for people, "1000 to 2000". */
void hvi_verify_name_part(hvi_buffer *text, const hvi_verify_table *table, size_t part);

#endif
