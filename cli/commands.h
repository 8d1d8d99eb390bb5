/*
 * commands: every command there is, each defined in its cmd_*.c.
 */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "command.h"

extern const command command_bench;
extern const command command_completion;
extern const command command_dev_destroy;
extern const command command_dev_down;
extern const command command_dev_psql;
extern const command command_dev_status;
extern const command command_dev_up;
extern const command command_export;
extern const command command_get;
extern const command command_help;
extern const command command_import;
extern const command command_init;
extern const command command_key;
extern const command command_put;
extern const command command_reserve;
extern const command command_status;

#endif
