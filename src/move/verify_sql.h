/*
 * verify_sql: the SQL that counts, hashes and reads the rows of tables that are compared.
 */
#ifndef HVI_VERIFY_SQL_H
#define HVI_VERIFY_SQL_H

#include "move/verify_table.h"

/* Does a server hash as the other does? The answers are alike if so; a server that lacks the
 * functions refuses. */
void hvi_verify_hashing_ask(hvi_buffer *sql);

/* A sample of a large table's keys, from the source, for hvi_verify_divide(); nothing for one that
 * needs none. */
void hvi_verify_sample(hvi_buffer *sql, const hvi_verify_tables *tables,
                       const hvi_verify_table *table);

/*
 * SQL for one side. Each begins with settings for its transaction, which may be one that is open.
 *
 * Count and hash a part, or, of a table that is divided by hash, all of its parts.
 */
void hvi_verify_digest(hvi_buffer *sql, const hvi_verify_tables *tables,
                       const hvi_verify_table *table, hvi_side side, size_t part);

/* Count the same, and instead of the content the rows that are newer than the part's horizon, or
 * than the oldest one of all parts. That is several times as fast. */
void hvi_verify_changes(hvi_buffer *sql, const hvi_verify_tables *tables,
                        const hvi_verify_table *table, hvi_side side, size_t part);

/* Read the answer of either (content: what was hashed, or how many rows are newer): into
 * digests[0], or into as many as the table has parts. */
hv_status hvi_verify_digest_read(const PGresult *result, const hvi_verify_table *table,
                                 const char *server, hvi_part_digest *digests, hv_error **error);

/* The rows of a part: key, hash. Of `pieces` of equal size, only this one. */
void hvi_verify_rows(hvi_buffer *sql, const hvi_verify_tables *tables,
                     const hvi_verify_table *table, hvi_side side, size_t part, int pieces,
                     int piece);

/* The rows that have these keys: key, hash. */
void hvi_verify_look(hvi_buffer *sql, const hvi_verify_tables *tables,
                     const hvi_verify_table *table, hvi_side side, const char *const *keys,
                     size_t count);

/* Begin a transaction that keeps writers off the table: refused with SQLSTATE 55P03 if that takes
 * longer than a moment. */
void hvi_verify_lock(hvi_buffer *sql, const hvi_verify_tables *tables,
                     const hvi_verify_table *table);

#endif
