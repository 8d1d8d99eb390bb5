/*
 * hv import: store every row of a file.
 *
 * The main thread reads rows and chooses their shards; lanes store them (import_lanes.h says what
 * is promised about a run that ends early). Nothing is begun before everything that can be checked
 * beforehand is: what was typed, the input, the place for rejected rows, the servers.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command.h"
#include "commands.h"
#include "import_exported.h"
#include "import_input.h"
#include "import_lanes.h"
#include "import_rejects.h"
#include "import_resume.h"
#include "import_route.h"
#include "memory.h"
#include "row_reader.h"
#include "ui.h"

#define MAX_JOBS 64
#define DAY_MS   INT64_C(86400000)

enum {
    OPTION_KIND = 1,
    OPTION_SHARD,
    OPTION_BY,
    OPTION_FORMAT,
    OPTION_REJECTS,
    OPTION_JOBS,
    OPTION_RETRY_FOR,
    OPTION_EXPORTED,
    OPTION_RESUME,
    OPTION_SKIP,
    OPTION_LIMIT,
};

static const command_option options[] = {
    {"kind", 'k', "N", OPTION_KIND, "the kind of all entities, -32768 to 32767"},
    {"exported", 0, NULL, OPTION_EXPORTED, "rows of hv export: keep their keys and kinds"},
    {"resume", 0, NULL, OPTION_RESUME, "go on with an import that ended early"},
    {"shard", 's', "N", OPTION_SHARD, "store all rows in this shard"},
    {"by", 'b', "NAME", OPTION_BY, "choose each row's shard by its attribute NAME"},
    {"format", 'f', "FORMAT", OPTION_FORMAT, "ndjson, csv or tsv; default: by the file's ending"},
    {"rejects", 0, "FILE", OPTION_REJECTS, "for rows not stored; default: NAME.rejects, here"},
    {"jobs", 'j', "N", OPTION_JOBS, "connections to each server, 1 to 64; default: 2"},
    {"retry-for", 0, "TIME", OPTION_RETRY_FOR, "repeat what fails for so long; default: 30s"},
    {"skip", 0, "N", OPTION_SKIP, "pass over the first N rows"},
    {"limit", 0, "N", OPTION_LIMIT, "end after N rows"},
    {NULL, 0, NULL, 0, NULL},
};

typedef struct request {
    const char *path;
    const row_format *format; /* NULL: to be found out */
    bool has_kind;
    int kind;
    int shard;      /* -1: not given */
    const char *by; /* NULL: not given */
    const char *rejects;
    int64_t jobs;
    int64_t retry_for;
    bool exported;
    bool resume;
    int64_t skip;
    int64_t limit;
} request;

/* All that one import needs. */
typedef struct import_task {
    request asked;
    import_input input;
    hv_store *store;
    import_route route;
    import_rejects *rejects;
    row_reader *reader;
    char id[IMPORT_ID_SIZE];
    char shown_name[sizeof(row_excerpt_text)]; /* of the input, as text of any database */
    import_begun begun;
    import_lanes *lanes;
    ui_progress *progress;
    import_totals totals;
    uint64_t digest; /* of all rows read so far */
    int64_t started;
} import_task;

/* ---- What was typed -------------------------------------------------------------------------- */

/* "30s", "500ms", "2min"; without a unit seconds. */
static int64_t argument_duration(const arguments *args, const char *what, const char *text) {
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"", 1000}, {"min", 60000}, {"h", 3600000}, {"d", DAY_MS}};
    char *end = NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    for (size_t i = 0; end != text && errno == 0 && i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i].name) == 0 && number >= 0 && number <= DAY_MS / units[i].ms)
            return number * units[i].ms;
    }
    usage_error(args, "Write a number with a unit, ms, s, min or h, up to 24h: 30s.",
                "%s is no duration: \"%s\"", what, text);
}

static const row_format *argument_format(const arguments *args, const char *text) {
    const row_format *format = row_format_named(text);
    if (format == NULL)
        usage_error(args, "The formats are ndjson, csv and tsv.", "unknown format \"%s\"", text);
    return format;
}

static request read_request(arguments *args) {
    request asked = {.shard = -1, .jobs = 2, .retry_for = 30000, .limit = INT64_MAX};
    int id;
    while ((id = arguments_next(args)) != 0) {
        switch (id) {
        case OPTION_KIND:
            asked.kind = argument_kind(args, args->value);
            asked.has_kind = true;
            break;
        case OPTION_SHARD:
            asked.shard = argument_shard(args, args->value);
            break;
        case OPTION_BY:
            asked.by = args->value;
            break;
        case OPTION_FORMAT:
            asked.format = argument_format(args, args->value);
            break;
        case OPTION_REJECTS:
            asked.rejects = args->value;
            break;
        case OPTION_JOBS:
            asked.jobs = argument_integer(args, "--jobs", args->value, 1, MAX_JOBS);
            break;
        case OPTION_RETRY_FOR:
            asked.retry_for = argument_duration(args, "--retry-for", args->value);
            break;
        case OPTION_EXPORTED:
            asked.exported = true;
            break;
        case OPTION_RESUME:
            asked.resume = true;
            break;
        case OPTION_SKIP:
            asked.skip = argument_integer(args, "--skip", args->value, 0, INT64_MAX);
            break;
        case OPTION_LIMIT:
            asked.limit = argument_integer(args, "--limit", args->value, 0, INT64_MAX);
            break;
        }
    }
    arguments_expect(args, 1, 1);
    if (!asked.has_kind && !asked.exported)
        usage_error(args,
                    "Say which kind the entities are of: --kind 1; or --exported, if they are "
                    "from hv export.",
                    "--kind is missing");
    if (asked.exported && (asked.has_kind || asked.shard >= 0 || asked.by != NULL))
        usage_error(args, "Rows of hv export say themselves which kind and shard they are of.",
                    "--exported excludes --kind, --shard and --by");
    if (asked.shard >= 0 && asked.by != NULL)
        usage_error(args, NULL, "--shard and --by exclude each other");
    asked.path = args->items[0];
    if (asked.format == NULL)
        asked.format = row_format_of_file(asked.path);
    return asked;
}

/* ---- Preparing ------------------------------------------------------------------------------- */

static bool is_canceled(void *context) {
    const import_task *task = context;
    return task->lanes != NULL ? import_lanes_stopped(task->lanes) : interrupted();
}

/* The hash of all that decides what becomes of a row. */
static uint64_t settings_digest(const import_task *task) {
    const request *asked = &task->asked;
    const char *format = asked->format != NULL ? row_format_name(asked->format) : "";
    const int64_t numbers[] = {asked->kind,     asked->shard, asked->jobs,
                               asked->exported, asked->skip,  asked->limit};
    uint64_t digest = import_digest(0, (const char *) numbers, sizeof numbers);
    if (asked->by != NULL)
        digest = import_digest(digest, asked->by, strlen(asked->by));
    digest = import_digest(digest, format, strlen(format));
    return import_digest_shards(digest, task->store);
}

/* Find out whether it was begun before, and name it. */
static bool name_import(import_task *task) {
    uint64_t source;
    if (!import_input_identity(&task->input, &source)) {
        ui_fail(NULL, NULL, "could not read %s: %s", task->input.name, strerror(errno));
        return false;
    }
    int server = task->asked.shard >= 0 ? hv_shard_server(task->store, task->asked.shard) : -1;
    return import_resume_find(task->store, server, task->asked.resume, source,
                              settings_digest(task), task->id, &task->begun);
}

static void rows_decided(void *context, int64_t rows) {
    ui_progress_add(((import_task *) context)->progress, 0, rows);
}

static bool open_lanes(import_task *task) {
    const char *base = task->input.base;
    strcpy(task->shown_name, row_excerpt(base, strlen(base)).text);
    import_settings settings = {
        .store = task->store,
        .rejects = task->rejects,
        .id = task->id,
        .file = task->shown_name,
        .shard = task->asked.shard,
        .jobs = (int) task->asked.jobs,
        .retry_for = task->asked.retry_for,
        .first_row = task->asked.skip,
        .interrupted = interrupted,
        .decided = rows_decided,
        .context = task,
    };
    task->lanes = import_lanes_open(&settings);
    return task->lanes != NULL;
}

/* Is a row in the rejects file decided? */
static bool keep_reject(void *context, int64_t number, int shard) {
    const import_task *task = context;
    return number <= import_lanes_position(task->lanes, shard);
}

static bool check_shard(const import_task *task) {
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

static bool prepare(import_task *task) {
    if (!import_input_open(&task->input, task->asked.path) ||
        open_store(&task->store) != EXIT_DONE || !check_shard(task) || !name_import(task))
        return false;
    bool begun = task->begun != IMPORT_NEW;
    import_route_init(&task->route, task->store, task->asked.shard, task->asked.by, task->id);
    task->rejects = import_rejects_new(task->asked.rejects, task->input.base, task->input.mode);
    if (!begun && !import_rejects_name(task->rejects, task->id, false, NULL, NULL))
        return false;
    if (!open_lanes(task))
        return false;
    if (begun && !import_rejects_name(task->rejects, task->id, true, keep_reject, task))
        return false;
    task->input.canceled = is_canceled;
    task->input.context = task;
    task->reader =
        row_reader_new(task->asked.format, ROW_MAX_BYTES, import_input_read, &task->input);
    if (task->reader == NULL)
        out_of_memory();
    return true;
}

/* ---- Importing ------------------------------------------------------------------------------- */

static int64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Say why the input cannot be read any further. */
static void say_fault(import_task *task, const row_fault *fault) {
    char text[ROW_FAULT_SIZE];
    const char *hint = fault->hint[0] != '\0' ? fault->hint : NULL;
    import_lanes_abandon(task->lanes, true);
    if (fault->line == 0)
        ui_fail(NULL, hint, "could not read %s: %s", task->input.name, fault->message);
    else
        ui_fail(NULL, hint, "%s, %s", task->input.name, row_fault_text(text, fault));
}

/*
 * Tell the progress bar about how many rows there will be, from how much of the file so many took
 * up. `bytes` and `rows` do not count the first row, whose bytes include all that was skipped.
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

/* Which lane is to have it, under which key, and is it still the same input? */
static bool give_row(import_task *task, row *next, int64_t before) {
    import_item item = {.row = next, .shard = -1, .kind = task->asked.kind, .before = before};
    task->digest = import_digest(task->digest, next->text, next->text_len);
    item.digest = task->digest;
    if (!import_lanes_agree(task->lanes, next->number, task->digest)) {
        import_lanes_abandon(task->lanes, false);
        ui_fail(NULL, "Import what is new in it by itself, without --resume.",
                "%s is not what this import was begun with: it differs before line %" PRId64,
                task->input.name, next->line + 1);
        row_free(next);
        return false;
    }
    if (task->asked.exported)
        import_exported_row(&item, row_reader_format(task->reader));
    else
        item.shard = import_route_row(&task->route, next);
    return import_lanes_give(task->lanes, &item);
}

static void read_rows(import_task *task) {
    row_fault fault;
    row *next = NULL;
    int64_t skipped;
    int64_t first = 0, bytes = 0, rows = 0, line = 0;
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
        if (!give_row(task, next, before))
            break;
    }
    if (result == ROW_END || rows == task->asked.limit)
        ui_progress_total(task->progress, 0, rows);
    if (result == ROW_FAILED)
        say_fault(task, &fault);
    if (interrupted())
        ui_note("finishing what is under way; interrupt again to end at once");
}

static bool run_lanes(import_task *task) {
    signal(SIGPIPE, SIG_IGN); /* the rejects file may be a pipe: then writing to it is an error */
    interrupt_catch();
    task->started = now_us();
    task->progress = ui_progress_new(1, (const char *const[]){task->input.base}, "rows");
    bool started = import_lanes_start(task->lanes);
    if (!started)
        ui_fail(NULL, NULL, "could not start a thread: %s", strerror(errno));
    else
        read_rows(task);
    import_lanes_finish(task->lanes, task->digest, &task->totals);
    task->lanes = NULL;
    ui_progress_free(task->progress, false);
    signal(SIGPIPE, SIG_DFL);
    return started;
}

/* ---- Telling what came of it ----------------------------------------------------------------- */

static bool is_complete(const import_task *task) {
    return task->totals.stop == IMPORT_COMPLETE;
}

/* Why the import ended early, if the reader has not said so. */
static void say_stop(const import_task *task) {
    const import_totals *totals = &task->totals;
    if (totals->stop == IMPORT_FAILED)
        ui_error(totals->error);
    if (totals->stop == IMPORT_NO_REJECTS)
        ui_fail(NULL, "Make room, or choose another place with --rejects FILE.",
                "could not write to \"%s\": %s", import_rejects_wanted(task->rejects),
                strerror(totals->write_errno));
    if (totals->stop == IMPORT_HOPELESS)
        ui_fail(totals->reason, "If the rows behind them are better, import them with --skip.",
                "none of the first %d rows could be stored", IMPORT_TRIAL_ROWS);
}

static void print_json_summary(const import_task *task, int64_t duration) {
    const import_totals *totals = &task->totals;
    const char *path = import_rejects_path(task->rejects);
    print_json(json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:s, s:f}", "complete",
                         is_complete(task), "rows",
                         (json_int_t) (totals->stored + totals->rejected), "stored",
                         (json_int_t) totals->stored, "there_before", (json_int_t) totals->known,
                         "rejected", (json_int_t) totals->rejected, "outcome_unknown",
                         (json_int_t) totals->unknown, "earlier_rows", (json_int_t) totals->passed,
                         "rejects", path != NULL ? ui_json_text(path) : json_null(), "last_row",
                         (json_int_t) totals->last_row, "last_line", (json_int_t) totals->last_line,
                         "import", task->id, "seconds", (double) duration / 1e6));
}

static void print_summary(const import_task *task, int64_t duration) {
    const import_totals *totals = &task->totals;
    const char *path = import_rejects_path(task->rejects);
    int64_t rows = totals->stored + totals->rejected;
    int64_t rate = duration > 0 ? rows * 1000000 / duration : 0;
    char number[UI_NUMBER_SIZE];
    if (!is_complete(task) && rows == 0) {
        printf("nothing was imported\n");
    } else {
        printf("%s rows: ", ui_number(number, rows));
        printf("%s stored, ", ui_number(number, totals->stored));
        printf("%s rejected", ui_number(number, totals->rejected));
        printf("; %s", ui_duration(number, duration));
        printf(", %s rows/s\n", ui_number(number, rate));
    }
    if (totals->known > 0)
        printf("of the stored ones %s were there before, the same under the same key\n",
               ui_number(number, totals->known));
    if (totals->passed > 0)
        printf("%s rows were passed over: an earlier run has decided them\n",
               ui_number(number, totals->passed));
    if (path != NULL) {
        printf("rejected rows are in ");
        ui_text(stdout, path, strlen(path));
        putchar('\n');
    }
    if (totals->unknown > 0)
        printf("of %s more rows it is not known whether they are stored; --resume finds out\n",
               ui_number(number, totals->unknown));
    if (is_complete(task) || (rows == 0 && totals->unknown == 0 && totals->passed == 0))
        return;
    printf("ended early, behind row %" PRId64 " (line %" PRId64 ")%s; to go on: --resume\n",
           totals->last_row, totals->last_line, totals->ahead ? ", and some rows behind it" : "");
}

/* An earlier run has done it all. */
static int say_done_before(import_task *task) {
    if (globals.json)
        print_json_summary(task, 0);
    else
        printf("this input was imported completely before: nothing to do\n");
    return EXIT_DONE;
}

static int import(import_task *task) {
    if (!prepare(task))
        return EXIT_FAILED;
    if (task->begun == IMPORT_ENDED && import_lanes_complete(task->lanes))
        return say_done_before(task);
    if (!run_lanes(task))
        return EXIT_FAILED;
    say_stop(task);
    int64_t duration = now_us() - task->started;
    if (globals.json)
        print_json_summary(task, duration);
    else
        print_summary(task, duration);
    return is_complete(task) && task->totals.rejected == 0 ? EXIT_DONE : EXIT_FAILED;
}

static int run(arguments *args) {
    import_task task = {.asked = read_request(args), .input = {.fd = -1}, .route = {.fixed = -1}};
    int code = import(&task);
    import_lanes_free(task.lanes);
    if (!import_rejects_free(task.rejects)) {
        ui_fail(NULL, NULL, "could not write rejected rows: %s", strerror(errno));
        code = EXIT_FAILED;
    }
    hv_error_free(task.totals.error);
    free(task.totals.reason);
    row_reader_free(task.reader);
    import_route_fini(&task.route);
    hv_close(task.store, 0, NULL);
    import_input_close(&task.input);
    return code;
}

const command command_import = {
    .name = "import",
    .synopsis =
        "FILE|- --kind N [--shard N | --by NAME] [OPTION]...\nFILE|- --exported [OPTION]...",
    .summary = "store every row of a file as an entity",
    .help = "FILE is one of these, in UTF-8; - is standard input.\n"
            "\n"
            "  ndjson  .ndjson, .jsonl, .json: a JSON object on each line. A string is stored\n"
            "          without its quotes, null as NULL, a number, true or false as it is\n"
            "          written, an object or array as compact JSON. Of a name given twice the\n"
            "          last value counts.\n"
            "  csv     .csv: as in RFC 4180. The first line names the attributes. An empty\n"
            "          field is NULL, \"\" is empty text.\n"
            "  tsv     .tsv: as COPY writes its text format, with a first line that names the\n"
            "          attributes. \\t, \\n, \\r, \\\\ are escapes, \\N is NULL.\n"
            "\n"
            "Another ending, and standard input, need --format, unless the first character is\n"
            "a brace: then it is ndjson. Empty lines are no rows, but for a header of one\n"
            "name. A row has at most 64 MiB.\n"
            "\n"
            "Without --shard and --by all shards take turns. With --by the shard is number\n"
            "H modulo N, from 0, of the N shards of the configuration in ascending order. H\n"
            "is the 64-bit FNV-1a hash of the value's bytes, 5803779529149266183 for \"alice\".\n"
            "With --exported the file is from `hv export`: entities keep their keys, and no\n"
            "shard makes these again. Of a key that has the same entity already nothing is\n"
            "changed; one that has another is rejected (HV_CONFLICT).\n"
            "\n"
            "Rows go to all servers at once, through COPY, some thousand in a transaction. A\n"
            "row that is malformed or that the server refuses is rejected, and the others are\n"
            "stored. It goes to the rejects file, which is made when it is needed and\n"
            "replaces no other, with its text for another try:\n"
            "\n"
            "  {\"line\": 7, \"number\": 6, \"import\": \"...\", \"shard\": 3, "
            "\"status\": \"HV_REFUSED\",\n"
            "   \"reason\": \"...\", \"row\": \"...\"}\n"
            "\n"
            "What may succeed later is repeated for --retry-for. After a malformed CSV row\n"
            "reading goes on at the next line.\n"
            "\n"
            "The import ends early if FILE is not in its format; if an error would hit every\n"
            "row (login refused, shards not made, a server that stays away); if rejected rows\n"
            "cannot be written; and after Ctrl-C or SIGTERM, when rows under way are finished\n"
            "first: a second one ends it at once. After that, or a kill, the same command with\n"
            "--resume goes on with it: no row is stored or rejected twice, and none is left\n"
            "out. How far it has come is recorded in the databases, in hypervault.imports; the\n"
            "same input must be given again, and the same options and shards. An import that\n"
            "has come to its end has nothing more to do, and without one --resume begins it.\n"
            "\n"
            "Exit status: 0 if every row was stored, 1 if not; after an interrupt hv dies of\n"
            "the signal, which shells show as 130 or 143.",
    .options = options,
    .examples = "hv import people.csv --kind 1\n"
                "hv import people.csv --kind 1 --by email --rejects bad.ndjson\n"
                "hv import people.csv --kind 1 --by email --resume\n"
                "zcat people.ndjson.gz | hv import - --kind 1 --shard 12\n"
                "hv import --exported backup/shard0012.ndjson\n"
                "(head -1 people.csv; jq -r .row people.csv.rejects) > again.csv",
    .run = run,
};
