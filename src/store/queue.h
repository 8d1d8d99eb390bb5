/*
 * queue: any number of operations from one thread, over all servers at once, without waiting: the
 * functions hv_queue_… of hypervault.h.
 *
 * The library has no thread for it: a queue goes on when its user waits for its descriptor and
 * advances it.
 */
#ifndef HVI_QUEUE_H
#define HVI_QUEUE_H

#include "entity/operation.h"
#include "store/store.h"

/*
 * As hv_queue_new() and hv_queue_free(), for a queue that is needed for a moment: an idle one is
 * kept in the store, so that its descriptors need not be made each time. The caller has entered the
 * store.
 */
hv_status hvi_queue_borrow(hv_store *store, hv_done_fn done, void *context, hv_queue **queue,
                           hv_error **error);
void hvi_queue_return(hv_queue *queue);

/* Free the one that the store keeps. */
void hvi_queue_free_spare(hv_store *store);

/* May operations be added? Errors: HV_INVALID, HV_CLOSED. */
hv_status hvi_queue_check(const hv_queue *queue, hv_error **error);

/* Add an operation, which the queue then owns. If it was set up with a `status` other than HV_OK,
 * it is freed and that status returned. Errors: HV_NO_MEMORY. */
hv_status hvi_queue_add(hv_queue *queue, hvi_operation *operation, hv_status status, void *tag,
                        hv_error **error);

/* The same with a deadline of its own. Checks as hvi_queue_check(), too. */
hv_status hvi_queue_add_until(hv_queue *queue, hvi_operation *operation, int64_t deadline,
                              void *tag, hv_error **error);

/* Add an operation that needs only a key. Errors: those of hvi_queue_check() and hvi_queue_add(),
 * and of hvi_operation_init_key(). */
hv_status hvi_queue_add_key(hv_queue *queue, const hvi_verb *verb, int64_t key, void *tag,
                            hv_error **error);

/* Its store. */
hv_store *hvi_queue_store(const hv_queue *queue);

/* The bytes of attributes to be stored that are pending. */
size_t hvi_queue_bytes(const hv_queue *queue);

/* Its user wants to go on at this moment, whatever is pending: then the descriptor is readable, and
 * hv_queue_advance() waits no longer. HVI_NEVER, as at first: at none. */
void hvi_queue_wake_at(hv_queue *queue, int64_t moment);

/* Give all pending operations so much more time: their user was busy elsewhere. */
void hvi_queue_postpone(hv_queue *queue, int64_t us);

/* Let the deadlines of all pending operations pass now. */
void hvi_queue_expire(hv_queue *queue);

#endif
