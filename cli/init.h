/*
 * init: make what is missing on all servers of a store; for `hv init` and `hv dev up`.
 */
#ifndef INIT_H
#define INIT_H

#include "hypervault.h"

struct json_t;

/* The numbers of servers that are left out if they cannot be reached. */
typedef struct init_without {
    const int *servers;
    size_t count;
} init_without;

/*
 * Asks all servers, then makes what is missing. Makes nothing if one of them holds a shard of
 * another or cannot be asked. `without` may be NULL. Shows progress and errors. With --json
 * `*result` receives the result as a JSON array (a new reference) and nothing is printed; otherwise
 * the result is printed as a table. `*created` (may be NULL) receives how many shards were made.
 * Returns an exit code: EXIT_FAILED if any server failed. Once it has begun, a failure on one
 * server does not stop the others.
 */
int init_servers(hv_store *store, const init_without *without, struct json_t **result,
                 int *created);

#endif
