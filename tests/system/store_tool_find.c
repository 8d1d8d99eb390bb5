/*
 * store_tool_find: the commands of store_tool that find entities. The members that a command takes
 * are listed above its function.
 *
 * A reader is one of the thread that opened it, and has a name if there are several.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store_tool.h"

/* ---- readers ---- */

#define MAX_READERS 128

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
    hv_error *error = NULL;
    hv_reader **reader = find_reader(thread, command);
    hv_selection *selection = selection_of(command, reply);
    hv_reader_close(*reader);
    *reader = NULL;
    if (selection == NULL)
        return;
    hv_status status = hv_find(store, selection, reader, &error);
    hv_selection_free(selection);
    if ((status == HV_OK) != (*reader != NULL))
        die("the reader was touched on failure, or not set on success");
    set_outcome(reply, status, error);
}

static json_t *entity_of(const hv_reader *reader, bool is_bare) {
    if (is_bare)
        return json_integer(hv_reader_key(reader));
    json_t *entity = json_array();
    json_array_append_new(entity, json_integer(hv_reader_key(reader)));
    json_array_append_new(entity, json_integer(hv_reader_kind(reader)));
    json_array_append_new(entity, object_of(hv_reader_dict(reader)));
    return entity;
}

/* {"count": how many entities at most; all, "timeout": of each, "reader", "bare"}. The items are
 * [key, kind, dict] or, bare, the key alone; the status is that of the last call. */
void do_next(const char *thread, json_t *command, json_t *reply) {
    hv_reader *reader = *find_reader(thread, command);
    int64_t count = number_of(command, "count", INT64_MAX);
    int64_t timeout = number_of(command, "timeout", -1);
    bool is_bare = json_is_true(json_object_get(command, "bare"));
    json_t *items = json_array();
    hv_error *error = NULL;
    hv_status status = HV_OK;
    for (int64_t i = 0; i < count && status == HV_OK; i++) {
        status = hv_reader_next(reader, timeout, &error);
        if (status == HV_OK)
            json_array_append_new(items, entity_of(reader, is_bare));
        else if (hv_reader_dict(reader) != NULL)
            die("a dict without an entity");
        if (error != NULL && (status == HV_OK || status == HV_NOT_FOUND))
            die("an error without a failure");
    }
    set_outcome(reply, status, error);
    json_object_set_new(reply, "items", items);
}

static const hv_error *reader_missing(const void *reader, size_t index) {
    return hv_reader_missing(reader, index);
}

/* {"reader"}: what is missing, as items. */
void do_missing(const char *thread, json_t *command, json_t *reply) {
    json_object_set_new(reply, "items", missing_of(reader_missing, *find_reader(thread, command)));
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
