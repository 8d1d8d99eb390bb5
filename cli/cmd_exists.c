/*
 * hv exists: are there entities under these keys?
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "arguments.h"
#include "commands.h"
#include "rows/key_json.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

/* Show the answer for one key; a failure has an error. */
static void show(int64_t key, hv_status status, const hv_error *error) {
    char text[KEY_JSON_SIZE];
    bool is_answered = status == HV_OK || status == HV_NOT_FOUND;
    if (is_answered && ui_is_json())
        printf("{\"id\": %s, \"exists\": %s}\n", key_json_text(text, key),
               status == HV_OK ? "true" : "false");
    else if (status == HV_OK)
        printf("%" PRId64 "\n", key);
    else if (status == HV_NOT_FOUND)
        ui_fail_status(HV_NOT_FOUND, NULL, NULL, "no entity has the key %" PRId64, key);
    else
        ui_error(error);
}

static int run(arguments *args) {
    arguments_expect(args, 1, -1);
    size_t count = (size_t) args->count;
    int64_t *keys = new_memory(count * sizeof *keys);
    hv_status *statuses = new_memory(count * sizeof *statuses);
    hv_error **errors = new_memory(count * sizeof(hv_error *));
    for (size_t i = 0; i < count; i++)
        keys[i] = argument_key(args, args->items[i]);
    hv_store *store = NULL;
    int code = open_store(&store);
    if (store != NULL)
        hv_exists_many(store, keys, count, statuses, errors, NULL);
    for (size_t i = 0; store != NULL && i < count; i++) {
        if (output_ok())
            show(keys[i], statuses[i], errors[i]);
        /* A failure outweighs a missing entity. */
        if (statuses[i] == HV_NOT_FOUND && code == EXIT_DONE)
            code = EXIT_NOT_FOUND;
        else if (statuses[i] != HV_OK && statuses[i] != HV_NOT_FOUND)
            code = EXIT_FAILED;
        hv_error_free(errors[i]);
    }
    hv_close(store, 0, NULL);
    free(keys);
    free(statuses);
    free(errors);
    return code;
}

const command command_exists = {
    .name = "exists",
    .synopsis = "KEY...",
    .summary = "see whether there are entities",
    .help =
        "Prints the keys that have an entity. A key that has none is reported on standard error,\n"
        "and the exit code is 3. With --json there is an object for each key on a line of its "
        "own:\n"
        "{\"id\": ..., \"exists\": true}",
    .examples = "hv exists 307821103844175873\n"
                "hv exists 307821103844175873 --json | jq .exists",
    .run = run,
};
