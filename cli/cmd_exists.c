/*
 * hv exists: are there entities under these keys?
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "arguments.h"
#include "commands.h"
#include "key_source.h"
#include "rows/key_json.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

typedef struct looking {
    hv_store *store;
    /* Of those that are looked for at once. */
    int64_t keys[KEYS_AT_ONCE];
    hv_status statuses[KEYS_AT_ONCE];
    hv_error *errors[KEYS_AT_ONCE];
} looking;

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
        ui_no_entity(key);
    else
        ui_key_error(error, key);
}

/* Look for those in run->keys. */
static int look(looking *run, size_t count) {
    int code = EXIT_DONE;
    hv_exists_many(run->store, run->keys, count, run->statuses, run->errors, NULL);
    for (size_t i = 0; i < count; i++) {
        if (output_ok())
            show(run->keys[i], run->statuses[i], run->errors[i]);
        code = worse_code(code, exit_code_of_one(run->statuses[i]));
        hv_error_free(run->errors[i]);
    }
    return code;
}

static int run(arguments *args) {
    looking *task = new_memory(sizeof *task);
    key_source keys;
    size_t count;
    arguments_expect(args, 1, -1);
    key_source_init(&keys, args, args->items, args->count);
    int code = open_store(&task->store);
    while (task->store != NULL && output_ok() &&
           (count = key_source_take(&keys, task->keys, &code)) > 0)
        code = worse_code(code, look(task, count));
    hv_close(task->store, 0, NULL);
    key_source_fini(&keys);
    free(task);
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
        "{\"id\": ..., \"exists\": true}\n"
        "\n" KEYS_HELP,
    .examples = "hv exists 307821103844175873\n"
                "hv exists 307821103844175873 --json | jq .exists\n"
                "hv exists - < keys",
    .run = run,
};
