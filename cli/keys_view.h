/*
 * keys_view: which generators make the keys of a server's shards, in words and as JSON.
 */
#ifndef KEYS_VIEW_H
#define KEYS_VIEW_H

#include "hypervault.h"

struct json_t;

/* "strict", "portable", "original" or "none". */
const char *keys_name(hv_keys keys);

/* The number of a server's shards by generator. All zero: none. */
typedef struct keys_count {
    int of[HV_KEYS_STRICT + 1]; /* by hv_keys */
} keys_count;

/* Count those shards of a report that the configuration gives to the server. */
keys_count keys_count_report(const hv_report *report);

/* For a cell: "strict", or "4 original, 12 strict"; "-" if there is no shard. free() it. */
char *keys_count_text(const keys_count *count);

/* {"strict": 12, "portable": 0, "original": 4}; a new reference. */
struct json_t *keys_count_json(const keys_count *count);

#endif
