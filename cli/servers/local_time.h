/*
 * local_time: what moments are in a time zone, as a server knows it.
 */
#ifndef LOCAL_TIME_H
#define LOCAL_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hypervault.h"

/*
 * Replace moments, in milliseconds since 1970, by the local times of the zone, as if these were in
 * UTC. The first server that answers is asked: this machine may know other zones, or none. False
 * after an error message.
 */
bool local_times(hv_store *store, const char *zone, int64_t *moments, size_t count);

#endif
