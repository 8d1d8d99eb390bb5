/*
 * finder_hv: libhypervault's hv_find(), as an application calls it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "finder.h"
#include "hypervault.h"

typedef struct hv_finder {
    const finder_settings *settings;
    hv_store *store;
} hv_finder;

static void expect(hv_status status, hv_status expected, const hv_error *error) {
    if (status != expected)
        bench_die("%s: %s", hv_status_name(status),
                  error != NULL ? hv_error_message(error) : "without a message");
}

static void *open_store(const finder_settings *settings) {
    hv_error *error = NULL;
    hv_finder *mine = malloc(sizeof *mine);
    *mine = (hv_finder){.settings = settings};
    hv_options *options = hv_options_new();
    expect(hv_options_load(options, settings->config, NULL, &error), HV_OK, error);
    expect(hv_open(options, &mine->store, &error), HV_OK, error);
    hv_options_free(options);
    return mine;
}

static void close_store(void *own) {
    hv_finder *mine = own;
    expect(hv_close(mine->store, 1000, NULL), HV_OK, NULL);
    free(mine);
}

static void find(hv_finder *mine, const char *user, finder_found *found) {
    const finder_settings *settings = mine->settings;
    hv_selection *selection = hv_selection_new();
    hv_reader *reader = NULL;
    hv_error *error = NULL;
    char shards[32];
    snprintf(shards, sizeof shards, "1-%d", settings->shards + 1);
    expect(hv_selection_shards(selection, shards, &error), HV_OK, error);
    if (settings->limit > 0) {
        hv_selection_newest(selection, true);
        expect(hv_selection_limit(selection, settings->limit, &error), HV_OK, error);
    }
    if (user != NULL)
        expect(hv_selection_equal(selection, "user", HV_STRLEN, user, HV_STRLEN, &error), HV_OK,
               error);
    expect(hv_find(mine->store, selection, &reader, &error), HV_OK, error);
    hv_selection_free(selection);
    hv_status status;
    int64_t last = 0;
    while ((status = hv_reader_next(reader, -1, &error)) == HV_OK) {
        finder_see(settings, found, &last, hv_reader_key(reader));
        found->attributes += (int64_t) hv_dict_count(hv_reader_dict(reader));
    }
    expect(status, HV_NOT_FOUND, error);
    hv_reader_close(reader);
}

static void find_all(void *own, finder_found *found) {
    find(own, NULL, found);
}

static void find_newest(void *own, const char *user, finder_found *found) {
    find(own, user, found);
}

const finder_way finder_hv = {
    .name = "hv",
    .open = open_store,
    .close = close_store,
    .newest = find_newest,
    .all = find_all,
};
