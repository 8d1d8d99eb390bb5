/*
 * cursor: the class LentCursor, a cursor on a borrowed connection for as long as a `with` lasts.
 *
 * It is written in C so that no signal handler runs between its steps: a borrowed connection is
 * either returned or still in the object.
 */
#include "cursor.h"

#include <stdbool.h>
#include <string.h>

#include "arguments.h"
#include "error.h"
#include "lend.h"
#include "store.h"
#include "threads.h"

typedef struct cursor_object {
    PyObject_HEAD
    hvpy_store *store;
    PyObject *shard_id;   /* or NULL, and then … */
    PyObject *server;     /* … its name or number */
    PyObject *connection; /* while it is borrowed */
    PyObject *cursor;     /* the same */
    int shard;            /* of a borrowed connection, or -1; and … */
    int at;               /* … the server that was believed to hold it before */
} cursor_object;

static cursor_object *cursor_of(PyObject *object) {
    return (cursor_object *) object;
}

static int cursor_init(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"store", "shard_id", "server", NULL};
    cursor_object *self = cursor_of(object);
    PyObject *store, *shard_id = NULL, *server = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|O$O:LentCursor", names, &hvpy_store_type,
                                     &store, &shard_id, &server))
        return -1;
    if ((shard_id == NULL) == (server == NULL)) {
        PyErr_SetString(PyExc_TypeError, "LentCursor() takes either a shard or a server");
        return -1;
    }
    if (self->store != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the cursor is initialized already");
        return -1;
    }
    Py_INCREF(store);
    Py_XINCREF(shard_id);
    Py_XINCREF(server);
    self->store = (hvpy_store *) store;
    self->shard_id = shard_id;
    self->server = server;
    return 0;
}

static void cursor_dealloc(PyObject *object) {
    cursor_object *self = cursor_of(object);
    Py_XDECREF(self->cursor);
    Py_XDECREF(self->connection);
    Py_XDECREF(self->shard_id);
    Py_XDECREF(self->server);
    Py_XDECREF(self->store);
    Py_TYPE(object)->tp_free(object);
}

/* Return the connection. An exception that was raised before stays raised, and replaces one
 * raised here. */
static void return_connection(cursor_object *self) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *connection = self->connection;
    self->connection = NULL;
    PyObject *result = hvpy_lend_return(self->store, connection);
    Py_XDECREF(result);
    Py_DECREF(connection);
    if (type != NULL)
        PyErr_Restore(type, value, traceback);
}

static bool note_place(cursor_object *self) {
    self->shard = hvpy_int_from(self->shard_id);
    if ((self->shard == -1 && PyErr_Occurred()) || !hvpy_store_enter(self->store))
        return false;
    self->at = hv_shard_server(self->store->store, self->shard);
    hvpy_store_leave(self->store);
    return true;
}

/* Does this exception of psycopg2's say that a table or a schema is missing? */
static bool is_of_missing(PyObject *exception) {
    PyObject *code = PyObject_GetAttrString(exception, "pgcode");
    const char *text = code == NULL || !PyUnicode_Check(code) ? "" : PyUnicode_AsUTF8(code);
    bool is_missing = text != NULL && (strcmp(text, "42P01") == 0 || strcmp(text, "3F000") == 0);
    Py_XDECREF(code);
    PyErr_Clear();
    return is_missing;
}

/* Raise a MovedError in place of the exception if the shard has moved. */
static void raise_if_moved(cursor_object *self, PyObject *exception) {
    int now = -1;
    hv_status status;
    if (!hvpy_store_enter(self->store)) {
        PyErr_Clear();
        return;
    }
    HVPY_BEGIN_LIBRARY
    status = hv_where(self->store->store, self->shard, &now, NULL);
    HVPY_END_LIBRARY
    if (status == HV_OK && now != self->at && !PyErr_Occurred())
        hvpy_raise_moved(self->shard, hv_server_name(self->store->store, now), exception);
    hvpy_store_leave(self->store);
}

static PyObject *cursor_enter(PyObject *object, PyObject *args) {
    (void) args;
    cursor_object *self = cursor_of(object);
    if (self->store == NULL || self->connection != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the cursor is already in use");
        return NULL;
    }
    self->shard = -1;
    if (self->server == NULL && !note_place(self))
        return NULL;
    PyObject *connection = self->server != NULL ? hvpy_lend_borrow_server(self->store, self->server)
                                                : hvpy_lend_borrow(self->store, self->shard_id);
    if (connection == NULL)
        return NULL;
    self->connection = connection;
    self->cursor = PyObject_CallMethod(connection, "cursor", NULL);
    if (self->cursor == NULL)
        return_connection(self);
    Py_XINCREF(self->cursor);
    return self->cursor;
}

static PyObject *cursor_exit(PyObject *object, PyObject *args) {
    cursor_object *self = cursor_of(object);
    PyObject *exception = PyTuple_GET_SIZE(args) > 1 ? PyTuple_GET_ITEM(args, 1) : Py_None;
    if (self->cursor == NULL) { /* or another thread is about to get it, or to return it */
        PyErr_SetString(PyExc_RuntimeError, "the cursor is not in use");
        return NULL;
    }
    PyObject *cursor = self->cursor;
    self->cursor = NULL;
    PyObject *result = PyObject_CallMethod(cursor, "close", NULL);
    Py_XDECREF(result);
    Py_DECREF(cursor);
    return_connection(self);
    if (PyErr_Occurred() == NULL && self->shard >= 0 && is_of_missing(exception))
        raise_if_moved(self, exception);
    if (PyErr_Occurred() != NULL)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef cursor_methods[] = {
    {"__enter__", cursor_enter, METH_NOARGS, NULL},
    {"__exit__", cursor_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject cursor_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv._hv.LentCursor",
    .tp_basicsize = sizeof(cursor_object),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The result of Datastore.cursor() and cursor_server().",
    .tp_new = PyType_GenericNew,
    .tp_init = cursor_init,
    .tp_dealloc = cursor_dealloc,
    .tp_methods = cursor_methods,
};

int hvpy_cursor_init(PyObject *module) {
    if (PyType_Ready(&cursor_type) < 0)
        return -1;
    Py_INCREF(&cursor_type);
    if (PyModule_AddObject(module, "LentCursor", (PyObject *) &cursor_type) < 0) {
        Py_DECREF(&cursor_type);
        return -1;
    }
    return 0;
}
