/*
 * settings: what `hv move` and `hv rebalance` have in common: the options of the moves, and the
 * store that they are made in.
 */
#include "move/settings.h"

#include <stdlib.h>

#include "servers/store.h"
#include "ui/exit.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/ui.h"

void move_settings_init(move_settings *settings) {
    *settings = (move_settings){.options = hv_move_options_new(), .jobs = 1};
    if (settings->options == NULL)
        out_of_memory();
}

void move_settings_fini(move_settings *settings) {
    hv_move_options_free(settings->options);
}

static void set(move_settings *settings, const char *name, const char *value) {
    hv_error *error = NULL;
    hv_status status = hv_move_options_set(settings->options, name, value, &error);
    if (status == HV_OK)
        return;
    ui_error(error);
    exit(exit_code(status));
}

bool move_settings_take(move_settings *settings, int id, const char *value) {
    static const struct {
        int id;
        const char *name;
        const char *value; /* NULL: the one that was typed */
    } all[] = {
        {MOVE_KEEP_UNDO, "keep_undo", NULL},     {MOVE_OFFLINE, "offline", "on"},
        {MOVE_NO_VERIFY, "verify", "off"},       {MOVE_MAX_PAUSE, "max_pause", NULL},
        {MOVE_MAX_OFFLINE, "max_offline", NULL}, {MOVE_MAX_WAIT, "max_wait", NULL},
        {MOVE_MAX_WAL, "max_wal", NULL},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i].id != id)
            continue;
        set(settings, all[i].name, all[i].value != NULL ? all[i].value : value);
        settings->offline = settings->offline || id == MOVE_OFFLINE;
        settings->keeps = settings->keeps || id == MOVE_KEEP_UNDO;
        return true;
    }
    return false;
}

static bool is_interrupted(void *context) {
    (void) context;
    return interrupted();
}

int move_open_store(hv_store **store) {
    hv_options *loaded = NULL;
    hv_error *error = NULL;
    int code = load_options(&loaded, NULL);
    if (code != EXIT_DONE)
        return code;
    hv_options_set_interrupt(loaded, is_interrupted, NULL);
    /* A server that is gone must not be in the way of ending its moves. */
    hv_status status = hv_options_set(loaded, "check_servers", "off", &error);
    if (status == HV_OK)
        status = hv_open(loaded, store, &error);
    hv_options_free(loaded);
    if (status != HV_OK)
        ui_error(error);
    hv_error_free(error);
    return status == HV_OK ? EXIT_DONE : EXIT_FAILED;
}
