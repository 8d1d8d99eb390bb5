/*
 * index_list: the indexes of the tables entities, over all shards.
 */
#ifndef HVI_INDEX_LIST_H
#define HVI_INDEX_LIST_H

#include "schema/rollout.h"

/* See hv_index_list(). The caller has entered the store. */
hv_status hvi_index_list(hvi_router *router, const hv_rollout *rollout, hv_indexes **indexes,
                         hv_error **error);

#endif
