/*
 * plan: what EXPLAIN says about reading a page of one shard, in a few lines, and what will be slow.
 */
#ifndef HVI_PLAN_H
#define HVI_PLAN_H

#include "base/buffer.h"
#include "entity/page.h"

/* What is known from the server's lines so far. Starts as HVI_PLAN_EMPTY. */
typedef struct hvi_plan {
    hvi_buffer text;  /* without costs, and without the nodes that every page has; owned */
    bool reads_table; /* from beginning to end */
    int64_t sorted;   /* how many entities it expects to sort; 0: none */
    int64_t found;    /* if it walks along the keys and looks at each entity: how many of them it
                         expects to meet the conditions; -1: it does not */
    size_t margin;    /* private, as the rest: the column at which the first node begins */
    bool is_begun;    /* that node has been seen */
    int64_t walks;    /* in the lines of a node that may turn out to walk: its rows; -1: not */
} hvi_plan;

#define HVI_PLAN_EMPTY \
    { .text = HVI_BUFFER_EMPTY, .found = -1, .walks = -1 }

void hvi_plan_fini(hvi_plan *plan);

/* Read the next line of EXPLAIN's text, with costs. Check hvi_buffer_ok() of the text at the end.
 */
void hvi_plan_add(hvi_plan *plan, const char *line);

/* Append a sentence about what will be slow in a table of about `total` entities, of which `limit`
 * are wanted (0: all); nothing if nothing will. */
void hvi_plan_warn(const hvi_plan *plan, int64_t total, int64_t limit, hvi_buffer *warning);

/* A question for the plan of a page of a single shard: each row of its answer is a line. The page's
 * selection must last as long. NULL if memory is short. */
hvi_ask *hvi_plan_ask(const hvi_page *page);

#endif
