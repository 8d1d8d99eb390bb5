/*
 * attributes: the attributes of an entity, as they are typed or given on standard input.
 *
 * For every command that stores attributes: they have the same options, and values in JSON become
 * the same text as those of `hv import`.
 */
#ifndef ATTRIBUTES_H
#define ATTRIBUTES_H

#include <stdbool.h>

#include "arguments.h"
#include "hypervault.h"

enum { OPTION_NULL = 100, OPTION_STDIN };

/* For a command's table of options. */
#define ATTRIBUTE_OPTIONS                                                \
    COMMAND_OPTION("null", 'n', "NAME", OPTION_NULL,                     \
                   "an attribute whose value is NULL; may be repeated"), \
        COMMAND_OPTION("stdin", 0, NULL, OPTION_STDIN,                   \
                       "read attributes from standard input: one JSON object")

typedef struct attributes {
    hv_dict *dict; /* owned */
    bool from_stdin;
} attributes;

void attributes_init(attributes *given);
void attributes_fini(attributes *given);

/* Take the option that arguments_next() returned, if it is one of ATTRIBUTE_OPTIONS. */
bool attributes_option(attributes *given, const arguments *args, int id);

/* Take words NAME=VALUE. */
void attributes_words(attributes *given, const arguments *args, char *const *words, int count);

/* After all of these: read standard input if that was asked for. Returns an exit code, after an
 * error message. */
int attributes_read(attributes *given);

/* Names of attributes, of --only. */
typedef struct attribute_names {
    char **of; /* owned, with the texts; ended by NULL. NULL: the option was not given */
    size_t count;
} attribute_names;

void attribute_names_fini(attribute_names *names);

/* Add those of a list, NAME,NAME. An empty one adds none: alone it means no attributes at all. */
void attribute_names_add(attribute_names *names, const char *list);

#endif
