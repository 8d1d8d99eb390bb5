/*
 * entity_sql: the statements of entities and their keys, one or many at a time.
 */
#ifndef HVI_ENTITY_SQL_H
#define HVI_ENTITY_SQL_H

#include "wire/statements.h"

#define HVI_ENTITY_SQL_LEN 900

/* The name of the primary key of the table entities. */
#define HVI_ENTITIES_KEY "entities_pkey"

/*
 * The parameters and the columns of the answer; of the …_MANY, each parameter is an array.
 *
 *     GET        $1 key                   id, type, body
 *     PUT        $1 kind, $2 body         the key; of many: the keys that were made, one array,
 *                                         and an array of those that were stored, NULL: all
 *     PUT_KEY    $1 kind, $2 body, $3 key the key; of many: those that were stored, one array,
 *                                         NULL: all
 *     PUT_ONCE   $1 kind, $2 body, $3 key the next key, reserved; of many: the key, the next key,
 *                                         and whether all are stored, for each that is
 *     RESERVE    $1 how many              reserved keys
 *
 * With `as_text`, bodies are read in hstore's text form.
 *
 * One whose key has an entity already is refused as a unique violation; of many, it is left out.
 * Where a trigger or a rule has taken the row away, a single one has no row in the answer, and of
 * many it is left out too. Where a trigger changes a key that was given, or one of many that were
 * made, so that it could not be said what was stored for which, the statement fails and nothing is
 * stored: see HVI_KEY_CHANGED.
 */
void hvi_entity_sql(hvi_statement_verb verb, const char *schema, bool as_text,
                    char sql[HVI_ENTITY_SQL_LEN]);

/* The column body to be read, in binary form or, `as_text`, in hstore's text form: see
 * hvi_session.reads_text. */
static inline const char *hvi_body_column(bool as_text) {
    return as_text ? "body::pg_catalog.text" : "body";
}

#endif
