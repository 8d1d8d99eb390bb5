/*
 * hv migrate: run migrations on every shard, and show which have run where.
 */
#include <jansson.h>

#include "arguments.h"
#include "commands.h"
#include "ledger_view.h"
#include "migration_folder.h"
#include "rollout.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

static const command_option run_options[] = {
    ROLLOUT_OPTIONS("4"),
    ROLLOUT_CHANGE_OPTIONS("1min, without a transaction 1h"),
    {NULL, 0, NULL, 0, NULL},
};

static const command_option look_options[] = {
    ROLLOUT_OPTIONS("4"),
    {NULL, 0, NULL, 0, NULL},
};

/* ---- hv migrate ------------------------------------------------------------------------------ */

static json_t *files_json(const hv_migrations *migrations) {
    json_t *list = json_array();
    for (size_t i = 0; i < hv_migrations_count(migrations); i++)
        json_array_append_new(list,
                              json_pack("{s:o, s:s, s:b}", "name",
                                        ui_json_text(hv_migrations_name(migrations, i)), "digest",
                                        hv_migrations_digest(migrations, i), "in_transaction",
                                        hv_migrations_in_transaction(migrations, i)));
    return json_pack("{s:o}", "files", list);
}

static int run(arguments *args) {
    rollout work;
    hv_migrations *migrations = NULL;
    int code = migrate_begin(&work, args, true, &migrations);
    if (code == EXIT_DONE) {
        hv_error *error = NULL;
        hv_summary *summary = NULL;
        rollout_begin(&work);
        hv_status status = hv_migrate(work.store, migrations, work.settings, &summary, &error);
        code = rollout_end(&work, status, summary, error, files_json(migrations));
    }
    migrate_end(&work, migrations);
    return code;
}

/* ---- hv migrate status ----------------------------------------------------------------------- */

static int run_status(arguments *args) {
    rollout work;
    hv_migrations *migrations = NULL;
    int code = migrate_begin(&work, args, false, &migrations);
    if (code == EXIT_DONE) {
        hv_error *error = NULL;
        hv_ledger *ledger = NULL;
        hv_status status =
            hv_migrate_status(work.store, migrations, work.settings, &ledger, &error);
        code = status == HV_OK ? ledger_show(ledger, migrations)
                               : rollout_refused(&work, status, error);
        hv_ledger_free(ledger);
    }
    migrate_end(&work, migrations);
    return code;
}

/* ---- The commands ---------------------------------------------------------------------------- */

const command command_migrate = {
    .name = "migrate",
    .synopsis = "[DIR] [OPTION]...",
    .summary = "run SQL files on every shard that does not have them",
    .help =
        "DIR has files like 0007_add_score.sql, which are run on each shard in the order of\n"
        "their numbers. In a file the search_path is the shard's schema, and @shard stands for\n"
        "its name. A file runs in one transaction for each shard, together with the record of\n"
        "it in that shard: its name, its digest, and when it ran. The line\n"
        "`-- hv: no-transaction` at the beginning of a file is for CREATE INDEX CONCURRENTLY and\n"
        "other statements that cannot run in a transaction.\n"
        "\n"
        "A file that was changed after it ran on a shard is refused there, as is a shard with\n"
        "the record of a file that DIR lacks. New shards get all files from `hv init` if the\n"
        "option `migrations` names the directory, which is then also the default for DIR.\n"
        "See `hv help migrate status` and `hv help migrate plan` for what to do before.\n"
        "\n" ROLLOUT_HELP,
    .options = run_options,
    .examples = "hv migrate plan migrations/\n"
                "hv migrate migrations/\n"
                "hv migrate --shards 12 --lock-timeout 50ms --max-wait 10min\n"
                "hv migrate --max-failures all --parallel 8",
    .run = run,
};

const command command_migrate_status = {
    .name = "migrate status",
    .synopsis = "[DIR] [OPTION]...",
    .summary = "show which files have run on which shards",
    .help =
        "A line for each file: on how many shards it has run, and where it has not. It is\n"
        "pending; or changed after it ran; or interrupted: without a transaction, and not all\n"
        "of its statements are done; or without a file: a shard has the record of it, but not\n"
        "DIR. Without DIR and the option `migrations`, the files are those that the shards know.\n"
        "\n"
        "The exit code is 0 if all shards have all files, and 1 otherwise.",
    .options = look_options,
    .examples = "hv migrate status migrations/\n"
                "hv migrate status --shards 12\n"
                "hv migrate status --json | jq -r '.files[] | select(.pending > 0) | .name'",
    .run = run_status,
};
