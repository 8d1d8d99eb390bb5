/*
 * connector: the library's callbacks into Python, for psycopg2's connections, the log and Ctrl-C.
 */
#include "connector.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "handler.h"
#include "opening.h"
#include "stop.h"
#include "threads.h"

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

/* ---- exceptions that are raised already ---- */

/* A thread that is on its way back to its caller may already have an exception set. */
typedef struct raised {
    PyObject *type, *value, *traceback;
} raised;

static raised set_aside(void) {
    raised before;
    PyErr_Fetch(&before.type, &before.value, &before.traceback);
    return before;
}

static void put_back(raised before) {
    if (before.type != NULL)
        PyErr_Restore(before.type, before.value, before.traceback);
}

/* ---- connections ---- */

static const char ended[] = "the Python interpreter has ended";

static hv_status on_start(void *context, const char *const *keywords, const char *const *values,
                          int64_t timeout, void **attempt, int *fd, char *message,
                          size_t message_size, char sqlstate[6]) {
    (void) sqlstate;
    const hvpy_callbacks *callbacks = context;
    if (!Py_IsInitialized()) {
        snprintf(message, message_size, "%s", ended);
        return HV_UNAVAILABLE;
    }
    hv_status status = HV_TIMEOUT;
    HVPY_TAKE_GIL;
    if (PyErr_Occurred() != NULL) /* the thread was interrupted before */
        snprintf(message, message_size, "interrupted");
    else
        status = hvpy_opening_start(callbacks->connector, keywords, values, timeout, attempt, fd,
                                    message, message_size);
    HVPY_LEAVE_GIL;
    return status;
}

static hv_status on_finish(void *context, void *attempt, struct pg_conn **conn, void **handle,
                           char *message, size_t message_size, char sqlstate[6]) {
    (void) context;
    if (!Py_IsInitialized()) {
        snprintf(message, message_size, "%s", ended);
        return HV_UNAVAILABLE;
    }
    hv_status status;
    HVPY_TAKE_GIL;
    raised before = set_aside();
    PyObject *connection = NULL;
    status = hvpy_opening_finish(attempt, &connection, message, message_size, sqlstate);
    if (status == HV_OK && (*conn = hvpy_pgconn(connection)) == NULL) {
        PyErr_Clear();
        Py_CLEAR(connection);
        snprintf(message, message_size, "the connection was closed at once");
        status = HV_UNAVAILABLE;
    }
    *handle = connection;
    put_back(before);
    HVPY_LEAVE_GIL;
    return status;
}

static void on_give_up(void *context, void *attempt) {
    (void) context;
    if (!Py_IsInitialized())
        return;
    HVPY_TAKE_GIL;
    raised before = set_aside();
    hvpy_opening_give_up(attempt);
    put_back(before);
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
    PyObject *result = hvpy_close_connection(connection);
    if (result == NULL)
        PyErr_WriteUnraisable(connection);
    Py_XDECREF(result);
    Py_DECREF(connection);
    put_back(before);
    HVPY_LEAVE_GIL;
}

/* Fill libpq's arrays from a dict. The pointers are valid as long as the dict lives. Returns
 * NULL with an exception. */
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
    HVPY_BEGIN_LIBRARY
    status = hv_connect(keywords, values, (int64_t) (timeout * 1000), &conn, message,
                        sizeof message, sqlstate);
    if (status == HV_OK)
        PQfinish(conn);
    HVPY_END_LIBRARY
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
    PyObject *server = parameters == NULL ? NULL : hvpy_text(hv_log_server(event));
    PyObject *result = server == NULL
                           ? NULL
                           : PyObject_CallFunction(
                                 callbacks->log, "sOOiLsz", hv_log_statement(event), parameters,
                                 server, hv_log_shard(event), (long long) hv_log_duration_us(event),
                                 hv_status_name(hv_log_status(event)), hv_log_sqlstate(event));
    Py_XDECREF(server);
    Py_XDECREF(parameters);
    Py_XDECREF(result);
    if (PyErr_Occurred() != NULL && (before.type != NULL || !hvpy_comes_from_handler()))
        PyErr_WriteUnraisable(callbacks->log);
    put_back(before);
    HVPY_LEAVE_GIL;
}

/* ---- Ctrl-C, and other ends ---- */

/* An exception of a signal's handler stays raised, and so does one of another callback before. */
static bool on_interrupt(void *context) {
    (void) context;
    if (!Py_IsInitialized())
        return false;
    bool interrupted;
    HVPY_TAKE_GIL;
    interrupted = PyErr_Occurred() != NULL || hvpy_stop_is_wanted() || PyErr_CheckSignals() < 0;
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
