/*
 * ledger_table: the table in a shard's schema that records what was run there once: migrations, and
 * SQL under a name. Its SQL.
 *
 * Each record has an id: the number of a migration, "once:" and a name, or "new".
 */
#ifndef HVI_LEDGER_TABLE_H
#define HVI_LEDGER_TABLE_H

#include "base/buffer.h"

#define HVI_LEDGER "hypervault_migrations"

/* The shard was made, and not all migrations have run on it yet. */
#define HVI_LEDGER_NEW "new"

/* The id of SQL that is run once under a name is this and the name. */
#define HVI_LEDGER_ONCE "once:"

/* SQLSTATE of our own: it is recorded as done. */
#define HVI_SQLSTATE_DONE "VH002"

/* Append statements for the body of a DO block: make the table if it is missing; … */
void hvi_ledger_table_ensure(hvi_buffer *sql, int shard);

/* … raise HVI_SQLSTATE_DONE if this is recorded as done. */
void hvi_ledger_table_refuse_done(hvi_buffer *sql, int shard, const char *id);

/* Append an INSERT, without a semicolon, to be run at the end of the transaction that it records. A
 * record that is not finished is replaced. */
void hvi_ledger_table_record(hvi_buffer *sql, int shard, const char *id, const char *name,
                             const char *digest);

#endif
