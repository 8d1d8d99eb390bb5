/*
 * condition: what must hold of an entity for a change to be made; the public hv_condition_*
 * functions.
 */
#ifndef HVI_CONDITION_H
#define HVI_CONDITION_H

#include "value/dict.h"
#include "value/version.h"

/* A kind that no entity has: any will do. */
#define HVI_ANY_KIND (1 << 16)

struct hv_condition {
    hv_dict *has;   /* attributes and their values; owned */
    hv_dict *lacks; /* names, with NULL as the value; owned */
    int kind;       /* or HVI_ANY_KIND */
    bool has_version;
    hvi_version version;
};

#endif
