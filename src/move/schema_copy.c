/*
 * schema_copy: the schema of a shard, made on another server under another name, by pg_dump.
 */
#include "move/schema_copy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "move/late_keys.h"
#include "move/process.h"
#include "value/sql_text.h"
#include "wire/result.h"

/* ---- the dump ---- */

/* The files of a process: the dump, and the list of what is to be restored. */
enum { DUMP, LIST };
#define DUMP_FILE HVI_PROCESS_FILE(3)
#define LIST_FILE HVI_PROCESS_FILE(4)

static const hvi_form keys_form = {
    .asked = "the keys of a shard",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_OID, HVI_IS_OID, HVI_IS_BYTES},
};

/* The primary keys, and the indexes by which rows are identified: the numbers of the index and of
 * its constraint, or 0; and its table, if that is the one that gets its keys late. Sizes change, so
 * it is chosen once. */
static const char keys_sql[] =
    "WITH s AS (SELECT pg_catalog.to_regnamespace('%s')::pg_catalog.oid AS oid),"
    " large AS MATERIALIZED (SELECT t.oid FROM pg_catalog.pg_class AS t, s"
    "  WHERE t.relnamespace OPERATOR(pg_catalog.=) s.oid"
    "  AND t.relkind OPERATOR(pg_catalog.=) 'r'"
    "  AND pg_catalog.pg_table_size(t.oid) OPERATOR(pg_catalog.>=) %" PRId64
    "  ORDER BY pg_catalog.pg_table_size(t.oid) DESC LIMIT 1)"
    " SELECT i.indexrelid, COALESCE(k.oid, 0::pg_catalog.oid), CASE WHEN c.oid"
    " OPERATOR(pg_catalog.=) (SELECT large.oid FROM large) THEN pg_catalog.quote_ident(c.relname)"
    " ELSE '' END FROM s, pg_catalog.pg_index AS i"
    " JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indrelid"
    " LEFT JOIN pg_catalog.pg_constraint AS k ON k.conindid OPERATOR(pg_catalog.=) i.indexrelid"
    " AND k.conrelid OPERATOR(pg_catalog.=) i.indrelid"
    " AND (k.contype OPERATOR(pg_catalog.=) 'p' OR k.contype OPERATOR(pg_catalog.=) 'u')"
    " WHERE (i.indisprimary OR i.indisreplident) AND c.relnamespace OPERATOR(pg_catalog.=) s.oid";

static bool is_late(const PGresult *keys, int row) {
    return *hvi_text_at(keys, row, 2) != '\0';
}

/* Which of these keys is the line of a list, "3289; 2606 16402 CONSTRAINT …"? -1: none. */
static int find_key(const char *line, const PGresult *keys) {
    unsigned number, table, oid;
    if (sscanf(line, "%u; %u %u ", &number, &table, &oid) != 3)
        return -1;
    for (int i = 0; i < PQntuples(keys); i++)
        if ((table == 1259 && oid == (unsigned) hvi_integer_at(keys, i, 0)) ||
            (table == 2606 && oid == (unsigned) hvi_integer_at(keys, i, 1)))
            return i;
    return -1;
}

/* Go through the lines of a list, and append those of keys to one, of late keys to another, and of
 * all else to the last. */
static void divide(const hvi_buffer *list, const PGresult *keys, hvi_buffer *early,
                   hvi_buffer *late, hvi_buffer *others) {
    const char *at = list->data;
    while (at != NULL && *at != '\0') {
        const char *end = strchr(at, '\n');
        size_t len = end != NULL ? (size_t) (end - at) + 1 : strlen(at);
        int key = find_key(at, keys);
        if (*at != ';')
            hvi_buffer_append(key < 0 ? others : is_late(keys, key) ? late : early, at, len);
        at += len;
    }
}

static hv_status list_section(const hvi_process_files *files, const char *section, int64_t deadline,
                              hvi_buffer *list, hv_error **error) {
    const char *argv[] = {"pg_restore", "--list", section, DUMP_FILE, NULL};
    return hvi_process_run(argv, NULL, files, deadline, list, error);
}

/* How it ended is not always known, and a text that has been cut off would be a copy that lacks
 * something. */
static hv_status check_end(const hvi_buffer *text, hv_error **error) {
    static const char last[] = "-- PostgreSQL database dump complete";
    if (text->data != NULL && memmem(text->data, text->len, last, strlen(last)) != NULL)
        return HV_OK;
    return hvi_fail(error, HV_REFUSED, "pg_restore has not written all of the schema");
}

/*
 * The SQL of what the list names. Newer versions write for psql, "\restrict TOKEN" at the beginning
 * and "\unrestrict TOKEN" at the end, with a token that nothing else contains.
 */
static hv_status restore(const hvi_process_files *files, const hvi_buffer *list, int64_t deadline,
                         hvi_buffer *to, hv_error **error) {
    const char *argv[] = {"pg_restore", "--use-list", LIST_FILE, "--file=-", DUMP_FILE, NULL};
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hv_status status = hvi_process_file_write(files, LIST, list, error);
    if (status == HV_OK)
        status = hvi_process_run(argv, NULL, files, deadline, &text, error);
    if (status == HV_OK)
        status = check_end(&text, error);
    char token[128] = "";
    for (const char *at = text.data; status == HV_OK && at != NULL && *at != '\0';) {
        const char *end = strchr(at, '\n');
        size_t len = end != NULL ? (size_t) (end - at) + 1 : strlen(at);
        bool is_ours = false;
        if (token[0] == '\0' && sscanf(at, "\\restrict %127s", token) == 1)
            is_ours = true;
        else if (token[0] != '\0' && strncmp(at, "\\unrestrict ", 12) == 0 &&
                 strncmp(at + 12, token, strlen(token)) == 0)
            is_ours = true;
        if (!is_ours)
            hvi_buffer_append(to, at, len);
        at += len;
    }
    hvi_buffer_fini(&text);
    return status == HV_OK && !hvi_buffer_ok(to) ? hvi_no_memory(error) : status;
}

/* ---- what a dump of the schema lacks ---- */

static const hvi_form text_form = {
    .asked = "the schema of a shard",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_BYTES},
};

/* Append the rows of a query, in which each %s is the schema. */
static hv_status collect(const hvi_schema_copy *copy, const char *query, hvi_buffer *to,
                         int64_t deadline, hv_error **error) {
    hvi_buffer ask = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_format(&ask, query, copy->live);
    hv_status status = hvi_link_say(copy->from, &ask, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &text_form, copy->from->server->name, copy->shard, error);
    for (int i = 0; status == HV_OK && i < PQntuples(result); i++)
        hvi_buffer_append_text(to, hvi_text_at(result, i, 0));
    PQclear(result);
    return status;
}

/* Views that were filled are filled; those that others are made of come first, being older. */
static const char views_sql[] =
    "SELECT pg_catalog.format('REFRESH MATERIALIZED VIEW %%s;', c.oid::pg_catalog.regclass)"
    " FROM pg_catalog.pg_class AS c WHERE c.relkind OPERATOR(pg_catalog.=) 'm'"
    " AND c.relispopulated AND c.relnamespace OPERATOR(pg_catalog.=) '%s'"
    "::pg_catalog.regnamespace ORDER BY c.oid";

/* The functions of the schema hypervault on which the shard's indexes depend: a target that never
 * had such an index lacks them. They are not the shard's own, so what is there stays. */
static const char functions_sql[] =
    "SELECT DISTINCT pg_catalog.format('DO $hv$ BEGIN IF pg_catalog.to_regprocedure(%%L) IS NULL"
    " THEN EXECUTE %%L; END IF; END $hv$;', p.oid::pg_catalog.regprocedure,"
    " pg_catalog.pg_get_functiondef(p.oid))"
    " FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_depend AS d"
    " ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
    " AND d.objid OPERATOR(pg_catalog.=) c.oid"
    " AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass"
    " JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) d.refobjid"
    " WHERE c.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
    " AND p.pronamespace OPERATOR(pg_catalog.=)"
    " pg_catalog.to_regnamespace('hypervault')::pg_catalog.oid"
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS e"
    "  WHERE e.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass"
    "  AND e.objid OPERATOR(pg_catalog.=) p.oid AND e.deptype OPERATOR(pg_catalog.=) 'e')";

void hvi_schema_texts_fini(hvi_schema_texts *texts) {
    hvi_buffer_fini(&texts->before);
    hvi_buffer_fini(&texts->late_table);
    hvi_buffer_fini(&texts->late_keys);
    hvi_buffer_fini(&texts->after);
}

hv_status hvi_schema_copy_dump(const hvi_schema_copy *copy, hvi_schema_texts *texts,
                               int64_t deadline, hv_error **error) {
    hvi_process_files files;
    char schema[64];
    PGresult *keys = NULL;
    hvi_buffer sql = HVI_BUFFER_EMPTY, list = HVI_BUFFER_EMPTY;
    hvi_buffer first = HVI_BUFFER_EMPTY, late = HVI_BUFFER_EMPTY, second = HVI_BUFFER_EMPTY;
    hvi_buffer nothing = HVI_BUFFER_EMPTY;
    hv_status status = hvi_process_files_open(&files, error);
    if (status != HV_OK)
        return status;
    snprintf(schema, sizeof schema, "--schema=%s", copy->live);
    const char *dump[] = {
        "pg_dump",
        "--format=custom",
        "--schema-only",
        "--no-password",
        "--no-publications",
        "--no-subscriptions",
        schema,
        "--file",
        DUMP_FILE,
        NULL,
    };
    status = hvi_process_run(dump, copy->from->session->conn, &files, deadline, &nothing, error);
    hvi_buffer_append_format(&sql, keys_sql, copy->live,
                             copy->no_late_keys ? INT64_MAX : hvi_late_keys_bytes);
    if (status == HV_OK)
        status = hvi_link_say(copy->from, &sql, deadline, &keys, error);
    if (status == HV_OK)
        status = hvi_result_check(keys, &keys_form, copy->from->server->name, copy->shard, error);
    if (status == HV_OK)
        status = list_section(&files, "--section=pre-data", deadline, &list, error);
    if (status == HV_OK) {
        divide(&list, keys, &first, &first, &first);
        hvi_buffer_reset(&list);
        status = list_section(&files, "--section=post-data", deadline, &list, error);
    }
    if (status == HV_OK) {
        divide(&list, keys, &first, &late, &second);
        status = collect(copy, functions_sql, &texts->before, deadline, error);
    }
    for (int i = 0; late.len > 0 && texts->late_table.len == 0 && i < PQntuples(keys); i++)
        hvi_buffer_append_text(&texts->late_table, hvi_text_at(keys, i, 2));
    if (status == HV_OK)
        status = restore(&files, &first, deadline, &texts->before, error);
    if (status == HV_OK && !hvi_buffer_ok(&late))
        status = hvi_no_memory(error);
    if (status == HV_OK && late.len > 0)
        status = restore(&files, &late, deadline, &texts->late_keys, error);
    if (status == HV_OK)
        status = restore(&files, &second, deadline, &texts->after, error);
    if (status == HV_OK)
        status = collect(copy, views_sql, &texts->after, deadline, error);
    if (status == HV_OK && !(hvi_buffer_ok(&texts->before) && hvi_buffer_ok(&texts->late_table) &&
                             hvi_buffer_ok(&texts->late_keys) && hvi_buffer_ok(&texts->after)))
        status = hvi_no_memory(error);
    if (status != HV_OK)
        hvi_error_where(error, copy->from->server->name, copy->shard);
    hvi_process_files_close(&files);
    PQclear(keys);
    hvi_buffer_fini(&sql);
    hvi_buffer_fini(&list);
    hvi_buffer_fini(&first);
    hvi_buffer_fini(&late);
    hvi_buffer_fini(&second);
    hvi_buffer_fini(&nothing);
    return status;
}

/* ---- the copy ---- */

/* What a dump sets, as it was. */
static const char settings_sql[] =
    "SET search_path TO pg_catalog;SET lock_timeout TO '10s';SET statement_timeout TO 0;"
    "RESET check_function_bodies;RESET xmloption;RESET client_min_messages;RESET row_security;"
    "RESET default_tablespace;RESET default_table_access_method;"
    "SET standard_conforming_strings TO on;SET client_encoding TO 'UTF8';";

hv_status hvi_schema_copy_make(const hvi_schema_copy *copy, const hvi_buffer *before,
                               const char *also, int64_t deadline, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hv_status status = hvi_schema_copy_drop(copy->to, copy->name, deadline, error);
    if (status != HV_OK)
        return status;
    hvi_buffer_append_text(&sql, "BEGIN;");
    hvi_buffer_append(&sql, before->data, before->len);
    hvi_buffer_append_text(&sql, ";SET search_path TO pg_catalog;");
    hvi_buffer_append_text(&sql, also);
    hvi_buffer_append_format(&sql, "ALTER SCHEMA %s RENAME TO %s;COMMIT;", copy->live, copy->name);
    hvi_buffer_append_text(&sql, settings_sql);
    return hvi_link_say(copy->to, &sql, deadline, NULL, error);
}

/*
 * While the rest is made, changes that the stream brings wait for the tables. One that has changed
 * a table already and waits for another would be in the way of the first table's indexes later on,
 * when the second one's are made: a deadlock, at the cost of all that was made until then. So all
 * tables are locked at once, at the beginning.
 */
static const char lock_sql[] =
    "DO $hv$ DECLARE tables pg_catalog.text; BEGIN"
    " SELECT pg_catalog.string_agg(pg_catalog.format('ONLY %%s', c.oid::pg_catalog.regclass), ', '"
    "  ORDER BY c.oid) INTO tables FROM pg_catalog.pg_class AS c"
    "  WHERE c.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
    "  AND c.relkind OPERATOR(pg_catalog.=) 'r';"
    " IF tables IS NOT NULL THEN"
    "  EXECUTE pg_catalog.concat('LOCK TABLE ', tables, ' IN SHARE ROW EXCLUSIVE MODE');"
    " END IF; END $hv$;";

void hvi_schema_copy_rest_sql(const hvi_schema_copy *copy, const hvi_buffer *after,
                              const char *also, hvi_buffer *sql) {
    hvi_buffer_append_text(sql, "BEGIN;");
    hvi_buffer_append_format(sql, lock_sql, copy->name);
    hvi_buffer_append_format(sql, "ALTER SCHEMA %s RENAME TO %s;", copy->name, copy->live);
    hvi_buffer_append(sql, after->data, after->len);
    hvi_buffer_append_text(sql, ";SET search_path TO pg_catalog;");
    hvi_schema_copy_quiet_sql(copy->live, sql);
    hvi_buffer_append_text(sql, also);
    hvi_buffer_append_format(sql, "ALTER SCHEMA %s RENAME TO %s;COMMIT;", copy->live, copy->name);
    hvi_buffer_append_text(sql, settings_sql);
}

/* ---- dropping ---- */

/*
 * A copy has plain tables only. Were one attached to a root, or were it a root, CASCADE would reach
 * beyond the schema, and the live table is what it would reach. Both are looked for, under a lock
 * that keeps others from attaching anything, and then CASCADE is for what depends on the tables
 * within the schema.
 */
static const char drop_sql[] =
    "DO $hv$ DECLARE t record; live pg_catalog.text; BEGIN"
    " IF pg_catalog.to_regnamespace('%s') IS NULL THEN RETURN; END IF;"
    " FOR t IN SELECT c.oid::pg_catalog.regclass AS name FROM pg_catalog.pg_class AS c"
    "  WHERE c.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
    "  AND (c.relkind OPERATOR(pg_catalog.=) 'r' OR c.relkind OPERATOR(pg_catalog.=) 'p')"
    "  ORDER BY c.oid LOOP"
    "  EXECUTE pg_catalog.format('LOCK TABLE ONLY %%s IN ACCESS EXCLUSIVE MODE', t.name);"
    " END LOOP;"
    " SELECT pg_catalog.concat(i.inhparent::pg_catalog.regclass, ' and ',"
    "  i.inhrelid::pg_catalog.regclass) INTO live FROM pg_catalog.pg_inherits AS i"
    "  JOIN pg_catalog.pg_class AS a ON a.oid OPERATOR(pg_catalog.=) i.inhparent"
    "  JOIN pg_catalog.pg_class AS b ON b.oid OPERATOR(pg_catalog.=) i.inhrelid"
    "  WHERE (a.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace)"
    "  OPERATOR(pg_catalog.<>)"
    "  (b.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace) LIMIT 1;"
    " IF live IS NOT NULL THEN RAISE EXCEPTION 'the schema %s is not dropped: the tables % belong"
    " together', live; END IF;"
    " SET LOCAL client_min_messages TO warning;"
    " DROP SCHEMA %s CASCADE; END $hv$";

hv_status hvi_schema_copy_drop(hvi_link *link, const char *name, int64_t deadline,
                               hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    int shard = -1;
    /* Nothing but what a move has made is ever dropped here. */
    if (!hvi_move_name_read(name, &shard, NULL, NULL))
        return hvi_fail(error, HV_INVALID, "\"%s\" is no copy of a shard", name);
    for (const char *at = drop_sql; *at != '\0'; at++) {
        if (at[0] == '%' && at[1] == 's') {
            hvi_buffer_append_text(&sql, name);
            at++;
        } else if (at[0] == '%' && at[1] == '%') {
            hvi_buffer_append_byte(&sql, '%');
            at++;
        } else {
            hvi_buffer_append_byte(&sql, *at);
        }
    }
    hv_status status = hvi_link_say(link, &sql, deadline, NULL, error);
    if (status != HV_OK)
        hvi_error_where(error, link->server->name, shard);
    return status;
}

/* ---- triggers ---- */

static const hvi_form triggers_form = {
    .asked = "the triggers of a shard",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_BYTES},
};

hv_status hvi_schema_copy_triggers_sql(hvi_link *from, const char *live, hvi_buffer *sql,
                                       int64_t deadline, hv_error **error) {
    hvi_buffer ask = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_format(
        &ask,
        "SELECT pg_catalog.format('ALTER TABLE %%s %%s TRIGGER %%I;', g.tgrelid"
        "::pg_catalog.regclass, CASE WHEN g.tgenabled OPERATOR(pg_catalog.=) 'A'"
        " THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END, g.tgname)"
        " FROM pg_catalog.pg_trigger AS g JOIN pg_catalog.pg_class AS c"
        " ON c.oid OPERATOR(pg_catalog.=) g.tgrelid"
        " WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('%s')"
        "::pg_catalog.oid AND NOT g.tgisinternal AND (g.tgenabled OPERATOR(pg_catalog.=) 'A'"
        " OR g.tgenabled OPERATOR(pg_catalog.=) 'R') ORDER BY g.oid",
        live);
    hv_status status = hvi_link_say(from, &ask, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &triggers_form, from->server->name, -1, error);
    for (int i = 0; status == HV_OK && i < PQntuples(result); i++)
        hvi_buffer_append_text(sql, hvi_text_at(result, i, 0));
    PQclear(result);
    return status;
}

void hvi_schema_copy_quiet_sql(const char *name, hvi_buffer *sql) {
    hvi_buffer_append_format(
        sql,
        "DO $hv$ DECLARE t record; BEGIN FOR t IN SELECT g.tgrelid::pg_catalog.regclass AS place,"
        " g.tgname FROM pg_catalog.pg_trigger AS g JOIN pg_catalog.pg_class AS c"
        " ON c.oid OPERATOR(pg_catalog.=) g.tgrelid"
        " WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('%s')"
        "::pg_catalog.oid AND NOT g.tgisinternal AND (g.tgenabled OPERATOR(pg_catalog.=) 'A'"
        " OR g.tgenabled OPERATOR(pg_catalog.=) 'R') LOOP"
        " EXECUTE pg_catalog.format('ALTER TABLE %%s DISABLE TRIGGER %%I', t.place, t.tgname);"
        " END LOOP; END $hv$;",
        name);
}
