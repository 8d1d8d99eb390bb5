/*
 * load: the class Load, which stores many entities on one server, transaction by transaction.
 */
#include "load.h"

#include <hypervault.h>
#include <stdbool.h>

#include "arguments.h"
#include "attributes.h"
#include "error.h"
#include "key.h"
#include "report.h"
#include "store.h"
#include "threads.h"

typedef struct load_object {
    PyObject_HEAD
    hvpy_store *store;
    hv_load *load; /* NULL: closed */
    bool busy;     /* a thread is using it */
} load_object;

static PyTypeObject load_type;

static load_object *load_of(PyObject *object) {
    return (load_object *) object;
}

/* ---- opening and closing ---- */

const char hvpy_load_open_doc[] =
    "load($self, server, name)\n--\n\n"
    "Open the load ``name`` on a server, or begin it: many entities through COPY, some thousand a\n"
    "transaction, each of which happens exactly once, whatever becomes of connections, servers "
    "and\n"
    "this process. docs/python.md shows how.";

PyObject *hvpy_load_open(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"server", "name", NULL};
    hvpy_store *store = (hvpy_store *) object;
    PyObject *server_name;
    const char *name;
    int server, end;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Us:load", names, &server_name, &name) ||
        !hvpy_report_servers_from(store, server_name, &server, &end))
        return NULL;
    hv_load *load = NULL;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_load_open(store->store, server, name, &load, &error);
    HVPY_END_LIBRARY
    hvpy_store_leave(store);
    load_object *self = NULL;
    if (status != HV_OK)
        hvpy_raise(status, error);
    else if (!PyErr_Occurred())
        self = PyObject_New(load_object, &load_type);
    if (self == NULL) {
        hv_load_free(load);
        return NULL;
    }
    Py_INCREF(store);
    self->store = store;
    self->load = load;
    self->busy = false;
    return (PyObject *) self;
}

static bool enter(load_object *self) {
    if (self->load == NULL)
        hvpy_raise_new(HV_CLOSED, "the load is closed");
    else if (self->busy)
        PyErr_SetString(PyExc_RuntimeError, "the load is in use by another thread");
    else
        self->busy = true;
    return !PyErr_Occurred();
}

static PyObject *leave(load_object *self, hv_status status, hv_error *error) {
    self->busy = false;
    if (status != HV_OK)
        return hvpy_raise(status, error);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static void end(load_object *self) {
    hv_load *load = self->load;
    self->load = NULL;
    HVPY_BEGIN_LIBRARY
    hv_load_free(load);
    HVPY_END_LIBRARY
}

static PyObject *load_close(PyObject *object, PyObject *args) {
    (void) args;
    load_object *self = load_of(object);
    if (self->load == NULL)
        Py_RETURN_NONE;
    if (!enter(self))
        return NULL;
    end(self);
    return leave(self, HV_OK, NULL);
}

static void load_dealloc(PyObject *object) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    end(load_of(object));
    Py_DECREF(load_of(object)->store);
    PyErr_Restore(type, value, traceback);
    PyObject_Free(object);
}

/* ---- rows ---- */

static PyObject *load_add(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"where", "kind", "attributes", NULL};
    load_object *self = load_of(object);
    PyObject *where, *kind_given, *attributes = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:add", names, &where, &kind_given,
                                     &attributes))
        return NULL;
    int64_t key = 0;
    int shard = -1;
    if (hvpy_key_check(where))
        key = hvpy_key_id(where);
    else
        shard = hvpy_int_from(where);
    int kind = PyErr_Occurred() ? -1 : hvpy_int_from(kind_given);
    if (PyErr_Occurred())
        return NULL;
    hv_dict *dict = hvpy_attributes_from(attributes);
    if (dict == NULL)
        return NULL;
    PyObject *result = NULL;
    if (enter(self)) {
        hv_error *error = NULL;
        hv_status status = hv_load_add(self->load, key, shard, kind, dict, &error);
        result = leave(self, status, error);
    }
    hv_dict_free(dict);
    return result;
}

/* Set the exception's attribute `blocked` to the number of the row that is blocked. */
static void set_blocked(size_t blocked) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *number = PyLong_FromSize_t(blocked);
    if (number == NULL || PyObject_SetAttrString(value, "blocked", number) < 0)
        PyErr_Clear();
    Py_XDECREF(number);
    PyErr_Restore(type, value, traceback);
}

static PyObject *load_send(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"count", NULL};
    load_object *self = load_of(object);
    Py_ssize_t count = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n:send", names, &count) || !enter(self))
        return NULL;
    size_t wanted = count >= 0 ? (size_t) count : hv_load_count(self->load);
    size_t blocked = SIZE_MAX;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_load_send(self->load, wanted, &blocked, &error);
    HVPY_END_LIBRARY
    PyObject *result = leave(self, status, error);
    if (status != HV_OK && blocked != SIZE_MAX)
        set_blocked(blocked);
    return result;
}

static PyObject *refusal(hv_status status, const hv_error *error) {
    if (error == NULL)
        return hvpy_raise_new(HV_INVALID, "the load has no such row");
    return hvpy_error_from(status, error);
}

static PyObject *load_row(PyObject *object, PyObject *args) {
    load_object *self = load_of(object);
    Py_ssize_t index;
    if (!PyArg_ParseTuple(args, "n:row", &index) || !enter(self))
        return NULL;
    bool known = false;
    const hv_error *error = NULL;
    hv_status status =
        hv_load_row(self->load, index < 0 ? SIZE_MAX : (size_t) index, &known, &error);
    PyObject *result = status == HV_OK ? PyBool_FromLong(known) : refusal(status, error);
    self->busy = false; /* only now: the error belongs to the load */
    return result;
}

static PyObject *load_give_up(PyObject *object, PyObject *args) {
    load_object *self = load_of(object);
    Py_ssize_t index;
    if (!PyArg_ParseTuple(args, "n:give_up", &index) || !enter(self))
        return NULL;
    if (index >= 0)
        hv_load_give_up(self->load, (size_t) index);
    return leave(self, HV_OK, NULL);
}

static PyObject *load_commit(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"position", "note", NULL};
    load_object *self = load_of(object);
    long long position;
    const char *note = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "L|z:commit", names, &position, &note) ||
        !enter(self))
        return NULL;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_load_commit(self->load, position, note, &error);
    HVPY_END_LIBRARY
    return leave(self, status, error);
}

/* ---- the list of loads ---- */

const char hvpy_load_list_doc[] =
    "loads($self, server, prefix='')\n--\n\n"
    "The loads of a server whose names begin with ``prefix``: a list of (name, position, note).";

/* Called without the GIL. After an exception nothing more is added. */
static void on_load(void *context, const char *name, int64_t position, const char *note) {
    HVPY_TAKE_GIL;
    if (!PyErr_Occurred()) {
        PyObject *one = Py_BuildValue("(sLz)", name, (long long) position, note);
        if (one != NULL)
            PyList_Append(context, one);
        Py_XDECREF(one);
    }
    HVPY_LEAVE_GIL;
}

PyObject *hvpy_load_list(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"server", "prefix", NULL};
    hvpy_store *store = (hvpy_store *) object;
    PyObject *server_name;
    const char *prefix = "";
    int server, end_server;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|s:loads", names, &server_name, &prefix) ||
        !hvpy_report_servers_from(store, server_name, &server, &end_server))
        return NULL;
    PyObject *list = PyList_New(0);
    hv_error *error = NULL;
    hv_status status = HV_NO_MEMORY;
    if (list != NULL) {
        HVPY_BEGIN_LIBRARY
        status = hv_load_list(store->store, server, prefix, on_load, list, &error);
        HVPY_END_LIBRARY
    }
    hvpy_store_leave(store);
    if (list != NULL && status != HV_OK)
        hvpy_raise(status, error);
    if (PyErr_Occurred())
        Py_CLEAR(list);
    return list;
}

/* ---- the class ---- */

static PyObject *load_position(PyObject *object, void *closure) {
    (void) closure;
    hv_load *load = load_of(object)->load;
    return load == NULL ? hvpy_raise_new(HV_CLOSED, "the load is closed")
                        : PyLong_FromLongLong(hv_load_position(load));
}

static PyObject *load_note(PyObject *object, void *closure) {
    (void) closure;
    load_object *self = load_of(object);
    if (!enter(self)) /* commit() in another thread would free it */
        return NULL;
    PyObject *note = hvpy_text(hv_load_note(self->load));
    self->busy = false;
    return note;
}

static PyObject *load_count(PyObject *object, void *closure) {
    (void) closure;
    hv_load *load = load_of(object)->load;
    return PyLong_FromSize_t(load == NULL ? 0 : hv_load_count(load));
}

static PyObject *load_enter(PyObject *object, PyObject *args) {
    (void) args;
    Py_INCREF(object);
    return object;
}

static PyObject *load_exit(PyObject *object, PyObject *args) {
    (void) args;
    return load_close(object, NULL);
}

static PyGetSetDef load_fields[] = {
    {"position", load_position, NULL, "The last committed position.", NULL},
    {"note", load_note, NULL, "The last committed note, or None.", NULL},
    {"count", load_count, NULL, "The number of rows that were added and not yet committed.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define WITH_NAMES(function) \
    ((PyCFunction) (void (*)(void))(function)), METH_VARARGS | METH_KEYWORDS

static PyMethodDef load_methods[] = {
    {"add", WITH_NAMES(load_add),
     "add($self, where, kind, attributes=None)\n--\n\nAdd a row: ``where`` is a shard of the "
     "server, "
     "or the Key that the entity shall have.\nNothing is sent."},
    {"send", WITH_NAMES(load_send),
     "send($self, count=-1)\n--\n\nStore the first ``count`` rows, or all, in a transaction that "
     "commit() ends. After an error\nnothing is stored, and it can be repeated; if a row stands in "
     "the way, the error has its\nnumber as ``blocked``."},
    {"row", load_row, METH_VARARGS,
     "row($self, index, /)\n--\n\nWhat became of a row: False: it is stored; True: it was there "
     "already; or the\nDatastoreError for which it was refused."},
    {"give_up", load_give_up, METH_VARARGS,
     "give_up($self, index, /)\n--\n\nRefuse a row that is blocked, for the reason that send() "
     "gave."},
    {"commit", WITH_NAMES(load_commit),
     "commit($self, position, note=None)\n--\n\nCommit what was sent, with the new position. If it "
     "fails, begin again with send()."},
    {"close", load_close, METH_NOARGS, "close($self)\n--\n\nWhat was not committed is not stored."},
    {"__enter__", load_enter, METH_NOARGS, NULL},
    {"__exit__", load_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject load_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv._hv.Load",
    .tp_basicsize = sizeof(load_object),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The result of Datastore.load().",
    .tp_dealloc = load_dealloc,
    .tp_getset = load_fields,
    .tp_methods = load_methods,
};

int hvpy_load_init(PyObject *module) {
    if (PyType_Ready(&load_type) < 0)
        return -1;
    Py_INCREF(&load_type);
    if (PyModule_AddObject(module, "Load", (PyObject *) &load_type) < 0) {
        Py_DECREF(&load_type);
        return -1;
    }
    return 0;
}
