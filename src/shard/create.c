/*
 * create: make what is missing on a server: extensions, the layout's record, shards.
 *
 * Every step is one script, and a script without BEGIN is one transaction: all of it happens or
 * none. Each begins by taking the same advisory lock, so that two runs at once take turns, and
 * creates only what is not there.
 */
#include "shard/create.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/interrupt.h"
#include "shard/extension.h"
#include "shard/layout.h"
#include "shard/ledger_table.h"
#include "shard/load_record.h"
#include "shard/location.h"
#include "shard/owners.h"

/* A change of a shard in use waits for a lock only so long, because writers must wait too; the
 * pause until it tries again is longer. */
#define LOCK_TIMEOUT "100ms"
#define RETRY_MS     400

/* Autovacuum gives way after deadlock_timeout, by default a second. If it is working on the shard,
 * one try in VACUUM_TRY waits for that. */
#define LOCK_TIMEOUT_VACUUM "1500ms"
#define VACUUM_TRY          5

/* lock_not_available */
#define SQLSTATE_LOCKED "55P03"

typedef struct hvi_creation {
    hvi_router *router;
    hvi_server *server;
    hvi_session *session;
    char *hstore; /* the type's name with its schema, quoted; owned */
    int64_t epoch;
    hvi_keys_choice choice;
    hvi_generator generator; /* of new shards, and of those to be changed */
    hvi_without without;
    bool elsewhere[HV_SHARDS]; /* the server says that they have gone, or arrive */
} hvi_creation;

static int64_t deadline_of(const hvi_creation *creation) {
    return hvi_router_operation_deadline(creation->router);
}

/* Does the configuration give the shard to this server? */
static bool is_ours(const hvi_creation *creation, int shard) {
    return hvi_router_holder(creation->router, shard) == creation->server->number &&
           !creation->elsewhere[shard];
}

/* The first shard above `after` that is to be on this server, or -1. */
static int next_ours(const hvi_creation *creation, int after) {
    int shard = after;
    do
        shard = hvi_router_next(creation->router, creation->server->number, shard);
    while (shard >= 0 && creation->elsewhere[shard]);
    return shard;
}

static int count_ours(const hvi_creation *creation) {
    int count = 0;
    for (int shard = -1; (shard = next_ours(creation, shard)) >= 0;)
        count++;
    return count;
}

/* A shard that has gone from here must not be made again, whatever the configuration says: it would
 * be empty. */
static hv_status find_elsewhere(hvi_creation *creation, hv_error **error) {
    hvi_location *rows = NULL;
    size_t count = 0;
    hv_status status =
        hvi_location_read_all(creation->session, deadline_of(creation), &rows, &count, error);
    for (size_t i = 0; i < count; i++)
        creation->elsewhere[rows[i].shard] =
            rows[i].state == HVI_LOCATION_GONE || rows[i].state == HVI_LOCATION_ARRIVING;
    hvi_location_apply(rows, count, creation->router, creation->server->number);
    free(rows);
    return status;
}

/* Run a script. If the role lacks a right, hint at a role that has it. */
static hv_status run(hvi_creation *creation, const hvi_buffer *sql, int shard, hv_error **error) {
    if (!hvi_buffer_ok(sql))
        return hvi_no_memory(error);
    /* Not marked as a write: running it again is right whatever its outcome. */
    hv_status status = hvi_session_script(creation->session, sql->data, shard, false,
                                          deadline_of(creation), NULL, error);
    if (status == HV_REFUSED && error != NULL && hvi_error_has_sqlstate(*error, "42501"))
        hvi_error_hint(error, "Run `hv init` as the database's owner, or GRANT the role CREATE on "
                              "the database.");
    return status;
}

/* Run a script, and free its text. */
static hv_status run_once(hvi_creation *creation, hvi_buffer *sql, int shard, hv_error **error) {
    hv_status status = run(creation, sql, shard, error);
    hvi_buffer_fini(sql);
    return status;
}

/* Check the record, if there is one. *recorded: it need not be written. A record under a numbered
 * name, which identifies nothing, is written again if the server has a better name now. */
static hv_status check_record(hvi_creation *creation, bool *recorded, hv_error **error) {
    hvi_layout layout;
    const char *server = creation->server->name;
    hv_status status = hvi_layout_read(creation->session, deadline_of(creation), &layout, error);
    if (status == HV_OK)
        status = hvi_layout_accept(&layout, creation->epoch, server, error);
    *recorded = status == HV_OK && layout.version > 0 &&
                (hvi_layout_is_numbered(server) || !hvi_layout_is_numbered(layout.server));
    hvi_layout_fini(&layout);
    return status;
}

static hv_status write_record(hvi_creation *creation, hv_error **error) {
    char *name = PQescapeLiteral(creation->session->conn, creation->server->name,
                                 strlen(creation->server->name));
    if (name == NULL)
        return hvi_no_memory(error);
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&sql, HVI_CREATION_LOCK "DO $do$ BEGIN\n");
    hvi_generator_require_epoch(&sql, creation->epoch);
    hvi_buffer_append_format(
        &sql,
        "END $do$;"
        "CREATE SCHEMA IF NOT EXISTS hypervault;"
        "CREATE TABLE IF NOT EXISTS hypervault.layout ("
        " single boolean PRIMARY KEY DEFAULT true CHECK (single),"
        " version integer NOT NULL,"
        " epoch bigint NOT NULL,"
        " server pg_catalog.text NOT NULL,"
        " created pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now());"
        "COMMENT ON TABLE hypervault.layout IS"
        " 'One row: the layout of this database, the epoch of its keys, its server''s name.';"
        "INSERT INTO hypervault.layout (version, epoch, server) VALUES (%d, %" PRId64 ", %s)"
        " ON CONFLICT (single) DO UPDATE SET server = EXCLUDED.server"
        " WHERE layout.server OPERATOR(pg_catalog.~) '^server [0-9]+$'::pg_catalog.text",
        HVI_LAYOUT_VERSION, creation->epoch, name);
    PQfreemem(name);
    return run_once(creation, &sql, -1, error);
}

/* Columns may be NULL. Changing that reads the whole table under a lock that blocks everything, so
 * it is left to the operator. */
static void fail_nullable(const hvi_shard_row *row, const char *schema, hv_error **error) {
    const char *first = row->type_not_null ? "body" : "type";
    bool both = !row->type_not_null && !row->body_not_null;
    hvi_fail(error, HV_MISMATCH, "%s%s of the table %s.entities may be NULL", first,
             both ? " and body" : "", schema);
    hvi_error_detail(error, "An entity has a type and a body; a row without them cannot be read.");
    hvi_error_hint(error,
                   "ALTER TABLE %s.entities ALTER COLUMN %s SET NOT NULL%s; it fails if there are "
                   "such rows, which SELECT id FROM %s.entities WHERE type IS NULL OR body IS NULL "
                   "finds.",
                   schema, first, both ? ", ALTER COLUMN body SET NOT NULL" : "", schema);
}

/* A shard that is there but has another form is an error, before anything is made. */
static hv_status check_shard(const hvi_creation *creation, const hvi_shard_row *row,
                             hv_error **error) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(row->shard, schema);
    if (row->has_table && !row->table_fits) {
        hvi_fail(error, HV_MISMATCH, "the table %s.entities is not a shard's", schema);
        hvi_error_detail(error, "It must be a table with id bigint PRIMARY KEY, type smallint, "
                                "body hstore, and no other column that has to be given a value.");
        hvi_error_hint(error, "Alter the table, or rename it.");
    } else if (row->has_table && !(row->type_not_null && row->body_not_null)) {
        fail_nullable(row, schema, error);
    } else if (row->has_sequence && !row->sequence_fits) {
        hvi_fail(error, HV_MISMATCH, "%s.table_id_seq is not a sequence", schema);
        hvi_error_hint(error, "Rename the object that has this name.");
    } else if (row->generator != HVI_GENERATOR_NONE && !row->function_fits) {
        hvi_fail(error, HV_MISMATCH, "%s.next_id() does not return a bigint", schema);
        hvi_error_hint(error, "Rename the function.");
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

/* The shard has none of the store's migrations yet. */
static void mark_as_new(const hvi_creation *creation, const char *schema, int shard,
                        hvi_buffer *sql) {
    if (hvi_options_migrations(creation->router->options) == NULL)
        return;
    hvi_buffer_append_text(sql, ";DO $do$ BEGIN ");
    hvi_ledger_table_ensure(sql, shard);
    hvi_buffer_append_format(sql,
                             " END $do$;"
                             "INSERT INTO %s." HVI_LEDGER " (id, name, digest)"
                             " VALUES ('" HVI_LEDGER_NEW "', '', '') ON CONFLICT (id) DO NOTHING",
                             schema);
}

/* Schema, sequence, table; the functions only if the table is new. */
static hv_status create_shard(hvi_creation *creation, int shard, bool has_table, hv_error **error) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&sql,
                             HVI_CREATION_LOCK "CREATE SCHEMA IF NOT EXISTS %s;"
                                               "CREATE SEQUENCE IF NOT EXISTS %s.table_id_seq;",
                             schema, schema);
    if (!has_table) {
        hvi_buffer_append_format(
            &sql, "DO $do$ BEGIN IF pg_catalog.to_regprocedure('%s.next_id()') IS NULL THEN ",
            schema);
        hvi_generator_create(&sql, creation->generator, shard, creation->epoch);
        hvi_buffer_append_format(&sql,
                                 "END IF; END $do$;"
                                 "CREATE TABLE IF NOT EXISTS %s.entities ("
                                 " id bigint PRIMARY KEY DEFAULT %s.next_id(),"
                                 " type smallint NOT NULL,"
                                 " body %s NOT NULL)",
                                 schema, schema, creation->hstore);
        mark_as_new(creation, schema, shard, &sql);
    }
    return run_once(creation, &sql, shard, error);
}

/* ---- the generators of keys ---- */

/* Does one of the shards have strict keys, and keep them? */
static bool needs_extension(const hvi_creation *creation, const hvi_shard_row *rows, size_t count) {
    bool keeps = creation->choice != HVI_KEYS_PORTABLE, any = false;
    for (size_t i = 0; keeps && i < count; i++)
        any =
            any || (rows[i].generator == HVI_GENERATOR_STRICT && is_ours(creation, rows[i].shard));
    return any;
}

/* The hint for shards with strict keys if the extension cannot be created. */
static void hint_at_ways_out(hv_error **cause) {
    hvi_buffer hint = HVI_BUFFER_EMPTY;
    const char *first = hv_error_hint(*cause);
    hvi_buffer_append_format(&hint,
                             "%s%sShards on this server have strict keys, which need it; or run "
                             "`hv init --keys portable`, which does not.",
                             first != NULL ? first : "", first != NULL ? " " : "");
    if (hvi_buffer_ok(&hint))
        hvi_error_hint(cause, "%s", hint.data);
    hvi_buffer_fini(&hint);
}

/* Choose the generator of new shards, and of those to be changed. `is_needed`: there are shards
 * that cannot make keys without the extension. */
static hv_status choose_generator(hvi_creation *creation, bool is_needed, hv_error **error) {
    creation->generator = HVI_GENERATOR_PORTABLE;
    if (creation->choice == HVI_KEYS_PORTABLE)
        return HV_OK;
    hv_error *cause = NULL;
    hv_status status = hvi_extension_hypervault(creation->session, deadline_of(creation), &cause);
    if (status == HV_OK)
        creation->generator = HVI_GENERATOR_STRICT;
    else if (status == HV_NOT_FOUND || status == HV_MISMATCH) {
        if (creation->choice == HVI_KEYS_AUTO && !is_needed)
            status = HV_OK;
        else if (is_needed)
            hint_at_ways_out(&cause);
    }
    if (status != HV_OK)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    return HV_OK;
}

/* The error for a change of a shard in use that has failed, so that nothing is changed. Takes
 * *cause. */
static hv_status fail_change(const hvi_creation *creation, int shard, hv_error **cause,
                             hv_error **error) {
    if (hvi_error_has_sqlstate(*cause, SQLSTATE_LOCKED)) {
        const char *server = creation->server->name;
        hvi_fail(error, HV_REFUSED, "could not change shard %d on server \"%s\": it is in use",
                 shard, server);
        hvi_error_detail(error, "%s", hv_error_message(*cause));
        hvi_error_hint(error, "Run `hv init` again when no long transaction is writing to it.");
        hvi_error_sqlstate(error, SQLSTATE_LOCKED);
        hvi_error_where(error, server, shard);
        hv_error_free(*cause);
        return HV_REFUSED;
    }
    if (hvi_error_has_sqlstate(*cause, HVI_GENERATOR_LATER))
        hvi_error_hint(cause, "Run `hv init` again when the clock has passed them: strict keys may "
                              "be ahead of it, portable ones may not.");
    if (hvi_error_has_sqlstate(*cause, HVI_GENERATOR_HOPELESS))
        hvi_error_hint(cause, "Check the server's clock, and find the entities that have such "
                              "keys.");
    return hvi_error_move(error, cause);
}

/* The beginning of a script that changes a shard in use. */
static void append_lock_timeout(hvi_buffer *sql, int shard, bool for_vacuum) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    if (for_vacuum)
        hvi_buffer_append_format(
            sql,
            "SELECT pg_catalog.set_config('lock_timeout', CASE WHEN EXISTS"
            " (SELECT FROM pg_catalog.pg_locks"
            " WHERE relation OPERATOR(pg_catalog.=) '%s.entities'::pg_catalog.regclass"
            " AND mode OPERATOR(pg_catalog.=) 'ShareUpdateExclusiveLock' AND granted)"
            " THEN '" LOCK_TIMEOUT_VACUUM "' ELSE '" LOCK_TIMEOUT "' END, true);",
            schema);
    else
        hvi_buffer_append_text(sql, "SET LOCAL lock_timeout TO '" LOCK_TIMEOUT "';");
}

/* Run a script that changes a shard, again while it is locked or its keys are ahead of the clock,
 * until the operation's deadline. */
static hv_status run_patiently(hvi_creation *creation, const char *change, int shard,
                               hv_error **error) {
    int64_t deadline = deadline_of(creation);
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hv_error *cause = NULL;
    hv_status status;
    for (int try = 1;; try++) {
        hvi_buffer_reset(&sql);
        hvi_buffer_append_text(&sql, HVI_CREATION_LOCK);
        append_lock_timeout(&sql, shard, try % VACUUM_TRY == 0);
        hvi_buffer_append_text(&sql, change);
        status = run(creation, &sql, shard, &cause);
        bool may_pass = status != HV_OK && (hvi_error_has_sqlstate(cause, SQLSTATE_LOCKED) ||
                                            hvi_error_has_sqlstate(cause, HVI_GENERATOR_LATER));
        if (!may_pass || hvi_is_late(deadline - RETRY_MS * 1000))
            break;
        hvi_pause(RETRY_MS);
    }
    hvi_buffer_fini(&sql);
    if (status != HV_OK)
        return fail_change(creation, shard, &cause, error);
    hv_error_free(cause);
    return HV_OK;
}

/* Give a shard with a table the functions of a generator (HVI_GENERATOR_NONE: keep those it has),
 * and the table its default. */
static hv_status change_shard(hvi_creation *creation, const hvi_shard_row *row,
                              hvi_generator generator, hv_error **error) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(row->shard, schema);
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    if (generator != HVI_GENERATOR_NONE)
        hvi_generator_change(&sql, generator, row->shard, creation->epoch);
    if (!row->has_default)
        hvi_buffer_append_format(
            &sql, "ALTER TABLE %s.entities ALTER COLUMN id SET DEFAULT %s.next_id();", schema,
            schema);
    hv_status status = hvi_buffer_ok(&sql) ? run_patiently(creation, sql.data, row->shard, error)
                                           : hvi_no_memory(error);
    hvi_buffer_fini(&sql);
    return status;
}

/* Give a shard the reserve_ids() of this version. */
static hv_status renew_shard(hvi_creation *creation, int shard, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&sql, HVI_CREATION_LOCK);
    hvi_generator_renew(&sql, shard, creation->epoch);
    return run_once(creation, &sql, shard, error);
}

/* ---- all shards of a server ---- */

/* Check every existing shard, before anything is made. */
static hv_status check_shards(const hvi_creation *creation, const hvi_shard_row *rows, size_t count,
                              hv_error **error) {
    hv_status status = HV_OK;
    for (size_t i = 0; status == HV_OK && i < count; i++)
        if (is_ours(creation, rows[i].shard))
            status = check_shard(creation, &rows[i], error);
    return status;
}

/* Check that everything that is there belongs to trusted roles. Nothing is added to the objects of
 * another role, which could then make every user run its code. */
static hv_status check_owners(const hvi_creation *creation, hv_error **error) {
    hvi_foreign *foreign = NULL;
    size_t count = 0;
    hv_status status =
        hvi_owners_read(creation->session, deadline_of(creation), &foreign, &count, error);
    for (size_t i = 0; status == HV_OK && i < count; i++)
        if (foreign[i].shard < 0 || is_ours(creation, foreign[i].shard))
            status = hvi_owners_refuse(&foreign[i], creation->server->name, error);
    hvi_owners_free(foreign, count);
    return status;
}

/* The generator whose functions a shard that has a table or functions needs. HVI_GENERATOR_NONE:
 * it keeps those it has. */
static hvi_generator needed_generator(const hvi_creation *creation, const hvi_shard_row *row) {
    if (row->generator == HVI_GENERATOR_NONE)
        return creation->generator;
    if (creation->choice != HVI_KEYS_AUTO && row->generator != creation->generator)
        return creation->generator;
    return hvi_shard_row_makes_keys(row) && !row->is_old ? HVI_GENERATOR_NONE : row->generator;
}

/* Make one shard, or what is missing of it, or change it; *touched is whether that was needed. */
static hv_status bring_up(hvi_creation *creation, int shard, const hvi_shard_row *row,
                          bool *touched, hv_error **error) {
    bool has_table = row != NULL && row->has_table;
    bool has_some = has_table || (row != NULL && row->generator != HVI_GENERATOR_NONE);
    bool is_complete = row != NULL && hvi_shard_row_faults(row) == 0;
    hvi_generator needed = has_some ? needed_generator(creation, row) : HVI_GENERATOR_NONE;
    hv_status status = HV_OK;
    bool is_slow = row != NULL && row->is_slow && needed == HVI_GENERATOR_NONE;
    *touched = !is_complete || is_slow || needed != HVI_GENERATOR_NONE;
    if (!is_complete)
        status = create_shard(creation, shard, has_table, error);
    if (status == HV_OK && (needed != HVI_GENERATOR_NONE || (has_table && !row->has_default)))
        status = change_shard(creation, row, needed, error);
    if (status == HV_OK && is_slow)
        status = renew_shard(creation, row->shard, error);
    return status;
}

/* Will functions be made, so that the generator matters? */
static bool makes_functions(const hvi_creation *creation, const hvi_shard_row *rows, size_t count) {
    if (creation->choice != HVI_KEYS_AUTO)
        return true;
    for (int shard = -1; (shard = next_ours(creation, shard)) >= 0;) {
        const hvi_shard_row *row = hvi_shard_row_find(rows, count, shard);
        if (row == NULL || !row->has_table || row->generator == HVI_GENERATOR_NONE)
            return true;
    }
    return false;
}

/* The table for imports. It is looked for first, which takes fewer rights than CREATE TABLE IF NOT
 * EXISTS. */
static hv_status create_imports(hvi_creation *creation, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&sql,
                             HVI_CREATION_LOCK
                             "DO $do$ BEGIN"
                             " IF pg_catalog.to_regclass('hypervault.imports') IS NULL THEN %s;"
                             " END IF; END $do$",
                             hvi_load_record_table);
    return run_once(creation, &sql, -1, error);
}

/* The record and hstore. */
static hv_status prepare_database(hvi_creation *creation, hv_error **error) {
    bool recorded = false;
    hv_status status =
        hvi_extension_hstore(creation->session, deadline_of(creation), &creation->hstore, error);
    if (status == HV_OK)
        status = check_record(creation, &recorded, error);
    if (status == HV_OK && !recorded)
        status = write_record(creation, error);
    if (status == HV_OK) /* another run at the same time may have written a different record */
        status = check_record(creation, &recorded, error);
    if (status == HV_OK)
        status = create_imports(creation, error);
    if (status == HV_OK)
        status = hvi_location_prepare(creation->session, deadline_of(creation), error);
    return status;
}

/* Find the shards without a table, in which their entities would be. True if there are any. */
static bool find_wanted(const hvi_creation *creation, const hvi_shard_row *rows, size_t count,
                        bool wanted[HV_SHARDS]) {
    bool any = false;
    memset(wanted, 0, HV_SHARDS * sizeof *wanted);
    for (int shard = -1; (shard = next_ours(creation, shard)) >= 0;) {
        const hvi_shard_row *row = hvi_shard_row_find(rows, count, shard);
        wanted[shard] = row == NULL || !row->has_table;
        any = any || wanted[shard];
    }
    return any;
}

static hv_status check_placement(hvi_creation *creation, const bool wanted[HV_SHARDS],
                                 hv_error **error) {
    return hvi_placement_check(creation->router, creation->server, creation->session, wanted,
                               creation->without, error);
}

/*
 * All is made. Check that no other run, with another configuration, has made the same shards
 * elsewhere after the first check. Both runs check again after they have committed, so at least one
 * of them sees it. A server that cannot be asked now is not a failure: the shards are made.
 */
static hv_status check_placement_again(hvi_creation *creation, const bool wanted[HV_SHARDS],
                                       hv_error **error) {
    hv_error *cause = NULL;
    hv_status status = check_placement(creation, wanted, &cause);
    const char *where = status == HV_MISMATCH ? hv_error_server(cause) : NULL;
    if (where != NULL && strcmp(where, creation->server->name) == 0)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    return HV_OK;
}

static hv_status create_all(hvi_creation *creation, hv_progress_fn progress, void *context,
                            int *created, hv_error **error) {
    int number = creation->server->number;
    int total, done = 0;
    hvi_shard_row *rows = NULL;
    size_t count = 0;
    bool recorded, wanted[HV_SHARDS], wants = false, needs = false;
    hv_status status = check_owners(creation, error); /* before anything is read from its objects */
    if (status == HV_OK)
        status = check_record(creation, &recorded, error);
    if (status == HV_OK)
        status = find_elsewhere(creation, error);
    if (status == HV_OK)
        status = hvi_layout_shards(creation->session, deadline_of(creation), &rows, &count, error);
    if (status == HV_OK)
        status = check_shards(creation, rows, count, error);
    if (status == HV_OK)
        wants = find_wanted(creation, rows, count, wanted);
    if (wants)
        status = check_placement(creation, wanted, error);
    if (status == HV_OK)
        status = prepare_database(creation, error);
    if (status == HV_OK)
        needs = needs_extension(creation, rows, count);
    if (status == HV_OK && (needs || makes_functions(creation, rows, count)))
        status = choose_generator(creation, needs, error);
    total = count_ours(creation);
    for (int shard = -1; status == HV_OK && (shard = next_ours(creation, shard)) >= 0;) {
        bool touched;
        status = bring_up(creation, shard, hvi_shard_row_find(rows, count, shard), &touched, error);
        if (status != HV_OK)
            break;
        *created += touched;
        if (progress != NULL)
            progress(context, number, ++done, total);
    }
    if (status == HV_OK && wants)
        status = check_placement_again(creation, wanted, error);
    if (status == HV_OK) /* another role may have added objects meanwhile */
        status = check_owners(creation, error);
    free(rows);
    return status;
}

/* With `shards = auto`, what is there is completed, but nothing says what is to be made. */
static hv_status check_choice(const hvi_router *router, const hvi_server *server,
                              hv_error **error) {
    if (!router->options->servers[server->number].is_auto || hvi_router_next(router, -1, -1) >= 0)
        return HV_OK;
    hvi_fail(error, HV_BAD_CONFIG,
             "server \"%s\" has \"shards = auto\", and no server holds shards", server->name);
    hvi_error_detail(error, "So nothing says which shards are to be made.");
    hvi_error_hint(error, "Write ranges for `hv init`, such as \"shards = 0-8\" (0 to 7). When the "
                          "shards are made, \"auto\" finds them.");
    hvi_error_where(error, server->name, -1);
    return HV_BAD_CONFIG;
}

hv_status hvi_create_shards(hvi_router *router, hvi_server *server, hvi_without without,
                            hv_progress_fn progress, void *context, int *created,
                            hv_error **error) {
    hvi_creation creation = {
        .without = without,
        .router = router,
        .server = server,
        .epoch = router->options->values[HVI_EPOCH],
        .choice = (hvi_keys_choice) router->options->values[HVI_KEYS],
    };
    int made = 0;
    hv_status status = check_choice(router, server, error);
    if (status == HV_OK)
        status = hvi_session_open(&server->pool.config.session, hvi_router_pool_deadline(router),
                                  &creation.session, error);
    if (status == HV_OK)
        status = create_all(&creation, progress, context, &made, error);
    hvi_session_close(creation.session);
    free(creation.hstore);
    if (created != NULL)
        *created = made;
    return status;
}
