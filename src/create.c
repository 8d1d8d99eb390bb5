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
#include <time.h>

#include "buffer.h"
#include "clock.h"
#include "extension.h"
#include "layout.h"

/* The pause between tries to change a shard that is busy. */
#define RETRY_MS 100

typedef struct hvi_creation {
    hvi_router *router;
    hvi_server *server;
    hvi_session *session;
    char *hstore; /* the type's name with its schema, quoted; owned */
    int64_t epoch;
    hvi_keys_choice choice;
    hvi_generator generator; /* of new shards */
} hvi_creation;

/* Has the role no right to do that? Then somebody else has. */
static void hint_at_rights(hv_error **error) {
    const char *sqlstate = error != NULL ? hv_error_sqlstate(*error) : NULL;
    if (sqlstate != NULL && strcmp(sqlstate, "42501") == 0)
        hvi_error_hint(error, "Run `hv init` as the database's owner, or GRANT the role CREATE on "
                              "the database.");
}

static hv_status run(hvi_creation *creation, const char *sql, int shard, PGresult **result,
                     hv_error **error) {
    /* Not marked as a write: to run it again is right whatever became of it. */
    hv_status status =
        hvi_session_script(creation->session, sql, shard, false,
                           hvi_router_operation_deadline(creation->router), result, error);
    if (status == HV_REFUSED)
        hint_at_rights(error);
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
        HVI_CREATION_LOCK
        "CREATE SCHEMA IF NOT EXISTS hypervault;"
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
    } else if (row->function_epoch >= 0 && row->function_epoch != creation->epoch) {
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

static hv_status create_shard(hvi_creation *creation, int shard, bool has_function,
                              hv_error **error) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&sql,
                             HVI_CREATION_LOCK "CREATE SCHEMA IF NOT EXISTS %s;"
                                               "CREATE SEQUENCE IF NOT EXISTS %s.table_id_seq;",
                             schema, schema);
    if (!has_function)
        hvi_generator_create(&sql, creation->generator, shard, creation->epoch);
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

/* ---- what makes the keys ---- */

/* Which generator do new shards get, and those that are to be changed? */
static hv_status choose_generator(hvi_creation *creation, hv_error **error) {
    creation->generator = HVI_GENERATOR_PORTABLE;
    if (creation->choice == HVI_KEYS_PORTABLE)
        return HV_OK;
    hv_error *cause = NULL;
    hv_status status = hvi_extension_hypervault(
        creation->session, hvi_router_operation_deadline(creation->router), &cause);
    if (status == HV_OK)
        creation->generator = HVI_GENERATOR_STRICT;
    if (status == HV_NOT_FOUND && creation->choice == HVI_KEYS_AUTO)
        status = HV_OK;
    if (status != HV_OK)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    return HV_OK;
}

/* Is this an error that goes by: a busy table, keys ahead of the clock? */
static bool may_pass(const hv_error *cause) {
    const char *sqlstate = hv_error_sqlstate(cause);
    return sqlstate != NULL && (strcmp(sqlstate, "55P03") == 0 || strcmp(sqlstate, "55000") == 0);
}

/* Change what makes the keys of a shard that is in use. */
static hv_status change_shard(hvi_creation *creation, const hvi_shard_row *row, hv_error **error) {
    int64_t deadline = hvi_router_operation_deadline(creation->router);
    hv_error *cause = NULL;
    hv_status status;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&sql, HVI_CREATION_LOCK);
    hvi_generator_change(&sql, row->generator, creation->generator, row->shard, creation->epoch);
    if (!hvi_buffer_ok(&sql))
        return hvi_no_memory(error);
    for (;;) {
        status = run(creation, sql.data, row->shard, NULL, &cause);
        if (status != HV_REFUSED || !may_pass(cause) || hvi_clock_us() >= deadline)
            break;
        nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
    }
    hvi_buffer_fini(&sql);
    if (status != HV_OK) {
        if (may_pass(cause))
            hvi_error_hint(&cause, "Writers of the shard were not interrupted. Run `hv init` again "
                                   "when there are no long transactions on it.");
        return hvi_error_move(error, &cause);
    }
    hv_error_free(cause);
    return HV_OK;
}

/* ---- all shards of a server ---- */

/* Look at every shard that is there, before anything is made. */
static hv_status check_shards(const hvi_creation *creation, const hvi_shard_row *rows, size_t count,
                              hv_error **error) {
    hv_status status = HV_OK;
    for (size_t i = 0; status == HV_OK && i < count; i++)
        if (hvi_shard_map_server(&creation->router->options->map, rows[i].shard) ==
            creation->server->number)
            status = check_shard(creation, &rows[i], error);
    return status;
}

/* Make one shard, or what is missing of it, or change it; *touched says whether that was needed. */
static hv_status bring_up(hvi_creation *creation, int shard, const hvi_shard_row *row,
                          bool *touched, hv_error **error) {
    bool has_function = row != NULL && row->generator != HVI_GENERATOR_NONE;
    bool is_complete = row != NULL && hvi_shard_row_is_complete(row);
    bool must_change =
        has_function && creation->choice != HVI_KEYS_AUTO && row->generator != creation->generator;
    *touched = !is_complete || must_change;
    hv_status status = HV_OK;
    if (!is_complete)
        status = create_shard(creation, shard, has_function, error);
    if (status == HV_OK && must_change)
        status = change_shard(creation, row, error);
    return status;
}

/* The record and the extensions. */
static hv_status prepare_database(hvi_creation *creation, hv_error **error) {
    bool recorded = false;
    hv_status status =
        hvi_extension_hstore(creation->session, hvi_router_operation_deadline(creation->router),
                             &creation->hstore, error);
    if (status == HV_OK)
        status = check_record(creation, &recorded, error);
    if (status == HV_OK && !recorded)
        status = write_record(creation, error);
    if (status == HV_OK) /* two runs at once: the other's record may be another */
        status = check_record(creation, &recorded, error);
    if (status == HV_OK)
        status = choose_generator(creation, error);
    return status;
}

static hv_status create_all(hvi_creation *creation, hv_progress_fn progress, void *context,
                            int *created, hv_error **error) {
    const hvi_shard_map *map = &creation->router->options->map;
    int number = creation->server->number;
    int total = hvi_shard_map_count(map, number), done = 0;
    hvi_shard_row *rows = NULL;
    size_t count = 0;
    bool recorded;
    hv_status status = check_record(creation, &recorded, error);
    if (status == HV_OK)
        status =
            hvi_layout_shards(creation->session, hvi_router_operation_deadline(creation->router),
                              &rows, &count, error);
    if (status == HV_OK)
        status = check_shards(creation, rows, count, error);
    if (status == HV_OK)
        status = prepare_database(creation, error);
    for (int shard = -1;
         status == HV_OK && (shard = hvi_shard_map_next(map, number, shard)) >= 0;) {
        bool touched;
        status = bring_up(creation, shard, hvi_shard_row_find(rows, count, shard), &touched, error);
        if (status != HV_OK)
            break;
        *created += touched;
        if (progress != NULL)
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
        .choice = (hvi_keys_choice) router->options->values[HVI_KEYS],
    };
    int made = 0;
    hv_status status = hvi_session_open(&server->pool.config.session,
                                        hvi_router_pool_deadline(router), &creation.session, error);
    if (status == HV_OK)
        status = create_all(&creation, progress, context, &made, error);
    hvi_session_close(creation.session);
    free(creation.hstore);
    if (created != NULL)
        *created = made;
    return status;
}
