/*
 * reader: the class Reader, the entities of a selection over all shards, in the order of their
 * keys: what find() and feed() return.
 *
 *     made ──► IDLE ◄────── leave() ─────────┐
 *               │ │                          │
 *               │ └─────── enter() ───────► IN_USE ───── end(): nothing more ─────► ENDED
 *            close()                         │ │
 *               │          close() from      │ └── end(): an error ends a find ──┐
 *               │          another thread,   │                                   │
 *               │          or a handler      ▼                                   │
 *               │                         CLOSING                                │
 *               ▼                            │                                   │
 *             CLOSED ◄────── leave() ────────┴───────────────────────────────────┘
 *
 * The library's reader exists in IDLE, IN_USE and CLOSING. move() changes the state, with the GIL.
 *
 * A thread that waits for an entity does so here, in slices, and not in the library, whose function
 * is called without waiting, as an event loop would: so a signal's handler runs at once, and
 * another thread can close the reader.
 */
#include "reader.h"

#include <poll.h>
#include <stdbool.h>

#include "arguments.h"
#include "error.h"
#include "row.h"
#include "selection.h"
#include "store.h"
#include "threads.h"

/* How often a thread that waits checks whether another one has closed the reader. */
#define SLICE_MS 50

typedef enum reader_state { IDLE, IN_USE, CLOSING, ENDED, CLOSED } reader_state;

typedef struct reader_object {
    PyObject_HEAD
    hvpy_store *store;
    hv_reader *reader; /* NULL in ENDED and CLOSED */
    reader_state state;
    bool is_feed;
    bool has_entity;   /* the current one was not returned: an exception came between */
    PyObject *missing; /* in ENDED and CLOSED: a list */
    int64_t position;  /* of a feed */
    PyObject *holder;  /* of a feed, when it last had to wait; NULL: none */
    int64_t behind;    /* the same, in ms; -1: not known */
} reader_object;

static PyTypeObject reader_type;

static reader_object *reader_of(PyObject *object) {
    return (reader_object *) object;
}

PyObject *hvpy_errors_list(hvpy_error_at *get, const void *object) {
    PyObject *list = PyList_New(0);
    const hv_error *error;
    for (size_t i = 0; list != NULL && (error = get(object, i)) != NULL; i++) {
        PyObject *exception = hvpy_error_from(hv_error_status(error), error);
        if (exception == NULL || PyList_Append(list, exception) < 0)
            Py_CLEAR(list);
        Py_XDECREF(exception);
    }
    return list;
}

static const hv_error *missing_at(const void *reader, size_t index) {
    return hv_reader_missing(reader, index);
}

/* ---- states ---- */

static void move(reader_object *self, reader_state state) {
    self->state = state;
}

/* Close the library's reader, and keep what was missing. An exception that is raised stays. */
static void end(reader_object *self, reader_state state) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    hv_reader *reader = self->reader;
    self->reader = NULL;
    self->has_entity = false;
    move(self, state);
    PyObject *missing = reader == NULL ? NULL : hvpy_errors_list(missing_at, reader);
    if (missing != NULL)
        Py_XSETREF(self->missing, missing);
    Py_CLEAR(self->holder);
    HVPY_BEGIN_LIBRARY
    hv_reader_close(reader);
    HVPY_END_LIBRARY
    if (type != NULL)
        PyErr_Restore(type, value, traceback); /* MemoryError gives way to it */
}

static bool enter(reader_object *self) {
    switch (self->state) {
    case IN_USE:
    case CLOSING:
        PyErr_SetString(PyExc_RuntimeError, "the reader is in use by another thread");
        return false;
    case CLOSED:
        hvpy_raise_new(HV_CLOSED, "the reader is closed");
        return false;
    case ENDED:
        return false;
    case IDLE:
        break;
    }
    move(self, IN_USE);
    return true;
}

static void leave(reader_object *self) {
    if (self->state == CLOSING)
        end(self, CLOSED);
    else if (self->state == IN_USE)
        move(self, IDLE);
}

static PyObject *reader_close(PyObject *object, PyObject *args) {
    (void) args;
    reader_object *self = reader_of(object);
    if (self->state == IN_USE)
        move(self, CLOSING);
    else if (self->state == IDLE || self->state == ENDED)
        end(self, CLOSED);
    Py_RETURN_NONE;
}

/* ---- opening ---- */

static PyObject *make(hvpy_store *store, hv_reader *reader, bool is_feed) {
    reader_object *self = (reader_object *) reader_type.tp_alloc(&reader_type, 0);
    if (self == NULL)
        return NULL;
    Py_INCREF(store);
    self->store = store;
    self->reader = reader;
    self->is_feed = is_feed;
    self->behind = -1;
    return (PyObject *) self;
}

/* What feed() has besides the selection. */
typedef struct feed_terms {
    bool follow;
    int64_t delay;
} feed_terms;

/* Open a reader: a feed if there are its terms. The selection is freed. */
static PyObject *open_reader(hvpy_store *store, hv_selection *selection, const feed_terms *feed) {
    hv_reader *reader = NULL;
    hv_error *error = NULL;
    hv_status status;
    PyObject *self = NULL;
    if (!hvpy_store_enter(store)) {
        hv_selection_free(selection);
        return NULL;
    }
    HVPY_BEGIN_LIBRARY
    status = feed == NULL
                 ? hv_find(store->store, selection, &reader, &error)
                 : hv_feed(store->store, selection, feed->follow, feed->delay, &reader, &error);
    hv_selection_free(selection);
    HVPY_END_LIBRARY
    hvpy_store_leave(store);
    if (status != HV_OK)
        return hvpy_raise(status, error);
    if (!PyErr_Occurred())
        self = make(store, reader, feed != NULL);
    if (self == NULL) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        HVPY_BEGIN_LIBRARY
        hv_reader_close(reader);
        HVPY_END_LIBRARY
        PyErr_Restore(type, value, traceback);
    }
    return self;
}

const char hvpy_find_doc[] =
    "find($self, shards=None, *, " HVPY_ALL_DOC ")\n--\n\n"
    "Find entities: an iterator over their rows, merged from all shards and servers in the order "
    "of\ntheir keys, the oldest first. Everything that is given must hold:\n\n"
    "shards: a shard, several, or text as in the configuration, ``'1-9,12'``.\n"
    "kind: a kind, or several.\n"
    "where: attributes and the values that they have. one_of: attributes and several values each.\n"
    "has: the same as ``where``, for a GIN index. exists, lacks: names of attributes.\n"
    "from_key, until_key: from this key on; below this key. since, before: the same with a "
    "datetime\nof creation, in UTC if it has no time zone.\n\n"
    "newest: the newest first; a number: so many of them. limit: how many at most.\n"
    "after: go on after this key, the last one of an earlier page in the same order.\n"
    "only: fetch only the attributes of these names.\n"
    "timeout: how many seconds each answer of a server may take, math.inf for any number; by "
    "default\n``operation_timeout``.\n"
    "partial: go on without servers and shards that fail; then ``missing`` says which. "
    "skip: leave out\na server, or several, from the beginning.";

PyObject *hvpy_find(PyObject *store, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    static const char *const names[] = {HVPY_ALL};
    static const hvpy_arguments expected = {
        .method = "find", .names = names, .count = HVPY_ALL_COUNT, .positional = 1};
    PyObject *found[HVPY_ALL_COUNT];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    hv_selection *selection = hvpy_selection_from(found, HVPY_ALL_COUNT);
    return selection == NULL ? NULL : open_reader((hvpy_store *) store, selection, NULL);
}

const char hvpy_feed_doc[] =
    "feed($self, start=None, *, follow=False, delay=None, shards=None, " HVPY_MOST_DOC ")\n--\n\n"
    "Follow what is put: an iterator over the rows of all shards in the order of their keys, which "
    "misses\nnothing that is committed late. Without ``follow`` it ends with what was put before "
    "the call, with\nit it waits for more, on and on.\n\n"
    "start: a datetime, to begin with what was created then, or a key, to go on after it. To go on "
    "where\na feed has ended, use the last key, or ``from_key=feed.position``.\n"
    "delay: how many seconds it stays behind the servers' clocks, 1 by default: "
    "entities that are put under\na reserved key later than that are missed.\n\n"
    "The other arguments are those of find().";

PyObject *hvpy_feed(PyObject *store, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    static const char *const names[] = {"start", "follow", "delay", HVPY_MOST};
    static const hvpy_arguments expected = {
        .method = "feed", .names = names, .count = 3 + HVPY_MOST_COUNT, .positional = 1};
    PyObject *found[3 + HVPY_MOST_COUNT];
    feed_terms feed = {.delay = -1};
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0 ||
        !hvpy_bool_from(found[1], &feed.follow) ||
        (found[2] != NULL && found[2] != Py_None &&
         !hvpy_seconds_from(found[2], "delay", HVPY_ZERO, &feed.delay)))
        return NULL;
    hv_selection *selection = hvpy_selection_from(found + 3, HVPY_MOST_COUNT);
    if (selection == NULL || !hvpy_selection_start(selection, found[0])) {
        hv_selection_free(selection);
        return NULL;
    }
    return open_reader((hvpy_store *) store, selection, &feed);
}

/* ---- iterating ---- */

/* Take down why a feed waits, for other threads. */
static void look_at_holder(reader_object *self) {
    PyObject *exception = NULL;
    const hv_error *holder = hv_reader_holder(self->reader, &self->behind);
    if (holder != NULL && (exception = hvpy_error_from(hv_error_status(holder), holder)) == NULL)
        PyErr_Clear(); /* MemoryError */
    Py_XSETREF(self->holder, exception);
}

/*
 * Go to the next entity, and wait for it for `ms` (-1: forever). Returns HV_OK, HV_NOT_FOUND,
 * HV_TIMEOUT if there is none yet, or HV_INVALID with an exception.
 */
static hv_status advance(reader_object *self, int64_t ms) {
    int64_t deadline = ms < 0 ? -1 : hvpy_now_ms() + ms + (ms > 0); /* now is rounded down */
    for (;;) {
        int64_t left = deadline < 0 ? SLICE_MS : deadline - hvpy_now_ms();
        int slice = left > SLICE_MS ? SLICE_MS : left > 0 ? (int) left : 0;
        hv_error *error = NULL;
        hv_status status = HV_OK;
        if (PyErr_CheckSignals() < 0)
            return HV_INVALID;
        if (self->state == IN_USE && !self->has_entity) {
            HVPY_BEGIN_LIBRARY
            status = hv_reader_next(self->reader, 0, &error);
            struct pollfd fd = {.fd = hv_reader_fd(self->reader), .events = POLLIN};
            if (status == HV_TIMEOUT && error == NULL && slice > 0)
                poll(&fd, 1, slice);
            HVPY_END_LIBRARY
            self->has_entity = status == HV_OK;
        }
        bool is_waiting = status == HV_TIMEOUT && error == NULL;
        if (is_waiting || status == HV_NOT_FOUND)
            self->position = hv_reader_position(self->reader);
        if (is_waiting && self->is_feed)
            look_at_holder(self);
        if (status != HV_OK && status != HV_NOT_FOUND && !is_waiting) {
            hvpy_raise(status, error);
            if (!self->is_feed || status == HV_CLOSED)
                end(self, CLOSED);
            return HV_INVALID;
        }
        if (PyErr_Occurred())
            return HV_INVALID;
        if (self->state == CLOSING) {
            hvpy_raise_new(HV_CLOSED, "the reader was closed while it was in use");
            return HV_INVALID;
        }
        if (!is_waiting || slice == 0)
            return status;
    }
}

/* The next row. NULL with an exception, or without: there is none, at its end or within `ms`. */
static PyObject *next_row(reader_object *self, int64_t ms) {
    if (!enter(self))
        return NULL;
    PyObject *row = NULL;
    hv_status status = advance(self, ms);
    if (status == HV_OK) { /* garbage collection may run any code meanwhile */
        row = hvpy_row_new(hv_reader_key(self->reader), hv_reader_kind(self->reader),
                           hv_reader_dict(self->reader), NULL);
        self->has_entity = row == NULL;
        if (row != NULL)
            self->position = hv_reader_position(self->reader);
    } else if (status == HV_NOT_FOUND) {
        end(self, ENDED);
    }
    leave(self);
    return row;
}

static PyObject *reader_next(PyObject *object) {
    return next_row(reader_of(object), -1);
}

static PyObject *reader_poll(PyObject *object, PyObject *const *args, Py_ssize_t count,
                             PyObject *keywords) {
    static const char *const names[] = {"timeout"};
    static const hvpy_arguments expected = {.method = "poll", .names = names, .count = 1};
    PyObject *found[1];
    int64_t timeout = 0;
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0 ||
        (found[0] != NULL &&
         !hvpy_seconds_from(found[0], "timeout", HVPY_ZERO | HVPY_INFINITY, &timeout)))
        return NULL;
    PyObject *row = next_row(reader_of(object), timeout);
    if (row != NULL || PyErr_Occurred())
        return row;
    Py_RETURN_NONE;
}

/* ---- what can be asked ---- */

static PyObject *reader_fileno(PyObject *object, PyObject *args) {
    (void) args;
    reader_object *self = reader_of(object);
    if (self->reader == NULL)
        return hvpy_raise_new(HV_CLOSED, "the reader is closed");
    return PyLong_FromLong(hv_reader_fd(self->reader));
}

static PyObject *reader_missing(PyObject *object, void *closure) {
    (void) closure;
    reader_object *self = reader_of(object);
    if (self->missing != NULL)
        return PySequence_List(self->missing);
    if (self->reader == NULL || !enter(self))
        return PyErr_Occurred() ? NULL : PyList_New(0);
    PyObject *list = hvpy_errors_list(missing_at, self->reader);
    leave(self);
    return list;
}

static PyObject *reader_ended(PyObject *object, void *closure) {
    (void) closure;
    return PyBool_FromLong(reader_of(object)->state == ENDED);
}

static PyObject *reader_closed(PyObject *object, void *closure) {
    (void) closure;
    reader_state state = reader_of(object)->state;
    return PyBool_FromLong(state == CLOSED || state == CLOSING);
}

static PyObject *reader_position(PyObject *object, void *closure) {
    (void) closure;
    return PyLong_FromLongLong(reader_of(object)->position);
}

static PyObject *reader_holder(PyObject *object, void *closure) {
    (void) closure;
    PyObject *holder = reader_of(object)->holder;
    if (holder == NULL)
        Py_RETURN_NONE;
    Py_INCREF(holder);
    return holder;
}

static PyObject *reader_behind(PyObject *object, void *closure) {
    (void) closure;
    int64_t behind = reader_of(object)->behind;
    if (behind < 0)
        Py_RETURN_NONE;
    return PyFloat_FromDouble((double) behind / 1000);
}

/* ---- the class ---- */

static PyObject *reader_self(PyObject *object) {
    Py_INCREF(object);
    return object;
}

static PyObject *reader_enter(PyObject *object, PyObject *args) {
    (void) args;
    return reader_self(object);
}

static PyObject *reader_exit(PyObject *object, PyObject *args) {
    (void) args;
    return reader_close(object, NULL);
}

static int reader_traverse(PyObject *object, visitproc visit, void *arg) {
    Py_VISIT(reader_of(object)->store);
    Py_VISIT(reader_of(object)->missing);
    Py_VISIT(reader_of(object)->holder);
    return 0;
}

static int reader_clear(PyObject *object) {
    reader_object *self = reader_of(object);
    if (self->reader != NULL)
        end(self, CLOSED); /* before its store */
    Py_CLEAR(self->missing);
    Py_CLEAR(self->holder);
    Py_CLEAR(self->store);
    return 0;
}

static void reader_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    reader_clear(object);
    Py_TYPE(object)->tp_free(object);
}

static PyGetSetDef reader_fields[] = {
    {"missing", reader_missing, NULL,
     "What is missing so far: a list with a DatastoreError for each server or shard that was left "
     "out.",
     NULL},
    {"ended", reader_ended, NULL, "Have all rows been returned?", NULL},
    {"closed", reader_closed, NULL, "Was it closed before its end?", NULL},
    {"position", reader_position, NULL,
     "Of a feed: everything with a smaller key has been returned; 0: not known yet.", NULL},
    {"holder", reader_holder, NULL,
     "Of a feed that waits: a DatastoreError that names the transaction or the server because of "
     "which it\ndoes not advance, or None.",
     NULL},
    {"behind", reader_behind, NULL,
     "Of a feed that waits: by how many seconds it is behind the present, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define FAST(function) ((PyCFunction) (void (*)(void))(function)), METH_FASTCALL | METH_KEYWORDS

static PyMethodDef reader_methods[] = {
    {"poll", FAST(reader_poll),
     "poll($self, timeout=0)\n--\n\nThe next row, or None: there is none within so many seconds "
     "(math.inf: wait), or no more, and\n``ended`` is true."},
    {"fileno", reader_fileno, METH_NOARGS,
     "fileno($self)\n--\n\nThe descriptor that is readable when poll() has something to do, after "
     "it has returned None."},
    {"close", reader_close, METH_NOARGS,
     "close($self)\n--\n\nEnd it at any point. A thread that waits for its next row gets a "
     "PoolError."},
    {"__enter__", reader_enter, METH_NOARGS, NULL},
    {"__exit__", reader_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject reader_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv.datastore.Reader",
    .tp_basicsize = sizeof(reader_object),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "The result of Datastore.find() and feed(): an iterator over rows.",
    .tp_dealloc = reader_dealloc,
    .tp_traverse = reader_traverse,
    .tp_clear = reader_clear,
    .tp_iter = reader_self,
    .tp_iternext = reader_next,
    .tp_getset = reader_fields,
    .tp_methods = reader_methods,
};

int hvpy_reader_init(PyObject *module) {
    if (PyType_Ready(&reader_type) < 0)
        return -1;
    Py_INCREF(&reader_type);
    if (PyModule_AddObject(module, "Reader", (PyObject *) &reader_type) < 0) {
        Py_DECREF(&reader_type);
        return -1;
    }
    return 0;
}
