/*
 * hv reserve: take unused keys of a shard, to put entities under later.
 */
#include <inttypes.h>
#include <jansson.h>
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

#define MOST_KEYS 100000 /* most that hv_reserve() gives at once */

static void print_keys(int shard, const int64_t *keys, int count) {
    if (!ui_is_json()) {
        for (int i = 0; i < count; i++)
            printf("%" PRId64 "\n", keys[i]);
        return;
    }
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, key_json(keys[i]));
    print_json(json_pack("{s:i, s:o}", "shard_id", shard, "keys", list));
}

static int run(arguments *args) {
    arguments_expect(args, 1, 2);
    int shard = argument_shard(args, args->items[0]);
    int count =
        args->count > 1 ? (int) argument_integer(args, "COUNT", args->items[1], 1, MOST_KEYS) : 1;
    int64_t *keys = new_memory((size_t) count * sizeof *keys);
    hv_store *store = NULL;
    int code = open_store(&store);
    if (code == EXIT_DONE) {
        hv_error *error = NULL;
        hv_status status = hv_reserve(store, shard, count, keys, &error);
        if (status == HV_OK)
            print_keys(shard, keys, count);
        else
            ui_error(error);
        code = exit_code(status);
        hv_error_free(error);
    }
    hv_close(store, 0, NULL);
    free(keys);
    return code;
}

const command command_reserve = {
    .name = "reserve",
    .synopsis = "SHARD [COUNT]",
    .summary = "take unused keys of a shard, for hv put --key",
    .help = "Prints COUNT keys, 1 to 100000 and by default 1, in ascending order. They are\n"
            "given to no other caller, whether they are used or not. A key's time is that of\n"
            "its reservation.",
    .examples = "hv reserve 12\n"
                "hv reserve 12 1000 > keys",
    .run = run,
};
