/*
 * change: run a change of entities, the same for all keys, and show what came of each.
 */
#ifndef CHANGE_H
#define CHANGE_H

#include "condition.h"
#include "hypervault.h"
#include "key_source.h"

/* What commands that change entities say about their output in their help. */
#define CHANGE_HELP                                                                                \
    "Each key is printed when its change is committed. One without an entity is reported on\n"     \
    "standard error, and the exit code is 3; the others are changed all the same. With\n"          \
    "--json there is an object on a line for each key:\n"                                          \
    "{\"id\": ..., \"status\": \"done\"}, or \"not found\", or \"changed\" with the entity as it " \
    "is\n"                                                                                         \
    "in \"present\"."

/* Make the change for all keys; its key and its condition are filled in. A version for more than
 * one key is a usage error. Opens the store, and returns an exit code. */
int change_entities(const arguments *args, hv_change change, key_source *keys,
                    const condition *only_if);

#endif
