/*
 * commands: the table of commands, and the options that all of them take.
 */
#include "commands.h"

#include <string.h>

#define GROUP_ENTITIES   "Entities"
#define GROUP_SERVERS    "Servers and shards"
#define GROUP_ALL_SHARDS "Work on all shards"
#define GROUP_DEV        "Private servers, for trying and testing"
#define GROUP_ABOUT      "About"

static const struct {
    const char *group;
    const command *command;
} table[] = {
    {GROUP_ENTITIES, &command_put},
    {GROUP_ENTITIES, &command_get},
    {GROUP_ENTITIES, &command_exists},
    {GROUP_ENTITIES, &command_replace},
    {GROUP_ENTITIES, &command_merge},
    {GROUP_ENTITIES, &command_increment},
    {GROUP_ENTITIES, &command_delete},
    {GROUP_ENTITIES, &command_key},
    {GROUP_ENTITIES, &command_reserve},
    {GROUP_ENTITIES, &command_import},
    {GROUP_ENTITIES, &command_export},
    {GROUP_ENTITIES, &command_find},
    {GROUP_ENTITIES, &command_count},
    {GROUP_ENTITIES, &command_feed},
    {GROUP_SERVERS, &command_init},
    {GROUP_SERVERS, &command_status},
    {GROUP_SERVERS, &command_config},
    {GROUP_SERVERS, &command_move},
    {GROUP_SERVERS, &command_plan},
    {GROUP_SERVERS, &command_rebalance},
    {GROUP_SERVERS, &command_doctor},
    {GROUP_SERVERS, &command_bench},
    {GROUP_ALL_SHARDS, &command_index_create},
    {GROUP_ALL_SHARDS, &command_index_list},
    {GROUP_ALL_SHARDS, &command_index_drop},
    {GROUP_ALL_SHARDS, &command_migrate},
    {GROUP_ALL_SHARDS, &command_migrate_status},
    {GROUP_ALL_SHARDS, &command_migrate_plan},
    {GROUP_ALL_SHARDS, &command_schema_check},
    {GROUP_ALL_SHARDS, &command_sql},
    {GROUP_DEV, &command_dev_up},
    {GROUP_DEV, &command_dev_down},
    {GROUP_DEV, &command_dev_status},
    {GROUP_DEV, &command_dev_psql},
    {GROUP_DEV, &command_dev_destroy},
    {GROUP_ABOUT, &command_help},
    {GROUP_ABOUT, &command_completion},
};

const command *command_at(size_t index, const char **group) {
    if (index >= sizeof table / sizeof table[0])
        return NULL;
    if (group != NULL)
        *group = table[index].group;
    return table[index].command;
}

const command *command_named(const char *name) {
    const command *found;
    for (size_t i = 0; (found = command_at(i, NULL)) != NULL; i++)
        if (strcmp(found->name, name) == 0)
            return found;
    return NULL;
}

const command_option global_options[] = {
    {"config", 'c', "FILE", GLOBAL_CONFIG,
     "the configuration file; default: $HYPERVAULT_CONFIG, ./hypervault.conf and so on"},
    {"json", 0, NULL, GLOBAL_JSON, "print results and errors as JSON, one value a line"},
    {"no-color", 0, NULL, GLOBAL_NO_COLOR, "no colours on the terminal"},
    {"help", 'h', NULL, GLOBAL_HELP, "explain the command"},
    {"version", 'V', NULL, GLOBAL_VERSION, "print the version"},
    {NULL, 0, NULL, 0, NULL},
};
