/*
 * fronts: which of many sorted sources comes next: a heap. Pure data.
 *
 * Each source has a front: the rank of its next row or, while it has none at hand, a lower bound of
 * the ranks of all rows that are still to come. So the least front of all is either the row that
 * comes next, or the source that must be looked at before another row can be returned. Fronts only
 * grow, and only that of the first source changes: this keeps the heap.
 */
#ifndef HVI_FRONTS_H
#define HVI_FRONTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded in a source. */
typedef struct hvi_front {
    int64_t rank;
    bool is_row; /* else a lower bound; of equal ranks, rows come first */
} hvi_front;

typedef struct hvi_fronts {
    hvi_front **heap; /* owned; the fronts are not */
    size_t count;
    size_t room;
} hvi_fronts;

void hvi_fronts_fini(hvi_fronts *fronts);

/* False if memory is short. */
bool hvi_fronts_add(hvi_fronts *fronts, hvi_front *front);

/* The least front, or NULL if there are no sources. */
static inline hvi_front *hvi_fronts_first(const hvi_fronts *fronts) {
    return fronts->count > 0 ? fronts->heap[0] : NULL;
}

/* The first source's front has grown. */
void hvi_fronts_update(hvi_fronts *fronts);

/* Remove the first source. */
void hvi_fronts_remove(hvi_fronts *fronts);

#endif
