/*
 * entity_sql: the statements of entities and their keys, one or many at a time.
 */
#include "entity/entity_sql.h"

#include <stdio.h>
#include <string.h>

#include "wire/refusal.h"

/* Fails, so that nothing is stored. The number is there so that the planner sees no constant, which
 * it would evaluate where nothing is wrong. */
#define FAIL_OVER_KEY(number) "pg_catalog.concat('" HVI_KEY_CHANGED "', ' (', " number ", ')')"

/* `what` of a row that was stored, if its key is the one that was given. */
#define IF_UNDER_KEY(what)                   \
    "CASE WHEN id OPERATOR(pg_catalog.=) $3" \
    " THEN " what " ELSE " FAIL_OVER_KEY("id") "::bigint END"

/*
 * The keys in "stored", one array, of which each must be one of those in `keys`; NULL: all of
 * these. Mostly they are the same in the same order, which is quickly seen, and nothing is sent.
 */
#define STORED_KEYS(keys)                                       \
    "CASE WHEN s.ids OPERATOR(pg_catalog.=) " keys " THEN NULL" \
    " WHEN s.ids IS NULL THEN '{}'"                             \
    " WHEN s.ids OPERATOR(pg_catalog.<@) " keys " THEN s.ids"   \
    " ELSE " FAIL_OVER_KEY("s.ids[1]") "::bigint[] END"

#define FROM_STORED " FROM (SELECT pg_catalog.array_agg(id) AS ids FROM stored) AS s"

/*
 * The SELECT around an array hides its length from the planner: which would otherwise find a plan
 * of its own for each few rows the cheaper one, and plan each time anew. That took longer than to
 * store them.
 */
#define ELEMENTS(number) "pg_catalog.unnest((SELECT $" number "))"
#define KINDS_BODIES     ELEMENTS("1") ", " ELEMENTS("2")
#define KEYS             ELEMENTS("3")

/* With one %s, the schema. */
#define INSERT_GIVEN                                                         \
    "INSERT INTO %s.entities (type, body, id) SELECT type, body, id"         \
    " FROM ROWS FROM (" KINDS_BODIES ", " KEYS ") AS given (type, body, id)" \
    " ON CONFLICT (id) DO NOTHING RETURNING id"

static void write_around(char *sql, const char *before, const char *schema, const char *after) {
    stpcpy(stpcpy(stpcpy(sql, before), schema), after);
}

void hvi_entity_sql(hvi_statement_verb verb, const char *schema, bool as_text,
                    char sql[HVI_ENTITY_SQL_LEN]) {
    const size_t size = HVI_ENTITY_SQL_LEN;
    switch (verb) {
    case HVI_STATEMENT_GET: /* this and PUT are written for each single operation: quickly */
        write_around(sql,
                     as_text ? "SELECT id, type, body::pg_catalog.text FROM "
                             : "SELECT id, type, body FROM ",
                     schema, ".entities WHERE id OPERATOR(pg_catalog.=) $1");
        break;
    case HVI_STATEMENT_GET_MANY:
        /* The SELECT: see ELEMENTS. In a plan for any array the planner expects a tenth of the rows
         * where it does not know the limit, so that the growth of a table between the first plans
         * and that one does not make it seem dear; and in order, it reads the index. */
        snprintf(sql, size,
                 "SELECT id, type, %s FROM %s.entities"
                 " WHERE id OPERATOR(pg_catalog.=) ANY ((SELECT $1)::bigint[])"
                 " ORDER BY id LIMIT pg_catalog.cardinality($1)",
                 hvi_body_column(as_text), schema);
        break;
    case HVI_STATEMENT_PUT:
        write_around(sql, "INSERT INTO ", schema,
                     ".entities (type, body) VALUES ($1, $2) RETURNING id");
        break;
    case HVI_STATEMENT_PUT_MANY:
        /* The keys are made first, then stored and given out by their places, so that nothing
         * depends on an order that RETURNING does not promise. */
        snprintf(sql, size,
                 "WITH new AS MATERIALIZED (SELECT pg_catalog.array_agg(%s.next_id()) AS ids"
                 " FROM pg_catalog.generate_series(1, pg_catalog.cardinality((SELECT $1)))),"
                 " stored AS (INSERT INTO %s.entities (id, type, body)"
                 " SELECT id, type, body FROM new,"
                 " ROWS FROM (pg_catalog.unnest(ids), " ELEMENTS("1") ", " ELEMENTS(
                     "2") ")"
                          " AS given (id, type, body) RETURNING id)"
                          " SELECT new.ids, " STORED_KEYS("new.ids") FROM_STORED ", new",
                 schema, schema);
        break;
    case HVI_STATEMENT_PUT_KEY:
        snprintf(sql, size,
                 "INSERT INTO %s.entities (type, body, id) VALUES ($1, $2, $3)"
                 " RETURNING " IF_UNDER_KEY("id"),
                 schema);
        break;
    case HVI_STATEMENT_PUT_KEY_MANY:
        snprintf(sql, size,
                 "WITH stored AS (" INSERT_GIVEN ") SELECT " STORED_KEYS("$3") FROM_STORED, schema);
        break;
    case HVI_STATEMENT_PUT_ONCE:
        snprintf(sql, size,
                 "INSERT INTO %s.entities (type, body, id) VALUES ($1, $2, $3)"
                 " RETURNING " IF_UNDER_KEY("(SELECT %s.reserve_ids(1))"),
                 schema, schema);
        break;
    case HVI_STATEMENT_PUT_ONCE_MANY:
        snprintf(sql, size,
                 "WITH stored AS (" INSERT_GIVEN "),"
                 " checked AS MATERIALIZED (SELECT s.ids, " STORED_KEYS(
                     "$3") " AS partly" FROM_STORED " WHERE s.ids IS NOT NULL)"
                           " SELECT given.id, given.next, partly IS NULL FROM checked, ROWS FROM ("
                           "pg_catalog.unnest(ids), %s.reserve_ids(pg_catalog.cardinality(ids)))"
                           " AS given (id, next)",
                 schema, schema);
        break;
    case HVI_STATEMENT_RESERVE:
        snprintf(sql, size, "SELECT %s.reserve_ids($1)", schema);
        break;
    }
}
