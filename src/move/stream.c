/*
 * stream: a shard's rows and changes on their way from one server to another.
 *
 * Everything is said in DO blocks that look at the catalogue and do what is left to do, so each
 * function can be called again after anything has been killed.
 */
#include "move/stream.h"

#include <stdio.h>
#include <string.h>

#include "config/move_conninfo.h"
#include "value/sql_text.h"
#include "wire/result.h"

/* How long a lock that stops nobody may take: autovacuum gives way after deadlock_timeout, by
 * default a second. */
#define GENTLE_LOCK_MS  "3000"
#define CONNECT_SECONDS "10"

/* Append it, each %u being the stream's name, and %d the schema of the publisher's tables: names
 * that need no quotes; and %w how long to wait for a lock that stops the callers. */
static void append(const hvi_stream *stream, hvi_buffer *sql, const char *text) {
    for (const char *at = text; *at != '\0'; at++) {
        if (at[0] == '%' && at[1] == 'u')
            hvi_buffer_append_text(sql, stream->name);
        else if (at[0] == '%' && at[1] == 'd')
            hvi_buffer_append_text(sql, stream->tables);
        else if (at[0] == '%' && at[1] == 'w')
            hvi_buffer_append_format(sql, "%d", stream->lock_ms);
        else {
            hvi_buffer_append_byte(sql, *at);
            continue;
        }
        at++;
    }
}

static hv_status run(const hvi_stream *stream, hvi_link *link, const char *text, int64_t deadline,
                     PGresult **result, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    append(stream, &sql, text);
    hv_status status = hvi_link_say(link, &sql, deadline, result, error);
    if (status != HV_OK)
        hvi_error_where(error, link->server->name, stream->shard);
    return status;
}

/* ---- roots ---- */

/* The column by which a root is "partitioned" does not matter, as it has one partition for all
 * values; it must be of a type with an order, which a key's columns are. The replica identity of
 * the root is what the subscriber believes of the rows that it receives: with FULL it takes the key
 * that the copy has, and the publisher sends that of the live table. */
static const char make_sql[] =
    "DO $hv$ DECLARE t record; part pg_catalog.name; BEGIN"
    " CREATE SCHEMA %u;"
    " CREATE TABLE hypervault.%u (id integer PRIMARY KEY, number bigint NOT NULL);"
    " INSERT INTO hypervault.%u VALUES (1, 0);"
    " FOR t IN SELECT c.oid, c.relname FROM pg_catalog.pg_class AS c"
    "  WHERE c.relnamespace OPERATOR(pg_catalog.=) '%d'::pg_catalog.regnamespace"
    "  AND c.relkind OPERATOR(pg_catalog.=) 'r' ORDER BY c.oid LOOP"
    "  SELECT a.attname INTO part FROM pg_catalog.pg_attribute AS a"
    "   LEFT JOIN pg_catalog.pg_index AS i ON i.indrelid OPERATOR(pg_catalog.=) a.attrelid"
    "   AND (i.indisprimary OR i.indisreplident)"
    "   AND a.attnum OPERATOR(pg_catalog.=) ANY (i.indkey)"
    "   WHERE a.attrelid OPERATOR(pg_catalog.=) t.oid AND a.attnum OPERATOR(pg_catalog.>) 0"
    "   AND NOT a.attisdropped AND a.attgenerated OPERATOR(pg_catalog.=) ''"
    "   ORDER BY i.indexrelid IS NULL, NOT " HVI_STREAM_IS_ORDERED ", a.attnum LIMIT 1;"
    "  EXECUTE pg_catalog.format('CREATE TABLE %u.%I (LIKE %d.%I INCLUDING GENERATED)"
    " PARTITION BY LIST (%I)', t.relname, t.relname, part);"
    "  EXECUTE pg_catalog.format('ALTER TABLE %u.%I REPLICA IDENTITY FULL', t.relname);"
    " END LOOP; END $hv$;";

/* First a lock that stops nobody but autovacuum, which gives way to it; then, without it being in
 * the way any more, that which stops everybody. */
static const char attach_sql[] =
    "DO $hv$ DECLARE t record; BEGIN"
    " PERFORM pg_catalog.set_config('lock_timeout', '" GENTLE_LOCK_MS "', true);"
    " FOR t IN SELECT c.relname FROM pg_catalog.pg_class AS c"
    "  WHERE c.relnamespace OPERATOR(pg_catalog.=) '%u'::pg_catalog.regnamespace"
    "  AND c.relkind OPERATOR(pg_catalog.=) 'p' ORDER BY c.oid LOOP"
    "  EXECUTE pg_catalog.format('LOCK TABLE ONLY %d.%I IN SHARE UPDATE EXCLUSIVE MODE',"
    "   t.relname);"
    " END LOOP;"
    " PERFORM pg_catalog.set_config('lock_timeout', '%w', true);"
    " FOR t IN SELECT c.relname FROM pg_catalog.pg_class AS c"
    "  WHERE c.relnamespace OPERATOR(pg_catalog.=) '%u'::pg_catalog.regnamespace"
    "  AND c.relkind OPERATOR(pg_catalog.=) 'p' ORDER BY c.oid LOOP"
    "  EXECUTE pg_catalog.format('ALTER TABLE %u.%I ATTACH PARTITION %d.%I DEFAULT',"
    "   t.relname, t.relname);"
    "  EXECUTE pg_catalog.format('COMMENT ON TABLE %u.%I IS %L', t.relname,"
    "   pg_catalog.pg_relation_filenode(pg_catalog.format('%d.%I', t.relname)"
    "   ::pg_catalog.regclass));"
    " END LOOP; END $hv$;";

/*
 * A TRUNCATE of the live table is not sent, because it is not one of the root. Nobody needs to be
 * kept from it: a table that was truncated has a new file, as has one that was rewritten in some
 * other way, and a root has its table's as a comment.
 */
#define REWRITTEN                                                                \
    "FROM pg_catalog.pg_inherits AS i"                                           \
    " JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.inhparent" \
    " WHERE c.relnamespace OPERATOR(pg_catalog.=)"                               \
    " pg_catalog.to_regnamespace('%u')::pg_catalog.oid"                          \
    " AND pg_catalog.obj_description(c.oid, 'pg_class') OPERATOR(pg_catalog.<>)" \
    " pg_catalog.pg_relation_filenode(i.inhrelid)::pg_catalog.text"

static const char whole_sql[] =
    "DO $hv$ DECLARE live pg_catalog.text; BEGIN"
    " SELECT i.inhrelid::pg_catalog.regclass INTO live " REWRITTEN " LIMIT 1;"
    " IF live IS NOT NULL THEN"
    "  RAISE EXCEPTION 'the table % was truncated or rewritten while it was moved', live"
    "  USING ERRCODE = '" HVI_SQLSTATE_REWRITTEN "',"
    "  HINT = 'Move the shard again.'; END IF; END $hv$;";

void hvi_stream_whole_sql(const hvi_stream *stream, hvi_buffer *sql) {
    append(stream, sql, whole_sql);
}

/* By pg_inherits and not by names: the live schema may have been renamed meanwhile. */
static const char detach_sql[] =
    "DO $hv$ DECLARE r record; BEGIN"
    " FOR r IN SELECT i.inhrelid::pg_catalog.regclass AS live,"
    "  i.inhparent::pg_catalog.regclass AS root FROM pg_catalog.pg_inherits AS i"
    "  JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.inhparent"
    "  WHERE c.relnamespace OPERATOR(pg_catalog.=)"
    "  pg_catalog.to_regnamespace('%u')::pg_catalog.oid ORDER BY i.inhrelid LOOP"
    "  EXECUTE pg_catalog.format('ALTER TABLE %s DETACH PARTITION %s', r.root, r.live);"
    " END LOOP;"
    " IF EXISTS (SELECT FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c"
    "  ON c.oid OPERATOR(pg_catalog.=) i.inhparent WHERE c.relnamespace OPERATOR(pg_catalog.=)"
    "  pg_catalog.to_regnamespace('%u')::pg_catalog.oid) THEN"
    "  RAISE EXCEPTION 'a root of %u still has its table'; END IF;"
    " FOR r IN SELECT c.oid::pg_catalog.regclass AS root FROM pg_catalog.pg_class AS c"
    "  WHERE c.relnamespace OPERATOR(pg_catalog.=)"
    "  pg_catalog.to_regnamespace('%u')::pg_catalog.oid"
    "  AND c.relkind OPERATOR(pg_catalog.=) 'p' LOOP"
    "  EXECUTE pg_catalog.format('DROP TABLE %s', r.root);"
    " END LOOP; END $hv$;";

/* The gentle lock of what is attached. */
static const char gentle_sql[] =
    "DO $hv$ DECLARE r record; BEGIN"
    " PERFORM pg_catalog.set_config('lock_timeout', '" GENTLE_LOCK_MS "', true);"
    " FOR r IN SELECT i.inhrelid::pg_catalog.regclass AS live FROM pg_catalog.pg_inherits AS i"
    "  JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.inhparent"
    "  WHERE c.relnamespace OPERATOR(pg_catalog.=)"
    "  pg_catalog.to_regnamespace('%u')::pg_catalog.oid ORDER BY i.inhrelid LOOP"
    "  EXECUTE pg_catalog.format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', r.live);"
    " END LOOP;"
    " PERFORM pg_catalog.set_config('lock_timeout', '%w', true);"
    " END $hv$;";

void hvi_stream_detach_sql(const hvi_stream *stream, hvi_buffer *sql) {
    append(stream, sql, detach_sql);
}

hv_status hvi_stream_unpublish(const hvi_stream *stream, int64_t deadline, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    /* One transaction: the roots are detached and dropped together, or not at all. The schema is
     * dropped without CASCADE: it has roots no more, and whatever else is in it is not ours. */
    append(stream, &sql, "BEGIN;");
    append(stream, &sql, gentle_sql);
    append(stream, &sql, detach_sql);
    append(stream, &sql,
           "DROP PUBLICATION IF EXISTS %u;"
           "DROP TABLE IF EXISTS hypervault.%u;"
           "DO $hv$ BEGIN"
           /* On the subscriber a schema of this name is the copy, which is not dropped here. */
           " IF NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c"
           "  WHERE c.relnamespace OPERATOR(pg_catalog.=)"
           "  pg_catalog.to_regnamespace('%u')::pg_catalog.oid) THEN"
           "  DROP SCHEMA IF EXISTS %u; END IF; END $hv$;"
           "COMMIT");
    hv_status status = hvi_link_say(stream->publisher, &sql, deadline, NULL, error);
    if (status != HV_OK && hvi_link_is_open(stream->publisher))
        hvi_link_run(stream->publisher, "ROLLBACK", deadline, NULL, NULL);
    return status;
}

hv_status hvi_stream_add_sql(const hvi_stream *stream, hvi_buffer *sql, int64_t deadline,
                             hv_error **error) {
    static const hvi_form form = {
        .asked = "the roots of a stream",
        .rows = HVI_ANY_ROWS,
        .columns = {HVI_IS_BYTES},
    };
    PGresult *result = NULL;
    hv_status status =
        run(stream, stream->publisher,
            "SELECT pg_catalog.format('%u.%I', c.relname) FROM pg_catalog.pg_class AS c"
            " WHERE c.relnamespace OPERATOR(pg_catalog.=) '%u'::pg_catalog.regnamespace"
            " AND c.relkind OPERATOR(pg_catalog.=) 'p' ORDER BY c.oid",
            deadline, &result, error);
    if (status == HV_OK)
        status =
            hvi_result_check(result, &form, stream->publisher->server->name, stream->shard, error);
    if (status == HV_OK) {
        append(stream, sql, "ALTER PUBLICATION %u ADD TABLE hypervault.%u");
        for (int i = 0; i < PQntuples(result); i++) {
            hvi_buffer_append_text(sql, ", ");
            hvi_buffer_append_text(sql, hvi_text_at(result, i, 0));
        }
        hvi_buffer_append_text(sql, ";");
    }
    PQclear(result);
    return status;
}

hv_status hvi_stream_publish(const hvi_stream *stream, bool is_empty, int64_t deadline,
                             hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hv_status status = hvi_stream_unpublish(stream, deadline, error);
    if (status == HV_OK)
        status = run(stream, stream->publisher, make_sql, deadline, NULL, error);
    if (status == HV_OK)
        status =
            run(stream, stream->publisher,
                "CREATE PUBLICATION %u WITH (publish_via_partition_root)", deadline, NULL, error);
    if (status == HV_OK && !is_empty) {
        status = hvi_stream_add_sql(stream, &sql, deadline, error);
        if (status == HV_OK)
            status = hvi_link_say(stream->publisher, &sql, deadline, NULL, error);
        hvi_buffer_fini(&sql);
    }
    if (status == HV_OK)
        status = run(stream, stream->publisher, attach_sql, deadline, NULL, error);
    return status;
}

/* ---- slots ---- */

hv_status hvi_stream_slot_start(const hvi_stream *stream, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    append(stream, &sql,
           "SELECT FROM pg_catalog.pg_create_logical_replication_slot('%u', 'pgoutput')");
    return hvi_link_start(stream->publisher, &sql, error);
}

/* A process that is connected ends when it notices: for up to two seconds. A role that may not end
 * it waits for it all the same. */
#define DROP_SLOTS(condition)                                                                      \
    "DO $hv$ DECLARE s record; BEGIN"                                                              \
    " FOR s IN SELECT slot_name, active_pid FROM pg_catalog.pg_replication_slots"                  \
    "  WHERE database OPERATOR(pg_catalog.=) pg_catalog.current_database()"                        \
    "  AND " condition " LOOP"                                                                     \
    "  FOR try IN 1 .. 40 LOOP"                                                                    \
    "   BEGIN"                                                                                     \
    "    PERFORM pg_catalog.pg_terminate_backend(active_pid)"                                      \
    "     FROM pg_catalog.pg_replication_slots WHERE slot_name OPERATOR(pg_catalog.=) s.slot_name" \
    "     AND active_pid IS NOT NULL;"                                                             \
    "   EXCEPTION WHEN insufficient_privilege THEN NULL; END;"                                     \
    "   BEGIN"                                                                                     \
    "    PERFORM pg_catalog.pg_drop_replication_slot(s.slot_name); EXIT;"                          \
    "   EXCEPTION WHEN undefined_object THEN EXIT;"                                                \
    "    WHEN object_in_use THEN"                                                                  \
    "    IF try OPERATOR(pg_catalog.=) 40 THEN RAISE; END IF;"                                     \
    "    PERFORM pg_catalog.pg_sleep(0.05);"                                                       \
    "   END;"                                                                                      \
    "  END LOOP; END LOOP; END $hv$"

hv_status hvi_stream_drop_slot(const hvi_stream *stream, int64_t deadline, hv_error **error) {
    return run(stream, stream->publisher, DROP_SLOTS("slot_name OPERATOR(pg_catalog.=) '%u'"),
               deadline, NULL, error);
}

/* The slots of tables of a subscription (NULL: of any) of a server with this system identifier. */
static hv_status drop_table_slots(const hvi_stream *stream, const char *subscription,
                                  const char *system, int64_t deadline, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&sql,
                           "DO $do$ BEGIN PERFORM pg_catalog.set_config('hypervault.slots', ");
    char pattern[128];
    snprintf(pattern, sizeof pattern, "^pg_%s_sync_[0-9]+_%s$",
             subscription != NULL ? subscription : "[0-9]+", system);
    hvi_sql_text(&sql, pattern, strlen(pattern));
    hvi_buffer_append_text(&sql, ", false); END $do$;");
    append(stream, &sql,
           subscription != NULL
               ? DROP_SLOTS("slot_name OPERATOR(pg_catalog.~)"
                            " pg_catalog.current_setting('hypervault.slots')")
               : DROP_SLOTS("active_pid IS NULL AND slot_name OPERATOR(pg_catalog.~)"
                            " pg_catalog.current_setting('hypervault.slots')"));
    return hvi_link_say(stream->publisher, &sql, deadline, NULL, error);
}

hv_status hvi_stream_drop_table_slots(const hvi_stream *stream, const char *system,
                                      int64_t deadline, hv_error **error) {
    return drop_table_slots(stream, NULL, system, deadline, error);
}

/* ---- the subscriber ---- */

/* The connection string may have a password: it is never part of a statement that a server's log or
 * pg_stat_activity, or our own log, could show; and the server is not to log parameters either, as
 * it does with log_statement = all. */
static hv_status hand_over_conninfo(const hvi_stream *stream, int64_t deadline, hv_error **error) {
    hvi_buffer conninfo = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_server_move_conninfo(stream->publisher_options, &conninfo);
    if (hvi_buffer_ok(&conninfo) && strstr(conninfo.data, "connect_timeout") == NULL)
        hvi_buffer_append_text(&conninfo, " connect_timeout = '" CONNECT_SECONDS "'");
    const char *value = conninfo.data;
    const hvi_query query = {
        .sql = "SELECT pg_catalog.length(pg_catalog.set_config('hypervault.conninfo', $1, false))",
        .shard = stream->shard,
        .parameter_count = 1,
        .values = &value,
    };
    hv_status status = hvi_link_run(stream->subscriber, "SET log_parameter_max_length TO 0",
                                    deadline, NULL, error);
    if (status == HV_OK)
        status = hvi_buffer_ok(&conninfo) ? hvi_session_run(stream->subscriber->session, &query,
                                                            deadline, &result, error)
                                          : hvi_no_memory(error);
    if (conninfo.data != NULL)
        explicit_bzero(conninfo.data, conninfo.len);
    hvi_buffer_fini(&conninfo);
    PQclear(result);
    return status;
}

static hv_status forget_conninfo(const hvi_stream *stream, hv_status status, int64_t deadline) {
    if (hvi_link_is_open(stream->subscriber))
        hvi_link_run(stream->subscriber,
                     "SELECT pg_catalog.length(pg_catalog.set_config('hypervault.conninfo', '',"
                     " false))",
                     deadline, NULL, NULL);
    return status;
}

/*
 * With the commits of the copy at the disk's leisure it keeps up with many writers; before the
 * switch there is a commit that is not. An error is raised anew, because the context of the first
 * one, which the server writes into its log, has the statement with the password.
 */
#define CREATE_SUBSCRIPTION(COPIES)                                                                \
    "DO $hv$ BEGIN EXECUTE pg_catalog.format('CREATE SUBSCRIPTION %u CONNECTION %L PUBLICATION %u" \
    " WITH (create_slot = false, slot_name = ''%u'', copy_data = " COPIES                          \
    ", synchronous_commit = off)', pg_catalog.current_setting('hypervault.conninfo'));"            \
    " EXCEPTION WHEN OTHERS THEN RAISE EXCEPTION USING ERRCODE := SQLSTATE, MESSAGE := SQLERRM;"   \
    " END $hv$"

/* It has applied more than the publisher knows of. With a new subscription that would come again,
 * and rows that are there already would end the stream: this one has to go on. */
static const char continue_sql[] =
    "DO $hv$ BEGIN EXECUTE pg_catalog.format('ALTER SUBSCRIPTION %u CONNECTION %L',"
    " pg_catalog.current_setting('hypervault.conninfo'));"
    " ALTER SUBSCRIPTION %u ENABLE;"
    " EXCEPTION WHEN OTHERS THEN RAISE EXCEPTION USING ERRCODE := SQLSTATE, MESSAGE := SQLERRM;"
    " END $hv$";

static hv_status has_subscription(const hvi_stream *stream, int64_t deadline, bool *has,
                                  hv_error **error) {
    static const hvi_form form = {
        .asked = "a subscription",
        .rows = HVI_ONE_ROW,
        .columns = {HVI_IS_BOOL},
    };
    PGresult *result = NULL;
    hv_status status =
        run(stream, stream->subscriber,
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_subscription AS s"
            " WHERE s.subname OPERATOR(pg_catalog.=) '%u' AND s.subdbid OPERATOR(pg_catalog.=)"
            " (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname"
            " OPERATOR(pg_catalog.=) pg_catalog.current_database()))",
            deadline, &result, error);
    if (status == HV_OK)
        status =
            hvi_result_check(result, &form, stream->subscriber->server->name, stream->shard, error);
    *has = status == HV_OK && hvi_bool_at(result, 0, 0);
    PQclear(result);
    return status;
}

static hv_status create_subscription(const hvi_stream *stream, bool copy, int64_t deadline,
                                     hv_error **error) {
    return run(stream, stream->subscriber,
               copy ? CREATE_SUBSCRIPTION("true") : CREATE_SUBSCRIPTION("false"), deadline, NULL,
               error);
}

hv_status hvi_stream_subscribe(const hvi_stream *stream, bool copy, int64_t deadline,
                               hv_error **error) {
    bool follows = false;
    hv_status status = HV_OK;
    if (!copy)
        status = has_subscription(stream, deadline, &follows, error);
    if (status == HV_OK && !follows)
        status = hvi_stream_unsubscribe(stream, deadline, error);
    if (status == HV_OK)
        status = hand_over_conninfo(stream, deadline, error);
    if (status == HV_OK && follows) {
        status = run(stream, stream->subscriber, continue_sql, deadline, NULL, error);
        return forget_conninfo(stream, status, deadline);
    }
    if (status == HV_OK)
        status = run(stream, stream->subscriber,
                     copy ? "CREATE TABLE hypervault.%u (id integer PRIMARY KEY,"
                            " number bigint NOT NULL)"
                          : "CREATE TABLE hypervault.%u (id integer PRIMARY KEY,"
                            " number bigint NOT NULL);"
                            "INSERT INTO hypervault.%u VALUES (1, 0)",
                     deadline, NULL, error);
    if (status == HV_OK)
        status = create_subscription(stream, copy, deadline, error);
    return forget_conninfo(stream, status, deadline);
}

hv_status hvi_stream_try_subscribing(const hvi_stream *stream, int64_t deadline, hv_error **error) {
    hv_status status = hand_over_conninfo(stream, deadline, error);
    if (status == HV_OK)
        status = hvi_link_run(stream->subscriber, "BEGIN", deadline, NULL, error);
    if (status == HV_OK)
        status = create_subscription(stream, false, deadline, error);
    if (hvi_link_is_open(stream->subscriber))
        hvi_link_run(stream->subscriber, "ROLLBACK", deadline, NULL, NULL);
    return forget_conninfo(stream, status, deadline);
}

hv_status hvi_stream_unsubscribe(const hvi_stream *stream, int64_t deadline, hv_error **error) {
    static const hvi_form form = {
        .asked = "a subscription",
        .rows = HVI_AT_MOST_ONE_ROW,
        .columns = {HVI_IS_OID, HVI_IS_BYTES},
    };
    PGresult *result = NULL;
    hvi_link *link = stream->subscriber;
    hv_status status =
        run(stream, link,
            "SELECT s.oid, (SELECT system_identifier FROM pg_catalog.pg_control_system())"
            " FROM pg_catalog.pg_subscription AS s WHERE s.subname OPERATOR(pg_catalog.=) '%u'"
            " AND s.subdbid OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database AS d"
            " WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())",
            deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &form, link->server->name, stream->shard, error);
    if (status == HV_OK && PQntuples(result) == 1) {
        status = run(stream, link, "ALTER SUBSCRIPTION %u DISABLE", deadline, NULL, error);
        /* Only while the subscription is there is its number known, which is in their names. */
        if (status == HV_OK && stream->publisher != NULL)
            status = drop_table_slots(stream, hvi_text_at(result, 0, 0), hvi_text_at(result, 0, 1),
                                      deadline, error);
        /* Of a subscription that has not copied all of its tables, the server would look for slots
         * at the publisher, and wait for one that does not answer, without a limit. They are
         * dropped by now: so it is sent where nobody is. */
        if (status == HV_OK)
            status =
                run(stream, link,
                    "DO $hv$ BEGIN EXECUTE 'ALTER SUBSCRIPTION %u SET (slot_name = NONE)';"
                    " EXECUTE 'ALTER SUBSCRIPTION %u CONNECTION ''host=/dev/null password=none''';"
                    " END $hv$;"
                    "DROP SUBSCRIPTION IF EXISTS %u",
                    deadline, NULL, error);
    }
    PQclear(result);
    if (status == HV_OK)
        status = run(stream, link, "DROP TABLE IF EXISTS hypervault.%u", deadline, NULL, error);
    return status;
}

/* ---- how far it is ---- */

static const hvi_form publisher_form = {
    .asked = "the state of a slot",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_INT8, HVI_IS_INT8, HVI_IS_BOOL, HVI_IS_INT8, HVI_IS_INT8, HVI_IS_BOOL},
};

static const char publisher_sql[] =
    "SELECT COALESCE(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(),"
    " s.confirmed_flush_lsn)::bigint, -1),"
    " COALESCE(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn)::bigint,"
    " -1), COALESCE(s.wal_status OPERATOR(pg_catalog.=) 'lost', true), t.n, t.size,"
    " EXISTS (SELECT " REWRITTEN ")"
    " FROM (SELECT COALESCE(pg_catalog.sum(GREATEST(c.reltuples, 0))::bigint, 0) AS n,"
    " COALESCE(pg_catalog.sum(pg_catalog.pg_table_size(c.oid))::bigint, 0) AS size"
    " FROM pg_catalog.pg_class AS c WHERE c.relkind OPERATOR(pg_catalog.=) 'r'"
    " AND c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('%d')"
    "::pg_catalog.oid) AS t LEFT JOIN pg_catalog.pg_replication_slots AS s"
    " ON s.slot_name OPERATOR(pg_catalog.=) '%u'";

static const hvi_form subscriber_form = {
    .asked = "the state of a subscription",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_INT8, HVI_IS_INT8, HVI_IS_INT8, HVI_IS_INT8, HVI_IS_BOOL, HVI_IS_INT8},
};

/* The marker's table is one of them. */
static const char subscriber_sql[] =
    "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE r.srsubstate"
    " OPERATOR(pg_catalog.=) 'r'), COALESCE(pg_catalog.sum(GREATEST("
    "pg_catalog.pg_stat_get_tuples_inserted(r.srrelid), p.tuples_processed))::bigint, 0),"
    " COALESCE(pg_catalog.sum(pg_catalog.pg_table_size(r.srrelid))::bigint, 0),"
    " EXISTS (SELECT FROM pg_catalog.pg_stat_subscription AS w WHERE w.subname"
    " OPERATOR(pg_catalog.=) '%u' AND w.relid IS NULL AND w.pid IS NOT NULL)";

static const char subscriber_from_sql[] =
    " FROM pg_catalog.pg_subscription AS s JOIN pg_catalog.pg_subscription_rel AS r"
    " ON r.srsubid OPERATOR(pg_catalog.=) s.oid LEFT JOIN pg_catalog.pg_stat_progress_copy AS p"
    " ON p.relid OPERATOR(pg_catalog.=) r.srrelid"
    " WHERE s.subname OPERATOR(pg_catalog.=) '%u'";

hv_status hvi_stream_look_at_publisher(const hvi_stream *stream, int64_t deadline,
                                       hvi_stream_state *state, hv_error **error) {
    PGresult *result = NULL;
    const char *publisher = stream->publisher->server->name;
    hv_status status = run(stream, stream->publisher, publisher_sql, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &publisher_form, publisher, stream->shard, error);
    if (status == HV_OK) {
        state->lag_bytes = hvi_integer_at(result, 0, 0);
        state->retained_bytes = hvi_integer_at(result, 0, 1);
        state->is_lost = hvi_bool_at(result, 0, 2);
        state->rows_total = hvi_integer_at(result, 0, 3);
        state->bytes_total = hvi_integer_at(result, 0, 4);
        state->is_rewritten = hvi_bool_at(result, 0, 5);
    }
    PQclear(result);
    return status;
}

hv_status hvi_stream_look(const hvi_stream *stream, int64_t deadline, hvi_stream_state *state,
                          hv_error **error) {
    PGresult *result = NULL;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    const char *subscriber = stream->subscriber->server->name;
    hv_status status = hvi_stream_look_at_publisher(stream, deadline, state, error);
    if (status != HV_OK || !hvi_link_is_open(stream->subscriber))
        return status != HV_OK ? status
                               : hvi_link_run(stream->subscriber, "", deadline, NULL, error);
    append(stream, &sql, subscriber_sql);
    append(stream, &sql,
           PQserverVersion(stream->subscriber->session->conn) >= 150000
               ? ", COALESCE((SELECT e.apply_error_count OPERATOR(pg_catalog.+) e.sync_error_count"
                 " FROM pg_catalog.pg_stat_subscription_stats AS e WHERE e.subname"
                 " OPERATOR(pg_catalog.=) '%u'), 0)"
               : ", 0");
    append(stream, &sql, subscriber_from_sql);
    status = hvi_link_say(stream->subscriber, &sql, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &subscriber_form, subscriber, stream->shard, error);
    if (status == HV_OK) {
        state->tables = (int) hvi_integer_at(result, 0, 0);
        state->ready = (int) hvi_integer_at(result, 0, 1);
        state->rows = hvi_integer_at(result, 0, 2);
        state->bytes = hvi_integer_at(result, 0, 3);
        state->is_working = hvi_bool_at(result, 0, 4);
        state->failures = hvi_integer_at(result, 0, 5);
    }
    PQclear(result);
    return status;
}

static const hvi_form slot_form = {
    .asked = "the state of a slot",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_INT8, HVI_IS_BOOL},
};

hv_status hvi_stream_look_at_slot(const hvi_stream *stream, hvi_link *link, int64_t deadline,
                                  hvi_stream_state *state, hv_error **error) {
    PGresult *result = NULL;
    hv_status status =
        run(stream, link,
            "SELECT COALESCE(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(),"
            " s.restart_lsn)::bigint, -1),"
            " COALESCE(s.wal_status OPERATOR(pg_catalog.=) 'lost', true)"
            " FROM (SELECT) AS t LEFT JOIN pg_catalog.pg_replication_slots AS s"
            " ON s.slot_name OPERATOR(pg_catalog.=) '%u'",
            deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &slot_form, link->server->name, stream->shard, error);
    if (status == HV_OK) {
        state->retained_bytes = hvi_integer_at(result, 0, 0);
        state->is_lost = hvi_bool_at(result, 0, 1);
    }
    PQclear(result);
    return status;
}

static const hvi_form number_form = {
    .asked = "the marker of a stream",
    .rows = HVI_AT_MOST_ONE_ROW,
    .columns = {HVI_IS_INT8},
};

hv_status hvi_stream_mark(const hvi_stream *stream, int64_t deadline, int64_t *number,
                          hv_error **error) {
    PGresult *result = NULL;
    const char *server = stream->publisher->server->name;
    hv_status status = run(stream, stream->publisher,
                           "UPDATE hypervault.%u SET number = number OPERATOR(pg_catalog.+) 1"
                           " RETURNING number",
                           deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &number_form, server, stream->shard, error);
    if (status == HV_OK && PQntuples(result) == 0)
        status = hvi_fail_answer(server, stream->shard, number_form.asked, error, "has none");
    if (status == HV_OK)
        *number = hvi_integer_at(result, 0, 0);
    PQclear(result);
    return status;
}

hv_status hvi_stream_arrived(const hvi_stream *stream, int64_t number, int64_t deadline,
                             bool *arrived, hv_error **error) {
    PGresult *result = NULL;
    hv_status status = run(stream, stream->subscriber, "SELECT number FROM hypervault.%u", deadline,
                           &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &number_form, stream->subscriber->server->name,
                                  stream->shard, error);
    *arrived = status == HV_OK && PQntuples(result) == 1 && hvi_integer_at(result, 0, 0) >= number;
    PQclear(result);
    return status;
}
