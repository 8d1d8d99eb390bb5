/*
 * store_tool_many: the commands of store_tool for many operations at once. The members that a
 * command takes are listed above its function.
 *
 * An operation is {"key": number} for a get, {"shard", "kind", "dict"} for a put, or the same with
 * "key" in place of "shard". Its result is {"status", "key", "dict", "version", "message", …}.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store_tool.h"

json_t *item_of(hv_status status, int64_t key, hv_entity *entity, hv_error *error) {
    json_t *item = json_object();
    set_outcome(item, status, error);
    set_number(item, "key", key);
    if (entity != NULL && hv_entity_key(entity) != key)
        die("another key's entity");
    set_entity(item, entity);
    hv_entity_free(entity);
    return item;
}

static hv_new_entity new_entity_of(json_t *operation) {
    return (hv_new_entity){
        .key = number_of(operation, "key", 0),
        .shard = (int) number_of(operation, "shard", -1),
        .kind = (int) number_of(operation, "kind", 0),
        .dict = dict_of(json_object_get(operation, "dict")),
    };
}

static void free_dict(const hv_dict *dict) {
    hv_dict_free((hv_dict *) (uintptr_t) dict);
}

/* ---- arrays ---- */

/* {"operations": puts} */
void do_put_many(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    json_t *operations = json_object_get(command, "operations");
    size_t count = json_array_size(operations);
    hv_new_entity *entities = calloc(count + 1, sizeof *entities);
    int64_t *keys = calloc(count + 1, sizeof *keys);
    hv_status *statuses = calloc(count + 1, sizeof *statuses);
    hv_error **errors = calloc(count + 1, sizeof(hv_error *));
    hv_error *error = NULL;
    for (size_t i = 0; i < count; i++)
        entities[i] = new_entity_of(json_array_get(operations, i));
    hv_status status = hv_put_many(store, entities, count, keys, statuses, errors, &error);
    set_outcome(reply, status, error);
    json_t *items = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(items, item_of(statuses[i], keys[i], NULL, errors[i]));
        free_dict(entities[i].dict);
    }
    json_object_set_new(reply, "items", items);
    free(entities);
    free(keys);
    free(statuses);
    free(errors);
}

/* {"keys": [number]} */
void do_get_many(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    json_t *wanted = json_object_get(command, "keys");
    size_t count = json_array_size(wanted);
    int64_t *keys = calloc(count + 1, sizeof *keys);
    hv_entity **entities = calloc(count + 1, sizeof(hv_entity *));
    hv_status *statuses = calloc(count + 1, sizeof *statuses);
    hv_error **errors = calloc(count + 1, sizeof(hv_error *));
    hv_error *error = NULL;
    for (size_t i = 0; i < count; i++)
        keys[i] = json_integer_value(json_array_get(wanted, i));
    hv_status status = hv_get_many(store, keys, count, entities, statuses, errors, &error);
    set_outcome(reply, status, error);
    json_t *items = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(items, item_of(statuses[i], keys[i], entities[i], errors[i]));
    json_object_set_new(reply, "items", items);
    free(keys);
    free(entities);
    free(statuses);
    free(errors);
}

/* {"keys": [number]} */
void do_exists_many(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    json_t *wanted = json_object_get(command, "keys");
    size_t count = json_array_size(wanted);
    int64_t *keys = calloc(count + 1, sizeof *keys);
    hv_status *statuses = calloc(count + 1, sizeof *statuses);
    hv_error **errors = calloc(count + 1, sizeof(hv_error *));
    hv_error *error = NULL;
    for (size_t i = 0; i < count; i++)
        keys[i] = json_integer_value(json_array_get(wanted, i));
    hv_status status = hv_exists_many(store, keys, count, statuses, errors, &error);
    set_outcome(reply, status, error);
    json_t *items = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(items, item_of(statuses[i], keys[i], NULL, errors[i]));
    json_object_set_new(reply, "items", items);
    free(keys);
    free(statuses);
    free(errors);
}

/* ---- streams ---- */

/* Keys to be looked for, and how many of them had which status. */
typedef struct looked_for {
    json_t *keys;
    size_t at;
    json_t *statuses;
} looked_for;

static bool next_looked_for(void *context, int64_t *key, void **tag) {
    looked_for *l = context;
    (void) tag;
    if (l->at == json_array_size(l->keys))
        return false;
    *key = json_integer_value(json_array_get(l->keys, l->at++));
    return true;
}

static void looked(void *context, void *tag, hv_status status, int64_t key, hv_entity *entity,
                   hv_error *error) {
    looked_for *l = context;
    (void) tag;
    json_array_append_new(l->statuses, item_of(status, key, entity, error));
}

/* {"keys": [number]}; the items come in no particular order. */
void do_exists_stream(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_error *error = NULL;
    looked_for l = {.keys = json_object_get(command, "keys"), .statuses = json_array()};
    hv_status status = hv_exists_stream(store, next_looked_for, looked, &l, &error);
    set_outcome(reply, status, error);
    json_object_set_new(reply, "items", l.statuses);
}

/* Entities of kind 1 with {"number": its number, "filler": …}, put and got again. */
typedef struct stream {
    int64_t count;
    int64_t at;
    int64_t done;
    json_t *shards;
    json_t *statuses; /* how often each was reported */
    hv_dict *dict;
    char *filler;
    int64_t *keys;
} stream;

static bool next_entity(void *context, hv_new_entity *entity, void **tag) {
    stream *s = context;
    char number[32];
    if (s->at == s->count)
        return false;
    snprintf(number, sizeof number, "%lld", (long long) s->at);
    if (hv_dict_set(s->dict, "number", number, NULL) != HV_OK)
        die("not a dict");
    size_t which = (size_t) s->at % json_array_size(s->shards);
    entity->shard = (int) json_integer_value(json_array_get(s->shards, which));
    entity->kind = 1;
    entity->dict = s->dict;
    *tag = &s->keys[s->at++];
    return true;
}

static bool next_key(void *context, int64_t *key, void **tag) {
    stream *s = context;
    while (s->at < s->count && s->keys[s->at] == 0)
        s->at++;
    if (s->at == s->count)
        return false;
    *key = s->keys[s->at];
    *tag = &s->keys[s->at++];
    return true;
}

static void count_status(stream *s, hv_status status) {
    const char *name = hv_status_name(status);
    json_t *now = json_object_get(s->statuses, name);
    json_object_set_new(s->statuses, name, json_integer(json_integer_value(now) + 1));
    s->done++;
}

static void put_done(void *context, void *tag, hv_status status, int64_t key, hv_entity *entity,
                     hv_error *error) {
    stream *s = context;
    int64_t *place = tag;
    if (*place != 0 || entity != NULL || (key != 0) != (status == HV_OK))
        die("reported twice, or nonsense");
    *place = key;
    hv_error_free(error);
    count_status(s, status);
}

static void get_done(void *context, void *tag, hv_status status, int64_t key, hv_entity *entity,
                     hv_error *error) {
    stream *s = context;
    int64_t *place = tag;
    const char *number = NULL;
    if (key != *place || (entity != NULL) != (status == HV_OK))
        die("another key, or nonsense");
    if (entity != NULL &&
        (!hv_dict_get(hv_entity_dict(entity), "number", HV_STRLEN, &number, NULL) ||
         strtoll(number, NULL, 10) != place - s->keys))
        die("another's entity");
    hv_entity_free(entity);
    hv_error_free(error);
    count_status(s, status);
}

/* A line of /proc/self/status, in kilobytes. */
static int64_t kilobytes(const char *what) {
    char line[256];
    int64_t found = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, what, strlen(what)) == 0)
            found = strtoll(line + strlen(what), NULL, 10);
    if (file != NULL)
        fclose(file);
    return found;
}

static void forget_peak(void) {
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (file != NULL) {
        fputs("5", file);
        fclose(file);
    }
}

/* {"count": number, "shards": [number], "filler": bytes of an attribute, "get": bool} */
void do_stream(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    size_t filler = (size_t) number_of(command, "filler", 0);
    stream s = {
        .count = number_of(command, "count", 0),
        .shards = json_object_get(command, "shards"),
        .statuses = json_object(),
        .dict = hv_dict_new(),
        .filler = calloc(filler + 1, 1),
    };
    hv_error *error = NULL;
    s.keys = calloc((size_t) s.count + 1, sizeof *s.keys);
    explicit_bzero(s.keys, ((size_t) s.count + 1) * sizeof *s.keys); /* so that it exists */
    memset(s.filler, 'x', filler);
    hv_dict_set(s.dict, "filler", s.filler, NULL);
    forget_peak();
    int64_t before = kilobytes("VmRSS:");
    hv_status status = hv_put_stream(store, next_entity, put_done, &s, &error);
    set_number(reply, "grown", kilobytes("VmHWM:") - before);
    set_outcome(reply, status, error);
    if (s.done != s.at || (status == HV_OK && s.at != s.count))
        die("not every operation was reported");
    json_object_set_new(reply, "statuses", s.statuses);
    if (json_is_true(json_object_get(command, "get"))) {
        s.at = s.done = 0;
        s.statuses = json_object();
        set_text(reply, "get_status",
                 hv_status_name(hv_get_stream(store, next_key, get_done, &s, NULL)));
        json_object_set_new(reply, "get_statuses", s.statuses);
    }
    hv_dict_free(s.dict);
    free(s.filler);
    free(s.keys);
}

/* ---- queues ---- */

static hv_queue *queue;
static json_t *finished; /* array of items, with "tag" */

static void queue_done(void *context, void *tag, hv_status status, int64_t key, hv_entity *entity,
                       hv_error *error) {
    (void) context;
    json_t *item = item_of(status, key, entity, error);
    set_number(item, "tag", (int64_t) (intptr_t) tag);
    json_array_append_new(finished, item);
}

/* {} */
void do_queue_new(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) command;
    hv_error *error = NULL;
    hv_queue *made = NULL;
    hv_status status = hv_queue_new(store, queue_done, NULL, &made, &error);
    if (status == HV_OK)
        queue = made;
    set_outcome(reply, status, error);
}

/* Add a change; if its condition is refused, nothing is added. */
static hv_status queue_change(json_t *operation, void *tag, hv_error **error) {
    hv_change change;
    hv_status status = change_of(operation, &change, error);
    if (status == HV_OK)
        status = hv_queue_change(queue, &change, tag, error);
    free_change(&change);
    return status;
}

static hv_status queue_get_only(json_t *operation, void *tag, hv_error **error) {
    const char **names = names_of(json_object_get(operation, "names"));
    hv_status status = hv_queue_get_only(queue, number_of(operation, "key", 0), names, tag, error);
    free(names);
    return status;
}

/* {"operations": gets, also of "names" only, puts, changes, and questions whether a key "exists"};
 * their tags are their numbers in this array. */
void do_queue_add(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    size_t number;
    json_t *operation;
    json_t *statuses = json_array();
    json_array_foreach(json_object_get(command, "operations"), number, operation) {
        void *tag = (void *) (intptr_t) number;
        hv_error *error = NULL;
        hv_status status;
        if (json_object_get(operation, "change") != NULL) {
            status = queue_change(operation, tag, &error);
        } else if (json_object_get(operation, "names") != NULL) {
            status = queue_get_only(operation, tag, &error);
        } else if (json_object_get(operation, "kind") != NULL) {
            hv_new_entity entity = new_entity_of(operation);
            status = hv_queue_put(queue, &entity, tag, &error);
            free_dict(entity.dict);
        } else if (json_is_true(json_object_get(operation, "exists"))) {
            status = hv_queue_exists(queue, number_of(operation, "key", 0), tag, &error);
        } else {
            status = hv_queue_get(queue, number_of(operation, "key", 0), tag, &error);
        }
        json_t *added = json_object();
        set_outcome(added, status, error);
        json_array_append_new(statuses, added);
    }
    json_object_set_new(reply, "items", statuses);
}

/* {"timeout": milliseconds, "all": bool}: by default, until one is done; or all. */
void do_queue_advance(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    int64_t timeout = number_of(command, "timeout", -1);
    finished = json_array();
    size_t done = 0;
    do
        done += hv_queue_advance(queue, timeout);
    while (json_is_true(json_object_get(command, "all")) && hv_queue_pending(queue) > 0);
    if (done != json_array_size(finished))
        die("a wrong number of operations done");
    json_object_set_new(reply, "items", finished);
    set_number(reply, "pending", (int64_t) hv_queue_pending(queue));
}

/* {"timeout": milliseconds}: wait with poll(2) until the queue asks for something. */
void do_queue_poll(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    struct pollfd fd = {.fd = hv_queue_fd(queue), .events = POLLIN};
    set_number(reply, "ready", poll(&fd, 1, (int) number_of(command, "timeout", -1)));
}

/* {} */
void do_queue_free(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) command;
    (void) reply;
    hv_queue_free(queue);
    queue = NULL;
}
