/*
 * locate: where a shard is that is missing on the server where an operation looked for it.
 *
 * Any operation alone in its transaction may send these verbs on its way: hvi_operation_take()
 * sends the first when the shard is missing.
 */
#ifndef HVI_LOCATE_H
#define HVI_LOCATE_H

#include "entity/operation.h"

/*
 * Set up an operation that ends with HV_OK at the server that has the shard, its target's: it asks
 * the one that is believed to have it, and follows. Its key is then that server's number. Errors:
 * as hvi_operation_init().
 */
hv_status hvi_where_init(hvi_operation *operation, hvi_router *router, int shard, hv_error **error);

/* A statement that was no operation met the shard missing on `server`. Ask where it is, and wait
 * for the answer: the other server that has it, or NULL if none does, or that cannot be known now.
 */
hvi_server *hvi_where_else(hvi_router *router, int shard, const hvi_server *server);

/* ---- the functions of the rows of verbs.c ---- */

bool hvi_where_read(hvi_item *const *items, size_t count, const PGresult *result);
hvi_next hvi_where_answered(hvi_operation *operation);
hvi_next hvi_where_refused(hvi_operation *operation, hv_error **cause);

bool hvi_locate_read(hvi_item *const *items, size_t count, const PGresult *result);
hvi_next hvi_locate_answered(hvi_operation *operation);
hvi_next hvi_locate_refused(hvi_operation *operation, hv_error **cause);
hvi_next hvi_publish_answered(hvi_operation *operation);
hvi_next hvi_publish_refused(hvi_operation *operation, hv_error **cause);

#endif
