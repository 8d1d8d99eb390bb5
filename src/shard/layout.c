/*
 * layout: what hypervault finds in a database.
 *
 * It uses plain statements with text results: they run once per connection, and can be run in psql
 * as they are.
 */
#include "shard/layout.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "wire/result.h"

/* The error for a record that could not be read. Takes *cause. */
static hv_status fail_record(const char *server, hv_error **cause, hv_error **error) {
    bool forbidden = hvi_error_has_sqlstate(*cause, "42501");
    if (!forbidden && !hvi_error_has_sqlstate(*cause, "42703"))
        return hvi_error_move(error, cause);
    hv_status status = forbidden ? HV_REFUSED : HV_MISMATCH;
    hvi_fail(error, status,
             forbidden ? "no permission to read hypervault.layout on server \"%s\""
                       : "the table hypervault.layout on server \"%s\" is not the one of hv init",
             server);
    hvi_error_detail(error, "%s", hv_error_message(*cause));
    if (forbidden)
        hvi_error_hint(error, "GRANT the role USAGE on the schema hypervault and SELECT on "
                              "hypervault.layout.");
    else
        hvi_error_hint(error, "The schema hypervault belongs to hypervault: rename the other one.");
    hvi_error_sqlstate(error, hv_error_sqlstate(*cause));
    hvi_error_where(error, server, -1);
    hv_error_free(*cause);
    *cause = NULL;
    return status;
}

static const char what_is_here[] =
    "SELECT one.layout IS NOT NULL,"
    " coalesce(t.oid, 0), coalesce(t.typarray, 0),"
    " coalesce(l.relkind OPERATOR(pg_catalog.=) 'r' AND NOT l.relrowsecurity, true),"
    " pg_catalog.quote_ident(n.nspname)"
    " FROM (VALUES (pg_catalog.to_regclass('hypervault.layout'))) AS one (layout)"
    " LEFT JOIN pg_catalog.pg_class l ON l.oid OPERATOR(pg_catalog.=) one.layout"
    " LEFT JOIN pg_catalog.pg_extension e ON e.extname OPERATOR(pg_catalog.=) 'hstore'"
    " LEFT JOIN pg_catalog.pg_type t ON t.typnamespace OPERATOR(pg_catalog.=) e.extnamespace"
    " AND t.typname OPERATOR(pg_catalog.=) 'hstore'"
    " LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace";

static const hvi_form here_form = {
    .asked = "hypervault's objects in the database",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BOOL, HVI_IS_OID, HVI_IS_OID, HVI_IS_BOOL, HVI_IS_BYTES | HVI_OR_NULL},
};

static const char record[] = "SELECT version, epoch, server FROM ONLY hypervault.layout";

static const hvi_form record_form = {
    .asked = "the row of hypervault.layout",
    .rows = HVI_AT_MOST_ONE_ROW,
    .columns = {HVI_IS_INT4, HVI_IS_INT8, HVI_IS_BYTES},
};

static hv_status take_here(hvi_session *session, const PGresult *result, const char **next,
                           hv_error **error) {
    hv_status status = hvi_result_check(result, &here_form, session->config->server, -1, error);
    if (status != HV_OK)
        return status;
    if (!hvi_bool_at(result, 0, 3)) {
        /* Reading a view, or a table with a policy, runs code of its owner. */
        hvi_fail(error, HV_MISMATCH, "hypervault.layout on server \"%s\" is not a plain table",
                 session->config->server);
        hvi_error_detail(error, "Reading it could run functions of another role.");
        hvi_error_hint(error, "The schema hypervault belongs to hypervault: rename the other one.");
        hvi_error_where(error, session->config->server, -1);
        return HV_MISMATCH;
    }
    session->hstore_type = (Oid) hvi_integer_at(result, 0, 1);
    session->hstore_array_type = (Oid) hvi_integer_at(result, 0, 2);
    const char *schema = hvi_text_at(result, 0, 4);
    if (schema != NULL && strlen(schema) < sizeof session->hstore_schema)
        strcpy(session->hstore_schema, schema);
    *next = hvi_bool_at(result, 0, 0) ? record : NULL;
    return HV_OK;
}

static hv_status take_record(const PGresult *result, const char *server, hvi_layout *layout,
                             hv_error **error) {
    hv_status status = hvi_result_check(result, &record_form, server, -1, error);
    if (status != HV_OK || PQntuples(result) == 0)
        return status;
    layout->version = (int) hvi_integer_at(result, 0, 0);
    layout->epoch = hvi_integer_at(result, 0, 1);
    layout->server = strdup(hvi_text_at(result, 0, 2));
    return layout->server != NULL ? HV_OK : hvi_no_memory(error);
}

/* One step of reading. *sql is the statement that was run, or NULL at the beginning; it is set to
 * the next one, or to NULL when everything is read. */
static hv_status read_step(hvi_session *session, const char **sql, hv_status status,
                           const PGresult *answer, hv_error **cause, hvi_layout *layout,
                           hv_error **error) {
    const char *asked = *sql;
    *sql = NULL;
    if (status != HV_OK)
        return fail_record(session->config->server, cause, error);
    if (asked == what_is_here)
        return take_here(session, answer, sql, error);
    if (asked == record)
        return take_record(answer, session->config->server, layout, error);
    *sql = what_is_here;
    return HV_OK;
}

hv_status hvi_layout_read(hvi_session *session, int64_t deadline, hvi_layout *layout,
                          hv_error **error) {
    *layout = (hvi_layout){0};
    const char *sql = NULL;
    hv_status status = read_step(session, &sql, HV_OK, NULL, NULL, layout, error);
    while (status == HV_OK && sql != NULL) {
        PGresult *answer = NULL;
        hv_error *cause = NULL;
        status = hvi_session_script(session, sql, -1, false, deadline, &answer, &cause);
        status = read_step(session, &sql, status, answer, &cause, layout, error);
        PQclear(answer);
    }
    return status;
}

void hvi_layout_fini(hvi_layout *layout) {
    free(layout->server);
    *layout = (hvi_layout){0};
}

bool hvi_layout_is_numbered(const char *name) {
    static const char word[] = "server ";
    const char *digits = name + strlen(word);
    return strncmp(name, word, strlen(word)) == 0 && *digits != '\0' &&
           digits[strspn(digits, "0123456789")] == '\0';
}

/* Is the record that of another server? */
static bool is_anothers(const hvi_layout *layout, const char *server) {
    return layout->version > 0 && !hvi_layout_is_numbered(layout->server) &&
           !hvi_layout_is_numbered(server) && strcmp(layout->server, server) != 0;
}

/* The error for a database that was restored or cloned elsewhere, two servers that changed places,
 * or a renamed server. */
static void fail_anothers(const hvi_layout *layout, const char *server, hv_error **error) {
    hvi_fail(error, HV_MISMATCH,
             "the database that the configuration calls \"%s\" is known as \"%s\"", server,
             layout->server);
    hvi_error_detail(error, "hypervault.layout in the database says which server it is.");
    hvi_buffer name = HVI_BUFFER_EMPTY;
    for (const char *at = server; *at != '\0'; at++)
        hvi_buffer_append_text(&name, *at == '\'' ? "''" : (const char[]){*at, '\0'});
    hvi_error_hint(error,
                   "Correct the configuration if two servers changed places or the database is a "
                   "copy; if the server was renamed on purpose, run UPDATE hypervault.layout SET "
                   "server = '%s' in the database.",
                   hvi_buffer_ok(&name) ? name.data : "…");
    hvi_buffer_fini(&name);
}

hv_status hvi_layout_accept(const hvi_layout *layout, int64_t epoch, const char *server,
                            hv_error **error) {
    if (layout->version > HVI_LAYOUT_VERSION) {
        hvi_fail(error, HV_MISMATCH, "the database on server \"%s\" has a newer layout", server);
        hvi_error_detail(error, "It has version %d, this library knows versions up to %d.",
                         layout->version, HVI_LAYOUT_VERSION);
        hvi_error_hint(error, "Use a newer version of hypervault.");
    } else if (layout->version > 0 && layout->epoch != epoch) {
        hvi_fail(error, HV_MISMATCH, "the shards on server \"%s\" were made with another epoch",
                 server);
        hvi_error_detail(error, "Their epoch is %" PRId64 ", the store's is %" PRId64 ".",
                         layout->epoch, epoch);
        hvi_error_hint(error, "Set the option \"epoch\" to %" PRId64 ".", layout->epoch);
    } else if (is_anothers(layout, server)) {
        fail_anothers(layout, server, error);
    } else {
        return HV_OK;
    }
    hvi_error_where(error, server, -1);
    return HV_MISMATCH;
}

hv_status hvi_layout_check(void *context, hvi_session *session, const char **sql, hv_status status,
                           const PGresult *answer, hv_error **cause, hv_error **error) {
    const int64_t *epoch = context;
    hvi_layout layout = {0};
    status = read_step(session, sql, status, answer, cause, &layout, error);
    if (status == HV_OK && *sql == NULL)
        status = hvi_layout_accept(&layout, *epoch, session->config->server, error);
    hvi_layout_fini(&layout);
    return status;
}

/* Does the relation t have a shard's columns, and no other column for which our INSERT would have
 * to give a value? */
#define COLUMNS_FIT                                                                          \
    "(SELECT 3 OPERATOR(pg_catalog.=) pg_catalog.count(*) FILTER (WHERE"                     \
    "     (a.attname OPERATOR(pg_catalog.=) 'id'"                                            \
    "       AND a.atttypid OPERATOR(pg_catalog.=) 'pg_catalog.int8'::pg_catalog.regtype)"    \
    "     OR (a.attname OPERATOR(pg_catalog.=) 'type'"                                       \
    "       AND a.atttypid OPERATOR(pg_catalog.=) 'pg_catalog.int2'::pg_catalog.regtype)"    \
    "     OR (a.attname OPERATOR(pg_catalog.=) 'body'"                                       \
    "       AND y.typname OPERATOR(pg_catalog.=) 'hstore'))"                                 \
    "   AND pg_catalog.bool_and(a.attname OPERATOR(pg_catalog.=) ANY ('{id,type,body}')"     \
    "     OR NOT a.attnotnull OR a.atthasdef OR a.attidentity OPERATOR(pg_catalog.<>) '')"   \
    "   FROM pg_catalog.pg_attribute a"                                                      \
    "   JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) a.atttypid"                \
    "   WHERE a.attrelid OPERATOR(pg_catalog.=) t.oid AND a.attnum OPERATOR(pg_catalog.>) 0" \
    "   AND NOT a.attisdropped)"

/* Is id the primary key? */
#define KEY_FITS                                                                    \
    "EXISTS (SELECT FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_attribute a" \
    "   ON a.attrelid OPERATOR(pg_catalog.=) t.oid"                                 \
    "   AND c.conkey OPERATOR(pg_catalog.=) ARRAY[a.attnum]"                        \
    "   WHERE c.conrelid OPERATOR(pg_catalog.=) t.oid"                              \
    "   AND c.contype OPERATOR(pg_catalog.=) 'p' AND a.attname OPERATOR(pg_catalog.=) 'id')"

/* Is this column of t NOT NULL? */
#define NOT_NULL(column)                                                    \
    "EXISTS (SELECT FROM pg_catalog.pg_attribute a"                         \
    "   WHERE a.attrelid OPERATOR(pg_catalog.=) t.oid"                      \
    "   AND a.attname OPERATOR(pg_catalog.=) '" column "'::pg_catalog.name" \
    "   AND a.attnotnull)"
#define TYPE_NOT_NULL NOT_NULL("type")
#define BODY_NOT_NULL NOT_NULL("body")

/* Are the functions that make strict keys there? Both must belong to the extension, according to
 * pg_extension and pg_depend. */
#define STRICT_FUNCTIONS                                                                    \
    "(SELECT pg_catalog.count(*) OPERATOR(pg_catalog.=) '2'::pg_catalog.int8"               \
    "   FROM pg_catalog.pg_extension e"                                                     \
    "   JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) e.oid"             \
    "     AND d.refclassid OPERATOR(pg_catalog.=) e.tableoid"                               \
    "     AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog.\"char\""                    \
    "   JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.objid"                  \
    "     AND p.tableoid OPERATOR(pg_catalog.=) d.classid"                                  \
    "   JOIN pg_catalog.pg_namespace h ON h.oid OPERATOR(pg_catalog.=) p.pronamespace"      \
    "   WHERE e.extname OPERATOR(pg_catalog.=) 'hypervault'::pg_catalog.name"               \
    "     AND h.nspname OPERATOR(pg_catalog.=) 'hypervault'::pg_catalog.name"               \
    "     AND ((p.proname OPERATOR(pg_catalog.=) 'next_id'::pg_catalog.name"                \
    "         AND p.proargtypes OPERATOR(pg_catalog.=) '2205 23 20'::pg_catalog.oidvector)" \
    "       OR (p.proname OPERATOR(pg_catalog.=) 'next_ids'::pg_catalog.name"               \
    "         AND p.proargtypes OPERATOR(pg_catalog.=) '2205 23 23 20'::pg_catalog.oidvector)))"

/*
 * In the source of a function that hypervault did not make, a number of thirteen digits is taken
 * for the epoch: milliseconds of our century have so many.
 */
static const char shards_sql[] =
    "SELECT pg_catalog.substr(n.nspname::pg_catalog.text, 6)::integer,"
    " t.oid IS NOT NULL,"
    " t.relkind OPERATOR(pg_catalog.=) ANY ('{r,p}') AND " COLUMNS_FIT " AND " KEY_FITS ","
    " EXISTS (SELECT FROM pg_catalog.pg_attribute a"
    "   WHERE a.attrelid OPERATOR(pg_catalog.=) t.oid AND a.attname OPERATOR(pg_catalog.=) 'id'"
    "   AND (a.atthasdef OR a.attidentity OPERATOR(pg_catalog.<>) '')),"
    " s.oid IS NOT NULL,"
    " s.relkind OPERATOR(pg_catalog.=) 'S',"
    " " HVI_GENERATOR_OF_FUNCTION ","
    " f.prokind OPERATOR(pg_catalog.=) 'f' AND NOT f.proretset"
    "   AND f.prorettype OPERATOR(pg_catalog.=) 'pg_catalog.int8'::pg_catalog.regtype,"
    " r.oid IS NOT NULL,"
    " EXISTS (SELECT FROM pg_catalog.pg_class c"
    "   WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid"
    "   AND c.relname OPERATOR(pg_catalog.=) 'reserved_id_seq'"
    "   AND c.relkind OPERATOR(pg_catalog.=) 'S'),"
    " coalesce(pg_catalog.\"substring\"(f.prosrc, '(?:^|[^0-9])(1[0-9]{12})(?:[^0-9]|$)')::bigint,"
    "   -1),"
    " coalesce(t.reltuples::bigint, -1),"
    " coalesce(pg_catalog.pg_total_relation_size(t.oid), 0),"
    " coalesce(pg_catalog.pg_relation_size(t.oid), 0),"
    " " TYPE_NOT_NULL "," BODY_NOT_NULL "," STRICT_FUNCTIONS "," HVI_GENERATOR_IS_OLD
    "," HVI_GENERATOR_IS_SLOW " FROM pg_catalog.pg_namespace n"
    " LEFT JOIN pg_catalog.pg_class t ON t.relnamespace OPERATOR(pg_catalog.=) n.oid"
    "   AND t.relname OPERATOR(pg_catalog.=) 'entities'"
    " LEFT JOIN pg_catalog.pg_class s ON s.relnamespace OPERATOR(pg_catalog.=) n.oid"
    "   AND s.relname OPERATOR(pg_catalog.=) 'table_id_seq'"
    " LEFT JOIN pg_catalog.pg_proc f ON f.pronamespace OPERATOR(pg_catalog.=) n.oid"
    "   AND f.proname OPERATOR(pg_catalog.=) 'next_id' AND f.pronargs OPERATOR(pg_catalog.=) 0"
    " LEFT JOIN pg_catalog.pg_proc r ON r.pronamespace OPERATOR(pg_catalog.=) n.oid"
    "   AND r.proname OPERATOR(pg_catalog.=) 'reserve_ids'"
    "   AND r.proargtypes OPERATOR(pg_catalog.=) '23'"
    " WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) '^shard[0-9]{4}$'"
    "   AND pg_catalog.substr(n.nspname::pg_catalog.text, 6)::integer"
    "     OPERATOR(pg_catalog.<) 8192"
    " ORDER BY 1";

static const hvi_form shards_form = {
    .asked = "the shards",
    .rows = HVI_ANY_ROWS,
    .columns =
        {
            HVI_IS_SHARD,              /* shard */
            HVI_IS_BOOL,               /* has_table */
            HVI_IS_BOOL | HVI_OR_NULL, /* table_fits */
            HVI_IS_BOOL,               /* has_default */
            HVI_IS_BOOL,               /* has_sequence */
            HVI_IS_BOOL | HVI_OR_NULL, /* sequence_fits */
            HVI_IS_KEYS,               /* generator */
            HVI_IS_BOOL | HVI_OR_NULL, /* function_fits */
            HVI_IS_BOOL,               /* has_reserve_ids */
            HVI_IS_BOOL,               /* has_reserved_sequence */
            HVI_IS_INT8,               /* function_epoch */
            HVI_IS_INT8,               /* tuples */
            HVI_IS_COUNT,              /* bytes */
            HVI_IS_COUNT,              /* heap_bytes */
            HVI_IS_BOOL,               /* type_not_null */
            HVI_IS_BOOL,               /* body_not_null */
            HVI_IS_BOOL,               /* has_extension */
            HVI_IS_BOOL | HVI_OR_NULL, /* is_old */
            HVI_IS_BOOL | HVI_OR_NULL, /* is_slow */
        },
};

/* Check that each shard comes once, in ascending order: callers rely on that. */
static hv_status check_order(const PGresult *result, const char *server, hv_error **error) {
    for (int row = 1; row < PQntuples(result); row++)
        if (hvi_integer_at(result, row, 0) <= hvi_integer_at(result, row - 1, 0))
            return hvi_fail_answer(server, -1, shards_form.asked, error,
                                   "sent them in another order");
    return HV_OK;
}

hv_status hvi_layout_shards(hvi_session *session, int64_t deadline, hvi_shard_row **rows,
                            size_t *count, hv_error **error) {
    const char *server = session->config->server;
    PGresult *result = NULL;
    hv_status status = hvi_session_script(session, shards_sql, -1, false, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &shards_form, server, -1, error);
    if (status == HV_OK)
        status = check_order(result, server, error);
    size_t found = (size_t) PQntuples(result);
    hvi_shard_row *read = status == HV_OK ? calloc(found + 1, sizeof *read) : NULL;
    if (read == NULL) {
        PQclear(result);
        return status != HV_OK ? status : hvi_no_memory(error);
    }
    for (size_t i = 0; i < found; i++) {
        int row = (int) i;
        read[i] = (hvi_shard_row){
            .shard = (int) hvi_integer_at(result, row, 0),
            .has_table = hvi_bool_at(result, row, 1),
            .table_fits = hvi_bool_at(result, row, 2),
            .has_default = hvi_bool_at(result, row, 3),
            .has_sequence = hvi_bool_at(result, row, 4),
            .sequence_fits = hvi_bool_at(result, row, 5),
            .generator = (hvi_generator) hvi_integer_at(result, row, 6),
            .function_fits = hvi_bool_at(result, row, 7),
            .has_reserve_ids = hvi_bool_at(result, row, 8),
            .has_reserved_sequence = hvi_bool_at(result, row, 9),
            .function_epoch = hvi_integer_at(result, row, 10),
            .tuples = hvi_integer_at(result, row, 11),
            .bytes = hvi_integer_at(result, row, 12),
            .heap_bytes = hvi_integer_at(result, row, 13),
            .type_not_null = hvi_bool_at(result, row, 14),
            .body_not_null = hvi_bool_at(result, row, 15),
            .has_extension = hvi_bool_at(result, row, 16),
            .is_old = hvi_bool_at(result, row, 17),
            .is_slow = hvi_bool_at(result, row, 18),
        };
    }
    PQclear(result);
    *rows = read;
    *count = found;
    return HV_OK;
}
