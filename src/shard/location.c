/*
 * location: what a server records about where its shards are.
 */
#include "shard/location.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "value/sql_text.h"
#include "wire/result.h"
#include "shard/extension.h"
#include "shard/layout.h"

static const char *const names[] = {
    [HVI_LOCATION_NONE] = "",
    [HVI_LOCATION_HERE] = "here",
    [HVI_LOCATION_GONE] = "gone",
    [HVI_LOCATION_ARRIVING] = "arriving",
};

const char *hvi_location_state_name(hvi_location_state state) {
    return names[state];
}

hvi_location_state hvi_location_state_of(const char *name) {
    for (int i = HVI_LOCATION_HERE; i <= HVI_LOCATION_ARRIVING; i++)
        if (strcmp(names[i], name) == 0)
            return (hvi_location_state) i;
    return HVI_LOCATION_NONE;
}

/* ---- the table and the function ---- */

#define HAS_TABLE "pg_catalog.to_regclass('hypervault.shard_locations') IS NOT NULL"
#define HAS_FUNCTION \
    "pg_catalog.to_regprocedure('hypervault.publish_shard(integer,bigint)') IS NOT NULL"

#define TABLE                                                                         \
    "CREATE TABLE hypervault.shard_locations ("                                       \
    " shard integer PRIMARY KEY,"                                                     \
    " generation bigint NOT NULL CHECK (generation OPERATOR(pg_catalog.>=) 0),"       \
    " state pg_catalog.text NOT NULL CHECK (state OPERATOR(pg_catalog.=) ANY"         \
    " ('{here,gone,arriving}'::pg_catalog.text[])),"                                  \
    " server pg_catalog.text NOT NULL DEFAULT '',"                                    \
    " publish pg_catalog.text NOT NULL DEFAULT '',"                                   \
    " changed pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp());" \
    "COMMENT ON TABLE hypervault.shard_locations IS"                                  \
    " 'Where shards went that were here, and those that arrive.';"                    \
    "GRANT USAGE ON SCHEMA hypervault TO PUBLIC;"                                     \
    "GRANT SELECT ON hypervault.shard_locations TO PUBLIC;"

/*
 * It runs as its owner, so it checks whether its caller, or the role that the caller has set, may
 * use the entities of the copy: of the schema that the row's SQL renames. That SQL comes from the
 * table, which only its owner writes.
 */
#define FUNCTION                                                                             \
    "CREATE FUNCTION hypervault.publish_shard(shard integer, generation bigint)"             \
    " RETURNS pg_catalog.text LANGUAGE plpgsql SECURITY DEFINER"                             \
    " SET search_path TO pg_catalog, pg_temp AS $f$\n"                                       \
    "DECLARE\n"                                                                              \
    "    found record;\n"                                                                    \
    "BEGIN\n"                                                                                \
    "    SELECT l.shard, l.state, l.generation, l.publish INTO found FROM ONLY "             \
    "hypervault.shard_locations AS l\n"                                                      \
    "        WHERE l.shard OPERATOR(pg_catalog.=) publish_shard.shard FOR UPDATE;\n"         \
    "    IF found.shard IS NULL THEN\n"                                                      \
    "        RETURN 'none';\n"                                                               \
    "    ELSIF found.state OPERATOR(pg_catalog.=) 'here'\n"                                  \
    "        AND found.generation OPERATOR(pg_catalog.>=) publish_shard.generation THEN\n"   \
    "        RETURN 'here';\n"                                                               \
    "    ELSIF found.state OPERATOR(pg_catalog.<>) 'arriving'\n"                             \
    "        OR found.generation OPERATOR(pg_catalog.<>) publish_shard.generation THEN\n"    \
    "        RETURN found.state;\n"                                                          \
    "    END IF;\n"                                                                          \
    "    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace AS n\n"                          \
    "        JOIN pg_catalog.pg_class AS c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid\n" \
    "            AND c.relname OPERATOR(pg_catalog.=) 'entities',\n"                         \
    "        pg_catalog.pg_roles AS r\n"                                                     \
    "        WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) pg_catalog.concat(\n"   \
    "                '^hypervault_', pg_catalog.to_char(found.shard, 'FM0000'),\n"           \
    "                '_[0-9a-f]{8}(_old)?$')\n"                                              \
    "            AND pg_catalog.strpos(found.publish, n.nspname::pg_catalog.text)\n"         \
    "                OPERATOR(pg_catalog.>) 0\n"                                             \
    "            AND (r.rolname OPERATOR(pg_catalog.=) session_user\n"                       \
    "                OR r.rolname::pg_catalog.text OPERATOR(pg_catalog.=)\n"                 \
    "                    pg_catalog.current_setting('role'))\n"                              \
    "            AND pg_catalog.has_table_privilege(r.oid, c.oid,\n"                         \
    "                'SELECT, INSERT, UPDATE, DELETE')) THEN\n"                              \
    "        RAISE EXCEPTION USING ERRCODE = '42501',\n"                                     \
    "            MESSAGE = pg_catalog.concat('no permission to publish shard ',\n"           \
    "                found.shard);\n"                                                        \
    "    END IF;\n"                                                                          \
    "    EXECUTE found.publish;\n"                                                           \
    "    UPDATE ONLY hypervault.shard_locations AS l SET state = 'here', server = '',\n"     \
    "        publish = '', changed = pg_catalog.clock_timestamp()\n"                         \
    "        WHERE l.shard OPERATOR(pg_catalog.=) publish_shard.shard;\n"                    \
    "    RETURN 'here';\n"                                                                   \
    "END $f$;"                                                                               \
    "GRANT EXECUTE ON FUNCTION hypervault.publish_shard(integer, bigint) TO PUBLIC;"

/* All is looked for first, which takes fewer rights than CREATE … IF NOT EXISTS. */
static const char create_sql[] = HVI_CREATION_LOCK
    "DO $do$ BEGIN"
    " IF pg_catalog.to_regnamespace('hypervault') IS NULL THEN CREATE SCHEMA hypervault; END IF;"
    " IF NOT (" HAS_TABLE ") THEN " TABLE " END IF;"
    " IF NOT (" HAS_FUNCTION ") THEN " FUNCTION " END IF;"
    " END $do$";

hv_status hvi_location_prepare(hvi_session *session, int64_t deadline, hv_error **error) {
    hv_status status = hvi_session_script(session, create_sql, -1, false, deadline, NULL, error);
    if (status == HV_REFUSED && error != NULL && hvi_error_has_sqlstate(*error, "42501"))
        hvi_error_hint(error, "Run `hv init` as the database's owner: it makes the table "
                              "hypervault.shard_locations.");
    return status;
}

/* ---- reading ---- */

static const hvi_form rows_form = {
    .asked = "the locations of shards",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_SHARD, HVI_IS_BYTES, HVI_IS_COUNT, HVI_IS_BYTES, HVI_IS_INT8},
};

#define ROWS                                                                                  \
    "SELECT shard, state, generation, server, pg_catalog.floor(pg_catalog.date_part('epoch'," \
    " pg_catalog.statement_timestamp() OPERATOR(pg_catalog.-) changed)"                       \
    " OPERATOR(pg_catalog.*) 1000)::bigint FROM ONLY hypervault.shard_locations"

bool hvi_location_is_unknown(const hv_error *refusal) {
    static const char *const unknown[] = {"42P01", "3F000", "42501", "42703", "42883", "42809"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        if (hv_error_status(refusal) == HV_REFUSED && hvi_error_has_sqlstate(refusal, unknown[i]))
            return true;
    return false;
}

static const hvi_form is_there_form = {
    .asked = "whether something is there",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BOOL},
};

/* Without an error in the server's log where there is no table. */
static hv_status find_table(hvi_session *session, int64_t deadline, bool *is_there,
                            hv_error **error) {
    PGresult *result = NULL;
    hv_status status =
        hvi_session_script(session, "SELECT " HAS_TABLE, -1, false, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &is_there_form, session->config->server, -1, error);
    *is_there = status == HV_OK && hvi_bool_at(result, 0, 0);
    PQclear(result);
    return status;
}

/* *result is NULL if there is no table. */
static hv_status ask(hvi_session *session, const char *sql, int64_t deadline, PGresult **result,
                     hv_error **error) {
    hv_error *cause = NULL;
    *result = NULL;
    hv_status status = hvi_session_script(session, sql, -1, false, deadline, result, &cause);
    if (status == HV_OK)
        status = hvi_result_check(*result, &rows_form, session->config->server, -1, &cause);
    if (status == HV_OK)
        return HV_OK;
    PQclear(*result);
    *result = NULL;
    if (!hvi_location_is_unknown(cause))
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    return HV_OK;
}

static void take(const PGresult *result, int row, hvi_location *location) {
    *location = (hvi_location){
        .shard = (int) hvi_integer_at(result, row, 0),
        .state = hvi_location_state_of(hvi_text_at(result, row, 1)),
        .generation = hvi_integer_at(result, row, 2),
        .age = hvi_integer_at(result, row, 4),
    };
    snprintf(location->server, sizeof location->server, "%s", hvi_text_at(result, row, 3));
}

hv_status hvi_location_read(hvi_session *session, int shard, int64_t deadline,
                            hvi_location *location, hv_error **error) {
    char sql[sizeof ROWS + 64];
    PGresult *result = NULL;
    *location = (hvi_location){.shard = shard};
    snprintf(sql, sizeof sql, ROWS " WHERE shard OPERATOR(pg_catalog.=) %d", shard);
    hv_status status = ask(session, sql, deadline, &result, error);
    if (status == HV_OK && result != NULL && PQntuples(result) > 0)
        take(result, 0, location);
    PQclear(result);
    return status;
}

hv_status hvi_location_has_schema(hvi_session *session, int shard, int64_t deadline, bool *has,
                                  hv_error **error) {
    char schema[HVI_SCHEMA_NAME_LEN], sql[96];
    PGresult *result = NULL;
    hvi_schema_name(shard, schema);
    snprintf(sql, sizeof sql, "SELECT pg_catalog.to_regnamespace('%s') IS NOT NULL", schema);
    hv_status status = hvi_session_script(session, sql, shard, false, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &is_there_form, session->config->server, shard, error);
    *has = status == HV_OK && hvi_bool_at(result, 0, 0);
    PQclear(result);
    return status;
}

hv_status hvi_location_read_all(hvi_session *session, int64_t deadline, hvi_location **locations,
                                size_t *count, hv_error **error) {
    bool is_there;
    PGresult *result = NULL;
    *locations = NULL;
    *count = 0;
    hv_status status = find_table(session, deadline, &is_there, error);
    if (status == HV_OK && is_there)
        status = ask(session, ROWS " ORDER BY shard", deadline, &result, error);
    if (status != HV_OK || result == NULL)
        return status;
    size_t found = (size_t) PQntuples(result);
    hvi_location *read = calloc(found + 1, sizeof *read);
    if (read == NULL)
        status = hvi_no_memory(error);
    for (size_t i = 0; i < found && status == HV_OK; i++)
        take(result, (int) i, &read[i]);
    PQclear(result);
    if (status == HV_OK) {
        *locations = read;
        *count = found;
    }
    return status;
}

const hvi_location *hvi_location_find(const hvi_location *locations, size_t count, int shard) {
    for (size_t i = 0; i < count; i++)
        if (locations[i].shard == shard)
            return &locations[i];
    return NULL;
}

void hvi_location_apply(const hvi_location *locations, size_t count, hvi_router *router,
                        int server) {
    for (size_t i = 0; i < count; i++) {
        const hvi_location *one = &locations[i];
        if (one->state == HVI_LOCATION_HERE)
            hvi_router_move(router, one->shard, server, one->generation);
        else if (one->state == HVI_LOCATION_GONE && !hvi_layout_is_numbered(one->server))
            hvi_router_move(router, one->shard, hvi_options_server(router->options, one->server),
                            one->generation);
    }
}

/* ---- writing ---- */

static void insert(hvi_buffer *sql, int shard, hvi_location_state state, int64_t generation,
                   const char *server, const char *publish) {
    hvi_buffer_append_format(sql,
                             "INSERT INTO hypervault.shard_locations"
                             " (shard, generation, state, server, publish)"
                             " VALUES (%d, %" PRId64 ", '%s', ",
                             shard, generation, hvi_location_state_name(state));
    hvi_sql_text(sql, server, strlen(server));
    hvi_buffer_append_text(sql, ", ");
    hvi_sql_text(sql, publish, strlen(publish));
    hvi_buffer_append_text(sql, ") ON CONFLICT (shard) DO ");
    hvi_buffer_append_text(sql, "UPDATE SET generation = EXCLUDED.generation,"
                                " state = EXCLUDED.state, server = EXCLUDED.server,"
                                " publish = EXCLUDED.publish,"
                                " changed = pg_catalog.clock_timestamp()");
}

void hvi_location_write(hvi_buffer *sql, int shard, hvi_location_state state, int64_t generation,
                        const char *server, const char *publish) {
    insert(sql, shard, state, generation, server, publish);
    hvi_buffer_append_text(sql, ";");
}

void hvi_location_gone(hvi_buffer *sql, int shard, int64_t generation, const char *to) {
    hvi_buffer_append_text(sql, "WITH written AS (");
    insert(sql, shard, HVI_LOCATION_GONE, generation, to, "");
    hvi_buffer_append_text(sql, " WHERE shard_locations.generation OPERATOR(pg_catalog.<)"
                                " EXCLUDED.generation RETURNING shard)"
                                " SELECT CASE WHEN EXISTS (SELECT FROM written) THEN 0 ELSE"
                                " pg_catalog.concat('hypervault: the generation is no longer new ',"
                                " pg_catalog.clock_timestamp())::integer END;");
}

/* Run a script, and free its text. Running it again is right whatever its outcome. */
static hv_status run(hvi_session *session, hvi_buffer *sql, int shard, int64_t deadline,
                     hv_error **error) {
    hv_status status = hvi_buffer_ok(sql) ? hvi_session_script(session, sql->data, shard, false,
                                                               deadline, NULL, error)
                                          : hvi_no_memory(error);
    hvi_buffer_fini(sql);
    return status;
}

hv_status hvi_location_arriving(hvi_session *session, int shard, int64_t generation,
                                const char *from, const char *publish, int64_t deadline,
                                hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_location_write(&sql, shard, HVI_LOCATION_ARRIVING, generation, from, publish);
    return run(session, &sql, shard, deadline, error);
}

hv_status hvi_location_restore(hvi_session *session, const hvi_location *before, int64_t deadline,
                               hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    if (before->state == HVI_LOCATION_NONE) {
        hvi_buffer_append_text(&sql, "DELETE FROM ONLY hypervault.shard_locations");
    } else {
        hvi_buffer_append_format(&sql,
                                 "UPDATE ONLY hypervault.shard_locations SET state = '%s',"
                                 " generation = %" PRId64 ", publish = '',"
                                 " changed = pg_catalog.clock_timestamp(), server = ",
                                 hvi_location_state_name(before->state), before->generation);
        hvi_sql_text(&sql, before->server, strlen(before->server));
    }
    hvi_buffer_append_format(&sql,
                             " WHERE shard OPERATOR(pg_catalog.=) %d"
                             " AND state OPERATOR(pg_catalog.=) 'arriving'",
                             before->shard);
    return run(session, &sql, before->shard, deadline, error);
}

static const hvi_form publish_form = {
    .asked = "a shard to be published",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BYTES},
};

hv_status hvi_location_publish(hvi_session *session, int shard, int64_t generation,
                               int64_t deadline, hvi_location_state *state, hv_error **error) {
    char sql[96];
    PGresult *result = NULL;
    snprintf(sql, sizeof sql, "SELECT hypervault.publish_shard(%d, %" PRId64 ")", shard,
             generation);
    hv_status status = hvi_session_script(session, sql, shard, false, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &publish_form, session->config->server, shard, error);
    *state = status == HV_OK ? hvi_location_state_of(hvi_text_at(result, 0, 0)) : HVI_LOCATION_NONE;
    PQclear(result);
    return status;
}
