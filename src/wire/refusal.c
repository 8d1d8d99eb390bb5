/*
 * refusal: the cause of a server's refusal of a statement.
 *
 * Texts are compared only where PostgreSQL does not translate them: those of its internal errors
 * (XX000), and our own.
 */
#include "wire/refusal.h"

#include <string.h>

#include "value/shard_map.h"

static bool begins_with(const char *text, const char *beginning) {
    return text != NULL && strncmp(text, beginning, strlen(beginning)) == 0;
}

hvi_refusal hvi_refusal_of(const char *sqlstate, const char *message, const char *function) {
    if (sqlstate == NULL)
        return HVI_REFUSAL_OTHER;
    if (strcmp(sqlstate, "0A000") == 0) {
        if (function == NULL || strcmp(function, "RevalidateCachedQuery") == 0)
            return HVI_REFUSAL_RESULT; /* cached plan must not change result type */
        return strcmp(function, "RewriteQuery") == 0 ? HVI_REFUSAL_RULE : HVI_REFUSAL_OTHER;
    }
    if (strcmp(sqlstate, "XX000") == 0)
        return begins_with(message, "cache lookup failed for ") ||
                       begins_with(message, "could not open relation with OID ")
                   ? HVI_REFUSAL_TYPES
                   : HVI_REFUSAL_OTHER;
    if (strcmp(sqlstate, "22P02") == 0 && message != NULL &&
        strstr(message, HVI_KEY_CHANGED) != NULL)
        return HVI_REFUSAL_KEY;
    bool is_missing = strcmp(sqlstate, "26000") == 0, is_there = strcmp(sqlstate, "42P05") == 0;
    return is_missing || is_there ? HVI_REFUSAL_STATEMENTS : HVI_REFUSAL_OTHER;
}

bool hvi_refusal_is_stale(const hv_error *cause) {
    hvi_refusal refusal = hvi_error_refusal_of(cause);
    return refusal == HVI_REFUSAL_STATEMENTS || refusal == HVI_REFUSAL_RESULT ||
           refusal == HVI_REFUSAL_TYPES;
}

bool hvi_refusal_is_of_row(const hv_error *cause) {
    hvi_refusal refusal = hvi_error_refusal_of(cause);
    return refusal == HVI_REFUSAL_RULE || refusal == HVI_REFUSAL_KEY;
}

bool hvi_refusal_is_unique_violation(const hv_error *cause) {
    return hvi_error_has_sqlstate(cause, "23505");
}

bool hvi_refusal_is_key_collision(const hv_error *cause) {
    const char *constraint = hv_error_constraint(cause);
    return hvi_refusal_is_unique_violation(cause) && constraint != NULL &&
           strcmp(constraint, HVI_ENTITIES_KEY) == 0;
}

void hvi_refusal_explain_collision(hv_error **cause) {
    hvi_error_hint(cause, "The shard makes keys that it has made before: its server's clock may "
                          "have been set back. Strict keys do not depend on it.");
    hvi_error_retriable(cause, true);
}

hv_status hvi_fail_not_stored(const hv_error *cause, const char *server, int shard,
                              hv_error **error) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    switch (hvi_error_refusal_of(cause)) {
    case HVI_REFUSAL_RULE:
        hvi_fail(error, HV_NOT_STORED, "a rule on %s.entities keeps rows from being stored",
                 schema);
        hvi_error_detail(error, "The server said: %s", hv_error_message(cause));
        break;
    case HVI_REFUSAL_KEY:
        hvi_fail(error, HV_NOT_STORED, "a trigger on %s.entities changes the key", schema);
        hvi_error_detail(error, "The row must be stored under the key that was given for it, so "
                                "nothing was stored.");
        break;
    default:
        hvi_fail(error, HV_NOT_STORED, "%s.entities did not store the row", schema);
        hvi_error_detail(error, "The server reported success, but stored nothing: probably a "
                                "trigger, or a rule, took the row away.");
    }
    hvi_error_hint(error, "Type \\d %s.entities in psql to see the table's triggers and rules.",
                   schema);
    if (cause != NULL)
        hvi_error_sqlstate(error, hv_error_sqlstate(cause));
    hvi_error_where(error, server, shard);
    return HV_NOT_STORED;
}
