/*
 * hv get: fetch entities by their keys.
 */
#include <stdio.h>
#include <stdlib.h>

#include "arguments.h"
#include "attributes.h"
#include "commands.h"
#include "entity_view.h"
#include "key_source.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_ONLY = 1 };

static const command_option options[] = {
    {"only", 'o', "NAME,...", OPTION_ONLY, "fetch only these attributes; may be repeated"},
    {NULL, 0, NULL, 0, NULL},
};

typedef struct fetching {
    hv_store *store;
    attribute_names only;
    bool any_shown;
    /* Of those that are fetched at once. */
    int64_t keys[KEYS_AT_ONCE];
    hv_entity *entities[KEYS_AT_ONCE];
    hv_status statuses[KEYS_AT_ONCE];
    hv_error *errors[KEYS_AT_ONCE];
} fetching;

static void show_entity(fetching *run, const hv_entity *entity) {
    int64_t epoch = hv_epoch(run->store);
    if (ui_is_json()) {
        print_json(entity_json(entity, epoch));
        return;
    }
    int shard = 0;
    hv_key_unpack(hv_entity_key(entity), epoch, NULL, &shard, NULL, NULL);
    if (run->any_shown)
        putchar('\n');
    entity_print(entity, epoch, hv_server_name(run->store, hv_shard_server(run->store, shard)));
    run->any_shown = true;
}

/* Fetch those in run->keys; each is shown whatever became of the others. */
static int fetch(fetching *run, size_t count) {
    int code = EXIT_DONE;
    hv_get_only_many(run->store, run->keys, count, (const char *const *) run->only.of,
                     run->entities, run->statuses, run->errors, NULL);
    for (size_t i = 0; i < count; i++) {
        if (!output_ok())
            code = EXIT_FAILED;
        else if (run->statuses[i] == HV_OK)
            show_entity(run, run->entities[i]);
        else if (run->statuses[i] == HV_NOT_FOUND)
            ui_no_entity(run->keys[i]);
        else
            ui_key_error(run->errors[i], run->keys[i]);
        code = worse_code(code, exit_code_of_one(run->statuses[i]));
        hv_error_free(run->errors[i]);
        hv_entity_free(run->entities[i]);
    }
    return code;
}

static int run(arguments *args) {
    fetching *task = new_memory(sizeof *task);
    key_source keys;
    size_t count;
    while (arguments_next(args) == OPTION_ONLY)
        attribute_names_add(&task->only, args->value);
    arguments_expect(args, 1, -1);
    key_source_init(&keys, args, args->items, args->count);
    int code = open_store(&task->store);
    while (task->store != NULL && output_ok() &&
           (count = key_source_take(&keys, task->keys, &code)) > 0)
        code = worse_code(code, fetch(task, count));
    hv_close(task->store, 0, NULL);
    key_source_fini(&keys);
    attribute_names_fini(&task->only);
    free(task);
    return code;
}

const command command_get = {
    .name = "get",
    .synopsis = "KEY... [--only NAME,...]",
    .summary = "fetch entities",
    .help = "A key without an entity is reported on standard error; the others are still\n"
            "shown, and the exit code is 3. With --json each entity is an object on a line:\n"
            "{\"id\": ..., \"created\": ..., \"shard_id\": ..., \"kind\": ..., \"version\": ...,\n"
            "\"body\": {...}}. The version differs after every change of the entity.\n"
            "\n" KEYS_HELP,
    .options = options,
    .examples = "hv get 307821103844175873\n"
                "hv get $(hv put 12 1 beep=boop)\n"
                "hv get 307821103844175873 --only name,email\n"
                "hv get 307821103844175873 --json | jq .body",
    .run = run,
};
