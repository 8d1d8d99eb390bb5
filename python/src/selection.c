/*
 * selection: which entities are meant, from the keyword arguments of find(), count(), feed() and
 * explain().
 *
 * Types are checked here, values by the library.
 */
#include "selection.h"

#include <stdbool.h>
#include <stdio.h>

#include "arguments.h"
#include "attributes.h"
#include "error.h"
#include "key.h"

/* Raises the library's error unless the status is HV_OK. */
static bool is_ok(hv_status status, hv_error *error) {
    if (status != HV_OK)
        hvpy_raise(status, error);
    return status == HV_OK;
}

/* ---- one or several ---- */

typedef bool add_one(hv_selection *selection, PyObject *item, const char *name);

/* Add an item, or each item of an iterable, of which there must be one. Text is an item. */
static bool add_each(hv_selection *selection, PyObject *given, const char *name, add_one *add) {
    if (PyUnicode_Check(given) || PyIndex_Check(given))
        return add(selection, given, name);
    PyObject *items = PySequence_Tuple(given); /* it cannot change meanwhile */
    if (items == NULL)
        return false;
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    if (count == 0)
        hvpy_raise_new(HV_INVALID, "%s is empty", name);
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++)
        add(selection, PyTuple_GET_ITEM(items, i), name);
    Py_DECREF(items);
    return !PyErr_Occurred();
}

/* ---- shards, servers and kinds ---- */

static bool add_shard(hv_selection *selection, PyObject *item, const char *name) {
    char number[24];
    const char *text = number;
    if (PyUnicode_Check(item)) {
        text = hvpy_text_from(item, name);
    } else {
        int shard = hvpy_int_from(item);
        snprintf(number, sizeof number, "%d", shard);
        if (shard < 0 && !PyErr_Occurred())
            hvpy_raise_new(HV_INVALID, "the shard %d is out of range", shard);
    }
    if (text == NULL || PyErr_Occurred())
        return false;
    hv_error *error = NULL;
    hv_status status = hv_selection_shards(selection, text, &error);
    return is_ok(status, error);
}

static bool set_shards(hv_selection *selection, PyObject *given) {
    return add_each(selection, given, "shards", add_shard);
}

static bool add_skipped(hv_selection *selection, PyObject *item, const char *name) {
    const char *text = hvpy_text_from(item, name);
    if (text == NULL)
        return false;
    hv_error *error = NULL;
    hv_status status = hv_selection_skip(selection, text, &error);
    return is_ok(status, error);
}

static bool set_skip(hv_selection *selection, PyObject *given) {
    return add_each(selection, given, "skip", add_skipped);
}

static bool add_kind(hv_selection *selection, PyObject *item, const char *name) {
    (void) name;
    int kind = hvpy_int_from(item);
    if (kind == -1 && PyErr_Occurred())
        return false;
    hv_error *error = NULL;
    hv_status status = hv_selection_kind(selection, kind, &error);
    return is_ok(status, error);
}

static bool set_kind(hv_selection *selection, PyObject *given) {
    return add_each(selection, given, "kind", add_kind);
}

/* ---- attributes ---- */

static bool set_where(hv_selection *selection, PyObject *given) {
    hv_dict *dict = hvpy_attributes_from(given);
    if (dict == NULL)
        return false;
    hv_error *error = NULL;
    hv_status status = HV_OK;
    const char *name, *value;
    size_t name_len, value_len, i = 0;
    for (; status == HV_OK && hv_dict_at(dict, i, &name, &name_len, &value, &value_len); i++)
        status = hv_selection_equal(selection, name, name_len, value, value_len, &error);
    hv_dict_free(dict);
    if (i == 0)
        hvpy_raise_new(HV_INVALID, "where is empty");
    return i > 0 && is_ok(status, error);
}

static bool add_one_of(hv_selection *selection, PyObject *name, PyObject *given) {
    hvpy_values values;
    if (!hvpy_values_from(name, given, &values))
        return false;
    hv_error *error = NULL;
    hv_status status = hv_selection_one_of(selection, values.name, values.name_len, values.list,
                                           values.lengths, values.count, &error);
    hvpy_values_free(&values);
    return is_ok(status, error);
}

static bool set_one_of(hv_selection *selection, PyObject *given) {
    PyObject *copy = PyDict_New(); /* it cannot change meanwhile */
    if (copy == NULL)
        return false;
    if (PyDict_Update(copy, given) < 0 && PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_Format(PyExc_TypeError, "one_of must be a mapping, not %.200s",
                     Py_TYPE(given)->tp_name);
    else if (!PyErr_Occurred() && PyDict_GET_SIZE(copy) == 0)
        hvpy_raise_new(HV_INVALID, "one_of is empty");
    PyObject *name, *values;
    Py_ssize_t position = 0;
    while (!PyErr_Occurred() && PyDict_Next(copy, &position, &name, &values))
        add_one_of(selection, name, values);
    Py_DECREF(copy);
    return !PyErr_Occurred();
}

static bool set_has(hv_selection *selection, PyObject *given) {
    hv_dict *dict = hvpy_attributes_from(given);
    if (dict == NULL)
        return false;
    hv_error *error = NULL;
    hv_status status = hv_selection_has(selection, dict, &error);
    hv_dict_free(dict);
    return is_ok(status, error);
}

typedef hv_status add_name(hv_selection *selection, const char *name, size_t len, hv_error **error);

static bool add_names(hv_selection *selection, PyObject *given, const char *argument,
                      add_name *add) {
    hvpy_names names;
    if (!hvpy_names_from(given, argument, &names))
        return false;
    hv_error *error = NULL;
    hv_status status = HV_OK;
    bool is_empty = *names.list == NULL;
    for (const char **name = names.list; *name != NULL && status == HV_OK; name++)
        status = add(selection, *name, HV_STRLEN, &error);
    hvpy_names_free(&names);
    if (is_empty)
        hvpy_raise_new(HV_INVALID, "%s is empty", argument);
    return !is_empty && is_ok(status, error);
}

static bool set_exists(hv_selection *selection, PyObject *given) {
    return add_names(selection, given, "exists", hv_selection_exists);
}

static bool set_lacks(hv_selection *selection, PyObject *given) {
    return add_names(selection, given, "lacks", hv_selection_lacks);
}

static bool set_only(hv_selection *selection, PyObject *given) {
    hvpy_names names;
    if (!hvpy_names_from(given, "only", &names))
        return false;
    hv_error *error = NULL;
    hv_status status = hv_selection_only(selection, names.list, &error);
    hvpy_names_free(&names);
    return is_ok(status, error);
}

/* ---- numbers: keys, moments, how many, how long ---- */

typedef hv_status set_number(hv_selection *selection, int64_t number, hv_error **error);

static bool set_integer(hv_selection *selection, PyObject *given, set_number *set) {
    int64_t number;
    if (!hvpy_int64_from(given, &number))
        return false;
    hv_error *error = NULL;
    hv_status status = set(selection, number, &error);
    return is_ok(status, error);
}

static bool set_moment(hv_selection *selection, PyObject *given, const char *name,
                       set_number *set) {
    int64_t moment;
    if (!hvpy_moment_from(given, name, &moment))
        return false;
    hv_error *error = NULL;
    hv_status status = set(selection, moment, &error);
    return is_ok(status, error);
}

static bool set_from_key(hv_selection *selection, PyObject *given) {
    return set_integer(selection, given, hv_selection_from);
}

static bool set_until_key(hv_selection *selection, PyObject *given) {
    return set_integer(selection, given, hv_selection_until);
}

static bool set_after(hv_selection *selection, PyObject *given) {
    return set_integer(selection, given, hv_selection_after);
}

static bool set_since(hv_selection *selection, PyObject *given) {
    return set_moment(selection, given, "since", hv_selection_since);
}

static bool set_before(hv_selection *selection, PyObject *given) {
    return set_moment(selection, given, "before", hv_selection_before);
}

static bool set_limit(hv_selection *selection, PyObject *given) {
    return set_integer(selection, given, hv_selection_limit);
}

/* True, or how many. */
static bool set_newest(hv_selection *selection, PyObject *given) {
    if (given == Py_False)
        return true;
    hv_selection_newest(selection, true);
    return given == Py_True || set_limit(selection, given);
}

static bool set_partial(hv_selection *selection, PyObject *given) {
    bool partial;
    if (!hvpy_bool_from(given, &partial))
        return false;
    hv_selection_partial(selection, partial);
    return true;
}

static bool set_timeout(hv_selection *selection, PyObject *given) {
    int64_t timeout;
    if (!hvpy_seconds_from(given, "timeout", HVPY_INFINITY, &timeout))
        return false;
    hv_error *error = NULL;
    hv_status status = hv_selection_timeout(selection, timeout, &error);
    return is_ok(status, error);
}

/* ---- all of them ---- */

enum { LIMIT = HVPY_WHICH_COUNT, NEWEST = HVPY_MOST_COUNT };

/* In the order of HVPY_ALL. */
static bool (*const setters[HVPY_ALL_COUNT])(hv_selection *selection, PyObject *given) = {
    set_shards,  set_skip,    set_kind,     set_where,     set_one_of, set_has,
    set_exists,  set_lacks,   set_from_key, set_until_key, set_since,  set_before,
    set_partial, set_timeout, set_limit,    set_only,      set_newest, set_after,
};

static bool is_given(PyObject *argument) {
    return argument != NULL && argument != Py_None;
}

static bool set_all(hv_selection *selection, PyObject *const *found, int count) {
    if (count > NEWEST && is_given(found[LIMIT]) && is_given(found[NEWEST]) &&
        !PyBool_Check(found[NEWEST])) {
        hvpy_raise_new(HV_INVALID, "newest is a number, and limit is given as well");
        return false;
    }
    for (int i = 0; i < count; i++)
        if (is_given(found[i]) && !setters[i](selection, found[i]))
            return false;
    return true;
}

hv_selection *hvpy_selection_from(PyObject *const *found, int count) {
    hv_selection *selection = hv_selection_new();
    if (selection == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (set_all(selection, found, count))
        return selection;
    hv_selection_free(selection);
    return NULL;
}

bool hvpy_selection_start(hv_selection *selection, PyObject *start) {
    if (!is_given(start))
        return true;
    return PyIndex_Check(start) ? set_after(selection, start)
                                : set_moment(selection, start, "start", hv_selection_since);
}
