/*
 * threads: native threads that run Python's code, the GIL around calls of the library, and how both
 * end with the interpreter.
 *
 * When the interpreter ends, this happens in order:
 *
 *   hvpy_threads_end()   by Python's atexit: no more threads are started; existing ones are waited
 *                        for, PATIENCE_MS at most
 *   (Python ends)        a thread that wants the GIL from now on rests: hvpy_rest()
 *   at_exit()            by Py_AtExit(), before exit(3)
 *   leave()              by exit(3), before the handlers that were registered earlier, OpenSSL's
 *                        among them. If a thread is still inside the library or libpq, the process
 *                        ends here, since OpenSSL's clean-up would free what that thread uses.
 */
#include "threads.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* How long the end of the interpreter waits for threads that are opening a connection. */
#define PATIENCE_MS 1000
#define POLL_NS     1000000

typedef struct native_thread {
    struct native_thread *next;
    pthread_t id;
    void (*run)(void *context);
    void (*joined)(void *context);
    void *context;
    atomic_bool resting;
} native_thread;

static native_thread *threads;           /* started and not joined; guarded by the GIL */
static native_thread *parents;           /* in a forked child: those that did not come along */
static atomic_bool ending;               /* no more threads are started */
static atomic_int inside;                /* Python's threads that are in the library */
static _Thread_local int depth;          /* how often the current thread is */
static _Thread_local native_thread *own; /* the current thread, if we started it */

/* ---- rest ---- */

void hvpy_rest(void *unused) {
    (void) unused;
    atomic_fetch_sub(&inside, depth);
    if (own != NULL)
        atomic_store(&own->resting, true);
    for (;;)
        pause();
}

/* ---- calls of the library ---- */

PyThreadState *hvpy_library_enter(void) {
    atomic_fetch_add(&inside, 1);
    depth++;
    return PyEval_SaveThread();
}

void hvpy_library_leave(PyThreadState *state) {
    depth--;
    atomic_fetch_sub(&inside, 1);
    pthread_cleanup_push(hvpy_rest, NULL);
    PyEval_RestoreThread(state);
    pthread_cleanup_pop(0);
}

/* ---- threads of our own ---- */

static void *run_thread(void *argument) {
    own = argument;
    if (atomic_load(&ending))
        return NULL;
    HVPY_TAKE_GIL;
    own->run(own->context);
    HVPY_LEAVE_GIL;
    return NULL;
}

/* All signals are left to Python's own threads. */
static int create_thread(native_thread *thread) {
    static const int of_the_thread[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    sigset_t none, before;
    sigfillset(&none);
    for (size_t i = 0; i < sizeof of_the_thread / sizeof of_the_thread[0]; i++)
        sigdelset(&none, of_the_thread[i]);
    pthread_sigmask(SIG_SETMASK, &none, &before);
    int failure = pthread_create(&thread->id, NULL, run_thread, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure;
}

bool hvpy_thread_start(void (*run)(void *context), void (*joined)(void *context), void *context,
                       const char **reason) {
    hvpy_threads_join();
    if (atomic_load(&ending)) {
        *reason = "the Python interpreter is ending";
        return false;
    }
    native_thread *thread = malloc(sizeof *thread);
    int failure = ENOMEM;
    if (thread != NULL) {
        *thread = (native_thread){.run = run, .joined = joined, .context = context};
        failure = create_thread(thread);
    }
    if (failure != 0) {
        free(thread);
        *reason = strerror(failure);
        return false;
    }
    thread->next = threads;
    threads = thread;
    return true;
}

void hvpy_threads_join(void) {
    native_thread *ended = NULL;
    for (native_thread **link = &threads; *link != NULL;) {
        native_thread *thread = *link;
        if (pthread_tryjoin_np(thread->id, NULL) == 0) {
            *link = thread->next;
            thread->next = ended;
            ended = thread;
        } else {
            link = &thread->next;
        }
    }
    while (ended != NULL) { /* only now: freeing it may run any code */
        native_thread *thread = ended;
        ended = thread->next;
        thread->joined(thread->context);
        free(thread);
    }
}

/* ---- the end ---- */

int64_t hvpy_now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t) time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

PyObject *hvpy_threads_end(PyObject *module, PyObject *args) {
    (void) module;
    (void) args;
    atomic_store(&ending, true);
    int64_t deadline = hvpy_now_ms() + PATIENCE_MS;
    for (hvpy_threads_join(); threads != NULL && hvpy_now_ms() < deadline; hvpy_threads_join()) {
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

/* Is a thread in code that may use OpenSSL? Python has ended, so no other thread changes the
 * list. */
static bool is_any_inside(void) {
    for (native_thread *thread = threads; thread != NULL; thread = thread->next) {
        if (!atomic_load(&thread->resting) && pthread_tryjoin_np(thread->id, NULL) != 0)
            return true;
        atomic_store(&thread->resting, true); /* it is not joined twice */
    }
    return atomic_load(&inside) > 0;
}

static void leave(int status, void *unused) {
    (void) unused;
    if (!is_any_inside())
        return;
    fflush_unlocked(NULL); /* a thread may hold a stream's lock forever, waiting for input */
    _exit(status);
}

static void at_exit(void) {
    if (is_any_inside())
        on_exit(leave, NULL);
}

/* A forked child has one thread: the one that forked, perhaps from within a callback. */
static void forget_parents_threads(void) {
    native_thread **link = &parents;
    while (*link != NULL)
        link = &(*link)->next;
    *link = threads;
    threads = NULL;
    atomic_store(&inside, depth);
}

int hvpy_threads_init(void) {
    if (pthread_atfork(NULL, NULL, forget_parents_threads) != 0 || Py_AtExit(at_exit) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}
