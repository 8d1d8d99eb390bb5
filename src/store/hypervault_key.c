/*
 * hypervault_key: the public functions on keys: check the arguments, compute, explain errors.
 */
#include "hypervault.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/error.h"
#include "value/limits.h"

/* A moment in readable form. */
typedef struct moment_text {
    char text[64];
} moment_text;

static moment_text show_moment(int64_t ms) {
    time_t seconds = (time_t) (ms / 1000);
    int thousandths = (int) (ms % 1000);
    if (thousandths < 0) {
        thousandths += 1000;
        seconds--;
    }
    /* No int64_t of milliseconds is too large for either function: years have up to 9 digits. */
    struct tm utc;
    char date[32];
    moment_text shown;
    gmtime_r(&seconds, &utc);
    strftime(date, sizeof date, "%FT%T", &utc);
    snprintf(shown.text, sizeof shown.text, "%s.%03dZ", date, thousandths);
    return shown;
}

/* The error for a moment that no key of this epoch can hold. */
static hv_status fail_moment(int64_t created, int64_t epoch, hv_error **error) {
    hvi_fail(error, HV_INVALID, "no key can hold the time %s", show_moment(created).text);
    int64_t last;
    if (__builtin_add_overflow(epoch, HVI_KEY_MAX_TIME, &last))
        last = INT64_MAX;
    hvi_error_detail(error, "With the epoch %" PRId64 ", keys reach from %s to %s.", epoch,
                     show_moment(epoch).text, show_moment(last).text);
    hvi_error_hint(error, "Times are milliseconds since 1970-01-01T00:00:00Z.");
    return HV_INVALID;
}

hv_status hv_key_unpack(int64_t key, int64_t epoch, int64_t *created, int *shard, int *added_id,
                        hv_error **error) {
    hvi_key_fields fields;
    hv_status status = hvi_check_key(key, &fields, error);
    if (status != HV_OK)
        return status;
    int64_t moment;
    if (__builtin_add_overflow(epoch, fields.time, &moment)) {
        hvi_fail(error, HV_INVALID, "no key can be made with the epoch %" PRId64, epoch);
        hvi_error_hint(error, "Epochs are milliseconds since 1970-01-01T00:00:00Z.");
        return HV_INVALID;
    }
    if (created != NULL)
        *created = moment;
    if (shard != NULL)
        *shard = fields.shard;
    if (added_id != NULL)
        *added_id = fields.added_id;
    return HV_OK;
}

hv_status hv_key_pack(int64_t created, int shard, int added_id, int64_t epoch, int64_t *key,
                      hv_error **error) {
    if (shard < 0 || shard > HVI_KEY_MAX_SHARD) {
        hvi_fail(error, HV_INVALID, "shard %d is out of range", shard);
        hvi_error_detail(error, "Shards are 0 to %d.", HVI_KEY_MAX_SHARD);
        return HV_INVALID;
    }
    if (added_id < 0 || added_id > HVI_KEY_MAX_ADDED) {
        hvi_fail(error, HV_INVALID, "added_id %d is out of range", added_id);
        hvi_error_detail(error, "An added_id is 0 to %d.", HVI_KEY_MAX_ADDED);
        return HV_INVALID;
    }
    hvi_key_fields fields = {.shard = shard, .added_id = added_id};
    if (__builtin_sub_overflow(created, epoch, &fields.time) || fields.time < 0 ||
        fields.time > HVI_KEY_MAX_TIME)
        return fail_moment(created, epoch, error);
    if (!hvi_key_pack(&fields, key)) {
        hvi_fail(error, HV_INVALID, "the first key of shard 0 at the epoch would be 0");
        hvi_error_detail(error, "Keys are positive.");
        return HV_INVALID;
    }
    return HV_OK;
}

hv_status hv_key_bound(int64_t created, int64_t epoch, int64_t *bound, hv_error **error) {
    int64_t time;
    if (__builtin_sub_overflow(created, epoch, &time))
        time = created < epoch ? INT64_MIN : INT64_MAX;
    return hvi_key_bound(time, bound) ? HV_OK : fail_moment(created, epoch, error);
}
