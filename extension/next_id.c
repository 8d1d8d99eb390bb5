/*
 * next_id: the SQL functions that make keys: next_id(), next_ids() and advance().
 *
 * They check their arguments, read the clock, and make keys of the values that they take from the
 * shard's sequence.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "value/key.h"
#include "moment.h"
#include "sequence_cache.h"
#include "sequence_state.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(hypervault_next_id);
PG_FUNCTION_INFO_V1(hypervault_next_ids);
PG_FUNCTION_INFO_V1(hypervault_advance);

/* next_ids() takes this many at a time: a millisecond's worth. */
#define CHUNK (1 << HVI_KEY_ADDED_BITS)

static void check_shard(int shard) {
    if (unlikely(shard < 0 || shard > HVI_KEY_MAX_SHARD))
        ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                errmsg("shard %d is out of range", shard),
                errdetail("Shards are numbered 0 to %d.", HVI_KEY_MAX_SHARD));
}

/* Open a sequence to change it, and fail where nothing may be changed. `function` is for
 * messages. */
static hvi_sequence *open_to_change(Oid relid, AclMode any_of, const char *function) {
    hvi_sequence *sequence = hvi_sequence_open(relid, any_of);
    if (XactReadOnly && !sequence->temporary) {
        PreventCommandDuringRecovery(function);
        PreventCommandIfReadOnly(function);
    }
    PreventCommandIfParallelMode(function);
    return sequence;
}

/* The first value of the present millisecond; 0 before the epoch. */
static int64 value_of_now(int64 epoch) {
    int64 now = hvi_moment_floor(GetCurrentTimestamp());
    if (unlikely(now < epoch))
        return 0;
    int64 time;
    if (unlikely(pg_sub_s64_overflow(now, epoch, &time) || time > HVI_KEY_MAX_TIME))
        ereport(ERROR, errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
                errmsg("the keys of epoch " INT64_FORMAT " are used up", epoch),
                errdetail("A key holds up to " INT64_FORMAT " milliseconds since the epoch.",
                          HVI_KEY_MAX_TIME),
                errhint("Check the server's clock and the epoch, which is in milliseconds since "
                        "1970."));
    return time << HVI_KEY_ADDED_BITS;
}

static int64 key_of(int64 value, int shard) {
    hvi_key_fields fields = {
        .time = value >> HVI_KEY_ADDED_BITS,
        .shard = shard,
        .added_id = (int) (value & HVI_KEY_MAX_ADDED),
    };
    int64 key;
    if (!hvi_key_pack(&fields, &key))
        elog(ERROR, "no key can be made of " INT64_FORMAT, value);
    return key;
}

Datum hypervault_next_id(PG_FUNCTION_ARGS) {
    Oid relid = PG_GETARG_OID(0);
    int shard = PG_GETARG_INT32(1);
    int64 epoch = PG_GETARG_INT64(2);
    check_shard(shard);
    hvi_sequence *sequence = open_to_change(relid, ACL_USAGE | ACL_UPDATE, "hypervault.next_id()");
    PG_RETURN_INT64(key_of(hvi_sequence_take(sequence, value_of_now(epoch), 1), shard));
}

/* The keys that next_ids() has taken and not yet returned: `next` up to but not including `end`. */
typedef struct taken_values {
    int64 next;
    int64 end;
} taken_values;

Datum hypervault_next_ids(PG_FUNCTION_ARGS) {
    Oid relid = PG_GETARG_OID(0);
    int shard = PG_GETARG_INT32(1);
    int count = PG_GETARG_INT32(2);
    int64 epoch = PG_GETARG_INT64(3);

    if (SRF_IS_FIRSTCALL()) {
        check_shard(shard);
        if (count < 0)
            ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("count %d is negative", count));
        FuncCallContext *call = SRF_FIRSTCALL_INIT();
        call->max_calls = (uint64) count;
        call->user_fctx = MemoryContextAllocZero(call->multi_call_memory_ctx, sizeof(taken_values));
    }
    FuncCallContext *call = SRF_PERCALL_SETUP();
    if (call->call_cntr == call->max_calls)
        SRF_RETURN_DONE(call);
    taken_values *taken = call->user_fctx;
    if (taken->next == taken->end) {
        int64 chunk = (int64) Min(call->max_calls - call->call_cntr, CHUNK);
        hvi_sequence *sequence =
            open_to_change(relid, ACL_USAGE | ACL_UPDATE, "hypervault.next_ids()");
        taken->next = hvi_sequence_take(sequence, value_of_now(epoch), chunk);
        taken->end = taken->next + chunk;
    }
    SRF_RETURN_NEXT(call, Int64GetDatum(key_of(taken->next++, shard)));
}

/* Past all keys of that millisecond, since those of higher shards are greater than the key. */
Datum hypervault_advance(PG_FUNCTION_ARGS) {
    Oid relid = PG_GETARG_OID(0);
    int64 key = PG_GETARG_INT64(1);
    hvi_key_fields fields;
    if (!hvi_key_unpack(key, &fields))
        ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                errmsg(INT64_FORMAT " is not a key", key), errdetail("Keys are positive."));
    hvi_sequence *sequence = open_to_change(relid, ACL_UPDATE, "hypervault.advance()");
    if (fields.time == HVI_KEY_MAX_TIME)
        ereport(ERROR, errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
                errmsg("there are no keys after " INT64_FORMAT, key));
    hvi_sequence_advance(sequence, fields.time << HVI_KEY_ADDED_BITS | HVI_KEY_MAX_ADDED);
    PG_RETURN_VOID();
}
