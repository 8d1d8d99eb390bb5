/*
 * move_options: the struct hv_move_options, and what can be asked of a move.
 */
#ifndef HVI_MOVE_OPTIONS_H
#define HVI_MOVE_OPTIONS_H

#include "hypervault.h"

/* What is asked of it; a copy is in each move. All as hv_move_options_set() describes. */
struct hv_move_options {
    int64_t keep_undo; /* ms; 0: none */
    bool offline;
    bool verify;
    int64_t max_pause;   /* ms */
    int64_t max_offline; /* ms */
    int64_t max_wait;    /* ms */
    int64_t max_wal;     /* bytes */
};

/* The options as they are without any being set. */
void hvi_move_options_init(struct hv_move_options *options);

/* What is begun. */
typedef enum hvi_move_order {
    HVI_ORDER_MOVE,   /* a new move, or the same one once more: then it is resumed */
    HVI_ORDER_RESUME, /* go on with what the journal has */
    HVI_ORDER_ABORT,  /* take it back, or if it is switched, bring it to its end */
    HVI_ORDER_UNDO,   /* of a kept one: the way back */
    HVI_ORDER_CLEAN,  /* of a kept one: drop the old copy */
} hvi_move_order;

#endif
