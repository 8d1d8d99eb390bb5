/*
 * arguments: parsing of a method's arguments, where any other keyword may be an attribute.
 */
#include "arguments.h"

#include <math.h>
#include <string.h>

#include "attributes.h"
#include "error.h"

/* The longest time that can be given, in seconds. */
#define MOST_SECONDS 1e9

int hvpy_int_from(PyObject *argument) {
    PyObject *integer = PyNumber_Index(argument);
    if (integer == NULL)
        return -1;
    int overflow;
    long number = PyLong_AsLongAndOverflow(integer, &overflow);
    if (overflow != 0 || number > INT_MAX || number < INT_MIN) {
        hvpy_raise_new(HV_INVALID, "%R is out of range", integer);
        number = -1;
    }
    Py_DECREF(integer);
    return (int) number;
}

bool hvpy_int64_from(PyObject *argument, int64_t *result) {
    PyObject *integer = PyNumber_Index(argument);
    if (integer == NULL)
        return false;
    int overflow;
    *result = PyLong_AsLongLongAndOverflow(integer, &overflow);
    if (overflow != 0)
        hvpy_raise_new(HV_INVALID, "%R is out of range", integer);
    Py_DECREF(integer);
    return !PyErr_Occurred();
}

const char *hvpy_text_from(PyObject *argument, const char *name) {
    Py_ssize_t len;
    if (!PyUnicode_Check(argument)) {
        PyErr_Format(PyExc_TypeError, "%s must be str, not %.200s", name,
                     Py_TYPE(argument)->tp_name);
        return NULL;
    }
    const char *text = PyUnicode_AsUTF8AndSize(argument, &len);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        hvpy_raise_from(HV_INVALID, "%s is not text that UTF-8 can encode: %A", name, argument);
    if (text == NULL || strlen(text) == (size_t) len)
        return text;
    hvpy_raise_new(HV_INVALID, "%s contains a NUL byte: %A", name, argument);
    return NULL;
}

bool hvpy_seconds_from(PyObject *argument, const char *name, int allowed, int64_t *ms) {
    double seconds = PyFloat_AsDouble(argument);
    if (seconds == -1 && PyErr_Occurred())
        return false;
    bool is_endless = (allowed & HVPY_INFINITY) != 0 && isinf(seconds) && seconds > 0;
    bool is_zero = (allowed & HVPY_ZERO) != 0 && seconds == 0;
    if (!is_endless && !is_zero && !(seconds > 0 && seconds <= MOST_SECONDS)) {
        hvpy_raise_new(HV_INVALID, "%s must be a number of seconds %s, not %R", name,
                       (allowed & HVPY_ZERO) != 0 ? "that is not negative" : "above 0", argument);
        return false;
    }
    *ms = is_endless ? -1 : (int64_t) ceil(seconds * 1000);
    return true;
}

bool hvpy_bool_from(PyObject *argument, bool *result) {
    int is_true = argument == NULL ? 0 : PyObject_IsTrue(argument);
    *result = is_true > 0;
    return is_true >= 0;
}

bool hvpy_switch_from(PyObject *argument, const char *name, bool *result) {
    if (argument == NULL || argument == Py_None || PyBool_Check(argument)) {
        *result = argument == Py_True;
        return true;
    }
    PyErr_Format(PyExc_TypeError, "%s must be bool, not %.200s", name, Py_TYPE(argument)->tp_name);
    return false;
}

/* The index of the method's own argument with this name, or -1. */
static int find(const hvpy_arguments *expected, PyObject *name) {
    for (int i = 0; i < expected->count; i++)
        if (PyUnicode_CompareWithASCIIString(name, expected->names[i]) == 0)
            return i;
    return -1;
}

static int take_keyword(const hvpy_arguments *expected, PyObject *name, PyObject *value,
                        PyObject **found, hv_dict *attributes) {
    int place = find(expected, name);
    if (place >= 0 && found[place] == NULL) {
        found[place] = value;
        return 0;
    }
    if (attributes != NULL)
        return hvpy_attributes_set(attributes, name, value);
    PyErr_Format(PyExc_TypeError,
                 place >= 0 ? "%s() got multiple values for argument '%U'"
                            : "%s() got an unexpected keyword argument '%U'",
                 expected->method, name);
    return -1;
}

/* Take the arguments by position; one after the method's own is a mapping of attributes, if
 * allowed. */
static int take_positions(const hvpy_arguments *expected, PyObject *const *args, Py_ssize_t count,
                          PyObject **found, hv_dict **attributes) {
    int own = expected->positional > 0 ? expected->positional : expected->count;
    int most = own + (attributes != NULL);
    if (count > most) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments (%zd given)",
                     expected->method, most, count);
        return -1;
    }
    for (int i = 0; i < expected->count; i++)
        found[i] = i < count ? args[i] : NULL;
    if (attributes == NULL)
        return 0;
    *attributes = hvpy_attributes_from(count == most ? args[most - 1] : Py_None);
    return *attributes == NULL ? -1 : 0;
}

int hvpy_arguments_parse(const hvpy_arguments *expected, PyObject *const *args, Py_ssize_t count,
                         PyObject *keywords, PyObject **found, hv_dict **attributes) {
    if (take_positions(expected, args, count, found, attributes) < 0)
        return -1;
    hv_dict *dict = attributes == NULL ? NULL : *attributes;
    Py_ssize_t named = keywords == NULL ? 0 : PyTuple_GET_SIZE(keywords);
    int result = 0;
    for (Py_ssize_t i = 0; i < named && result == 0; i++)
        result =
            take_keyword(expected, PyTuple_GET_ITEM(keywords, i), args[count + i], found, dict);
    for (int i = 0; i < expected->required && result == 0; i++) {
        if (found[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() is missing its argument '%s'", expected->method,
                         expected->names[i]);
            result = -1;
        }
    }
    if (result < 0)
        hv_dict_free(dict);
    return result;
}
