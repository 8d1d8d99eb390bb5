/*
 * missing: what is missing from an answer.
 */
#include "entity/missing.h"

#include <stdlib.h>
#include <string.h>

#include "base/interrupt.h"

hv_status hvi_missing_add(hvi_missing *missing, hv_error **cause, hv_error **error) {
    if (missing->count == missing->room) {
        size_t room = 2 * missing->room + 4;
        hv_error **errors = realloc(missing->errors, room * sizeof(hv_error *));
        if (errors == NULL) {
            hv_error_free(*cause);
            *cause = NULL;
            return hvi_no_memory(error);
        }
        missing->errors = errors;
        missing->room = room;
    }
    missing->errors[missing->count++] = *cause;
    *cause = NULL;
    return HV_OK;
}

void hvi_missing_name(hv_error **cause, const hvi_buffer *shards) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    const char *detail = hv_error_detail(*cause);
    if (detail != NULL)
        hvi_buffer_append_format(&text, "%s ", detail);
    if (hvi_buffer_ok(shards))
        hvi_buffer_append_format(&text, "Missing: the shards %s.", shards->data);
    if (hvi_buffer_ok(shards) && hvi_buffer_ok(&text))
        hvi_error_detail(cause, "%s", text.data);
    hvi_buffer_fini(&text);
}

const hv_error *hvi_missing_at(const hvi_missing *missing, size_t index) {
    return index < missing->count ? missing->errors[index] : NULL;
}

void hvi_missing_fini(hvi_missing *missing) {
    for (size_t i = 0; i < missing->count; i++)
        hv_error_free(missing->errors[i]);
    free(missing->errors);
    *missing = (hvi_missing){0};
}

bool hvi_missing_is_of_shard(const hv_error *cause) {
    static const char *const of_server[] = {"40", "53", "57"}; /* classes of SQLSTATEs */
    const char *sqlstate = hv_error_sqlstate(cause);
    hv_status status = hv_error_status(cause);
    if (hvi_error_refusal_of(cause) == HVI_REFUSAL_OPENING)
        return false;
    for (size_t i = 0; sqlstate != NULL && i < sizeof of_server / sizeof of_server[0]; i++)
        if (strncmp(sqlstate, of_server[i], 2) == 0)
            return false;
    return status == HV_REFUSED || status == HV_CORRUPT || status == HV_NOT_INITIALIZED;
}

bool hvi_missing_allows(hv_status status) {
    return status != HV_OK && status != HV_NO_MEMORY && status != HV_CLOSED &&
           status != HV_INVALID && !hvi_interrupted();
}
