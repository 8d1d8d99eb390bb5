/*
 * store_tool.h: what the parts of store_tool share.
 *
 * store_tool.c has the threads, store_tool_commands.c what they can do, store_tool_hooks.c the
 * callbacks that it gives to the store.
 */
#ifndef HV_TEST_STORE_TOOL_H
#define HV_TEST_STORE_TOOL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "hypervault.h"

/* Ends the program: the test is wrong. */
_Noreturn void die(const char *what);

/* Print a line; takes the object over. */
void say(json_t *object);

/* A member of a command; NULL or `otherwise` if it is not there. */
const char *text_of(json_t *command, const char *name);
int64_t number_of(json_t *command, const char *name, int64_t otherwise);

/* Set a member of a reply; a NULL text sets nothing. */
void set_text(json_t *object, const char *name, const char *text);
void set_number(json_t *object, const char *name, int64_t number);

/* The name of the thread that is running. */
extern _Thread_local const char *current_thread;

/* Run a command in this thread and say its reply. */
void run_command(const char *thread, json_t *command, bool in_child);

/* Fork with nothing half said. */
int fork_between_lines(void);

/* ---- commands ---- */

typedef void (*command_fn)(const char *thread, json_t *command, json_t *reply);

typedef struct command_entry {
    const char *name; /* NULL ends the table */
    command_fn run;
} command_entry;

extern const command_entry commands[];

/* Return what is lent and close the store. False if that did not go well. */
bool give_everything_back(void);

/* ---- hooks ---- */

void log_event(void *context, const hv_log_event *event);

/* Opens connections through libpq and counts them. */
extern const hv_connector counting_connector;

/* Are all of its connections closed? */
bool connector_is_done(void);

void do_hold(const char *thread, json_t *command, json_t *reply);
void do_connector(const char *thread, json_t *command, json_t *reply);

#endif
