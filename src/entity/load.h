/*
 * load: many entities into one server, transaction by transaction, each exactly once.
 */
#ifndef HVI_LOAD_H
#define HVI_LOAD_H

#include <stdatomic.h>

#include "value/dict.h"
#include "pool/router.h"
#include "shard/load_record.h"

/* See hv_load_open() and so on in hypervault.h. hv_load_free() takes one from *users at the end. */
hv_status hvi_load_open(hvi_router *router, hvi_server *server, const char *name, atomic_int *users,
                        hv_load **load, hv_error **error);

/* See hv_load_list(). */
hv_status hvi_load_list(hvi_router *router, hvi_server *server, const char *prefix, hv_load_fn tell,
                        void *context, hv_error **error);

#endif
