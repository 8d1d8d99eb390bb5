/*
 * rollout: how work on many shards proceeds, from the keyword arguments that its methods share, and
 * what their observer and their caller learn of each shard.
 */
#ifndef HVPY_ROLLOUT_H
#define HVPY_ROLLOUT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>

#include "store.h"

/* The names of the arguments, in their order; each_shard() has three more. */
#define HVPY_ROLLOUT                                                                          \
    "shards", "skip", "parallel", "parallel_total", "canary", "max_failures", "lock_timeout", \
        "max_wait", "timeout", "observer"
#define HVPY_ROLLOUT_COUNT      10
#define HVPY_ROLLOUT_EACH       HVPY_ROLLOUT, "per_server", "write", "once"
#define HVPY_ROLLOUT_EACH_COUNT (HVPY_ROLLOUT_COUNT + 3)

/* The same for the signatures of methods. */
#define HVPY_ROLLOUT_DOC                                                                      \
    "shards=None, skip=None, parallel=None, parallel_total=32, canary=True, max_failures=0, " \
    "lock_timeout=0.1, max_wait=None, timeout=None, observer=None"
#define HVPY_ROLLOUT_EACH_DOC HVPY_ROLLOUT_DOC ", per_server=False, write=False, once=None"

/* The observer's context. */
typedef struct hvpy_watch {
    hvpy_store *store;
    PyObject *observer; /* NULL: none, or no more; a borrowed reference */
} hvpy_watch;

/*
 * Make a rollout of the first `count` of these arguments; NULL and None mean that one was not
 * given. It belongs to the caller. The watch is filled from the store and the arguments, and must
 * live as long as work with the rollout. Returns NULL with an exception.
 */
hv_rollout *hvpy_rollout_from(hvpy_store *store, PyObject *const *found, int count,
                              hvpy_watch *watch);

/* For the next ones, the store must be in use. */

/* The name of a server. */
PyObject *hvpy_server_name(const hvpy_store *store, int server);

/* A shard; None for -1. */
PyObject *hvpy_shard_number(int shard);

/* An error as an exception with its server and shard, whether it names them or not; None for
 * NULL. */
PyObject *hvpy_shard_error(const hvpy_store *store, int server, int shard, const hv_error *error);

/* What has become of each shard: a Summary; None for NULL. */
PyObject *hvpy_summary_of(const hvpy_store *store, const hv_summary *summary);

int hvpy_rollout_init(void);

#endif
