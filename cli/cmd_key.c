/*
 * hv key: show the fields of keys, make keys and bounds of a moment, and find the shard of a value.
 *
 * It contacts no server and, except for values, needs no configuration. If there is one, it gives
 * the epoch of the keys and the server of each shard; one that cannot be read is an error, because
 * guessing the epoch would give wrong answers.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "moment.h"
#include "rows/key_json.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_AT = 1, OPTION_SHARD, OPTION_ADDED_ID, OPTION_EPOCH, OPTION_OF };

static const command_option options[] = {
    {"at", 0, "TIME", OPTION_AT,
     "make a key instead: 2014-11-15T14:11:06.450Z, now, @MILLISECONDS"},
    {"shard", 0, "N", OPTION_SHARD, "with --at: the key of this shard"},
    {"added-id", 0, "N", OPTION_ADDED_ID, "with --at: its added_id, 0 to 1023; default: 0"},
    {"epoch", 0, "MS", OPTION_EPOCH, "count from this epoch instead of the configuration's"},
    {"of", 0, "VALUE", OPTION_OF, "print the shard that this value belongs to instead"},
    {NULL, 0, NULL, 0, NULL},
};

/* What the user asked for; -1 is "not given". */
typedef struct request {
    const char *at;
    int shard;
    int added_id;
    int64_t epoch;
    const char **of; /* owned */
    int of_count;
} request;

/* From the configuration, if there is one. */
typedef struct knowledge {
    int64_t epoch;
    hv_store *store; /* NULL without a configuration */
} knowledge;

static request read_request(arguments *args) {
    request asked = {.shard = -1, .added_id = -1, .epoch = -1};
    int id;
    while ((id = arguments_next(args)) != 0) {
        switch (id) {
        case OPTION_AT:
            asked.at = args->value;
            break;
        case OPTION_SHARD:
            asked.shard = argument_shard(args, args->value);
            break;
        case OPTION_ADDED_ID:
            asked.added_id =
                (int) argument_integer(args, "--added-id", args->value, 0, HV_ADDED_IDS - 1);
            break;
        case OPTION_EPOCH:
            asked.epoch = argument_integer(args, "--epoch", args->value, 0, INT64_MAX);
            break;
        case OPTION_OF:
            asked.of = resize_memory(asked.of, ((size_t) asked.of_count + 1) * sizeof *asked.of);
            asked.of[asked.of_count++] = args->value;
            break;
        }
    }
    if (asked.of_count > 0) {
        if (asked.at != NULL || asked.shard >= 0 || asked.added_id >= 0 || asked.epoch >= 0 ||
            args->count > 0)
            usage_error(args, NULL, "--of excludes keys and all other options of hv key");
        return asked;
    }
    if (asked.at != NULL && args->count > 0)
        usage_error(args, NULL, "--at and a key exclude each other");
    if (asked.at == NULL && (asked.shard >= 0 || asked.added_id >= 0))
        usage_error(args, NULL, "--shard and --added-id need --at");
    if (asked.at == NULL && args->count == 0)
        usage_error(args, NULL, "no key was given");
    if (asked.added_id >= 0 && asked.shard < 0)
        usage_error(args, NULL, "--added-id needs --shard");
    return asked;
}

static int learn(const request *asked, knowledge *known) {
    hv_error *error = NULL;
    char *found = NULL;
    int code = EXIT_DONE;
    known->epoch = HV_DEFAULT_EPOCH;
    known->store = NULL;
    hv_options *loaded = hv_options_new();
    if (loaded == NULL)
        out_of_memory();
    hv_status status = hv_options_load(loaded, config_path(), &found, &error);
    if (status == HV_OK)
        status = hv_options_set(loaded, "check_servers", "off", &error);
    if (status == HV_OK)
        status = hv_open(loaded, &known->store, &error);
    if (status == HV_OK) {
        known->epoch = hv_epoch(known->store);
    } else if (found != NULL || asked->of_count > 0) {
        ui_error(error);
        code = exit_code(status);
    }
    if (asked->epoch >= 0)
        known->epoch = asked->epoch;
    hv_error_free(error);
    hv_options_free(loaded);
    free(found);
    return code;
}

/* The name of the server that holds a shard, or NULL. */
static const char *server_of(const knowledge *known, int shard) {
    if (known->store == NULL)
        return NULL;
    return hv_server_name(known->store, hv_shard_server(known->store, shard));
}

/* ---- Taking apart ---------------------------------------------------------------------------- */

static const ui_column key_columns[] = {
    {"key", true},      {"created", false}, {"shard", true},
    {"added_id", true}, {"schema", false},  {"server", false},
};

/* Add a key to the table, or print it as JSON. */
static void show_key(const knowledge *known, int64_t key, ui_table *table) {
    int64_t created = 0;
    int shard = 0, added_id = 0;
    char time[UI_NUMBER_SIZE];
    hv_key_unpack(key, known->epoch, &created, &shard, &added_id, NULL); /* it is positive */
    ui_time(time, created);
    const char *server = server_of(known, shard);
    if (ui_is_json()) {
        print_json(json_pack("{s:o, s:s, s:i, s:i, s:s*}", "id", key_json(key), "created", time,
                             "shard_id", shard, "added_id", added_id, "server", server));
        return;
    }
    ui_cell(table, UI_NAME, "%" PRId64, key);
    ui_cell(table, UI_PLAIN, "%s", time);
    ui_cell(table, UI_PLAIN, "%d", shard);
    ui_cell(table, UI_PLAIN, "%d", added_id);
    ui_cell(table, UI_PLAIN, "shard%04d", shard);
    if (known->store != NULL)
        ui_cell(table, UI_PLAIN, "%s", server != NULL ? server : "-");
}

static void show_keys(const arguments *args, const knowledge *known) {
    int columns = known->store != NULL ? 6 : 5;
    ui_table *table = ui_table_new(key_columns, columns);
    for (int i = 0; i < args->count && output_ok(); i++)
        show_key(known, argument_key(args, args->items[i]), table);
    if (!ui_is_json())
        ui_table_print(table);
    ui_table_free(table);
}

/* ---- Making ---------------------------------------------------------------------------------- */

static int make_key(const arguments *args, const request *asked, const knowledge *known) {
    hv_error *error = NULL;
    int64_t created, bound = 0, key = 0;
    if (!moment_parse(asked->at, &created))
        usage_error(args,
                    "Write it like 2014-11-15T14:11:06.450Z, 2014-11-15, now or @1416060666450.",
                    "not a time: \"%s\"", asked->at);
    int added_id = asked->added_id >= 0 ? asked->added_id : 0;
    hv_status status = hv_key_bound(created, known->epoch, &bound, &error);
    if (status == HV_OK && asked->shard >= 0)
        status = hv_key_pack(created, asked->shard, added_id, known->epoch, &key, &error);
    if (status != HV_OK) {
        ui_error(error);
        hv_error_free(error);
        return exit_code(status);
    }
    char time[UI_NUMBER_SIZE];
    ui_time(time, created);
    const char *server = asked->shard >= 0 ? server_of(known, asked->shard) : NULL;
    if (ui_is_json()) {
        json_t *made = json_pack("{s:s, s:o}", "created", time, "bound", key_json(bound));
        if (asked->shard >= 0)
            json_object_update_new(made, json_pack("{s:o, s:i, s:i, s:s*}", "id", key_json(key),
                                                   "shard_id", asked->shard, "added_id", added_id,
                                                   "server", server));
        print_json(made);
        return EXIT_DONE;
    }
    printf("created  %s\n", time);
    printf("bound    %s%" PRId64 "%s   WHERE id >= %" PRId64 "\n", ui_on(stdout, UI_NAME), bound,
           ui_off(stdout), bound);
    if (asked->shard >= 0) {
        printf("key      %s%" PRId64 "%s   shard %d, added_id %d", ui_on(stdout, UI_NAME), key,
               ui_off(stdout), asked->shard, added_id);
        if (server != NULL) {
            fputs(", server ", stdout);
            ui_text(stdout, server, strlen(server));
        }
        putchar('\n');
    }
    return EXIT_DONE;
}

/* ---- Shards of values ------------------------------------------------------------------------ */

static int show_shards(const request *asked, const knowledge *known) {
    for (int i = 0; i < asked->of_count && output_ok(); i++) {
        const char *value = asked->of[i];
        hv_error *error = NULL;
        int shard = -1;
        hv_status status = hv_shard_of(known->store, value, HV_STRLEN, &shard, &error);
        if (status != HV_OK) {
            ui_error(error);
            hv_error_free(error);
            return exit_code(status);
        }
        if (ui_is_json())
            print_json(json_pack("{s:o, s:i, s:s}", "value", ui_json_text(value), "shard_id", shard,
                                 "server", server_of(known, shard)));
        else
            printf("%d\n", shard);
    }
    return EXIT_DONE;
}

static int run(arguments *args) {
    request asked = read_request(args);
    for (int i = 0; i < args->count; i++)
        argument_key(args, args->items[i]); /* all of them are checked before one is shown */
    knowledge known;
    int code = learn(&asked, &known);
    if (code == EXIT_DONE && asked.of_count > 0)
        code = show_shards(&asked, &known);
    else if (code == EXIT_DONE && asked.at != NULL)
        code = make_key(args, &asked, &known);
    else if (code == EXIT_DONE)
        show_keys(args, &known);
    hv_close(known.store, 0, NULL);
    free(asked.of);
    return code;
}

const command command_key = {
    .name = "key",
    .synopsis = "KEY...\n--at TIME [--shard N [--added-id N]]\n--of VALUE...",
    .summary = "show the fields of keys, make keys of a time, or find the shard of a value",
    .help = "Shows when a key was made, and in which shard. With --at it makes the bound for\n"
            "scanning by time, `WHERE id >= BOUND`, which is the same in all shards, and with\n"
            "--shard the first key of that time in a shard.\n"
            "\n"
            "TIME is a date or a date and time as in ISO 8601 (UTC, unless an offset follows),\n"
            "`now`, or @ and the milliseconds since 1970; it is cut to milliseconds.\n"
            "\n"
            "With --of, which may be repeated, it prints the shard that a value belongs to, such\n"
            "as an e-mail address: a number on each line. That is one of the shards that the\n"
            "option `spread` of the configuration names, always the same one, and the one that\n"
            "`hv import --by` and db.shard_of() in Python choose.\n"
            "\n"
            "No server is contacted, and except for --of no configuration is needed. If there is\n"
            "one, its epoch is used, and the server of each shard is shown.",
    .options = options,
    .examples = "hv key 307821103844175873\n"
                "hv key --at 2014-11-15\n"
                "hv key --at 2014-11-15T14:11:06.450Z --shard 12\n"
                "hv key --at now --json\n"
                "hv put $(hv key --of a@example.org) 1 email=a@example.org",
    .run = run,
};
