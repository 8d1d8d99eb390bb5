/*
 * selection: which entities hv find, hv count and hv feed work on, as it was typed.
 *
 * Functions that find a mistake in what was typed report it and end the process with EXIT_USAGE:
 * call them before anything is begun.
 */
#ifndef SELECTION_H
#define SELECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arguments.h"
#include "attributes.h"
#include "hypervault.h"

enum {
    OPTION_SHARDS = 300,
    OPTION_KIND,
    OPTION_FROM,
    OPTION_UNTIL,
    OPTION_AFTER,
    OPTION_WHERE,
    OPTION_IS_NULL,
    OPTION_IN,
    OPTION_HAS,
    OPTION_LACKS,
    OPTION_CONTAINS,
    OPTION_ONLY,
    OPTION_LIMIT,
    OPTION_PARTIAL,
    OPTION_SKIP_SERVER,
    OPTION_TIMEOUT,
    OPTION_SELECTION_END,
};

/* For the tables of options: those of all three commands, and the others by name. */
#define SELECTION_OPTIONS                                                                        \
    COMMAND_OPTION("shards", 's', "LIST", OPTION_SHARDS,                                         \
                   "as in the configuration: 1-5,9 is 1 to 4 and 9; default: all"),              \
        COMMAND_OPTION("kind", 'k', "N", OPTION_KIND,                                            \
                       "only entities of this kind; 1,2 or repeated: of any of them"),           \
        COMMAND_OPTION("where", 'w', "NAME=VALUE", OPTION_WHERE,                                 \
                       "only if the attribute has this value; may be repeated, as those below"), \
        COMMAND_OPTION("null", 0, "NAME", OPTION_IS_NULL,                                        \
                       "only if the attribute is there and NULL"),                               \
        COMMAND_OPTION("in", 0, "NAME=VALUE,VALUE...", OPTION_IN,                                \
                       "only if the attribute has one of these values"),                         \
        COMMAND_OPTION("has", 0, "NAME", OPTION_HAS,                                             \
                       "only if the attribute is there, whatever its value"),                    \
        COMMAND_OPTION("lacks", 0, "NAME", OPTION_LACKS, "only if there is no such attribute"),  \
        COMMAND_OPTION("contains", 0, "ATTRIBUTES", OPTION_CONTAINS,                             \
                       "only with all of these, as JSON or in hstore's text form"),              \
        COMMAND_OPTION("skip-server", 0, "SERVER", OPTION_SKIP_SERVER,                           \
                       "leave out the shards of this server; may be repeated"),                  \
        COMMAND_OPTION("timeout", 0, "TIME", OPTION_TIMEOUT,                                     \
                       "for each answer of a server; 0: no limit; default: operation_timeout")

#define SELECTION_FROM                                 \
    COMMAND_OPTION("from", 0, "KEY|TIME", OPTION_FROM, \
                   "only from this key or this time on, which are included")
#define SELECTION_UNTIL                                  \
    COMMAND_OPTION("until", 0, "KEY|TIME", OPTION_UNTIL, \
                   "only up to this key or this time, which are not included")
#define SELECTION_AFTER \
    COMMAND_OPTION("after", 0, "KEY", OPTION_AFTER, "go on after this key, the last one shown")
#define SELECTION_ONLY                                   \
    COMMAND_OPTION("only", 'o', "NAME,...", OPTION_ONLY, \
                   "fetch only these attributes; may be repeated")
#define SELECTION_LIMIT COMMAND_OPTION("limit", 0, "N", OPTION_LIMIT, "end after N entities")
#define SELECTION_PARTIAL                              \
    COMMAND_OPTION("partial", 0, NULL, OPTION_PARTIAL, \
                   "go on without servers and shards that fail, and end with 1")

/* What these commands say about them in their help. */
#define SELECTION_HELP                                                                        \
    "All conditions that are given must hold. In NAME=VALUE,VALUE and NAME,NAME a comma\n"    \
    "that belongs to a value or name is written \\,. TIME is as for `hv key --at`: a date,\n" \
    "a date and time, now, or @ and milliseconds; a number alone is a key."

typedef struct selection_word {
    int id;
    const char *text; /* what was typed */
    int64_t number;   /* a kind, key, moment, limit or duration in it */
    bool is_key;      /* … a key, where it could be a moment */
} selection_word;

typedef struct selection {
    hv_selection *built; /* owned, as all here but the texts */
    selection_word *words;
    size_t word_count;
    attribute_names only;
} selection;

void selection_init(selection *chosen);
void selection_fini(selection *chosen);

/* Take the option that arguments_next() returned, if it is one of the above. */
bool selection_option(selection *chosen, const arguments *args, int id);

/* The last word that was typed for this option, or NULL. */
const selection_word *selection_find(const selection *chosen, int id);

/* All that was typed for --shards as one list, or NULL: free() it. */
char *selection_shards(const selection *chosen);

/* A selection of the same in these shards instead of those that were typed: hv_selection_free() it.
 */
hv_selection *selection_in_shards(const selection *chosen, const char *shards);

/* A number that stands for the entities that are selected: for where they begin and end, for how
 * many, and for the servers that are skipped, it is the same. */
uint64_t selection_digest(const selection *chosen);

/* Was --skip-server given for it? */
bool selection_skips(const selection *chosen, const char *server);

/* An error about the selection itself: nothing was begun. Reports it, and returns an exit code. */
int selection_refused(hv_status status, hv_error *error);

/* The next one of what is missing from an answer, hv_reader_missing() or hv_counts_missing(): it
 * was skipped on purpose, or reports a failure. Returns an exit code. */
int selection_missing(const selection *chosen, const hv_error *missing);

#endif
