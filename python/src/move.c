/*
 * move: moving shards: the class Mover, and the store's methods that begin, list and sweep moves.
 *
 * What people use is in hv._move, made of these.
 */
#include "move.h"

#include <hypervault.h>
#include <stdbool.h>
#include <string.h>

#include "arguments.h"
#include "error.h"
#include "report.h"
#include "stop.h"
#include "store.h"
#include "threads.h"

typedef struct mover {
    PyObject_HEAD
    hvpy_store *store;
    hv_move *move; /* NULL: closed */
    bool busy;     /* a thread is using it */
} mover;

static PyTypeObject mover_type;

static mover *mover_of(PyObject *object) {
    return (mover *) object;
}

/* ---- beginning ---- */

/* Set options from a dict of texts. */
static hv_move_options *options_from(PyObject *given) {
    hv_move_options *options = hv_move_options_new();
    PyObject *name, *value;
    Py_ssize_t at = 0;
    if (options == NULL) {
        hvpy_raise(HV_NO_MEMORY, NULL);
        return NULL;
    }
    while (PyDict_Next(given, &at, &name, &value)) {
        hv_error *error = NULL;
        const char *name_text = hvpy_text_from(name, "the name of an option");
        const char *text = name_text != NULL ? hvpy_text_from(value, name_text) : NULL;
        hv_status status = HV_INVALID;
        if (text != NULL) {
            status = hv_move_options_set(options, name_text, text, &error);
            if (status != HV_OK)
                hvpy_raise(status, error);
        }
        if (status != HV_OK) {
            hv_move_options_free(options);
            return NULL;
        }
    }
    return options;
}

PyObject *hvpy_move_check(PyObject *object, PyObject *given) {
    (void) object;
    if (!PyDict_Check(given))
        return PyErr_Format(PyExc_TypeError, "options must be a dict");
    hv_move_options *options = options_from(given);
    if (options == NULL)
        return NULL;
    hv_move_options_free(options);
    Py_RETURN_NONE;
}

static hv_status begin(hv_store *store, const char *order, int shard, int server,
                       const hv_move_options *options, hv_move **move, hv_error **error) {
    if (strcmp(order, "resume") == 0)
        return hv_move_resume(store, shard, options, move, error);
    if (strcmp(order, "abort") == 0)
        return hv_move_abort(store, shard, options, move, error);
    if (strcmp(order, "undo") == 0)
        return hv_move_undo(store, shard, options, move, error);
    if (strcmp(order, "clean") == 0)
        return hv_move_clean(store, shard, options, move, error);
    return hv_move_start(store, shard, server, options, move, error);
}

PyObject *hvpy_move_begin(PyObject *object, PyObject *args) {
    hvpy_store *store = (hvpy_store *) object;
    const char *order;
    int shard, server = -1, end;
    PyObject *server_name, *given;
    if (!PyArg_ParseTuple(args, "siOO!:_move_begin", &order, &shard, &server_name, &PyDict_Type,
                          &given))
        return NULL;
    if (strcmp(order, "move") == 0 && server_name == Py_None)
        return hvpy_raise_new(HV_INVALID, "there is no server None");
    hv_move_options *options = options_from(given);
    if (options == NULL)
        return NULL;
    bool entered = server_name == Py_None
                       ? hvpy_store_enter(store)
                       : hvpy_report_servers_from(store, server_name, &server, &end);
    if (!entered) {
        hv_move_options_free(options);
        return NULL;
    }
    hv_move *move = NULL;
    hv_error *error = NULL;
    hv_status status = begin(store->store, order, shard, server, options, &move, &error);
    hvpy_store_leave(store);
    hv_move_options_free(options);
    mover *self = NULL;
    if (status != HV_OK)
        hvpy_raise(status, error);
    else
        self = PyObject_New(mover, &mover_type);
    if (self == NULL) {
        hv_move_free(move);
        return NULL;
    }
    Py_INCREF(store);
    self->store = store;
    self->move = move;
    self->busy = false;
    return (PyObject *) self;
}

/* ---- a move ---- */

static bool enter(mover *self) {
    if (self->move == NULL)
        hvpy_raise_new(HV_CLOSED, "the move is closed");
    else if (self->busy)
        PyErr_SetString(PyExc_RuntimeError, "the move is in use by another thread");
    else if (hvpy_store_enter(self->store))
        self->busy = true;
    return !PyErr_Occurred();
}

static void leave(mover *self) {
    self->busy = false;
    hvpy_store_leave(self->store);
}

static PyObject *mover_advance(PyObject *object, PyObject *args) {
    mover *self = mover_of(object);
    long long timeout;
    if (!PyArg_ParseTuple(args, "L:advance", &timeout))
        return NULL;
    if (hvpy_stop_is_wanted()) /* the library may ask for it too seldom for a short call */
        return hvpy_raise_new(HV_TIMEOUT, "the move was interrupted");
    if (!enter(self))
        return NULL;
    hv_error *error = NULL;
    bool done = false;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_move_advance(self->move, timeout, &done, &error);
    HVPY_END_LIBRARY
    leave(self);
    if (status != HV_OK)
        return hvpy_raise(status, error);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(done);
}

/* A number, or None for -1. */
static PyObject *known(int64_t number) {
    if (number < 0)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(number);
}

static PyObject *mover_status(PyObject *object, PyObject *unused) {
    (void) unused;
    mover *self = mover_of(object);
    hv_move_status now;
    if (!enter(self))
        return NULL;
    hv_move_progress(self->move, &now);
    PyObject *status =
        Py_BuildValue("(iNNNsNNNNNNNddLN)", now.shard, hvpy_text(now.source), hvpy_text(now.target),
                      hvpy_text(now.kind), hv_move_phase_name(now.phase), hvpy_text(now.step),
                      hvpy_text(now.waits_for), known(now.rows), known(now.rows_total),
                      known(now.bytes), known(now.bytes_total), known(now.lag_bytes), now.seconds,
                      now.pause_ms, (long long) now.keep_until, hvpy_text(now.left_behind));
    leave(self);
    return status;
}

static void end(mover *self) {
    hv_move *move = self->move;
    self->move = NULL;
    HVPY_BEGIN_LIBRARY
    hv_move_free(move);
    HVPY_END_LIBRARY
}

static PyObject *mover_close(PyObject *object, PyObject *unused) {
    (void) unused;
    mover *self = mover_of(object);
    if (self->move == NULL)
        Py_RETURN_NONE;
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the move is in use by another thread");
        return NULL;
    }
    end(self);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static void mover_dealloc(PyObject *object) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    end(mover_of(object));
    Py_DECREF(mover_of(object)->store);
    PyErr_Restore(type, value, traceback);
    PyObject_Free(object);
}

/* ---- the journals ---- */

static PyObject *info_of(const hv_move_info *move) {
    return Py_BuildValue(
        "(iNNNNNNNLLLN)", move->shard, hvpy_text(move->source), hvpy_text(move->target),
        hvpy_text(move->kind), hvpy_text(move->step), PyBool_FromLong(move->running),
        PyBool_FromLong(move->on_source), PyBool_FromLong(move->on_target), (long long) move->begun,
        (long long) move->changed, (long long) move->keep_until, hvpy_text(move->error));
}

/* Append, and release, an object that may be NULL. */
static bool append(PyObject *list, PyObject *item) {
    bool ok = item != NULL && PyList_Append(list, item) == 0;
    Py_XDECREF(item);
    return ok;
}

static PyObject *lists_of(const hv_moves *moves) {
    PyObject *found = PyList_New(0), *missing = PyList_New(0);
    bool ok = found != NULL && missing != NULL;
    for (size_t i = 0; ok && i < hv_moves_count(moves); i++)
        ok = append(found, info_of(hv_moves_at(moves, i)));
    const hv_error *error;
    for (size_t i = 0; ok && (error = hv_moves_missing(moves, i)) != NULL; i++)
        ok = append(missing, hvpy_error_from(hv_error_status(error), error));
    PyObject *both = ok ? PyTuple_Pack(2, found, missing) : NULL;
    Py_XDECREF(found);
    Py_XDECREF(missing);
    return both;
}

PyObject *hvpy_move_list(PyObject *object, PyObject *unused) {
    (void) unused;
    hvpy_store *store = (hvpy_store *) object;
    hv_moves *moves = NULL;
    hv_error *error = NULL;
    hv_status status;
    if (!hvpy_store_enter(store))
        return NULL;
    HVPY_BEGIN_LIBRARY
    status = hv_moves_list(store->store, &moves, &error);
    HVPY_END_LIBRARY
    hvpy_store_leave(store);
    PyObject *lists = NULL;
    if (status != HV_OK)
        hvpy_raise(status, error);
    else if (!PyErr_Occurred())
        lists = lists_of(moves);
    hv_moves_free(moves);
    return lists;
}

PyObject *hvpy_move_sweep(PyObject *object, PyObject *unused) {
    (void) unused;
    hvpy_store *store = (hvpy_store *) object;
    size_t removed = 0;
    hv_error *error = NULL;
    hv_status status;
    if (!hvpy_store_enter(store))
        return NULL;
    HVPY_BEGIN_LIBRARY
    status = hv_moves_sweep(store->store, &removed, &error);
    HVPY_END_LIBRARY
    hvpy_store_leave(store);
    if (status != HV_OK)
        return hvpy_raise(status, error);
    return PyErr_Occurred() ? NULL : PyLong_FromSize_t(removed);
}

/* ---- the class ---- */

static PyMethodDef mover_methods[] = {
    {"advance", mover_advance, METH_VARARGS, "advance($self, timeout_ms, /)\n--\n\nGo on."},
    {"status", mover_status, METH_NOARGS, "status($self)\n--\n\nHow far it is, as a tuple."},
    {"close", mover_close, METH_NOARGS, "close($self)\n--\n\nLeave it in the journals."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject mover_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv._hv.Mover",
    .tp_basicsize = sizeof(mover),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "What Move is made of.",
    .tp_dealloc = mover_dealloc,
    .tp_methods = mover_methods,
};

int hvpy_move_init(PyObject *module) {
    if (PyType_Ready(&mover_type) < 0)
        return -1;
    Py_INCREF(&mover_type);
    if (PyModule_AddObject(module, "Mover", (PyObject *) &mover_type) < 0) {
        Py_DECREF(&mover_type);
        return -1;
    }
    return 0;
}
