/*
 * hv increment: add to a number that is an attribute of entities.
 */
#include "base/decimal.h"
#include "arguments.h"
#include "change.h"
#include "commands.h"
#include "condition.h"
#include "key_source.h"

enum { OPTION_BY = 1 };

static const command_option options[] = {
    {"by", 'b', "AMOUNT", OPTION_BY, "add this number, such as -0.25; default: 1"},
    CONDITION_OPTIONS,
    {NULL, 0, NULL, 0, NULL},
};

/* Check the form of the amount before anything is begun, as the library does for each key. */
static const char *argument_amount(const arguments *args, const char *text) {
    if (!hvi_is_decimal(text))
        usage_error(args, "Integers and decimal numbers can be added, such as 1 and -0.25.",
                    "AMOUNT is not a number: \"%s\"", text);
    return text;
}

static int run(arguments *args) {
    condition only_if;
    key_source keys;
    hv_change change = {.type = HV_INCREMENT, .amount = "1"};
    int id;
    condition_init(&only_if);
    while ((id = arguments_next(args)) != 0)
        if (id == OPTION_BY)
            change.amount = argument_amount(args, args->value);
        else
            condition_option(&only_if, args, id);
    arguments_expect(args, 2, -1);
    change.attribute = args->items[args->count - 1];
    key_source_init(&keys, args, args->items, args->count - 1);
    int code = change_entities(args, change, &keys, &only_if);
    key_source_fini(&keys);
    condition_fini(&only_if);
    return code;
}

const command command_increment = {
    .name = "increment",
    .synopsis = "KEY... ATTRIBUTE [--by AMOUNT] [--if NAME=VALUE]...",
    .summary = "add to a number that is an attribute, and print the sum",
    .help = "ATTRIBUTE, the last word, is an attribute that holds an integer or a decimal\n"
            "number; if it is missing or NULL it counts as 0. The sum is exact.\n"
            "\n"
            "The sum is printed when it is committed; after its key, if there is more than one.\n"
            "A key without an entity is reported on standard error, and the exit code is 3; the\n"
            "others are changed all the same. With --json there is an object on a line for each\n"
            "key: {\"id\": ..., \"status\": \"done\", \"value\": \"5\"}, or \"not found\", or "
            "\"changed\" with\n"
            "the entity as it is in \"present\".\n"
            "\n" CONDITION_HELP "\n\n" KEYS_HELP "\n"
            "\n"
            "If the outcome of an increment is unknown, look before you repeat it: it may have\n"
            "happened, unless there was an --if-version.",
    .options = options,
    .examples = "hv increment 307821103844175873 likes\n"
                "hv increment 307821103844175873 balance --by -12.50 --if-kind 2",
    .run = run,
};
