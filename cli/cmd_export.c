/*
 * hv export: write the entities of shards to a file, or to a file for each shard.
 *
 * One file is written shard by shard; with --dir all servers are read at the same time. Entities
 * are sorted by shard and key, whichever servers hold them, so the same entities are always the
 * same bytes.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "arguments.h"
#include "base/clock.h"
#include "commands.h"
#include "export/estimate.h"
#include "export/file.h"
#include "export/format.h"
#include "import/resume.h"
#include "servers/left_out.h"
#include "servers/servers.h"
#include "servers/shard_choice.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum {
    OPTION_DIR = 1,
    OPTION_SHARDS,
    OPTION_KIND,
    OPTION_SINCE,
    OPTION_UNTIL,
    OPTION_FORMAT,
    OPTION_RESUME,
    OPTION_OVERWRITE,
};

static const command_option options[] = {
    {"dir", 'd', "DIR", OPTION_DIR, "a file for each shard in this folder, all servers at once"},
    {"shards", 's', "LIST", OPTION_SHARDS,
     "as in the configuration: 1-5,9 is 1 to 4 and 9; default: all"},
    {"kind", 'k', "N", OPTION_KIND, "only entities of this kind; may be repeated"},
    {"since", 0, "TIME", OPTION_SINCE, "only entities made at this time or later"},
    {"until", 0, "TIME", OPTION_UNTIL, "only entities made before this time"},
    {"format", 'f', "FORMAT", OPTION_FORMAT, "ndjson or csv; default: by the file's ending",
     "ndjson csv"},
    {"resume", 0, NULL, OPTION_RESUME, "continue an export that ended early"},
    {"overwrite", 0, NULL, OPTION_OVERWRITE, "replace existing files, once it is complete"},
    {NULL, 0, NULL, 0, NULL},
};

typedef struct request {
    const char *path; /* NULL: a folder */
    const char *dir;  /* NULL: a file */
    const char *shards;
    int *kinds; /* owned */
    size_t kind_count;
    int64_t since; /* unix milliseconds; INT64_MIN: not given */
    int64_t until; /* the same; INT64_MAX: not given */
    const row_format *format;
    bool resume;
    bool overwrite;
} request;

/* How many of the rows that cannot be read are named. */
#define UNREADABLE_KEYS 5

typedef struct export_task {
    request asked;
    hv_store *store;
    int *shards; /* owned */
    int shard_count;
    int *servers;  /* of each, when the export begins: which of the threads writes it; owned */
    int64_t from;  /* keys */
    int64_t until; /* 0: to the last */
    bool nothing;  /* no key can lie between the two */
    export_choice choice;
    left_out left_out; /* what the shards hold besides */
    ui_progress *progress;
    atomic_bool failed;
    atomic_bool refused; /* a file could not be begun or continued */
    atomic_llong entities;
    atomic_llong bytes;
    pthread_mutex_t lock;
    int64_t unreadable; /* rows that are not entities; guarded by the lock, like the next one */
    int64_t unreadable_keys[UNREADABLE_KEYS];
} export_task;

/* ---- What was typed -------------------------------------------------------------------------- */

static const row_format *argument_format(const arguments *args, const char *text) {
    const row_format *format = row_format_named(text);
    if (format != &row_ndjson && format != &row_csv)
        usage_error(args, "The formats are ndjson and csv.", "unknown format \"%s\"", text);
    return format;
}

static void add_kind(request *asked, int kind) {
    asked->kinds = resize_memory(asked->kinds, (asked->kind_count + 1) * sizeof *asked->kinds);
    asked->kinds[asked->kind_count++] = kind;
}

static request read_request(arguments *args) {
    request asked = {.since = INT64_MIN, .until = INT64_MAX};
    int id;
    while ((id = arguments_next(args)) != 0) {
        switch (id) {
        case OPTION_DIR:
            asked.dir = args->value;
            break;
        case OPTION_SHARDS:
            asked.shards = args->value;
            break;
        case OPTION_KIND:
            add_kind(&asked, argument_kind(args, args->value));
            break;
        case OPTION_SINCE:
            asked.since = argument_moment(args, "--since", args->value);
            break;
        case OPTION_UNTIL:
            asked.until = argument_moment(args, "--until", args->value);
            break;
        case OPTION_FORMAT:
            asked.format = argument_format(args, args->value);
            break;
        case OPTION_RESUME:
            asked.resume = true;
            break;
        case OPTION_OVERWRITE:
            asked.overwrite = true;
            break;
        }
    }
    arguments_expect(args, asked.dir == NULL ? 1 : 0, asked.dir == NULL ? 1 : 0);
    if (asked.dir == NULL)
        asked.path = args->items[0];
    if (asked.since >= asked.until)
        usage_error(args, NULL, "--since must be before --until");
    if (asked.resume && asked.path != NULL && strcmp(asked.path, "-") == 0)
        usage_error(args, "Export to a file, or to a folder with --dir.",
                    "an export to standard output cannot be continued");
    if (asked.format == NULL && asked.path != NULL)
        asked.format = row_format_of_file(asked.path);
    if (asked.format == NULL)
        asked.format = &row_ndjson;
    if (asked.format != &row_ndjson && asked.format != &row_csv)
        usage_error(args, "The formats are ndjson and csv: see --format.", "cannot export %s",
                    row_format_name(asked.format));
    return asked;
}

/* ---- Preparing ------------------------------------------------------------------------------- */

static bool find_bounds(export_task *task) {
    const request *asked = &task->asked;
    int64_t epoch = hv_epoch(task->store);
    hv_error *error = NULL;
    hv_status status = HV_OK;
    if (asked->since != INT64_MIN)
        status = hv_key_bound(asked->since, epoch, &task->from, &error);
    if (status == HV_OK && asked->until != INT64_MAX) {
        status = hv_key_bound(asked->until, epoch, &task->until, &error);
        task->nothing = status == HV_OK && task->until == 0;
    }
    if (status != HV_OK)
        ui_error(error);
    hv_error_free(error);
    return status == HV_OK;
}

/* A number that stands for the selection: an export of something else must not be continued. */
static uint64_t identity(const export_task *task) {
    const request *asked = &task->asked;
    const char *format = row_format_name(asked->format);
    const int64_t bounds[] = {task->from, task->until};
    uint64_t digest = import_digest(0, (const char *) bounds, sizeof bounds);
    digest = import_digest(digest, format, strlen(format));
    digest = import_digest(digest, (const char *) asked->kinds,
                           asked->kind_count * sizeof *asked->kinds);
    return import_digest(digest, (const char *) task->shards,
                         (size_t) task->shard_count * sizeof *task->shards);
}

static char *append(char *text, const char *more) {
    char *longer = format_text("%s%s", text, more);
    free(text);
    return longer;
}

/* The selection in words: "kinds 1, 2, shards 1-17, since 2026-01-01T00:00:00.000Z". */
static char *choice_text(const export_task *task) {
    const request *asked = &task->asked;
    char piece[64], time[UI_NUMBER_SIZE];
    char *text = copy_text(asked->kind_count == 0 ? "all kinds" : "kind ");
    for (size_t i = 0; i < asked->kind_count; i++) {
        snprintf(piece, sizeof piece, "%s%d", i > 0 ? ", " : "", asked->kinds[i]);
        text = append(text, piece);
    }
    for (int i = 0, next; i < task->shard_count; i = next) {
        for (next = i + 1;
             next < task->shard_count && task->shards[next] == task->shards[next - 1] + 1;)
            next++;
        const char *before = i == 0 ? ", shards " : ",";
        if (next - i == 1)
            snprintf(piece, sizeof piece, "%s%d", before, task->shards[i]);
        else /* half-open, as --shards and the configuration have it */
            snprintf(piece, sizeof piece, "%s%d-%d", before, task->shards[i],
                     task->shards[next - 1] + 1);
        text = append(text, piece);
    }
    if (asked->since != INT64_MIN) {
        snprintf(piece, sizeof piece, ", since %s", ui_time(time, asked->since));
        text = append(text, piece);
    }
    if (asked->until != INT64_MAX) {
        snprintf(piece, sizeof piece, ", until %s", ui_time(time, asked->until));
        text = append(text, piece);
    }
    return text;
}

static char *path_of_shard(const export_task *task, int shard) {
    return format_text("%s/shard%04d.%s", task->asked.dir, shard,
                       row_format_name(task->asked.format));
}

/* Are there files in the folder that must not be replaced? This is checked for all of them before
 * anything is written. An export that is continued may have finished some of them, but not all. */
static bool check_folder(const export_task *task) {
    const request *asked = &task->asked;
    struct stat info;
    char *first = NULL;
    int found = 0;
    for (int i = 0; i < task->shard_count && asked->dir != NULL && !asked->overwrite; i++) {
        char *path = path_of_shard(task, task->shards[i]);
        if (stat(path, &info) == 0 && S_ISREG(info.st_mode) && found++ == 0)
            first = copy_text(path);
        free(path);
    }
    bool refused = asked->resume ? found == task->shard_count : found > 0;
    if (refused && first != NULL)
        export_file_refuse(first);
    free(first);
    return !refused;
}

static bool make_folder(const char *path) {
    if (path == NULL || mkdir(path, 0777) == 0 || errno == EEXIST)
        return true;
    ui_fail(NULL, NULL, "could not make the folder \"%s\": %s", path, strerror(errno));
    return false;
}

static bool prepare(export_task *task) {
    if (open_store(&task->store) != EXIT_DONE || !find_bounds(task))
        return false;
    hv_locate_shards(task->store, NULL); /* a server that cannot be asked fails when it is read */
    if (choose_shards(task->store, task->asked.shards, &task->shards, &task->shard_count) !=
            EXIT_DONE ||
        !make_folder(task->asked.dir))
        return false;
    /* Threads share the shards by their servers, and one may move meanwhile: its thread follows
     * it, and no other takes it up. */
    task->servers = new_memory((size_t) task->shard_count * sizeof *task->servers);
    for (int i = 0; i < task->shard_count; i++)
        task->servers[i] = hv_shard_server(task->store, task->shards[i]);
    task->choice = (export_choice){.format = task->asked.format,
                                   .identity = identity(task),
                                   .text = choice_text(task),
                                   .resume = task->asked.resume,
                                   .overwrite = task->asked.overwrite,
                                   .many = task->asked.dir != NULL};
    return check_folder(task);
}

/* An export has keys, kinds and attributes. The other things that shards hold must not be missed
 * only when it is imported again. */
static void look_for_left_out(export_task *task) {
    find_left_out(task->store, task->shards, task->shard_count, &task->left_out);
    left_out_note_columns(&task->left_out, "further columns of entities are not exported");
    left_out_note_tables(&task->left_out, "further tables are not exported");
}

/* ---- Exporting ------------------------------------------------------------------------------- */

static bool fail(export_task *task, hv_error *error) {
    if (error != NULL)
        ui_error(error);
    hv_error_free(error);
    atomic_store(&task->failed, true);
    return false;
}

/* Give a progress bar that is shown the number of entities to expect from servers `first` to `end`
 * - 1. Servers cannot estimate a part of their entities, nor the rest of an export that is
 * continued. */
static void estimate(export_task *task, int line, int first, int end) {
    const request *asked = &task->asked;
    int64_t total = 0;
    bool known = ui_progress_is_shown(task->progress) && !asked->resume && asked->kind_count == 0 &&
                 task->from == 0 && task->until == 0;
    for (int i = first; i < end && known; i++)
        known = export_estimate(task->store, i, task->shards, task->shard_count, &total);
    if (known)
        ui_progress_estimate(task->progress, line, total);
}

static bool is_over(export_task *task) {
    return interrupted() || atomic_load(&task->failed);
}

/* Count and skip a row that is not an entity. Takes *error. */
static void note_unreadable(export_task *task, const hv_scan *scan, hv_error **error) {
    pthread_mutex_lock(&task->lock);
    if (task->unreadable < UNREADABLE_KEYS) {
        task->unreadable_keys[task->unreadable] = hv_scan_key(scan);
        ui_error(*error);
    }
    task->unreadable++;
    pthread_mutex_unlock(&task->lock);
    hv_error_free(*error);
    *error = NULL;
}

/* Write a shard's entities with keys from `from` on; `line` is the progress bar's. */
static bool export_shard(export_task *task, export_file *file, int shard, int64_t from, int line) {
    const request *asked = &task->asked;
    hv_scan *scan = NULL;
    hv_error *error = NULL;
    if (task->nothing)
        return true;
    hv_status status = hv_scan_open(task->store, shard, from, task->until, asked->kinds,
                                    asked->kind_count, &scan, &error);
    bool written = true;
    int64_t count = 0;
    while (status == HV_OK && written && !is_over(task)) {
        status = hv_scan_next(scan, &error);
        if (status == HV_CORRUPT && hv_scan_goes_on(scan)) {
            note_unreadable(task, scan, &error);
            status = HV_OK;
            continue;
        }
        if (status != HV_OK)
            break;
        export_entity(export_file_text(file), asked->format,
                      &(export_row){.key = hv_scan_key(scan),
                                    .shard = shard,
                                    .kind = hv_scan_kind(scan),
                                    .body = hv_scan_dict(scan)});
        written = export_file_written(file);
        if (++count % 256 == 0)
            ui_progress_add(task->progress, line, 256);
    }
    hv_scan_close(scan);
    ui_progress_add(task->progress, line, count % 256);
    atomic_fetch_add(&task->entities, count);
    if (status != HV_OK && status != HV_NOT_FOUND)
        return fail(task, error);
    if (!written)
        return fail(task, NULL);
    return status == HV_NOT_FOUND;
}

/* Write shards[0 .. count) to one file. */
static bool export_to(export_task *task, const char *path, const int *shards, int count, int line) {
    export_file *file = NULL;
    int64_t last_key;
    int last_shard;
    export_opened opened = export_file_open(&file, path, &task->choice, &last_key, &last_shard);
    if (opened == EXPORT_REFUSED) {
        atomic_store(&task->refused, true);
        return fail(task, NULL);
    }
    bool complete = true;
    for (int i = 0; complete && i < count && opened != EXPORT_COMPLETE; i++) {
        int64_t from =
            shards[i] == last_shard && last_key >= task->from ? last_key + 1 : task->from;
        if (shards[i] >= last_shard)
            complete = export_shard(task, file, shards[i], from, line);
    }
    if (file != NULL && !export_file_close(file, complete))
        complete = fail(task, NULL);
    if (file != NULL)
        atomic_fetch_add(&task->bytes, export_file_added(file));
    export_file_free(file);
    return complete;
}

/* Write a file for each chosen shard of a server. */
typedef struct server_part {
    export_task *task;
    bool complete;
} server_part;

static void export_server(hv_store *store, int server, void *item) {
    (void) store;
    server_part *part = item;
    export_task *task = part->task;
    part->complete = true;
    estimate(task, server, server, server + 1);
    for (int i = 0; i < task->shard_count && part->complete; i++) {
        int shard = task->shards[i];
        if (task->servers[i] != server)
            continue;
        char *path = path_of_shard(task, shard);
        part->complete = !is_over(task) && export_to(task, path, &shard, 1, server);
        free(path);
    }
    ui_progress_end(task->progress, server, part->complete ? UI_DONE : UI_FAILED);
}

/* All parts are complete: put them in place of the files. Devices and pipes have been written to
 * already. */
static bool replace_all(export_task *task) {
    struct stat info;
    bool good = true;
    int count = task->asked.dir != NULL ? task->shard_count : 1;
    for (int i = 0; i < count && good; i++) {
        char *path = task->asked.dir != NULL ? path_of_shard(task, task->shards[i])
                                             : copy_text(task->asked.path);
        bool written = strcmp(path, "-") == 0 || (stat(path, &info) == 0 && !S_ISREG(info.st_mode));
        good = written || export_file_replace(path, &task->choice);
        free(path);
    }
    return good;
}

static bool export_all(export_task *task) {
    int count = task->asked.dir != NULL ? hv_server_count(task->store) : 1;
    const char **names = new_memory((size_t) count * sizeof *names);
    names[0] = task->asked.path;
    for (int i = 0; i < count && task->asked.dir != NULL; i++)
        names[i] = hv_server_name(task->store, i);
    task->progress = ui_progress_new(count, names, "entities");
    bool complete = true;
    if (task->asked.dir == NULL) {
        estimate(task, 0, 0, hv_server_count(task->store));
        complete = export_to(task, task->asked.path, task->shards, task->shard_count, 0);
    } else {
        server_part *parts = new_memory((size_t) count * sizeof *parts);
        for (int i = 0; i < count; i++)
            parts[i].task = task;
        on_all_servers(task->store, export_server, parts, sizeof *parts);
        for (int i = 0; i < count; i++)
            complete = complete && parts[i].complete;
        free(parts);
    }
    ui_progress_free(task->progress, false);
    free(names);
    return complete && (!task->asked.overwrite || replace_all(task));
}

/* ---- The report ------------------------------------------------------------------------------ */

/* Goes to standard error if the entities go to standard output. */
static void print_summary(export_task *task, bool complete, int64_t duration) {
    bool standard = task->asked.path != NULL && strcmp(task->asked.path, "-") == 0;
    int64_t entities = atomic_load(&task->entities), bytes = atomic_load(&task->bytes);
    json_t *keys = json_array();
    for (int i = 0; i < UNREADABLE_KEYS && i < task->unreadable; i++)
        json_array_append_new(keys, json_sprintf("%" PRId64, task->unreadable_keys[i]));
    if (ui_is_json() && !standard)
        print_json(json_pack(
            "{s:b, s:I, s:I, s:O, s:i, s:I, s:o, s:o, s:f}", "complete", complete, "entities",
            (json_int_t) entities, "unreadable", (json_int_t) task->unreadable, "unreadable_keys",
            keys, "shards", task->shard_count, "bytes", (json_int_t) bytes, "columns_left_out",
            left_out_columns_json(&task->left_out), "tables_left_out",
            left_out_tables_json(&task->left_out), "seconds", (double) duration / 1e6));
    json_decref(keys);
    if (ui_is_json())
        return;
    char number[UI_NUMBER_SIZE], size[UI_NUMBER_SIZE], time[UI_NUMBER_SIZE];
    fprintf(standard ? stderr : stdout, "%s entities written, %s; %s\n",
            ui_number(number, entities), ui_bytes(size, bytes), ui_duration(time, duration));
    if (task->unreadable > 0)
        fprintf(standard ? stderr : stdout, "%s rows could not be read and are not in the export\n",
                ui_number(number, task->unreadable));
    if (!complete && !standard && !atomic_load(&task->refused))
        printf("ended early; to continue: %s--resume\n",
               task->asked.overwrite ? "--overwrite " : "");
}

static int run(arguments *args) {
    export_task task = {.asked = read_request(args), .lock = PTHREAD_MUTEX_INITIALIZER};
    int code = EXIT_FAILED;
    if (prepare(&task)) {
        look_for_left_out(&task);
        interrupt_catch();
        int64_t started = hvi_clock_us();
        bool complete = export_all(&task);
        if (complete || !atomic_load(&task.refused) || atomic_load(&task.entities) > 0)
            print_summary(&task, complete, hvi_clock_us() - started);
        code = complete && task.unreadable == 0 ? EXIT_DONE : EXIT_FAILED;
    }
    left_out_fini(&task.left_out);
    free(task.choice.text);
    free(task.shards);
    free(task.servers);
    free(task.asked.kinds);
    hv_close(task.store, 0, NULL);
    return code;
}

const command command_export = {
    .name = "export",
    .synopsis = "FILE|- [OPTION]...\n--dir DIR [OPTION]...",
    .summary = "write entities to a file that can be imported",
    .help =
        "Writes the entities of all shards, or of those chosen, sorted by shard and key;\n"
        "- is standard output. With --dir each shard has its own file in DIR,\n"
        "shard0012.ndjson, and all servers are read at the same time. The same entities\n"
        "are always the same bytes. `hv import --exported` reads them and keeps their keys.\n"
        "\n"
        "  ndjson  a line for each entity, NULL as null:\n"
        "          "
        "{\"id\":\"307821103844175873\",\"shard_id\":12,\"kind\":1,\"body\":{\"beep\":\"boop\"}}\n"
        "  csv     with the header id,shard_id,kind,body; the body in hstore's text form\n"
        "\n"
        "Control characters are escaped in ndjson. In csv they are written as they are,\n"
        "but on a terminal they are made visible.\n"
        "\n"
        "Each shard is written as it was when its export began. Until the export is\n"
        "complete, the file is called FILE.part-XXXXXXXX. FILE must not exist; with\n"
        "--overwrite it is replaced at the end, with --dir when the files of all shards\n"
        "are complete. After an interrupt, a kill or a failure --resume continues after\n"
        "the last entity in the file; the rest of its shard is then as it is at that time.\n"
        "A finished export cannot be continued: the error says what it contains and when\n"
        "it was made.\n"
        "\n"
        "A row without a type or a body, which a table without NOT NULL allows, is\n"
        "skipped; the first of them are named, and the exit code is 1.\n"
        "\n"
        "Further columns of entities, and further tables of shards, are not exported: a note\n"
        "names them, and with --json columns_left_out and tables_left_out. pg_dump has them.\n"
        "\n"
        "TIME is as for `hv key --at`: a date, a date and time, now, or @ and milliseconds.",
    .options = options,
    .examples = "hv export people.ndjson --kind 1\n"
                "hv export --dir backup --since 2026-11-01 --until 2026-12-01\n"
                "hv export - --shards 12 | jq .body",
    .run = run,
};
