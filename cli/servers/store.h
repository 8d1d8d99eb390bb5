/*
 * store: from the configuration to an open store.
 */
#ifndef STORE_H
#define STORE_H

#include "hypervault.h"

/* Read this configuration file from now on (--config). The path is not copied. */
void use_config(const char *path);
const char *config_path(void); /* NULL: --config was not given */

/*
 * Read the configuration: --config, or the file found as hv_options_load() does. On failure reports
 * why, with a hint if there is none, and returns EXIT_FAILED. `found` (may be NULL) receives the
 * file's path: free() it. Set options before opening the store if the command needs others.
 */
int load_options(hv_options **options, char **found);

/* The same, and open the store. Close it with hv_close(store, 0, NULL). */
int open_store(hv_store **store);

#endif
