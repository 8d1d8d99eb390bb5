/*
 * hv replace: replace the kind and all attributes of an entity.
 */
#include "arguments.h"
#include "attributes.h"
#include "change.h"
#include "commands.h"
#include "condition.h"
#include "key_source.h"
#include "ui/exit.h"

static const command_option options[] = {
    ATTRIBUTE_OPTIONS,
    CONDITION_OPTIONS,
    {NULL, 0, NULL, 0, NULL},
};

static int run(arguments *args) {
    attributes given;
    condition only_if;
    key_source keys;
    int id;
    attributes_init(&given);
    condition_init(&only_if);
    while ((id = arguments_next(args)) != 0)
        if (!attributes_option(&given, args, id))
            condition_option(&only_if, args, id);
    arguments_expect(args, 2, -1);
    argument_key(args, args->items[0]);
    key_source_init(&keys, args, args->items, 1);
    hv_change change = {.type = HV_REPLACE, .kind = argument_kind(args, args->items[1])};
    attributes_words(&given, args, args->items + 2, args->count - 2);
    int code = attributes_read(&given);
    change.dict = given.dict;
    if (code == EXIT_DONE)
        code = change_entities(args, change, &keys, &only_if);
    key_source_fini(&keys);
    condition_fini(&only_if);
    attributes_fini(&given);
    return code;
}

const command command_replace = {
    .name = "replace",
    .synopsis = "KEY KIND [NAME=VALUE]... [--null NAME]... [--stdin]",
    .summary = "replace the kind and all attributes of an entity",
    .help = "The entity must be there: nothing is made. Its key is printed when the change is\n"
            "committed; if it is missing, the exit code is 3. With --json there is an object:\n"
            "{\"id\": ..., \"status\": \"done\"}, or \"not found\", or \"changed\" with the entity "
            "as it is\n"
            "in \"present\". NAME= is an empty value.\n"
            "\n" CONDITION_HELP,
    .options = options,
    .examples = "hv replace 307821103844175873 1 name=Ada comment=\n"
                "hv replace 307821103844175873 1 name=Ada --if-kind 1 --if name=ada",
    .run = run,
};
