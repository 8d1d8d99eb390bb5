/*
 * get: fetch one entity.
 */
#ifndef HVI_GET_H
#define HVI_GET_H

#include "dict.h"
#include "operation.h"

/* See hv_get(). */
hv_status hvi_get(hvi_router *router, int64_t key, int64_t deadline, hv_entity **entity,
                  hv_error **error);

#endif
