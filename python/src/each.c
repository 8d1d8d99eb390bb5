/*
 * each: the class ShardAnswers, the answers of all shards to one SQL text: what each_shard()
 * returns.
 *
 *     opened ──► IDLE ◄── leave() ── IN_USE ──── end(): no more answers, or an error ──► ENDED
 *                 │ └─── enter() ───►  │                                                   │
 *              close()                 └── close() from another thread ──► CLOSING         │
 *                 │                                                           │         close()
 *                 └───────────────────────────► CLOSED ◄───── leave() ────────┴────────────┘
 *
 * The library's part exists in IDLE, IN_USE and CLOSING; its end is the end of all work. While it
 * exists, the store is in use by it. All changes of the state are made with the GIL.
 */
#include "each.h"

#include <hypervault.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdlib.h>

#include "arguments.h"
#include "error.h"
#include "rollout.h"
#include "stop.h"
#include "store.h"
#include "threads.h"

static PyObject *answer_type; /* hv._work.ShardAnswer */

typedef enum each_state { IDLE, IN_USE, CLOSING, ENDED, CLOSED } each_state;

typedef struct each_object {
    PyObject_HEAD
    hvpy_store *store;
    hv_each *each; /* NULL in ENDED and CLOSED */
    each_state state;
    hvpy_watch watch;
    PyObject *observer; /* the watch's; NULL: none */
    hvpy_stop stop;     /* for close() from another thread */
    bool has_answer;    /* it was not returned: an exception came between */
    hv_shard_answer answer;
    PyObject *summary; /* in ENDED and CLOSED */
} each_object;

static PyTypeObject each_type;

static each_object *each_of(PyObject *object) {
    return (each_object *) object;
}

/* ---- states ---- */

/* The summary so far. NULL with an exception. */
static PyObject *look_at_summary(each_object *self) {
    hv_summary *summary = NULL;
    hv_error *error = NULL;
    hv_status status = hv_each_summary(self->each, &summary, &error);
    if (status != HV_OK)
        return hvpy_raise(status, error);
    PyObject *result = NULL;
    if (hvpy_store_enter_late(self->store)) {
        result = hvpy_summary_of(self->store, summary);
        hvpy_store_leave(self->store);
    }
    hv_summary_free(summary);
    return result;
}

/* End all work, and keep what has become of the shards. An exception that is raised stays. */
static void end(each_object *self, each_state state) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (self->each != NULL) {
        PyObject *summary = look_at_summary(self);
        hv_each *each = self->each;
        self->each = NULL;
        self->has_answer = false;
        self->state = state;
        if (summary != NULL)
            Py_XSETREF(self->summary, summary);
        else if (PyErr_ExceptionMatches(
                     PyExc_Exception)) /* in a forked child, or memory is short */
            PyErr_Clear();
        self->watch.observer = NULL; /* it learns no more */
        HVPY_BEGIN_LIBRARY
        hv_each_close(each);
        HVPY_END_LIBRARY
    }
    self->state = state;
    if (type != NULL)
        PyErr_Restore(type, value, traceback);
}

static bool enter(each_object *self) {
    switch (self->state) {
    case IN_USE:
    case CLOSING:
        PyErr_SetString(PyExc_RuntimeError, "the answers are in use by another thread");
        return false;
    case CLOSED:
        hvpy_raise_new(HV_CLOSED, "the answers are closed");
        return false;
    case ENDED:
        return false;
    case IDLE:
        break;
    }
    self->state = IN_USE;
    return true;
}

static void leave(each_object *self) {
    if (self->state == CLOSING)
        end(self, CLOSED);
    else if (self->state == IN_USE)
        self->state = IDLE;
}

static PyObject *each_close(PyObject *object, PyObject *unused) {
    (void) unused;
    each_object *self = each_of(object);
    if (self->state == IN_USE) {
        self->state = CLOSING;
        self->stop.is_wanted = true;
    } else if (self->state == IDLE || self->state == ENDED) {
        end(self, CLOSED);
    }
    if (PyErr_Occurred()) /* a signal's handler, meanwhile */
        return NULL;
    Py_RETURN_NONE;
}

/* ---- opening ---- */

const char hvpy_each_shard_doc[] =
    "each_shard($self, sql, args=None, *, " HVPY_ROLLOUT_EACH_DOC ")\n--\n\n"
    "Run SQL on every shard, and iterate over the answers as they come: each has ``shard``, "
    "``server``,\n``work``, ``error``, ``columns`` and ``rows``.\n\n"
    "The search_path is the shard's schema, then hstore's; ``@shard`` stands for the schema's "
    "name.\nAll of it is one transaction for each shard, which is read-only without ``write``. "
    "``args`` are\nthose of a cursor's execute().\n\n"
    "per_server: once for each server, without a shard.\n"
    "write: it may change the database. Then a canary goes first.\n"
    "once: a name, with ``write``: on each shard the SQL of this name is run once and no more, so "
    "that an\ninterrupted call can be repeated.\n\n"
    "It ends when more shards than ``max_failures`` have failed; ``summary`` says which were not "
    "begun.\nThe other arguments are those of migrate().";

/* Open it. The object is half made: it has its store and its watch. */
static bool open_each(each_object *self, PyObject *text, const hv_rollout *rollout) {
    const char *sql = hvpy_text_from(text, "sql");
    hv_error *error = NULL;
    hv_status status;
    if (sql == NULL || !hvpy_store_enter(self->store))
        return false;
    HVPY_BEGIN_LIBRARY
    status = hv_each_shard(self->store->store, sql, 0, NULL, rollout, &self->each, &error);
    HVPY_END_LIBRARY
    hvpy_store_leave(self->store);
    if (status != HV_OK)
        hvpy_raise(status, error);
    return !PyErr_Occurred();
}

/* Call a method of hv._types.Types. The reference to the tuple of its arguments is stolen, and may
 * be NULL with an exception. */
static PyObject *ask_types(const hvpy_store *store, const char *method, PyObject *arguments) {
    PyObject *types = PyObject_GetAttrString(store->callbacks->connector, "types");
    PyObject *function = types == NULL ? NULL : PyObject_GetAttrString(types, method);
    PyObject *result =
        function == NULL || arguments == NULL ? NULL : PyObject_CallObject(function, arguments);
    Py_XDECREF(function);
    Py_XDECREF(types);
    Py_XDECREF(arguments);
    return result;
}

/* The servers of a summary: a set of names. */
static PyObject *servers_of(PyObject *summary) {
    PyObject *servers = PySet_New(NULL);
    for (Py_ssize_t i = 0; servers != NULL && i < PyTuple_GET_SIZE(summary); i++) {
        PyObject *server = PyObject_GetAttrString(PyTuple_GET_ITEM(summary, i), "server");
        if (server == NULL || PySet_Add(servers, server) < 0)
            Py_CLEAR(servers);
        Py_XDECREF(server);
    }
    return servers;
}

/* Before the work takes connections, learn the types of its servers. */
static bool learn_types(each_object *self) {
    PyObject *summary = look_at_summary(self);
    PyObject *result = NULL;
    if (summary != NULL && hvpy_store_enter(self->store)) {
        result = ask_types(self->store, "learn", Py_BuildValue("(N)", servers_of(summary)));
        hvpy_store_leave(self->store);
    }
    Py_XDECREF(result);
    Py_XDECREF(summary);
    return result != NULL;
}

/* The SQL with its arguments: str, or NULL with an exception. */
static PyObject *statement_of(hvpy_store *store, PyObject *sql, PyObject *args, PyObject *skip) {
    PyObject *text = NULL;
    if (hvpy_store_enter(store)) {
        text = ask_types(store, "statement",
                         Py_BuildValue("(OOO)", sql, args == NULL ? Py_None : args,
                                       skip == NULL ? Py_None : skip));
        hvpy_store_leave(store);
    }
    return text;
}

PyObject *hvpy_each_shard(PyObject *object, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords) {
    static const char *const names[] = {"sql", "args", HVPY_ROLLOUT_EACH};
    static const hvpy_arguments expected = {.method = "each_shard",
                                            .names = names,
                                            .count = 2 + HVPY_ROLLOUT_EACH_COUNT,
                                            .required = 1,
                                            .positional = 2};
    enum { SKIP = 3 };
    hvpy_store *store = (hvpy_store *) object;
    PyObject *found[2 + HVPY_ROLLOUT_EACH_COUNT];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    each_object *self = (each_object *) each_type.tp_alloc(&each_type, 0);
    if (self == NULL)
        return NULL;
    Py_INCREF(store);
    self->store = store;
    hv_rollout *rollout =
        hvpy_rollout_from(store, found + 2, HVPY_ROLLOUT_EACH_COUNT, &self->watch);
    self->observer = self->watch.observer;
    Py_XINCREF(self->observer);
    PyObject *text = rollout == NULL ? NULL : statement_of(store, found[0], found[1], found[SKIP]);
    bool ok = text != NULL && open_each(self, text, rollout) && learn_types(self);
    Py_XDECREF(text);
    hv_rollout_free(rollout);
    if (!ok)
        Py_CLEAR(self);
    return (PyObject *) self;
}

/* ---- answers ---- */

/* A tuple of what make(result, i) returns for 0 to count - 1; NULL with an exception. */
static PyObject *tuple_of(const PGresult *result, int count,
                          PyObject *(*make)(const PGresult *result, int index)) {
    PyObject *tuple = PyTuple_New(count);
    for (int i = 0; tuple != NULL && i < count; i++) {
        PyObject *item = make(result, i);
        if (item == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, item);
    }
    return tuple;
}

static PyObject *column_at(const PGresult *result, int column) {
    return hvpy_text(PQfname(result, column));
}

static PyObject *oid_at(const PGresult *result, int column) {
    return PyLong_FromUnsignedLong(PQftype(result, column));
}

/* The values of a row as the server has sent them: bytes, or None. */
static PyObject *row_at(const PGresult *result, int row) {
    int columns = PQnfields(result);
    PyObject *tuple = PyTuple_New(columns);
    for (int column = 0; tuple != NULL && column < columns; column++) {
        PyObject *value = Py_None;
        if (PQgetisnull(result, row, column))
            Py_INCREF(value);
        else
            value = PyBytes_FromStringAndSize(PQgetvalue(result, row, column),
                                              PQgetlength(result, row, column));
        if (value == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, column, value);
    }
    return tuple;
}

/* As a cursor's rowcount: how many rows were returned or changed; -1: of no statement. */
static long row_count(const PGresult *result) {
    if (result == NULL)
        return -1;
    const char *counted = PQcmdTuples((PGresult *) (uintptr_t) result); /* it changes nothing */
    return *counted == '\0' ? -1 : strtol(counted, NULL, 10);
}

static PyObject *make_answer(each_object *self) {
    const hv_shard_answer *answer = &self->answer;
    const PGresult *result = answer->result;
    PyObject *server = hvpy_server_name(self->store, answer->server);
    PyObject *oids = tuple_of(result, PQnfields(result), oid_at);
    PyObject *caster = NULL;
    if (server != NULL && oids != NULL)
        caster = ask_types(self->store, "caster", Py_BuildValue("(OO)", server, oids));
    PyObject *made =
        caster == NULL
            ? NULL
            : PyObject_CallFunction(
                  answer_type, "ONsNNlONO", server, hvpy_shard_number(answer->shard),
                  hv_work_name(answer->work),
                  hvpy_shard_error(self->store, answer->server, answer->shard, answer->error),
                  tuple_of(result, PQnfields(result), column_at), row_count(result), oids,
                  tuple_of(result, PQntuples(result), row_at), caster);
    Py_XDECREF(caster);
    Py_XDECREF(oids);
    Py_XDECREF(server);
    return made;
}

/* Wait for an answer. An error ends the work, and so does an exception that came meanwhile. */
static bool advance(each_object *self) {
    hv_error *error = NULL;
    hv_status status;
    hvpy_stop_enter(&self->stop);
    HVPY_BEGIN_LIBRARY
    status = hv_each_next(self->each, &self->answer, &error);
    HVPY_END_LIBRARY
    hvpy_stop_leave(&self->stop);
    self->has_answer = status == HV_OK;
    if (self->state == CLOSING && !PyErr_Occurred()) {
        hv_error_free(error);
        hvpy_raise_new(HV_CLOSED, "the answers were closed while they were in use");
        return false;
    }
    if (status == HV_OK && !PyErr_Occurred())
        return true;
    end(self, self->state == CLOSING ? CLOSED : ENDED);
    if (status != HV_OK && status != HV_NOT_FOUND)
        hvpy_raise_summary(status, error, self->summary);
    return false;
}

static PyObject *each_next(PyObject *object) {
    each_object *self = each_of(object);
    if (!enter(self))
        return NULL;
    PyObject *made = NULL;
    if ((self->has_answer || advance(self)) && hvpy_store_enter_late(self->store)) {
        made = make_answer(self);
        self->has_answer = made == NULL;
        hvpy_store_leave(self->store);
    }
    leave(self);
    return made;
}

static PyObject *each_summary(PyObject *object, void *closure) {
    (void) closure;
    each_object *self = each_of(object);
    if (self->each != NULL && self->state != IDLE) {
        enter(self); /* raises the exception */
        return NULL;
    }
    PyObject *summary = self->summary;
    if (self->each != NULL)
        return look_at_summary(self);
    if (summary == NULL) /* see end() */
        return hvpy_raise_new(HV_INVALID, "what has become of the shards is not known");
    Py_INCREF(summary);
    return summary;
}

static PyObject *each_closed(PyObject *object, void *closure) {
    (void) closure;
    each_state state = each_of(object)->state;
    return PyBool_FromLong(state == CLOSED || state == CLOSING);
}

/* ---- the class ---- */

static PyObject *each_self(PyObject *object) {
    Py_INCREF(object);
    return object;
}

static PyObject *each_enter(PyObject *object, PyObject *unused) {
    (void) unused;
    return each_self(object);
}

static PyObject *each_exit(PyObject *object, PyObject *args) {
    (void) args;
    return each_close(object, NULL);
}

static int each_traverse(PyObject *object, visitproc visit, void *arg) {
    Py_VISIT(each_of(object)->store);
    Py_VISIT(each_of(object)->observer);
    Py_VISIT(each_of(object)->summary);
    return 0;
}

static int each_clear(PyObject *object) {
    each_object *self = each_of(object);
    end(self, CLOSED); /* before its store, and its observer */
    Py_CLEAR(self->observer);
    Py_CLEAR(self->summary);
    Py_CLEAR(self->store);
    return 0;
}

static void each_dealloc(PyObject *object) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject_GC_UnTrack(object);
    each_clear(object);
    if (PyErr_Occurred())
        PyErr_WriteUnraisable((PyObject *) Py_TYPE(object));
    PyErr_Restore(type, value, traceback);
    Py_TYPE(object)->tp_free(object);
}

static PyGetSetDef each_fields[] = {
    {"summary", each_summary, NULL, "What has become of each shard so far: a Summary.", NULL},
    {"closed", each_closed, NULL, "Was it closed?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef each_methods[] = {
    {"close", each_close, METH_NOARGS,
     "close($self)\n--\n\nEnd it at any point: statements that are running are cancelled. A thread "
     "that waits for the next\nanswer gets a PoolError."},
    {"__enter__", each_enter, METH_NOARGS, NULL},
    {"__exit__", each_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject each_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv.datastore.ShardAnswers",
    .tp_basicsize = sizeof(each_object),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "The result of Datastore.each_shard(): an iterator over the shards' answers.",
    .tp_dealloc = each_dealloc,
    .tp_traverse = each_traverse,
    .tp_clear = each_clear,
    .tp_iter = each_self,
    .tp_iternext = each_next,
    .tp_getset = each_fields,
    .tp_methods = each_methods,
};

int hvpy_each_init(PyObject *module) {
    PyObject *results = PyImport_ImportModule("hv._work");
    if (results == NULL)
        return -1;
    answer_type = PyObject_GetAttrString(results, "ShardAnswer");
    Py_DECREF(results);
    if (answer_type == NULL || PyType_Ready(&each_type) < 0)
        return -1;
    Py_INCREF(&each_type);
    if (PyModule_AddObject(module, "ShardAnswers", (PyObject *) &each_type) < 0) {
        Py_DECREF(&each_type);
        return -1;
    }
    return 0;
}
