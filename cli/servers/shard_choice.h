/*
 * shard_choice: the shards that --shards names.
 */
#ifndef SHARD_CHOICE_H
#define SHARD_CHOICE_H

#include "hypervault.h"

/* Before something is done with all shards: none may be left out because its server, one with
 * `shards = auto`, could not be asked. The error is that server's. */
hv_status know_all_shards(hv_store *store, hv_error **error);

/*
 * The shards of the store in ascending order, or those of them that `text` names, as in the
 * configuration. Returns an exit code, after an error message unless it is EXIT_DONE: EXIT_USAGE if
 * the text is wrong or a shard of it is on no server, EXIT_FAILED if there are no shards, or if
 * all are meant and a server with `shards = auto` cannot be asked.
 * `*shards`, an array of `*count`: free() it.
 */
int choose_shards(hv_store *store, const char *text, int **shards, int *count);

#endif
