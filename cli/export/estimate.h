/*
 * export_estimate: about how many entities there are to be written.
 */
#ifndef EXPORT_ESTIMATE_H
#define EXPORT_ESTIMATE_H

#include <stdbool.h>

#include "hypervault.h"

/* Add the entities of those of the shards that are on this server. False: it could not be told. */
bool export_estimate(hv_store *store, int server, const int *shards, int count, int64_t *total);

#endif
