/*
 * hv merge: set and remove chosen attributes of entities.
 */
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "attributes.h"
#include "change.h"
#include "commands.h"
#include "condition.h"
#include "key_source.h"
#include "ui/exit.h"
#include "ui/memory.h"

enum { OPTION_REMOVE = 1 };

static const command_option options[] = {
    {"remove", 'r', "NAME", OPTION_REMOVE, "remove this attribute; may be repeated"},
    ATTRIBUTE_OPTIONS,
    CONDITION_OPTIONS,
    {NULL, 0, NULL, 0, NULL},
};

/* The names to remove, ending with NULL. */
typedef struct name_list {
    const char **names; /* owned */
    size_t count;
} name_list;

static void add_name(name_list *list, const char *name) {
    list->names = resize_memory(list->names, (list->count + 2) * sizeof *list->names);
    list->names[list->count++] = name;
    list->names[list->count] = NULL;
}

static void check(const arguments *args, const attributes *given, const name_list *removed) {
    if (hv_dict_count(given->dict) + removed->count == 0)
        usage_error(args, NULL, "there is no attribute to set or remove");
    for (size_t i = 0; i < removed->count; i++)
        if (hv_dict_get(given->dict, removed->names[i], strlen(removed->names[i]), NULL, NULL))
            usage_error(args, "Do one or the other.", "attribute \"%s\" is both set and removed",
                        removed->names[i]);
}

/* How many words stand before the first attribute. */
static int count_keys(const arguments *args) {
    int count = 0;
    while (count < args->count && strchr(args->items[count], '=') == NULL)
        count++;
    return count;
}

static int run(arguments *args) {
    attributes given;
    condition only_if;
    key_source keys;
    name_list removed = {0};
    int id;
    attributes_init(&given);
    condition_init(&only_if);
    while ((id = arguments_next(args)) != 0)
        if (id == OPTION_REMOVE)
            add_name(&removed, args->value);
        else if (!attributes_option(&given, args, id))
            condition_option(&only_if, args, id);
    arguments_expect(args, 1, -1);
    int key_count = count_keys(args);
    if (key_count == 0)
        usage_error(args, NULL, "no key was given before the attributes");
    key_source_init(&keys, args, args->items, key_count);
    attributes_words(&given, args, args->items + key_count, args->count - key_count);
    if (given.from_stdin && keys.reads_input)
        usage_error(args, NULL, "standard input is either attributes or keys");
    int code = attributes_read(&given);
    if (code == EXIT_DONE) {
        check(args, &given, &removed);
        hv_change change = {.type = HV_MERGE, .dict = given.dict, .remove = removed.names};
        code = change_entities(args, change, &keys, &only_if);
    }
    key_source_fini(&keys);
    condition_fini(&only_if);
    attributes_fini(&given);
    free(removed.names);
    return code;
}

const command command_merge = {
    .name = "merge",
    .synopsis = "KEY... [NAME=VALUE]... [--null NAME]... [--remove NAME]... [--stdin]",
    .summary = "set and remove attributes of entities",
    .help = "Attributes that are not named stay as they are, and are not sent. Every entity gets\n"
            "the same ones. NAME= is an empty value.\n"
            "\n" CHANGE_HELP "\n\n" CONDITION_HELP "\n\n" KEYS_HELP,
    .options = options,
    .examples = "hv merge 307821103844175873 caption='A boat' --remove draft\n"
                "hv merge 307821103844175873 owner=ada --if-absent owner\n"
                "hv exists - < keys | hv merge - state=done --if state=open",
    .run = run,
};
