/*
 * suggest: the known word that is nearest to a mistyped one.
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

/* Offer a candidate. It is kept if it is nearer than all before and near enough for a typing error:
 * at a distance of at most a third of the longer word's length, or 1. Allocates no memory. */
void hvi_suggestion_offer(hvi_suggestion *suggestion, const char *candidate);

#endif
