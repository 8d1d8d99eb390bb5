/*
 * store_tool_commands: the commands of store_tool. The members that a command takes are listed
 * above its function; the table of commands is at the end.
 */
#include "store_tool.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_LOANS 64

typedef struct loan {
    char name[32]; /* "": free */
    PGconn *conn;  /* dangles once it is returned, to be returned again for a test */
    atomic_bool lent;
} loan;

_Atomic(hv_store *) store;
static pthread_mutex_t loans_lock = PTHREAD_MUTEX_INITIALIZER;
static loan loans[MAX_LOANS];

void set_outcome(json_t *reply, hv_status status, hv_error *error) {
    set_text(reply, "status", hv_status_name(status));
    if (error == NULL) {
        keep_outcome(status, NULL);
        return;
    }
    if (status == HV_OK || status == HV_NOT_FOUND || status == HV_CHANGED ||
        hv_error_status(error) != status)
        die("an error that does not fit its status");
    set_text(reply, "message", hv_error_message(error));
    set_text(reply, "detail", hv_error_detail(error));
    set_text(reply, "hint", hv_error_hint(error));
    set_text(reply, "sqlstate", hv_error_sqlstate(error));
    set_text(reply, "constraint", hv_error_constraint(error));
    set_text(reply, "server", hv_error_server(error));
    set_number(reply, "shard", hv_error_shard(error));
    json_object_set_new(reply, "retriable", json_boolean(hv_error_retriable(error)));
    json_object_set_new(reply, "outcome_unknown", json_boolean(hv_error_outcome_unknown(error)));
    keep_outcome(status, error);
}

/* ---- the store ---- */

/* {"config": path, "options": {name: text}, "log": bool, "connector": bool or "steps",
 * "interrupts": bool} */
static void do_open(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    hv_store *opened = NULL;
    const char *name;
    json_t *value;
    hv_status status = hv_options_load(options, text_of(command, "config"), NULL, &error);
    json_object_foreach(json_object_get(command, "options"), name, value) if (status == HV_OK)
        status = hv_options_set(options, name, json_string_value(value), &error);
    if (json_is_true(json_object_get(command, "log")))
        hv_options_set_log(options, log_event, NULL);
    if (json_is_true(json_object_get(command, "connector")))
        hv_options_set_connector(options, &counting_connector);
    if (json_is_string(json_object_get(command, "connector")))
        hv_options_set_connector(options, &stepping_connector);
    if (json_is_true(json_object_get(command, "interrupts")))
        hv_options_set_interrupt(options, is_interrupted, NULL);
    if (status == HV_OK)
        status = hv_open(options, &opened, &error);
    hv_options_free(options);
    if (status == HV_OK)
        atomic_store(&store, opened);
    set_outcome(reply, status, error);
}

/* {"timeout": milliseconds} */
static void do_close(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_error *error = NULL;
    hv_status status = hv_close(store, number_of(command, "timeout", 0), &error);
    if (status == HV_OK)
        atomic_store(&store, NULL);
    set_outcome(reply, status, error);
}

static void do_stop(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) command;
    (void) reply;
    hv_stop(store);
}

static void do_disconnect(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) command;
    (void) reply;
    hv_disconnect(store);
}

static void do_reinstantiate(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) command;
    (void) reply;
    hv_reinstantiate(store);
}

/* {"server": number} */
static void do_stats(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    int server = (int) number_of(command, "server", 0);
    const char *name;
    for (int i = 0; (name = hv_stat_name((hv_stat) i)) != NULL; i++)
        set_number(reply, name, hv_pool_stat(store, server, (hv_stat) i));
}

/* ---- entities ---- */

hv_dict *dict_of(json_t *object) {
    if (!json_is_object(object))
        return NULL;
    hv_dict *dict = hv_dict_new();
    const char *name;
    json_t *value;
    json_object_foreach(
        object, name, value) if (hv_dict_set_bytes(dict, name, HV_STRLEN, json_string_value(value),
                                                   json_string_length(value), NULL) != HV_OK)
        die("not a dict");
    return dict;
}

json_t *object_of(const hv_dict *dict) {
    json_t *object = json_object();
    const char *name, *value;
    size_t value_len;
    for (size_t i = 0; hv_dict_at(dict, i, &name, NULL, &value, &value_len); i++)
        json_object_set_new(object, name,
                            value != NULL ? json_stringn(value, value_len) : json_null());
    return object;
}

void set_entity(json_t *reply, const hv_entity *entity) {
    if (entity == NULL)
        return;
    set_number(reply, "key", hv_entity_key(entity));
    set_number(reply, "kind", hv_entity_kind(entity));
    json_object_set_new(reply, "dict", object_of(hv_entity_dict(entity)));
    set_text(reply, "version", hv_entity_version(entity));
}

/* {"shard": number, "kind": number, "dict": object or null} */
static void do_put(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    int64_t key = -1;
    hv_error *error = NULL;
    hv_dict *dict = dict_of(json_object_get(command, "dict"));
    int shard = (int) number_of(command, "shard", -1), kind = (int) number_of(command, "kind", 0);
    hv_status status = current_tx != NULL ? hv_tx_put(current_tx, shard, kind, dict, &key, &error)
                                          : hv_put(store, shard, kind, dict, &key, &error);
    hv_dict_free(dict);
    set_outcome(reply, status, error);
    if ((status == HV_OK) != (key != -1))
        die("the key was touched on failure, or not set on success");
    if (status == HV_OK)
        set_number(reply, "key", key);
}

/* {"key": number, "kind": number, "dict": object or null} */
static void do_put_key(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_error *error = NULL;
    hv_dict *dict = dict_of(json_object_get(command, "dict"));
    int64_t key = number_of(command, "key", 0);
    int kind = (int) number_of(command, "kind", 0);
    hv_status status = current_tx != NULL ? hv_tx_put_key(current_tx, key, kind, dict, &error)
                                          : hv_put_key(store, key, kind, dict, &error);
    hv_dict_free(dict);
    set_outcome(reply, status, error);
}

/* {"shard": number, "count": number} */
static void do_reserve(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    int count = (int) number_of(command, "count", 1);
    size_t room = count > 0 ? (size_t) count : 1;
    int64_t *keys = calloc(room, sizeof *keys);
    hv_error *error = NULL;
    hv_status status =
        hv_reserve(store, (int) number_of(command, "shard", -1), count, keys, &error);
    set_outcome(reply, status, error);
    json_t *list = json_array();
    for (size_t i = 0; i < room; i++) {
        if ((status == HV_OK) != (keys[i] != 0))
            die("keys were touched on failure, or not set on success");
        if (status == HV_OK)
            json_array_append_new(list, json_integer(keys[i]));
    }
    json_object_set_new(reply, "keys", list);
    free(keys);
}

/* {"hex": text} */
static void do_shard_of(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    const char *hex = text_of(command, "hex");
    size_t len = strlen(hex) / 2;
    char *value = malloc(len + 1); /* without a NUL byte at its end */
    for (size_t i = 0; i < len; i++) {
        unsigned byte = 0;
        sscanf(hex + 2 * i, "%2x", &byte);
        value[i] = (char) byte;
    }
    int shard = -1;
    hv_error *error = NULL;
    hv_status status = hv_shard_of(store, value, len, &shard, &error);
    free(value);
    set_outcome(reply, status, error);
    if ((status == HV_OK) != (shard >= 0))
        die("the shard was touched on failure, or not set on success");
    set_number(reply, "shard", shard);
}

/* {"shard": number} */
static void do_where(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    int server = -1;
    hv_error *error = NULL;
    hv_status status = hv_where(store, (int) number_of(command, "shard", 0), &server, &error);
    set_outcome(reply, status, error);
    set_number(reply, "server", server);
}

/* {"key": number} */
static void do_get(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_entity *entity = NULL;
    hv_error *error = NULL;
    int64_t key = number_of(command, "key", 0);
    hv_status status = current_tx != NULL ? hv_tx_get(current_tx, key, &entity, &error)
                                          : hv_get(store, key, &entity, &error);
    set_outcome(reply, status, error);
    if ((status == HV_OK) != (entity != NULL))
        die("the entity was touched on failure, or not set on success");
    set_entity(reply, entity);
    hv_entity_free(entity);
}

/* {"key": number} */
static void do_exists(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_error *error = NULL;
    int64_t key = number_of(command, "key", 0);
    hv_status status =
        current_tx != NULL ? hv_tx_exists(current_tx, key, &error) : hv_exists(store, key, &error);
    set_outcome(reply, status, error);
}

/* ---- lent connections ---- */

/* The loan that a command means, named by "conn", or else that of its thread. */
static loan *find_loan(const char *thread, json_t *command, bool make) {
    const char *name = text_of(command, "conn");
    loan *found = NULL;
    if (name == NULL)
        name = thread;
    pthread_mutex_lock(&loans_lock);
    for (int i = 0; i < MAX_LOANS && found == NULL; i++)
        if (strcmp(loans[i].name, name) == 0)
            found = &loans[i];
    for (int i = 0; i < MAX_LOANS && found == NULL && make; i++)
        if (loans[i].name[0] == '\0')
            found = &loans[i];
    if (found == NULL || (make && found->lent))
        die("no such loan, or a name that is taken");
    snprintf(found->name, sizeof found->name, "%s", name);
    pthread_mutex_unlock(&loans_lock);
    return found;
}

/* The connection that a command means: that of the thread's transaction, or of a loan. */
static PGconn *conn_of(const char *thread, json_t *command) {
    return current_tx != NULL ? hv_tx_connection(current_tx)
                              : find_loan(thread, command, false)->conn;
}

/* Report the result of acquiring `conn` for a loan. */
static void set_loan(loan *to, hv_status status, PGconn *conn, hv_error *error, json_t *reply) {
    set_outcome(reply, status, error);
    if ((status == HV_OK) != (conn != NULL))
        die("the connection was touched on failure, or not set on success");
    if (status != HV_OK)
        return;
    to->conn = conn;
    to->lent = true;
    set_number(reply, "pid", PQbackendPID(conn));
    int *number = hv_connection_handle(store, conn);
    if (number != NULL)
        set_number(reply, "handle", *number);
}

/* {"shard": number} or {"server": number} */
static void do_acquire(const char *thread, json_t *command, json_t *reply) {
    loan *to = find_loan(thread, command, true);
    PGconn *conn = NULL;
    hv_error *error = NULL;
    hv_status status;
    if (json_object_get(command, "server") != NULL)
        status = hv_acquire_server(store, (int) number_of(command, "server", -1), &conn, &error);
    else
        status = hv_acquire(store, (int) number_of(command, "shard", -1), &conn, &error);
    set_loan(to, status, conn, error, reply);
}

/* {"shard": number} */
static void do_try_acquire(const char *thread, json_t *command, json_t *reply) {
    loan *to = find_loan(thread, command, true);
    PGconn *conn = NULL;
    hv_error *error = NULL;
    hv_status status = hv_try_acquire(store, (int) number_of(command, "shard", -1), &conn, &error);
    set_loan(to, status, conn, error, reply);
}

/* Also if it was returned before. */
static void give_back(const char *thread, json_t *command, json_t *reply,
                      hv_status (*how)(hv_store *, PGconn *, hv_error **)) {
    loan *from = find_loan(thread, command, false);
    hv_error *error = NULL;
    from->lent = false;
    hv_status status = how(store, from->conn, &error);
    set_outcome(reply, status, error);
}

static void do_release(const char *thread, json_t *command, json_t *reply) {
    give_back(thread, command, reply, hv_release);
}

static void do_discard(const char *thread, json_t *command, json_t *reply) {
    give_back(thread, command, reply, hv_discard);
}

/* Give the store a connection that it has never seen. {"conninfo": text} */
static void do_release_foreign(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_error *error = NULL;
    PGconn *foreign = PQconnectdb(text_of(command, "conninfo"));
    hv_status status = hv_release(store, foreign, &error);
    set_outcome(reply, status, error);
    set_text(reply, "still", PQstatus(foreign) == CONNECTION_OK ? "open" : "closed");
    PQfinish(foreign);
}

/* Run SQL on a lent connection, or that of the thread's transaction, which checks the result unless
 * "unchecked". {"sql": text, "unchecked": bool} */
static void do_sql(const char *thread, json_t *command, json_t *reply) {
    PGconn *conn = conn_of(thread, command);
    PGresult *result = PQexec(conn, text_of(command, "sql"));
    json_t *rows = json_array();
    for (int i = 0; i < PQntuples(result); i++) {
        json_t *row = json_array();
        for (int j = 0; j < PQnfields(result); j++)
            json_array_append_new(row, PQgetisnull(result, i, j)
                                           ? json_null()
                                           : json_string(PQgetvalue(result, i, j)));
        json_array_append_new(rows, row);
    }
    set_text(reply, "status", PQresStatus(PQresultStatus(result)));
    set_text(reply, "sqlstate", PQresultErrorField(result, PG_DIAG_SQLSTATE));
    set_text(reply, "message", PQerrorMessage(conn));
    json_object_set_new(reply, "rows", rows);
    if (current_tx != NULL && !json_is_true(json_object_get(command, "unchecked"))) {
        hv_error *error = NULL;
        json_t *checked = json_object();
        hv_status status = hv_tx_check(current_tx, result, &error);
        set_outcome(checked, status, error);
        json_object_set_new(reply, "checked", checked);
    }
    PQclear(result);
}

/* Send SQL on a lent connection and do not wait for the answer. {"sql": text} */
static void do_send(const char *thread, json_t *command, json_t *reply) {
    PGconn *conn = conn_of(thread, command);
    set_number(reply, "sent", PQsendQuery(conn, text_of(command, "sql")));
}

/* In the middle of COPY FROM STDIN: fill the socket, and leave a little more in libpq's buffer. */
static void do_fill(const char *thread, json_t *command, json_t *reply) {
    PGconn *conn = find_loan(thread, command, false)->conn;
    char bytes[4096] = "";
    ssize_t sent;
    while ((sent = send(PQsocket(conn), bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
        ;
    set_number(reply, "put", PQputCopyData(conn, "x", 1));
}

static void do_notifications(const char *thread, json_t *command, json_t *reply) {
    PGconn *conn = find_loan(thread, command, false)->conn;
    PGnotify *notify;
    int count = 0;
    for (; (notify = PQnotifies(conn)) != NULL; count++)
        PQfreemem(notify);
    set_number(reply, "count", count);
}

static void do_enter_pipeline(const char *thread, json_t *command, json_t *reply) {
    set_number(reply, "entered", PQenterPipelineMode(conn_of(thread, command)));
}

/* Let libpq write what it does to a file. {"path": text} */
static FILE *trace_file;

static void do_trace(const char *thread, json_t *command, json_t *reply) {
    (void) reply;
    trace_file = fopen(text_of(command, "path"), "we");
    if (trace_file == NULL)
        die("could not open the trace file");
    PQtrace(find_loan(thread, command, false)->conn, trace_file);
}

/* Close the file, without libpq's knowledge. */
static void do_close_trace(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) command;
    (void) reply;
    fclose(trace_file);
}

/* ---- fork ---- */

/*
 * {"commands": [command …], "exit": bool}: a child process runs these, with this thread, and ends,
 * through exit() if "exit" says so; then the reply comes, with the child's exit status.
 */
static void do_fork(const char *thread, json_t *command, json_t *reply) {
    size_t index;
    json_t *one;
    pid_t child = fork_between_lines();
    if (child == 0) {
        alarm(60);
        json_array_foreach(json_object_get(command, "commands"), index, one)
            run_command(thread, one, true);
        if (json_is_true(json_object_get(command, "exit")))
            exit(0);
        _exit(0);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child)
        die("fork or wait failed");
    set_number(reply, "exit_status", status);
}

/* ---- all commands ---- */

const command_entry commands[] = {
    {"acquire", do_acquire},
    {"change_many", do_change_many},
    {"change_stream", do_change_stream},
    {"close", do_close},
    {"stop", do_stop},
    {"close_trace", do_close_trace},
    {"connector", do_connector},
    {"count", do_count},
    {"delete", do_delete},
    {"discard", do_discard},
    {"disconnect", do_disconnect},
    {"enter_pipeline", do_enter_pipeline},
    {"fill", do_fill},
    {"find", do_find},
    {"fork", do_fork},
    {"each", do_each},
    {"each_close", do_each_close},
    {"each_next", do_each_next},
    {"each_open", do_each_open},
    {"exists", do_exists},
    {"explain", do_explain},
    {"exists_many", do_exists_many},
    {"exists_stream", do_exists_stream},
    {"get", do_get},
    {"get_many", do_get_many},
    {"get_only", do_get_only},
    {"get_only_many", do_get_only_many},
    {"hold", do_hold},
    {"increment", do_increment},
    {"interrupt", do_interrupt},
    {"meet", do_meet},
    {"merge", do_merge},
    {"missing", do_missing},
    {"next", do_next},
    {"notifications", do_notifications},
    {"open", do_open},
    {"put", do_put},
    {"put_key", do_put_key},
    {"put_many", do_put_many},
    {"queue_add", do_queue_add},
    {"queue_advance", do_queue_advance},
    {"queue_free", do_queue_free},
    {"queue_new", do_queue_new},
    {"queue_poll", do_queue_poll},
    {"reader_close", do_reader_close},
    {"reader_poll", do_reader_poll},
    {"reinstantiate", do_reinstantiate},
    {"release", do_release},
    {"release_foreign", do_release_foreign},
    {"replace", do_replace},
    {"reserve", do_reserve},
    {"send", do_send},
    {"shard_of", do_shard_of},
    {"sql", do_sql},
    {"stats", do_stats},
    {"stream", do_stream},
    {"trace", do_trace},
    {"transaction", do_transaction},
    {"try_acquire", do_try_acquire},
    {"tx_begin", do_tx_begin},
    {"tx_commit", do_tx_commit},
    {"tx_connection", do_tx_connection},
    {"tx_failed", do_tx_failed},
    {"tx_rollback", do_tx_rollback},
    {"where", do_where},
    {NULL, NULL},
};

bool give_everything_back(void) {
    bool clean = true;
    close_readers();
    for (int i = 0; i < MAX_LOANS; i++)
        if (loans[i].lent && hv_release(store, loans[i].conn, NULL) != HV_OK)
            clean = false;
    return hv_close(store, 0, NULL) == HV_OK && clean;
}
