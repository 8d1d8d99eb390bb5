/*
 * hv put: store one entity and print its key.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "rows/key_json.h"
#include "servers/store.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

enum { OPTION_KEY = 1, OPTION_NULL, OPTION_STDIN };

static const command_option options[] = {
    {"key", 'k', "KEY", OPTION_KEY, "put under this key, from hv reserve"},
    {"null", 'n', "NAME", OPTION_NULL, "an attribute whose value is NULL; may be repeated"},
    {"stdin", 0, NULL, OPTION_STDIN, "read attributes from standard input: one JSON object"},
    {NULL, 0, NULL, 0, NULL},
};

/* Add an attribute from the command line; a wrong one is a usage error. */
static void add(const arguments *args, hv_dict *dict, const char *name, size_t name_len,
                const char *value) {
    hv_error *error = NULL;
    if (hv_dict_get(dict, name, name_len, &(const char *){NULL}, NULL))
        usage_error(args, "Name each attribute once.", "attribute \"%.*s\" is given twice",
                    (int) name_len, name);
    hv_status status = hv_dict_set_bytes(dict, name, name_len, value, HV_STRLEN, &error);
    if (status != HV_OK) {
        ui_error(error);
        exit(exit_code(status));
    }
}

/* NAME=VALUE */
static void add_word(const arguments *args, hv_dict *dict, const char *word) {
    const char *equals = strchr(word, '=');
    if (equals == NULL) {
        char *hint =
            format_text("Write %s=VALUE, %s= for an empty value, or --null %s.", word, word, word);
        usage_error(args, hint, "attribute \"%s\" has no value", word);
    }
    add(args, dict, word, (size_t) (equals - word), equals + 1);
}

static json_t *read_object(void) {
    json_error_t problem;
    json_t *object = json_loadf(stdin, JSON_REJECT_DUPLICATES, &problem);
    if (object == NULL) {
        ui_fail_status(
            HV_INVALID, problem.text, "Standard input is one JSON object, {\"name\": \"value\"}.",
            "standard input is not JSON: line %d, column %d", problem.line, problem.column);
        return NULL;
    }
    if (!json_is_object(object)) {
        ui_fail_status(HV_INVALID, NULL,
                       "Standard input is one JSON object, {\"name\": \"value\"}.",
                       "the JSON on standard input is not an object");
        json_decref(object);
        return NULL;
    }
    return object;
}

static int add_stdin(const arguments *args, hv_dict *dict) {
    json_t *object = read_object();
    if (object == NULL)
        return EXIT_USAGE;
    const char *name;
    json_t *value;
    int code = EXIT_DONE;
    json_object_foreach(object, name, value) {
        if (!json_is_string(value) && !json_is_null(value)) {
            ui_fail_status(HV_INVALID, "Attributes are text or NULL.", "Put the value into quotes.",
                           "attribute \"%s\" is neither a string nor null", name);
            code = EXIT_USAGE;
            break;
        }
        add(args, dict, name, strlen(name), json_string_value(value));
    }
    json_decref(object);
    return code;
}

static bool is_number(const char *word) {
    return word[0] != '\0' && word[strspn(word, "0123456789")] == '\0';
}

static void print_key(int64_t key, int64_t epoch, int kind) {
    if (!ui_is_json()) {
        printf("%" PRId64 "\n", key);
        return;
    }
    int64_t created = 0;
    int shard = 0;
    char time[UI_NUMBER_SIZE];
    hv_key_unpack(key, epoch, &created, &shard, NULL, NULL);
    print_json(json_pack("{s:o, s:s, s:i, s:i}", "id", key_json(key), "created",
                         ui_time(time, created), "shard_id", shard, "kind", kind));
}

static int run(arguments *args) {
    hv_dict *dict = hv_dict_new();
    if (dict == NULL)
        out_of_memory();
    bool from_stdin = false;
    int64_t key = 0; /* 0: the database makes one */
    int id;
    while ((id = arguments_next(args)) != 0) {
        switch (id) {
        case OPTION_KEY:
            key = argument_key(args, args->value);
            break;
        case OPTION_NULL:
            add(args, dict, args->value, strlen(args->value), NULL);
            break;
        case OPTION_STDIN:
            from_stdin = true;
            break;
        }
    }
    int next = 0; /* of args->items */
    arguments_expect(args, key != 0 ? 1 : 2, -1);
    if (key != 0 && args->count > 1 && is_number(args->items[1]))
        usage_error(args, "The key includes the shard: leave the shard out.",
                    "shard %s is given in addition to a key", args->items[0]);
    int shard = key != 0 ? -1 : argument_shard(args, args->items[next++]);
    int kind = argument_kind(args, args->items[next++]);
    for (; next < args->count; next++)
        add_word(args, dict, args->items[next]);

    hv_store *store = NULL;
    int code = from_stdin ? add_stdin(args, dict) : EXIT_DONE;
    if (code == EXIT_DONE)
        code = open_store(&store);
    if (code == EXIT_DONE) {
        hv_error *error = NULL;
        hv_status status = key != 0 ? hv_put_key(store, key, kind, dict, &error)
                                    : hv_put(store, shard, kind, dict, &key, &error);
        if (status == HV_OK)
            print_key(key, hv_epoch(store), kind);
        else
            ui_error(error);
        code = exit_code(status);
        hv_error_free(error);
    }
    hv_close(store, 0, NULL);
    hv_dict_free(dict);
    return code;
}

const command command_put = {
    .name = "put",
    .synopsis = "SHARD KIND [NAME=VALUE]... [--null NAME]... [--stdin]\n"
                "--key KEY KIND [NAME=VALUE]... [--null NAME]... [--stdin]",
    .summary = "store an entity and print its key",
    .help = "SHARD is 0 to 8191, KIND a number from -32768 to 32767. NAME= is an empty value.\n"
            "The key is printed when the entity is committed.\n"
            "\n"
            "With --key the shard is the key's, and the command can be repeated: if there is\n"
            "an entity of the same kind and attributes under the key, that is a success; if\n"
            "there is a different one, nothing is changed and the exit code is 1.",
    .options = options,
    .examples = "hv put 12 1 beep=boop\n"
                "hv put 12 1 name=Ada comment= --null email\n"
                "echo '{\"beep\": \"boop\"}' | hv put 12 1 --stdin\n"
                "hv put --key $(hv reserve 12) 1 beep=boop",
    .run = run,
};
