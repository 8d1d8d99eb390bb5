/*
 * checkpoint: the file in which hv feed keeps how far it has come.
 *
 * It is one JSON object, with a check over all of it. It is replaced as a whole: a new file is
 * written beside it, as NAME.new, brought to disk and renamed. So whatever happens, there is either
 * the old one or the new one.
 *
 *     {"hypervault_feed": 1, "position": "307821103844175874", "epoch": 1379365531352,
 *      "databases": ["7450123456789012345/16384"], "selection": "00c0ffee00c0ffee",
 *      "output": {"size": 1234, "inode": "00000000002a1b3c"},
 *      "skipped": {"two": "307821103844175000"}, "written": "2026-11-22T14:00:00.000Z",
 *      "check": "9e3779b97f4a7c15"}
 */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A server that was skipped. */
typedef struct checkpoint_skip {
    char *server;
    int64_t from; /* its entities from this key on may be missing from the feed */
} checkpoint_skip;

typedef struct checkpoint {
    int64_t position; /* everything below this key was written */
    int64_t epoch;
    char **databases; /* see servers/identity.h; owned, with their texts, as all here */
    size_t database_count;
    uint64_t selection;  /* selection_digest() */
    int64_t output_size; /* of the file that was written; 0: there is none */
    uint64_t output_inode;
    checkpoint_skip *skips;
    size_t skip_count;
} checkpoint;

void checkpoint_fini(checkpoint *made);

/* The text is copied. */
void checkpoint_add_database(checkpoint *made, const char *database);
void checkpoint_add_skip(checkpoint *made, const char *server, int64_t from);

typedef enum checkpoint_found {
    CHECKPOINT_READ,     /* checkpoint_fini() it */
    CHECKPOINT_NONE,     /* there is no such file */
    CHECKPOINT_UNUSABLE, /* *why is the reason, for a message */
} checkpoint_found;

checkpoint_found checkpoint_read(const char *path, checkpoint *found, const char **why);

/* Replace the file, or make it. False: the old one is as it was, and *why is the reason. */
bool checkpoint_write(const char *path, const checkpoint *made, const char **why);

#endif
