/*
 * key_source: the keys that a command works on: words of the command line, and the lines of
 * standard input in place of the word "-".
 *
 * Words are checked before anything is begun; lines are read as they are needed, so there may be
 * any number of them.
 */
#ifndef KEY_SOURCE_H
#define KEY_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arguments.h"
#include "rows/reader.h"

/* How many keys a command works on at once. */
#define KEYS_AT_ONCE 1000

/* What the commands that take such keys say about it in their help. */
#define KEYS_HELP                                                                            \
    "In place of a key, - stands for those on standard input, one on each line: a number,\n" \
    "or an object whose member \"id\" is the key, as hv export writes them."

typedef struct key_source {
    char *const *words; /* not owned */
    int count;
    int next;
    bool is_many;       /* more than one key, or there may be */
    bool reads_input;   /* one of the words is "-" */
    row_reader *reader; /* of standard input; NULL: there is nothing to read now */
} key_source;

/* `words` must outlive the source. One that is no key is a usage error, and so is a second "-". */
void key_source_init(key_source *keys, const arguments *args, char *const *words, int count);
void key_source_fini(key_source *keys);

/* Take the next keys, at most KEYS_AT_ONCE; returns how many, 0 at the end, or when interrupted()
 * is true. A line that is no key is reported and passed over, and input that is something else is
 * reported and ends the source: then *code becomes EXIT_FAILED. */
size_t key_source_take(key_source *keys, int64_t list[KEYS_AT_ONCE], int *code);

#endif
