/*
 * suggest: the nearest known word to one that was mistyped.
 */
#ifndef HVI_SUGGEST_H
#define HVI_SUGGEST_H

#include <stddef.h>

typedef struct hvi_suggestion {
    const char *word; /* what was typed; not owned */
    const char *best; /* the nearest candidate so far, or NULL; not owned */
    size_t distance;  /* its distance */
} hvi_suggestion;

void hvi_suggestion_init(hvi_suggestion *suggestion, const char *word);

/* Offer a candidate. It is kept if it is nearer than all before and near enough to be a typing
 * error: at most a third of the longer word's length, and at least 1. No memory is allocated. */
void hvi_suggestion_offer(hvi_suggestion *suggestion, const char *candidate);

#endif
