/*
 * hv sql: run SQL on every shard, and print the answers as they come.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "answers.h"
#include "arguments.h"
#include "commands.h"
#include "rollout.h"
#include "rollout_summary.h"
#include "rows/reader.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_FILE = 1, OPTION_FORMAT, OPTION_PER_SERVER, OPTION_WRITE, OPTION_ONCE };

static const command_option options[] = {
    {"file", 'f', "FILE", OPTION_FILE, "read the SQL from this file; -: standard input"},
    {"write", 'w', NULL, OPTION_WRITE, "it may change the database; without this it is read-only"},
    {"once", 0, "NAME", OPTION_ONCE,
     "with --write: on each shard, run the SQL of this name once and no more"},
    {"per-server", 0, NULL, OPTION_PER_SERVER, "once for each server, without a shard"},
    {"format", 0, "FORMAT", OPTION_FORMAT, "table, ndjson or csv; default: table",
     "table ndjson csv"},
    ROLLOUT_OPTIONS("4"),
    ROLLOUT_CHANGE_OPTIONS("1min"),
    {NULL, 0, NULL, 0, NULL},
};

typedef struct asking {
    rollout work;
    const row_format *format; /* NULL: a table */
    char *sql;
    char *const *parameters;
    int parameter_count;
    bool is_write;
    const char *once;
    answers *all;
} asking;

/* ---- What was typed -------------------------------------------------------------------------- */

/* The contents of a file: free() it. An error ends the process. */
static char *read_file(const char *path) {
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0, cap = 64 << 10;
    char *text = new_memory(cap + 1);
    ssize_t got = fd;
    while (got >= 0 && (got = read(fd, text + len, cap - len)) > 0) {
        len += (size_t) got;
        if (len == cap)
            text = resize_memory(text, (cap *= 2) + 1);
    }
    if (got < 0) {
        ui_fail(NULL, NULL, "cannot read %s: %s", is_stdin ? "standard input" : path,
                strerror(errno));
        exit(EXIT_FAILED);
    }
    if (!is_stdin)
        close(fd);
    text[len] = '\0';
    if (strlen(text) < len) {
        ui_fail_status(HV_INVALID, NULL, NULL, "there is a NUL byte in %s",
                       is_stdin ? "standard input" : path);
        exit(EXIT_USAGE);
    }
    return text;
}

static const row_format *argument_format(const arguments *args, const char *text) {
    const row_format *format = row_format_named(text);
    if (strcmp(text, "table") != 0 && format != &row_ndjson && format != &row_csv)
        usage_error(args, "The formats are table, ndjson and csv.", "unknown format \"%s\"", text);
    return format;
}

static void read_request(asking *task, arguments *args) {
    int id;
    bool format_given = false;
    const char *file = NULL;
    while ((id = arguments_next(args)) != 0) {
        switch (id) {
        case OPTION_FILE:
            file = args->value;
            break;
        case OPTION_FORMAT:
            task->format = argument_format(args, args->value);
            format_given = true;
            break;
        case OPTION_PER_SERVER:
            task->work.scope.per_server = true;
            rollout_set(&task->work, "per_server", "on");
            break;
        case OPTION_WRITE:
            task->is_write = true;
            rollout_set(&task->work, "write", "on");
            break;
        case OPTION_ONCE:
            task->once = args->value;
            rollout_set(&task->work, "once", args->value);
            break;
        default:
            rollout_option(&task->work, args, id);
        }
    }
    arguments_expect(args, file == NULL ? 1 : 0, -1);
    if (task->once != NULL && !task->is_write)
        usage_error(args, "What is only read can be read again.", "--once without --write");
    int words = file == NULL ? 1 : 0;
    task->sql = file != NULL ? read_file(file) : copy_text(args->items[0]);
    task->parameters = args->items + words;
    task->parameter_count = args->count - words;
    if (ui_is_json() && !format_given)
        task->format = &row_ndjson;
}

/* ---- Asking ---------------------------------------------------------------------------------- */

/* Called while the next answer is awaited. */
static void wait(void *context) {
    const asking *task = context;
    if (task->all != NULL)
        answers_show_old(task->all);
}

/* The words of the command line that choose the shards on which it is to be done still. */
static void say_what_is_left(const asking *task, const hv_summary *summary, int code) {
    char *waiting = summary_shards(summary, HV_WORK_NOT_BEGUN);
    char *left = summary_shards_not_done(summary), *unknown = summary_shards_unknown(summary);
    if (waiting[0] != '\0')
        ui_note("not begun: --shards %s", waiting);
    if (task->once != NULL) {
        ui_note("The same command goes on with these shards: the others are not changed twice.");
    } else {
        if (unknown[0] != '\0')
            ui_note("The outcome is unknown on --shards %s: look before you repeat it there.",
                    unknown);
        if (left[0] != '\0' && code == EXIT_PARTLY)
            ui_note("It has not happened everywhere: repeat it for --shards %s only. With --once "
                    "NAME it can be repeated as it is.",
                    left);
    }
    free(waiting);
    free(left);
    free(unknown);
}

/* All answers, also those that have come before an interruption. */
static hv_status take_answers(const asking *task, hv_each *each, hv_error **error) {
    hv_status status, outcome = HV_OK;
    hv_shard_answer answer;
    do {
        hv_error *cause = NULL;
        status = hv_each_next(each, &answer, &cause);
        if (status == HV_OK && answer.work == HV_WORK_DONE && output_ok())
            answers_add(task->all, &answer);
        if (status != HV_OK && status != HV_NOT_FOUND && outcome == HV_OK) {
            outcome = status;
            *error = cause;
            cause = NULL;
            status = status == HV_TIMEOUT ? HV_OK : status;
        }
        hv_error_free(cause);
    } while (status == HV_OK);
    return outcome;
}

static int end(asking *task, const hv_summary *summary, hv_status status, hv_error *error) {
    answers_end(task->all);
    size_t before = hv_summary_count(summary, HV_WORK_UNCHANGED);
    int code = rollout_end_answers(&task->work, status, summary, error);
    if (before > 0)
        ui_note("It has run before on %zu shard%s, which %s as %s.", before, before == 1 ? "" : "s",
                before == 1 ? "stays" : "stay", before == 1 ? "it is" : "they are");
    if (task->is_write && code != EXIT_DONE && !task->work.scope.per_server)
        say_what_is_left(task, summary, code);
    if (answers_say_different(task->all)) {
        size_t shown = hv_summary_count(summary, HV_WORK_DONE) - answers_different(task->all);
        code = shown > 0 ? EXIT_PARTLY : EXIT_FAILED;
    }
    return code;
}

static int ask(asking *task) {
    hv_each *each = NULL;
    hv_summary *summary = NULL;
    hv_error *error = NULL;
    rollout_begin(&task->work);
    hv_status status =
        hv_each_shard(task->work.store, task->sql, task->parameter_count,
                      (const char *const *) task->parameters, task->work.settings, &each, &error);
    if (status != HV_OK)
        return rollout_refused(&task->work, status, error);
    task->all = answers_new(task->work.store, task->format, task->work.scope.per_server);
    status = take_answers(task, each, &error);
    if (hv_each_summary(each, &summary, NULL) != HV_OK)
        out_of_memory();
    hv_each_close(each); /* it calls the observer, if it has still to end something */
    rollout_over(&task->work);
    int code = end(task, summary, status, error);
    hv_summary_free(summary);
    return code;
}

/* ---- The command ----------------------------------------------------------------------------- */

static int run(arguments *args) {
    asking task = {0};
    rollout_init(&task.work);
    read_request(&task, args);
    int code = rollout_open(&task.work, wait, &task);
    if (code == EXIT_DONE)
        code = ask(&task);
    answers_free(task.all);
    rollout_fini(&task.work);
    free(task.sql);
    return code;
}

const command command_sql = {
    .name = "sql",
    .synopsis = "SQL [ARG]... [OPTION]...\n-f FILE [ARG]... [OPTION]...",
    .summary = "run SQL on every shard, and print all answers as one",
    .help =
        "On each shard the search_path is the shard's schema, @shard stands for its name, and\n"
        "all of the SQL is one transaction, which is read-only without --write. The rows of the\n"
        "last statement are printed as they come, with the shard before them. ARG are the\n"
        "parameters $1, $2 and so on, as text; with them, the SQL is one statement.\n"
        "\n"
        "With --json or --format ndjson a row is an object on a line, in which numbers of more\n"
        "than 15 digits are strings, as keys are everywhere. An answer whose columns are not\n"
        "those of the first one is left out and reported.\n"
        "\n"
        "With --once, the name is recorded in each shard in the same transaction, and a shard\n"
        "with the record is left as it is: whatever ended a run, the same command goes on.\n"
        "\n"
        "The exit code is 0 if all shards have answered, 5 if some have, and 1 if none has.\n"
        "After an error nothing more is begun: see --max-failures.",
    .options = options,
    .examples = "hv sql 'SELECT count(*) FROM entities'\n"
                "hv sql 'SELECT id FROM entities WHERE body -> $1 = $2' user 42 --json\n"
                "hv sql --per-server 'SELECT current_setting($1)' work_mem\n"
                "hv sql --write --once drop-drafts \"DELETE FROM entities WHERE type = 7\"\n"
                "hv sql --write -f fix.sql --shards 1-65 --max-failures all",
    .run = run,
};
