/*
 * get: fetch one entity.
 */
#ifndef HVI_GET_H
#define HVI_GET_H

#include "value/dict.h"
#include "entity/operation.h"

/* See hv_get(). */
hv_status hvi_get(hvi_router *router, int64_t key, int64_t deadline, hv_entity **entity,
                  hv_error **error);

/* Read an entity from a row of a result that was checked. Errors: HV_CORRUPT, HV_NO_MEMORY. */
hv_status hvi_get_take(const PGresult *result, int row, const hvi_operation *operation,
                       hv_entity **entity, hv_error **error);

#endif
