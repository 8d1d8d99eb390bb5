/*
 * spread: the shards that an import spreads its rows over, by an attribute.
 */
#include "import/spread.h"

#include <stdlib.h>
#include <string.h>

#include "base/shard_ranges.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "servers/shard_choice.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* The name of the record, which no import has; its note is the shards. */
#define RECORD "import/spread"

/* ---- Opening --------------------------------------------------------------------------------- */

static char *take_text(hvi_buffer *text) {
    char *taken = hvi_buffer_take(text);
    if (taken == NULL)
        out_of_memory();
    return taken;
}

/* All shards of the store, or those of its option, as ranges. */
static char *list_shards(const hv_store *store, bool all) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_shard_writer writer = {.text = &text};
    for (int shard = -1;;) {
        shard = all ? hv_next_shard(store, -1, shard) : hv_next_spread(store, shard);
        if (shard < 0)
            break;
        hvi_shard_writer_add(&writer, shard);
    }
    hvi_shard_writer_end(&writer);
    return take_text(&text);
}

static hv_status open_spread(hv_options *options, hv_store **store, import_spread *spread,
                             hv_error **error) {
    hv_status status = hv_open(options, store, error);
    if (status == HV_OK && (status = know_all_shards(*store, error)) != HV_OK) {
        hv_close(*store, 0, NULL);
        *store = NULL;
    }
    if (status != HV_OK)
        return status;
    char *all = list_shards(*store, true);
    spread->is_set = hv_next_spread(*store, -1) >= 0;
    spread->shards = spread->is_set ? list_shards(*store, false) : copy_text(all);
    spread->is_all = strcmp(spread->shards, all) == 0;
    free(all);
    if (spread->is_set)
        return HV_OK;
    hv_close(*store, 0, NULL); /* nothing uses it */
    *store = NULL;
    status = hv_options_set(options, "spread", spread->shards, error);
    return status == HV_OK ? hv_open(options, store, error) : status;
}

bool import_spread_open(hv_store **store, import_spread *spread) {
    hv_options *options = NULL;
    hv_error *error = NULL;
    if (load_options(&options, NULL) != EXIT_DONE)
        return false;
    hv_status status = open_spread(options, store, spread, &error);
    if (status != HV_OK)
        ui_error(error);
    hv_error_free(error);
    hv_options_free(options);
    return status == HV_OK;
}

/* ---- Records --------------------------------------------------------------------------------- */

typedef struct search {
    const import_spread *spread;
    char *other; /* the shards of an earlier import; owned; NULL: they were the same */
} search;

static void take_record(void *context, const char *name, int64_t position, const char *note) {
    search *s = context;
    (void) position;
    if (strcmp(name, RECORD) == 0 && note != NULL && strcmp(note, s->spread->shards) != 0 &&
        s->other == NULL)
        s->other = copy_text(note);
}

/* The line of the configuration that makes these shards the set. */
static char *line_for(const char *shards) {
    hvi_buffer line = HVI_BUFFER_EMPTY;
    hvi_shard_ranges_setting(&line, "spread", shards);
    return take_text(&line);
}

/* Report that earlier imports have spread their rows over other shards. */
static void say_other(const import_spread *spread, const char *other) {
    if (spread->is_set) {
        ui_note(
            "earlier imports spread rows over the shards %s, this one over %s: equal values may "
            "be in different shards",
            other, spread->shards);
        return;
    }
    char *line = line_for(other);
    char *detail = format_text("They were spread over the shards %s; the configuration has %s now.",
                               other, spread->shards);
    char *hint = format_text("To go on like them, write into [hypervault]: %s", line);
    ui_fail(detail, hint, "earlier imports spread rows over other shards");
    free(hint);
    free(detail);
    free(line);
}

bool import_spread_check(const import_spread *spread, hv_store *store) {
    search s = {.spread = spread};
    for (int server = 0; server < hv_server_count(store); server++) {
        hv_error *error = NULL;
        if (hv_next_shard(store, server, -1) < 0)
            continue;
        if (hv_load_list(store, server, RECORD, take_record, &s, &error) != HV_OK) {
            ui_error(error);
            hv_error_free(error);
            free(s.other);
            return false;
        }
    }
    bool other = s.other != NULL;
    if (other) {
        say_other(spread, s.other);
    } else if (!spread->is_set) {
        char *line = line_for(spread->shards);
        ui_note("rows are spread over the present shards; to keep it that way when shards are "
                "added, write into [hypervault]: %s",
                line);
        free(line);
    }
    free(s.other);
    return spread->is_set || !other;
}

static hv_status record(const import_spread *spread, hv_store *store, int server,
                        hv_error **error) {
    hv_load *load = NULL;
    hv_status status = hv_load_open(store, server, RECORD, &load, error);
    if (status != HV_OK)
        return status;
    const char *note = hv_load_note(load);
    if (note == NULL || strcmp(note, spread->shards) != 0) {
        status = hv_load_send(load, 0, NULL, error);
        if (status == HV_OK)
            status = hv_load_commit(load, 0, spread->shards, error);
    }
    hv_load_free(load);
    return status;
}

bool import_spread_record(const import_spread *spread, hv_store *store) {
    for (int server = 0; server < hv_server_count(store); server++) {
        hv_error *error = NULL;
        if (hv_next_shard(store, server, -1) < 0 || record(spread, store, server, &error) == HV_OK)
            continue;
        ui_error(error);
        hv_error_free(error);
        return false;
    }
    return true;
}
