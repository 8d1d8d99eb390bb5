/*
 * shard_row: a shard as it lies in a database, and the faults that keep it from being ready.
 *
 * hvi_layout_shards() reads the rows. Only this module decides which faults a row has, and puts
 * them into words.
 */
#ifndef HVI_SHARD_ROW_H
#define HVI_SHARD_ROW_H

#include "base/buffer.h"
#include "value/generator.h"

/* HV_NOT_INITIALIZED: the shard is not on the server that is to hold it. */
hv_status hvi_fail_not_initialized(const char *server, int shard, hv_error **error);

/* A schema that is named like a shard, and its contents. An object that is there but does not fit
 * is of another type or form than a shard's, and in the way. */
typedef struct hvi_shard_row {
    int shard;
    bool has_table;
    bool table_fits;    /* id bigint PRIMARY KEY, type smallint, body hstore; an INSERT can omit all
                           other columns */
    bool type_not_null; /* the columns are NOT NULL */
    bool body_not_null;
    bool has_default; /* of the column id */
    bool has_sequence;
    bool sequence_fits;
    hvi_generator generator;
    bool function_fits; /* next_id() returns a bigint */
    bool has_reserve_ids;
    bool has_reserved_sequence;
    bool has_extension;     /* the functions that strict keys need are in the schema hypervault */
    bool is_old;            /* an earlier version made its functions: HVI_GENERATOR_IS_OLD */
    bool is_slow;           /* it made reserve_ids(), which works: HVI_GENERATOR_IS_SLOW */
    int64_t function_epoch; /* the apparent epoch in next_id()'s source; -1: none */
    int64_t tuples;         /* the server's estimate; -1: none yet */
    int64_t bytes;          /* the table with its indexes */
    int64_t heap_bytes;     /* the table alone */
} hvi_shard_row;

/* The row of a shard, or NULL. */
const hvi_shard_row *hvi_shard_row_find(const hvi_shard_row *rows, size_t count, int shard);

/* Is everything there that makes and reserves its keys? */
static inline bool hvi_shard_row_makes_keys(const hvi_shard_row *row) {
    switch (row->generator) {
    case HVI_GENERATOR_NONE:
        return false;
    case HVI_GENERATOR_ORIGINAL:
        return true;
    default:
        return row->has_sequence && row->has_reserve_ids &&
               row->has_reserved_sequence == (row->generator == HVI_GENERATOR_PORTABLE);
    }
}

/* The faults that a row may have: bits, in the order of their words. */
typedef enum hvi_shard_fault {
    HVI_FAULT_NO_TABLE = 1 << 0,
    HVI_FAULT_TABLE_FORM = 1 << 1,    /* the table is another one, or not one at all */
    HVI_FAULT_TYPE_NULLABLE = 1 << 2, /* the columns may be NULL */
    HVI_FAULT_BODY_NULLABLE = 1 << 3,
    HVI_FAULT_NO_SEQUENCE = 1 << 4,
    HVI_FAULT_SEQUENCE_FORM = 1 << 5,
    HVI_FAULT_NO_FUNCTION = 1 << 6,
    HVI_FAULT_FUNCTION_FORM = 1 << 7,
    HVI_FAULT_NO_EXTENSION = 1 << 8, /* keys are strict, and the extension is missing */
    HVI_FAULT_EXTENSION = 1 << 9,    /* it is there, but too old, or it does not work */
    HVI_FAULT_NO_RESERVING = 1 << 10,
    HVI_FAULT_NO_DEFAULT = 1 << 11,
    HVI_FAULT_OLD_FUNCTIONS = 1 << 12,
} hvi_shard_fault;

/* All of a row's faults; 0: the shard is ready. */
unsigned hvi_shard_row_faults(const hvi_shard_row *row);

/*
 * Append the description of the faults (a sentence without its full stop, "x; y" for several) to
 * `detail`, and what to do about them to `hint`; either may be NULL. The words are the same for
 * every shard with the same faults, so that shards can be grouped by them.
 */
void hvi_shard_faults_explain(unsigned faults, hvi_buffer *detail, hvi_buffer *hint);

#endif
