/*
 * migration_folder: what the commands about migrations have in common: their options and directory.
 */
#include "migration_folder.h"

#include <stdlib.h>
#include <string.h>

#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* Options, and at most one directory; NULL: none was given. */
static const char *read_directory(rollout *work, arguments *args) {
    rollout_init(work);
    for (int id; (id = arguments_next(args)) != 0;)
        rollout_option(work, args, id);
    arguments_expect(args, 0, 1);
    const char *directory = args->count > 0 ? args->items[0] : NULL;
    bool is_word =
        directory != NULL && (strcmp(directory, "status") == 0 || strcmp(directory, "plan") == 0);
    if (is_word && strcmp(args->command->name, "migrate") == 0) {
        char *hint = format_text("Write `hv migrate %s` without anything between the words, or "
                                 "./%s if that is the directory.",
                                 directory, directory);
        usage_error(args, hint, "is \"%s\" a directory or a command?", directory);
    }
    return directory;
}

int migrate_begin(rollout *work, arguments *args, bool is_needed, hv_migrations **migrations) {
    const char *directory = read_directory(work, args);
    int code = rollout_open(work, NULL, NULL);
    if (code != EXIT_DONE)
        return code;
    if (directory == NULL)
        directory = work->migrations;
    if (directory == NULL && is_needed) {
        ui_fail_status(HV_INVALID, NULL,
                       "Give the directory, or set the option `migrations` in the configuration.",
                       "there is no directory of migrations");
        return EXIT_USAGE;
    }
    hv_error *error = NULL;
    hv_status status =
        directory != NULL ? hv_migrations_load(directory, migrations, &error) : HV_OK;
    return status == HV_OK ? EXIT_DONE : rollout_refused(work, status, error);
}

void migrate_end(rollout *work, hv_migrations *migrations) {
    hv_migrations_free(migrations);
    rollout_fini(work);
}
