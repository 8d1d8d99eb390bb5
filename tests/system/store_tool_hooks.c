/*
 * store_tool_hooks: the callbacks that store_tool gives to its store: a log, and a connector.
 *
 * Both can be held: then they wait, so that a test can do something in between.
 */
#include "store_tool.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- callbacks that wait ---- */

/* A held callback waits, so that a test can do something in between. */
typedef enum hold { HOLD_LOG, HOLD_CONNECT, HOLD_DISCONNECT, HOLDS } hold;
static const char *const hold_names[HOLDS] = {"log", "connect", "disconnect"};
static pthread_mutex_t hold_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t hold_changed = PTHREAD_COND_INITIALIZER;
static bool held[HOLDS];
static int waiting_held;

static void wait_while_held(hold what) {
    pthread_mutex_lock(&hold_lock);
    waiting_held++;
    while (held[what])
        pthread_cond_wait(&hold_changed, &hold_lock);
    waiting_held--;
    pthread_mutex_unlock(&hold_lock);
}

/* {"what": "log", "connect" or "disconnect", "on": bool}; the reply says how many wait. */
void do_hold(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    pthread_mutex_lock(&hold_lock);
    for (int i = 0; i < HOLDS; i++)
        if (strcmp(hold_names[i], text_of(command, "what")) == 0)
            held[i] = json_is_true(json_object_get(command, "on"));
    set_number(reply, "waiting", waiting_held);
    pthread_cond_broadcast(&hold_changed);
    pthread_mutex_unlock(&hold_lock);
}

/* ---- the log ---- */

void log_event(void *context, const hv_log_event *event) {
    (void) context;
    json_t *line = json_object();
    json_t *parameters = json_array();
    for (size_t i = 0; i < hv_log_parameter_count(event); i++) {
        const char *value = hv_log_parameter(event, i);
        json_array_append_new(parameters, value != NULL ? json_string(value) : json_null());
    }
    set_text(line, "log", hv_log_statement(event));
    set_text(line, "thread", current_thread);
    set_text(line, "server", hv_log_server(event));
    set_number(line, "shard", hv_log_shard(event));
    set_number(line, "us", hv_log_duration_us(event));
    set_text(line, "status", hv_status_name(hv_log_status(event)));
    set_text(line, "sqlstate", hv_log_sqlstate(event));
    json_object_set_new(line, "parameters", parameters);
    say(line);
    wait_while_held(HOLD_LOG);
}

/* ---- interrupts ---- */

/* {"target": a thread, "quietly": true without a signal} */
void do_interrupt(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) reply;
    interrupt_thread(text_of(command, "target"),
                     !json_is_true(json_object_get(command, "quietly")));
}

/* ---- a connector of our own ---- */

static pthread_mutex_t connector_lock = PTHREAD_MUTEX_INITIALIZER;
static int connector_opened, connector_closed, connector_now, connector_most; /* at once */

static hv_status counting_connect(void *context, const char *const *keywords,
                                  const char *const *values, int64_t timeout, PGconn **conn,
                                  void **handle, char *message, size_t message_size,
                                  char sqlstate[6]) {
    (void) timeout;
    if (context != counting_connector.context)
        die("the connector's context got lost");
    PGconn *opened = PQconnectdbParams(keywords, values, 0);
    if (PQstatus(opened) != CONNECTION_OK) {
        snprintf(message, message_size, "%s", PQerrorMessage(opened));
        sqlstate[0] = '\0';
        PQfinish(opened);
        return HV_UNAVAILABLE;
    }
    int *number = malloc(sizeof *number);
    pthread_mutex_lock(&connector_lock);
    *number = ++connector_opened;
    if (++connector_now > connector_most)
        connector_most = connector_now;
    pthread_mutex_unlock(&connector_lock);
    *conn = opened;
    *handle = number;
    return HV_OK;
}

static void counting_disconnect(void *context, PGconn *conn, void *handle) {
    (void) context;
    wait_while_held(HOLD_DISCONNECT);
    free(handle);
    PQfinish(conn);
    pthread_mutex_lock(&connector_lock);
    connector_closed++;
    connector_now--;
    pthread_mutex_unlock(&connector_lock);
}

const hv_connector counting_connector = {
    .connect = counting_connect,
    .disconnect = counting_disconnect,
    .context = &connector_opened,
};

/* ---- the same in steps ---- */

/* A connection that a thread opens. Freed by the later of the two users. */
typedef struct attempt {
    char **keywords, **values;
    int done, notify; /* a pipe's ends */
    pthread_mutex_t lock;
    bool is_over, is_given_up; /* guarded by it */
    hv_status status;          /* as the fields below; set before it is over */
    PGconn *conn;
    void *handle;
    char message[300], sqlstate[6];
} attempt;

static char **copy_texts(const char *const *texts) {
    size_t count = 0;
    while (texts[count] != NULL)
        count++;
    char **copy = calloc(count + 1, sizeof *copy);
    for (size_t i = 0; i < count; i++)
        copy[i] = strdup(texts[i]);
    return copy;
}

static void free_texts(char **texts) {
    for (char **text = texts; *text != NULL; text++)
        free(*text);
    free(texts);
}

static void free_attempt(attempt *made) {
    free_texts(made->keywords);
    free_texts(made->values);
    close(made->done);
    close(made->notify);
    pthread_mutex_destroy(&made->lock);
    free(made);
}

static void *run_attempt(void *argument) {
    attempt *made = argument;
    wait_while_held(HOLD_CONNECT);
    made->status =
        counting_connect(counting_connector.context, (const char *const *) made->keywords,
                         (const char *const *) made->values, 0, &made->conn, &made->handle,
                         made->message, sizeof made->message, made->sqlstate);
    pthread_mutex_lock(&made->lock);
    made->is_over = true;
    bool is_given_up = made->is_given_up;
    if (!is_given_up && write(made->notify, ".", 1) != 1)
        die("a pipe is broken");
    pthread_mutex_unlock(&made->lock);
    if (is_given_up) {
        if (made->status == HV_OK)
            counting_disconnect(counting_connector.context, made->conn, made->handle);
        free_attempt(made);
    }
    return NULL;
}

static hv_status start_connecting(void *context, const char *const *keywords,
                                  const char *const *values, int64_t timeout, void **started,
                                  int *fd, char *message, size_t message_size, char sqlstate[6]) {
    (void) context;
    (void) timeout;
    (void) message;
    (void) message_size;
    (void) sqlstate;
    attempt *made = calloc(1, sizeof *made);
    int ends[2];
    pthread_t thread;
    made->keywords = copy_texts(keywords);
    made->values = copy_texts(values);
    pthread_mutex_init(&made->lock, NULL);
    if (pipe2(ends, O_CLOEXEC) != 0)
        die("no pipe");
    made->done = *fd = ends[0];
    made->notify = ends[1];
    *started = made;
    if (pthread_create(&thread, NULL, run_attempt, made) != 0 || pthread_detach(thread) != 0)
        die("no thread");
    return HV_OK;
}

static hv_status finish_connecting(void *context, void *started, PGconn **conn, void **handle,
                                   char *message, size_t message_size, char sqlstate[6]) {
    (void) context;
    attempt *made = started;
    pthread_mutex_lock(&made->lock); /* the thread may still be about to unlock it */
    if (!made->is_over)
        die("a connection is asked for before it is there");
    pthread_mutex_unlock(&made->lock);
    hv_status status = made->status;
    *conn = made->conn;
    *handle = made->handle;
    snprintf(message, message_size, "%s", made->message);
    memcpy(sqlstate, made->sqlstate, sizeof made->sqlstate);
    free_attempt(made);
    return status;
}

static void give_up_connecting(void *context, void *started) {
    attempt *made = started;
    pthread_mutex_lock(&made->lock);
    made->is_given_up = true;
    bool is_over = made->is_over;
    pthread_mutex_unlock(&made->lock);
    if (is_over) {
        if (made->status == HV_OK)
            counting_disconnect(context, made->conn, made->handle);
        free_attempt(made);
    }
}

const hv_connector stepping_connector = {
    .disconnect = counting_disconnect,
    .context = &connector_opened,
    .start = start_connecting,
    .finish = finish_connecting,
    .give_up = give_up_connecting,
};

/* ---- results ---- */

bool connector_is_done(void) {
    return connector_now == 0;
}

void do_connector(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) command;
    pthread_mutex_lock(&connector_lock);
    set_number(reply, "opened", connector_opened);
    set_number(reply, "closed", connector_closed);
    set_number(reply, "most", connector_most);
    pthread_mutex_unlock(&connector_lock);
}
