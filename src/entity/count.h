/*
 * count: the statements that count entities, or estimate how many there are.
 *
 * Each is of a portion's shards, and returns groups and their numbers. The aggregates are inside of
 * the UNION ALL, where the server gives each worker whole shards; only by time, where a shard has
 * too many groups for that, it aggregates the union.
 */
#ifndef HVI_COUNT_H
#define HVI_COUNT_H

#include "entity/ask.h"
#include "entity/portion.h"
#include "value/selection.h"

/* What is counted, and how. It must last as long as its asks. */
typedef struct hvi_counting {
    const hv_selection *selection;
    hvi_key_range range;
    hv_count_by by;
    const char *unit; /* by time only, as the zone */
    const char *zone;
    int64_t epoch;
    bool estimate;
} hvi_counting;

/* Is this a unit of time? */
bool hvi_count_is_unit(const char *unit);

/*
 * The statement for these shards, which must last as long as the ask. A row of its answer is a
 * group and a number: the group is the kind or the moment, otherwise the shard. NULL if memory is
 * short.
 *
 * In an estimate, small tables are counted. A row whose number is NULL names a shard, which is not
 * small: with conditions, the planner has to be asked; by kind, its table has no statistics.
 */
hvi_ask *hvi_count_new(const hvi_counting *counting, hvi_portion portion);

/* Ask the planner how many entities of a shard it expects: the answer is one value for
 * hvi_count_planned(). */
hvi_ask *hvi_count_new_planned(const hvi_counting *counting, hvi_portion portion);

/* The number of rows that a plan, as EXPLAIN writes it in JSON, expects; -1: there is none. */
int64_t hvi_count_planned(const char *plan);

/* Are the conditions such that estimates have to come from the planner? */
bool hvi_count_needs_plan(const hvi_counting *counting);

#endif
