/*
 * rollout: what the commands have in common that do something on all shards: their options, what
 * they show meanwhile, and at the end what has become of each shard, and the exit code.
 *
 * rollout_option() and rollout_open() find mistakes in what was typed, report them and end the
 * process with EXIT_USAGE, or return an exit code: nothing is begun before.
 */
#ifndef ROLLOUT_H
#define ROLLOUT_H

#include "arguments.h"
#include "hypervault.h"
#include "rollout_watch.h"

struct json_t;

enum {
    ROLLOUT_SHARDS = 400,
    ROLLOUT_SKIP_SERVER,
    ROLLOUT_PARALLEL,
    ROLLOUT_PARALLEL_TOTAL,
    ROLLOUT_TIMEOUT,
    ROLLOUT_NO_CANARY,
    ROLLOUT_MAX_FAILURES,
    ROLLOUT_LOCK_TIMEOUT,
    ROLLOUT_MAX_WAIT,
    ROLLOUT_END,
};

/* For the tables of options: those of every such command, and those of commands that change
 * something. `parallel` and `max_wait` are the defaults. */
#define ROLLOUT_OPTIONS(parallel)                                                             \
    COMMAND_OPTION("shards", 's', "LIST", ROLLOUT_SHARDS,                                     \
                   "as in the configuration: 1-5,9 is 1 to 4 and 9; default: all"),           \
        COMMAND_OPTION("skip-server", 0, "SERVER", ROLLOUT_SKIP_SERVER,                       \
                       "leave out the shards of this server; may be repeated"),               \
        COMMAND_OPTION("parallel", 0, "N", ROLLOUT_PARALLEL,                                  \
                       "at most so many shards of a server at once; default: " parallel),     \
        COMMAND_OPTION("parallel-total", 0, "N", ROLLOUT_PARALLEL_TOTAL,                      \
                       "at most so many shards altogether at once; default: 32"),             \
        COMMAND_OPTION("timeout", 0, "TIME", ROLLOUT_TIMEOUT,                                 \
                       "how long one statement may run, after it has its locks; default: 0, " \
                       "no limit")
#define ROLLOUT_CHANGE_OPTIONS(max_wait)                                                        \
    COMMAND_OPTION("no-canary", 0, NULL, ROLLOUT_NO_CANARY,                                     \
                   "begin with several shards at once, not with a single one"),                 \
        COMMAND_OPTION("max-failures", 0, "N", ROLLOUT_MAX_FAILURES,                            \
                       "begin nothing more when more shards than this have failed; all: go on " \
                       "in any case; default: 0"),                                              \
        COMMAND_OPTION(                                                                         \
            "lock-timeout", 0, "TIME", ROLLOUT_LOCK_TIMEOUT,                                    \
            "how long a statement waits for a lock before it gives way and tries again "        \
            "later; default: 100ms"),                                                           \
        COMMAND_OPTION("max-wait", 0, "TIME", ROLLOUT_MAX_WAIT,                                 \
                       "how long one shard may wait altogether, or forever; default: " max_wait)

/* What these commands say of it in their help. */
#define ROLLOUT_HELP                                                                           \
    "One shard, the canary, goes first; then some of each server go at a time. A statement\n"  \
    "that does not get its locks within --lock-timeout gives way to the others and is tried\n" \
    "again after a pause, up to --max-wait. The exit code is 0 if all shards are done or\n"    \
    "had nothing to do, 5 if some are, and 1 if none is. What is done is not done again by\n"  \
    "the next run, whatever ended this one."

typedef struct rollout {
    hv_rollout *settings; /* owned, as all here */
    rollout_scope scope;
    int parallel; /* 0: the default */
    hv_store *store;
    char *migrations;     /* the option of the configuration; NULL: it is not set */
    rollout_watch *watch; /* while it is under way */
    void (*wait)(void *context);
    void *context; /* of wait() */
} rollout;

void rollout_init(rollout *work);
void rollout_fini(rollout *work);

/* Take the option that arguments_next() returned, if it is one of the above. */
bool rollout_option(rollout *work, const arguments *args, int id);

/* Set one of the library's options; a wrong value ends the process. */
void rollout_set(rollout *work, const char *name, const char *value);

/* Open the store of the configuration, whose operations Ctrl-C interrupts. `wait` (may be NULL) is
 * called while it waits, too. Returns an exit code. */
int rollout_open(rollout *work, void (*wait)(void *context), void *context);

/* Show progress from now on, until one of the functions below. */
void rollout_begin(rollout *work);

/* It is over. */
void rollout_over(rollout *work);

/*
 * It is over, with this status. Shows what has become of the shards: a table and the failures, or
 * with --json an object, to which `more` (may be NULL; the reference is taken) is added. Takes the
 * summary and the error. Returns an exit code.
 */
int rollout_end(rollout *work, hv_status status, hv_summary *summary, hv_error *error,
                struct json_t *more);

/* The same without the table, where results were printed; the failures are errors on stderr, also
 * with --json. The summary stays the caller's. */
int rollout_end_answers(rollout *work, hv_status status, const hv_summary *summary,
                        hv_error *error);

/* An error about the whole of it: nothing was begun. Reports it, and returns an exit code. */
int rollout_refused(rollout *work, hv_status status, hv_error *error);

#endif
