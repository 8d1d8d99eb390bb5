/*
 * refusal: the cause of a server's refusal of a statement, where its SQLSTATE alone does not say.
 */
#ifndef HVI_REFUSAL_H
#define HVI_REFUSAL_H

#include <stdbool.h>

#include "base/error.h"

/* A statement that finds the key of a row changed raises an error with this text in it. */
#define HVI_KEY_CHANGED "hypervault: a trigger changes the key"

/* The name of the primary key of the table entities. */
#define HVI_ENTITIES_KEY "entities_pkey"

/* `message` and `function` (PG_DIAG_SOURCE_FUNCTION) may be NULL. */
hvi_refusal hvi_refusal_of(const char *sqlstate, const char *message, const char *function);

/* Was it only that the server's prepared statements, or the types in them, are not what we thought?
 * Then nothing was executed, and it is worth another try. */
bool hvi_refusal_is_stale(const hv_error *cause);

/* Does it mean that a trigger or a rule keeps rows from being stored? */
bool hvi_refusal_is_of_row(const hv_error *cause);

bool hvi_refusal_is_unique_violation(const hv_error *cause);

/* Was it the key that an entity has already, and not a value that the user wants unique? */
bool hvi_refusal_is_key_collision(const hv_error *cause);

/* Why a key of the database's making collides; another try may find a better one. */
void hvi_refusal_explain_collision(hv_error **cause);

/*
 * HV_NOT_STORED, for a row of this shard. `cause` is the refusal that says so; NULL: the statement
 * was no failure, but has not stored the row.
 */
hv_status hvi_fail_not_stored(const hv_error *cause, const char *server, int shard,
                              hv_error **error);

#endif
