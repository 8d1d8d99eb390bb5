/*
 * migration_folder: what the commands about migrations have in common: their options and directory.
 */
#ifndef MIGRATION_FOLDER_H
#define MIGRATION_FOLDER_H

#include "arguments.h"
#include "rollout.h"

/* Read the options and the directory, and open the store and the migrations. The directory is the
 * configuration's unless one is given; `*migrations` is NULL if there is none and none is needed.
 * Returns an exit code; in any case, migrate_end() it. */
int migrate_begin(rollout *work, arguments *args, bool is_needed, hv_migrations **migrations);
void migrate_end(rollout *work, hv_migrations *migrations);

#endif
