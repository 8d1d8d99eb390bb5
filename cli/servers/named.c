/*
 * named: the server that an option names.
 */
#include "servers/named.h"

#include <stdlib.h>
#include <string.h>

#include "base/suggest.h"
#include "ui/memory.h"
#include "ui/ui.h"

int server_named(const hv_store *store, const char *name, const char *hint) {
    hvi_suggestion search = {.word = name};
    for (int i = 0; i < hv_server_count(store); i++) {
        if (strcmp(hv_server_name(store, i), name) == 0)
            return i;
        hvi_suggestion_offer(&search, hv_server_name(store, i));
    }
    char *meant = search.best != NULL ? format_text("Did you mean \"%s\"?", search.best) : NULL;
    ui_fail_status(HV_NO_SERVER, NULL, meant != NULL ? meant : hint, "there is no server \"%s\"",
                   name);
    free(meant);
    return -1;
}
