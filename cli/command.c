/*
 * command: the table of commands, and what several of them need.
 *
 * A new command is a cmd_x.c with its `const command`, and a line in the table here.
 */
#include "command.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "memory.h"
#include "ui.h"

#define GROUP_ENTITIES "Entities"
#define GROUP_SERVERS  "Servers and shards"
#define GROUP_DEV      "Private servers, for trying and testing"
#define GROUP_ABOUT    "About"

static const struct {
    const char *group;
    const command *command;
} table[] = {
    {GROUP_ENTITIES, &command_put},    {GROUP_ENTITIES, &command_get},
    {GROUP_ENTITIES, &command_key},    {GROUP_ENTITIES, &command_reserve},
    {GROUP_ENTITIES, &command_import}, {GROUP_ENTITIES, &command_export},
    {GROUP_SERVERS, &command_init},    {GROUP_SERVERS, &command_status},
    {GROUP_SERVERS, &command_bench},   {GROUP_DEV, &command_dev_up},
    {GROUP_DEV, &command_dev_down},    {GROUP_DEV, &command_dev_status},
    {GROUP_DEV, &command_dev_psql},    {GROUP_DEV, &command_dev_destroy},
    {GROUP_ABOUT, &command_help},      {GROUP_ABOUT, &command_completion},
};

const command *command_at(size_t index, const char **group) {
    if (index >= sizeof table / sizeof table[0])
        return NULL;
    if (group != NULL)
        *group = table[index].group;
    return table[index].command;
}

const command *command_find(const char *name) {
    const command *found;
    for (size_t i = 0; (found = command_at(i, NULL)) != NULL; i++)
        if (strcmp(found->name, name) == 0)
            return found;
    return NULL;
}

int exit_code(hv_status status) {
    switch (status) {
    case HV_OK:
        return EXIT_DONE;
    case HV_NOT_FOUND:
        return EXIT_NOT_FOUND;
    case HV_INVALID:
        return EXIT_USAGE;
    default:
        return EXIT_FAILED;
    }
}

/* ---- The store ------------------------------------------------------------------------------- */

int load_options(hv_options **options, char **found) {
    hv_error *error = NULL;
    hv_options *loaded = hv_options_new();
    if (loaded == NULL)
        out_of_memory();
    if (hv_options_load(loaded, globals.config, found, &error) != HV_OK) {
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

/* ---- Output ---------------------------------------------------------------------------------- */

void print_json(json_t *value) {
    if (value == NULL)
        out_of_memory();
    char *text = ui_json_dump(value);
    puts(text);
    free(text);
    json_decref(value);
}

bool output_ok(void) {
    return ferror(stdout) == 0;
}

int output_end(int code) {
    errno = 0;
    bool failed = ferror(stdout) != 0;
    if (fclose(stdout) == 0 && !failed)
        return code;
    if (errno == EPIPE) /* the reader has seen enough */
        return EXIT_FAILED;
    ui_fail(errno != 0 ? strerror(errno) : NULL, NULL, "could not write to standard output");
    return EXIT_FAILED;
}

/* ---- Interrupts ------------------------------------------------------------------------------ */

static volatile sig_atomic_t caught; /* the signal, or 0 */

static void note_signal(int number) {
    caught = number;
}

void interrupt_catch(void) {
    struct sigaction action = {.sa_handler = note_signal};
    action.sa_flags = (int) SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool interrupted(void) {
    return caught != 0;
}

int interrupt_signal(void) {
    return caught;
}
