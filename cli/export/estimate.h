/*
 * estimate: about how many entities an export will write.
 */
#ifndef EXPORT_ESTIMATE_H
#define EXPORT_ESTIMATE_H

#include <stdbool.h>

#include "hypervault.h"

/* Add the entities of the shards that are on this server. False: there is no estimate. */
bool export_estimate(hv_store *store, int server, const int *shards, int count, int64_t *total);

#endif
