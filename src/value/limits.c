/*
 * limits: the ranges of keys and kinds, and the errors for values outside of them.
 */
#include "value/limits.h"

#include <inttypes.h>

#include "base/error.h"

hv_status hvi_check_key(int64_t key, hvi_key_fields *fields, hv_error **error) {
    if (hvi_key_unpack(key, fields))
        return HV_OK;
    hvi_fail(error, HV_INVALID, "%" PRId64 " is not a key", key);
    hvi_error_detail(error, "Keys are positive.");
    return HV_INVALID;
}

hv_status hvi_check_kind(int kind, hv_error **error) {
    if (kind >= INT16_MIN && kind <= INT16_MAX)
        return HV_OK;
    return hvi_fail(error, HV_INVALID, "kind %d is out of range: %d to %d", kind, INT16_MIN,
                    INT16_MAX);
}
