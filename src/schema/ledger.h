/*
 * ledger: what a shard's table HVI_LEDGER has about migrations: reading it, and comparing it with a
 * directory.
 */
#ifndef HVI_LEDGER_H
#define HVI_LEDGER_H

#include <libpq-fe.h>

#include "schema/migrations.h"

typedef struct hvi_ledger_row {
    int64_t number;
    char *name; /* these three owned */
    char *digest;
    char *statements;   /* the digest of those that were begun */
    int64_t applied_at; /* ms since 1970 */
    bool finished;      /* otherwise it is without a transaction, and … */
    int done;           /* … so many of its statements are done, … */
    int begun;          /* … and the next one was begun, if this is its number, not 0 */
} hvi_ledger_row;

typedef struct hvi_ledger_rows {
    hvi_ledger_row *rows; /* owned; in ascending order of their numbers */
    size_t count;
    bool is_new; /* the shard was made, and not all migrations have run on it yet */
} hvi_ledger_rows;

void hvi_ledger_rows_fini(hvi_ledger_rows *rows);

/* The row of this number, or NULL. */
const hvi_ledger_row *hvi_ledger_rows_find(const hvi_ledger_rows *rows, int64_t number);

/* How long our own statements wait for a lock on the ledger, in ms. */
#define HVI_LEDGER_LOCK_TIMEOUT 10000

/* Read it in two steps: the first asks whether there is one. Errors: HV_NOT_INITIALIZED if the
 * shard is not there, HV_MISMATCH if the name is another object's, HV_CORRUPT, HV_NO_MEMORY. */
void hvi_ledger_ask(hvi_buffer *sql, int shard);
hv_status hvi_ledger_asked(const PGresult *result, const char *server, int shard, bool *is_there,
                           hv_error **error);
void hvi_ledger_read(hvi_buffer *sql, int shard);
hv_status hvi_ledger_take(const PGresult *result, const char *server, int shard,
                          hvi_ledger_rows *rows, hv_error **error);

/* The digest of the first `count` statements of a file. */
hv_status hvi_ledger_digest(const hvi_sql *sql, size_t count, char digest[HVI_SHA256_LEN]);

/* The state of a file (NULL: there is none) with this row (NULL: there is none). */
hv_status hvi_ledger_compare(const hvi_ledger_row *row, const hvi_migration *file,
                             hv_migration_state *state);

/* Does the ledger fit the directory? Errors: HV_MISMATCH, HV_NO_MEMORY. */
hv_status hvi_ledger_check(const hvi_ledger_rows *rows, const hv_migrations *migrations,
                           hv_error **error);

#endif
