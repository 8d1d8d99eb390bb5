/*
 * store_tool_transactions: the commands of store_tool for transactions. The members that a command
 * takes are listed above its function.
 *
 * While a thread has a transaction, its commands on entities and its SQL go to that. A command in
 * the function of a transaction is a step, and may have these members, too:
 *
 *     "call": number       only in this call of the function
 *     "outside": true      on the store, not on the transaction
 *     "key_of": number     its key is the one that the step of this number, from 0, returned
 *     "ignore": true       if it fails, go on
 *     "must": true         stop at HV_NOT_FOUND and HV_CHANGED, too
 */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store_tool.h"

_Thread_local hv_tx *current_tx;

/* In the function of a transaction: the outcome of the last call of the library, whose error is
 * what the function may return; owned. */
static _Thread_local bool keeps;
static _Thread_local hv_status kept_status;
static _Thread_local hv_error *kept_error;

void keep_outcome(hv_status status, hv_error *error) {
    hv_error_free(kept_error);
    kept_status = status;
    kept_error = error;
    if (!keeps) {
        hv_error_free(error);
        kept_error = NULL;
    }
}

static hv_isolation isolation_of(json_t *command) {
    return (hv_isolation) number_of(command, "isolation", HV_READ_COMMITTED);
}

/* ---- in steps ---- */

/* {"shard": number, "isolation": number, "timeout": milliseconds} */
void do_tx_begin(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_tx *tx = NULL;
    hv_error *error = NULL;
    hv_status status = hv_begin(store, (int) number_of(command, "shard", -1), isolation_of(command),
                                number_of(command, "timeout", 0), &tx, &error);
    if ((status == HV_OK) != (tx != NULL))
        die("the transaction was touched on failure, or not set on success");
    set_outcome(reply, status, error);
    if (status != HV_OK)
        return;
    if (current_tx != NULL)
        die("the thread has a transaction");
    current_tx = tx;
    set_number(reply, "call", hv_tx_call(tx));
}

void do_tx_commit(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) command;
    hv_error *error = NULL;
    hv_tx *tx = current_tx;
    current_tx = NULL;
    hv_status status = hv_commit(tx, &error);
    set_outcome(reply, status, error);
}

void do_tx_rollback(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) command;
    (void) reply;
    hv_rollback(current_tx);
    current_tx = NULL;
}

/* {"sqlstate": text or null, "message": text or null} */
void do_tx_failed(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    hv_error *error = NULL;
    hv_status status =
        hv_tx_failed(current_tx, text_of(command, "sqlstate"), text_of(command, "message"), &error);
    set_outcome(reply, status, error);
}

/* {"pid": number}: the pid and the connector's handle of the transaction's connection. */
void do_tx_connection(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) command;
    PGconn *conn = hv_tx_connection(current_tx);
    if (conn == NULL)
        return;
    set_number(reply, "pid", PQbackendPID(conn));
    int *number = hv_connection_handle(store, conn);
    if (number != NULL)
        set_number(reply, "handle", *number);
    set_text(reply, "release", hv_status_name(hv_release(store, conn, NULL)));
}

/* ---- meetings of threads ---- */

#define MAX_MEETINGS 64

static pthread_mutex_t meetings_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t met = PTHREAD_COND_INITIALIZER;
static struct {
    char name[64];
    int64_t present;
} meetings[MAX_MEETINGS];

/* Wait until as many threads have come here. {"name": text, "count": number} */
void do_meet(const char *thread, json_t *command, json_t *reply) {
    (void) thread;
    (void) reply;
    int at = 0;
    const char *name = text_of(command, "name");
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&meetings_lock);
    while (at < MAX_MEETINGS && meetings[at].present > 0 && strcmp(meetings[at].name, name) != 0)
        at++;
    if (at == MAX_MEETINGS || strlen(name) >= sizeof meetings[at].name)
        die("too many meetings, or too long a name");
    strcpy(meetings[at].name, name);
    meetings[at].present++;
    pthread_cond_broadcast(&met);
    while (meetings[at].present < number_of(command, "count", 2))
        if (pthread_cond_timedwait(&met, &meetings_lock, &until) != 0)
            die("nobody came to the meeting");
    pthread_mutex_unlock(&meetings_lock);
}

/* ---- with a function ---- */

/* What the function of a transaction does, and what it has seen. */
typedef struct work {
    const char *thread;
    json_t *command;
    json_t *results; /* of the last call */
    int calls;
    bool in_child; /* of a step "fork_here" */
} work;

/* The process goes on twice; the parent waits until the child, which leaves the function at once,
 * has ended. */
static void fork_here(work *self, json_t *reply) {
    pid_t child = fork_between_lines();
    self->in_child = child == 0;
    if (self->in_child)
        return;
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child)
        die("fork or wait failed");
    set_number(reply, "exit_status", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static void run_step(work *self, json_t *step, json_t *reply) {
    const char *what = text_of(step, "do");
    hv_tx *tx = current_tx;
    int64_t source = number_of(step, "key_of", -1);
    if (source >= 0)
        json_object_set(step, "key",
                        json_object_get(json_array_get(self->results, (size_t) source), "key"));
    if (strcmp(what, "fork_here") == 0) {
        fork_here(self, reply);
        return;
    }
    if (json_is_true(json_object_get(step, "outside")))
        current_tx = NULL;
    for (size_t i = 0; commands[i].name != NULL; i++) {
        if (strcmp(commands[i].name, what) == 0) {
            commands[i].run(self->thread, step, reply);
            current_tx = tx;
            return;
        }
    }
    die("no such step");
}

/* Has the function to end after this outcome of a step? */
static bool ends(json_t *step, hv_status status) {
    if (status == HV_NOT_FOUND || status == HV_CHANGED)
        return json_is_true(json_object_get(step, "must"));
    return status != HV_OK && !json_is_true(json_object_get(step, "ignore"));
}

static hv_status status_of(json_t *name) {
    for (int i = HV_OK; i <= HV_CHANGED; i++)
        if (strcmp(hv_status_name((hv_status) i), json_string_value(name)) == 0)
            return (hv_status) i;
    die("no such status");
}

/* What the function returns after its steps; the error is that of the last step, if it fits. */
static hv_status result_of(json_t *then, hv_error **error) {
    hv_status status = HV_OK;
    if (json_is_integer(then))
        return (hv_status) json_integer_value(then);
    if (json_is_string(then))
        status = status_of(then);
    if (kept_error != NULL && hv_error_status(kept_error) == status) {
        *error = kept_error;
        kept_error = NULL;
    }
    return status;
}

static hv_status run_steps(hv_tx *tx, void *context, hv_error **error) {
    work *self = context;
    size_t number;
    json_t *listed;
    hv_status status = HV_OK;
    bool ended = false;
    if (error == NULL || *error != NULL || hv_tx_call(tx) != ++self->calls)
        die("not called as promised");
    hv_tx *outer = current_tx;
    current_tx = tx;
    json_array_clear(self->results);
    keeps = true;
    keep_outcome(HV_OK, NULL);
    json_array_foreach(json_object_get(self->command, "steps"), number, listed) {
        json_t *reply = json_object(), *step = json_copy(listed);
        bool is_due = number_of(step, "call", self->calls) == self->calls;
        if (is_due && !ended) {
            kept_status = HV_OK;
            run_step(self, step, reply);
            status = kept_status;
            ended = ends(step, status) || self->in_child;
        }
        json_array_append_new(self->results, reply);
        json_decref(step);
    }
    current_tx = outer;
    if (!ended)
        return result_of(json_object_get(self->command, "then"), error);
    *error = kept_error;
    kept_error = NULL;
    return status;
}

/*
 * {"shard": number, "steps": [command …], "isolation": number, "timeout": milliseconds,
 * "then": status or number, what the function returns if no step ends it}: the reply has the
 * "results" of the last call's steps and the number of "calls".
 */
void do_transaction(const char *thread, json_t *command, json_t *reply) {
    work self = {.thread = thread, .command = command, .results = json_array()};
    hv_error *error = NULL;
    hv_status status =
        hv_transaction(store, (int) number_of(command, "shard", -1), isolation_of(command),
                       number_of(command, "timeout", 0), run_steps, &self, &error);
    keeps = false;
    keep_outcome(HV_OK, NULL);
    if (self.in_child)
        _exit((int) status);
    set_outcome(reply, status, error);
    set_number(reply, "calls", self.calls);
    json_object_set_new(reply, "results", self.results);
}
