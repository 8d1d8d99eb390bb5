/*
 * settings: what `hv move` and `hv rebalance` have in common: the options of the moves, and the
 * store that they are made in.
 */
#ifndef MOVE_SETTINGS_H
#define MOVE_SETTINGS_H

#include <stdbool.h>

#include "hypervault.h"

enum {
    MOVE_JOBS = 500,
    MOVE_KEEP_UNDO,
    MOVE_OFFLINE,
    MOVE_NO_VERIFY,
    MOVE_MAX_PAUSE,
    MOVE_MAX_OFFLINE,
    MOVE_MAX_WAIT,
    MOVE_MAX_WAL,
};

/* For the commands' tables of options; see command.h. */
#define MOVE_OPTIONS                                                                             \
    COMMAND_OPTION("jobs", 'j', "N", MOVE_JOBS, "move N shards at a time; default: 1"),          \
        COMMAND_OPTION(                                                                          \
            "keep-undo", 0, "TIME", MOVE_KEEP_UNDO,                                              \
            "keep old copies up to date for so long, for `hv move --undo`; default: 0, "         \
            "not at all"),                                                                       \
        COMMAND_OPTION("no-verify", 0, NULL, MOVE_NO_VERIFY,                                     \
                       "do not compare the copies with the originals"),                          \
        COMMAND_OPTION("max-pause", 0, "TIME", MOVE_MAX_PAUSE,                                   \
                       "how long the switch may stop a shard's callers; default: 1s"),           \
        COMMAND_OPTION(                                                                          \
            "max-wait", 0, "TIME", MOVE_MAX_WAIT,                                                \
            "wait so long in all for locks, long transactions and lost servers; default: 5min"), \
        COMMAND_OPTION("max-wal", 0, "SIZE", MOVE_MAX_WAL,                                       \
                       "give up if the source has to keep more WAL than that; default: 16GB")
#define MOVE_OFFLINE_OPTIONS                                                                   \
    COMMAND_OPTION("offline", 0, NULL, MOVE_OFFLINE,                                           \
                   "without logical replication: writers of a shard wait while it is copied"), \
        COMMAND_OPTION("max-offline", 0, "TIME", MOVE_MAX_OFFLINE,                             \
                       "with --offline: how long writers may have to wait; default: 10min")

typedef struct move_settings {
    hv_move_options *options; /* owned */
    int jobs;
    bool offline, keeps; /* the options --offline and --keep-undo were given */
} move_settings;

void move_settings_init(move_settings *settings);
void move_settings_fini(move_settings *settings);

/* Take one of the options above, but for MOVE_JOBS, which the command reads. False: it is another
 * one. A wrong value is reported, and ends the process. */
bool move_settings_take(move_settings *settings, int id, const char *value);

/* Open the store. After interrupt_catch() an interrupt ends what the library does in it. Returns an
 * exit code, after an error message unless it is EXIT_DONE. */
int move_open_store(hv_store **store);

#endif
