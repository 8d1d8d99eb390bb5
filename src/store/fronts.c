/*
 * fronts: which of many sorted sources comes next: a binary heap.
 */
#include "store/fronts.h"

#include <stdlib.h>

void hvi_fronts_fini(hvi_fronts *fronts) {
    free(fronts->heap);
    *fronts = (hvi_fronts){0};
}

static bool precedes(const hvi_front *a, const hvi_front *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->is_row && !b->is_row;
}

bool hvi_fronts_add(hvi_fronts *fronts, hvi_front *front) {
    if (fronts->count == fronts->room) {
        size_t room = 2 * fronts->room + 8;
        hvi_front **heap = realloc(fronts->heap, room * sizeof(hvi_front *));
        if (heap == NULL)
            return false;
        fronts->heap = heap;
        fronts->room = room;
    }
    size_t at = fronts->count++;
    for (; at > 0 && precedes(front, fronts->heap[(at - 1) / 2]); at = (at - 1) / 2)
        fronts->heap[at] = fronts->heap[(at - 1) / 2];
    fronts->heap[at] = front;
    return true;
}

void hvi_fronts_update(hvi_fronts *fronts) {
    hvi_front *front = fronts->heap[0];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < fronts->count) {
        if (child + 1 < fronts->count && precedes(fronts->heap[child + 1], fronts->heap[child]))
            child++;
        if (!precedes(fronts->heap[child], front))
            break;
        fronts->heap[at] = fronts->heap[child];
        at = child;
    }
    fronts->heap[at] = front;
}

void hvi_fronts_remove(hvi_fronts *fronts) {
    fronts->heap[0] = fronts->heap[--fronts->count];
    if (fronts->count > 0)
        hvi_fronts_update(fronts);
}
