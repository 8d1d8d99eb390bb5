/*
 * init: make what is missing on all servers of a store; for `hv init` and `hv dev up`.
 */
#ifndef INIT_H
#define INIT_H

#include "hypervault.h"

struct json_t;

/*
 * Shows progress and errors. With --json `*result` receives the result as a JSON array (a new
 * reference) and nothing is printed; otherwise the result is printed as a table. Returns an exit
 * code: EXIT_FAILED if any server failed; the others are made all the same.
 */
int init_servers(hv_store *store, struct json_t **result);

#endif
