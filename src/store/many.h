/*
 * many: a queue that is filled and emptied while the caller waits, with bounded memory: hv_put_many
 * and its like in hypervault.h.
 */
#ifndef HVI_MANY_H
#define HVI_MANY_H

/* What may be pending, for each server. */
#define HVI_MANY_OPERATIONS 2048
#define HVI_MANY_BYTES      (4 << 20)

#endif
