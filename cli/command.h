/*
 * command: the table of commands, their arguments, and the way to a store.
 *
 * A command is one `const command` with everything that is known about it: the dispatcher, `hv
 * help`, the completion and the tests all read the same table. Functions here that check what the
 * user typed end the process with EXIT_USAGE after saying what is wrong: call them before anything
 * is begun.
 */
#ifndef COMMAND_H
#define COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hypervault.h"

/* What `hv` exits with. After an interrupt it dies of the signal instead, as shells expect. */
enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
};

/* The exit code that fits a status of the library. */
int exit_code(hv_status status);

/* ---- The table ------------------------------------------------------------------------------- */

/* An option of one command. A table of them ends with an entry whose name is NULL. */
typedef struct command_option {
    const char *name;     /* without dashes: "servers" is --servers */
    char letter;          /* 's' if it is -s too, or 0 */
    const char *argument; /* its argument's name, "N"; NULL: it takes none. FILE, DIR, USER and
                             SERVER are completed as what they are */
    int id;               /* what arguments_next() returns for it: > 0 */
    const char *help;     /* a phrase without full stop; says the default, if there is one */
    const char *values;   /* "auto strict portable": all that its argument can be; NULL: anything */
} command_option;

typedef struct arguments arguments;

typedef struct command {
    const char *name;     /* "put"; two words for "dev up" */
    const char *synopsis; /* what follows the name; several forms stand on lines of their own */
    const char *summary;  /* one line without full stop: "store an entity and print its key" */
    const char *help;     /* paragraphs, lines of at most 80 characters; NULL: none */
    const command_option *options; /* NULL: only the global ones */
    const char *examples;          /* lines as one types them; NULL: none */
    /* Does it, with the options still to be read by arguments_next(); returns an exit code. */
    int (*run)(arguments *args);
} command;

/* All commands, in the order in which `hv help` shows them; NULL past the last. `group` (may be
 * NULL) receives the heading that it stands under. */
const command *command_at(size_t index, const char **group);

/* The command of this name, or NULL. */
const command *command_find(const char *name);

/* Options that every command takes, before and after its name. */
extern const command_option global_options[];

typedef struct global_values {
    const char *config; /* --config, or NULL */
    bool json;          /* --json: results on stdout and errors on stderr as JSON, one per line */
} global_values;
extern global_values globals;

/* ---- Arguments ------------------------------------------------------------------------------- */

/*
 * Options and other words may be mixed; `--` ends the options; a word like -5 is a number, not an
 * option. Global options and --help are taken care of on the way.
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
    /* From here on arguments.c's own. */
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

/* Say what is wrong with what was typed, in PostgreSQL's style, with the command's synopsis, and
 * exit with EXIT_USAGE. `hint` may be NULL. */
_Noreturn void usage_error(const arguments *args, const char *hint, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Numbers from text: all of it, decimal, within the range. `what` names the argument. */
int64_t argument_integer(const arguments *args, const char *what, const char *text, int64_t least,
                         int64_t most);
int argument_shard(const arguments *args, const char *text);   /* 0 .. 8191 */
int argument_kind(const arguments *args, const char *text);    /* -32768 .. 32767 */
int64_t argument_key(const arguments *args, const char *text); /* 1 .. 2^63-1 */

/* The nearest of some words to one that was mistyped: offer each, then read `best`. */
typedef struct nearest {
    const char *word;
    const char *best; /* NULL: none is near */
    size_t distance;
} nearest;
void nearest_offer(nearest *nearest, const char *candidate);

/* ---- The store ------------------------------------------------------------------------------- */

/*
 * Read the configuration: --config, or the file found as hv_options_load() does. On failure says
 * why, with a hint if there is none, and returns EXIT_FAILED. `found` (may be NULL) receives the
 * file's path: free() it. Set options before you open the store if the command needs others.
 */
int load_options(hv_options **options, char **found);

/* The same, and open the store. Close it with hv_close(store, 0, NULL). */
int open_store(hv_store **store);

/* ---- Output and interrupts ------------------------------------------------------------------- */

/* Print a JSON value on one line to stdout, and give up the reference to it. */
struct json_t;
void print_json(struct json_t *value);

/* Check stdout now, in a loop that prints much: false if writing to it has failed; then just
 * return, hv.c says why and exits with EXIT_FAILED. */
bool output_ok(void);

/* Flush stdout and say so if anything written to it was lost. Returns `code`, or EXIT_FAILED. */
int output_end(int code);

/*
 * Catch SIGINT and SIGTERM from now on: the first one only makes interrupted() true, so that the
 * command can finish what it is at and say how far it got; the second one kills. After run() has
 * returned, hv.c lets the process die of the signal. Without this call they kill at once, which is
 * right for every command that leaves nothing half done.
 */
void interrupt_catch(void);
bool interrupted(void);
int interrupt_signal(void); /* the signal, or 0 */

#endif
