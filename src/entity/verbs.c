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
#include "entity/change.h"
#include "entity/exists.h"
#include "entity/get.h"
#include "entity/locate.h"
#include "entity/put.h"
#include "entity/question.h"
#include "entity/reserve.h"

/* ---- pieces of SQL ---- */

/* Fails, so that nothing is stored. The number keeps it from being a constant, which the planner
 * would evaluate where nothing is wrong. */
#define FAIL_OVER_KEY(number) "pg_catalog.concat('" HVI_KEY_CHANGED "', ' (', " number ", ')')"

/* `what` of a row that was stored, if its key is the one that was given. */
#define IF_KEY(id, key, what)                                    \
    "CASE WHEN " id " OPERATOR(pg_catalog.=) " key " THEN " what \
    " ELSE " FAIL_OVER_KEY(id) "::bigint END"
#define IF_UNDER_KEY(what) IF_KEY("id", "$3", what)

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

/* Parameters as a table. The limit makes the planner expect a row, and read the entities by their
 * key, however large the table is later. */
#define GIVEN(arrays, with, columns)                                       \
    "(SELECT * FROM ROWS FROM (" arrays ")" with " AS given (" columns ")" \
    " LIMIT pg_catalog.cardinality((SELECT $1))) AS given"

#define INSERT_GIVEN                                                               \
    "INSERT INTO %s.entities (type, body, id) SELECT type, body, id"               \
    " FROM ROWS FROM (" KINDS_BODIES ", " GIVEN_KEYS ") AS given (type, body, id)" \
    " ON CONFLICT (id) DO NOTHING RETURNING id"

/* ---- the forms of answers ---- */

/* id, type, body; and xmin, ctid. */
#define ENTITY_COLUMNS    HVI_IS_INT8, HVI_IS_INT2 | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL
#define VERSIONED_COLUMNS ENTITY_COLUMNS, HVI_IS_BYTES, HVI_IS_BYTES
#define ENTITY(how_many, ...)                                                            \
    {                                                                                    \
        .asked = "an entity: id bigint, type smallint, body hstore", .rows = (how_many), \
        .binary = true, .columns = {                                                     \
            __VA_ARGS__                                                                  \
        }                                                                                \
    }
#define KEYS(how_many, ...)                                                             \
    {                                                                                   \
        .asked = "keys", .rows = (how_many), .binary = true, .columns = { __VA_ARGS__ } \
    }

/* ---- the verbs ---- */

#define BY_KEY " FROM %s.entities WHERE id OPERATOR(pg_catalog.=) $1"
/* The SELECT: see ELEMENTS. In a plan for any array the planner expects a tenth of the rows where
 * it does not know the limit, so that a table's growth between the first plans and that one does
 * not make it seem expensive; and with ORDER BY it reads the index. */
#define BY_KEYS                                                                     \
    " FROM %s.entities WHERE id OPERATOR(pg_catalog.=) ANY ((SELECT $1)::bigint[])" \
    " ORDER BY id LIMIT pg_catalog.cardinality($1)"

const hvi_verb hvi_get = {
    .is_settled = true,
    .parameters = {HVI_KEY},
    .one = {"get", "SELECT id, type, %b" BY_KEY, ENTITY(HVI_AT_MOST_ONE_ROW, ENTITY_COLUMNS),
            hvi_get_read},
    .many = {"get_many", "SELECT id, type, %b" BY_KEYS, ENTITY(HVI_ANY_ROWS, ENTITY_COLUMNS),
             hvi_get_read},
    .answered = hvi_get_answered,
    .refused = hvi_operation_fail,
};

/* Apart from get, as reading and sending the version takes a tenth of the time of many gets. */
const hvi_verb hvi_get_versioned = {
    .is_settled = true,
    .parameters = {HVI_KEY},
    .one = {"get_versioned", "SELECT id, type, %b, xmin, ctid" BY_KEY,
            ENTITY(HVI_AT_MOST_ONE_ROW, VERSIONED_COLUMNS), hvi_get_read},
    .many = {"get_versioned_many", "SELECT id, type, %b, xmin, ctid" BY_KEYS,
             ENTITY(HVI_ANY_ROWS, VERSIONED_COLUMNS), hvi_get_read},
    .answered = hvi_get_answered,
    .refused = hvi_operation_fail,
};

#define GIVEN_NAMES \
    GIVEN(ELEMENTS("1") ", " ELEMENTS("2"), " WITH ORDINALITY", "key, names, number")
#define SLICED(names) "%h.slice(body, %h.akeys(" names ")) AS body, xmin AS x, ctid AS c"

const hvi_verb hvi_get_only = {
    .is_settled = true,
    .parameters = {HVI_KEY, HVI_NAMES},
    .one = {"get_only",
            "SELECT id, type, %b, x, c FROM (SELECT id, type, " SLICED(
                "$2::%h.hstore") " FROM %s.entities WHERE id OPERATOR(pg_catalog.=) $1) AS e",
            ENTITY(HVI_AT_MOST_ONE_ROW, VERSIONED_COLUMNS), hvi_get_read},
    .many = {"get_only_many",
             "SELECT number, type, %b, x, c FROM (SELECT given.number, type, " SLICED(
                 "given.names") " FROM " GIVEN_NAMES
                                ", %s.entities WHERE id OPERATOR(pg_catalog.=) given.key) AS e",
             ENTITY(HVI_ANY_ROWS, VERSIONED_COLUMNS), hvi_get_only_read_many},
    .answered = hvi_get_answered,
    .refused = hvi_operation_fail,
};

const hvi_verb hvi_exists = {
    .is_settled = true,
    .parameters = {HVI_KEY},
    .one = {"exists", "SELECT id" BY_KEY, KEYS(HVI_AT_MOST_ONE_ROW, HVI_IS_INT8), hvi_get_read},
    .many = {"exists_many", "SELECT id" BY_KEYS, KEYS(HVI_ANY_ROWS, HVI_IS_INT8), hvi_get_read},
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
    .deed = "a put under the key",
    .if_unknown =
        "The entity may or may not be there: get the key, or put the same under it again.",
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

/* ---- questions ---- */

const hvi_verb hvi_question = {
    .answered = hvi_question_answered,
    .refused = hvi_operation_fail,
};

/* ---- where a shard is ---- */

#define LOCATION(how_many, ...)                                                       \
    {                                                                                 \
        .asked = "where a shard is", .rows = (how_many), .binary = true, .columns = { \
            __VA_ARGS__                                                               \
        }                                                                             \
    }

/* Text that becomes a regclass does so when the statement runs, not when it is prepared. */
const hvi_verb hvi_where = {
    .one = {"where",
            "SELECT '%s.entities'::pg_catalog.text::pg_catalog.regclass::pg_catalog.oid::bigint",
            LOCATION(HVI_ONE_ROW, HVI_IS_INT8), hvi_where_read},
    .answered = hvi_where_answered,
    .refused = hvi_where_refused,
};

const hvi_verb hvi_locate = {
    .parameters = {HVI_SHARD},
    .one = {"locate",
            "SELECT state, generation, server FROM ONLY hypervault.shard_locations"
            " WHERE shard OPERATOR(pg_catalog.=) $1",
            LOCATION(HVI_AT_MOST_ONE_ROW, HVI_IS_BYTES, HVI_IS_INT8, HVI_IS_BYTES),
            hvi_locate_read},
    .answered = hvi_locate_answered,
    .refused = hvi_locate_refused,
};

/* Not a write: it may be repeated. */
const hvi_verb hvi_publish = {
    .parameters = {HVI_SHARD, HVI_GENERATION},
    .one = {"publish", "SELECT hypervault.publish_shard($1, $2)",
            LOCATION(HVI_ONE_ROW, HVI_IS_BYTES), hvi_locate_read},
    .answered = hvi_publish_answered,
    .refused = hvi_publish_refused,
};

/* ---- changes ---- */

/* The row to be changed, e, by the key that was given, in an array, or of a row that is locked. */
#define E_IS_1     "e.id OPERATOR(pg_catalog.=) $1"
#define E_IS_GIVEN "e.id OPERATOR(pg_catalog.=) given.key"
#define E_IS_THERE "e.id OPERATOR(pg_catalog.=) there.id"
/* NULL, which a table may allow, is no attributes. */
#define E_BODY          "coalesce(e.body, '')"
#define RETURNING_1     " RETURNING " IF_KEY("e.id", "$1", "e.id") " AS id"
#define RETURNING_GIVEN " RETURNING " IF_KEY("e.id", "given.key", "e.id") " AS id"
#define RETURNING_THERE \
    " RETURNING " IF_KEY("e.id", "there.id", "e.id") " AS id, e.type, e.xmin AS x, e.ctid AS c"

#define REPLACE(kind, body) "UPDATE %s.entities AS e SET type = " kind ", body = " body
#define MERGE(set, remove)                \
    "UPDATE %s.entities AS e SET body = " \
    "%h.hs_concat(%h.delete(" E_BODY ", %h.akeys(" remove ")), " set ")"

#define ARRAYS_3 ELEMENTS("1") ", " ELEMENTS("2") ", " ELEMENTS("3")
#define ARRAYS_5 ARRAYS_3 ", " ELEMENTS("4") ", " ELEMENTS("5")
#define ARRAYS_7 ARRAYS_5 ", " ELEMENTS("6") ", " ELEMENTS("7")

/* Without a condition, for one. A row only if the entity is there: was it changed? */
#define CHANGE_ONE(change)                                   \
    "WITH done AS (" change " WHERE " E_IS_1 RETURNING_1 ")" \
    " SELECT id, true FROM done UNION ALL"                   \
    " SELECT e.id, false FROM %s.entities AS e WHERE " E_IS_1 " AND NOT EXISTS (SELECT FROM done)"

/* The same for many: the keys of those that were changed, and of those that are there; NULL: all.
 * What is there is read as get_many reads it. */
#define CHANGE_MANY(change, arrays, columns)                                            \
    "WITH stored AS (" change GIVEN(arrays, "", columns) GIVEN_STORED                   \
        ", CASE WHEN"                                                                   \
        " s.ids OPERATOR(pg_catalog.=) $1 THEN NULL ELSE ARRAY(SELECT id"               \
        " FROM %s.entities WHERE id OPERATOR(pg_catalog.=) ANY ((SELECT $1)::bigint[])" \
        " ORDER BY id LIMIT pg_catalog.cardinality($1)) END" FROM_STORED
#define GIVEN_STORED " WHERE " E_IS_GIVEN RETURNING_GIVEN ") SELECT " STORED_KEYS("$1")

/* Does the condition hold for e? */
#define HOLDS(has, lacks, kind, version)                                                \
    "coalesce(%h.hs_contains(" E_BODY ", " has ")"                                      \
    " AND NOT %h.exists_any(" E_BODY ", %h.akeys(" lacks "))"                           \
    " AND (" kind " OPERATOR(pg_catalog.=) 65536"                                       \
    " OR e.type::integer OPERATOR(pg_catalog.=) " kind ")"                              \
    " AND (" version " OPERATOR(pg_catalog.=) ''"                                       \
    " OR pg_catalog.concat(e.xmin, e.ctid) OPERATOR(pg_catalog.=) " version "), false)" \
    " AS holds"
#define HOLDS_ONE(has, lacks, kind, version)                                    \
    HOLDS("$" has "::%h.hstore", "$" lacks "::%h.hstore", "$" kind "::integer", \
          "$" version "::pg_catalog.text")
#define HOLDS_GIVEN       HOLDS("given.has", "given.lacks", "given.kind", "given.version")
#define CONDITION_COLUMNS "has, lacks, kind, version"

/* The rows are locked, so that what is found out about them is true until they are changed. */
#define LOCKED           "SELECT e.id, e.type, e.body, e.xmin AS x, e.ctid AS c, "
#define LOCKED_ONE(more) LOCKED more " FROM %s.entities AS e WHERE " E_IS_1 " FOR UPDATE"
#define LOCKED_MANY(more, arrays, columns)                                                 \
    LOCKED more " FROM %s.entities AS e, " GIVEN(arrays, "", columns) " WHERE " E_IS_GIVEN \
                                                                      " FOR UPDATE OF e"

/* The rows of the answer: those that were changed, and those for which the condition does not hold;
 * all that are there, if not as many were changed as should be; and, with NULL for whether the
 * condition holds, those that could be read but not locked, because a policy allows no UPDATE, or
 * because they have just been deleted. */
#define ANSWER(sum, why, hidden)                                                        \
    " SELECT id, type, NULL, x, c, true, true, " sum " FROM done UNION ALL"             \
    " SELECT id, type, CASE WHEN holds THEN NULL ELSE %b END, x, c, holds, false, " why \
    " FROM there WHERE NOT holds OR (SELECT pg_catalog.count(*) FROM done)"             \
    " OPERATOR(pg_catalog.<>) (SELECT pg_catalog.count(*) FROM there WHERE holds)"      \
    " UNION ALL SELECT e.id, e.type, NULL, e.xmin, e.ctid, NULL, false, NULL"           \
    " FROM %s.entities AS e WHERE " hidden
#define HIDDEN_ONE E_IS_1 " AND NOT EXISTS (SELECT FROM there)"
#define HIDDEN_MANY                                                        \
    "(SELECT pg_catalog.count(*) FROM there) OPERATOR(pg_catalog.<>)"      \
    " pg_catalog.cardinality((SELECT $1)) AND e.id OPERATOR(pg_catalog.=)" \
    " ANY ((SELECT $1)::bigint[]) AND NOT e.id OPERATOR(pg_catalog.=)"     \
    " ANY (SELECT id FROM there)"

#define CHANGE_IF(locked, change, hidden)                                       \
    "WITH there AS MATERIALIZED (" locked "),"                                  \
    " done AS (" change " WHERE " E_IS_THERE " AND there.holds" RETURNING_THERE \
    ")" ANSWER("NULL", "NULL::pg_catalog.text", hidden)

#define ONE_FORM  KEYS(HVI_AT_MOST_ONE_ROW, HVI_IS_INT8, HVI_IS_BOOL)
#define MANY_FORM KEYS(HVI_ONE_ROW, HVI_IS_BYTES | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL)
#define IF_FORM                                                                       \
    {                                                                                 \
        .asked = "what has become of entities", .rows = HVI_ANY_ROWS, .binary = true, \
        .columns = {VERSIONED_COLUMNS, HVI_IS_BOOL | HVI_OR_NULL, HVI_IS_BOOL,        \
                    HVI_IS_BYTES | HVI_OR_NULL},                                      \
    }

/* All changes have this in common. */
#define CHANGE(what)                                                         \
    .is_write = true, .is_change = true, .is_settled = true, .deed = (what), \
    .if_unknown = "It may or may not have been done: get the entity.",       \
    .answered = hvi_change_answered, .refused = hvi_change_refused

/* In the order of the keys. */
const hvi_verb hvi_lock_rows = {
    .parameters = {HVI_KEY},
    .many = {"lock_many", "SELECT id" BY_KEYS " FOR UPDATE", KEYS(HVI_ANY_ROWS, HVI_IS_INT8), NULL},
};

const hvi_verb hvi_replace = {
    .locking = &hvi_replace_if,
    CHANGE("a replacement of the entity"),
    .parameters = {HVI_KEY, HVI_KIND, HVI_BODY},
    .one = {"replace", CHANGE_ONE(REPLACE("$2", "$3")), ONE_FORM, hvi_change_read},
    .many = {"replace_many",
             CHANGE_MANY(REPLACE("given.type", "given.body") " FROM ", ARRAYS_3, "key, type, body"),
             MANY_FORM, hvi_change_read_many},
};

const hvi_verb hvi_replace_if = {
    CHANGE("a replacement of the entity"),
    .is_conditional = true,
    .parameters = {HVI_KEY, HVI_KIND, HVI_BODY, HVI_HAS, HVI_LACKS, HVI_IF_KIND, HVI_VERSION},
    .one = {"replace_if",
            CHANGE_IF(LOCKED_ONE(HOLDS_ONE("4", "5", "6", "7")), REPLACE("$2", "$3") " FROM there",
                      HIDDEN_ONE),
            IF_FORM, hvi_change_read_if},
    .many = {"replace_if_many",
             CHANGE_IF(LOCKED_MANY("given.new_type, given.new_body, " HOLDS_GIVEN, ARRAYS_7,
                                   "key, new_type, new_body, " CONDITION_COLUMNS),
                       REPLACE("there.new_type", "there.new_body") " FROM there", HIDDEN_MANY),
             IF_FORM, hvi_change_read_if},
};

const hvi_verb hvi_merge = {
    .locking = &hvi_merge_if,
    CHANGE("a merge into the entity"),
    .parameters = {HVI_KEY, HVI_BODY, HVI_REMOVE},
    .one = {"merge", CHANGE_ONE(MERGE("$2::%h.hstore", "$3::%h.hstore")), ONE_FORM,
            hvi_change_read},
    .many = {"merge_many",
             CHANGE_MANY(MERGE("given.set", "given.remove") " FROM ", ARRAYS_3, "key, set, remove"),
             MANY_FORM, hvi_change_read_many},
};

const hvi_verb hvi_merge_if = {
    CHANGE("a merge into the entity"),
    .is_conditional = true,
    .parameters = {HVI_KEY, HVI_BODY, HVI_REMOVE, HVI_HAS, HVI_LACKS, HVI_IF_KIND, HVI_VERSION},
    .one = {"merge_if",
            CHANGE_IF(LOCKED_ONE(HOLDS_ONE("4", "5", "6", "7")),
                      MERGE("$2::%h.hstore", "$3::%h.hstore") " FROM there", HIDDEN_ONE),
            IF_FORM, hvi_change_read_if},
    .many = {"merge_if_many",
             CHANGE_IF(LOCKED_MANY("given.set, given.remove, " HOLDS_GIVEN, ARRAYS_7,
                                   "key, set, remove, " CONDITION_COLUMNS),
                       MERGE("there.set", "there.remove") " FROM there", HIDDEN_MANY),
             IF_FORM, hvi_change_read_if},
};

const hvi_verb hvi_delete = {
    .locking = &hvi_delete_if,
    CHANGE("a deletion of the entity"),
    .parameters = {HVI_KEY},
    .one = {"delete", CHANGE_ONE("DELETE FROM %s.entities AS e"), ONE_FORM, hvi_change_read},
    .many = {"delete_many",
             CHANGE_MANY("DELETE FROM %s.entities AS e USING ", ELEMENTS("1"), "key"), MANY_FORM,
             hvi_change_read_many},
};

const hvi_verb hvi_delete_if = {
    CHANGE("a deletion of the entity"),
    .is_conditional = true,
    .parameters = {HVI_KEY, HVI_HAS, HVI_LACKS, HVI_IF_KIND, HVI_VERSION},
    .one = {"delete_if",
            CHANGE_IF(LOCKED_ONE(HOLDS_ONE("2", "3", "4", "5")),
                      "DELETE FROM %s.entities AS e USING there", HIDDEN_ONE),
            IF_FORM, hvi_change_read_if},
    .many = {"delete_if_many",
             CHANGE_IF(LOCKED_MANY(HOLDS_GIVEN, ARRAYS_5, "key, " CONDITION_COLUMNS),
                       "DELETE FROM %s.entities AS e USING there", HIDDEN_MANY),
             IF_FORM, hvi_change_read_if},
};

/* What counts as a number: change.c knows it, too. The sum is made of locked rows, and only where
 * there are numbers. */
#define IS_NUMBER                                                 \
    "coalesce(pg_catalog.length(old) OPERATOR(pg_catalog.<=) 100" \
    " AND old OPERATOR(pg_catalog.~) '^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)$', true)"
#define SUM                                                                \
    "(coalesce(old, '0')::numeric OPERATOR(pg_catalog.+) amount::numeric)" \
    "::pg_catalog.text"
#define SUM_FITS "pg_catalog.length(there.sum) OPERATOR(pg_catalog.<=) 100"
#define INCREMENT(locked, hidden)                                                                \
    "WITH locked AS MATERIALIZED (SELECT *, " IS_NUMBER " AS is_number FROM (" locked ") AS l)," \
    " there AS MATERIALIZED (SELECT *, CASE WHEN is_number THEN " SUM " END AS sum"              \
    " FROM locked),"                                                                             \
    " done AS (UPDATE %s.entities AS e"                                                          \
    " SET body = %h.hs_concat(" E_BODY ", %h.hstore(there.name, there.sum)) FROM there"          \
    " WHERE " E_IS_THERE " AND there.holds AND " SUM_FITS RETURNING_THERE ", there.sum)" ANSWER( \
        "sum", "CASE WHEN NOT is_number THEN old WHEN " SUM_FITS " THEN NULL ELSE sum END",      \
        hidden)

#define ADDENDS(name, amount) \
    name " AS name, " amount " AS amount, %h.fetchval(e.body, " name ") AS old, "

const hvi_verb hvi_increment = {
    CHANGE("an increment of the entity"),
    .is_conditional = true,
    .parameters = {HVI_KEY, HVI_ATTRIBUTE, HVI_AMOUNT, HVI_HAS, HVI_LACKS, HVI_IF_KIND,
                   HVI_VERSION},
    .one = {"increment",
            INCREMENT(LOCKED_ONE(ADDENDS("$2::pg_catalog.text", "$3::pg_catalog.text")
                                     HOLDS_ONE("4", "5", "6", "7")),
                      HIDDEN_ONE),
            IF_FORM, hvi_change_read_if},
    .many = {"increment_many",
             INCREMENT(LOCKED_MANY(ADDENDS("given.attribute", "given.addend") HOLDS_GIVEN, ARRAYS_7,
                                   "key, attribute, addend, " CONDITION_COLUMNS),
                       HIDDEN_MANY),
             IF_FORM, hvi_change_read_if},
};
