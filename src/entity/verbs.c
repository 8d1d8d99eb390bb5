/*
 * verbs: the table of verbs: what each sends, and which functions read the answers.
 *
 * A single item whose key already has an entity is refused as a unique violation; one of many is
 * left out. Where a trigger or a rule has dropped the row, a single item has no row in the answer,
 * and one of many is left out too. Where a trigger changes a given key, or one of many made keys,
 * so that answers could not be matched to items, the statement fails and nothing is stored: see
 * HVI_KEY_CHANGED.
 */
#include "wire/refusal.h"
#include "entity/exists.h"
#include "entity/get.h"
#include "entity/put.h"
#include "entity/reserve.h"

/* ---- pieces of SQL ---- */

/* Fails, so that nothing is stored. The number keeps it from being a constant, which the planner
 * would evaluate where nothing is wrong. */
#define FAIL_OVER_KEY(number) "pg_catalog.concat('" HVI_KEY_CHANGED "', ' (', " number ", ')')"

/* `what` of a row that was stored, if its key is the one that was given. */
#define IF_UNDER_KEY(what)                   \
    "CASE WHEN id OPERATOR(pg_catalog.=) $3" \
    " THEN " what " ELSE " FAIL_OVER_KEY("id") "::bigint END"

/*
 * The keys in "stored" as one array, each of which must be one of those in `keys`; NULL: all of
 * them. Mostly they are the same in the same order, which is quick to check, and nothing is sent.
 */
#define STORED_KEYS(keys)                                       \
    "CASE WHEN s.ids OPERATOR(pg_catalog.=) " keys " THEN NULL" \
    " WHEN s.ids IS NULL THEN '{}'"                             \
    " WHEN s.ids OPERATOR(pg_catalog.<@) " keys " THEN s.ids"   \
    " ELSE " FAIL_OVER_KEY("s.ids[1]") "::bigint[] END"

#define FROM_STORED " FROM (SELECT pg_catalog.array_agg(id) AS ids FROM stored) AS s"

/*
 * The SELECT around an array hides its length from the planner, which would otherwise find a custom
 * plan cheaper for each few rows, and plan again each time. That took longer than storing them.
 */
#define ELEMENTS(number) "pg_catalog.unnest((SELECT $" number "))"
#define KINDS_BODIES     ELEMENTS("1") ", " ELEMENTS("2")
#define GIVEN_KEYS       ELEMENTS("3")
#define STORED_GIVEN     STORED_KEYS("$3")
#define STORED_MADE      STORED_KEYS("new.ids")

#define INSERT_GIVEN                                                               \
    "INSERT INTO %s.entities (type, body, id) SELECT type, body, id"               \
    " FROM ROWS FROM (" KINDS_BODIES ", " GIVEN_KEYS ") AS given (type, body, id)" \
    " ON CONFLICT (id) DO NOTHING RETURNING id"

/* ---- the forms of answers ---- */

#define ENTITY(how_many)                                                                 \
    {                                                                                    \
        .asked = "an entity: id bigint, type smallint, body hstore", .rows = (how_many), \
        .binary = true,                                                                  \
        .columns = {HVI_IS_INT8, HVI_IS_INT2 | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL}, \
    }
#define KEYS(how_many, ...)                                                             \
    {                                                                                   \
        .asked = "keys", .rows = (how_many), .binary = true, .columns = { __VA_ARGS__ } \
    }

/* ---- the verbs ---- */

const hvi_verb hvi_get = {
    .parameters = {HVI_KEY},
    .one = {"get", "SELECT id, type, %b FROM %s.entities WHERE id OPERATOR(pg_catalog.=) $1",
            ENTITY(HVI_AT_MOST_ONE_ROW), hvi_get_read},
    /* The SELECT: see ELEMENTS. In a plan for any array the planner expects a tenth of the rows
     * where it does not know the limit, so that a table's growth between the first plans and that
     * one does not make it seem expensive; and with ORDER BY it reads the index. */
    .many = {"get_many",
             "SELECT id, type, %b FROM %s.entities"
             " WHERE id OPERATOR(pg_catalog.=) ANY ((SELECT $1)::bigint[])"
             " ORDER BY id LIMIT pg_catalog.cardinality($1)",
             ENTITY(HVI_ANY_ROWS), hvi_get_read},
    .answered = hvi_get_answered,
    .refused = hvi_operation_fail,
};

const hvi_verb hvi_exists = {
    .parameters = {HVI_KEY},
    .one = {"exists", "SELECT id FROM %s.entities WHERE id OPERATOR(pg_catalog.=) $1",
            KEYS(HVI_AT_MOST_ONE_ROW, HVI_IS_INT8), hvi_get_read},
    /* As get_many. */
    .many = {"exists_many",
             "SELECT id FROM %s.entities"
             " WHERE id OPERATOR(pg_catalog.=) ANY ((SELECT $1)::bigint[])"
             " ORDER BY id LIMIT pg_catalog.cardinality($1)",
             KEYS(HVI_ANY_ROWS, HVI_IS_INT8), hvi_get_read},
    .answered = hvi_exists_answered,
    .refused = hvi_operation_fail,
};

const hvi_verb hvi_put = {
    .is_write = true,
    .parameters = {HVI_KIND, HVI_BODY},
    .one = {"put", "INSERT INTO %s.entities (type, body) VALUES ($1, $2) RETURNING id",
            KEYS(HVI_AT_MOST_ONE_ROW, HVI_IS_INT8), hvi_put_read},
    /* The keys are made first, then stored and assigned by position, so that nothing depends on an
     * order that RETURNING does not promise. The answer is two arrays: the keys that were made, and
     * those that were stored; NULL: all. */
    .many = {"put_many",
             "WITH new AS MATERIALIZED (SELECT pg_catalog.array_agg(%s.next_id()) AS ids"
             " FROM pg_catalog.generate_series(1, pg_catalog.cardinality((SELECT $1)))),"
             " stored AS (INSERT INTO %s.entities (id, type, body)"
             " SELECT id, type, body FROM new,"
             " ROWS FROM (pg_catalog.unnest(ids), " KINDS_BODIES ")"
             " AS given (id, type, body) RETURNING id)"
             " SELECT new.ids, " STORED_MADE FROM_STORED ", new",
             KEYS(HVI_ONE_ROW, HVI_IS_BYTES, HVI_IS_BYTES | HVI_OR_NULL), hvi_put_read_many},
    .answered = hvi_put_answered,
    .refused = hvi_put_refused,
};

const hvi_verb hvi_put_key = {
    .is_write = true,
    .refuses_taken_keys = true,
    .parameters = {HVI_KIND, HVI_BODY, HVI_KEY},
    .one = {"put_key",
            "INSERT INTO %s.entities (type, body, id) VALUES ($1, $2, $3)"
            " RETURNING " IF_UNDER_KEY("id"),
            KEYS(HVI_AT_MOST_ONE_ROW, HVI_IS_INT8), hvi_put_read},
    /* The answer is one array: the keys that were stored; NULL: all. */
    .many = {"put_key_many", "WITH stored AS (" INSERT_GIVEN ") SELECT " STORED_GIVEN FROM_STORED,
             KEYS(HVI_ONE_ROW, HVI_IS_BYTES | HVI_OR_NULL), hvi_put_key_read_many},
    .answered = hvi_put_key_answered,
    .refused = hvi_put_key_refused,
};

const hvi_verb hvi_put_once = {
    .is_write = true,
    .refuses_taken_keys = true,
    .repeats = true,
    .parameters = {HVI_KIND, HVI_BODY, HVI_KEY},
    .one = {"put_once",
            "INSERT INTO %s.entities (type, body, id) VALUES ($1, $2, $3)"
            " RETURNING " IF_UNDER_KEY("(SELECT %s.reserve_ids(1))"),
            KEYS(HVI_AT_MOST_ONE_ROW, HVI_IS_INT8 | HVI_OR_NULL), hvi_put_read},
    /* A row for each item that is stored: its key, the next key, and whether all are stored. */
    .many = {"put_once_many",
             "WITH stored AS (" INSERT_GIVEN "),"
             " checked AS MATERIALIZED"
             " (SELECT s.ids, " STORED_GIVEN " AS partly" FROM_STORED " WHERE s.ids IS NOT NULL)"
             " SELECT given.id, given.next, partly IS NULL FROM checked, ROWS FROM ("
             "pg_catalog.unnest(ids), %s.reserve_ids(pg_catalog.cardinality(ids)))"
             " AS given (id, next)",
             KEYS(HVI_ANY_ROWS, HVI_IS_INT8, HVI_IS_INT8 | HVI_OR_NULL, HVI_IS_BOOL),
             hvi_put_once_read_many},
    .prepare = hvi_put_once_prepare,
    .answered = hvi_put_once_answered,
    .refused = hvi_put_key_refused,
};

const hvi_verb hvi_reserve = {
    .parameters = {HVI_COUNT},
    .one = {"reserve", "SELECT %s.reserve_ids($1)", KEYS(HVI_ANY_ROWS, HVI_IS_INT8),
            hvi_reserve_read},
    .answered = hvi_reserve_answered,
    .refused = hvi_reserve_refused,
};
