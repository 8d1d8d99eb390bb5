/*
 * doctor_shard: the checks of one shard on the server that has it.
 */
#include "move/doctor.h"
#include "move/fit.h"
#include "value/shard_map.h"
#include "wire/result.h"

/* What a row is about. */
enum { NOT_OWNED, LARGE_OBJECTS, COLLATIONS, SIZE, KINDS };

static const struct kind {
    hv_severity severity;
    const char *text; /* after it come names */
    const char *detail, *hint;
} kinds[KINDS] = {
    [NOT_OWNED] = {HV_SEVERITY_ERROR, "the role that moves it does not own ",
                   "Only the owner can publish tables, and rename the schema at the switch.",
                   "Move with the role that made the shards, a member of it, or a superuser."},
    [LARGE_OBJECTS] = {HV_SEVERITY_WARNING, "these columns may refer to large objects: ",
                       "Large objects do not move: the columns would refer to nothing there.",
                       "Keep such data in columns of type bytea."},
    [COLLATIONS] = {HV_SEVERITY_WARNING, "collations of its columns have another version now: ",
                    "Its indexes may be out of order here; where it moves they are made anew.",
                    "REINDEX them, and ALTER COLLATION … REFRESH VERSION."},
};

static const hvi_form form = {
    .asked = "a shard",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_INT8, HVI_IS_BYTES, HVI_IS_INT8},
};

/* At most five names of each; a size is a number. */
static const char sql_text[] =
    "WITH s AS (SELECT n.oid, n.nspname, n.nspowner FROM pg_catalog.pg_namespace n"
    "  WHERE n.nspname OPERATOR(pg_catalog.=) '%s'),"
    " t AS (SELECT c.oid, c.relowner FROM pg_catalog.pg_class c, s"
    "  WHERE c.relnamespace OPERATOR(pg_catalog.=) s.oid"
    "  AND c.relkind OPERATOR(pg_catalog.=) 'r'),"
    " a AS (SELECT t.oid, a.attname, a.atttypid, a.attcollation FROM t, pg_catalog.pg_attribute a"
    "  WHERE a.attrelid OPERATOR(pg_catalog.=) t.oid AND a.attnum OPERATOR(pg_catalog.>) 0"
    "  AND NOT a.attisdropped),"
    " found AS ("
    "  SELECT 0::bigint AS kind, s.nspname::pg_catalog.text AS name FROM s"
    "   WHERE NOT pg_catalog.pg_has_role(s.nspowner, 'USAGE')"
    "  UNION ALL SELECT 0, t.oid::pg_catalog.regclass::pg_catalog.text FROM t"
    "   WHERE NOT pg_catalog.pg_has_role(t.relowner, 'USAGE')"
    "  UNION ALL SELECT 1, pg_catalog.format('%%s.%%I', a.oid::pg_catalog.regclass, a.attname)"
    "   FROM a, pg_catalog.pg_type p WHERE p.oid OPERATOR(pg_catalog.=) a.atttypid"
    "   AND (p.oid OPERATOR(pg_catalog.=) 'pg_catalog.oid'::pg_catalog.regtype"
    "    OR p.typbasetype OPERATOR(pg_catalog.=) 'pg_catalog.oid'::pg_catalog.regtype)"
    "   AND EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)"
    "  UNION ALL SELECT DISTINCT 2, c.collname::pg_catalog.text FROM a, pg_catalog.pg_collation c"
    "   WHERE c.oid OPERATOR(pg_catalog.=) a.attcollation AND c.collversion"
    "   OPERATOR(pg_catalog.<>) pg_catalog.pg_collation_actual_version(c.oid))"
    " SELECT f.kind, (SELECT pg_catalog.string_agg(n.name, ', ') FROM (SELECT g.name FROM found g"
    "  WHERE g.kind OPERATOR(pg_catalog.=) f.kind ORDER BY g.name LIMIT 5) AS n), 0::bigint"
    " FROM (SELECT DISTINCT found.kind FROM found) AS f"
    " UNION ALL SELECT 3, '', COALESCE(pg_catalog.sum(pg_catalog.pg_total_relation_size(t.oid)), 0)"
    "::bigint FROM t ORDER BY 1";

static void add(hvi_link *from, int shard, const struct kind *kind, const char *names,
                hv_findings *findings) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_buffer_append_text(&text, kind->text);
    hvi_buffer_append_text(&text, names);
    if (hvi_buffer_ok(&text))
        hvi_remarks_add(findings, &(hv_finding){.severity = kind->severity,
                                                .server = from->server->name,
                                                .shard = shard,
                                                .text = text.data,
                                                .detail = kind->detail,
                                                .hint = kind->hint});
    else
        findings->is_broken = true;
    hvi_buffer_fini(&text);
}

void hvi_doctor_shard(hvi_link *from, int shard, const hvi_doctor_scope *scope, int64_t deadline,
                      int64_t *bytes, hv_findings *findings) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hv_error *cause = NULL;
    *bytes = 0;
    if (!hvi_link_is_open(from))
        return;
    hvi_schema_name(shard, schema);
    hvi_buffer_append_format(&sql, sql_text, schema);
    hv_status status = hvi_link_say(from, &sql, deadline, &result, &cause);
    if (status == HV_OK)
        status = hvi_result_check(result, &form, from->server->name, shard, &cause);
    for (int i = 0; status == HV_OK && i < PQntuples(result); i++) {
        int64_t kind = hvi_integer_at(result, i, 0);
        if (kind == SIZE)
            *bytes = hvi_integer_at(result, i, 2);
        else if (kind >= 0 && kind < SIZE &&
                 (!scope->only_errors || kinds[kind].severity == HV_SEVERITY_ERROR))
            add(from, shard, &kinds[kind], hvi_text_at(result, i, 1), findings);
    }
    PQclear(result);
    if (status == HV_OK)
        status = hvi_fit_check(from, shard, schema, scope->is_offline, deadline, &cause);
    if (status != HV_OK)
        hvi_remarks_add_error(findings, HV_SEVERITY_ERROR, from->server->name, NULL, shard, &cause);
}
