/*
 * hv feed: write every entity that is put, in the order of keys over all shards.
 *
 * Lines are written as soon as nothing more is at hand. What a checkpoint covers was written before
 * it: after a kill in between, the lines since then are written again.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "base/clock.h"
#include "checkpoint.h"
#include "commands.h"
#include "export/format.h"
#include "feed_output.h"
#include "selection.h"
#include "servers/identity.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/ui.h"

enum { OPTION_START = 1, OPTION_FOLLOW, OPTION_DELAY, OPTION_CHECKPOINT, OPTION_OUTPUT };

static const command_option options[] = {
    SELECTION_OPTIONS,
    {"from", 0, "KEY|TIME", OPTION_START, "only what comes after this key, or from this time on"},
    {"follow", 0, NULL, OPTION_FOLLOW, "go on with what is put from now on"},
    {"checkpoint", 0, "FILE", OPTION_CHECKPOINT,
     "keep in this file how far it has come, and go on from there"},
    {"output", 0, "FILE", OPTION_OUTPUT, "add the lines to this file; default: standard output"},
    {"delay", 0, "TIME", OPTION_DELAY, "stay so far behind the servers' clocks; default: 1s"},
    SELECTION_LIMIT,
    SELECTION_ONLY,
    {NULL, 0, NULL, 0, NULL},
};

typedef struct feeding {
    selection chosen;
    int64_t start; /* the first key; 0: not given */
    int64_t start_moment;
    bool has_moment;
    bool follow;
    int64_t delay;           /* milliseconds; -1: the default */
    const char *output_path; /* NULL: standard output */
    const char *path;        /* of the checkpoint, or NULL */
    checkpoint saved;        /* what the file holds, or will */
    int64_t saved_us;        /* when it was written */
    hv_store *store;
    hv_reader *reader;
    feed_output output;
    int64_t last;    /* the last key that was read, or 0 */
    bool has_moved;  /* lines were written since the checkpoint */
    char *holder;    /* the message about the present holder, or NULL; owned */
    int64_t held_us; /* since when it is that one */
    bool is_holder_shown;
    char *complaint; /* the last error that did not end it, or NULL; owned */
} feeding;

/* Lines are collected up to this many bytes. */
#define PIECE ((size_t) 64 << 10)
/* A checkpoint is written this often while there is something to write; less often for a position
 * that advances alone. */
#define SAVE_US      INT64_C(1000000)
#define SAVE_IDLE_US INT64_C(10000000)
/* The library names a transaction that has been open for a second; it is reported a second later.
 */
#define HOLDER_US INT64_C(1000000)
/* How long to sleep at most, so that the holder and the checkpoint are looked at. */
#define NAP_MS 250

/* ---- What was typed -------------------------------------------------------------------------- */

static void take_start(feeding *task, const arguments *args) {
    int64_t number;
    if (argument_key_or_moment(args, "--from", args->value, &number)) {
        if (number == INT64_MAX)
            usage_error(args, NULL, "no key comes after %s", args->value);
        task->start = number + 1;
        task->has_moment = false;
    } else {
        task->start_moment = number;
        task->has_moment = true;
    }
}

static void read_request(feeding *task, arguments *args) {
    int id;
    while ((id = arguments_next(args)) != 0) {
        switch (id) {
        case OPTION_START:
            take_start(task, args);
            break;
        case OPTION_FOLLOW:
            task->follow = true;
            break;
        case OPTION_DELAY:
            task->delay = argument_duration(args, "--delay", args->value);
            break;
        case OPTION_CHECKPOINT:
            if (args->value[0] == '\0')
                usage_error(args, NULL, "--checkpoint has no file");
            task->path = args->value;
            break;
        case OPTION_OUTPUT:
            task->output_path = args->value;
            break;
        default:
            selection_option(&task->chosen, args, id);
        }
    }
    arguments_expect(args, 0, 0);
}

/* ---- The checkpoint -------------------------------------------------------------------------- */

static bool refuse(const feeding *task, const char *hint, const char *why) {
    ui_fail(NULL, hint, "the checkpoint \"%s\" cannot be used: %s", task->path, why);
    return false;
}

/* The same, where the position is known: the feed could go on without the file. */
static bool refuse_to_go_on(const feeding *task, const char *detail, const char *why) {
    int64_t position = task->saved.position;
    char *hint = position > 1 ? format_text("To go on from its position all the same, name another "
                                            "file and add --from %" PRId64 ".",
                                            position - 1)
                              : format_text("To begin again, name another file.");
    ui_fail(detail, hint, "the checkpoint \"%s\" is of %s", task->path, why);
    free(hint);
    return false;
}

/* What was left out then must be left out now, or it would be missing without a word. */
static bool check_skips(const feeding *task) {
    const checkpoint *saved = &task->saved;
    for (size_t i = 0; i < saved->skip_count; i++) {
        const checkpoint_skip *skip = &saved->skips[i];
        if (selection_skips(&task->chosen, skip->server))
            continue;
        char *from = skip->from > 1 ? format_text(" and --from %" PRId64, skip->from - 1)
                                    : format_text("%s", "");
        char *hint = format_text(
            "Add --skip-server %s, or begin again where it was first skipped: with another file%s.",
            skip->server, from);
        free(from);
        ui_fail(NULL, hint, "the checkpoint \"%s\" was written while the server \"%s\" was skipped",
                task->path, skip->server);
        free(hint);
        return false;
    }
    return true;
}

static bool has_database(const checkpoint *saved, const char *text) {
    for (size_t i = 0; i < saved->database_count; i++)
        if (strcmp(saved->databases[i], text) == 0)
            return true;
    return false;
}

/* One database in common is enough: servers come and go, and shards move. */
static bool check_databases(const feeding *task, const database_identity *all) {
    const sql_failure *unknown = NULL;
    for (int i = 0; i < hv_server_count(task->store); i++) {
        if (has_database(&task->saved, all[i].text))
            return true;
        if (all[i].text[0] == '\0')
            unknown = &all[i].failure;
    }
    if (unknown == NULL)
        return refuse_to_go_on(task, "None of its databases is among the servers.",
                               "another store");
    if (unknown->error != NULL || unknown->message != NULL)
        sql_failure_say(unknown);
    return refuse(task, "Try again when the servers can be reached.",
                  "whether it is of this store could not be found out");
}

static bool check_saved(const feeding *task, const database_identity *all) {
    if (task->saved.epoch != hv_epoch(task->store))
        return refuse_to_go_on(task, "It has another epoch.", "another store");
    if (task->saved.selection != selection_digest(&task->chosen))
        return refuse_to_go_on(task, "Its kinds, shards or conditions were different.",
                               "another feed");
    return check_databases(task, all) && check_skips(task);
}

/* Note which databases the servers are now. Those that cannot be asked may be the ones from before.
 */
static void note_databases(checkpoint *saved, const database_identity *all, int count) {
    checkpoint now = {0};
    bool all_known = true;
    for (int i = 0; i < count; i++) {
        all_known = all_known && all[i].text[0] != '\0';
        if (all[i].text[0] != '\0')
            checkpoint_add_database(&now, all[i].text);
    }
    for (size_t i = 0; i < saved->database_count && !all_known; i++)
        if (!has_database(&now, saved->databases[i]))
            checkpoint_add_database(&now, saved->databases[i]);
    for (size_t i = 0; i < saved->database_count; i++)
        free(saved->databases[i]);
    free(saved->databases);
    saved->databases = now.databases;
    saved->database_count = now.database_count;
}

static void note_skips(feeding *task) {
    checkpoint *saved = &task->saved;
    const selection *chosen = &task->chosen;
    for (size_t i = 0; i < chosen->word_count; i++) {
        bool is_known = chosen->words[i].id != OPTION_SKIP_SERVER;
        for (size_t j = 0; j < saved->skip_count && !is_known; j++)
            is_known = strcmp(saved->skips[j].server, chosen->words[i].text) == 0;
        if (!is_known)
            checkpoint_add_skip(saved, chosen->words[i].text, saved->position);
    }
}

static bool save(feeding *task) {
    const char *why = NULL;
    task->saved.output_size = task->output.size;
    task->saved.output_inode = task->output.inode;
    if (task->path == NULL)
        return true;
    if (!checkpoint_write(task->path, &task->saved, &why)) {
        ui_fail("What was written to the output since the last checkpoint will be written again.",
                NULL, "could not write the checkpoint \"%s\": %s", task->path, why);
        return false;
    }
    task->saved_us = hvi_clock_us();
    task->has_moved = false;
    return true;
}

/* All lines were written: the position is behind the last one, and may be further. */
static bool save_position(feeding *task, bool is_last) {
    int64_t position = hv_reader_position(task->reader);
    int64_t behind = task->last < INT64_MAX ? task->last + 1 : task->last;
    position = position > behind ? position : behind;
    bool moves = position > task->saved.position;
    int64_t age = hvi_clock_us() - task->saved_us;
    if (!moves || (!is_last && age < (task->has_moved ? SAVE_US : SAVE_IDLE_US)))
        return true;
    task->saved.position = position;
    return feed_output_sync(&task->output) && save(task);
}

/* ---- The beginning --------------------------------------------------------------------------- */

/* Where the first run begins: at the first key of all, unless --from says something else. */
static int find_start(feeding *task) {
    hv_error *error = NULL;
    task->saved.position = task->start > 0 ? task->start : 1;
    if (!task->has_moment)
        return EXIT_DONE;
    int64_t bound = 0;
    hv_status status = hv_key_bound(task->start_moment, hv_epoch(task->store), &bound, &error);
    if (status != HV_OK)
        return selection_refused(status, error);
    task->saved.position = bound > 0 ? bound : 1;
    return EXIT_DONE;
}

/* Compare the checkpoint, if one was found, with the store and what was typed, and note what the
 * next one will say. */
static bool prepare_checkpoint(feeding *task, bool is_found) {
    int count = hv_server_count(task->store);
    database_identity *all = new_memory((size_t) count * sizeof *all);
    for (int i = 0; i < count; i++)
        all[i].is_left_out = selection_skips(&task->chosen, hv_server_name(task->store, i));
    identify_databases(task->store, all);
    bool good = !is_found || check_saved(task, all);
    if (good) {
        task->saved.epoch = hv_epoch(task->store);
        task->saved.selection = selection_digest(&task->chosen);
        note_databases(&task->saved, all, count);
        note_skips(task);
    }
    for (int i = 0; i < count; i++)
        sql_failure_clear(&all[i].failure);
    free(all);
    return good;
}

/* Find the position: that of the checkpoint, if there is one. */
static int find_position(feeding *task) {
    const char *why = NULL;
    checkpoint_found found =
        task->path != NULL ? checkpoint_read(task->path, &task->saved, &why) : CHECKPOINT_NONE;
    if (found == CHECKPOINT_UNUSABLE) {
        refuse(task, "Check what it is; to begin again, remove it or name another file.", why);
        return EXIT_FAILED;
    }
    int code = found == CHECKPOINT_NONE ? find_start(task) : EXIT_DONE;
    if (code == EXIT_DONE && task->path != NULL &&
        !prepare_checkpoint(task, found == CHECKPOINT_READ))
        code = EXIT_FAILED;
    return code;
}

static int begin(feeding *task) {
    hv_error *error = NULL;
    int code = find_position(task);
    if (code != EXIT_DONE)
        return code;
    hv_status status = hv_selection_from(task->chosen.built, task->saved.position, &error);
    if (status == HV_OK)
        status = hv_feed(task->store, task->chosen.built, task->follow, task->delay, &task->reader,
                         &error);
    if (status != HV_OK)
        return selection_refused(status, error);
    const checkpoint *saved = &task->saved;
    if (!feed_output_open(&task->output, task->output_path, saved->output_size, saved->output_inode,
                          saved->position) ||
        !save(task)) /* before anything else, so that one that cannot be written is found at once */
        return EXIT_FAILED;
    const hv_error *missing;
    for (size_t i = 0; (missing = hv_reader_missing(task->reader, i)) != NULL; i++)
        code = worse_code(code, selection_missing(&task->chosen, missing));
    return code;
}

/* ---- The output ------------------------------------------------------------------------------ */

static bool write_lines(feeding *task) {
    bool is_some = task->output.text.len > 0;
    if (!feed_output_write(&task->output))
        return false;
    task->has_moved = task->has_moved || is_some;
    return true;
}

static bool add_line(feeding *task) {
    export_row entity = {.key = hv_reader_key(task->reader),
                         .kind = hv_reader_kind(task->reader),
                         .body = hv_reader_dict(task->reader)};
    hv_key_unpack(entity.key, hv_epoch(task->store), NULL, &entity.shard, NULL, NULL);
    export_entity(&task->output.text, &row_ndjson, &entity);
    task->last = entity.key;
    return (task->output.text.len < PIECE && !task->output.text.failed) ||
           (write_lines(task) && save_position(task, false));
}

/* ---- Waiting --------------------------------------------------------------------------------- */

static void show_holder(const hv_error *holder, int64_t behind) {
    char time[UI_NUMBER_SIZE] = "";
    if (behind >= 0)
        ui_duration(time, behind * 1000);
    if (ui_is_json()) {
        json_t *whole =
            json_pack("{s:o, s:I}", "holder", holder != NULL ? ui_error_json(holder) : json_null(),
                      "behind_ms", (json_int_t) behind);
        if (whole == NULL)
            out_of_memory();
        char *text = ui_json_dump(whole);
        fprintf(stderr, "%s\n", text);
        free(text);
        json_decref(whole);
    } else if (holder == NULL) {
        ui_note("the feed goes on%s%s%s", behind >= 0 ? ", " : "", time,
                behind >= 0 ? " behind" : "");
    } else {
        char *line = ui_error_line(holder);
        ui_note("the feed waits%s%s%s: %s", behind >= 0 ? ", " : "", time,
                behind >= 0 ? " behind" : "", line);
        free(line);
    }
}

/* Report what holds the feed: if it does so for long, when it is another one, and when it ends. */
static void watch_holder(feeding *task) {
    int64_t behind = -1, now = hvi_clock_us();
    const hv_error *holder = hv_reader_holder(task->reader, &behind);
    const char *message = holder != NULL ? hv_error_message(holder) : NULL;
    bool is_same = message == NULL || task->holder == NULL ? message == task->holder
                                                           : strcmp(message, task->holder) == 0;
    if (!is_same) {
        if (holder == NULL && task->is_holder_shown)
            show_holder(NULL, behind);
        if (holder == NULL || task->holder == NULL)
            task->is_holder_shown = false;
        else if (task->is_holder_shown)
            show_holder(holder, behind);
        free(task->holder);
        task->holder = message != NULL ? copy_text(message) : NULL;
        task->held_us = now;
    }
    if (holder != NULL && !task->is_holder_shown && now - task->held_us >= HOLDER_US) {
        show_holder(holder, behind);
        task->is_holder_shown = true;
    }
}

/* Wait until the reader has something to do, or there may be something to say. An output that
 * nobody reads any more ends it, as writing to it would. */
static void nap(const feeding *task) {
    struct pollfd all[] = {{.fd = hv_reader_fd(task->reader), .events = POLLIN},
                           {.fd = feed_output_watched(&task->output), .events = 0}};
    if (poll(all, 2, NAP_MS) > 0 && (all[1].revents & (POLLERR | POLLHUP)) != 0)
        raise(SIGPIPE);
}

/* ---- Feeding --------------------------------------------------------------------------------- */

/* An error that the feed survives. It is reported once, however often it comes. A clock that has
 * stepped back names another key each time. */
static bool survives(feeding *task, hv_status status, const hv_error *error) {
    char *line = ui_error_line(error);
    bool is_new = task->complaint == NULL || strcmp(task->complaint, line) != 0;
    bool goes_on = status == HV_MISMATCH ? is_new : task->follow && hv_error_retriable(error);
    if (goes_on && is_new)
        ui_error(error);
    free(task->complaint);
    task->complaint = line;
    return goes_on;
}

static int feed(feeding *task) {
    int code = EXIT_DONE;
    hv_status status = HV_OK;
    hv_error *error = NULL;
    bool good = true;
    while (good && !interrupted()) {
        status = hv_reader_next(task->reader, 0, &error);
        if (status == HV_OK) {
            good = add_line(task);
        } else if (status == HV_TIMEOUT && error == NULL) {
            good = write_lines(task) && save_position(task, false);
            watch_holder(task);
            if (good)
                nap(task);
        } else if (error != NULL && survives(task, status, error)) {
            if (status == HV_MISMATCH)
                code = EXIT_FAILED; /* something may be missing */
            good = write_lines(task) && save_position(task, false);
            nap(task);
        } else {
            break;
        }
        hv_error_free(error);
        error = NULL;
    }
    if (error != NULL)
        ui_error(error);
    if (error != NULL || (good && status != HV_NOT_FOUND && !interrupted()))
        code = EXIT_FAILED;
    hv_error_free(error);
    if (good)
        good = write_lines(task) && save_position(task, true);
    if (task->output.is_torn)
        ui_note("interrupted while the output was not read; its last line is not complete");
    return good ? code : EXIT_FAILED;
}

static int run(arguments *args) {
    feeding task = {.delay = -1, .output = {.fd = -1}};
    selection_init(&task.chosen);
    read_request(&task, args);
    int code = open_store(&task.store);
    if (code == EXIT_DONE) {
        interrupt_catch();
        signal(SIGXFSZ, SIG_IGN); /* a file that becomes too large is an error like a full disk */
        code = begin(&task);
    }
    if (code == EXIT_DONE)
        code = feed(&task);
    hv_reader_close(task.reader);
    hv_close(task.store, 0, NULL);
    free(task.holder);
    free(task.complaint);
    feed_output_fini(&task.output);
    checkpoint_fini(&task.saved);
    selection_fini(&task.chosen);
    return code;
}

const command command_feed = {
    .name = "feed",
    .synopsis = "[--from KEY|TIME] [--follow] [OPTION]...",
    .summary = "write all entities in the order of keys, and follow what is put",
    .help =
        "Writes each entity as a line of NDJSON, as hv export does, in the order of keys over all\n"
        "shards and servers: from the beginning, after a key or from a time on, up to now. With\n"
        "--follow it goes on with what is put. No entity is passed over: the feed waits for\n"
        "transactions that are open and could still put one with a smaller key. A server that\n"
        "is down or a transaction that stays open holds the feed; it is named on standard\n"
        "error, with how far behind the feed is. --skip-server goes on without a server.\n"
        "Changes and deletes are not shown: an entity is written as it is then.\n"
        "\n"
        "Keys that were made before they are put, by hv reserve or exactly_once, are seen if\n"
        "that happens within --delay; later they come too late and are missed.\n"
        "\n"
        "With --checkpoint the position is kept in FILE, about once a second and at the end,\n"
        "after the lines before it were written. If there is such a file, the feed goes on\n"
        "there, and --from is not used; a file of another store or with other conditions is\n"
        "refused. After kill -9 the lines since the last checkpoint are written again: with\n"
        "--output, a file to which lines are added, these are cut off before; behind a pipe,\n"
        "compare their keys with the last one that was received to drop them.\n"
        "\n" SELECTION_HELP,
    .options = options,
    .examples = "hv feed --from 2026-11-22\n"
                "hv feed --follow --from now --kind 2 | jq --unbuffered .body\n"
                "hv feed --follow --checkpoint photos.checkpoint --kind 2 | ./index-photos\n"
                "hv feed --follow --checkpoint checkpoint --output all.ndjson",
    .run = run,
};
