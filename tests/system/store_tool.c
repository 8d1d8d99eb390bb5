/*
 * store_tool: a store that a test controls, through the public interface alone.
 *
 * Reads commands from stdin, a JSON object a line, and runs each in the thread that it names; a
 * thread is started when it is first named and runs its commands one after the other. For each
 * command it prints one JSON object with the same "id". At the end of its input it returns all
 * loans, closes the store, and ends with 0 if that succeeded.
 *
 *     {"id": 7, "thread": "ann", "do": "put", "shard": 3, "kind": 1, "dict": {"a": "b", "n": null}}
 *     {"id": 7, "thread": "ann", "ms": 1.25, "status": "HV_OK", "key": 307821103844175873}
 *
 * harness/store_tool.py uses it.
 */
#include "store_tool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 128

typedef struct worker {
    char name[32];
    pthread_t thread;
    pthread_mutex_t lock; /* guards `queue` and `ended` */
    pthread_cond_t changed;
    json_t *queue; /* array of commands; owned */
    bool ended;    /* nothing more will be added */
    atomic_bool interrupted;
    int asked; /* the thread's own: how often its present command has checked `interrupted` */
} worker;

static worker workers[MAX_THREADS];
static atomic_int
    worker_count; /* the reading thread adds workers; others look at those that exist */
static _Thread_local worker *current_worker;
static pthread_mutex_t output_lock = PTHREAD_MUTEX_INITIALIZER;
_Thread_local const char *current_thread = "";

void die(const char *what) {
    fprintf(stderr, "store_tool: %s\n", what);
    abort();
}

/* ---- replies ---- */

void say(json_t *object) {
    char *text = json_dumps(object, JSON_COMPACT);
    if (text == NULL)
        die("could not print JSON");
    pthread_mutex_lock(&output_lock);
    puts(text);
    fflush(stdout);
    pthread_mutex_unlock(&output_lock);
    free(text);
    json_decref(object);
}

const char *text_of(json_t *command, const char *name) {
    return json_string_value(json_object_get(command, name));
}

int64_t number_of(json_t *command, const char *name, int64_t otherwise) {
    json_t *value = json_object_get(command, name);
    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

void set_text(json_t *object, const char *name, const char *text) {
    if (text != NULL)
        json_object_set_new(object, name, json_string(text));
}

void set_number(json_t *object, const char *name, int64_t number) {
    json_object_set_new(object, name, json_integer(number));
}

int fork_between_lines(void) {
    pthread_mutex_lock(&output_lock);
    pid_t child = fork();
    pthread_mutex_unlock(&output_lock);
    return child;
}

/* ---- threads ---- */

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec * 1e3 + (double) now.tv_nsec / 1e6;
}

void run_command(const char *thread, json_t *command, bool in_child) {
    const char *what = text_of(command, "do");
    json_t *reply = json_object();
    /* A command begins after the effects of all commands whose replies were printed before. */
    pthread_mutex_lock(&output_lock);
    pthread_mutex_unlock(&output_lock);
    json_object_set(reply, "id", json_object_get(command, "id"));
    set_text(reply, "thread", thread);
    if (in_child)
        json_object_set_new(reply, "child", json_true());
    for (size_t i = 0; commands[i].name != NULL; i++) {
        if (strcmp(commands[i].name, what) == 0) {
            double start = now_ms();
            current_worker->asked = 0;
            commands[i].run(thread, command, reply);
            json_object_set_new(reply, "ms", json_real(now_ms() - start));
            set_number(reply, "asked", current_worker->asked);
            atomic_store(&current_worker->interrupted, false);
            say(reply);
            return;
        }
    }
    die("no such command");
}

static void *work(void *context) {
    worker *self = context;
    current_thread = self->name;
    current_worker = self;
    for (;;) {
        pthread_mutex_lock(&self->lock);
        while (json_array_size(self->queue) == 0 && !self->ended)
            pthread_cond_wait(&self->changed, &self->lock);
        json_t *command = json_incref(json_array_get(self->queue, 0));
        json_array_remove(self->queue, 0);
        pthread_mutex_unlock(&self->lock);
        if (command == NULL)
            return NULL;
        run_command(self->name, command, false);
        json_decref(command);
    }
}

/* NULL: there is none. */
static worker *known_worker(const char *name) {
    for (int i = 0; i < worker_count; i++)
        if (strcmp(workers[i].name, name) == 0)
            return &workers[i];
    return NULL;
}

static worker *find_worker(const char *name) {
    worker *known = known_worker(name);
    if (known != NULL)
        return known;
    if (worker_count == MAX_THREADS)
        die("too many threads");
    worker *made = &workers[worker_count];
    snprintf(made->name, sizeof made->name, "%s", name);
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->changed, NULL);
    made->queue = json_array();
    if (pthread_create(&made->thread, NULL, work, made) != 0)
        die("could not start a thread");
    worker_count++;
    return made;
}

/* ---- interrupting them ---- */

static void on_interrupt(int number) {
    (void) number;
    if (current_worker != NULL)
        atomic_store(&current_worker->interrupted, true);
}

bool is_interrupted(void *context) {
    (void) context;
    current_worker->asked++;
    return atomic_load(&current_worker->interrupted);
}

void interrupt_thread(const char *name, bool with_signal) {
    worker *found = known_worker(name);
    if (found == NULL)
        die("no such thread");
    if (with_signal)
        pthread_kill(found->thread, SIGINT);
    else
        atomic_store(&found->interrupted, true);
}

/* Give a command to a worker; NULL: no more commands will come. */
static void hand_over(worker *to, json_t *command) {
    pthread_mutex_lock(&to->lock);
    if (command != NULL)
        json_array_append_new(to->queue, command);
    else
        to->ended = true;
    pthread_cond_signal(&to->changed);
    pthread_mutex_unlock(&to->lock);
}

static bool clean_up(void) {
    for (int i = 0; i < worker_count; i++)
        hand_over(&workers[i], NULL);
    for (int i = 0; i < worker_count; i++) {
        pthread_join(workers[i].thread, NULL);
        json_decref(workers[i].queue);
    }
    return give_everything_back() && connector_is_done();
}

int main(void) {
    char *line = NULL;
    size_t size = 0;
    sigaction(SIGINT, &(struct sigaction){.sa_handler = on_interrupt}, NULL);
    while (getline(&line, &size, stdin) > 0) {
        json_t *command = json_loads(line, 0, NULL);
        if (text_of(command, "thread") == NULL || text_of(command, "do") == NULL)
            die("not a command");
        hand_over(find_worker(text_of(command, "thread")), command);
    }
    free(line);
    return clean_up() ? 0 : 1;
}
