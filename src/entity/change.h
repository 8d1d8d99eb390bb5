/*
 * change: change or delete an entity that is there, perhaps on a condition.
 */
#ifndef HVI_CHANGE_H
#define HVI_CHANGE_H

#include "value/condition.h"
#include "entity/operation.h"

/*
 * See hv_change. With `persists` a change that may be repeated is repeated until it is confirmed.
 * Errors: HV_INVALID, HV_NO_SERVER, HV_NO_MEMORY.
 */
hv_status hvi_change_init(hvi_operation *operation, hvi_router *router, const hv_change *change,
                          bool persists, hv_error **error);

/* ---- for the table ---- */

bool hvi_change_read(hvi_item *const *items, size_t count, const PGresult *result);
bool hvi_change_read_many(hvi_item *const *items, size_t count, const PGresult *result);
bool hvi_change_read_if(hvi_item *const *items, size_t count, const PGresult *result);

hvi_next hvi_change_answered(hvi_operation *operation);
hvi_next hvi_change_refused(hvi_operation *operation, hv_error **cause);

#endif
