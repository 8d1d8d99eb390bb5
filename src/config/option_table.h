/*
 * option_table: the one table of options.
 *
 * The C interface, the configuration file, the command and Python all use it: a new option is a
 * line here and a row in docs/config.md (a test compares the two). Every value is an int64_t:
 * integers as they are, durations in milliseconds, booleans 0 or 1, choices the position of the
 * word in the range, shards how many there are (hvi_spread_read() reads which), a
 * directory whether there is one.
 */
#ifndef HVI_OPTION_TABLE_H
#define HVI_OPTION_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef enum hvi_option_id {
    HVI_POOL_MAX,
    HVI_LANES,
    HVI_POOL_BLOCK_TIMEOUT,
    HVI_OPERATION_TIMEOUT,
    HVI_EXACTLY_ONCE,
    HVI_MAX_LIFETIME,
    HVI_IDLE_TIMEOUT,
    HVI_PREPARE,
    HVI_PREPARED_MAX,
    HVI_CHECK_SERVERS,
    HVI_LOG_PARAMETERS,
    HVI_EPOCH,
    HVI_KEYS,
    HVI_SPREAD,
    HVI_MIGRATIONS,
    HVI_OPTION_COUNT
} hvi_option_id;

typedef enum hvi_option_type {
    HVI_INTEGER,
    HVI_DURATION,
    HVI_BOOLEAN,
    HVI_CHOICE,
    HVI_SHARDS,
    HVI_DIRECTORY, /* in the configuration file, relative to its folder */
} hvi_option_type;

/* The values of the option `keys`, in the order of its words. */
typedef enum hvi_keys_choice { HVI_KEYS_AUTO, HVI_KEYS_STRICT, HVI_KEYS_PORTABLE } hvi_keys_choice;

typedef struct hvi_option {
    const char *name;
    hvi_option_type type;
    const char *default_text;
    int64_t min; /* inclusive */
    int64_t max;
    const char *range; /* the same as readable text */
    const char *help;
} hvi_option;

/* By hvi_option_id. */
extern const hvi_option hvi_option_table[HVI_OPTION_COUNT];

/* The option of this name. Errors: HV_BAD_CONFIG, with the nearest name as a hint. */
hv_status hvi_option_find(const char *name, hvi_option_id *id, hv_error **error);

/* Read a value. Errors: HV_BAD_CONFIG, naming the option and its range, but not the text. */
hv_status hvi_option_parse(hvi_option_id id, const char *text, int64_t *value, hv_error **error);

/* Read a duration of `len` bytes, "1.5h", without white space around it; a number alone is seconds.
 * False if it is none. */
bool hvi_duration_read(const char *text, size_t len, int64_t *ms);

#endif
