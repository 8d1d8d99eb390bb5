/*
 * stop: ends what a thread does in the library, when another one wants it to end.
 */
#include "stop.h"

static _Thread_local hvpy_stop *current; /* of the calling thread, the innermost one */

void hvpy_stop_enter(hvpy_stop *stop) {
    stop->outer = current;
    current = stop;
}

void hvpy_stop_leave(const hvpy_stop *stop) {
    current = stop->outer;
}

bool hvpy_stop_is_wanted(void) {
    for (const hvpy_stop *stop = current; stop != NULL; stop = stop->outer)
        if (stop->is_wanted)
            return true;
    return false;
}

/* ---- the class ---- */

typedef struct stop_object {
    PyObject_HEAD
    hvpy_stop stop;
    bool is_used; /* by run(), once */
} stop_object;

static stop_object *stop_of(PyObject *object) {
    return (stop_object *) object;
}

static PyObject *stop_run(PyObject *object, PyObject *function) {
    stop_object *self = stop_of(object);
    if (self->is_used) {
        PyErr_SetString(PyExc_RuntimeError, "the stop was used before");
        return NULL;
    }
    self->is_used = true;
    hvpy_stop_enter(&self->stop);
    PyObject *result = PyObject_CallFunctionObjArgs(function, NULL);
    hvpy_stop_leave(&self->stop);
    return result;
}

static PyObject *stop_set(PyObject *object, PyObject *unused) {
    (void) unused;
    stop_of(object)->stop.is_wanted = true;
    Py_RETURN_NONE;
}

static PyMethodDef stop_methods[] = {
    {"run", stop_run, METH_O,
     "run($self, function, /)\n--\n\nCall a function, and return its result. Once only."},
    {"set", stop_set, METH_NOARGS,
     "set($self)\n--\n\n"
     "Let the library end, as after Ctrl-C, what the function waits for or will wait for."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject stop_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv._hv.Stop",
    .tp_basicsize = sizeof(stop_object),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Ends what a function does in the library, from another thread.",
    .tp_new = PyType_GenericNew,
    .tp_methods = stop_methods,
};

int hvpy_stop_init(PyObject *module) {
    if (PyType_Ready(&stop_type) < 0)
        return -1;
    Py_INCREF(&stop_type);
    if (PyModule_AddObject(module, "Stop", (PyObject *) &stop_type) < 0) {
        Py_DECREF(&stop_type);
        return -1;
    }
    return 0;
}
