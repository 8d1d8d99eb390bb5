/*
 * entity_sql: the statements of entities and their keys, one or many at a time.
 */
#ifndef HVI_ENTITY_SQL_H
#define HVI_ENTITY_SQL_H

#include "statements.h"

#define HVI_ENTITY_SQL_LEN 400

/* The name of the primary key of the table entities. */
#define HVI_ENTITIES_KEY "entities_pkey"

/*
 * The parameters and the columns of the answer; of the …_MANY, each parameter is an array.
 *
 *     GET        $1 key                   id, type, body
 *     PUT        $1 kind, $2 body         the key that was made; of many: the keys, one array
 *     PUT_KEY    $1 kind, $2 body, $3 key nothing; of many: the key, for each that was stored
 *     PUT_ONCE   $1 kind, $2 body, $3 key the next key, reserved; of many: the key, the next key,
 *                                         for each that was stored
 *     RESERVE    $1 how many              reserved keys
 *
 * With `as_text`, bodies are read in hstore's text form.
 *
 * One whose key has an entity already is refused as a unique violation; of many, it is left out.
 */
void hvi_entity_sql(hvi_statement_verb verb, const char *schema, bool as_text,
                    char sql[HVI_ENTITY_SQL_LEN]);

/* The column body to be read, in binary form or, `as_text`, in hstore's text form: see
 * hvi_session.reads_text. */
static inline const char *hvi_body_column(bool as_text) {
    return as_text ? "body::pg_catalog.text" : "body";
}

#endif
