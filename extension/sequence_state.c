/*
 * sequence_state: the state of a shard's key generator, kept in a sequence.
 *
 * These invariants keep a crash or a standby's promotion from giving out a value twice:
 *
 *  1. The state changes under an exclusive lock on the sequence's page, and only upwards.
 *  2. The write-ahead log has a record of this page, later than the last checkpoint's redo point,
 *     whose value is not less than any taken since: recovery sets the state to at least that.
 *     As nextval() does, we log ahead of what we take (LOOK_AHEAD), and `log_cnt` says how much
 *     of that is left, so nextval() and setval() on the same sequence keep to the rule too.
 *  3. A session trusts `log_cnt` only after it has written a record of this file itself. Before
 *     that the page may promise more than the log holds: it was copied with a database (CREATE
 *     DATABASE … STRATEGY wal_log gives the copy a new LSN and keeps `log_cnt`), or nextval() went
 *     on in it while nothing was logged. After a record of this file by any session, the page is
 *     right.
 *  4. A value is given out only when that record is on disk. The transaction that wrote it may
 *     leave that to its commit, so that a single INSERT need not wait for the disk twice, but not
 *     for values ahead of the clock: until the commit, only the clock ensures greater values after
 *     a crash.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/rmgr.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"

#include "sequence_state.h"

/* 128 ms: a record of 99 bytes eight times a second; and after a crash the keys are ahead of the
 * clock for less time than a restart takes. */
#define LOOK_AHEAD (128 << HVI_KEY_ADDED_BITS)

/* The value that PostgreSQL writes into the special area of a sequence's page. */
#define SEQUENCE_MAGIC 0x1717

/* A tuple of a sequence: header, last_value, log_cnt, is_called. */
typedef union sequence_tuple {
    HeapTupleHeaderData header;
    char bytes[64];
} sequence_tuple;

/* The sequence's page, pinned and locked, and its contents. */
typedef struct sequence_page {
    Buffer buffer;
    Page page;
    HeapTupleHeader tuple;
    Size tuple_len;
    Form_pg_sequence_data data;
} sequence_page;

static bool is_sequence_page(Page page) {
    return !PageIsNew(page) && PageGetSpecialSize(page) >= sizeof(uint32) &&
           *(uint32 *) PageGetSpecialPointer(page) == SEQUENCE_MAGIC &&
           PageGetMaxOffsetNumber(page) >= FirstOffsetNumber &&
           ItemIdIsNormal(PageGetItemId(page, FirstOffsetNumber)) &&
           ItemIdGetLength(PageGetItemId(page, FirstOffsetNumber)) <= sizeof(sequence_tuple);
}

static sequence_page lock_page(hvi_sequence *sequence) {
    Buffer buffer = hvi_sequence_pin(sequence);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    Page page = BufferGetPage(buffer);
    if (unlikely(!is_sequence_page(page))) {
        UnlockReleaseBuffer(buffer);
        ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED),
                errmsg("sequence \"%s\" is damaged", hvi_sequence_name(sequence)));
    }
    ItemId item = PageGetItemId(page, FirstOffsetNumber);
    HeapTupleHeader tuple = (HeapTupleHeader) PageGetItem(page, item);
    return (sequence_page){
        .buffer = buffer,
        .page = page,
        .tuple = tuple,
        .tuple_len = ItemIdGetLength(item),
        .data = (Form_pg_sequence_data) ((char *) tuple + tuple->t_hoff),
    };
}

/* The last value taken. */
static int64 last_value(const sequence_page *locked) {
    int64 value = locked->data->last_value;
    /* A sequence that was not called yet holds the first value to be taken. */
    return locked->data->is_called || value == PG_INT64_MIN ? value : value - 1;
}

/* Up to which value do rules 2 and 3 allow taking without a record? */
static int64 logged_value(const hvi_sequence *sequence, const sequence_page *locked) {
    const FormData_pg_sequence_data *data = locked->data;
    if (!sequence->recorded || !data->is_called || PageGetLSN(locked->page) <= GetRedoRecPtr())
        return PG_INT64_MIN;
    return data->last_value + Min(data->log_cnt, LOOK_AHEAD);
}

/* Write a record that values up to `value` are taken. */
static void log_value(hvi_sequence *sequence, const sequence_page *locked, int64 value) {
    sequence_tuple tuple;
    memcpy(&tuple, locked->tuple, locked->tuple_len);
    Form_pg_sequence_data data = (Form_pg_sequence_data) (tuple.bytes + tuple.header.t_hoff);
    data->last_value = value;
    data->is_called = true;
    data->log_cnt = 0;

    xl_seq_rec record = HVI_SEQUENCE_RECORD(sequence->file);
    XLogBeginInsert();
    XLogRegisterBuffer(0, locked->buffer, REGBUF_WILL_INIT);
    XLogRegisterData((char *) &record, sizeof record);
    XLogRegisterData(tuple.bytes, locked->tuple_len);
    XLogRecPtr end = XLogInsert(RM_SEQ_ID, XLOG_SEQ_LOG); /* PageSetLSN() may be a macro */
    PageSetLSN(locked->page, end);
    sequence->own_record = end;
    sequence->recorded = true;
}

/* Set the state; with `log`, record in the write-ahead log that values up to `logged` are taken. */
static void set_state(hvi_sequence *sequence, const sequence_page *locked, int64 value,
                      int64 logged, bool log) {
    if (log)
        GetTopTransactionId(); /* so that the commit waits for the record */

    START_CRIT_SECTION();
    MarkBufferDirty(locked->buffer); /* before the record: see the README of access/transam */
    if (log)
        log_value(sequence, locked, logged);
    locked->data->last_value = value;
    locked->data->is_called = true;
    locked->data->log_cnt = logged - value;
    END_CRIT_SECTION();
}

static _Noreturn void fail_exhausted(const hvi_sequence *sequence, int64 last) {
    ereport(ERROR, errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
            errmsg("sequence \"%s\" has no keys left", hvi_sequence_name(sequence)),
            errdetail("Its last value is " INT64_FORMAT " of at most " INT64_FORMAT ".", last,
                      HVI_SEQUENCE_MAX),
            errhint("If it was set too high by hand, set it back with setval() to a value above "
                    "those of the keys in use."));
}

int64 hvi_sequence_take(hvi_sequence *sequence, int64 now, int64 count) {
    sequence_page locked = lock_page(sequence);
    int64 last = last_value(&locked);
    if (unlikely(last > HVI_SEQUENCE_MAX - count)) {
        UnlockReleaseBuffer(locked.buffer);
        fail_exhausted(sequence, last);
    }
    int64 first = Max(Max(last + 1, now), 1); /* 0 would make the key 0, which is not a key */
    int64 end = first + count - 1;
    if (unlikely(end > HVI_SEQUENCE_MAX)) {
        UnlockReleaseBuffer(locked.buffer);
        fail_exhausted(sequence, end);
    }

    int64 logged = sequence->needs_wal ? logged_value(sequence, &locked) : end;
    bool log = end > logged;
    if (log)
        logged = Min(end + LOOK_AHEAD, HVI_SEQUENCE_MAX);
    set_state(sequence, &locked, end, logged, log);
    XLogRecPtr record = PageGetLSN(locked.page);
    UnlockReleaseBuffer(locked.buffer);

    bool ahead_of_clock = end >> HVI_KEY_ADDED_BITS > now >> HVI_KEY_ADDED_BITS;
    if (sequence->needs_wal && (ahead_of_clock || record != sequence->own_record))
        XLogFlush(record); /* returns at once if it is on disk, as it nearly always is */
    return first;
}

void hvi_sequence_advance(hvi_sequence *sequence, int64 value) {
    sequence_page locked = lock_page(sequence);
    int64 last = last_value(&locked);
    /* By rule 3 the log may lack what the page says, even if nothing is to be changed. */
    bool unsure = sequence->needs_wal && !sequence->recorded && locked.data->is_called;
    if (last < value || unsure) {
        value = Max(last, value);
        set_state(sequence, &locked, value, value, sequence->needs_wal);
    }
    XLogRecPtr record = PageGetLSN(locked.page);
    UnlockReleaseBuffer(locked.buffer);
    if (sequence->needs_wal)
        XLogFlush(record);
}
