/*
 * queue: the class Queue, many operations in flight at once from one thread.
 *
 * The library reports finished operations while the GIL is released. So they go into a list of the
 * queue's own (`done`), from which advance() makes Python's objects afterwards.
 */
#include "queue.h"

#include <hypervault.h>
#include <stdbool.h>

#include "arguments.h"
#include "attributes.h"
#include "change.h"
#include "error.h"
#include "key.h"
#include "row.h"
#include "store.h"
#include "threads.h"

/* How often advance() looks for Ctrl-C. */
#define SLICE_MS 250

/* An operation, from when it is added until advance() has reported it. */
typedef struct operation {
    struct operation *next, **link; /* in `pending` or in `done` */
    PyObject *tag;
    size_t size; /* of its attributes */
    enum { PUT, GET, EXISTS, CHANGE } what;
    hv_change_type change;
    hv_status status; /* from here on: when it is done */
    int64_t key;
    hv_entity *entity;
    hv_error *error;
    PyObject *result; /* made of the above; NULL: not yet */
} operation;

typedef struct queue_object {
    PyObject_HEAD
    hvpy_store *store;
    hv_queue *queue; /* NULL: closed */
    operation *pending, *done;
    operation **done_end;
    size_t pending_bytes;
    bool busy; /* a thread is using it */
} queue_object;

static queue_object *queue_of(PyObject *object) {
    return (queue_object *) object;
}

/* ---- operations ---- */

static void unlink_operation(operation *one) {
    *one->link = one->next;
    if (one->next != NULL)
        one->next->link = one->link;
}

/* Make an operation for a queue that was entered; NULL with an exception, and the queue is left. */
static operation *add_operation(queue_object *self, PyObject *tag, int what) {
    operation *one = PyMem_Calloc(1, sizeof *one);
    if (one == NULL) {
        self->busy = false;
        PyErr_NoMemory();
        return NULL;
    }
    Py_INCREF(tag);
    one->tag = tag;
    one->what = what;
    one->next = self->pending;
    one->link = &self->pending;
    if (one->next != NULL)
        one->next->link = &one->next;
    self->pending = one;
    return one;
}

static void free_operation(operation *one) {
    hv_entity_free(one->entity);
    hv_error_free(one->error);
    Py_DECREF(one->tag);
    Py_XDECREF(one->result);
    PyMem_Free(one);
}

/* Called by the library, without the GIL. */
static void on_done(void *context, void *tag, hv_status status, int64_t key, hv_entity *entity,
                    hv_error *error) {
    queue_object *self = context;
    operation *one = tag;
    unlink_operation(one);
    self->pending_bytes -= one->size;
    one->status = status;
    one->key = key;
    one->entity = entity;
    one->error = error;
    one->next = NULL;
    *self->done_end = one;
    self->done_end = &one->next;
}

/* ---- making and closing ---- */

static int queue_init(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"store", NULL};
    queue_object *self = queue_of(object);
    PyObject *store;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Queue", names, &hvpy_store_type, &store))
        return -1;
    if (self->store != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the queue is initialized already");
        return -1;
    }
    if (!hvpy_store_enter((hvpy_store *) store))
        return -1;
    self->done_end = &self->done;
    hv_error *error = NULL;
    hv_status status =
        hv_queue_new(((hvpy_store *) store)->store, on_done, self, &self->queue, &error);
    hvpy_store_leave((hvpy_store *) store);
    if (status != HV_OK) {
        hvpy_raise(status, error);
        return -1;
    }
    Py_INCREF(store);
    self->store = (hvpy_store *) store;
    return 0;
}

/* Pending operations are abandoned. */
static void close_queue(queue_object *self) {
    hv_queue *queue = self->queue;
    self->queue = NULL;
    HVPY_BEGIN_LIBRARY
    hv_queue_free(queue);
    HVPY_END_LIBRARY
    operation **lists[] = {&self->pending, &self->done};
    for (int i = 0; i < 2; i++) {
        while (*lists[i] != NULL) {
            operation *one = *lists[i];
            *lists[i] = one->next;
            free_operation(one);
        }
    }
    self->done_end = &self->done;
    self->pending_bytes = 0;
}

/* Every method that uses the queue begins with this. */
static bool enter(queue_object *self) {
    if (self->queue == NULL)
        hvpy_raise_new(HV_CLOSED, "the queue is closed");
    else if (self->busy)
        PyErr_SetString(PyExc_RuntimeError, "the queue is in use by another thread");
    else
        self->busy = true;
    return !PyErr_Occurred();
}

static PyObject *queue_close(PyObject *object, PyObject *args) {
    (void) args;
    queue_object *self = queue_of(object);
    if (self->queue == NULL)
        Py_RETURN_NONE;
    if (!enter(self))
        return NULL;
    close_queue(self);
    self->busy = false;
    Py_RETURN_NONE;
}

static void queue_dealloc(PyObject *object) {
    queue_object *self = queue_of(object);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (self->queue != NULL)
        close_queue(self);
    Py_XDECREF(self->store);
    PyErr_Restore(type, value, traceback);
    Py_TYPE(object)->tp_free(object);
}

/* ---- adding ---- */

/* After the library has accepted or refused the operation. */
static PyObject *added(queue_object *self, operation *one, hv_status status, hv_error *error) {
    self->busy = false;
    if (status == HV_OK) {
        self->pending_bytes += one->size;
        Py_RETURN_NONE;
    }
    unlink_operation(one);
    free_operation(one);
    return hvpy_raise(status, error);
}

static PyObject *queue_put(PyObject *object, PyObject *const *args, Py_ssize_t count,
                           PyObject *keywords) {
    static const char *const names[] = {"tag", "where", "kind", "attributes"};
    static const hvpy_arguments expected = {
        .method = "put", .names = names, .count = 4, .required = 3};
    queue_object *self = queue_of(object);
    PyObject *found[4];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    hv_new_entity entity = {0};
    if (hvpy_key_check(found[1]))
        entity.key = hvpy_key_id(found[1]);
    else
        entity.shard = hvpy_int_from(found[1]);
    if (PyErr_Occurred())
        return NULL;
    entity.kind = hvpy_int_from(found[2]);
    if (PyErr_Occurred())
        return NULL;
    hv_dict *dict = hvpy_attributes_from(found[3] == NULL ? Py_None : found[3]);
    if (dict == NULL)
        return NULL;
    PyObject *result = NULL;
    operation *one = enter(self) ? add_operation(self, found[0], PUT) : NULL;
    if (one != NULL) {
        entity.dict = dict;
        one->size = hvpy_attributes_size(dict);
        hv_error *error = NULL;
        hv_status status = hv_queue_put(self->queue, &entity, one, &error);
        result = added(self, one, status, error);
    }
    hv_dict_free(dict);
    return result;
}

static PyObject *queue_get(PyObject *object, PyObject *const *args, Py_ssize_t count,
                           PyObject *keywords) {
    static const char *const names[] = {"tag", "key", "only", "version"};
    static const hvpy_arguments expected = {
        .method = "get", .names = names, .count = 4, .required = 2, .positional = 2};
    queue_object *self = queue_of(object);
    PyObject *found[4];
    hvpy_names only;
    bool version;
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    if (!hvpy_key_check(found[1]))
        return hvpy_raise_no_key(found[1]);
    if (!hvpy_bool_from(found[3], &version) || !hvpy_names_from(found[2], "only", &only))
        return NULL;
    PyObject *result = NULL;
    operation *one = enter(self) ? add_operation(self, found[0], GET) : NULL;
    if (one != NULL) {
        int64_t key = hvpy_key_id(found[1]);
        hv_error *error = NULL;
        hv_status status = only.list != NULL || version
                               ? hv_queue_get_only(self->queue, key, only.list, one, &error)
                               : hv_queue_get(self->queue, key, one, &error);
        result = added(self, one, status, error);
    }
    hvpy_names_free(&only);
    return result;
}

static PyObject *queue_exists(PyObject *object, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords) {
    static const char *const names[] = {"tag", "key"};
    static const hvpy_arguments expected = {
        .method = "exists", .names = names, .count = 2, .required = 2};
    queue_object *self = queue_of(object);
    PyObject *found[2];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    if (!hvpy_key_check(found[1]))
        return hvpy_raise_no_key(found[1]);
    operation *one = enter(self) ? add_operation(self, found[0], EXISTS) : NULL;
    if (one == NULL)
        return NULL;
    hv_error *error = NULL;
    hv_status status = hv_queue_exists(self->queue, hvpy_key_id(found[1]), one, &error);
    return added(self, one, status, error);
}

static PyObject *queue_change(PyObject *object, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords) {
    static const char *const names[] = {"tag", "change"};
    static const hvpy_arguments expected = {
        .method = "change", .names = names, .count = 2, .required = 2};
    queue_object *self = queue_of(object);
    PyObject *found[2];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    const hvpy_change *change = hvpy_change_of(found[1]);
    operation *one = change != NULL && enter(self) ? add_operation(self, found[0], CHANGE) : NULL;
    if (one == NULL)
        return NULL;
    one->change = change->change.type;
    one->size = change->size;
    hv_error *error = NULL;
    hv_status status = hv_queue_change(self->queue, &change->change, one, &error);
    return added(self, one, status, error);
}

/* ---- results ---- */

static PyObject *result_of(const queue_object *self, operation *one) {
    if (one->status != HV_OK && one->status != HV_NOT_FOUND && one->status != HV_CHANGED) {
        hv_error *error = one->error;
        one->error = NULL;
        return hvpy_error_new(one->status, error);
    }
    switch (one->what) {
    case PUT:
        return hvpy_key_new(one->key, self->store->epoch);
    case EXISTS:
        return PyBool_FromLong(one->status == HV_OK);
    case CHANGE:
        return hvpy_change_result(one->change, one->status, one->key, self->store->epoch,
                                  one->entity);
    case GET:
        break;
    }
    return hvpy_row_of(one->entity);
}

/* Forget the first finished operation. */
static void drop_first(queue_object *self) {
    operation *one = self->done;
    self->done = one->next;
    if (self->done == NULL)
        self->done_end = &self->done;
    free_operation(one);
}

/* Make the list [(tag, result), …] of the finished operations. */
static PyObject *take_done(queue_object *self) {
    PyObject *list = PyList_New(0);
    while (list != NULL && self->done != NULL) {
        operation *one = self->done;
        PyObject *result = result_of(self, one);
        PyObject *pair = result == NULL ? NULL : PyTuple_Pack(2, one->tag, result);
        Py_XDECREF(result);
        if (pair == NULL || PyList_Append(list, pair) < 0)
            Py_CLEAR(list);
        Py_XDECREF(pair);
        drop_first(self);
    }
    return list;
}

/*
 * Call take(tag, result) for finished operations. An operation is forgotten when that has returned:
 * if it raises something, or a signal's handler does, the next call begins with the same operation.
 */
static PyObject *deliver_done(queue_object *self, PyObject *take) {
    while (self->done != NULL) {
        operation *one = self->done;
        if (one->result == NULL && (one->result = result_of(self, one)) == NULL)
            return NULL;
        PyObject *answer = PyObject_CallFunctionObjArgs(take, one->tag, one->result, NULL);
        if (answer == NULL)
            return NULL;
        Py_DECREF(answer);
        drop_first(self);
    }
    Py_RETURN_NONE;
}

/* Wait for `ms` (-1: forever) until something is done. Returns false with an exception. */
static bool advance(queue_object *self, int64_t ms) {
    bool done;
    do {
        int64_t slice = ms < 0 || ms > SLICE_MS ? SLICE_MS : ms;
        if (self->done != NULL) /* from before, when a signal's handler raised an exception */
            slice = ms = 0;
        HVPY_BEGIN_LIBRARY
        done = hv_queue_advance(self->queue, slice) > 0 || hv_queue_pending(self->queue) == 0;
        HVPY_END_LIBRARY
        if (PyErr_Occurred() || PyErr_CheckSignals() < 0)
            return false;
        if (ms >= 0)
            ms -= slice;
    } while (!done && ms != 0);
    return true;
}

static PyObject *queue_advance(PyObject *object, PyObject *const *args, Py_ssize_t count,
                               PyObject *keywords) {
    static const char *const names[] = {"timeout"};
    static const hvpy_arguments expected = {
        .method = "advance", .names = names, .count = 1, .required = 0};
    queue_object *self = queue_of(object);
    PyObject *found[1];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    double timeout = -1;
    if (found[0] != NULL && found[0] != Py_None) {
        timeout = PyFloat_AsDouble(found[0]);
        if (timeout == -1 && PyErr_Occurred())
            return NULL;
        if (!(timeout >= 0 && timeout < 1e9)) {
            PyErr_SetString(PyExc_ValueError, "timeout must not be negative");
            return NULL;
        }
    }
    if (!enter(self))
        return NULL;
    bool advanced = advance(self, timeout < 0 ? -1 : (int64_t) (timeout * 1000 + 0.999));
    PyObject *done = advanced ? take_done(self) : NULL;
    self->busy = false; /* only now: garbage collection may run any code while it makes the list */
    return done;
}

static PyObject *queue_deliver(PyObject *object, PyObject *take) {
    queue_object *self = queue_of(object);
    if (!enter(self))
        return NULL;
    PyObject *result = advance(self, 0) ? deliver_done(self, take) : NULL;
    self->busy = false;
    return result;
}

/* ---- the class ---- */

static PyObject *queue_fileno(PyObject *object, PyObject *args) {
    (void) args;
    queue_object *self = queue_of(object);
    if (self->queue == NULL)
        return hvpy_raise_new(HV_CLOSED, "the queue is closed");
    return PyLong_FromLong(hv_queue_fd(self->queue));
}

static PyObject *queue_enter(PyObject *object, PyObject *args) {
    (void) args;
    Py_INCREF(object);
    return object;
}

static PyObject *queue_exit(PyObject *object, PyObject *args) {
    (void) args;
    return queue_close(object, NULL);
}

static PyObject *queue_pending(PyObject *object, void *closure) {
    (void) closure;
    queue_object *self = queue_of(object);
    return PyLong_FromSize_t(self->queue == NULL ? 0 : hv_queue_pending(self->queue));
}

static PyObject *queue_pending_bytes(PyObject *object, void *closure) {
    (void) closure;
    return PyLong_FromSize_t(queue_of(object)->pending_bytes);
}

static PyGetSetDef queue_fields[] = {
    {"pending", queue_pending, NULL, "The number of operations that were added and are not done.",
     NULL},
    {"pending_bytes", queue_pending_bytes, NULL, "The number of bytes of their attributes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define FAST(function) ((PyCFunction) (void (*)(void))(function)), METH_FASTCALL | METH_KEYWORDS

static PyMethodDef queue_methods[] = {
    {"put", FAST(queue_put),
     "put($self, tag, where, kind, attributes=None)\n--\n\nAdd a put into a shard, or under a key "
     "from "
     "reserve()."},
    {"exists", FAST(queue_exists),
     "exists($self, tag, key)\n--\n\nAdd a question whether there is an entity."},
    {"get", FAST(queue_get), "get($self, tag, key, *, only=None, version=False)\n--\n\nAdd a get."},
    {"change", FAST(queue_change), "change($self, tag, change)\n--\n\nAdd a Change."},
    {"advance", FAST(queue_advance),
     "advance($self, timeout=None)\n--\n\nDo what can be done. Wait until something is, for so "
     "many "
     "seconds "
     "at most, and return\na list of (tag, result): what the store's method of the same name "
     "returns, or a "
     "DatastoreError."},
    {"deliver", queue_deliver, METH_O,
     "deliver($self, take, /)\n--\n\nDo what can be done without waiting, and call ``take(tag, "
     "result)`` for what is. If that raises\nsomething, the rest is for the next call, and so is "
     "this result. It must not use the queue."},
    {"fileno", queue_fileno, METH_NOARGS,
     "fileno($self)\n--\n\nThe descriptor that is readable when advance() has something to do."},
    {"close", queue_close, METH_NOARGS,
     "close($self)\n--\n\nAbandon what is pending: a write may or may not have happened."},
    {"__enter__", queue_enter, METH_NOARGS, NULL},
    {"__exit__", queue_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject queue_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv._hv.Queue",
    .tp_basicsize = sizeof(queue_object),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Queue(store)\n--\n\nMany operations in flight at once from one thread.",
    .tp_new = PyType_GenericNew,
    .tp_init = queue_init,
    .tp_dealloc = queue_dealloc,
    .tp_getset = queue_fields,
    .tp_methods = queue_methods,
};

int hvpy_queue_init(PyObject *module) {
    if (PyType_Ready(&queue_type) < 0)
        return -1;
    Py_INCREF(&queue_type);
    if (PyModule_AddObject(module, "Queue", (PyObject *) &queue_type) < 0) {
        Py_DECREF(&queue_type);
        return -1;
    }
    return 0;
}
