/*
 * connector: what the library calls back into Python for: psycopg2's connections, the log, Ctrl-C.
 */
#include "connector.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static PyObject *close_connection; /* psycopg2.extensions.connection.close */

int hvpy_connector_init(void) {
    PyObject *extensions = PyImport_ImportModule("psycopg2.extensions");
    PyObject *class = extensions == NULL ? NULL : PyObject_GetAttrString(extensions, "connection");
    close_connection = class == NULL ? NULL : PyObject_GetAttrString(class, "close");
    Py_XDECREF(extensions);
    Py_XDECREF(class);
    return close_connection == NULL ? -1 : 0;
}

struct pg_conn *hvpy_pgconn(PyObject *connection) {
    PyObject *address = PyObject_GetAttrString(connection, "pgconn_ptr");
    if (address == NULL)
        return NULL;
    struct pg_conn *conn = NULL;
    if (address == Py_None)
        PyErr_SetString(PyExc_ValueError, "the connection is closed");
    else
        conn = PyLong_AsVoidPtr(address);
    Py_DECREF(address);
    return conn;
}

void hvpy_rest(void *unused) {
    (void) unused;
    for (;;)
        pause();
}

/* ---- what is raised meanwhile ---- */

/* Is what is raised a reason to stop, rather than an error to be told? */
static bool must_stop(void) {
    return PyErr_Occurred() != NULL && !PyErr_ExceptionMatches(PyExc_Exception);
}

/* Something may be raised already, in a thread that is on its way to tell it. */
typedef struct raised {
    PyObject *type, *value, *traceback;
} raised;

static raised set_aside(void) {
    raised before;
    PyErr_Fetch(&before.type, &before.value, &before.traceback);
    return before;
}

/* An error in a callback that cannot tell it. */
static void give_up_on_error(raised before, PyObject *where) {
    if (PyErr_Occurred() != NULL && !(before.type == NULL && must_stop()))
        PyErr_WriteUnraisable(where);
    if (before.type != NULL)
        PyErr_Restore(before.type, before.value, before.traceback);
}

/* ---- connections ---- */

/* A text with its lines joined, as far as there is room for it. */
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

/* What a failed attempt raised, for the library. */
static hv_status tell_failure(char *message, size_t size, char sqlstate[6]) {
    if (must_stop()) {
        put_message(message, size, "interrupted");
        return HV_TIMEOUT;
    }
    hv_status status = HV_UNAVAILABLE;
    if (PyErr_ExceptionMatches(PyExc_TimeoutError))
        status = HV_TIMEOUT;
    else if (PyErr_ExceptionMatches(PyExc_MemoryError))
        status = HV_NO_MEMORY;
    raised error = set_aside();
    PyErr_NormalizeException(&error.type, &error.value, &error.traceback);
    PyObject *text = PyObject_Str(error.value);
    const char *bytes = text == NULL ? NULL : PyUnicode_AsUTF8(text);
    put_message(message, size, bytes != NULL ? bytes : "unknown error");
    Py_XDECREF(text);
    PyObject *code = PyObject_GetAttrString(error.value, "pgcode");
    const char *state = code != NULL && PyUnicode_Check(code) ? PyUnicode_AsUTF8(code) : NULL;
    if (state != NULL)
        snprintf(sqlstate, 6, "%s", state);
    Py_XDECREF(code);
    Py_XDECREF(error.type);
    Py_XDECREF(error.value);
    Py_XDECREF(error.traceback);
    PyErr_Clear();
    return status;
}

/* libpq's parameters; of two with the same name the later one counts. */
static PyObject *parameters_from(const char *const *keywords, const char *const *values) {
    PyObject *parameters = PyDict_New();
    for (size_t i = 0; parameters != NULL && keywords[i] != NULL; i++) {
        if (values[i] == NULL)
            continue;
        /* UTF-8 in any locale: psycopg2 hands it on as that. */
        PyObject *value =
            PyUnicode_DecodeUTF8(values[i], (Py_ssize_t) strlen(values[i]), "surrogateescape");
        if (value == NULL || PyDict_SetItemString(parameters, keywords[i], value) < 0)
            Py_CLEAR(parameters);
        Py_XDECREF(value);
    }
    return parameters;
}

static PyObject *start(const hvpy_callbacks *callbacks, const char *const *keywords,
                       const char *const *values, int64_t timeout) {
    PyObject *parameters = parameters_from(keywords, values);
    if (parameters == NULL)
        return NULL;
    PyObject *opening = PyObject_CallMethod(callbacks->connector, "start", "Od", parameters,
                                            (double) timeout / 1000);
    Py_DECREF(parameters);
    return opening;
}

static hv_status on_start(void *context, const char *const *keywords, const char *const *values,
                          int64_t timeout, void **attempt, int *fd, char *message,
                          size_t message_size, char sqlstate[6]) {
    if (!Py_IsInitialized()) {
        put_message(message, message_size, "the Python interpreter has ended");
        return HV_UNAVAILABLE;
    }
    hv_status status = HV_OK;
    HVPY_TAKE_GIL;
    if (PyErr_Occurred() != NULL) { /* the thread was interrupted before */
        put_message(message, message_size, "interrupted");
        status = HV_TIMEOUT;
    } else {
        PyObject *opening = start(context, keywords, values, timeout);
        *fd = opening == NULL ? -1 : PyObject_AsFileDescriptor(opening);
        *attempt = opening;
        if (*fd < 0) {
            status = tell_failure(message, message_size, sqlstate);
            Py_XDECREF(opening);
        }
    }
    HVPY_LEAVE_GIL;
    return status;
}

static hv_status on_finish(void *context, void *attempt, struct pg_conn **conn, void **handle,
                           char *message, size_t message_size, char sqlstate[6]) {
    (void) context;
    if (!Py_IsInitialized()) {
        put_message(message, message_size, "the Python interpreter has ended");
        return HV_UNAVAILABLE;
    }
    hv_status status = HV_OK;
    HVPY_TAKE_GIL;
    raised before = set_aside();
    PyObject *opening = attempt;
    PyObject *connection = PyObject_CallMethod(opening, "finish", NULL);
    *conn = connection == NULL ? NULL : hvpy_pgconn(connection);
    *handle = connection;
    if (*conn == NULL) {
        status = tell_failure(message, message_size, sqlstate);
        Py_XDECREF(connection);
    }
    give_up_on_error(before, opening);
    Py_DECREF(opening);
    HVPY_LEAVE_GIL;
    return status;
}

static void on_give_up(void *context, void *attempt) {
    (void) context;
    if (!Py_IsInitialized())
        return;
    HVPY_TAKE_GIL;
    raised before = set_aside();
    PyObject *opening = attempt;
    PyObject *result = PyObject_CallMethod(opening, "give_up", NULL);
    Py_XDECREF(result);
    give_up_on_error(before, opening);
    Py_DECREF(opening);
    HVPY_LEAVE_GIL;
}

static void on_disconnect(void *context, struct pg_conn *conn, void *handle) {
    (void) context;
    (void) conn;
    if (!Py_IsInitialized())
        return;
    HVPY_TAKE_GIL;
    raised before = set_aside();
    PyObject *connection = handle;
    PyObject *result = PyObject_CallFunctionObjArgs(close_connection, connection, NULL);
    Py_XDECREF(result);
    Py_DECREF(connection);
    give_up_on_error(before, close_connection);
    HVPY_LEAVE_GIL;
}

/* The opposite of parameters_from(): what is pointed to lives as long as the dict. NULL with an
 * exception. */
static const char **arrays_from(PyObject *parameters, const char ***values) {
    size_t room = (size_t) PyDict_Size(parameters) + 1, count = 0;
    const char **keywords = PyMem_Calloc(2 * room, sizeof *keywords);
    if (keywords == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *name, *value;
    Py_ssize_t position = 0;
    *values = keywords + room;
    for (; PyDict_Next(parameters, &position, &name, &value); count++) {
        keywords[count] = PyUnicode_AsUTF8(name);
        (*values)[count] = keywords[count] == NULL ? NULL : PyUnicode_AsUTF8(value);
        if ((*values)[count] == NULL) {
            PyMem_Free(keywords);
            return NULL;
        }
    }
    return keywords;
}

PyObject *hvpy_refusal(PyObject *module, PyObject *args) {
    (void) module;
    PyObject *parameters;
    double timeout;
    if (!PyArg_ParseTuple(args, "O!d:refusal", &PyDict_Type, &parameters, &timeout))
        return NULL;
    const char **values;
    const char **keywords = arrays_from(parameters, &values);
    if (keywords == NULL)
        return NULL;
    PGconn *conn = NULL;
    char message[1024] = "", sqlstate[6] = "";
    hv_status status;
    Py_BEGIN_ALLOW_THREADS
    status = hv_connect(keywords, values, (int64_t) (timeout * 1000), &conn, message,
                        sizeof message, sqlstate);
    if (status == HV_OK)
        PQfinish(conn);
    Py_END_ALLOW_THREADS
    PyMem_Free(keywords);
    if (status != HV_UNAVAILABLE || sqlstate[0] == '\0')
        Py_RETURN_NONE;
    return Py_BuildValue(
        "(Ns)", PyUnicode_DecodeUTF8(message, (Py_ssize_t) strlen(message), "replace"), sqlstate);
}

/* ---- the log ---- */

static PyObject *parameters_of(const hv_log_event *event) {
    size_t count = hv_log_parameter_count(event);
    PyObject *parameters = PyTuple_New((Py_ssize_t) count);
    for (size_t i = 0; parameters != NULL && i < count; i++) {
        const char *value = hv_log_parameter(event, i);
        PyObject *text = Py_None;
        if (value != NULL)
            text = PyUnicode_DecodeUTF8(value, (Py_ssize_t) strlen(value), "replace");
        else
            Py_INCREF(Py_None);
        if (text == NULL)
            Py_CLEAR(parameters);
        else
            PyTuple_SET_ITEM(parameters, (Py_ssize_t) i, text);
    }
    return parameters;
}

static void on_log(void *context, const hv_log_event *event) {
    const hvpy_callbacks *callbacks = context;
    if (!Py_IsInitialized())
        return;
    HVPY_TAKE_GIL;
    raised before = set_aside();
    PyObject *parameters = parameters_of(event);
    PyObject *result =
        parameters == NULL
            ? NULL
            : PyObject_CallFunction(callbacks->log, "sO", hv_log_statement(event), parameters);
    Py_XDECREF(parameters);
    Py_XDECREF(result);
    give_up_on_error(before, callbacks->log);
    HVPY_LEAVE_GIL;
}

/* ---- Ctrl-C ---- */

/* What a signal's handler raises stays raised, as does what another callback has left. */
static bool on_interrupt(void *context) {
    (void) context;
    if (!Py_IsInitialized())
        return false;
    bool interrupted;
    HVPY_TAKE_GIL;
    interrupted = PyErr_Occurred() != NULL || PyErr_CheckSignals() < 0;
    HVPY_LEAVE_GIL;
    return interrupted;
}

void hvpy_callbacks_set(hvpy_callbacks *callbacks, hv_options *options) {
    const hv_connector connector = {.disconnect = on_disconnect,
                                    .context = callbacks,
                                    .start = on_start,
                                    .finish = on_finish,
                                    .give_up = on_give_up};
    hv_options_set_connector(options, &connector);
    hv_options_set_interrupt(options, on_interrupt, NULL);
    if (callbacks->log != NULL)
        hv_options_set_log(options, on_log, callbacks);
}
