/*
 * check: compare the schemas of all shards, and group those that are alike.
 */
#ifndef HVI_CHECK_H
#define HVI_CHECK_H

#include "schema/rollout.h"

/* See hv_schema_check(). The caller has entered the store. */
hv_status hvi_schema_check(hvi_router *router, const hv_rollout *rollout, hv_schema_report **report,
                           hv_error **error);

#endif
