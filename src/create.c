/*
 * create: make what is missing on a server: extension, record of the layout, shards.
 *
 * Every step is one script, and a script without BEGIN is one transaction: it happens whole or not
 * at all. Each begins by taking the same advisory lock, so that two runs at once take turns, and
 * creates only what is not there.
 */
#include "create.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "layout.h"

/* "hv" in ASCII; held until the end of the transaction. */
#define LOCK "SELECT pg_catalog.pg_advisory_xact_lock(26742);"

typedef struct hvi_creation {
    hvi_router *router;
    hvi_server *server;
    hvi_session *session;
    char *hstore; /* the type's name with its schema, quoted; owned */
    int64_t epoch;
} hvi_creation;

static hv_status run(hvi_creation *creation, const char *sql, int shard, PGresult **result,
                     hv_error **error) {
    /* Not marked as a write: to run it again is right whatever became of it. */
    return hvi_session_script(creation->session, sql, shard, false,
                              hvi_router_operation_deadline(creation->router), result, error);
}

static hv_status fail_hstore(const char *server, const hv_error *cause, hv_error **error) {
    const char *sqlstate = hv_error_sqlstate(cause);
    hv_status status = hvi_fail(error, hv_error_status(cause),
                                "could not create the extension hstore on server \"%s\"", server);
    hvi_error_detail(error, "%s", hv_error_message(cause));
    hvi_error_sqlstate(error, sqlstate);
    hvi_error_where(error, server, -1);
    if (sqlstate != NULL && strcmp(sqlstate, "42501") == 0)
        hvi_error_hint(error, "Let the database's owner or a superuser run CREATE EXTENSION hstore "
                              "in this database.");
    else if (sqlstate != NULL && (strcmp(sqlstate, "58P01") == 0 || strcmp(sqlstate, "0A000") == 0))
        hvi_error_hint(error, "Install PostgreSQL's contrib modules on the server's machine.");
    return status;
}

/* Where is the type hstore? *schema is NULL if the extension is not there. */
static hv_status find_hstore(hvi_creation *creation, hv_error **error) {
    PGresult *result = NULL;
    hv_status status = run(creation,
                           "SELECT quote_ident(n.nspname::text) || '.hstore'"
                           " FROM pg_catalog.pg_extension e"
                           " JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace"
                           " WHERE e.extname = 'hstore'",
                           -1, &result, error);
    if (status != HV_OK)
        return status;
    if (PQntuples(result) == 1) {
        creation->hstore = strdup(PQgetvalue(result, 0, 0));
        if (creation->hstore == NULL)
            status = hvi_no_memory(error);
    }
    PQclear(result);
    return status;
}

static hv_status ensure_hstore(hvi_creation *creation, hv_error **error) {
    hv_status status = find_hstore(creation, error);
    if (status != HV_OK || creation->hstore != NULL)
        return status;
    hv_error *cause = NULL;
    status = run(creation, LOCK "CREATE EXTENSION IF NOT EXISTS hstore", -1, NULL, &cause);
    if (status == HV_REFUSED)
        status = fail_hstore(creation->server->name, cause, error);
    else if (status != HV_OK)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    if (status == HV_OK)
        status = find_hstore(creation, error);
    if (status == HV_OK && creation->hstore == NULL)
        status = hvi_fail(error, HV_CORRUPT, "the extension hstore went away while it was created");
    return status;
}

/* Is the record there, and ours? */
static hv_status check_record(hvi_creation *creation, bool *recorded, hv_error **error) {
    hvi_layout layout;
    const char *server = creation->server->name;
    hv_status status = hvi_layout_read(
        creation->session, hvi_router_operation_deadline(creation->router), &layout, error);
    if (status == HV_OK)
        status = hvi_layout_accept(&layout, creation->epoch, server, error);
    *recorded = layout.version > 0;
    if (status == HV_OK && *recorded && strcmp(layout.server, server) != 0) {
        status = hvi_fail(error, HV_MISMATCH,
                          "the database that the configuration calls \"%s\" is known as \"%s\"",
                          server, layout.server);
        hvi_error_hint(error,
                       "Correct the configuration if two servers changed places; if the "
                       "server was renamed on purpose, UPDATE hypervault.layout SET server.");
        hvi_error_where(error, server, -1);
    }
    hvi_layout_fini(&layout);
    return status;
}

static hv_status write_record(hvi_creation *creation, hv_error **error) {
    char *name = PQescapeLiteral(creation->session->conn, creation->server->name,
                                 strlen(creation->server->name));
    if (name == NULL)
        return hvi_no_memory(error);
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(
        &sql,
        LOCK "CREATE SCHEMA IF NOT EXISTS hypervault;"
             "CREATE TABLE IF NOT EXISTS hypervault.layout ("
             " single boolean PRIMARY KEY DEFAULT true CHECK (single),"
             " version integer NOT NULL,"
             " epoch bigint NOT NULL,"
             " server text NOT NULL,"
             " created timestamptz NOT NULL DEFAULT now());"
             "COMMENT ON TABLE hypervault.layout IS"
             " 'One row: the layout of this database, the epoch of its keys, its server''s name.';"
             "INSERT INTO hypervault.layout (version, epoch, server) VALUES (%d, %" PRId64 ", %s)"
             " ON CONFLICT DO NOTHING",
        HVI_LAYOUT_VERSION, creation->epoch, name);
    PQfreemem(name);
    hv_status status =
        hvi_buffer_ok(&sql) ? run(creation, sql.data, -1, NULL, error) : hvi_no_memory(error);
    hvi_buffer_fini(&sql);
    return status;
}

/* Shards that are there but cannot be ours are an error before anything is made. */
static hv_status check_shard(const hvi_creation *creation, const hvi_shard_row *row,
                             hv_error **error) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(row->shard, schema);
    if (row->has_table && !row->table_fits) {
        hvi_fail(error, HV_MISMATCH, "the table %s.entities is not a shard's", schema);
        hvi_error_detail(error, "It needs the columns id bigint, type smallint and body hstore.");
    } else if (row->has_function && row->function_epoch >= 0 &&
               row->function_epoch != creation->epoch) {
        hvi_fail(error, HV_MISMATCH, "%s.next_id() counts from another epoch", schema);
        hvi_error_detail(error, "Its epoch is %" PRId64 ", the store's is %" PRId64 ".",
                         row->function_epoch, creation->epoch);
        hvi_error_hint(error, "Set the option \"epoch\" to %" PRId64 ".", row->function_epoch);
    } else {
        return HV_OK;
    }
    hvi_error_where(error, creation->server->name, row->shard);
    return HV_MISMATCH;
}

/*
 * The key's layout is described in hypervault.h; the function is that of "Sharding & IDs at
 * Instagram" (2012). It is PL/pgSQL and not SQL because the faster form makes more than 1,024 keys
 * in a millisecond and so the same one twice.
 */
static hv_status create_shard(hvi_creation *creation, int shard, hv_error **error) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&sql,
                             LOCK "CREATE SCHEMA IF NOT EXISTS %s;"
                                  "CREATE SEQUENCE IF NOT EXISTS %s.table_id_seq;",
                             schema, schema);
    hvi_buffer_append_format(
        &sql,
        "DO $do$ BEGIN IF pg_catalog.to_regprocedure('%s.next_id()') IS NULL THEN\n"
        "CREATE FUNCTION %s.next_id(OUT result bigint) LANGUAGE plpgsql AS $body$\n"
        "DECLARE\n"
        "    epoch CONSTANT bigint := %" PRId64 ";\n"
        "    now_ms bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);\n"
        "BEGIN\n"
        "    result := ((now_ms - epoch) << 23) | (%d::bigint << 10)\n"
        "              | (nextval('%s.table_id_seq') %% 1024);\n"
        "END $body$;\n"
        "END IF; END $do$;",
        schema, schema, creation->epoch, shard, schema);
    hvi_buffer_append_format(&sql,
                             "CREATE TABLE IF NOT EXISTS %s.entities ("
                             " id bigint PRIMARY KEY DEFAULT %s.next_id(),"
                             " type smallint NOT NULL,"
                             " body %s NOT NULL)",
                             schema, schema, creation->hstore);
    hv_status status =
        hvi_buffer_ok(&sql) ? run(creation, sql.data, shard, NULL, error) : hvi_no_memory(error);
    hvi_buffer_fini(&sql);
    return status;
}

/* All shards of the server: first look at every one, then make what is missing. */
static hv_status create_missing(hvi_creation *creation, hv_progress_fn progress, void *context,
                                int *created, hv_error **error) {
    const hvi_shard_map *map = &creation->router->options->map;
    int number = creation->server->number;
    hvi_shard_row *rows = NULL;
    size_t count = 0;
    hv_status status = hvi_layout_shards(
        creation->session, hvi_router_operation_deadline(creation->router), &rows, &count, error);
    for (size_t i = 0; status == HV_OK && i < count; i++)
        if (hvi_shard_map_server(map, rows[i].shard) == number)
            status = check_shard(creation, &rows[i], error);

    bool recorded = false;
    if (status == HV_OK)
        status = check_record(creation, &recorded, error);
    if (status == HV_OK && !recorded)
        status = write_record(creation, error);
    if (status == HV_OK) /* two runs at once: the other's record may be another */
        status = check_record(creation, &recorded, error);

    int total = hvi_shard_map_count(map, number);
    int done = 0;
    for (int shard = -1;
         status == HV_OK && (shard = hvi_shard_map_next(map, number, shard)) >= 0;) {
        const hvi_shard_row *row = hvi_shard_row_find(rows, count, shard);
        if (row == NULL || !hvi_shard_row_is_complete(row)) {
            status = create_shard(creation, shard, error);
            if (status == HV_OK)
                ++*created;
        }
        if (status == HV_OK && progress != NULL)
            progress(context, number, ++done, total);
    }
    free(rows);
    return status;
}

hv_status hvi_create_shards(hvi_router *router, hvi_server *server, hv_progress_fn progress,
                            void *context, int *created, hv_error **error) {
    hvi_creation creation = {
        .router = router,
        .server = server,
        .epoch = router->options->values[HVI_EPOCH],
    };
    int made = 0;
    bool recorded;
    hv_status status = hvi_session_open(&server->pool.config.session,
                                        hvi_router_pool_deadline(router), &creation.session, error);
    if (status == HV_OK)
        status = check_record(&creation, &recorded, error);
    if (status == HV_OK)
        status = ensure_hstore(&creation, error);
    if (status == HV_OK)
        status = create_missing(&creation, progress, context, &made, error);
    hvi_session_close(creation.session);
    free(creation.hstore);
    if (created != NULL)
        *created = made;
    return status;
}
