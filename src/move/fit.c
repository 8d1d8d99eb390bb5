/*
 * fit: can the tables of a shard be moved as they are?
 */
#include "move/fit.h"

#include "wire/result.h"
#include "move/stream.h"

/* What is wrong, in the order of the rows below. */
static const struct fault {
    const char *message, *hint;
} faults[] = {
    {"has tables that are neither plain nor permanent",
     "Partitioned, inherited, unlogged and foreign tables do not move. Make them plain tables, or "
     "drop them."},
    {"has foreign keys from or to other schemas",
     "A constraint cannot reach another server. Drop these constraints."},
    {"has views, columns or defaults of other schemas that depend on it",
     "They would be dropped with the old copy. Drop them, or make them in the shard's schema."},
    {"has tables without a replica identity",
     "Rows of these tables could not be updated while they are copied. Give each a primary key, or "
     "ALTER TABLE … REPLICA IDENTITY FULL; an offline move does not need it."},
    {"has tables that logical replication cannot carry",
     "Such a table has no column that its rows can be divided by, a column without equality (json, "
     "for example) and no primary key, or a trigger for each row with a transition table. Move it "
     "offline."},
};

static const hvi_form form = {
    .asked = "the tables of a shard",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_INT8, HVI_IS_BYTES},
};

static const char sql_text[] =
    "SELECT 0::bigint, c.oid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_class AS c"
    " WHERE c.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
    " AND (c.relkind OPERATOR(pg_catalog.=) 'p' OR c.relkind OPERATOR(pg_catalog.=) 'f'"
    "  OR c.relkind OPERATOR(pg_catalog.=) 'r' AND (c.relpersistence OPERATOR(pg_catalog.<>) 'p'"
    "  OR c.reloftype OPERATOR(pg_catalog.<>) 0::pg_catalog.oid"
    "  OR EXISTS (SELECT FROM pg_catalog.pg_inherits AS i"
    "   WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid"
    "   OR i.inhrelid OPERATOR(pg_catalog.=) c.oid AND NOT EXISTS (SELECT"
    "    FROM pg_catalog.pg_class AS r JOIN pg_catalog.pg_namespace AS n"
    "    ON n.oid OPERATOR(pg_catalog.=) r.relnamespace"
    "    WHERE r.oid OPERATOR(pg_catalog.=) i.inhparent AND n.nspname OPERATOR(pg_catalog.~)"
    "    '^hypervault_[0-9]{4}_[0-9a-f]{8}(_old)?$'))))"
    " UNION ALL SELECT 1, pg_catalog.format('%%s of %%s', k.conname,"
    " k.conrelid::pg_catalog.regclass) FROM pg_catalog.pg_constraint AS k"
    " JOIN pg_catalog.pg_class AS a ON a.oid OPERATOR(pg_catalog.=) k.conrelid"
    " JOIN pg_catalog.pg_class AS b ON b.oid OPERATOR(pg_catalog.=) k.confrelid"
    " WHERE k.contype OPERATOR(pg_catalog.=) 'f' AND (a.relnamespace OPERATOR(pg_catalog.=)"
    " '%s'::pg_catalog.regnamespace) OPERATOR(pg_catalog.<>) (b.relnamespace"
    " OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace)"
    " UNION ALL SELECT DISTINCT 2, o.oid::pg_catalog.regclass::pg_catalog.text"
    " FROM (SELECT c.oid, 'pg_catalog.pg_class'::pg_catalog.regclass FROM pg_catalog.pg_class AS c"
    "  WHERE c.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
    "  UNION ALL SELECT p.oid, 'pg_catalog.pg_proc'::pg_catalog.regclass"
    "  FROM pg_catalog.pg_proc AS p"
    "  WHERE p.pronamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
    "  UNION ALL SELECT t.oid, 'pg_catalog.pg_type'::pg_catalog.regclass"
    "  FROM pg_catalog.pg_type AS t"
    "  WHERE t.typnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace) AS s(oid, class)"
    " JOIN pg_catalog.pg_depend AS d ON d.refclassid OPERATOR(pg_catalog.=) s.class"
    "  AND d.refobjid OPERATOR(pg_catalog.=) s.oid"
    " LEFT JOIN pg_catalog.pg_rewrite AS r ON r.oid OPERATOR(pg_catalog.=) d.objid"
    "  AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass"
    " LEFT JOIN pg_catalog.pg_attrdef AS e ON e.oid OPERATOR(pg_catalog.=) d.objid"
    "  AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass"
    " JOIN pg_catalog.pg_class AS o ON o.oid OPERATOR(pg_catalog.=) COALESCE(r.ev_class, e.adrelid,"
    "  CASE WHEN d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
    "  THEN d.objid END)"
    " JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) o.relnamespace"
    " WHERE n.nspname OPERATOR(pg_catalog.<>) '%s' AND n.nspname OPERATOR(pg_catalog.!~)"
    " '^(pg_toast|hypervault_[0-9]{4}_[0-9a-f]{8}(_old)?$)'"
    " UNION ALL SELECT 3, c.oid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_class AS c"
    " WHERE c.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
    " AND c.relkind OPERATOR(pg_catalog.=) 'r' AND c.relreplident OPERATOR(pg_catalog.<>) 'f'"
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i"
    "  WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid"
    "  AND CASE WHEN c.relreplident OPERATOR(pg_catalog.=) 'd' THEN i.indisprimary"
    "  ELSE i.indisreplident END)"
    " UNION ALL SELECT 4, c.oid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_class AS c"
    " WHERE c.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
    " AND c.relkind OPERATOR(pg_catalog.=) 'r' AND NOT EXISTS (SELECT"
    "  FROM pg_catalog.pg_attribute AS a WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid"
    "  AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped"
    "  AND a.attgenerated OPERATOR(pg_catalog.=) '' AND " HVI_STREAM_IS_ORDERED ")"
    " UNION ALL SELECT 4, pg_catalog.format('%%s (column %%s)', c.oid::pg_catalog.regclass,"
    " a.attname) FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS a"
    " ON a.attrelid OPERATOR(pg_catalog.=) c.oid"
    " WHERE c.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
    " AND c.relkind OPERATOR(pg_catalog.=) 'r' AND c.relreplident OPERATOR(pg_catalog.=) 'f'"
    " AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped"
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indisprimary"
    "  AND i.indrelid OPERATOR(pg_catalog.=) c.oid)"
    " AND NOT " HVI_STREAM_IS_COMPARED
    " UNION ALL SELECT 4, pg_catalog.format('%%s (trigger %%s, with a transition table)',"
    " c.oid::pg_catalog.regclass, g.tgname) FROM pg_catalog.pg_trigger AS g"
    " JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) g.tgrelid"
    " WHERE c.relnamespace OPERATOR(pg_catalog.=) '%s'::pg_catalog.regnamespace"
    " AND g.tgtype::integer OPERATOR(pg_catalog.%%) 2 OPERATOR(pg_catalog.=) 1"
    " AND (g.tgoldtable IS NOT NULL OR g.tgnewtable IS NOT NULL)"
    " ORDER BY 1, 2";

hv_status hvi_fit_check(hvi_link *from, int shard, const char *schema, bool offline,
                        int64_t deadline, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY, names = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_format(&sql, sql_text, schema, schema, schema, schema, schema, schema, schema,
                             schema, schema, schema, schema);
    hv_status status = hvi_link_say(from, &sql, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &form, from->server->name, shard, error);
    int64_t worst = -1;
    for (int i = 0; status == HV_OK && i < PQntuples(result); i++) {
        int64_t fault = hvi_integer_at(result, i, 0);
        if (offline && fault >= 3)
            continue;
        if (worst < 0)
            worst = fault;
        if (fault == worst)
            hvi_buffer_append_format(&names, "%s%s", names.len > 0 ? ", " : "",
                                     hvi_text_at(result, i, 1));
    }
    if (status == HV_OK && worst >= 0) {
        status = hvi_fail(error, HV_INVALID, "shard %d %s", shard, faults[worst].message);
        hvi_error_where(error, from->server->name, shard);
        if (hvi_buffer_ok(&names))
            hvi_error_detail(error, "These are: %s.", names.data);
        hvi_error_hint(error, "%s", faults[worst].hint);
    }
    PQclear(result);
    hvi_buffer_fini(&names);
    return status;
}
