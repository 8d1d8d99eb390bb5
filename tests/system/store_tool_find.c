/*
 * store_tool_find: the commands of store_tool that find entities. The members that a command takes
 * are listed above its function.
 *
 * A selection is {"shards": text, "skip": [text], "kinds": [number], "from", "until", "since",
 * "before", "after": number, "equal": {name: value}, "one_of": {name: [value]}, "exists", "lacks":
 * [name], "has": {name: value}, "newest": bool, "limit": number, "only": [name], "timeout": number,
 * "partial": bool}; all are optional.
 *
 * A reader is one of the thread that opened it, and has a name if there are several.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store_tool.h"

/* ---- selections ---- */

/* The call that failed first decides. */
typedef struct builder {
    hv_selection *selection;
    hv_status status;
    hv_error *error;
} builder;

#define ADD(b, call)              \
    do {                          \
        if ((b)->status == HV_OK) \
            (b)->status = (call); \
    } while (0)

static void add_numbers(builder *b, json_t *from) {
    static const struct {
        const char *name;
        hv_status (*set)(hv_selection *, int64_t, hv_error **);
    } setters[] = {
        {"from", hv_selection_from},       {"until", hv_selection_until},
        {"since", hv_selection_since},     {"before", hv_selection_before},
        {"after", hv_selection_after},     {"limit", hv_selection_limit},
        {"timeout", hv_selection_timeout},
    };
    for (size_t i = 0; i < sizeof setters / sizeof setters[0]; i++)
        if (json_object_get(from, setters[i].name) != NULL)
            ADD(b, setters[i].set(b->selection, number_of(from, setters[i].name, 0), &b->error));
}

static void add_one_of(builder *b, const char *name, json_t *values) {
    const char *texts[64] = {NULL};
    size_t count = json_array_size(values);
    for (size_t i = 0; i < count && i < 64; i++)
        texts[i] = json_string_value(json_array_get(values, i));
    ADD(b, hv_selection_one_of(b->selection, name, HV_STRLEN, texts, NULL, count, &b->error));
}

static void add_attributes(builder *b, json_t *from) {
    const char *name;
    json_t *value;
    size_t i;
    json_object_foreach(json_object_get(from, "equal"), name, value)
        ADD(b, hv_selection_equal(b->selection, name, HV_STRLEN, json_string_value(value),
                                  HV_STRLEN, &b->error));
    json_object_foreach(json_object_get(from, "one_of"), name, value) add_one_of(b, name, value);
    json_array_foreach(json_object_get(from, "exists"), i, value)
        ADD(b, hv_selection_exists(b->selection, json_string_value(value), HV_STRLEN, &b->error));
    json_array_foreach(json_object_get(from, "lacks"), i, value)
        ADD(b, hv_selection_lacks(b->selection, json_string_value(value), HV_STRLEN, &b->error));
    hv_dict *has = dict_of(json_object_get(from, "has"));
    if (has != NULL)
        ADD(b, hv_selection_has(b->selection, has, &b->error));
    hv_dict_free(has);
}

/* NULL with *status and *error if it cannot be. */
static hv_selection *selection_of(json_t *from, hv_status *status, hv_error **error) {
    builder b = {.selection = hv_selection_new(), .status = HV_OK};
    json_t *value;
    size_t i;
    if (text_of(from, "shards") != NULL)
        ADD(&b, hv_selection_shards(b.selection, text_of(from, "shards"), &b.error));
    json_array_foreach(json_object_get(from, "skip"), i, value)
        ADD(&b, hv_selection_skip(b.selection, json_string_value(value), &b.error));
    json_array_foreach(json_object_get(from, "kinds"), i, value)
        ADD(&b, hv_selection_kind(b.selection, (int) json_integer_value(value), &b.error));
    add_numbers(&b, from);
    add_attributes(&b, from);
    hv_selection_newest(b.selection, json_is_true(json_object_get(from, "newest")));
    hv_selection_partial(b.selection, json_is_true(json_object_get(from, "partial")));
    if (json_object_get(from, "only") != NULL) {
        const char **names = names_of(json_object_get(from, "only"));
        ADD(&b, hv_selection_only(b.selection, names, &b.error));
        free(names);
    }
    *status = b.status;
    *error = b.error;
    if (b.status == HV_OK)
        return b.selection;
    hv_selection_free(b.selection);
    return NULL;
}

/* ---- readers ---- */

#define MAX_READERS 16

static struct {
    char name[32];
    hv_reader *reader;
} readers[MAX_READERS];
static pthread_mutex_t readers_lock = PTHREAD_MUTEX_INITIALIZER;

/* The place of the reader that a command means, named by "reader", or else that of its thread. */
static hv_reader **find_reader(const char *thread, json_t *command) {
    const char *name = text_of(command, "reader");
    hv_reader **found = NULL;
    if (name == NULL)
        name = thread;
    pthread_mutex_lock(&readers_lock);
    for (int i = 0; i < MAX_READERS && found == NULL; i++) {
        if (readers[i].name[0] == '\0')
            snprintf(readers[i].name, sizeof readers[i].name, "%s", name);
        if (strcmp(readers[i].name, name) == 0)
            found = &readers[i].reader;
    }
    pthread_mutex_unlock(&readers_lock);
    if (found == NULL)
        die("too many readers");
    return found;
}

/* {"selection", "reader": its name}: an older reader of this name is closed. */
void do_find(const char *thread, json_t *command, json_t *reply) {
    hv_status status;
    hv_error *error = NULL;
    hv_reader **reader = find_reader(thread, command);
    hv_selection *selection = selection_of(json_object_get(command, "selection"), &status, &error);
    hv_reader_close(*reader);
    *reader = NULL;
    if (selection != NULL)
        status = hv_find(store, selection, reader, &error);
    hv_selection_free(selection);
    if ((status == HV_OK) != (*reader != NULL))
        die("the reader was touched on failure, or not set on success");
    set_outcome(reply, status, error);
}

static json_t *entity_of(const hv_reader *reader) {
    json_t *entity = json_array();
    json_array_append_new(entity, json_integer(hv_reader_key(reader)));
    json_array_append_new(entity, json_integer(hv_reader_kind(reader)));
    json_array_append_new(entity, object_of(hv_reader_dict(reader)));
    return entity;
}

/* {"count": how many entities at most; all, "timeout": of each, "reader"}. The items are [key,
 * kind, dict]; the status is that of the last call. */
void do_next(const char *thread, json_t *command, json_t *reply) {
    hv_reader *reader = *find_reader(thread, command);
    int64_t count = number_of(command, "count", INT64_MAX);
    int64_t timeout = number_of(command, "timeout", -1);
    json_t *items = json_array();
    hv_error *error = NULL;
    hv_status status = HV_OK;
    for (int64_t i = 0; i < count && status == HV_OK; i++) {
        status = hv_reader_next(reader, timeout, &error);
        if (status == HV_OK)
            json_array_append_new(items, entity_of(reader));
        else if (hv_reader_dict(reader) != NULL)
            die("a dict without an entity");
        if (error != NULL && (status == HV_OK || status == HV_NOT_FOUND))
            die("an error without a failure");
    }
    set_outcome(reply, status, error);
    json_object_set_new(reply, "items", items);
}

/* {"reader"}: what is missing, as items. */
void do_missing(const char *thread, json_t *command, json_t *reply) {
    hv_reader *reader = *find_reader(thread, command);
    const hv_error *error;
    json_t *items = json_array();
    for (size_t i = 0; (error = hv_reader_missing(reader, i)) != NULL; i++) {
        json_t *item = json_object();
        set_text(item, "status", hv_status_name(hv_error_status(error)));
        set_text(item, "message", hv_error_message(error));
        set_text(item, "detail", hv_error_detail(error));
        set_text(item, "server", hv_error_server(error));
        set_number(item, "shard", hv_error_shard(error));
        json_array_append_new(items, item);
    }
    json_object_set_new(reply, "items", items);
}

/* {"timeout": milliseconds, "reader"}: wait with poll(2) until the reader asks for something. */
void do_reader_poll(const char *thread, json_t *command, json_t *reply) {
    struct pollfd fd = {.fd = hv_reader_fd(*find_reader(thread, command)), .events = POLLIN};
    set_number(reply, "ready", poll(&fd, 1, (int) number_of(command, "timeout", -1)));
}

/* {"reader"} */
void do_reader_close(const char *thread, json_t *command, json_t *reply) {
    (void) reply;
    hv_reader **reader = find_reader(thread, command);
    hv_reader_close(*reader);
    *reader = NULL;
}

void close_readers(void) {
    for (int i = 0; i < MAX_READERS; i++) {
        hv_reader_close(readers[i].reader);
        readers[i].reader = NULL;
    }
}
