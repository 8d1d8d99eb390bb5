/*
 * shard_sql: the SQL that all jobs on shards share: the settings of their sessions, the beginning
 * of their transactions, the advisory lock of a shard, and the question what is in its way.
 *
 * All functions append to a buffer. Where a shard is a parameter, -1 is the server as a whole.
 */
#ifndef HVI_SHARD_SQL_H
#define HVI_SHARD_SQL_H

#include "wire/session.h"
#include "shard/ledger_table.h"

/* SQLSTATE of our own, in a class that neither the standard nor PostgreSQL uses: another run has
 * the shard's lock. HVI_SQLSTATE_DONE is its neighbour. */
#define HVI_SQLSTATE_BUSY "VH001"

/*
 * The settings of a job's session, whatever those of its role are: no limits in time, read-write,
 * READ COMMITTED, the search_path pg_catalog, standard_conforming_strings on, UTF8, UTC, and a
 * server that notices when its client has gone. Before that, all that an earlier job may have left
 * is discarded, an open transaction, too. Several statements, to be sent outside of a transaction.
 */
void hvi_shard_sql_settings(hvi_buffer *sql, const hvi_session *session);

/* The server's limit of a statement that may run for `timeout` ms (0: no limit) after it has waited
 * for up to `wait` ms (0 or less: for ever): statement_timeout counts both. 0: no limit. */
int hvi_shard_sql_limit(int64_t timeout, int64_t wait);

/* Begin a transaction. */
typedef struct hvi_shard_begin {
    int shard;
    bool read_only;       /* cannot be made read-write by what follows: there has been a query */
    int64_t lock_timeout; /* ms; 0: no limit */
    int64_t timeout;      /* ms that a statement may run after it has its locks; 0: no limit */
} hvi_shard_begin;

/* BEGIN, the limits, the search_path that the user's SQL has, and a SELECT that is refused if the
 * shard is not initialised. Each statement ends with ";". Returns their number. */
int hvi_shard_sql_begin(hvi_buffer *sql, const hvi_session *session, const hvi_shard_begin *begin);

/* "shard0012, public": the schema of the shard, then that of hstore; for SET search_path TO. */
void hvi_shard_sql_path(hvi_buffer *sql, const hvi_session *session, int shard);

/* The first of the two numbers of a shard's advisory lock; the second is the shard. Its neighbours
 * are the locks of shard/extension.h and value/generator.c. */
#define HVI_SHARD_LOCK_CLASS 26744

/*
 * The advisory lock of a shard keeps two runs from working on it at once. It has two forms, which
 * exclude each other. In a transaction, it is held to the end of that: the expression of type
 * boolean is false if another has it.
 */
void hvi_shard_sql_try_lock(hvi_buffer *sql, int shard);

/* The same for the body of a DO block: a statement "IF … END IF;" that raises HVI_SQLSTATE_BUSY. It
 * is short, so that what follows it can be seen in pg_stat_activity. */
void hvi_shard_sql_guard(hvi_buffer *sql, int shard);

/* The form that is held by the session, for what cannot be in a transaction: a SELECT of one
 * boolean, false if another has it; and a SELECT that gives it back. No semicolon. */
void hvi_shard_sql_try_session_lock(hvi_buffer *sql, int shard);
void hvi_shard_sql_unlock_session(hvi_buffer *sql, int shard);

/*
 * What to wait for: SELECTs of at most one row with one column, a text for people; no semicolon.
 * The holder of the shard's advisory lock:
 *
 *     process 4711 (hv, for 12 s) is working on shard0012
 *
 * The oldest transaction that has a lock on a table or index of the shard's schema:
 *
 *     process 4711 (psql, idle in transaction for 34 s) holds a lock on shard0012.entities
 *
 * What is in the brackets is missing as far as the role may not know it.
 */
void hvi_shard_sql_holder(hvi_buffer *sql, int shard);
void hvi_shard_sql_in_the_way(hvi_buffer *sql, int shard);

/* The text of such an answer, which belongs to the result; NULL: nothing is in the way any more. */
const char *hvi_shard_sql_answer(const PGresult *result);

#endif
