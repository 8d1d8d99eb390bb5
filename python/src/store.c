/*
 * store: the class Store, an open hv_store: opening, closing, and its properties.
 */
#include "store.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "arguments.h"
#include "balance.h"
#include "counts.h"
#include "each.h"
#include "entity.h"
#include "error.h"
#include "lend.h"
#include "load.h"
#include "locate.h"
#include "move.h"
#include "reader.h"
#include "report.h"
#include "run.h"
#include "scan.h"
#include "threads.h"
#include "transaction.h"
#include "work.h"

/* How often close() checks whether the last user has left. */
#define CLOSE_POLL_NS 1000000

static hvpy_store *store_of(PyObject *object) {
    return (hvpy_store *) object;
}

/* ---- users of the store ---- */

static unsigned long forks; /* how many forks lie between the first process and this one */

static void count_fork(void) {
    forks++;
}

/* A forked child does not have the threads that were using the store. */
static void forget_parents_users(hvpy_store *self) {
    if (self->forks != forks)
        self->users = 0;
    self->forks = forks;
}

bool hvpy_store_enter_late(hvpy_store *self) {
    if (self->store == NULL) {
        hvpy_raise_new(HV_CLOSED, "the store is closed");
        return false;
    }
    forget_parents_users(self);
    self->users++;
    return true;
}

bool hvpy_store_enter(hvpy_store *self) {
    if (self->closing) {
        hvpy_raise_new(HV_CLOSED, "the store is closed");
        return false;
    }
    return hvpy_store_enter_late(self);
}

void hvpy_store_leave(hvpy_store *self) {
    if (self->users > 0) /* 0: a callback has forked, and this is the child */
        self->users--;
}

/* ---- opening ---- */

/* Convert a name or a value to C's text. An error contains only the name: the value may be a
 * password. */
static const char *text_of(PyObject *text, PyObject *name) {
    Py_ssize_t len = 0;
    const char *bytes = PyUnicode_AsUTF8AndSize(text, &len);
    if (bytes == NULL && !PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        return NULL;
    if (bytes != NULL && strlen(bytes) == (size_t) len)
        return bytes;
    PyErr_Clear();
    hvpy_raise_new(HV_BAD_CONFIG, "%A holds what no parameter can: %s", name,
                   bytes != NULL ? "a NUL" : "text that UTF-8 cannot encode");
    return NULL;
}

static int set_options(hv_options *options, PyObject *given) {
    PyObject *name, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(given, &position, &name, &value)) {
        const char *name_text = text_of(name, name);
        const char *value_text = name_text == NULL ? NULL : text_of(value, name);
        if (value_text == NULL)
            return -1;
        hv_error *error = NULL;
        hv_status status = hv_options_set(options, name_text, value_text, &error);
        if (status != HV_OK) {
            hvpy_raise(status, error);
            return -1;
        }
    }
    return 0;
}

static int set_server(hv_options *options, PyObject *server) {
    PyObject *name, *parameters, *keyword, *value;
    Py_ssize_t position = 0;
    if (!PyArg_ParseTuple(server, "UO!", &name, &PyDict_Type, &parameters))
        return -1;
    const char *name_text = text_of(name, name);
    if (name_text == NULL)
        return -1;
    hv_error *error = NULL;
    hv_status status = hv_options_add_server(options, name_text, &error);
    if (status != HV_OK) {
        hvpy_raise(status, error);
        return -1;
    }
    while (PyDict_Next(parameters, &position, &keyword, &value)) {
        const char *keyword_text = text_of(keyword, keyword);
        const char *value_text = keyword_text == NULL ? NULL : text_of(value, keyword);
        if (value_text == NULL)
            return -1;
        status = hv_options_set_server(options, name_text, keyword_text, value_text, &error);
        if (status != HV_OK) {
            hvpy_raise(status, error);
            return -1;
        }
    }
    return 0;
}

/* Open the store on the given servers, or on those of a configuration file. */
static int set_servers(hv_options *options, PyObject *servers, const char *path) {
    if (servers == Py_None) {
        hv_error *error = NULL;
        hv_status status = hv_options_load(options, path, NULL, &error);
        if (status != HV_OK)
            hvpy_raise(status, error);
        return status == HV_OK ? 0 : -1;
    }
    PyObject *sequence = PySequence_Fast(servers, "servers must be a sequence");
    if (sequence == NULL)
        return -1;
    int result = 0;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(sequence) && result == 0; i++)
        result = set_server(options, PySequence_Fast_GET_ITEM(sequence, i));
    Py_DECREF(sequence);
    return result;
}

static int open_store(hvpy_store *self, const hv_options *options) {
    hv_store *store = NULL;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_open(options, &store, &error); /* connects, with the option check_servers */
    HVPY_END_LIBRARY
    if (status != HV_OK) {
        hvpy_raise(status, error);
        return -1;
    }
    if (PyErr_Occurred() != NULL) { /* a signal's handler raised it too late to stop the opening */
        hv_close(store, 0, NULL);
        return -1;
    }
    self->store = store;
    self->epoch = hv_epoch(store);
    return 0;
}

/* Keep the options that methods need. */
static int keep_options(hvpy_store *self, const hv_options *options) {
    const char *migrations = hv_options_get(options, "migrations");
    self->log_parameters = strcmp(hv_options_get(options, "log_parameters"), "on") == 0;
    if (migrations == NULL || *migrations == '\0')
        return 0;
    Py_XSETREF(self->migrations, PyBytes_FromString(migrations));
    return self->migrations == NULL ? -1 : 0;
}

static void free_callbacks(hvpy_callbacks *callbacks) {
    if (callbacks == NULL)
        return;
    Py_XDECREF(callbacks->connector);
    Py_XDECREF(callbacks->log);
    PyMem_Free(callbacks);
}

static int store_init(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"options", "servers", "path", "connector", "log", NULL};
    hvpy_store *self = store_of(object);
    PyObject *given, *servers, *connector, *log;
    PyObject *path = NULL;
    if (self->callbacks != NULL || self->closing) {
        hvpy_raise_new(HV_BUSY, "the store was opened already");
        return -1;
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OOOO:Store", names, &PyDict_Type, &given,
                                     &servers, &path, &connector, &log))
        return -1;
    PyObject *file = NULL;
    if (path != Py_None && !PyUnicode_FSConverter(path, &file))
        return -1;
    int result = -1;
    hv_options *options = hv_options_new();
    self->callbacks = PyMem_Calloc(1, sizeof *self->callbacks);
    if (options == NULL || self->callbacks == NULL) {
        PyErr_NoMemory();
        goto out;
    }
    Py_INCREF(connector);
    self->callbacks->connector = connector;
    if (log != Py_None) {
        Py_INCREF(log);
        self->callbacks->log = log;
    }
    hvpy_callbacks_set(self->callbacks, options);
    if (set_servers(options, servers, file == NULL ? NULL : PyBytes_AS_STRING(file)) == 0 &&
        set_options(options, given) == 0 && keep_options(self, options) == 0)
        result = open_store(self, options);
out:
    if (result < 0) {
        free_callbacks(self->callbacks);
        self->callbacks = NULL;
    }
    hv_options_free(options);
    Py_XDECREF(file);
    return result;
}

/* ---- closing ---- */

/*
 * Free the store if nothing uses it. It was stopped before, so hv_close() only has to check and
 * free, and does nothing that would release the GIL.
 */
static hv_status close_if_unused(hvpy_store *self, hv_error **error) {
    if (self->users > 0)
        return HV_BUSY;
    hv_status status = hv_close(self->store, 0, error);
    if (status == HV_OK) {
        self->store = NULL;
        free_callbacks(self->callbacks);
        self->callbacks = NULL;
    }
    return status;
}

static void stop(hvpy_store *self) {
    self->closing = true;
    if (self->store == NULL)
        return;
    hvpy_store_enter_late(self);
    HVPY_BEGIN_LIBRARY
    hv_stop(self->store);
    HVPY_END_LIBRARY
    hvpy_store_leave(self);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static PyObject *store_close(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"timeout", NULL};
    hvpy_store *self = store_of(object);
    double timeout = 5;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|d:close", names, &timeout))
        return NULL;
    double deadline = now() + timeout;
    stop(self);
    hv_error *error = NULL;
    while (self->store != NULL && close_if_unused(self, &error) != HV_OK) {
        if (now() >= deadline) {
            if (error == NULL)
                return hvpy_raise_new(HV_BUSY, "operations on the store are still running");
            return hvpy_raise(HV_BUSY, error);
        }
        hv_error_free(error);
        error = NULL;
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&(struct timespec){.tv_nsec = CLOSE_POLL_NS}, NULL);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

/* Connections that are still lent stay as they are, and keep what they need alive. */
static void store_dealloc(PyObject *object) {
    hvpy_store *self = store_of(object);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (self->weak_references != NULL)
        PyObject_ClearWeakRefs(object);
    stop(self);
    if (self->store != NULL && close_if_unused(self, NULL) != HV_OK &&
        PyErr_WarnEx(PyExc_ResourceWarning, "a Datastore was dropped while connections are lent",
                     1) < 0)
        PyErr_WriteUnraisable((PyObject *) Py_TYPE(object));
    Py_CLEAR(self->migrations);
    PyErr_Restore(type, value, traceback);
    Py_TYPE(object)->tp_free(object);
}

/* ---- all connections ---- */

static PyObject *store_disconnect(PyObject *object, PyObject *args) {
    (void) args;
    hvpy_store *self = store_of(object);
    if (!hvpy_store_enter(self))
        return NULL;
    HVPY_BEGIN_LIBRARY
    hv_disconnect(self->store);
    HVPY_END_LIBRARY
    hvpy_store_leave(self);
    Py_RETURN_NONE;
}

static PyObject *store_reinstantiate(PyObject *object, PyObject *args) {
    (void) args;
    hvpy_store *self = store_of(object);
    if (!hvpy_store_enter(self))
        return NULL;
    HVPY_BEGIN_LIBRARY
    hv_reinstantiate(self->store);
    HVPY_END_LIBRARY
    hvpy_store_leave(self);
    Py_RETURN_NONE;
}

/* ---- the class ---- */

static PyObject *store_closed(PyObject *object, void *closure) {
    (void) closure;
    return PyBool_FromLong(store_of(object)->closing || store_of(object)->store == NULL);
}

static PyObject *store_log_parameters(PyObject *object, void *closure) {
    (void) closure;
    return PyBool_FromLong(store_of(object)->log_parameters);
}

static PyObject *store_epoch(PyObject *object, void *closure) {
    (void) closure;
    return PyLong_FromLongLong(store_of(object)->epoch);
}

static PyGetSetDef store_fields[] = {
    {"closed", store_closed, NULL, "Was it closed?", NULL},
    {"epoch", store_epoch, NULL, "The moment that its keys count from, in ms since 1970-01-01 UTC.",
     NULL},
    {"_log_parameters", store_log_parameters, NULL, "May the log contain parameters?", NULL},
    {"servers", hvpy_report_servers, NULL, "The servers' names.", NULL},
    {"spread", hvpy_report_spread, NULL,
     "The shards that shard_of() spreads values over, in ascending order.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define FAST(function) ((PyCFunction) (void (*)(void))(function)), METH_FASTCALL | METH_KEYWORDS
#define WITH_NAMES(function) \
    ((PyCFunction) (void (*)(void))(function)), METH_VARARGS | METH_KEYWORDS

static PyMethodDef store_methods[] = {
    {"put", FAST(hvpy_entity_put), hvpy_entity_put_doc},
    {"put_key", FAST(hvpy_entity_put_key), hvpy_entity_put_key_doc},
    {"get", FAST(hvpy_entity_get), hvpy_entity_get_doc},
    {"exists", FAST(hvpy_entity_exists), hvpy_entity_exists_doc},
    {"reserve", FAST(hvpy_entity_reserve), hvpy_entity_reserve_doc},
    {"replace", FAST(hvpy_entity_replace), hvpy_entity_replace_doc},
    {"merge", FAST(hvpy_entity_merge), hvpy_entity_merge_doc},
    {"increment", FAST(hvpy_entity_increment), hvpy_entity_increment_doc},
    {"delete", FAST(hvpy_entity_delete), hvpy_entity_delete_doc},
    {"transaction", FAST(hvpy_transaction), hvpy_transaction_doc},
    {"run_transaction", FAST(hvpy_run_transaction), hvpy_run_transaction_doc},
    {"_check_transaction", hvpy_transaction_check, METH_NOARGS,
     "_check_transaction($self)\n--\n\nRaise an error if the caller is in a transaction."},
    {"get_connection", FAST(hvpy_lend_get), hvpy_lend_get_doc},
    {"get_connection_server", FAST(hvpy_lend_get_server), hvpy_lend_get_server_doc},
    {"put_connection", FAST(hvpy_lend_put), hvpy_lend_put_doc},
    {"_discard", hvpy_lend_discard, METH_O, hvpy_lend_discard_doc},
    {"_close_lent", hvpy_lend_close, METH_O, "Close a connection if a borrower has it."},
    {"disconnect", store_disconnect, METH_NOARGS,
     "disconnect($self)\n--\n\n"
     "Close every connection: idle ones now, lent ones when they are returned."},
    {"reinstantiate", store_reinstantiate, METH_NOARGS,
     "reinstantiate($self)\n--\n\n"
     "Make every pool anew: close idle connections now and lent ones when they are returned, and\n"
     "forget statistics and what is known about servers that could not be reached."},
    {"close", WITH_NAMES(store_close),
     "close($self, timeout=5.0)\n--\n\n"
     "Close the store. New and waiting operations fail with PoolError; running ones and lent\n"
     "connections are waited for, for ``timeout`` seconds. If some are left then, PoolError is\n"
     "raised, and close() can be called again."},
    {"where", hvpy_report_where, METH_O,
     "where($self, shard_id, /)\n--\n\n"
     "The name of the server that holds a shard, after asking it; shards may have moved.\n"
     "server_of() says what the store knows."},
    {"server_of", hvpy_report_server_of, METH_O,
     "server_of($self, shard_id, /)\n--\n\nThe name of the server that holds a shard, or None."},
    {"shard_of", hvpy_report_shard_of, METH_O,
     "shard_of($self, value, /)\n--\n\n"
     "The shard that a value belongs to, a str (as UTF-8) or bytes: always the same one of the\n"
     "shards that the option ``spread`` names, and the one that `hv import --by` chooses. Without\n"
     "the option DatastoreError is raised, with the line to write into the configuration."},
    {"shards", WITH_NAMES(hvpy_report_shards),
     "shards($self, server=None)\n--\n\nThe shards of a server, or of all, in ascending order."},
    {"locate_shards", hvpy_locate_shards, METH_NOARGS, hvpy_locate_shards_doc},
    {"_move_begin", hvpy_move_begin, METH_VARARGS, NULL},
    {"_move_check", hvpy_move_check, METH_O,
     "_move_check($self, options, /)\n--\n\nRaise an error if a move cannot take these."},
    {"_move_list", hvpy_move_list, METH_NOARGS, NULL},
    {"moves_sweep", hvpy_move_sweep, METH_NOARGS,
     "moves_sweep($self)\n--\n\nDrop the old copies whose time is over, and what earlier moves "
     "could not remove; return how\n"
     "many. Each new move begins with this, too."},
    {"_plan", hvpy_balance_plan, METH_O, NULL},
    {"config_write", WITH_NAMES(hvpy_locate_config_write), hvpy_locate_config_write_doc},
    {"doctor", WITH_NAMES(hvpy_locate_doctor), hvpy_locate_doctor_doc},
    {"pool_stats", WITH_NAMES(hvpy_report_pool_stats),
     "pool_stats($self, server=None)\n--\n\n"
     "The statistics of a server's pool, or the sums over all: see docs/operations.md."},
    {"create_shards", WITH_NAMES(hvpy_report_create_shards),
     "create_shards($self, server=None, progress=None, without=None)\n--\n\n"
     "Make what is missing on a server, or on all, as `hv init` does; return how many shards were\n"
     "made or changed. ``progress(server, done, total)`` is called after each shard. All other\n"
     "servers are asked first whether they hold one of them; those that ``without`` names may be\n"
     "unreachable."},
    {"inspect", WITH_NAMES(hvpy_report_inspect),
     "inspect($self, server)\n--\n\nInspect a server: return what `hv status` shows, as a dict."},
    {"inspect_all", hvpy_report_inspect_all, METH_NOARGS,
     "inspect_all($self)\n--\n\n"
     "Inspect all servers: return a list of what inspect() returns, with a DatastoreError for a\n"
     "server that cannot be inspected. Only this finds shards on another server, or on two."},
    {"find", FAST(hvpy_find), hvpy_find_doc},
    {"count", FAST(hvpy_count), hvpy_count_doc},
    {"feed", FAST(hvpy_feed), hvpy_feed_doc},
    {"explain", FAST(hvpy_explain), hvpy_explain_doc},
    {"scan", WITH_NAMES(hvpy_scan_open), hvpy_scan_open_doc},
    {"load", WITH_NAMES(hvpy_load_open), hvpy_load_open_doc},
    {"loads", WITH_NAMES(hvpy_load_list), hvpy_load_list_doc},
    {"each_shard", FAST(hvpy_each_shard), hvpy_each_shard_doc},
    {"migrate", FAST(hvpy_migrate), hvpy_migrate_doc},
    {"migrate_status", FAST(hvpy_migrate_status), hvpy_migrate_status_doc},
    {"migrate_plan", FAST(hvpy_migrate_plan), hvpy_migrate_plan_doc},
    {"index_create", FAST(hvpy_index_create), hvpy_index_create_doc},
    {"index_drop", FAST(hvpy_index_drop), hvpy_index_drop_doc},
    {"index_list", FAST(hvpy_index_list), hvpy_index_list_doc},
    {"schema_check", FAST(hvpy_schema_check), hvpy_schema_check_doc},
    {NULL, NULL, 0, NULL},
};

PyTypeObject hvpy_store_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv._hv.Store",
    .tp_basicsize = sizeof(hvpy_store),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_doc = "The base of hv.datastore.Datastore.",
    .tp_new = PyType_GenericNew,
    .tp_init = store_init,
    .tp_dealloc = store_dealloc,
    .tp_weaklistoffset = offsetof(hvpy_store, weak_references),
    .tp_getset = store_fields,
    .tp_methods = store_methods,
};

int hvpy_store_init(PyObject *module) {
    if (pthread_atfork(NULL, NULL, count_fork) != 0) {
        PyErr_NoMemory();
        return -1;
    }
    if (PyType_Ready(&hvpy_store_type) < 0)
        return -1;
    Py_INCREF(&hvpy_store_type);
    if (PyModule_AddObject(module, "Store", (PyObject *) &hvpy_store_type) < 0) {
        Py_DECREF(&hvpy_store_type);
        return -1;
    }
    return 0;
}
