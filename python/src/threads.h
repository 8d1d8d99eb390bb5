/*
 * threads: native threads that run Python's code, the GIL around calls of the library, and how both
 * end with the interpreter.
 *
 * Invariants: once Python ends, a thread that wants the GIL rests until the process is gone, so
 * that whatever others use of its stack stays in place. And no thread is inside libpq, or inside
 * OpenSSL on libpq's behalf, while OpenSSL's own clean-up runs in exit(3).
 */
#ifndef HVPY_THREADS_H
#define HVPY_THREADS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * A callback takes the GIL and releases it with these, in one block. When the interpreter ends,
 * Python would end a thread that wants the GIL; with these it rests instead. (From 3.14 on Python
 * does that by itself.)
 */
#define HVPY_TAKE_GIL                      \
    pthread_cleanup_push(hvpy_rest, NULL); \
    PyGILState_STATE gil_state = PyGILState_Ensure()
#define HVPY_LEAVE_GIL             \
    PyGILState_Release(gil_state); \
    pthread_cleanup_pop(0)

void hvpy_rest(void *unused);

/* Around calls of the library, in one block: the GIL is released. */
#define HVPY_BEGIN_LIBRARY \
    {                      \
        PyThreadState *hvpy_thread_state = hvpy_library_enter();
#define HVPY_END_LIBRARY                   \
    hvpy_library_leave(hvpy_thread_state); \
    }

PyThreadState *hvpy_library_enter(void);
void hvpy_library_leave(PyThreadState *state);

int hvpy_threads_init(void);

/*
 * Start a thread that calls run(context) with the GIL. No signal is delivered to it. Later, after
 * the thread has ended, `joined` is called with the GIL held by some other thread; the context must
 * live until then. Returns false if there is no thread, and `*reason` says why. Called with the
 * GIL.
 */
bool hvpy_thread_start(void (*run)(void *context), void (*joined)(void *context), void *context,
                       const char **reason);

/* Join the threads that have ended. Called with the GIL. */
void hvpy_threads_join(void);

/* The present, in ms since some moment. */
int64_t hvpy_now_ms(void);

/* A function of the module: see _hv.pyi. */
PyObject *hvpy_threads_end(PyObject *module, PyObject *args);

#endif
