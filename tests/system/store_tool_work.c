/*
 * store_tool_work: the commands of store_tool that work on all shards. The members that a command
 * takes are listed above its function; all take "rollout", an object of its options ("skip" is an
 * array), and "events": true, and reply with the summary and, if asked, with the events.
 */
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "store_tool.h"

/* ---- rollouts and summaries ---- */

/* The thread's open one. */
static _Thread_local hv_each *current_each;
static _Thread_local hv_rollout *current_rollout;

json_t *error_of(const hv_error *error) {
    if (error == NULL)
        return json_null();
    json_t *object = json_object();
    set_text(object, "status", hv_status_name(hv_error_status(error)));
    set_text(object, "message", hv_error_message(error));
    set_text(object, "detail", hv_error_detail(error));
    set_text(object, "hint", hv_error_hint(error));
    set_text(object, "sqlstate", hv_error_sqlstate(error));
    set_text(object, "server", hv_error_server(error));
    set_number(object, "shard", hv_error_shard(error));
    json_object_set_new(object, "retriable", json_boolean(hv_error_retriable(error)));
    return object;
}

static void note_event(void *context, const hv_rollout_event *event) {
    json_t *object = json_object();
    set_number(object, "server", event->server);
    set_number(object, "shard", event->shard);
    set_text(object, "work", hv_work_name(event->work));
    set_text(object, "step", event->step);
    set_text(object, "waits_for", event->waits_for);
    json_object_set_new(object, "share", json_real(event->share));
    json_object_set_new(object, "error", error_of(event->error));
    json_array_append_new(context, object);
}

static hv_status set_options(hv_rollout *rollout, json_t *options, hv_error **error) {
    const char *name;
    json_t *value;
    hv_status status = HV_OK;
    json_object_foreach(options, name, value) {
        size_t count = json_is_array(value) ? json_array_size(value) : 1;
        for (size_t i = 0; status == HV_OK && i < count; i++) {
            json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
            status = hv_rollout_set(rollout, name, json_string_value(one), error);
        }
    }
    return status;
}

hv_rollout *rollout_of(json_t *command, json_t *reply) {
    hv_error *error = NULL;
    hv_rollout *rollout = hv_rollout_new();
    if (rollout == NULL)
        die("no memory");
    hv_status status = set_options(rollout, json_object_get(command, "rollout"), &error);
    if (status != HV_OK) {
        set_outcome(reply, status, error);
        hv_rollout_free(rollout);
        return NULL;
    }
    if (json_is_true(json_object_get(command, "events"))) {
        json_t *events = json_array();
        json_object_set_new(reply, "events", events);
        hv_rollout_observe(rollout, note_event, events);
    }
    return rollout;
}

json_t *summary_of(hv_summary *summary) {
    json_t *all = json_array();
    hv_work work;
    const hv_error *error;
    int server, shard;
    size_t count = 0, i = 0;
    if (summary == NULL)
        return json_null();
    for (; hv_summary_at(summary, i, &server, &shard, &work, &error); i++) {
        json_t *one = json_object();
        set_number(one, "server", server);
        set_number(one, "shard", shard);
        set_text(one, "work", hv_work_name(work));
        json_object_set_new(one, "error", error_of(error));
        json_array_append_new(all, one);
    }
    for (hv_work of = HV_WORK_NOT_BEGUN; of <= HV_WORK_FAILED; of++)
        count += hv_summary_count(summary, of);
    if (i != hv_summary_shards(summary) || count != i)
        die("the numbers of a summary do not add up");
    hv_summary_free(summary);
    return all;
}

/* ---- SQL ---- */

static json_t *rows_of(const PGresult *result) {
    json_t *rows = json_array();
    for (int i = 0; i < PQntuples(result); i++) {
        json_t *row = json_array();
        for (int j = 0; j < PQnfields(result); j++)
            json_array_append_new(row, PQgetisnull(result, i, j)
                                           ? json_null()
                                           : json_string(PQgetvalue(result, i, j)));
        json_array_append_new(rows, row);
    }
    return rows;
}

static json_t *answer_of(const hv_shard_answer *answer) {
    json_t *object = json_object();
    set_number(object, "server", answer->server);
    set_number(object, "shard", answer->shard);
    set_text(object, "work", hv_work_name(answer->work));
    json_object_set_new(object, "error", error_of(answer->error));
    if (answer->result != NULL)
        json_object_set_new(object, "rows", rows_of(answer->result));
    if ((answer->work == HV_WORK_FAILED) != (answer->error != NULL) ||
        (answer->work == HV_WORK_DONE) != (answer->result != NULL))
        die("an answer without what belongs to it");
    return object;
}

static hv_status open_each(json_t *command, const hv_rollout *rollout, hv_error **error) {
    json_t *values = json_object_get(command, "parameters");
    size_t count = json_array_size(values);
    const char **parameters = calloc(count + 1, sizeof *parameters);
    for (size_t i = 0; i < count; i++)
        parameters[i] = json_string_value(json_array_get(values, i));
    hv_status status = hv_each_shard(store, text_of(command, "sql"), (int) count, parameters,
                                     rollout, &current_each, error);
    free(parameters);
    return status;
}

static void set_summary(json_t *reply) {
    hv_summary *summary = NULL;
    hv_error *error = NULL;
    if (hv_each_summary(current_each, &summary, &error) == HV_OK)
        json_object_set_new(reply, "summary", summary_of(summary));
    hv_error_free(error);
}

static void close_each(void) {
    hv_each_close(current_each);
    hv_rollout_free(current_rollout);
    current_each = NULL;
    current_rollout = NULL;
}

/* Take up to `count` answers. */
static void take_answers(json_t *reply, int64_t count) {
    json_t *answers = json_array();
    hv_error *error = NULL;
    hv_status status = HV_OK;
    for (int64_t i = 0; status == HV_OK && i < count; i++) {
        hv_shard_answer answer;
        status = hv_each_next(current_each, &answer, &error);
        if (status == HV_OK)
            json_array_append_new(answers, answer_of(&answer));
    }
    json_object_set_new(reply, "answers", answers);
    set_summary(reply);
    set_outcome(reply, status == HV_NOT_FOUND ? HV_OK : status, error);
}

/* {"sql", "parameters"}: all answers. */
void do_each(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_error *error = NULL;
    close_each();
    current_rollout = rollout_of(command, reply);
    if (current_rollout == NULL)
        return;
    hv_status status = open_each(command, current_rollout, &error);
    if (status == HV_OK)
        take_answers(reply, INT64_MAX);
    else
        set_outcome(reply, status, error);
    close_each();
}

/* The same in steps: open it, take "count" answers, close it. */
void do_each_open(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_error *error = NULL;
    close_each();
    current_rollout = rollout_of(command, reply);
    if (current_rollout == NULL)
        return;
    hv_status status = open_each(command, current_rollout, &error);
    set_outcome(reply, status, error);
}

void do_each_next(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    take_answers(reply, number_of(command, "count", 1));
}

void do_each_close(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) command;
    close_each();
    set_outcome(reply, HV_OK, NULL);
}
