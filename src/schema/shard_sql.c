/*
 * shard_sql: the SQL that all jobs on shards share.
 */
#include "schema/shard_sql.h"

#include <limits.h>

#include "value/shard_map.h"

/* For the server as a whole, the second number is the one after the last shard. */
static int lock_number(int shard) {
    return shard >= 0 ? shard : HV_SHARDS;
}

/* ---- sessions and transactions ---- */

/* What DISCARD ALL does, which cannot be one of several statements. */
static const char discard_sql[] =
    "CLOSE ALL;UNLISTEN *;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;RESET ALL;DEALLOCATE ALL;"
    "DISCARD PLANS;DISCARD TEMP;DISCARD SEQUENCES;";

/*
 * The limit of locks is for what only reads the catalogue, and waits for a table that is being
 * rewritten; jobs that change something set one of their own. The server that looks whether its
 * client is still there: from PostgreSQL 14 on, and not on all systems.
 */
static const char settings_sql[] =
    "SELECT pg_catalog.pg_advisory_unlock_all();"
    "SET search_path TO pg_catalog;"
    "SET client_encoding TO 'UTF8';"
    "SET TimeZone TO 'UTC';"
    "SET DateStyle TO 'ISO';"
    "SET standard_conforming_strings TO on;"
    "SET statement_timeout TO 0;"
    "SET lock_timeout TO '10s';"
    "SET idle_in_transaction_session_timeout TO 0;"
    "SET default_transaction_isolation TO 'read committed';"
    "SET default_transaction_read_only TO off;"
    "SET default_transaction_deferrable TO off;"
    "DO $hv$ BEGIN"
    " PERFORM pg_catalog.set_config('client_connection_check_interval', '1s', false);"
    " EXCEPTION WHEN OTHERS THEN NULL; END $hv$";

void hvi_shard_sql_settings(hvi_buffer *sql, const hvi_session *session) {
    if (PQtransactionStatus(session->conn) != PQTRANS_IDLE)
        hvi_buffer_append_text(sql, "ROLLBACK;");
    hvi_buffer_append_text(sql, discard_sql);
    if (PQserverVersion(session->conn) >= 140000)
        hvi_buffer_append_text(sql, "SET idle_session_timeout TO 0;");
    if (PQserverVersion(session->conn) >= 170000)
        hvi_buffer_append_text(sql, "SET transaction_timeout TO 0;");
    hvi_buffer_append_text(sql, settings_sql);
}

void hvi_shard_sql_path(hvi_buffer *sql, const hvi_session *session, int shard) {
    char schema[HVI_SCHEMA_NAME_LEN];
    const char *hstore = session->hstore_schema[0] != '\0' ? session->hstore_schema : "pg_catalog";
    if (shard >= 0) {
        hvi_schema_name(shard, schema);
        hvi_buffer_append_format(sql, "%s, ", schema);
    }
    hvi_buffer_append_text(sql, hstore);
}

int hvi_shard_sql_limit(int64_t timeout, int64_t wait) {
    if (timeout <= 0 || wait <= 0)
        return 0;
    return timeout + wait < INT_MAX ? (int) (timeout + wait) : INT_MAX;
}

int hvi_shard_sql_begin(hvi_buffer *sql, const hvi_session *session, const hvi_shard_begin *begin) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_buffer_append_format(sql,
                             "BEGIN ISOLATION LEVEL READ COMMITTED %s;"
                             "SET LOCAL lock_timeout TO %lld;"
                             "SET LOCAL statement_timeout TO %d;"
                             "SET LOCAL search_path TO ",
                             begin->read_only ? "READ ONLY" : "READ WRITE",
                             (long long) begin->lock_timeout,
                             hvi_shard_sql_limit(begin->timeout, begin->lock_timeout));
    hvi_shard_sql_path(sql, session, begin->shard);
    /* A schema that is missing, or that the role may not use, would be left out of the search_path
     * in silence, and the user's SQL would meet other tables. */
    hvi_buffer_append_text(sql, ";SELECT");
    if (begin->shard >= 0) {
        hvi_schema_name(begin->shard, schema);
        hvi_buffer_append_format(sql, " '%s.entities'::pg_catalog.regclass", schema);
    }
    hvi_buffer_append_text(sql, ";");
    return 5;
}

/* ---- the lock ---- */

static void call_lock(hvi_buffer *sql, const char *function, int shard) {
    hvi_buffer_append_format(sql, "pg_catalog.%s(%d, %d)", function, HVI_SHARD_LOCK_CLASS,
                             lock_number(shard));
}

void hvi_shard_sql_try_lock(hvi_buffer *sql, int shard) {
    call_lock(sql, "pg_try_advisory_xact_lock", shard);
}

/* "shard0012", or "this server": never a name that needs quotes. */
static void name_place(hvi_buffer *sql, int shard) {
    char schema[HVI_SCHEMA_NAME_LEN] = "this server";
    if (shard >= 0)
        hvi_schema_name(shard, schema);
    hvi_buffer_append_text(sql, schema);
}

void hvi_shard_sql_guard(hvi_buffer *sql, int shard) {
    hvi_buffer_append_text(sql, "IF NOT ");
    hvi_shard_sql_try_lock(sql, shard);
    hvi_buffer_append_text(sql, " THEN RAISE EXCEPTION USING ERRCODE = '" HVI_SQLSTATE_BUSY
                                "', MESSAGE = 'another run is working on ");
    name_place(sql, shard);
    hvi_buffer_append_text(sql, "'; END IF;");
}

void hvi_shard_sql_try_session_lock(hvi_buffer *sql, int shard) {
    hvi_buffer_append_text(sql, "SELECT ");
    call_lock(sql, "pg_try_advisory_lock", shard);
}

void hvi_shard_sql_unlock_session(hvi_buffer *sql, int shard) {
    hvi_buffer_append_text(sql, "SELECT ");
    call_lock(sql, "pg_advisory_unlock", shard);
}

/* ---- what is in the way ---- */

/* "process 4711 (psql, idle in transaction for 34 s)": the name of a process of the view pg_locks
 * as l, that the view pg_stat_activity, as a, may say more of: its %s, and since when. */
static const char process_sql[] =
    "SELECT pg_catalog.concat(CASE WHEN l.pid IS NULL THEN 'a prepared transaction'"
    " ELSE pg_catalog.concat('process ', l.pid) END, (SELECT pg_catalog.concat(' (', d.text, ')')"
    " FROM (SELECT pg_catalog.concat_ws(', ', CASE WHEN a.application_name"
    " OPERATOR(pg_catalog.<>) '' THEN a.application_name END, %s OPERATOR(pg_catalog.||)"
    " pg_catalog.floor(EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)"
    " a.%s))::pg_catalog.text OPERATOR(pg_catalog.||) ' s')) AS d(text)"
    " WHERE d.text OPERATOR(pg_catalog.<>) ''), ";

/* All locks that others have in this database. */
static const char locks_sql[] =
    " FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a"
    " ON a.pid OPERATOR(pg_catalog.=) l.pid%s WHERE l.granted"
    " AND (l.pid IS NULL OR l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid())"
    " AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database"
    " WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())"
    " AND l.locktype OPERATOR(pg_catalog.=) ";

void hvi_shard_sql_holder(hvi_buffer *sql, int shard) {
    hvi_buffer_append_format(sql, process_sql, "'for '", "backend_start");
    hvi_buffer_append_text(sql, "' is working on ");
    name_place(sql, shard);
    hvi_buffer_append_text(sql, "')");
    hvi_buffer_append_format(sql, locks_sql, "");
    hvi_buffer_append_format(sql,
                             "'advisory' AND l.classid OPERATOR(pg_catalog.=) %d"
                             " AND l.objid OPERATOR(pg_catalog.=) %d"
                             " AND l.objsubid OPERATOR(pg_catalog.=) 2 LIMIT 1",
                             HVI_SHARD_LOCK_CLASS, lock_number(shard));
}

void hvi_shard_sql_in_the_way(hvi_buffer *sql, int shard) {
    hvi_buffer_append_format(sql, process_sql, "a.state OPERATOR(pg_catalog.||) ' for '",
                             "xact_start");
    hvi_buffer_append_text(sql, "' holds a lock on ', n.nspname, '.', c.relname)");
    hvi_buffer_append_format(sql, locks_sql,
                             " JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=)"
                             " l.relation JOIN pg_catalog.pg_namespace AS n"
                             " ON n.oid OPERATOR(pg_catalog.=) c.relnamespace");
    hvi_buffer_append_text(sql, "'relation'");
    if (shard >= 0) {
        hvi_buffer_append_text(sql, " AND n.nspname OPERATOR(pg_catalog.=) '");
        name_place(sql, shard);
        hvi_buffer_append_text(sql, "'");
    }
    /* A transaction that has just begun is hardly the cause. Of its locks, a table's says most. */
    hvi_buffer_append_text(sql, " ORDER BY a.xact_start, c.relkind OPERATOR(pg_catalog.<>) 'r',"
                                " c.oid LIMIT 1");
}

const char *hvi_shard_sql_answer(const PGresult *result) {
    return result != NULL && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0)
               ? PQgetvalue(result, 0, 0)
               : NULL;
}
