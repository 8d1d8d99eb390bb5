/*
 * hv delete: delete entities.
 */
#include "arguments.h"
#include "change.h"
#include "commands.h"
#include "condition.h"
#include "key_source.h"

static const command_option options[] = {
    CONDITION_OPTIONS,
    {NULL, 0, NULL, 0, NULL},
};

static int run(arguments *args) {
    condition only_if;
    key_source keys;
    int id;
    condition_init(&only_if);
    while ((id = arguments_next(args)) != 0)
        condition_option(&only_if, args, id);
    arguments_expect(args, 1, -1);
    key_source_init(&keys, args, args->items, args->count);
    int code = change_entities(args, (hv_change){.type = HV_DELETE}, &keys, &only_if);
    key_source_fini(&keys);
    condition_fini(&only_if);
    return code;
}

const command command_delete = {
    .name = "delete",
    .synopsis = "KEY... [--if NAME=VALUE]...",
    .summary = "delete entities",
    .help = CHANGE_HELP "\n\n" CONDITION_HELP "\n\n" KEYS_HELP,
    .options = options,
    .examples = "hv delete 307821103844175873\n"
                "hv delete 307821103844175873 --if-kind 1 --if state=old\n"
                "hv export - --kind 7 | hv delete -",
    .run = run,
};
