/*
 * arguments: read what was typed after a command's name.
 *
 * Functions here that find a mistake in it report the mistake and end the process with EXIT_USAGE:
 * call them before anything is begun.
 */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "command.h"

/*
 * Options and other words may be mixed; `--` ends the options; a word like -5 is a number, not an
 * option. Global options and --help are handled on the way.
 *
 *     int id;
 *     while ((id = arguments_next(args)) != 0) {
 *         switch (id) {
 *         case OPTION_LIMIT: limit = argument_integer(args, "--limit", args->value, 1, 100); break;
 *         }
 *     }
 *     … args->items[0 .. args->count-1] are the other words …
 */
struct arguments {
    const command *command;
    const char *value; /* the argument of the option last returned */
    int count;         /* after the last option: the words that are no options */
    char **items;      /* … NULL-terminated, like argv */
    int before_end;    /* … how many of them stood before "--" */
    /* The rest is for arguments.c alone. */
    int argc;
    char **argv;
    int next;            /* the next word of argv to read */
    const char *cluster; /* what is left of a word like -xvf, or NULL */
    bool stop_at_word;   /* for what stands before the command's name */
    bool ended;          /* "--" was read */
};

/* Read `argv[0 .. argc-1]`, which is rearranged. `command` NULL: global options only. */
void arguments_init(arguments *args, const command *command, int argc, char **argv);

/* The next option's id, or 0 when there are no more. */
int arguments_next(arguments *args);

/* For commands without options of their own, or after the last one: check the number of words.
 * `most` -1: any number. */
void arguments_expect(arguments *args, int least, int most);

/* Report what is wrong with what was typed, in PostgreSQL's style, with the command's synopsis, and
 * exit with EXIT_USAGE. `hint` may be NULL. */
_Noreturn void usage_error(const arguments *args, const char *hint, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Numbers from text: all of it, decimal, within the range. `what` names the argument. */
int64_t argument_integer(const arguments *args, const char *what, const char *text, int64_t least,
                         int64_t most);
int argument_shard(const arguments *args, const char *text);   /* 0 .. 8191 */
int argument_kind(const arguments *args, const char *text);    /* -32768 .. 32767 */
int64_t argument_key(const arguments *args, const char *text); /* 1 .. 2^63-1 */

/* A point in time, as moment.h reads it: milliseconds since 1970. */
int64_t argument_moment(const arguments *args, const char *what, const char *text);

/* A key, which is digits only, or else a point in time. Returns whether it is a key. */
bool argument_key_or_moment(const arguments *args, const char *what, const char *text,
                            int64_t *number);

/* "30s", "500ms", "2min", up to a day; a number without a unit is seconds. Returns milliseconds. */
int64_t argument_duration(const arguments *args, const char *what, const char *text);

/* The parts of "a,b\,c": "a" and "b,c". A backslash takes the meaning of a comma or of another
 * backslash, and is itself otherwise. Free the array with free(), which frees the texts too. */
char **argument_list(const char *text, size_t *count);

#endif
