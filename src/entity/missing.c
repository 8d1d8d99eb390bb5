/*
 * missing: what is missing from an answer.
 */
#include "entity/missing.h"

#include <stdlib.h>

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

const hv_error *hvi_missing_at(const hvi_missing *missing, size_t index) {
    return index < missing->count ? missing->errors[index] : NULL;
}

void hvi_missing_fini(hvi_missing *missing) {
    for (size_t i = 0; i < missing->count; i++)
        hv_error_free(missing->errors[i]);
    free(missing->errors);
    *missing = (hvi_missing){0};
}

bool hvi_missing_allows(hv_status status) {
    return status != HV_OK && status != HV_NO_MEMORY && status != HV_CLOSED &&
           status != HV_INVALID && !hvi_interrupted();
}
