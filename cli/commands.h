/*
 * commands: the table of commands, and the options that all of them take.
 *
 * A new command is a cmd_x.c with its `const command`, a line below and a line in the table.
 */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <stddef.h>

#include "command.h"

/* All commands, in the order in which `hv help` shows them; NULL past the last. `group` (may be
 * NULL) receives the heading that it stands under. */
const command *command_at(size_t index, const char **group);

/* The command of this name, or NULL. */
const command *command_named(const char *name);

/* Options that every command takes, before and after its name. */
enum { GLOBAL_CONFIG = 1, GLOBAL_JSON, GLOBAL_NO_COLOR, GLOBAL_HELP, GLOBAL_VERSION };
extern const command_option global_options[];

/* Each is defined in its cmd_*.c. */
extern const command command_bench;
extern const command command_completion;
extern const command command_config;
extern const command command_count;
extern const command command_delete;
extern const command command_dev_destroy;
extern const command command_dev_down;
extern const command command_dev_psql;
extern const command command_dev_status;
extern const command command_dev_up;
extern const command command_doctor;
extern const command command_export;
extern const command command_exists;
extern const command command_feed;
extern const command command_find;
extern const command command_get;
extern const command command_help;
extern const command command_import;
extern const command command_increment;
extern const command command_index_create;
extern const command command_index_drop;
extern const command command_index_list;
extern const command command_init;
extern const command command_key;
extern const command command_merge;
extern const command command_migrate;
extern const command command_migrate_plan;
extern const command command_migrate_status;
extern const command command_move;
extern const command command_plan;
extern const command command_put;
extern const command command_rebalance;
extern const command command_replace;
extern const command command_reserve;
extern const command command_schema_check;
extern const command command_sql;
extern const command command_status;

#endif
