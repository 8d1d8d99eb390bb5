/*
 * feed_tool: a reader in a process of its own, which may be killed: prints what hv_feed() returns.
 *
 * usage: feed_tool CONFIG [NAME=VALUE...]
 *
 *     follow, delay     of the feed
 *     after, from, until, since, limit, kind, shards, skip, partial    of the selection
 *     timeout=MS        of each hv_reader_next() (default: 100)
 *     fd=1              wait with poll(2) instead, for as long
 *     last=KEY          end after this key, or when the position is beyond it
 *     count=N           close the reader in the middle, after so many entities
 *     fork=1            first, a forked child tries to use the reader, and closes it
 *     naive=1           no feed: find what is there after the last key, again and again
 *     pool=N            pool_max
 *     get=1             get each entity, too
 *
 * Prints a line of JSON for each entity, for each hv_reader_next() without one, with the feed's
 * position and what holds it, for each error, and at the end.
 */
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hypervault.h"

/* Errors that are returned one after the other before this ends. */
#define ERRORS_MAX 50

static int argument_count;
static char **arguments;

static const char *argument(const char *name) {
    size_t len = strlen(name);
    for (int i = 2; i < argument_count; i++)
        if (strncmp(arguments[i], name, len) == 0 && arguments[i][len] == '=')
            return arguments[i] + len + 1;
    return NULL;
}

static int64_t number(const char *name, int64_t otherwise) {
    const char *text = argument(name);
    return text != NULL ? strtoll(text, NULL, 10) : otherwise;
}

static void print(json_t *line) {
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(line);
}

static json_t *text_or_null(const char *text) {
    return text != NULL ? json_string(text) : json_null();
}

static json_t *error_fields(const hv_error *error) {
    if (error == NULL)
        return json_null();
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:o}", "status", hv_status_name(hv_error_status(error)), "message",
        hv_error_message(error), "detail", text_or_null(hv_error_detail(error)), "hint",
        text_or_null(hv_error_hint(error)), "server", text_or_null(hv_error_server(error)));
}

static void print_error(hv_error *error) {
    print(json_pack("{s:o}", "error", error_fields(error)));
    hv_error_free(error);
}

/* ---- setting up ---- */

static hv_store *open_store(void) {
    hv_options *options = hv_options_new();
    hv_store *store = NULL;
    hv_error *error = NULL;
    const char *pool = argument("pool");
    if (options == NULL || hv_options_load(options, arguments[1], NULL, &error) != HV_OK ||
        (pool != NULL && hv_options_set(options, "pool_max", pool, &error) != HV_OK) ||
        hv_open(options, &store, &error) != HV_OK) {
        print_error(error);
        exit(1);
    }
    hv_options_free(options);
    return store;
}

static hv_selection *make_selection(void) {
    hv_selection *made = hv_selection_new();
    hv_error *error = NULL;
    hv_status status = HV_OK;
#define SET(name, value)                                         \
    do {                                                         \
        if (argument(#name) != NULL && status == HV_OK)          \
            status = hv_selection_##name(made, (value), &error); \
    } while (0)
    SET(after, number("after", 0));
    SET(from, number("from", 0));
    SET(until, number("until", 0));
    SET(since, number("since", 0));
    SET(limit, number("limit", 0));
    SET(kind, (int) number("kind", 0));
    SET(shards, argument("shards"));
    SET(skip, argument("skip"));
    hv_selection_partial(made, number("partial", 0) != 0);
    hv_selection_newest(made, number("newest", 0) != 0);
    if (status == HV_OK)
        return made;
    print_error(error);
    exit(1);
}

/* ---- reading ---- */

static int64_t last_seen;
static int64_t count;

static void print_entity(const hv_reader *reader) {
    const char *name, *value;
    size_t len, value_len;
    json_t *body = json_object();
    const hv_dict *dict = hv_reader_dict(reader);
    for (size_t i = 0; hv_dict_at(dict, i, &name, &len, &value, &value_len); i++)
        json_object_set_new(body, name, text_or_null(value));
    last_seen = hv_reader_key(reader);
    count++;
    print(json_pack("{s:I, s:i, s:o}", "key", (json_int_t) last_seen, "kind",
                    hv_reader_kind(reader), "body", body));
}

/* As a caller may do between two entities: the connections are for it, too. */
static void get_too(hv_store *store) {
    hv_entity *entity = NULL;
    hv_error *error = NULL;
    if (hv_get(store, last_seen, &entity, &error) != HV_OK)
        print_error(error);
    hv_entity_free(entity);
}

static bool is_over(int64_t position) {
    int64_t last = number("last", INT64_MAX), most = number("count", INT64_MAX);
    return last_seen >= last || position > last || count >= most;
}

static void print_idle(const hv_reader *reader) {
    int64_t behind = 0;
    const hv_error *holder = hv_reader_holder(reader, &behind);
    print(json_pack("{s:I, s:I, s:o}", "position", (json_int_t) hv_reader_position(reader),
                    "behind", (json_int_t) behind, "holder", error_fields(holder)));
    fflush(stdout);
}

static void print_missing(const hv_reader *reader) {
    for (size_t i = 0; hv_reader_missing(reader, i) != NULL; i++)
        print(json_pack("{s:o}", "missing", error_fields(hv_reader_missing(reader, i))));
}

/* Wait for the next entity, in one of two ways. */
static hv_status next(hv_reader *reader, hv_error **error) {
    int timeout = (int) number("timeout", 100);
    if (number("fd", 0) == 0)
        return hv_reader_next(reader, timeout, error);
    hv_status status = hv_reader_next(reader, 0, error);
    for (int tries = 0; status == HV_TIMEOUT && *error == NULL && tries < 100; tries++) {
        struct pollfd waiting = {.fd = hv_reader_fd(reader), .events = POLLIN};
        if (poll(&waiting, 1, timeout) <= 0)
            break;
        status = hv_reader_next(reader, 0, error);
    }
    return status;
}

static void use_in_child(hv_reader *reader) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        hv_error *error = NULL;
        hv_reader_next(reader, 0, &error);
        print_error(error);
        hv_reader_close(reader);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void follow(hv_store *store, const hv_selection *selection) {
    hv_reader *reader = NULL;
    hv_error *error = NULL;
    hv_status status = HV_OK;
    if (hv_feed(store, selection, number("follow", 0) != 0, number("delay", -1), &reader, &error) !=
        HV_OK) {
        print_error(error);
        exit(1);
    }
    if (number("fork", 0) != 0)
        use_in_child(reader);
    for (int errors = 0; errors < ERRORS_MAX && status != HV_NOT_FOUND; errors += error != NULL) {
        error = NULL;
        status = next(reader, &error);
        if (error != NULL)
            print_error(error);
        else if (status == HV_OK)
            print_entity(reader);
        else if (status == HV_TIMEOUT)
            print_idle(reader);
        if (status == HV_OK && number("get", 0) != 0)
            get_too(store);
        if (is_over(hv_reader_position(reader)))
            break;
    }
    print_missing(reader);
    print(json_pack("{s:b, s:I}", "end", status == HV_NOT_FOUND, "position",
                    (json_int_t) hv_reader_position(reader)));
    hv_reader_close(reader);
}

/* A reader as one writes it by hand: it remembers the last key. */
static void find_again_and_again(hv_store *store, hv_selection *selection) {
    while (!is_over(0)) {
        hv_reader *reader = NULL;
        hv_error *error = NULL;
        hv_status status = hv_find(store, selection, &reader, &error);
        while (status == HV_OK && (status = hv_reader_next(reader, -1, &error)) == HV_OK)
            print_entity(reader);
        hv_reader_close(reader);
        hv_error_free(error);
        if (last_seen > 0)
            hv_selection_after(selection, last_seen, NULL);
        fflush(stdout);
        usleep(20000);
    }
}

int main(int argc, char **argv) {
    argument_count = argc;
    arguments = argv;
    if (argc < 2)
        return 2;
    hv_store *store = open_store();
    hv_selection *selection = make_selection();
    if (number("naive", 0) != 0)
        find_again_and_again(store, selection);
    else
        follow(store, selection);
    hv_selection_free(selection);
    fflush(stdout);
    return hv_close(store, 0, NULL) == HV_OK ? 0 : 1;
}
