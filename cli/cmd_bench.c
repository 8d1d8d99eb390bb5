/*
 * hv bench: measure a store under load.
 *
 * A run goes through these steps. Whatever the outcome, the entities it has put are removed at the
 * end:
 *
 *     check the servers --> put what is to be got --> warm up --> measure --> report --> remove
 */
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "arguments.h"
#include "bench/load.h"
#include "bench/report.h"
#include "bench/servers.h"
#include "bench/settings.h"
#include "bench/usage.h"
#include "commands.h"
#include "servers/shard_choice.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/ui.h"

#define MAX_VALUE_SIZE (INT64_C(64) << 20)
#define MAX_MEMORY     (INT64_C(1) << 30) /* for all callers' values */
#define DEFAULT_LANES  "2"                /* with --via lane, if the configuration has 0 */
#define MAX_BATCH      10000

enum {
    OPTION_CALLERS = 1,
    OPTION_BATCH,
    OPTION_SECONDS,
    OPTION_WARMUP,
    OPTION_RATE,
    OPTION_MIX,
    OPTION_WRITES,
    OPTION_ENTITIES,
    OPTION_VALUE_SIZE,
    OPTION_SHARDS,
    OPTION_KIND,
    OPTION_VIA,
    OPTION_KEEP,
};

static const command_option options[] = {
    {"callers", 'n', "N", OPTION_CALLERS, "threads that call at once, 1 to 1024; default: 16"},
    {"batch", 'b', "N", OPTION_BATCH, "operations in one call, 1 to 10000; default: 1"},
    {"seconds", 't', "S", OPTION_SECONDS, "how long to measure; default: 10"},
    {"warmup", 0, "S", OPTION_WARMUP, "seconds to warm up before; default: 1, with delete 0"},
    {"rate", 'r', "N", OPTION_RATE, "operations that are due each second, for all callers"},
    {"mix", 0, "PERCENT", OPTION_MIX, "with mix: how many are gets; default: 50"},
    {"writes", 0, "VERB", OPTION_WRITES, "put, merge or modify; with mix: the rest; default: put",
     "put merge modify"},
    {"entities", 0, "N", OPTION_ENTITIES,
     "without put: put N first; default: 10000, with delete 100000"},
    {"value-size", 0, "BYTES", OPTION_VALUE_SIZE, "one value of this size instead of small ones"},
    {"shards", 's', "LIST", OPTION_SHARDS,
     "as in the configuration: 1-5,9 is 1 to 4 and 9; default: all"},
    {"kind", 'k', "N", OPTION_KIND, "the kind of the entities; default: 32767"},
    {"via", 0, "WAY", OPTION_VIA, "store, lane or pool; default: store", "store lane pool"},
    {"keep", 0, NULL, OPTION_KEEP, "do not remove the entities at the end"},
    {NULL, 0, NULL, 0, NULL},
};

/* All that one run needs. */
typedef struct bench_run {
    bench_settings settings;
    const char *shards; /* --shards, or NULL */
    hv_store *store;
    bench_servers servers;
    bench_load *load;
    const bench_result *result; /* NULL: the run ended before */
    bench_usage usage;          /* during the measurement */
} bench_run;

/* ---- What was typed -------------------------------------------------------------------------- */

static bench_way argument_via(const arguments *args, const char *text) {
    for (int way = 0; way < BENCH_WAYS; way++)
        if (strcmp(text, bench_way_name((bench_way) way)) == 0)
            return (bench_way) way;
    usage_error(args, "The ways are store, lane and pool.", "unknown way \"%s\"", text);
}

static bench_verb argument_verb(const arguments *args, const char *text) {
    for (int verb = 0; verb < BENCH_VERBS; verb++)
        if (strcmp(text, bench_verb_name((bench_verb) verb)) == 0)
            return (bench_verb) verb;
    usage_error(args, "It is put, get, merge, modify, delete or mix.",
                "there is no \"%s\" to measure", text);
}

static bench_verb argument_writes(const arguments *args, const char *text) {
    static const bench_verb verbs[] = {BENCH_PUT, BENCH_MERGE, BENCH_MODIFY};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(text, bench_verb_name(verbs[i])) == 0)
            return verbs[i];
    usage_error(args, "They are put, merge or modify.", "a mix cannot have \"%s\"", text);
}

/* What was typed about the work; -1: nothing. */
typedef struct work_options {
    int64_t mix;
    int64_t writes; /* a bench_verb */
    int64_t entities;
    int64_t warmup;
} work_options;

/* The kind of work, and what fits it. */
static void take_work(const arguments *args, bench_settings *settings, const work_options *typed) {
    bool is_mix = strcmp(args->items[0], "mix") == 0;
    bench_verb verb = is_mix ? BENCH_VERBS : argument_verb(args, args->items[0]);
    if (typed->mix >= 0 && !is_mix)
        usage_error(args, "Write `hv bench mix`.", "--mix is for a mix of gets and writes");
    if (typed->writes >= 0 && !is_mix)
        usage_error(args, "Write `hv bench mix`.", "--writes is for a mix of gets and writes");
    if (typed->entities >= 0 && verb == BENCH_PUT)
        usage_error(args, NULL, "--entities is for what is done with entities that are there");
    settings->work = is_mix ? "mix" : bench_verb_name(verb);
    settings->get_percent =
        is_mix ? (typed->mix >= 0 ? (int) typed->mix : 50) : (verb == BENCH_GET ? 100 : 0);
    settings->write = is_mix ? (typed->writes >= 0 ? (bench_verb) typed->writes : BENCH_PUT)
                      : verb == BENCH_GET ? BENCH_PUT
                                          : verb;
    bool is_delete = verb == BENCH_DELETE;
    settings->warmup = typed->warmup >= 0 ? typed->warmup : is_delete ? 0 : 1;
    settings->entities = verb == BENCH_PUT      ? 0
                         : typed->entities >= 0 ? typed->entities
                         : is_delete            ? 100000
                                                : 10000;
    if (settings->batch > 1 && settings->write == BENCH_MODIFY)
        usage_error(args, NULL, "--batch is not for modify, which is two operations in turn");
    if (settings->way == BENCH_VIA_POOL && settings->write != BENCH_PUT)
        usage_error(args, NULL, "--via pool is for puts and gets");
}

static void read_arguments(arguments *args, bench_run *run) {
    bench_settings *settings = &run->settings;
    work_options typed = {.mix = -1, .writes = -1, .entities = -1, .warmup = -1};
    int id;
    while ((id = arguments_next(args)) != 0) {
        const char *value = args->value;
        switch (id) {
        case OPTION_CALLERS:
            settings->callers = (int) argument_integer(args, "--callers", value, 1, 1024);
            break;
        case OPTION_BATCH:
            settings->batch = (int) argument_integer(args, "--batch", value, 1, MAX_BATCH);
            break;
        case OPTION_SECONDS:
            settings->seconds = argument_integer(args, "--seconds", value, 1, 86400);
            break;
        case OPTION_WARMUP:
            typed.warmup = argument_integer(args, "--warmup", value, 0, 3600);
            break;
        case OPTION_RATE:
            settings->rate = argument_integer(args, "--rate", value, 1, 10000000);
            break;
        case OPTION_MIX:
            typed.mix = argument_integer(args, "--mix", value, 0, 100);
            break;
        case OPTION_WRITES:
            typed.writes = argument_writes(args, value);
            break;
        case OPTION_ENTITIES:
            typed.entities = argument_integer(args, "--entities", value, 1, 100000000);
            break;
        case OPTION_VALUE_SIZE:
            settings->value_size = argument_integer(args, "--value-size", value, 0, MAX_VALUE_SIZE);
            break;
        case OPTION_SHARDS:
            run->shards = value;
            break;
        case OPTION_KIND:
            settings->kind = argument_kind(args, value);
            break;
        case OPTION_VIA:
            settings->way = argument_via(args, value);
            break;
        case OPTION_KEEP:
            settings->keep = true;
            break;
        }
    }
    arguments_expect(args, 1, 1);
    take_work(args, settings, &typed);
    if (settings->batch > 1 && settings->way == BENCH_VIA_POOL)
        usage_error(args, NULL, "--batch is for calls of the store, and not for --via pool");
    if (settings->value_size * settings->callers > MAX_MEMORY)
        usage_error(args, "Take fewer callers or a smaller value: together up to 1 GiB.",
                    "%d callers with %" PRId64 " bytes each are too much", settings->callers,
                    settings->value_size);
}

/* ---- Preparing ------------------------------------------------------------------------------- */

static bool fail(hv_error *error) {
    ui_error(error);
    hv_error_free(error);
    return false;
}

static bool open_store_for(bench_run *run) {
    hv_options *loaded = NULL;
    hv_error *error = NULL;
    if (load_options(&loaded, NULL) != EXIT_DONE)
        return false;
    const char *lanes = hv_options_get(loaded, "lanes");
    if (run->settings.way == BENCH_VIA_LANE && lanes != NULL && atoi(lanes) == 0)
        hv_options_set(loaded, "lanes", DEFAULT_LANES, NULL);
    run->settings.lanes = atoi(hv_options_get(loaded, "lanes"));
    const char *prepared_max = hv_options_get(loaded, "prepared_max");
    run->settings.prepare = strcmp(hv_options_get(loaded, "prepare"), "on") == 0;
    run->settings.prepared_max = prepared_max != NULL ? atoi(prepared_max) : 1;
    hv_status status = hv_open(loaded, &run->store, &error);
    hv_options_free(loaded);
    return status == HV_OK || fail(error);
}

static bool make_mark(bench_settings *settings) {
    uint64_t random;
    if (getrandom(&random, sizeof random, 0) != (ssize_t) sizeof random) {
        ui_fail(NULL, NULL, "could not get random numbers");
        return false;
    }
    snprintf(settings->mark, sizeof settings->mark, "%016" PRIx64, random);
    return true;
}

/* ---- The run --------------------------------------------------------------------------------- */

/* True: there is a result. */
static bool measure(bench_run *run) {
    bench_usage before = {0};
    run->load = bench_load_new(&run->settings, run->store);
    if (!bench_load_fill(run->load) || !bench_load_start(run->load))
        return false;
    bench_usage_take(&before, run->store, run->servers.postmasters);
    run->result = bench_load_finish(run->load);
    bench_usage_take(&run->usage, run->store, run->servers.postmasters);
    bench_usage_since(&run->usage, &before);
    bench_usage_fini(&before);
    return run->result->measured;
}

/* Remove what was put, unless it is to be kept. */
static bool clean(bench_run *run, bench_report *report) {
    report->stored = bench_load_stored(run->load);
    report->unknown = bench_load_unknown(run->load);
    report->deleted = bench_load_deleted(run->load);
    report->removed = run->settings.keep ? -1 : 0;
    int64_t left = report->stored - report->deleted;
    if (run->settings.keep || left + report->unknown == 0)
        return true;
    return bench_servers_clean(&run->servers, left, bench_load_least_key(run->load),
                               &report->removed);
}

static int run_all(bench_run *run) {
    bench_report report = {.settings = &run->settings, .store = run->store, .usage = &run->usage};
    signal(SIGPIPE, SIG_IGN); /* a reader that has seen enough must not keep us from removing */
    interrupt_catch();
    bool measured = measure(run);
    report.result = run->result;
    report.complete = measured && !interrupted();
    if (!ui_is_json()) {
        bench_report_print(&report);
        fflush(stdout);
    }
    bool is_clean = clean(run, &report);
    signal(SIGPIPE, SIG_DFL);
    if (ui_is_json())
        bench_report_print_json(&report);
    else
        bench_report_print_end(&report);
    return measured && is_clean && run->result->errors.total == 0 ? EXIT_DONE : EXIT_FAILED;
}

static int run(arguments *args) {
    bench_run task = {
        .settings = {.callers = 16, .batch = 1, .seconds = 10, .kind = 32767, .value_size = -1},
    };
    read_arguments(args, &task);
    int code = EXIT_FAILED;
    if (open_store_for(&task) && make_mark(&task.settings)) {
        code = choose_shards(task.store, task.shards, &task.settings.shards,
                             &task.settings.shard_count);
        if (code == EXIT_DONE)
            code = bench_servers_check(&task.servers, &task.settings, task.store) ? run_all(&task)
                                                                                  : EXIT_FAILED;
    }
    bench_usage_fini(&task.usage);
    bench_load_free(task.load);
    bench_servers_fini(&task.servers);
    hv_close(task.store, 0, NULL);
    free(task.settings.shards);
    return code;
}

const command command_bench = {
    .name = "bench",
    .synopsis = "put|get|merge|modify|delete|mix [OPTION]...",
    .summary = "measure a store under load",
    .help = "Callers, each a thread, put entities in shards chosen at random, or get or change\n"
            "entities chosen at random that were put first. What is got is compared with what\n"
            "was put. The report shows operations, latencies, errors, connections and CPU time.\n"
            "\n"
            "merge sets an attribute. modify gets an entity and merges what follows from it if\n"
            "it is still the same version, and otherwise begins again. delete deletes each\n"
            "entity once; the measurement ends when none is left. mix is gets, and what\n"
            "--writes says: with merge it is like YCSB's workload A, with modify like F.\n"
            "\n"
            "How latency is measured: without --rate each caller begins an operation when its\n"
            "last one has ended, and is timed from there. Each caller then sees a stall of the\n"
            "server once, though many more operations would have come meanwhile, so the\n"
            "percentiles are too low. With --rate operations are due at regular times and are\n"
            "timed from those, so waiting for a free caller counts: use enough callers.\n"
            "Operations that were due but had not begun at the end are counted separately.\n"
            "\n"
            "Operations count if they began, or were due, after the warm-up and before the\n"
            "end, however long they took. Latencies are those of operations that succeeded, at\n"
            "most 0.8 percent too high; max is exact. Without --rate a caller pauses for 10 ms\n"
            "after an error.\n"
            "\n"
            "With --batch each call is for that many operations, all of one kind, which\n"
            "take as long as the call; with --rate it is made when the last of them is due.\n"
            "\n"
            "--via store calls the store's functions as it is configured, --via lane the same\n"
            "with two lanes if it has none. With --via pool each put or get borrows a\n"
            "connection, runs the prepared statement with libpq and returns it, as an\n"
            "application would without hv_put() and hv_get(), for comparison.\n"
            "\n"
            "Entities have three small attributes, or one value of --value-size. Each has the\n"
            "attribute \"bench\", whose value is random and the same for the whole run. At the\n"
            "end, and also after Ctrl-C, the run's entities are removed: those of its kind\n"
            "with that value and keys not older than the run. No others are touched. After a\n"
            "second Ctrl-C they stay, as with --keep.\n"
            "\n"
            "CPU time is that of this process, and of all processes of the servers on this\n"
            "machine, whatever else these do; 100 % is one core.\n"
            "\n"
            "Exit status: 0 if every operation succeeded, 1 if not.",
    .options = options,
    .examples = "hv bench put\n"
                "hv bench get --callers 64 --entities 100000\n"
                "hv bench mix --mix 90 --rate 2000 --callers 128 --seconds 60\n"
                "hv bench mix --writes modify\n"
                "hv bench get --callers 1 --batch 1000\n"
                "hv bench put --via pool --json | jq .per_second",
    .run = run,
};
