/*
 * selection: which entities are meant, in which order and how many; the public hv_selection_*
 * functions.
 *
 * What is here knows no store: that a shard or a server does not exist is found where the selection
 * is used.
 */
#ifndef HVI_SELECTION_H
#define HVI_SELECTION_H

#include <stdint.h>

#include "value/dict.h"

/* An attribute that is to have one of these values. */
typedef struct hvi_choice {
    hv_dict *name;   /* its only key; owned */
    hv_dict *values; /* its keys are the values other than NULL; owned */
    bool or_null;    /* or NULL: the attribute is there, without a value */
} hvi_choice;

struct hv_selection {
    bool has_shards; /* only those of which a bit is set; else all */
    uint64_t shards[HV_SHARDS / 64];
    hv_dict *skip;  /* names of servers; owned, as all dicts here */
    int16_t *kinds; /* in ascending order; none: all; owned */
    size_t kind_count;
    int64_t from, until; /* keys, the second exclusive; 0: no bound */
    bool has_since, has_before;
    int64_t since, before; /* moments */
    int64_t after;         /* the key to go on after; 0: none */
    hvi_choice *choices;   /* each with a name of its own; owned */
    size_t choice_count;
    hv_dict *exists; /* names, with NULL as the values, as the next */
    hv_dict *lacks;
    hv_dict *has;
    bool newest;
    int64_t limit;   /* 0: none */
    hv_dict *only;   /* names; NULL: all attributes */
    int64_t timeout; /* 0: operation_timeout; -1: none */
    bool partial;
};

/* As many attributes may be named in conditions; each is a parameter or a part of the statement. */
#define HVI_SELECTION_ATTRIBUTES_MAX 1000

/* A copy, owned by the caller; NULL if memory is short. `selection` NULL: an empty one. */
hv_selection *hvi_selection_copy(const hv_selection *selection);

/* Is the shard one of those that were asked for? That of a skipped server may be. */
bool hvi_selection_has_shard(const hv_selection *selection, int shard);

/* Are there conditions on attributes? */
bool hvi_selection_has_attributes(const hv_selection *selection);

/* The keys from `first` to `last`, both included; none if `first` is greater. */
typedef struct hvi_key_range {
    int64_t first;
    int64_t last;
} hvi_key_range;

static inline bool hvi_key_range_is_empty(hvi_key_range range) {
    return range.first > range.last;
}

/* The keys that the selection's bounds, its `after` included, allow in a store of this epoch.
 * Errors: HV_INVALID for a lower bound above the upper one, or a moment after the last that a key
 * can hold. */
hv_status hvi_selection_bounds(const hv_selection *selection, int64_t epoch, hvi_key_range *range,
                               hv_error **error);

/* The attribute of a choice, NUL-terminated. */
const char *hvi_choice_name(const hvi_choice *choice, size_t *len);

#endif
