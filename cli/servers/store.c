/*
 * store: from the configuration to an open store.
 */
#include "servers/store.h"

#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/ui.h"

static const char *config; /* set while the arguments are read; NULL: the usual places */

const char *config_path(void) {
    return config;
}

void use_config(const char *path) {
    config = path;
}

int load_options(hv_options **options, char **found) {
    hv_error *error = NULL;
    hv_options *loaded = hv_options_new();
    if (loaded == NULL)
        out_of_memory();
    if (hv_options_load(loaded, config, found, &error) != HV_OK) {
        ui_error(error);
        hv_error_free(error);
        hv_options_free(loaded);
        return EXIT_FAILED;
    }
    *options = loaded;
    return EXIT_DONE;
}

int open_store(hv_store **store) {
    hv_options *options = NULL;
    int code = load_options(&options, NULL);
    if (code != EXIT_DONE)
        return code;
    hv_error *error = NULL;
    if (hv_open(options, store, &error) != HV_OK) {
        ui_error(error);
        hv_error_free(error);
        code = EXIT_FAILED;
    }
    hv_options_free(options);
    return code;
}
