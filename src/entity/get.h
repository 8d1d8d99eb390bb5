/*
 * get: fetch one entity; and what an entity is.
 */
#ifndef HVI_GET_H
#define HVI_GET_H

#include "entity/operation.h"

/* Read the entity that the operation's item has found. Errors: HV_CORRUPT, HV_NO_MEMORY. */
hv_status hvi_get_take(const hvi_operation *operation, hv_entity **entity, hv_error **error);

/* The same, with this attribute alone in place of the body, which is not looked at. */
hv_status hvi_get_take_attribute(const hvi_operation *operation, const char *name, size_t name_len,
                                 const char *value, hv_entity **entity, hv_error **error);

/* See hv_get_only(). Errors: HV_INVALID, HV_NO_SERVER, HV_NO_MEMORY. */
hv_status hvi_get_only_init(hvi_operation *operation, hvi_router *router, int64_t key,
                            const char *const *names, hv_error **error);

/* ---- for the table ---- */

/* For any verb whose answer has a key in its first column. */
bool hvi_get_read(hvi_item *const *items, size_t count, const PGresult *result);
bool hvi_get_only_read_many(hvi_item *const *items, size_t count, const PGresult *result);
hvi_next hvi_get_answered(hvi_operation *operation);

#endif
