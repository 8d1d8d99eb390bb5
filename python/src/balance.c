/*
 * balance: the store's method that plans how shards are distributed over servers.
 *
 * What people use is in hv._balance, made of this.
 */
#include "balance.h"

#include <hypervault.h>
#include <stdbool.h>

#include "arguments.h"
#include "error.h"
#include "store.h"
#include "threads.h"

/* ---- what is wished ---- */

static bool set(hv_balance_options *options, PyObject *wish) {
    PyObject *name, *value;
    if (!PyArg_ParseTuple(wish, "OO:_plan", &name, &value))
        return false;
    const char *name_text = hvpy_text_from(name, "the name of an option");
    const char *text = name_text != NULL ? hvpy_text_from(value, name_text) : NULL;
    if (text == NULL)
        return false;
    hv_error *error = NULL;
    hv_status status = hv_balance_options_set(options, name_text, text, &error);
    if (status != HV_OK)
        hvpy_raise(status, error);
    return status == HV_OK;
}

/* Of a list of pairs of texts. NULL with an exception. */
static hv_balance_options *options_from(PyObject *wishes) {
    PyObject *pairs = PySequence_Fast(wishes, "wishes must be a sequence");
    if (pairs == NULL)
        return NULL;
    hv_balance_options *options = hv_balance_options_new();
    bool ok = options != NULL;
    if (!ok)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; ok && i < PySequence_Fast_GET_SIZE(pairs); i++)
        ok = set(options, PySequence_Fast_GET_ITEM(pairs, i));
    Py_DECREF(pairs);
    if (!ok) {
        hv_balance_options_free(options);
        options = NULL;
    }
    return options;
}

/* ---- the plan ---- */

static PyObject *move_from(const hv_store *store, const hv_balance_move *move) {
    return Py_BuildValue("(iNNLLLL)", move->shard, hvpy_text(hv_server_name(store, move->source)),
                         hvpy_text(hv_server_name(store, move->target)), (long long) move->bytes,
                         (long long) move->rows, (long long) move->seconds,
                         (long long) move->wal_bytes);
}

static PyObject *server_from(const hv_store *store, const hv_balance_server *server) {
    return Py_BuildValue("(NdNiiLLLL)", hvpy_text(hv_server_name(store, server->server)),
                         server->weight, PyBool_FromLong(server->is_drained), server->shards_before,
                         server->shards_after, (long long) server->bytes_before,
                         (long long) server->bytes_after, (long long) server->load_before,
                         (long long) server->load_after);
}

/* Append, and release, an object that may be NULL. */
static bool append(PyObject *list, PyObject *item) {
    bool ok = item != NULL && PyList_Append(list, item) == 0;
    Py_XDECREF(item);
    return ok;
}

static PyObject *lists_from(const hv_store *store, const hv_balance *plan) {
    PyObject *moves = PyList_New(0), *servers = PyList_New(0);
    bool ok = moves != NULL && servers != NULL;
    const hv_balance_move *move;
    const hv_balance_server *server;
    for (size_t i = 0; ok && (move = hv_balance_at(plan, i)) != NULL; i++)
        ok = append(moves, move_from(store, move));
    for (size_t i = 0; ok && (server = hv_balance_server_at(plan, i)) != NULL; i++)
        ok = append(servers, server_from(store, server));
    PyObject *both = ok ? PyTuple_Pack(2, moves, servers) : NULL;
    Py_XDECREF(moves);
    Py_XDECREF(servers);
    return both;
}

PyObject *hvpy_balance_plan(PyObject *object, PyObject *wishes) {
    hvpy_store *store = (hvpy_store *) object;
    hv_balance_options *options = options_from(wishes);
    if (options == NULL || !hvpy_store_enter(store)) {
        hv_balance_options_free(options);
        return NULL;
    }
    hv_balance *plan = NULL;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_balance_plan(store->store, options, &plan, &error);
    HVPY_END_LIBRARY
    PyObject *lists = NULL;
    if (status != HV_OK)
        hvpy_raise(status, error);
    else if (PyErr_Occurred() == NULL) /* or a signal's handler raised it too late to stop it */
        lists = lists_from(store->store, plan);
    hvpy_store_leave(store);
    hv_balance_free(plan);
    hv_balance_options_free(options);
    return lists;
}
