/*
 * key_functions: the SQL functions that take keys apart and compose them.
 *
 * They depend on their arguments alone, so the planner may evaluate them beforehand, and an index
 * on keys serves a condition on moments.
 */
#include "postgres.h"

#include "common/int.h"
#include "fmgr.h"
#include "utils/timestamp.h"

#include "value/key.h"
#include "moment.h"

PG_FUNCTION_INFO_V1(hypervault_key_created);
PG_FUNCTION_INFO_V1(hypervault_key_shard);
PG_FUNCTION_INFO_V1(hypervault_key_added_id);
PG_FUNCTION_INFO_V1(hypervault_make_key);
PG_FUNCTION_INFO_V1(hypervault_first_key);

static hvi_key_fields fields_of(int64 key) {
    hvi_key_fields fields;
    if (!hvi_key_unpack(key, &fields))
        ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                errmsg(INT64_FORMAT " is not a key", key), errdetail("Keys are positive."));
    return fields;
}

Datum hypervault_key_shard(PG_FUNCTION_ARGS) {
    PG_RETURN_INT32(fields_of(PG_GETARG_INT64(0)).shard);
}

Datum hypervault_key_added_id(PG_FUNCTION_ARGS) {
    PG_RETURN_INT32(fields_of(PG_GETARG_INT64(0)).added_id);
}

/* Get the moment that many milliseconds after the epoch; false if PostgreSQL has no such
 * timestamp. */
static bool moment_after(int64 epoch, int64 time, TimestampTz *moment) {
    int64 milliseconds;
    return !pg_add_s64_overflow(epoch, time, &milliseconds) &&
           !pg_sub_s64_overflow(milliseconds, HVI_POSTGRES_EPOCH, &milliseconds) &&
           !pg_mul_s64_overflow(milliseconds, 1000, moment) && IS_VALID_TIMESTAMP(*moment);
}

Datum hypervault_key_created(PG_FUNCTION_ARGS) {
    hvi_key_fields fields = fields_of(PG_GETARG_INT64(0));
    int64 epoch = PG_GETARG_INT64(1);
    TimestampTz created;
    if (!moment_after(epoch, fields.time, &created))
        ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
                errmsg("timestamp out of range"),
                errdetail("The key was made " INT64_FORMAT " milliseconds after the epoch, which "
                          "here is " INT64_FORMAT ".",
                          fields.time, epoch));
    PG_RETURN_TIMESTAMPTZ(created);
}

static _Noreturn void fail_moment(TimestampTz moment, int64 epoch) {
    char *text = pstrdup(timestamptz_to_str(moment)); /* it returns the same buffer each time */
    TimestampTz first, last;
    bool known = moment_after(epoch, 0, &first) && moment_after(epoch, HVI_KEY_MAX_TIME, &last);
    char *first_text = known ? pstrdup(timestamptz_to_str(first)) : NULL;
    ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
            errmsg("timestamp \"%s\" is out of the range of keys", text),
            known ? errdetail("Keys of epoch " INT64_FORMAT " are from %s to %s.", epoch,
                              first_text, timestamptz_to_str(last))
                  : errdetail("The epoch is " INT64_FORMAT " milliseconds after 1970.", epoch));
}

Datum hypervault_make_key(PG_FUNCTION_ARGS) {
    TimestampTz created = PG_GETARG_TIMESTAMPTZ(0);
    hvi_key_fields fields = {.shard = PG_GETARG_INT32(1), .added_id = PG_GETARG_INT32(2)};
    int64 epoch = PG_GETARG_INT64(3);
    if (TIMESTAMP_NOT_FINITE(created) ||
        pg_sub_s64_overflow(hvi_moment_floor(created), epoch, &fields.time) || fields.time < 0 ||
        fields.time > HVI_KEY_MAX_TIME)
        fail_moment(created, epoch);
    if (fields.shard < 0 || fields.shard > HVI_KEY_MAX_SHARD)
        ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                errmsg("shard %d is out of range", fields.shard),
                errdetail("Shards are numbered 0 to %d.", HVI_KEY_MAX_SHARD));
    if (fields.added_id < 0 || fields.added_id > HVI_KEY_MAX_ADDED)
        ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                errmsg("added_id %d is out of range", fields.added_id),
                errdetail("It is a number from 0 to %d.", HVI_KEY_MAX_ADDED));
    int64 key;
    if (!hvi_key_pack(&fields, &key))
        ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("0 is not a key"),
                errdetail("Shard 0 has no key with added_id 0 in the epoch's first millisecond."));
    PG_RETURN_INT64(key);
}

/*
 * A key holds whole milliseconds. Rounding the moment up makes `id >= first_key(t)` the same as
 * `key_created(id) >= t`.
 */
Datum hypervault_first_key(PG_FUNCTION_ARGS) {
    TimestampTz created = PG_GETARG_TIMESTAMPTZ(0);
    int64 epoch = PG_GETARG_INT64(1);
    if (TIMESTAMP_IS_NOBEGIN(created))
        PG_RETURN_INT64(0);
    int64 moment = hvi_moment_ceiling(created);
    int64 time, bound;
    if (TIMESTAMP_IS_NOEND(created))
        fail_moment(created, epoch);
    if (moment <= epoch)
        PG_RETURN_INT64(0);
    if (pg_sub_s64_overflow(moment, epoch, &time) || !hvi_key_bound(time, &bound))
        fail_moment(created, epoch);
    PG_RETURN_INT64(bound);
}
