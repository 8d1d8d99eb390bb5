/*
 * opening: a psycopg2 connection that is opened by a thread of its own.
 *
 *               hvpy_opening_start()
 *                        |
 *                     OPENING ---- give_up() ----> GIVEN_UP    the thread closes what it opened
 *                        |                            |
 *                     is_over()                    is_over()
 *                        |                            |
 *                        v                            |
 *                      OVER ------ give_up() -------->|
 *                        |                            |
 *                     finish()                        |
 *                        v                            v
 *                     FINISHED                     (freed)
 *
 * An opening is freed when the caller has ended it and the thread was joined. All of it is guarded
 * by the GIL, which makes each transition one step for all threads, for signals and for fork(). The
 * descriptor belongs to the caller, which alone closes it, by finish() or give_up(); the thread
 * writes to it only in OPENING, when it is certainly open.
 *
 * The thread itself turns its exception into a message, since no signal handler can run there.
 */
#include "opening.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "threads.h"

typedef enum opening_state { OPENING, OVER, FINISHED, GIVEN_UP } opening_state;

typedef struct opening {
    opening_state state;
    bool joined;          /* the thread has ended */
    int fd;               /* in OPENING and OVER */
    PyObject *connector;  /* the thread's until it is over */
    PyObject *parameters; /* the same */
    double timeout;       /* seconds */
    PyObject *connection; /* in OVER; NULL: it failed */
    hv_status status;     /* from here on: its result */
    char message[1024];
    char sqlstate[6];
} opening;

static PyObject *close_method; /* psycopg2.extensions.connection.close */

int hvpy_opening_init(void) {
    PyObject *extensions = PyImport_ImportModule("psycopg2.extensions");
    PyObject *class = extensions == NULL ? NULL : PyObject_GetAttrString(extensions, "connection");
    close_method = class == NULL ? NULL : PyObject_GetAttrString(class, "close");
    Py_XDECREF(extensions);
    Py_XDECREF(class);
    return close_method == NULL ? -1 : 0;
}

PyObject *hvpy_close_connection(PyObject *connection) {
    return PyObject_CallFunctionObjArgs(close_method, connection, NULL);
}

/* Copy a text as one line, as far as there is room for it. */
static void put_message(char *message, size_t size, const char *text) {
    size_t len = 0;
    for (; *text != '\0' && len + 3 < size; text++) {
        if (*text != '\n') {
            message[len++] = *text == '\t' ? ' ' : *text;
        } else if (text[1] != '\0') {
            message[len++] = ';';
            message[len++] = ' ';
        }
    }
    message[len] = '\0';
}

/* ---- the thread's part ---- */

/* Turn what was raised into a message for the library. */
static void take_failure(opening *self) {
    self->status = HV_UNAVAILABLE;
    if (PyErr_ExceptionMatches(PyExc_TimeoutError))
        self->status = HV_TIMEOUT;
    else if (PyErr_ExceptionMatches(PyExc_MemoryError))
        self->status = HV_NO_MEMORY;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *text = PyObject_Str(value);
    const char *bytes = text == NULL ? NULL : PyUnicode_AsUTF8(text);
    put_message(self->message, sizeof self->message, bytes != NULL ? bytes : "unknown error");
    Py_XDECREF(text);
    PyObject *code = PyObject_GetAttrString(value, "pgcode");
    const char *state = code != NULL && PyUnicode_Check(code) ? PyUnicode_AsUTF8(code) : NULL;
    if (state != NULL)
        snprintf(self->sqlstate, sizeof self->sqlstate, "%s", state);
    Py_XDECREF(code);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    PyErr_Clear();
}

/* Close a connection that was given up. */
static void close_unwanted(PyObject *connection) {
    if (connection == NULL)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *result = hvpy_close_connection(connection);
    if (result == NULL)
        PyErr_WriteUnraisable(connection);
    Py_XDECREF(result);
    Py_DECREF(connection);
    PyErr_Restore(type, value, traceback);
}

static void is_over(opening *self, PyObject *connection) {
    if (self->state == GIVEN_UP) {
        close_unwanted(connection);
        return;
    }
    static const uint64_t one = 1;
    ssize_t written = write(self->fd, &one, sizeof one);
    (void) written; /* an eventfd whose count is 0 accepts this */
    self->connection = connection;
    self->state = OVER;
}

static void run(void *context) {
    opening *self = context;
    PyObject *connection =
        PyObject_CallMethod(self->connector, "open", "Od", self->parameters, self->timeout);
    if (connection == NULL)
        take_failure(self);
    Py_CLEAR(self->parameters);
    Py_CLEAR(self->connector);
    is_over(self, connection);
}

/* ---- the end ---- */

static void free_if_unused(opening *self) {
    if (!self->joined || self->state == OPENING || self->state == OVER)
        return;
    Py_XDECREF(self->connector);
    Py_XDECREF(self->parameters);
    PyMem_Free(self);
}

static void joined(void *context) {
    opening *self = context;
    self->joined = true;
    free_if_unused(self);
}

static void end(opening *self, opening_state state) {
    close(self->fd);
    self->fd = -1;
    self->state = state;
    free_if_unused(self);
    hvpy_threads_join();
}

/* ---- the caller's part ---- */

/* libpq's parameters; if a name occurs twice, the later value counts. */
static PyObject *parameters_from(const char *const *keywords, const char *const *values) {
    PyObject *parameters = PyDict_New();
    for (size_t i = 0; parameters != NULL && keywords[i] != NULL; i++) {
        if (values[i] == NULL)
            continue;
        /* UTF-8 in any locale, as psycopg2 expects */
        PyObject *value =
            PyUnicode_DecodeUTF8(values[i], (Py_ssize_t) strlen(values[i]), "surrogateescape");
        if (value == NULL || PyDict_SetItemString(parameters, keywords[i], value) < 0)
            Py_CLEAR(parameters);
        Py_XDECREF(value);
    }
    return parameters;
}

hv_status hvpy_opening_start(PyObject *connector, const char *const *keywords,
                             const char *const *values, int64_t timeout, void **attempt, int *fd,
                             char *message, size_t message_size) {
    opening *self = PyMem_Calloc(1, sizeof *self);
    PyObject *parameters = parameters_from(keywords, values);
    if (self == NULL || parameters == NULL) {
        PyErr_Clear(); /* MemoryError */
        Py_XDECREF(parameters);
        PyMem_Free(self);
        return HV_NO_MEMORY;
    }
    Py_INCREF(connector);
    self->connector = connector;
    self->parameters = parameters;
    self->timeout = (double) timeout / 1000;
    self->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const char *reason = strerror(errno);
    if (self->fd >= 0 && hvpy_thread_start(run, joined, self, &reason)) {
        *attempt = self;
        *fd = self->fd;
        return HV_OK;
    }
    snprintf(message, message_size, "could not start a thread that connects: %s", reason);
    self->joined = true; /* the thread never ran */
    end(self, GIVEN_UP);
    return HV_UNAVAILABLE;
}

hv_status hvpy_opening_finish(void *attempt, PyObject **connection, char *message,
                              size_t message_size, char sqlstate[6]) {
    opening *self = attempt;
    hv_status status = self->status;
    *connection = self->connection;
    self->connection = NULL;
    if (status != HV_OK) {
        snprintf(message, message_size, "%s", self->message);
        memcpy(sqlstate, self->sqlstate, sizeof self->sqlstate);
    }
    end(self, FINISHED);
    return status;
}

void hvpy_opening_give_up(void *attempt) {
    opening *self = attempt;
    PyObject *connection = self->connection;
    self->connection = NULL;
    end(self, GIVEN_UP);
    close_unwanted(connection);
}
