/*
 * count: the statements that count entities, or estimate how many there are.
 */
#include "entity/count.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shard/layout.h"
#include "value/key.h"
#include "wire/parameters.h"
#include "entity/where.h"

/* A table of up to this size is counted, for an estimate too: the server collects no statistics of
 * a table that has had few changes, and reading it takes no longer than looking for them. */
#define SMALL_TABLE "65536"

/* Is a shard's table small? In a SELECT of its own it is evaluated once, before anything is read.
 */
#define IS_SMALL                                                              \
    "(SELECT v.size OPERATOR(pg_catalog.<=) " SMALL_TABLE " FROM tables AS v" \
    " WHERE v.shard OPERATOR(pg_catalog.=) %d)"

typedef struct count_ask {
    hvi_ask ask;
    const hvi_counting *counting;
    hvi_portion portion;
    bool planned;
    hvi_buffer sql;
    hvi_parameters parameters;
} count_ask;

static const hvi_form groups_form = {
    .asked = "numbers of entities",
    .rows = HVI_ANY_ROWS,
    .binary = true,
    .columns = {HVI_IS_INT8 | HVI_OR_NULL, HVI_IS_COUNT | HVI_OR_NULL},
};

static const hvi_form plan_form = {
    .asked = "a plan",
    .rows = HVI_ONE_ROW,
    .binary = true,
    .columns = {HVI_IS_BYTES},
};

bool hvi_count_is_unit(const char *unit) {
    static const char *const units[] = {"second", "minute", "hour",    "day",
                                        "week",   "month",  "quarter", "year"};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(unit, units[i]) == 0)
            return true;
    return false;
}

/* ---- exact ---- */

static void append_where(hvi_buffer *sql, const hvi_counting *counting, const char *schema,
                         const hvi_session *session) {
    hvi_buffer_append_format(sql, " FROM %s.entities WHERE ", schema);
    hvi_where_sql(sql, counting->selection, counting->range, session->hstore_schema);
}

/* How many of a shard, or, by kind, of each kind. */
static void append_shard(hvi_buffer *sql, const hvi_counting *counting, int shard,
                         const hvi_session *session, bool if_small) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    bool by_kind = counting->by == HV_COUNT_KIND;
    hvi_buffer_append_text(sql, "SELECT ");
    if (by_kind)
        hvi_buffer_append_text(sql, "type::bigint");
    else
        hvi_buffer_append_format(sql, "%d::bigint", shard);
    hvi_buffer_append_text(sql, ", pg_catalog.count(*)");
    append_where(sql, counting, schema, session);
    if (if_small)
        hvi_buffer_append_format(sql, " AND " IS_SMALL, shard);
    if (by_kind)
        hvi_buffer_append_text(sql, " GROUP BY type");
    else if (if_small)
        hvi_buffer_append_format(sql, " HAVING " IS_SMALL, shard);
}

/* The moment of a key's creation, and the beginning of the unit of time that it falls into. */
static void append_by_time(count_ask *ask, const hvi_session *session) {
    const hvi_counting *counting = ask->counting;
    hvi_buffer *sql = &ask->sql;
    int zone = hvi_where_parameter_count(counting->selection, counting->range) + 1;
    hvi_buffer_append_format(
        sql,
        "SELECT (pg_catalog.date_part('epoch', moment) OPERATOR(pg_catalog.*) 1000)::bigint, number"
        " FROM (SELECT pg_catalog.date_trunc('%s', pg_catalog.to_timestamp("
        "((id OPERATOR(pg_catalog.>>) %d) OPERATOR(pg_catalog.+) %" PRId64 ")::double precision"
        " OPERATOR(pg_catalog./) 1000), $%d::pg_catalog.text) AS moment,"
        " pg_catalog.count(*) AS number FROM (",
        counting->unit, HVI_KEY_TIME_SHIFT, counting->epoch, zone);
    for (int i = 0; i < ask->portion.count; i++) {
        char schema[HVI_SCHEMA_NAME_LEN];
        hvi_schema_name(ask->portion.shards[i], schema);
        hvi_buffer_append_text(sql, i > 0 ? " UNION ALL SELECT id" : "SELECT id");
        append_where(sql, counting, schema, session);
    }
    /* The last part is no row, but the zone is looked at even where there is no entity. */
    hvi_buffer_append_format(sql,
                             ") AS e GROUP BY 1) AS g UNION ALL SELECT 0::bigint, 0::bigint"
                             " WHERE pg_catalog.timezone($%d::pg_catalog.text,"
                             " pg_catalog.statement_timestamp()) IS NULL",
                             zone);
}

/* ---- estimates ---- */

bool hvi_count_needs_plan(const hvi_counting *counting) {
    return hvi_selection_has_attributes(counting->selection) || counting->range.first > 1 ||
           counting->range.last < INT64_MAX ||
           (counting->selection->kind_count > 0 && counting->by != HV_COUNT_KIND);
}

/* The tables and their sizes, which each part of the statement is to see alike. */
static void append_tables(count_ask *ask) {
    hvi_buffer *sql = &ask->sql;
    hvi_buffer_append_text(sql, "WITH tables AS MATERIALIZED (SELECT shard, oid,"
                                " pg_catalog.pg_relation_size(oid) AS size FROM (VALUES ");
    for (int i = 0; i < ask->portion.count; i++) {
        char schema[HVI_SCHEMA_NAME_LEN];
        hvi_schema_name(ask->portion.shards[i], schema);
        hvi_buffer_append_format(sql, "%s(%d::bigint, '%s.entities'::pg_catalog.regclass)",
                                 i > 0 ? ", " : "", ask->portion.shards[i], schema);
    }
    hvi_buffer_append_text(sql, ") AS t(shard, oid)) ");
}

/* How many entities each table that is not small is taken to have: as many to a page as when it was
 * last looked at. Of one that never was only the size is known: its entities are assumed to be
 * small. */
#define LARGE_TABLES                                                                        \
    "(SELECT v.shard, v.oid, v.size"                                                        \
    " OPERATOR(pg_catalog./) pg_catalog.current_setting('block_size')::double precision"    \
    " OPERATOR(pg_catalog.*) CASE"                                                          \
    " WHEN c.reltuples OPERATOR(pg_catalog.>) 0 AND c.relpages OPERATOR(pg_catalog.>) 0"    \
    " THEN c.reltuples OPERATOR(pg_catalog./) c.relpages ELSE 60 END AS number"             \
    " FROM tables AS v JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) v.oid" \
    " WHERE v.size OPERATOR(pg_catalog.>) " SMALL_TABLE ") AS t"

/* From the statistics: the most common kinds have a share each, and the others, of which the
 * histogram names some or all, what is left. */
static void append_kinds(count_ask *ask) {
    static const char statistics[] =
        " FROM " LARGE_TABLES " LEFT JOIN LATERAL (SELECT"
        " st.most_common_vals::pg_catalog.text::smallint[] AS kinds,"
        " st.most_common_freqs AS shares,"
        " ARRAY(SELECT DISTINCT h FROM pg_catalog.unnest("
        "st.histogram_bounds::pg_catalog.text::smallint[]) AS h) AS others, st.null_frac"
        " FROM pg_catalog.pg_stats AS st"
        " JOIN pg_catalog.pg_namespace AS n ON n.nspname OPERATOR(pg_catalog.=) st.schemaname"
        " JOIN pg_catalog.pg_class AS r ON r.relnamespace OPERATOR(pg_catalog.=) n.oid"
        " AND r.relname OPERATOR(pg_catalog.=) st.tablename"
        " WHERE r.oid OPERATOR(pg_catalog.=) t.oid AND st.attname OPERATOR(pg_catalog.=) 'type'"
        " AND NOT st.inherited) AS k ON true";
    hvi_buffer *sql = &ask->sql;
    const hv_selection *selection = ask->counting->selection;
    hvi_buffer_append_text(sql, "SELECT coalesce(e.kind::bigint, t.shard),"
                                " (e.share OPERATOR(pg_catalog.*) t.number)::bigint");
    hvi_buffer_append_text(sql, statistics);
    hvi_buffer_append_text(
        sql, " LEFT JOIN LATERAL (SELECT * FROM ROWS FROM(pg_catalog.unnest(k.kinds),"
             " pg_catalog.unnest(k.shares)) AS u(kind, share) UNION ALL SELECT o, "
             "greatest(0::double precision,"
             " 1::double precision OPERATOR(pg_catalog.-) k.null_frac OPERATOR(pg_catalog.-)"
             " coalesce((SELECT pg_catalog.sum(f) FROM pg_catalog.unnest(k.shares) AS f), 0::real))"
             " OPERATOR(pg_catalog./) pg_catalog.cardinality(k.others)"
             " FROM pg_catalog.unnest(k.others) AS o) AS e ON true");
    if (selection->kind_count > 0) {
        hvi_buffer_append_text(sql, " WHERE e.kind IS NULL OR ");
        hvi_where_kinds_sql(sql, selection, "e.kind", 1); /* there is no range of keys */
    }
}

static void append_estimates(count_ask *ask, const hvi_session *session) {
    const hvi_counting *counting = ask->counting;
    append_tables(ask);
    if (counting->by == HV_COUNT_KIND)
        append_kinds(ask);
    else if (hvi_count_needs_plan(counting))
        hvi_buffer_append_text(&ask->sql, "SELECT t.shard, NULL::bigint FROM " LARGE_TABLES);
    else
        hvi_buffer_append_text(&ask->sql, "SELECT t.shard, t.number::bigint FROM " LARGE_TABLES);
    for (int i = 0; i < ask->portion.count; i++) {
        hvi_buffer_append_text(&ask->sql, " UNION ALL ");
        append_shard(&ask->sql, counting, ask->portion.shards[i], session, true);
    }
}

int64_t hvi_count_planned(const char *plan) {
    static const char field[] = "\"Plan Rows\": ";
    /* In a text the quotes would be escaped. The first plan is the whole of it. */
    const char *place = strstr(plan, field);
    if (place == NULL)
        return -1;
    double rows = strtod(place + sizeof field - 1, NULL);
    return rows >= 0 && rows < 9e18 ? (int64_t) rows : -1;
}

/* ---- asks ---- */

static count_ask *count_ask_of(hvi_ask *ask) {
    return (count_ask *) ask; /* its first member */
}

static bool query(hvi_ask *asked, const hvi_session *session, hvi_query *query) {
    count_ask *ask = count_ask_of(asked);
    const hvi_counting *counting = ask->counting;
    hvi_buffer_reset(&ask->sql);
    hvi_parameters_reset(&ask->parameters);
    ask->parameters.log = session->config->log.parameters;
    hvi_where_parameters(&ask->parameters, counting->selection, counting->range);
    if (ask->planned) {
        char schema[HVI_SCHEMA_NAME_LEN];
        hvi_schema_name(ask->portion.shards[0], schema);
        hvi_buffer_append_text(&ask->sql, "EXPLAIN (FORMAT JSON) SELECT id");
        append_where(&ask->sql, counting, schema, session);
    } else if (counting->estimate) {
        append_estimates(ask, session);
    } else if (counting->by == HV_COUNT_TIME) {
        append_by_time(ask, session);
        hvi_parameters_text(&ask->parameters, counting->zone, strlen(counting->zone));
    } else {
        for (int i = 0; i < ask->portion.count; i++) {
            hvi_buffer_append_text(&ask->sql, i > 0 ? " UNION ALL " : "");
            append_shard(&ask->sql, counting, ask->portion.shards[i], session, false);
        }
    }
    /* Not kept prepared: the plan may depend on the values. */
    *query = (hvi_query){
        .sql = ask->sql.data,
        .shard = ask->portion.count == 1 ? ask->portion.shards[0] : -1,
        .binary_result = true,
    };
    return hvi_buffer_ok(&ask->sql) && hvi_parameters_bind(&ask->parameters, query);
}

static void free_ask(hvi_ask *asked) {
    count_ask *ask = count_ask_of(asked);
    hvi_buffer_fini(&ask->sql);
    hvi_parameters_fini(&ask->parameters);
    free(ask);
}

static hvi_ask *make_ask(const hvi_counting *counting, hvi_portion portion, bool planned) {
    count_ask *ask = calloc(1, sizeof *ask);
    if (ask == NULL)
        return NULL;
    ask->ask =
        (hvi_ask){.answer = planned ? &plan_form : &groups_form, .query = query, .free = free_ask};
    ask->counting = counting;
    ask->portion = portion;
    ask->planned = planned;
    return &ask->ask;
}

hvi_ask *hvi_count_new(const hvi_counting *counting, hvi_portion portion) {
    return make_ask(counting, portion, false);
}

hvi_ask *hvi_count_new_planned(const hvi_counting *counting, hvi_portion portion) {
    return make_ask(counting, portion, true);
}
