/*
 * shard_choice: the shards that --shards names.
 */
#include "servers/shard_choice.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* Read the list as the configuration is read: by a store with one server named "--shards", to which
 * no connection is made. */
static hv_store *open_choice(const char *text) {
    hv_error *error = NULL;
    if (strncasecmp(text + strspn(text, " \t"), "auto", 4) == 0) { /* it would ask a server */
        ui_fail(NULL, "Write shards as in `1-9,12`: 1 to 8, and 12.",
                "\"auto\" is no list of shards");
        return NULL;
    }
    hv_store *choice = NULL;
    hv_options *wanted = hv_options_new();
    if (wanted == NULL)
        out_of_memory();
    hv_status status = hv_options_set_server(wanted, "--shards", "shards", text, &error);
    if (status == HV_OK)
        status = hv_open(wanted, &choice, &error);
    hv_options_free(wanted);
    if (status != HV_OK)
        ui_error(error);
    hv_error_free(error);
    return choice;
}

hv_status know_all_shards(hv_store *store, hv_error **error) {
    bool is_auto = false;
    for (int i = 0; i < hv_server_count(store); i++)
        is_auto = is_auto || hv_server_is_auto(store, i);
    return is_auto ? hv_locate_shards(store, error) : HV_OK;
}

int choose_shards(hv_store *store, const char *text, int **shards, int *count) {
    hv_store *choice = text != NULL ? open_choice(text) : NULL;
    if (text != NULL && choice == NULL)
        return EXIT_USAGE;
    hv_error *error = NULL;
    if (text == NULL && know_all_shards(store, &error) != HV_OK) {
        ui_error(error);
        hv_error_free(error);
        return EXIT_FAILED;
    }
    const hv_store *from = choice != NULL ? choice : store;
    int *chosen = new_memory(HV_SHARDS * sizeof *chosen);
    int code = EXIT_DONE;
    *count = 0;
    for (int shard = -1; code == EXIT_DONE && (shard = hv_next_shard(from, -1, shard)) >= 0;) {
        chosen[(*count)++] = shard;
        if (hv_shard_server(store, shard) < 0) {
            ui_fail_status(HV_NO_SERVER, NULL, "See `hv status --shards`.",
                           "shard %d of --shards is on no server", shard);
            code = EXIT_USAGE;
        }
    }
    if (*count == 0) {
        ui_fail(NULL, "Give the servers shards in the configuration.", "there are no shards");
        code = EXIT_FAILED;
    }
    hv_close(choice, 0, NULL);
    *shards = code == EXIT_DONE ? chosen : NULL;
    if (code != EXIT_DONE)
        free(chosen);
    return code;
}
