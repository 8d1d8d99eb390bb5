/*
 * command: everything that is known about one command and its options.
 *
 * A command is one `const command`: the dispatcher, `hv help`, the completion and the tests all
 * read the same table of them (commands.h).
 */
#ifndef COMMAND_H
#define COMMAND_H

/* An option of one command. A table of them ends with an entry whose name is NULL. */
typedef struct command_option {
    const char *name;     /* without dashes: "servers" is --servers */
    char letter;          /* 's' if it is -s too, or 0 */
    const char *argument; /* its argument's name, "N"; NULL: it takes none. FILE, DIR, USER and
                             SERVER are completed as what they are */
    int id;               /* what arguments_next() returns for it: > 0 */
    const char *help;     /* a phrase without full stop; names the default, if there is one */
    const char *values;   /* "auto strict portable": all that its argument can be; NULL: anything */
} command_option;

/* An entry in a macro of options that several commands have. */
#define COMMAND_OPTION(...) \
    { __VA_ARGS__ }

typedef struct arguments arguments;

typedef struct command {
    const char *name;     /* "put"; two words for "dev up" */
    const char *synopsis; /* what follows the name, one form a line */
    const char *summary;  /* one line without full stop: "store an entity and print its key" */
    const char *help;     /* paragraphs, lines of at most 80 characters; NULL: none */
    const command_option *options; /* NULL: only the global ones */
    const char *examples;          /* lines as one types them; NULL: none */
    /* Runs it, with the options still to be read by arguments_next(); returns an exit code. */
    int (*run)(arguments *args);
} command;

#endif
