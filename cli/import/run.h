/*
 * run: one import, from its input to its outcome.
 */
#ifndef IMPORT_RUN_H
#define IMPORT_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "rows/reader.h"

/* What the user asked for. The texts are not owned. */
typedef struct import_request {
    const char *path;
    const row_format *format; /* NULL: it is detected */
    bool has_kind;
    int kind;
    int shard;      /* -1: not given */
    const char *by; /* NULL: not given */
    const char *rejects;
    int64_t jobs;      /* connections to each server */
    int64_t retry_for; /* ms */
    bool exported;
    bool resume;
    bool again;    /* even if it was imported before */
    int64_t skip;  /* rows */
    int64_t limit; /* the same */
} import_request;

/* Import, with progress and a report. Returns the command's exit code. */
int import_run(const import_request *request);

#endif
