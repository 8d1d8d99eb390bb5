/*
 * run: one import, from its input to its outcome.
 *
 * The main thread reads rows and chooses their shards; workers store them (import/workers.h says
 * what holds after a run that ends early). Before anything begins, everything that can be checked
 * is checked: the input, the place for rejected rows, the servers.
 */
#include "import/run.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "import/exported.h"
#include "import/input.h"
#include "import/workers.h"
#include "import/queue.h"
#include "import/rejects.h"
#include "import/report.h"
#include "import/resume.h"
#include "import/route.h"
#include "import/spread.h"
#include "import/trial.h"
#include "servers/left_out.h"
#include "servers/shard_choice.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* So much of the input's name is recorded and compared. Changing it would hide earlier records. */
#define LABEL_BYTES 48

/* How often the import begins again because shards have moved, without having decided a row. */
#define MAX_IDLE_ROUNDS 8

/* What this command has done so far: each time that a shard has moved, another round begins. */
typedef struct import_rounds {
    int64_t stored, known, rejected;
    int64_t duration;
    int idle;  /* the last rounds that have decided nothing */
    bool more; /* another one is to begin */
} import_rounds;

/* All that one import needs. */
typedef struct import_task {
    import_request asked;
    import_input input;
    hv_store *store;
    import_spread spread;
    import_route route;
    import_rejects *rejects;
    row_reader *reader;
    char id[IMPORT_ID_SIZE];
    char label[LABEL_BYTES + 16]; /* kind and name, printable */
    import_history history;
    import_parts parts;
    import_begun begun;
    import_workers *workers;
    import_trial trial; /* of an export's keys */
    left_out left_out;  /* what the shards hold besides entities */
    ui_progress *progress;
    import_totals totals;
    uint64_t digest; /* of all rows read so far */
    int64_t started;
    import_rounds *rounds;
} import_task;

/* ---- Preparing ------------------------------------------------------------------------------- */

static bool is_canceled(void *context) {
    const import_task *task = context;
    return task->workers != NULL ? import_workers_stopped(task->workers) : interrupted();
}

/* The hash of all that decides what becomes of a row. */
static import_settings_digest settings_digest(const import_task *task) {
    const import_request *asked = &task->asked;
    const char *format = asked->format != NULL ? row_format_name(asked->format) : "";
    const int64_t numbers[] = {asked->kind,     asked->shard, asked->jobs,
                               asked->exported, asked->skip,  asked->limit};
    uint64_t digest = import_digest(0, (const char *) numbers, sizeof numbers);
    if (asked->by != NULL)
        digest = import_digest(digest, asked->by, strlen(asked->by));
    if (asked->by != NULL && !task->spread.is_all) /* all of them are added below */
        digest = import_digest(digest, task->spread.shards, strlen(task->spread.shards));
    digest = import_digest(digest, format, strlen(format));
    return import_digest_shards(digest, task->store);
}

/* Find out whether the import was begun before, and name it. */
static bool name_import(import_task *task) {
    uint64_t source;
    if (!import_input_identity(&task->input, &source)) {
        ui_fail(NULL, NULL, "could not read %s: %s", task->input.name, strerror(errno));
        return false;
    }
    const char *base = task->input.base;
    char shown[LABEL_BYTES];
    hvi_utf8_show(shown, sizeof shown, base, strlen(base));
    if (task->asked.exported)
        snprintf(task->label, sizeof task->label, "exported %s", shown);
    else
        snprintf(task->label, sizeof task->label, "kind=%d %s", task->asked.kind, shown);
    task->history.label = task->label;
    import_settings_digest settings = settings_digest(task);
    return import_resume_find(task->store, task->asked.resume, source, &settings, task->id,
                              &task->begun, &task->parts, &task->history);
}

/* Reads the input's file without moving what the import reads. */
typedef struct second_look {
    int fd;
    off_t at;
} second_look;

static ssize_t look_again(void *context, char *data, size_t size) {
    second_look *look = context;
    ssize_t got = pread(look->fd, data, size, look->at);
    look->at += got > 0 ? got : 0;
    return got;
}

/* The import that has decided the most rows of this very file, by their digests; NULL: none. */
static const import_past *find_past(const import_task *task) {
    const import_request *asked = &task->asked;
    const import_history *history = &task->history;
    const import_past *found = NULL;
    second_look look = {.fd = task->input.fd, .at = task->input.start};
    int64_t skipped, number = 0, last = 0;
    uint64_t digest = 0;
    row_fault fault;
    row *next;
    for (size_t i = 0; i < history->count; i++)
        last = history->of[i].rows > last ? history->of[i].rows : last;
    row_reader *reader = row_reader_new(asked->format, ROW_MAX_BYTES, look_again, &look);
    if (reader == NULL)
        out_of_memory();
    row_reader_skip(reader, asked->skip, &skipped, &fault);
    for (int64_t rows = 0; rows < asked->limit && number < last; rows++) {
        if (row_reader_next(reader, &next, &fault) != ROW_READ)
            break; /* the import will report why */
        number = next->number;
        digest = import_digest(digest, next->text, next->text_len);
        row_free(next);
        for (size_t i = 0; i < history->count; i++)
            if (history->of[i].rows == number && history->of[i].digest == digest)
                found = &history->of[i];
    }
    row_reader_free(reader);
    return found;
}

/* Storing the same rows twice needs a confirmation. Rows of an export have keys and are not stored
 * twice; the rest of a stream is not known. */
static bool check_past(const import_task *task) {
    const import_request *asked = &task->asked;
    bool goes_on = asked->resume && task->begun != IMPORT_NEW;
    if (goes_on || asked->again || asked->exported || task->input.size < 0 ||
        task->history.count == 0)
        return true;
    const import_past *past = find_past(task);
    if (past == NULL)
        return true;
    char time[UI_NUMBER_SIZE], number[UI_NUMBER_SIZE];
    char *detail = format_text("An import that began at %s has stored or rejected its rows up to "
                               "number %s%s. Another would store them a second time.",
                               ui_time(time, past->begun), ui_number(number, past->rows),
                               past->complete ? "" : ", and more remain");
    bool confirmed = false;
    if (ui_is_terminal(stdin) && ui_is_terminal(stderr) && !ui_is_json()) {
        fputs("The file ", stderr);
        ui_text(stderr, task->input.name, strlen(task->input.name));
        fprintf(stderr, " was imported before. %s\n", detail);
        confirmed = ui_confirm("Import it again?");
    } else {
        ui_fail(detail,
                past->complete ? "To import it again: --again."
                               : "To continue it: --resume. To store them again: --again.",
                "%s was imported before", task->input.name);
    }
    free(detail);
    return confirmed;
}

static void rows_decided(void *context, int64_t rows) {
    ui_progress_add(((import_task *) context)->progress, 0, rows);
}

static bool open_workers(import_task *task) {
    import_settings settings = {
        .store = task->store,
        .rejects = task->rejects,
        .id = task->id,
        .file = task->label,
        .parts = &task->parts,
        .shard = task->asked.shard,
        .jobs = (int) task->asked.jobs,
        .retry_for = task->asked.retry_for,
        .first_row = task->asked.skip,
        .interrupted = interrupted,
        .decided = rows_decided,
        .context = task,
    };
    task->workers = import_workers_open(&settings);
    return task->workers != NULL;
}

/* Is a row in the rejects file decided? */
static bool keep_reject(void *context, int64_t number, int shard) {
    const import_task *task = context;
    return number <= import_workers_position(task->workers, shard);
}

static bool check_shard(const import_task *task) {
    hv_error *error = NULL;
    if (task->asked.shard < 0 && know_all_shards(task->store, &error) != HV_OK) {
        ui_error(error);
        hv_error_free(error);
        return false;
    }
    if (task->asked.shard >= 0 && hv_shard_server(task->store, task->asked.shard) < 0) {
        ui_fail_status(HV_NO_SERVER, NULL, "Add it to a server's \"shards\" in the configuration.",
                       "no server holds shard %d", task->asked.shard);
        return false;
    }
    if (hv_next_shard(task->store, -1, -1) < 0) {
        ui_fail(NULL, "Give the servers shards in the configuration.", "there are no shards");
        return false;
    }
    return true;
}

/* Rows have keys, kinds and attributes: what else the tables have gets its defaults. */
static void look_for_left_out(import_task *task) {
    int *shards = NULL, count = 0;
    if (task->asked.shard >= 0)
        find_left_out(task->store, &task->asked.shard, 1, &task->left_out);
    else if (choose_shards(task->store, NULL, &shards, &count) == EXIT_DONE)
        find_left_out(task->store, shards, count, &task->left_out);
    left_out_note_columns(&task->left_out, "further columns of entities get their defaults");
    free(shards);
}

static bool prepare(import_task *task) {
    bool by = task->asked.by != NULL;
    if (!import_input_open(&task->input, task->asked.path) ||
        !(by ? import_spread_open(&task->store, &task->spread)
             : open_store(&task->store) == EXIT_DONE))
        return false;
    /* Rows are dealt by the servers that have their shards. One that cannot be asked is reported
     * when its worker begins. */
    hv_locate_shards(task->store, NULL);
    if (!check_shard(task) || (by && !import_spread_check(&task->spread, task->store)) ||
        !name_import(task) || !check_past(task))
        return false;
    bool begun = task->begun != IMPORT_NEW;
    import_route_init(&task->route, task->store, task->asked.shard, task->asked.by, task->id,
                      !task->parts.has_shards);
    task->rejects = import_rejects_new(task->asked.rejects, task->input.base, task->input.mode);
    if (task->begun == IMPORT_ENDED_ELSEWHERE) /* there is nothing to be done */
        return true;
    if (!begun && !import_rejects_name(task->rejects, task->id, false, NULL, NULL))
        return false;
    if (!open_workers(task) || (by && !import_spread_record(&task->spread, task->store)))
        return false;
    if (begun && !import_rejects_name(task->rejects, task->id, true, keep_reject, task))
        return false;
    task->input.canceled = is_canceled;
    task->input.context = task;
    task->reader =
        row_reader_new(task->asked.format, ROW_MAX_BYTES, import_input_read, &task->input);
    if (task->reader == NULL)
        out_of_memory();
    if (task->asked.exported)
        row_reader_watch(task->reader, EXPORTED_KEY);
    return true;
}

/* ---- Importing ------------------------------------------------------------------------------- */

/* Report why the input cannot be read any further. */
static void say_fault(import_task *task, const row_fault *fault) {
    char text[ROW_FAULT_SIZE];
    const char *hint = fault->hint[0] != '\0' ? fault->hint : NULL;
    import_workers_abandon(task->workers, true);
    if (fault->line == 0)
        ui_fail(NULL, hint, "could not read %s: %s", task->input.name, fault->message);
    else
        ui_fail(NULL, hint, "%s, %s", task->input.name, row_fault_text(text, fault));
}

/*
 * Estimate the number of rows for the progress bar, from the size of those that were read. `bytes`
 * and `rows` do not count the first row, whose bytes include everything that was skipped.
 */
static void estimate(const import_task *task, int64_t first, int64_t bytes, int64_t rows) {
    if (task->input.size < 0 || rows == 0)
        return;
    double left = (double) (task->input.size - first - bytes);
    int64_t more = left > 0 ? (int64_t) (left / ((double) bytes / (double) rows)) : 0;
    int64_t total = 1 + rows + more;
    if (total < task->asked.limit)
        ui_progress_estimate(task->progress, 0, total);
    else
        ui_progress_total(task->progress, 0, task->asked.limit);
}

/* Report that the records of earlier runs do not agree with the input. */
static void say_other_input(import_task *task, const char *how, int64_t number) {
    import_workers_abandon(task->workers, false);
    ui_fail(NULL, "Import what is new in it by itself, without --resume.",
            "%s is not the input that this import was begun with: it %s %" PRId64, task->input.name,
            how, number);
}

/* Give the rows that were held back. */
static bool give_held(import_task *task) {
    import_trial *trial = &task->trial;
    bool taken = true;
    for (size_t i = 0; taken && i < trial->count; i++)
        taken = import_workers_give(task->workers, &trial->held[i]);
    for (size_t i = 0; i < trial->count; i++)
        import_item_free(&trial->held[i]);
    trial->count = trial->bytes = 0;
    return taken;
}

/* Act on the verdict about an export's keys. */
static bool follow(import_task *task, import_verdict verdict) {
    if (verdict == IMPORT_HOLD)
        return true;
    if (verdict == IMPORT_GIVE)
        return give_held(task);
    import_workers_abandon(task->workers, true);
    import_trial_explain(&task->trial, task->input.name);
    return false;
}

/* Give a row to its worker, unless the input is not the one that earlier runs read. */
static bool give_row(import_task *task, row *next, int64_t before) {
    import_item item = {.row = next, .shard = -1, .kind = task->asked.kind, .before = before};
    task->digest = import_digest(task->digest, next->text, next->text_len);
    item.digest = task->digest;
    if (!import_workers_agree(task->workers, next->number, task->digest)) {
        say_other_input(task, "differs before line", next->line + 1);
        row_free(next);
        return false;
    }
    if (task->asked.exported) {
        exported_key shows = import_exported_row(&item, row_reader_format(task->reader));
        return follow(task, import_trial_add(&task->trial, &item, shows));
    }
    item.shard = import_route_row(&task->route, next);
    return import_workers_give(task->workers, &item);
}

static void read_rows(import_task *task) {
    row_fault fault;
    row *next = NULL;
    int64_t skipped;
    int64_t first = 0, bytes = 0, rows = 0, line = 0, number = 0;
    row_result result = row_reader_skip(task->reader, task->asked.skip, &skipped, &fault);
    while (rows < task->asked.limit && result == ROW_READ) {
        result = row_reader_next(task->reader, &next, &fault);
        if (result != ROW_READ)
            break;
        if (rows++ == 0)
            first = next->bytes;
        else
            bytes += next->bytes;
        if (rows % 64 == 0)
            estimate(task, first, bytes, rows - 1);
        int64_t before = line;
        line = next->line;
        number = next->number;
        if (!give_row(task, next, before))
            break;
    }
    bool all = result == ROW_END || rows == task->asked.limit;
    if (all && !import_workers_stopped(task->workers))
        follow(task, import_trial_end(&task->trial));
    if (all) {
        ui_progress_total(task->progress, 0, rows);
        if (import_workers_farthest(task->workers) > number &&
            !import_workers_stopped(task->workers))
            say_other_input(task, "ends before row", import_workers_farthest(task->workers));
    }
    if (result == ROW_FAILED)
        say_fault(task, &fault);
    if (interrupted())
        ui_note("finishing what is in progress; interrupt again to end at once");
}

static bool run_workers(import_task *task) {
    signal(SIGPIPE, SIG_IGN); /* the rejects file may be a pipe: then writing to it is an error */
    interrupt_catch();
    task->started = hvi_clock_us();
    task->progress = ui_progress_new(1, (const char *const[]){task->input.base}, "rows");
    bool started = import_workers_start(task->workers);
    if (!started)
        ui_fail(NULL, NULL, "could not start a thread: %s", strerror(errno));
    else
        read_rows(task);
    import_workers_finish(task->workers, task->digest, &task->totals);
    task->workers = NULL;
    ui_progress_free(task->progress, false);
    signal(SIGPIPE, SIG_DFL);
    return started;
}

/* Can the command begin anew with what it was given: a file, and no pipe for rejected rows? */
static bool can_begin_again(const import_task *task) {
    struct stat info;
    const char *rejects = task->asked.rejects;
    return task->input.size >= 0 && !task->input.is_standard &&
           (rejects == NULL || stat(rejects, &info) != 0 || S_ISREG(info.st_mode));
}

/* Has the round ended because a shard has moved? Then another one goes on where it is. */
static bool has_moved(const import_task *task) {
    return task->totals.stop == IMPORT_FAILED && hv_error_status(task->totals.error) == HV_MOVED;
}

/* Add what earlier rounds have done, of which this one has passed over all. */
static void end_round(import_task *task) {
    import_totals *totals = &task->totals;
    import_rounds *rounds = task->rounds;
    int64_t before = rounds->stored + rounds->rejected;
    rounds->idle = totals->stored + totals->rejected > 0 ? 0 : rounds->idle + 1;
    rounds->more = has_moved(task) && can_begin_again(task) && !interrupted() &&
                   rounds->idle < MAX_IDLE_ROUNDS;
    rounds->stored = totals->stored += rounds->stored;
    rounds->known = totals->known += rounds->known;
    rounds->rejected = totals->rejected += rounds->rejected;
    rounds->duration += hvi_clock_us() - task->started;
    totals->passed = totals->passed > before ? totals->passed - before : 0;
}

/* Why there is no other round. */
static void say_moved(const import_task *task) {
    const hv_error *error = task->totals.error;
    ui_fail_status(HV_MOVED, hv_error_detail(error),
                   "Give the same input once more, with --resume: it goes on where the shard is.",
                   "%s", hv_error_message(error));
}

static int import(import_task *task) {
    if (!prepare(task))
        return EXIT_FAILED;
    bool is_elsewhere = task->begun == IMPORT_ENDED_ELSEWHERE;
    if (!is_elsewhere)
        look_for_left_out(task);
    import_outcome outcome = {.id = task->id,
                              .spread = task->spread.shards,
                              .totals = &task->totals,
                              .rejects = task->rejects,
                              .left_out = &task->left_out};
    if (is_elsewhere || (task->begun == IMPORT_ENDED && import_workers_complete(task->workers))) {
        import_report_done_before(&outcome);
        return EXIT_DONE;
    }
    if (!run_workers(task))
        return EXIT_FAILED;
    end_round(task);
    if (task->rounds->more) {
        ui_note("%s; the import goes on there", hv_error_message(task->totals.error));
        return EXIT_FAILED;
    }
    outcome.duration = task->rounds->duration;
    if (has_moved(task))
        say_moved(task);
    else
        import_report_stop(&outcome);
    import_report(&outcome);
    return import_is_complete(&task->totals) && task->totals.rejected == 0 ? EXIT_DONE
                                                                           : EXIT_FAILED;
}

static int run_round(const import_request *request, import_rounds *rounds) {
    import_task task = {
        .asked = *request, .input = {.fd = -1}, .route = {.fixed = -1}, .rounds = rounds};
    rounds->more = false;
    int code = import(&task);
    import_workers_free(task.workers);
    if (!import_rejects_free(task.rejects)) {
        ui_fail(NULL, NULL, "could not write rejected rows: %s", strerror(errno));
        code = EXIT_FAILED;
    }
    import_trial_fini(&task.trial);
    left_out_fini(&task.left_out);
    free(task.history.of);
    import_parts_fini(&task.parts);
    hv_error_free(task.totals.error);
    free(task.totals.reason);
    row_reader_free(task.reader);
    import_route_fini(&task.route);
    free(task.spread.shards);
    hv_close(task.store, 0, NULL);
    import_input_close(&task.input);
    return code;
}

int import_run(const import_request *request) {
    import_rounds rounds = {.more = false};
    import_request asked = *request;
    int code = run_round(&asked, &rounds);
    while (rounds.more) {
        asked.resume = true;
        code = run_round(&asked, &rounds);
    }
    return code;
}
