/*
 * feed_output: where hv feed writes its lines: standard output, or a file that later runs add to.
 *
 * A file is cut to what the checkpoint covers when a later run opens it, so that after a kill no
 * line is there twice. It is recognised by its inode: another file is never cut.
 */
#ifndef FEED_OUTPUT_H
#define FEED_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "rows/text.h"

typedef struct feed_output {
    const char *path; /* NULL: standard output */
    int fd;
    row_text text;  /* lines that are to be written; owned */
    int64_t size;   /* of the file; 0: there is none */
    uint64_t inode; /* the same */
    bool is_torn;   /* an interrupt has left a part of a line at its end */
} feed_output;

/*
 * Open it. `size` and `inode` are those from the checkpoint, or 0, and `position` is the first key
 * that will be written now. False after an error message.
 */
bool feed_output_open(feed_output *output, const char *path, int64_t size, uint64_t inode,
                      int64_t position);
void feed_output_fini(feed_output *output);

/* Write the lines. False if that has failed, after an error message, or if an interrupt came while
 * nobody read them. */
bool feed_output_write(feed_output *output);

/* Make sure that what was written to a file survives a crash. False after an error message. */
bool feed_output_sync(const feed_output *output);

/* What to poll, with no events, to learn that nobody reads the output any more; -1: nothing. */
int feed_output_watched(const feed_output *output);

#endif
