/*
 * help: what `hv help` prints, made from the tables of commands and options.
 */
#ifndef HELP_H
#define HELP_H

#include "command.h"

/* Each prints to standard output and returns an exit code. */
int help_overview(void);
int help_command(const command *of);
int help_version(void);
/* The options of the configuration file. */
int help_options(void);
/* The commands that begin with this word: "dev". EXIT_USAGE if there are none. */
int help_group(const char *word);

#endif
