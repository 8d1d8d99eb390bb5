/*
 * rollout: how work on many shards proceeds, from the keyword arguments that its methods share, and
 * what their observer and their caller learn of each shard.
 *
 * Types are checked here, values by the library. The classes of the results are in hv._work.
 */
#include "rollout.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "arguments.h"
#include "error.h"
#include "threads.h"

static PyObject *event_type;   /* hv._work.RolloutEvent */
static PyObject *work_type;    /* hv._work.ShardWork */
static PyObject *summary_type; /* hv._work.Summary */

int hvpy_rollout_init(void) {
    PyObject *module = PyImport_ImportModule("hv._work");
    if (module == NULL)
        return -1;
    event_type = PyObject_GetAttrString(module, "RolloutEvent");
    work_type = PyObject_GetAttrString(module, "ShardWork");
    summary_type = PyObject_GetAttrString(module, "Summary");
    Py_DECREF(module);
    return event_type == NULL || work_type == NULL || summary_type == NULL ? -1 : 0;
}

/* ---- the arguments ---- */

static bool set_text(hv_rollout *rollout, const char *name, const char *value) {
    hv_error *error = NULL;
    hv_status status = hv_rollout_set(rollout, name, value, &error);
    if (status != HV_OK)
        hvpy_raise(status, error);
    return status == HV_OK;
}

static bool set_number(hv_rollout *rollout, const char *name, int64_t number) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, number);
    return set_text(rollout, name, text);
}

/* A list of an item, or of the items of an iterable, of which there must be one. Text is an
 * item. Bytes are refused: they iterate over numbers. */
static PyObject *items_of(PyObject *given, const char *name) {
    if (PyUnicode_Check(given) || PyIndex_Check(given))
        return PyTuple_Pack(1, given);
    if (PyBytes_Check(given) || PyByteArray_Check(given) || PyMemoryView_Check(given)) {
        PyErr_Format(PyExc_TypeError, "%s must not be %.200s", name, Py_TYPE(given)->tp_name);
        return NULL;
    }
    PyObject *items = PySequence_Tuple(given);
    if (items != NULL && PyTuple_GET_SIZE(items) == 0) {
        hvpy_raise_new(HV_INVALID, "%s is empty", name);
        Py_CLEAR(items);
    }
    return items;
}

/* A shard, or text with several, as text. */
static PyObject *shard_as_text(PyObject *item) {
    if (PyUnicode_Check(item)) {
        Py_INCREF(item);
        return item;
    }
    int shard = hvpy_int_from(item);
    if (shard < 0 && !PyErr_Occurred())
        hvpy_raise_new(HV_INVALID, "the shard %d is out of range", shard);
    return PyErr_Occurred() ? NULL : PyUnicode_FromFormat("%d", shard);
}

static bool set_shards(hv_rollout *rollout, const char *name, PyObject *given) {
    PyObject *items = items_of(given, name);
    PyObject *texts = items == NULL ? NULL : PyList_New(0);
    for (Py_ssize_t i = 0; texts != NULL && i < PyTuple_GET_SIZE(items); i++) {
        PyObject *text = shard_as_text(PyTuple_GET_ITEM(items, i));
        if (text == NULL || PyList_Append(texts, text) < 0)
            Py_CLEAR(texts);
        Py_XDECREF(text);
    }
    PyObject *comma = texts == NULL ? NULL : PyUnicode_FromString(",");
    PyObject *all = comma == NULL ? NULL : PyUnicode_Join(comma, texts);
    const char *value = all == NULL ? NULL : hvpy_text_from(all, name);
    bool ok = value != NULL && set_text(rollout, name, value);
    Py_XDECREF(all);
    Py_XDECREF(comma);
    Py_XDECREF(texts);
    Py_XDECREF(items);
    return ok;
}

static bool set_string(hv_rollout *rollout, const char *name, PyObject *given) {
    const char *value = hvpy_text_from(given, name);
    return value != NULL && set_text(rollout, name, value);
}

static bool set_skip(hv_rollout *rollout, const char *name, PyObject *given) {
    PyObject *items = items_of(given, name);
    for (Py_ssize_t i = 0; items != NULL && i < PyTuple_GET_SIZE(items); i++)
        if (!set_string(rollout, name, PyTuple_GET_ITEM(items, i)))
            Py_CLEAR(items);
    Py_XDECREF(items);
    return !PyErr_Occurred();
}

static bool set_count(hv_rollout *rollout, const char *name, PyObject *given) {
    int64_t number;
    return hvpy_int64_from(given, &number) && set_number(rollout, name, number);
}

static bool set_count_or_all(hv_rollout *rollout, const char *name, PyObject *given) {
    return PyUnicode_Check(given) ? set_string(rollout, name, given)
                                  : set_count(rollout, name, given);
}

static bool set_switch(hv_rollout *rollout, const char *name, PyObject *given) {
    bool is_on;
    return hvpy_switch_from(given, name, &is_on) && set_text(rollout, name, is_on ? "on" : "off");
}

static bool set_seconds(hv_rollout *rollout, const char *name, PyObject *given) {
    int64_t ms;
    return hvpy_seconds_from(given, name, 0, &ms) && set_number(rollout, name, ms);
}

static bool set_seconds_or_ever(hv_rollout *rollout, const char *name, PyObject *given) {
    int64_t ms;
    return hvpy_seconds_from(given, name, HVPY_INFINITY, &ms) && set_number(rollout, name, ms);
}

/* Without limit is the default. */
static bool set_limit(hv_rollout *rollout, const char *name, PyObject *given) {
    int64_t ms;
    return hvpy_seconds_from(given, name, HVPY_INFINITY, &ms) &&
           (ms < 0 || set_number(rollout, name, ms));
}

/* In the order of HVPY_ROLLOUT_EACH. */
static const char *const names[HVPY_ROLLOUT_EACH_COUNT] = {HVPY_ROLLOUT_EACH};
enum { OBSERVER = HVPY_ROLLOUT_COUNT - 1 };
static bool (*const setters[HVPY_ROLLOUT_EACH_COUNT])(hv_rollout *rollout, const char *name,
                                                      PyObject *given) = {
    set_shards,       set_skip,    set_count,           set_count, set_switch,
    set_count_or_all, set_seconds, set_seconds_or_ever, set_limit, NULL,
    set_switch,       set_switch,  set_string,
};

static void on_event(void *context, const hv_rollout_event *event);

static bool set_observer(hv_rollout *rollout, hvpy_watch *watch, PyObject *given) {
    if (!PyCallable_Check(given)) {
        PyErr_Format(PyExc_TypeError, "observer must be callable, not %.200s",
                     Py_TYPE(given)->tp_name);
        return false;
    }
    watch->observer = given;
    hv_rollout_observe(rollout, on_event, watch);
    return true;
}

hv_rollout *hvpy_rollout_from(hvpy_store *store, PyObject *const *found, int count,
                              hvpy_watch *watch) {
    hv_rollout *rollout = hv_rollout_new();
    if (rollout == NULL)
        PyErr_NoMemory();
    *watch = (hvpy_watch){.store = store};
    for (int i = 0; i < count && !PyErr_Occurred(); i++) {
        if (found[i] == NULL || found[i] == Py_None)
            continue;
        if (i == OBSERVER)
            set_observer(rollout, watch, found[i]);
        else
            setters[i](rollout, names[i], found[i]);
    }
    if (PyErr_Occurred()) {
        hv_rollout_free(rollout);
        return NULL;
    }
    return rollout;
}

/* ---- what becomes of the shards ---- */

PyObject *hvpy_server_name(const hvpy_store *store, int server) {
    return hvpy_text(hv_server_name(store->store, server));
}

PyObject *hvpy_shard_number(int shard) {
    if (shard < 0)
        Py_RETURN_NONE;
    return PyLong_FromLong(shard);
}

PyObject *hvpy_shard_error(const hvpy_store *store, int server, int shard, const hv_error *error) {
    if (error == NULL)
        Py_RETURN_NONE;
    PyObject *name = hvpy_server_name(store, server), *number = hvpy_shard_number(shard);
    PyObject *exception = hvpy_error_of_shard(error, name, number);
    Py_XDECREF(number);
    Py_XDECREF(name);
    return exception;
}

PyObject *hvpy_summary_of(const hvpy_store *store, const hv_summary *summary) {
    if (summary == NULL)
        Py_RETURN_NONE;
    PyObject *list = PyList_New(0);
    int server, shard;
    hv_work work;
    const hv_error *error;
    for (size_t i = 0; list != NULL && hv_summary_at(summary, i, &server, &shard, &work, &error);
         i++) {
        PyObject *one = PyObject_CallFunction(work_type, "NNsN", hvpy_server_name(store, server),
                                              hvpy_shard_number(shard), hv_work_name(work),
                                              hvpy_shard_error(store, server, shard, error));
        if (one == NULL || PyList_Append(list, one) < 0)
            Py_CLEAR(list);
        Py_XDECREF(one);
    }
    PyObject *result = list == NULL ? NULL : PyObject_CallFunctionObjArgs(summary_type, list, NULL);
    Py_XDECREF(list);
    return result;
}

/* ---- the observer ---- */

static PyObject *share_of(double share) {
    if (share < 0)
        Py_RETURN_NONE;
    return PyFloat_FromDouble(share);
}

/* Called without the GIL. An exception stays raised: then the hook ends the work. */
static void on_event(void *context, const hv_rollout_event *event) {
    const hvpy_watch *watch = context;
    HVPY_TAKE_GIL;
    if (watch->observer != NULL && !PyErr_Occurred()) {
        PyObject *made = PyObject_CallFunction(
            event_type, "NNsNNNN", hvpy_server_name(watch->store, event->server),
            hvpy_shard_number(event->shard), hv_work_name(event->work), hvpy_text(event->step),
            hvpy_text(event->waits_for), share_of(event->share),
            hvpy_shard_error(watch->store, event->server, event->shard, event->error));
        PyObject *result =
            made == NULL ? NULL : PyObject_CallFunctionObjArgs(watch->observer, made, NULL);
        Py_XDECREF(result);
        Py_XDECREF(made);
    }
    HVPY_LEAVE_GIL;
}
