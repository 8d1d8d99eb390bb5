/*
 * error: the package's exceptions, with everything that the library says about an error.
 *
 * The first three classes are the old package's. Attributes have defaults in the class, so that an
 * instance holds only those that apply.
 */
#include "error.h"

#include <string.h>

static PyObject *datastore_error, *pool_error, *connection_error, *key_type_error, *changed_error,
    *moved_error;

PyDoc_STRVAR(datastore_error_doc,
             "Any error of a Datastore.\n\n"
             "status: the library's name for it, such as 'HV_REFUSED'; see docs/errors.md.\n"
             "message, detail, hint: its text. sqlstate, constraint: as the server reported them.\n"
             "server, shard: where it happened.\n"
             "retriable: nothing was written, and the same call may succeed later.\n"
             "outcome_unknown: a write may or may not have happened.\n"
             "summary: of work on many shards, what has become of each.");
PyDoc_STRVAR(pool_error_doc, "The pool of a server is closed, or in use.");
PyDoc_STRVAR(connection_error_doc, "There was no connection, or no answer, in time.");

PyDoc_STRVAR(key_type_error_doc, "Something other than a Key was passed as a key: a TypeError that "
                                 "`except DatastoreError` catches too.");

PyDoc_STRVAR(changed_error_doc, "The entity does not meet the condition of a change: no change "
                                "was made.\n\npresent: the entity's row as it is.");

PyDoc_STRVAR(moved_error_doc,
             "The shard has moved to another server: nothing was written. If it is retriable, "
             "begin\nagain: the store knows where the shard is now.");

PyObject *hvpy_text(const char *text) {
    if (text == NULL)
        Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t) strlen(text), "replace");
}

static PyObject *new_class(PyObject *module, const char *name, const char *doc, PyObject *base,
                           PyObject *defaults) {
    PyObject *class = PyErr_NewExceptionWithDoc(name, doc, base, defaults);
    if (class == NULL)
        return NULL;
    Py_INCREF(class);
    if (PyModule_AddObject(module, strrchr(name, '.') + 1, class) < 0) {
        Py_DECREF(class);
        Py_DECREF(class);
        return NULL;
    }
    return class;
}

int hvpy_errors_init(PyObject *module) {
    static const char *const none[] = {"status",     "message", "detail", "hint",   "sqlstate",
                                       "constraint", "server",  "shard",  "summary"};
    PyObject *defaults =
        Py_BuildValue("{s:O,s:O}", "retriable", Py_False, "outcome_unknown", Py_False);
    if (defaults == NULL)
        return -1;
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        if (PyDict_SetItemString(defaults, none[i], Py_None) < 0) {
            Py_DECREF(defaults);
            return -1;
        }
    }
    datastore_error =
        new_class(module, "hv.datastore.DatastoreError", datastore_error_doc, NULL, defaults);
    Py_DECREF(defaults);
    if (datastore_error == NULL)
        return -1;
    pool_error = new_class(module, "hv.datastore.PoolError", pool_error_doc, datastore_error, NULL);
    if (pool_error == NULL)
        return -1;
    connection_error =
        new_class(module, "hv.datastore.ConnectionError", connection_error_doc, pool_error, NULL);
    PyObject *bases =
        connection_error == NULL ? NULL : PyTuple_Pack(2, datastore_error, PyExc_TypeError);
    if (bases == NULL)
        return -1;
    key_type_error =
        new_class(module, "hv.datastore.KeyTypeError", key_type_error_doc, bases, NULL);
    Py_DECREF(bases);
    if (key_type_error == NULL)
        return -1;
    defaults = Py_BuildValue("{s:O}", "present", Py_None);
    if (defaults == NULL)
        return -1;
    changed_error = new_class(module, "hv.datastore.ChangedError", changed_error_doc,
                              datastore_error, defaults);
    Py_DECREF(defaults);
    if (changed_error == NULL)
        return -1;
    moved_error =
        new_class(module, "hv.datastore.MovedError", moved_error_doc, datastore_error, NULL);
    return moved_error == NULL ? -1 : 0;
}

/* Callers that catch ConnectionError may try again, so an unknown outcome is not one. */
static PyObject *class_of(hv_status status) {
    switch (status) {
    case HV_TIMEOUT:
    case HV_UNAVAILABLE:
        return connection_error;
    case HV_CLOSED:
    case HV_BUSY:
        return pool_error;
    case HV_MOVED:
        return moved_error;
    default:
        return datastore_error;
    }
}

/* Set an attribute unless the value, whose reference is stolen, is None. */
static int set_attribute(PyObject *exception, const char *name, PyObject *value) {
    if (value == NULL)
        return -1;
    int result = value == Py_None ? 0 : PyObject_SetAttrString(exception, name, value);
    Py_DECREF(value);
    return result;
}

static int set_attributes(PyObject *exception, hv_status status, const hv_error *error,
                          const char *hint) {
    if (set_attribute(exception, "status", hvpy_text(hv_status_name(status))) < 0)
        return -1;
    if (error == NULL)
        return 0;
    int shard = hv_error_shard(error);
    if (set_attribute(exception, "message", hvpy_text(hv_error_message(error))) < 0 ||
        set_attribute(exception, "detail", hvpy_text(hv_error_detail(error))) < 0 ||
        set_attribute(exception, "hint", hvpy_text(hint)) < 0 ||
        set_attribute(exception, "sqlstate", hvpy_text(hv_error_sqlstate(error))) < 0 ||
        set_attribute(exception, "constraint", hvpy_text(hv_error_constraint(error))) < 0 ||
        set_attribute(exception, "server", hvpy_text(hv_error_server(error))) < 0 ||
        (shard >= 0 && set_attribute(exception, "shard", PyLong_FromLong(shard)) < 0))
        return -1;
    if (hv_error_retriable(error) && PyObject_SetAttrString(exception, "retriable", Py_True) < 0)
        return -1;
    if (hv_error_outcome_unknown(error) &&
        PyObject_SetAttrString(exception, "outcome_unknown", Py_True) < 0)
        return -1;
    return 0;
}

/* Add to an exception's text where it was, for a traceback in a log. */
static PyObject *with_place(PyObject *exception) {
    PyObject *server = PyObject_GetAttrString(exception, "server");
    PyObject *shard = PyObject_GetAttrString(exception, "shard");
    PyObject *text = server == NULL || shard == NULL ? NULL : PyObject_Str(exception);
    PyObject *longer = NULL;
    if (text != NULL && shard != Py_None)
        longer = PyUnicode_FromFormat("%U\nWHERE:  shard %S, server \"%S\"", text, shard, server);
    else if (text != NULL && server != Py_None)
        longer = PyUnicode_FromFormat("%U\nWHERE:  server \"%S\"", text, server);
    PyObject *args = longer == NULL ? NULL : PyTuple_Pack(1, longer);
    if (args != NULL)
        PyObject_SetAttrString(exception, "args", args);
    Py_XDECREF(args);
    Py_XDECREF(longer);
    Py_XDECREF(text);
    Py_XDECREF(shard);
    Py_XDECREF(server);
    if (PyErr_Occurred())
        Py_CLEAR(exception);
    return exception;
}

/* All of the error's text, laid out as psycopg2 does. */
static PyObject *whole_text(hv_status status, const hv_error *error, const char *hint) {
    if (error == NULL)
        return hvpy_text(hv_status_name(status));
    PyObject *text = hvpy_text(hv_error_message(error));
    const struct {
        const char *label;
        const char *text;
    } more[] = {{"DETAIL", hv_error_detail(error)}, {"HINT", hint}};
    for (int i = 0; i < 2 && text != NULL; i++) {
        if (more[i].text == NULL)
            continue;
        PyObject *line = hvpy_text(more[i].text);
        PyObject *longer =
            line == NULL ? NULL : PyUnicode_FromFormat("%U\n%s:  %U", text, more[i].label, line);
        Py_XDECREF(line);
        Py_SETREF(text, longer);
    }
    return text;
}

/* Make an exception; the hint may be NULL, and then the error's is used. */
static PyObject *error_with(hv_status status, const hv_error *error, const char *hint) {
    PyObject *exception = NULL;
    if (error != NULL && hv_error_hint(error) != NULL)
        hint = hv_error_hint(error);
    PyObject *text = whole_text(status, error, hint);
    if (text != NULL)
        exception = PyObject_CallFunctionObjArgs(class_of(status), text, NULL);
    Py_XDECREF(text);
    if (exception != NULL && set_attributes(exception, status, error, hint) < 0)
        Py_CLEAR(exception);
    return exception;
}

PyObject *hvpy_error_from(hv_status status, const hv_error *error) {
    return error_with(status, error, NULL);
}

PyObject *hvpy_error_of_shard(const hv_error *error, PyObject *server, PyObject *shard) {
    PyObject *exception = hvpy_error_from(hv_error_status(error), error);
    if (exception == NULL || server == NULL || shard == NULL ||
        PyObject_SetAttrString(exception, "server", server) < 0 ||
        PyObject_SetAttrString(exception, "shard", shard) < 0)
        Py_CLEAR(exception);
    return exception == NULL ? NULL : with_place(exception);
}

PyObject *hvpy_error_new(hv_status status, hv_error *error) {
    PyObject *exception = hvpy_error_from(status, error);
    hv_error_free(error);
    return exception;
}

PyObject *hvpy_raise_object(PyObject *exception) {
    if (exception != NULL)
        PyErr_SetObject((PyObject *) Py_TYPE(exception), exception);
    Py_XDECREF(exception);
    return NULL;
}

static PyObject *raise_all(hv_status status, hv_error *error, const char *hint, PyObject *summary) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *exception = error_with(status, error, hint);
    hv_error_free(error);
    if (exception != NULL && summary != NULL) {
        if (PyObject_SetAttrString(exception, "summary", summary) == 0)
            exception = with_place(exception);
        else
            Py_CLEAR(exception);
    }
    if (type == NULL)
        return hvpy_raise_object(exception);
    if (exception == NULL)
        PyErr_Clear();
    PyErr_NormalizeException(&type, &value, &traceback);
    if (exception != NULL)
        PyException_SetContext(value, exception);
    PyErr_Restore(type, value, traceback);
    return NULL;
}

PyObject *hvpy_raise(hv_status status, hv_error *error) {
    return raise_all(status, error, NULL, NULL);
}

PyObject *hvpy_raise_with(hv_status status, hv_error *error, const char *hint) {
    return raise_all(status, error, hint, NULL);
}

PyObject *hvpy_raise_summary(hv_status status, hv_error *error, PyObject *summary) {
    return raise_all(status, error, NULL, summary);
}

PyObject *hvpy_raise_because(hv_status status, hv_error *error, const char *hint, PyObject *cause) {
    PyObject *type, *value, *traceback;
    hvpy_raise_with(status, error, hint);
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_INCREF(cause);
    PyException_SetCause(value, cause); /* takes it */
    PyErr_Restore(type, value, traceback);
    return NULL;
}

/* Make an exception of the package's own; the text's reference is stolen, and may be NULL. */
static PyObject *new_from_text(PyObject *class, hv_status status, PyObject *text) {
    if (text == NULL)
        return NULL;
    PyObject *exception = PyObject_CallFunctionObjArgs(class, text, NULL);
    if (exception != NULL &&
        (PyObject_SetAttrString(exception, "message", text) < 0 ||
         set_attribute(exception, "status", hvpy_text(hv_status_name(status))) < 0))
        Py_CLEAR(exception);
    Py_DECREF(text);
    return exception;
}

PyObject *hvpy_changed_new(int64_t key, int shard, PyObject *present) {
    PyObject *text =
        PyUnicode_FromFormat("the entity %lld does not meet the condition", (long long) key);
    PyObject *exception = new_from_text(changed_error, HV_CHANGED, text);
    if (exception != NULL && (PyObject_SetAttrString(exception, "present", present) < 0 ||
                              set_attribute(exception, "shard", PyLong_FromLong(shard)) < 0))
        Py_CLEAR(exception);
    return exception;
}

void hvpy_raise_moved(int shard, const char *server, PyObject *cause) {
    PyObject *text = PyUnicode_FromFormat("shard %d has moved to server \"%s\"", shard, server);
    PyObject *exception = new_from_text(moved_error, HV_MOVED, text);
    if (exception == NULL || set_attribute(exception, "server", hvpy_text(server)) < 0 ||
        set_attribute(exception, "shard", PyLong_FromLong(shard)) < 0 ||
        PyObject_SetAttrString(exception, "retriable", Py_True) < 0) {
        Py_XDECREF(exception);
        return;
    }
    Py_INCREF(cause);
    PyException_SetCause(exception, cause); /* takes it */
    hvpy_raise_object(exception);
}

static PyObject *raise_text(PyObject *class, hv_status status, const char *format,
                            va_list arguments) {
    PyObject *text = PyUnicode_FromFormatV(format, arguments);
    return hvpy_raise_object(new_from_text(class, status, text));
}

PyObject *hvpy_raise_new(hv_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    raise_text(class_of(status), status, format, arguments);
    va_end(arguments);
    return NULL;
}

PyObject *hvpy_raise_hint(hv_status status, const char *message, const char *hint) {
    PyObject *text = PyUnicode_FromFormat("%s\nHINT:  %s", message, hint);
    PyObject *exception = new_from_text(class_of(status), status, text);
    if (exception != NULL && (set_attribute(exception, "message", hvpy_text(message)) < 0 ||
                              set_attribute(exception, "hint", hvpy_text(hint)) < 0))
        Py_CLEAR(exception);
    return hvpy_raise_object(exception);
}

static PyObject *raise_invalid(PyObject *class, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    raise_text(class, HV_INVALID, format, arguments);
    va_end(arguments);
    return NULL;
}

PyObject *hvpy_raise_no_key(PyObject *argument) {
    return raise_invalid(key_type_error, "key must be of type Key, not %.200s",
                         Py_TYPE(argument)->tp_name);
}

PyObject *hvpy_raise_foreign(PyObject *connection) {
    /* Not its repr(), which contains the parameters that it was opened with. */
    return raise_invalid(pool_error,
                         "the store has not lent this connection: a %.200s object at %p",
                         Py_TYPE(connection)->tp_name, (void *) connection);
}

PyObject *hvpy_raise_from(hv_status status, const char *format, ...) {
    PyObject *cause_type, *cause, *cause_traceback, *type, *value, *traceback;
    PyErr_Fetch(&cause_type, &cause, &cause_traceback);
    PyErr_NormalizeException(&cause_type, &cause, &cause_traceback);
    va_list arguments;
    va_start(arguments, format);
    raise_text(class_of(status), status, format, arguments);
    va_end(arguments);
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL)
        PyException_SetCause(value, cause); /* takes it */
    else
        Py_XDECREF(cause);
    PyErr_Restore(type, value, traceback);
    Py_XDECREF(cause_type);
    Py_XDECREF(cause_traceback);
    return NULL;
}
