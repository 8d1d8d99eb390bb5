/*
 * index_sql: the statements of jobs that build and drop indexes, and the forms of their answers.
 */
#include "schema/index_sql.h"

#include <string.h>

#include "shard/extension.h"
#include "shard/owners.h"
#include "value/sql_text.h"

/* ---- looking ---- */

static void append_is_there(hvi_buffer *sql, const char *schema, const char *name) {
    hvi_buffer place = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&place, "%s.", schema);
    hvi_sql_name(&place, name);
    hvi_buffer_append_text(sql, ", pg_catalog.to_regclass(");
    if (hvi_buffer_ok(&place))
        hvi_sql_text(sql, place.data, place.len);
    else
        hvi_buffer_break(sql);
    hvi_buffer_append_text(sql, ") IS NOT NULL");
    hvi_buffer_fini(&place);
}

void hvi_index_glance_sql(hvi_buffer *sql, const char *schema, const char *name) {
    append_is_there(sql, schema, "entities");
    append_is_there(sql, schema, name);
}

const hvi_form hvi_index_glance_form = {
    .asked = "the lock of a shard",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BOOL, HVI_IS_BOOL, HVI_IS_BOOL},
};

const char hvi_index_look_sql[] =
    "SELECT e.oid IS NOT NULL, c.relkind::pg_catalog.text,"
    " coalesce(x.indrelid OPERATOR(pg_catalog.=) e.oid, false), coalesce(x.indisvalid, false),"
    " EXISTS (SELECT FROM pg_catalog.pg_constraint k"
    "   WHERE k.conindid OPERATOR(pg_catalog.=) c.oid"
    "   AND k.contype OPERATOR(pg_catalog.=) ANY ('{p,u,x}'::pg_catalog.\"char\"[])),"
    " pg_catalog.pg_get_indexdef(x.indexrelid), pg_catalog.quote_ident(c.relname),"
    " (SELECT pg_catalog.concat('process ', p.pid, ' is building it')"
    "   FROM pg_catalog.pg_stat_progress_create_index p"
    "   WHERE p.index_relid OPERATOR(pg_catalog.=) c.oid LIMIT 1)"
    " FROM pg_catalog.pg_namespace n"
    " LEFT JOIN pg_catalog.pg_class e ON e.relnamespace OPERATOR(pg_catalog.=) n.oid"
    "   AND e.relname OPERATOR(pg_catalog.=) 'entities'"
    " LEFT JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid"
    "   AND c.relname OPERATOR(pg_catalog.=) $2::pg_catalog.name"
    " LEFT JOIN pg_catalog.pg_index x ON x.indexrelid OPERATOR(pg_catalog.=) c.oid"
    " WHERE n.nspname OPERATOR(pg_catalog.=) $1::pg_catalog.name";

const hvi_form hvi_index_look_form = {
    .asked = "an index",
    .rows = HVI_AT_MOST_ONE_ROW,
    .columns = {HVI_IS_BOOL, HVI_IS_BYTES | HVI_OR_NULL, HVI_IS_BOOL, HVI_IS_BOOL, HVI_IS_BOOL,
                HVI_IS_BYTES | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL},
};

hvi_index_found hvi_index_found_of(const PGresult *result) {
    if (PQntuples(result) == 0)
        return (hvi_index_found){0};
    return (hvi_index_found){
        .has_table = hvi_bool_at(result, 0, 0),
        .kind = hvi_text_at(result, 0, 1),
        .is_ours = hvi_bool_at(result, 0, 2),
        .is_valid = hvi_bool_at(result, 0, 3),
        .is_of_constraint = hvi_bool_at(result, 0, 4),
        .definition = hvi_text_at(result, 0, 5),
        .name = hvi_text_at(result, 0, 6),
        .builder = hvi_text_at(result, 0, 7),
    };
}

/* ---- functions ---- */

/* Writers run these functions, so they must be ours, and must not be another role's. */
void hvi_index_functions_script(hvi_buffer *sql, const hv_index *index) {
    const hvi_index_function *function;
    hvi_buffer_append_text(sql, HVI_CREATION_LOCK
                           "DO $do$ BEGIN"
                           " IF pg_catalog.to_regnamespace('hypervault') IS NULL THEN"
                           " CREATE SCHEMA hypervault; END IF;");
    for (size_t i = 0; (function = hvi_index_function_at(index, i)) != NULL; i++) {
        hvi_buffer_append_format(
            sql, " IF pg_catalog.to_regprocedure('hypervault.%s(text)') IS NULL THEN ",
            function->name);
        hvi_index_function_sql(sql, function);
        hvi_buffer_append_text(sql, "; END IF;");
    }
    hvi_buffer_append_text(sql, " END $do$;SELECT (SELECT w.name FROM (VALUES ");
    for (size_t i = 0; (function = hvi_index_function_at(index, i)) != NULL; i++) {
        hvi_buffer_append_format(sql, "%s('%s', ", i > 0 ? ", " : "", function->name);
        hvi_sql_text(sql, function->body, strlen(function->body));
        hvi_buffer_append_byte(sql, ')');
    }
    hvi_buffer_append_text(sql,
                           ") AS w(name, body) WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_proc p"
                           " WHERE p.oid OPERATOR(pg_catalog.=) pg_catalog.to_regprocedure("
                           "pg_catalog.concat('hypervault.', w.name, '(text)'))"
                           " AND p.prosrc OPERATOR(pg_catalog.=) w.body"
                           " AND p.provolatile OPERATOR(pg_catalog.=) 'i'"
                           " AND NOT EXISTS (SELECT FROM (" HVI_UNTRUSTED_ROLES ") AS u(oid, name)"
                           " WHERE u.oid OPERATOR(pg_catalog.=) p.proowner)) LIMIT 1)");
}

const hvi_form hvi_index_functions_form = {
    .asked = "the functions of an index",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BYTES | HVI_OR_NULL},
};

/* ---- what keeps it from being built ---- */

const hvi_form hvi_index_search_form = {
    .asked = "the entity at fault",
    .rows = HVI_AT_MOST_ONE_ROW,
    .columns = {HVI_IS_BYTES | HVI_OR_NULL},
};

/* Find the first entity whose values the expressions do not take: by batches, and in the batch one
 * by one. A setting takes the answer out of the block. */
static void search_value(hvi_buffer *sql, const char *schema, const char *columns,
                         const char *condition) {
    hvi_buffer_append_format(
        sql,
        "SELECT pg_catalog.set_config('hypervault.key', '', false);"
        "DO $hv$ DECLARE low bigint := '-9223372036854775808'::bigint; high bigint;"
        " one bigint; ignored bigint; BEGIN LOOP"
        " SELECT pg_catalog.max(b.id) INTO high FROM (SELECT id FROM %s.entities"
        "   WHERE id OPERATOR(pg_catalog.>) low ORDER BY id LIMIT 5000) AS b;"
        " EXIT WHEN high IS NULL;"
        " BEGIN SELECT pg_catalog.sum(pg_catalog.num_nulls(%s)) INTO ignored FROM %s.entities"
        "   WHERE id OPERATOR(pg_catalog.>) low AND id OPERATOR(pg_catalog.<=) high AND %s;"
        " EXCEPTION WHEN OTHERS THEN"
        "   FOR one IN SELECT id FROM %s.entities WHERE id OPERATOR(pg_catalog.>) low"
        "     AND id OPERATOR(pg_catalog.<=) high AND %s ORDER BY id LOOP"
        "   BEGIN SELECT pg_catalog.sum(pg_catalog.num_nulls(%s)) INTO ignored FROM %s.entities"
        "     WHERE id OPERATOR(pg_catalog.=) one AND %s;"
        "   EXCEPTION WHEN OTHERS THEN"
        "     PERFORM pg_catalog.set_config('hypervault.key', one::pg_catalog.text, false); RETURN;"
        "   END; END LOOP;"
        " END; low := high; END LOOP; END $hv$;"
        "SELECT 'The entity with key ' OPERATOR(pg_catalog.||) CASE WHEN k.key"
        " OPERATOR(pg_catalog.<>) '' THEN k.key END OPERATOR(pg_catalog.||) ' has it.'"
        " FROM (VALUES (pg_catalog.current_setting('hypervault.key', true))) AS k(key)",
        schema, columns, schema, condition, schema, condition, columns, schema, condition);
}

static void search_twins(hvi_buffer *sql, const hv_index *index, const char *schema,
                         const char *hstore, const char *columns, const char *condition) {
    hvi_buffer_append_format(sql,
                             "SELECT pg_catalog.concat('The entities with the keys ',"
                             " pg_catalog.min(id), ' and ', pg_catalog.max(id), ' have them.')"
                             " FROM %s.entities WHERE %s",
                             schema, condition);
    for (size_t i = 0; i < index->column_count; i++) {
        hvi_buffer_append_text(sql, " AND ");
        hvi_index_column_sql(sql, index, i, hstore);
        hvi_buffer_append_text(sql, " IS NOT NULL");
    }
    hvi_buffer_append_format(
        sql, " GROUP BY %s HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) '1'::bigint LIMIT 1",
        columns);
}

static void search_longest(hvi_buffer *sql, const char *schema, const char *columns,
                           const char *condition) {
    hvi_buffer_append_format(
        sql,
        "SELECT pg_catalog.concat('The longest values are those of the entity with key ', id, '.')"
        " FROM %s.entities WHERE %s"
        " ORDER BY pg_catalog.octet_length(pg_catalog.concat(%s)) DESC LIMIT 1",
        schema, condition, columns);
}

bool hvi_index_search_script(hvi_buffer *sql, const hv_index *index, const char *sqlstate,
                             const char *schema, const char *hstore) {
    hvi_buffer columns = HVI_BUFFER_EMPTY, condition = HVI_BUFFER_EMPTY;
    bool is_value = strncmp(sqlstate, "22", 2) == 0, is_twin = strcmp(sqlstate, "23505") == 0;
    if (!is_value && !is_twin && strcmp(sqlstate, "54000") != 0)
        return false;
    hvi_index_columns_sql(&columns, index, hstore);
    hvi_index_condition_sql(&condition, index);
    hvi_buffer_append_text(sql, "SET statement_timeout TO '30s';");
    if (!hvi_buffer_ok(&columns) || !hvi_buffer_ok(&condition))
        hvi_buffer_break(sql);
    else if (is_value)
        search_value(sql, schema, columns.data, condition.data);
    else if (is_twin)
        search_twins(sql, index, schema, hstore, columns.data, condition.data);
    else
        search_longest(sql, schema, columns.data, condition.data);
    hvi_buffer_fini(&columns);
    hvi_buffer_fini(&condition);
    return true;
}

/* ---- progress ---- */

const char hvi_index_progress_sql[] =
    "SELECT pg_catalog.substr(n.nspname::pg_catalog.text, 6)::integer, p.phase,"
    " (1000 OPERATOR(pg_catalog.*) CASE WHEN p.blocks_total OPERATOR(pg_catalog.>) 0"
    "   THEN p.blocks_done OPERATOR(pg_catalog./) p.blocks_total::double precision"
    "   WHEN p.tuples_total OPERATOR(pg_catalog.>) 0"
    "   THEN p.tuples_done OPERATOR(pg_catalog./) p.tuples_total::double precision"
    "   WHEN p.lockers_total OPERATOR(pg_catalog.>) 0"
    "   THEN p.lockers_done OPERATOR(pg_catalog./) p.lockers_total::double precision"
    "   END)::integer,"
    " CASE WHEN pg_catalog.strpos(p.phase, 'waiting') OPERATOR(pg_catalog.=) 1"
    "   AND p.current_locker_pid OPERATOR(pg_catalog.>) 0"
    "   THEN pg_catalog.concat('process ', p.current_locker_pid,"
    "   (SELECT pg_catalog.concat(' (', d.text, ')') FROM (SELECT pg_catalog.concat_ws(', ',"
    "     CASE WHEN a.application_name OPERATOR(pg_catalog.<>) '' THEN a.application_name END,"
    "     a.state OPERATOR(pg_catalog.||) ' for ' OPERATOR(pg_catalog.||) pg_catalog.floor("
    "       EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)"
    "       a.xact_start))::pg_catalog.text OPERATOR(pg_catalog.||) ' s')) AS d(text)"
    "     WHERE d.text OPERATOR(pg_catalog.<>) ''), ' has an older transaction') END, p.pid"
    " FROM pg_catalog.pg_stat_progress_create_index p"
    " JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.relid"
    "   AND c.relname OPERATOR(pg_catalog.=) 'entities'"
    " JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
    "   AND n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) '^shard[0-9]{4}$'"
    " LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) p.current_locker_pid"
    " WHERE p.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()";

const hvi_form hvi_index_progress_form = {
    .asked = "the indexes that are being built",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_SHARD, HVI_IS_BYTES, HVI_IS_INT4 | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL,
                HVI_IS_INT4},
};
