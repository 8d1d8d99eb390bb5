/*
 * scan: the class Scan, the entities of a shard in the order of their keys.
 */
#include "scan.h"

#include <hypervault.h>
#include <stdbool.h>

#include "arguments.h"
#include "error.h"
#include "row.h"
#include "store.h"
#include "threads.h"

typedef struct scan_object {
    PyObject_HEAD
    hvpy_store *store; /* NULL: not opened by scan() */
    hv_scan *scan;     /* NULL: closed, or at its end */
    bool busy;         /* a thread is using it */
} scan_object;

static PyTypeObject scan_type;

static scan_object *scan_of(PyObject *object) {
    return (scan_object *) object;
}

/* ---- opening and closing ---- */

const char hvpy_scan_open_doc[] =
    "scan($self, shard_id, start=0, stop=0, kinds=())\n--\n\n"
    "An iterator over the rows of a shard in the order of their keys, as they were at this "
    "moment:\n"
    "from ``start`` to before ``stop`` (0: the last), which are Keys or integers, as key_bound() "
    "makes\nthem of points in time. With ``kinds`` only of those. It has a connection until its "
    "end; close it\nif you do not go there.";

static bool bound_from(PyObject *argument, int64_t *bound) {
    *bound = 0;
    return argument == NULL || hvpy_int64_from(argument, bound);
}

/* Make an array, to be freed; `count` is 0 for no kinds. Returns false with an exception. */
static bool kinds_from(PyObject *argument, int **kinds, size_t *count) {
    *kinds = NULL;
    *count = 0;
    if (argument == NULL)
        return true;
    PyObject *tuple = PySequence_Tuple(argument); /* it cannot change meanwhile */
    if (tuple == NULL)
        return false;
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    int *found = PyMem_New(int, size + 1);
    if (found == NULL)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < size && !PyErr_Occurred(); i++)
        found[i] = hvpy_int_from(PyTuple_GET_ITEM(tuple, i));
    Py_DECREF(tuple);
    if (PyErr_Occurred()) {
        PyMem_Free(found);
        return false;
    }
    *kinds = found;
    *count = (size_t) size;
    return true;
}

PyObject *hvpy_scan_open(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"shard_id", "start", "stop", "kinds", NULL};
    hvpy_store *store = (hvpy_store *) object;
    PyObject *shard_given, *start = NULL, *stop = NULL, *kinds_given = NULL;
    int shard;
    int64_t from, until;
    int *kinds = NULL;
    size_t count = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOO:scan", names, &shard_given, &start, &stop,
                                     &kinds_given))
        return NULL;
    shard = hvpy_int_from(shard_given);
    if ((shard == -1 && PyErr_Occurred()) || !bound_from(start, &from) ||
        !bound_from(stop, &until) || !kinds_from(kinds_given, &kinds, &count))
        return NULL;
    scan_object *self = NULL;
    hv_scan *scan = NULL;
    hv_error *error = NULL;
    hv_status status;
    if (!hvpy_store_enter(store))
        goto out;
    HVPY_BEGIN_LIBRARY
    status = hv_scan_open(store->store, shard, from, until, kinds, count, &scan, &error);
    HVPY_END_LIBRARY
    hvpy_store_leave(store);
    if (status != HV_OK)
        hvpy_raise(status, error);
    else if (!PyErr_Occurred())
        self = PyObject_New(scan_object, &scan_type);
    if (self != NULL) {
        Py_INCREF(store);
        self->store = store;
        self->scan = scan;
        self->busy = false;
    } else {
        hv_scan_close(scan);
    }
out:
    PyMem_Free(kinds);
    return (PyObject *) self;
}

static void end(scan_object *self) {
    hv_scan *scan = self->scan;
    self->scan = NULL;
    HVPY_BEGIN_LIBRARY
    hv_scan_close(scan);
    HVPY_END_LIBRARY
}

static bool enter(scan_object *self) {
    if (self->busy)
        PyErr_SetString(PyExc_RuntimeError, "the scan is in use by another thread");
    return !self->busy;
}

static PyObject *scan_close(PyObject *object, PyObject *args) {
    (void) args;
    if (!enter(scan_of(object)))
        return NULL;
    end(scan_of(object));
    Py_RETURN_NONE;
}

static void scan_dealloc(PyObject *object) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    end(scan_of(object));
    Py_XDECREF(scan_of(object)->store);
    PyErr_Restore(type, value, traceback);
    PyObject_Free(object);
}

/* ---- iterating ---- */

static PyObject *scan_next(PyObject *object) {
    scan_object *self = scan_of(object);
    if (!enter(self) || self->scan == NULL)
        return NULL;
    hv_error *error = NULL;
    hv_status status;
    self->busy = true;
    HVPY_BEGIN_LIBRARY
    status = hv_scan_next(self->scan, &error);
    HVPY_END_LIBRARY
    PyObject *row = NULL;
    bool has_row = status == HV_OK && !PyErr_Occurred();
    if (has_row) /* garbage collection may run any code meanwhile: the scan stays busy */
        row = hvpy_row_new(hv_scan_key(self->scan), hv_scan_kind(self->scan),
                           hv_scan_dict(self->scan), NULL);
    self->busy = false;
    if (has_row)
        return row;
    if (status != HV_OK && status != HV_NOT_FOUND)
        hvpy_raise(status, error);
    if (status != HV_CORRUPT ||
        !hv_scan_goes_on(self->scan)) /* otherwise next() continues after it */
        end(self);
    return NULL; /* without an exception: the end */
}

static PyObject *scan_self(PyObject *object) {
    Py_INCREF(object);
    return object;
}

static PyObject *scan_enter(PyObject *object, PyObject *args) {
    (void) args;
    return scan_self(object);
}

static PyObject *scan_exit(PyObject *object, PyObject *args) {
    (void) args;
    return scan_close(object, NULL);
}

static PyMethodDef scan_methods[] = {
    {"close", scan_close, METH_NOARGS,
     "close($self)\n--\n\nEnd the scan and return its connection."},
    {"__enter__", scan_enter, METH_NOARGS, NULL},
    {"__exit__", scan_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject scan_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv._hv.Scan",
    .tp_basicsize = sizeof(scan_object),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The result of Datastore.scan(): an iterator over rows.",
    .tp_dealloc = scan_dealloc,
    .tp_iter = scan_self,
    .tp_iternext = scan_next,
    .tp_methods = scan_methods,
};

int hvpy_scan_init(PyObject *module) {
    if (PyType_Ready(&scan_type) < 0)
        return -1;
    Py_INCREF(&scan_type);
    if (PyModule_AddObject(module, "Scan", (PyObject *) &scan_type) < 0) {
        Py_DECREF(&scan_type);
        return -1;
    }
    return 0;
}
