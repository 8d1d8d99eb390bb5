/*
 * condition: under which condition a command changes an entity, as it was typed.
 */
#ifndef CONDITION_H
#define CONDITION_H

#include <stdbool.h>
#include <stddef.h>

#include "arguments.h"
#include "hypervault.h"

enum {
    OPTION_IF = 200,
    OPTION_IF_NULL,
    OPTION_IF_ABSENT,
    OPTION_IF_KIND,
    OPTION_IF_VERSION,
};

/* For the table of options of each command that changes entities. */
#define CONDITION_OPTIONS                                                                     \
    COMMAND_OPTION("if", 0, "NAME=VALUE", OPTION_IF, "only if the attribute has this value"), \
        COMMAND_OPTION("if-null", 0, "NAME", OPTION_IF_NULL,                                  \
                       "only if the attribute is there and NULL"),                            \
        COMMAND_OPTION("if-absent", 0, "NAME", OPTION_IF_ABSENT,                              \
                       "only if there is no such attribute"),                                 \
        COMMAND_OPTION("if-kind", 0, "KIND", OPTION_IF_KIND,                                  \
                       "only if the entity is of this kind"),                                 \
        COMMAND_OPTION("if-version", 0, "VERSION", OPTION_IF_VERSION,                         \
                       "only if this, from hv get, is still the version")

/* What these commands say about them in their help. */
#define CONDITION_HELP                                                                       \
    "With --if and its relatives, which may be repeated, an entity is changed only if all\n" \
    "of them hold at that moment. If not, it stays as it is, and the exit code is 4."

typedef struct condition {
    hv_condition *built; /* NULL: it always holds; owned, as all here but the texts */
    hv_dict *has;
    const char **lacks;
    size_t lacks_count;
    const char *kind; /* NULL: any */
    const char *version;
} condition;

void condition_init(condition *only_if);
void condition_fini(condition *only_if);

/* Take the option that arguments_next() returned, if it is one of CONDITION_OPTIONS. One that
 * contradicts the others is a usage error. */
bool condition_option(condition *only_if, const arguments *args, int id);

/* How the entity differs from the condition, in sentences: free() it. NULL if it does not. */
char *condition_difference(const condition *only_if, const hv_entity *present);

#endif
