/*
 * hv put: store one entity and print its key.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "attributes.h"
#include "commands.h"
#include "rows/key_json.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_KEY = 1 };

static const command_option options[] = {
    {"key", 'k', "KEY", OPTION_KEY, "put under this key, from hv reserve"},
    ATTRIBUTE_OPTIONS,
    {NULL, 0, NULL, 0, NULL},
};

static bool is_number(const char *word) {
    return word[0] != '\0' && word[strspn(word, "0123456789")] == '\0';
}

static void print_key(int64_t key, int64_t epoch, int kind) {
    if (!ui_is_json()) {
        printf("%" PRId64 "\n", key);
        return;
    }
    int64_t created = 0;
    int shard = 0;
    char time[UI_NUMBER_SIZE];
    hv_key_unpack(key, epoch, &created, &shard, NULL, NULL);
    print_json(json_pack("{s:o, s:s, s:i, s:i}", "id", key_json(key), "created",
                         ui_time(time, created), "shard_id", shard, "kind", kind));
}

static int run(arguments *args) {
    attributes given;
    int64_t key = 0; /* 0: the database makes one */
    int id;
    attributes_init(&given);
    while ((id = arguments_next(args)) != 0)
        if (!attributes_option(&given, args, id))
            key = argument_key(args, args->value);
    int next = 0; /* of args->items */
    arguments_expect(args, key != 0 ? 1 : 2, -1);
    if (key != 0 && args->count > 1 && is_number(args->items[1]))
        usage_error(args, "The key includes the shard: leave the shard out.",
                    "shard %s is given in addition to a key", args->items[0]);
    int shard = key != 0 ? -1 : argument_shard(args, args->items[next++]);
    int kind = argument_kind(args, args->items[next++]);
    attributes_words(&given, args, args->items + next, args->count - next);

    hv_store *store = NULL;
    int code = attributes_read(&given);
    if (code == EXIT_DONE)
        code = open_store(&store);
    if (code == EXIT_DONE) {
        hv_error *error = NULL;
        hv_status status = key != 0 ? hv_put_key(store, key, kind, given.dict, &error)
                                    : hv_put(store, shard, kind, given.dict, &key, &error);
        if (status == HV_OK)
            print_key(key, hv_epoch(store), kind);
        else
            ui_error(error);
        code = exit_code(status);
        hv_error_free(error);
    }
    hv_close(store, 0, NULL);
    attributes_fini(&given);
    return code;
}

const command command_put = {
    .name = "put",
    .synopsis = "SHARD KIND [NAME=VALUE]... [--null NAME]... [--stdin]\n"
                "--key KEY KIND [NAME=VALUE]... [--null NAME]... [--stdin]",
    .summary = "store an entity and print its key",
    .help = "SHARD is 0 to 8191, KIND a number from -32768 to 32767. NAME= is an empty value.\n"
            "The key is printed when the entity is committed.\n"
            "\n"
            "With --key the shard is the key's, and the command can be repeated: if there is\n"
            "an entity of the same kind and attributes under the key, that is a success; if\n"
            "there is a different one, nothing is changed and the exit code is 1.",
    .options = options,
    .examples = "hv put 12 1 beep=boop\n"
                "hv put 12 1 name=Ada comment= --null email\n"
                "echo '{\"beep\": \"boop\"}' | hv put 12 1 --stdin\n"
                "hv put --key $(hv reserve 12) 1 beep=boop",
    .run = run,
};
