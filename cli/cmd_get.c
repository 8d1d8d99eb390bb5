/*
 * hv get: fetch entities by their keys.
 */
#include <inttypes.h>
#include <stdio.h>

#include "arguments.h"
#include "commands.h"
#include "entity_view.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/output.h"
#include "ui/ui.h"

/* Show one of several keys; the others are shown whatever the outcome. */
static hv_status show(hv_store *store, int64_t key, bool first) {
    hv_error *error = NULL;
    hv_entity *entity = NULL;
    hv_status status = hv_get(store, key, &entity, &error);
    if (status == HV_OK && ui_is_json()) {
        entity_print_json(entity, hv_epoch(store));
    } else if (status == HV_OK) {
        int shard = 0;
        hv_key_unpack(key, hv_epoch(store), NULL, &shard, NULL, NULL);
        if (!first)
            putchar('\n');
        entity_print(entity, hv_epoch(store), hv_server_name(store, hv_shard_server(store, shard)));
    } else if (status == HV_NOT_FOUND) {
        ui_fail_status(HV_NOT_FOUND, NULL, NULL, "no entity has the key %" PRId64, key);
    } else {
        ui_error(error);
    }
    hv_error_free(error);
    hv_entity_free(entity);
    return status;
}

static int run(arguments *args) {
    arguments_expect(args, 1, -1);
    for (int i = 0; i < args->count; i++)
        argument_key(args, args->items[i]); /* all of them are checked before one is fetched */
    hv_store *store = NULL;
    int code = open_store(&store);
    bool first = true;
    for (int i = 0; store != NULL && i < args->count && output_ok(); i++) {
        hv_status status = show(store, argument_key(args, args->items[i]), first);
        first = first && status != HV_OK;
        /* A failure outweighs a missing entity. */
        if (status == HV_NOT_FOUND && code == EXIT_DONE)
            code = EXIT_NOT_FOUND;
        else if (status != HV_OK && status != HV_NOT_FOUND)
            code = EXIT_FAILED;
    }
    hv_close(store, 0, NULL);
    return code;
}

const command command_get = {
    .name = "get",
    .synopsis = "KEY...",
    .summary = "fetch entities",
    .help = "A key without an entity is reported on standard error; the others are still\n"
            "shown, and the exit code is 3. With --json each entity is an object on a line:\n"
            "{\"id\": ..., \"created\": ..., \"shard_id\": ..., \"kind\": ..., \"body\": {...}}",
    .examples = "hv get 307821103844175873\n"
                "hv get $(hv put 12 1 beep=boop)\n"
                "hv get 307821103844175873 --json | jq .body",
    .run = run,
};
