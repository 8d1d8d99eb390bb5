/*
 * store_tool.h: shared by the parts of store_tool.
 *
 * store_tool.c has the threads, store_tool_commands.c, store_tool_changes.c, store_tool_find.c,
 * store_tool_many.c, store_tool_selection.c, store_tool_transactions.c and store_tool_work.c the
 * commands, store_tool_hooks.c the callbacks that it gives to the store.
 */
#ifndef HV_TEST_STORE_TOOL_H
#define HV_TEST_STORE_TOOL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "hypervault.h"

/* End the program: the test is wrong. */
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

/* Interrupt the command that a thread is running: with a SIGINT, whose handler sets the thread's
 * flag, or by setting just that. */
void interrupt_thread(const char *name, bool with_signal);

/* An interrupt hook: is the flag of this thread set? */
bool is_interrupted(void *context);

/* Run a command in this thread and print its reply. */
void run_command(const char *thread, json_t *command, bool in_child);

/* Fork, with no reply half printed. */
int fork_between_lines(void);

/* ---- commands ---- */

typedef void (*command_fn)(const char *thread, json_t *command, json_t *reply);

typedef struct command_entry {
    const char *name; /* NULL ends the table */
    command_fn run;
} command_entry;

extern const command_entry commands[];

/* The store that is open. */
extern _Atomic(hv_store *) store;

/* Put the result of a call into the reply, and free the error, or keep it. */
void set_outcome(json_t *reply, hv_status status, hv_error *error);

/* From and to JSON. NULL is no dict. */
hv_dict *dict_of(json_t *object);
json_t *object_of(const hv_dict *dict);

/* Put key, kind, attributes and version of an entity into the reply; NULL sets nothing. */
void set_entity(json_t *reply, const hv_entity *entity);

/* The result of one operation among many; entity and error are freed. */
json_t *item_of(hv_status status, int64_t key, hv_entity *entity, hv_error *error);

/* Of store_tool_changes.c. */
const char **names_of(json_t *array);
hv_status change_of(json_t *operation, hv_change *change, hv_error **error);
void free_change(const hv_change *change);
void do_change_many(const char *thread, json_t *command, json_t *reply);
void do_change_stream(const char *thread, json_t *command, json_t *reply);
void do_delete(const char *thread, json_t *command, json_t *reply);
void do_get_only(const char *thread, json_t *command, json_t *reply);
void do_get_only_many(const char *thread, json_t *command, json_t *reply);
void do_increment(const char *thread, json_t *command, json_t *reply);
void do_merge(const char *thread, json_t *command, json_t *reply);
void do_replace(const char *thread, json_t *command, json_t *reply);

/* Of store_tool_selection.c: the selection of a command; NULL, with the outcome in the reply: it is
 * refused. And what is missing from an answer. */
hv_selection *selection_of(json_t *command, json_t *reply);
json_t *missing_of(const hv_error *(*at)(const void *of, size_t index), const void *of);
void do_count(const char *thread, json_t *command, json_t *reply);
void do_explain(const char *thread, json_t *command, json_t *reply);

/* Of store_tool_transactions.c. */
void do_meet(const char *thread, json_t *command, json_t *reply);
void do_transaction(const char *thread, json_t *command, json_t *reply);
void do_tx_begin(const char *thread, json_t *command, json_t *reply);
void do_tx_commit(const char *thread, json_t *command, json_t *reply);
void do_tx_connection(const char *thread, json_t *command, json_t *reply);
void do_tx_failed(const char *thread, json_t *command, json_t *reply);
void do_tx_rollback(const char *thread, json_t *command, json_t *reply);

/* The transaction of this thread; NULL: it has none. */
extern _Thread_local hv_tx *current_tx;

/* Free the error, or keep both for the function of a transaction that is running. */
void keep_outcome(hv_status status, hv_error *error);

/* Of store_tool_find.c. */
void do_find(const char *thread, json_t *command, json_t *reply);
void do_missing(const char *thread, json_t *command, json_t *reply);
void do_next(const char *thread, json_t *command, json_t *reply);
void do_reader_close(const char *thread, json_t *command, json_t *reply);
void do_reader_poll(const char *thread, json_t *command, json_t *reply);

/* Close those that are open. */
void close_readers(void);

/* Of store_tool_many.c. */
void do_exists_many(const char *thread, json_t *command, json_t *reply);
void do_exists_stream(const char *thread, json_t *command, json_t *reply);
void do_get_many(const char *thread, json_t *command, json_t *reply);
void do_put_many(const char *thread, json_t *command, json_t *reply);
void do_queue_add(const char *thread, json_t *command, json_t *reply);
void do_queue_advance(const char *thread, json_t *command, json_t *reply);
void do_queue_free(const char *thread, json_t *command, json_t *reply);
void do_queue_new(const char *thread, json_t *command, json_t *reply);
void do_queue_poll(const char *thread, json_t *command, json_t *reply);
void do_stream(const char *thread, json_t *command, json_t *reply);

/* Of store_tool_work.c: the rollout of a command; NULL, with the outcome in the reply: it is
 * refused. A summary, which is freed, and an error as JSON. */
hv_rollout *rollout_of(json_t *command, json_t *reply);
json_t *summary_of(hv_summary *summary);
json_t *error_of(const hv_error *error);
void do_each(const char *thread, json_t *command, json_t *reply);
void do_each_close(const char *thread, json_t *command, json_t *reply);
void do_each_next(const char *thread, json_t *command, json_t *reply);
void do_each_open(const char *thread, json_t *command, json_t *reply);

/* Return all loans and close the store. False if that failed. */
bool give_everything_back(void);

/* ---- hooks ---- */

void log_event(void *context, const hv_log_event *event);

/* Opens connections through libpq and counts them. */
extern const hv_connector counting_connector;
extern const hv_connector stepping_connector;

/* Are all of its connections closed? */
bool connector_is_done(void);

void do_interrupt(const char *thread, json_t *command, json_t *reply);
void do_hold(const char *thread, json_t *command, json_t *reply);
void do_connector(const char *thread, json_t *command, json_t *reply);

#endif
