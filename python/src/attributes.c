/*
 * attributes: an entity's attributes, from Python to the library and back.
 */
#include "attributes.h"

#include <string.h>

#include "error.h"

/* The bytes of an attribute's name or value. Returns NULL with an exception. */
static const char *bytes_of(PyObject *text, PyObject *name, Py_ssize_t *len) {
    const char *bytes = PyUnicode_AsUTF8AndSize(text, len);
    if (bytes == NULL && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        hvpy_raise_from(HV_INVALID, "attribute %A is not text that UTF-8 can encode", name);
    return bytes;
}

static int set_text(hv_dict *dict, PyObject *name, PyObject *text) {
    Py_ssize_t name_len, len = 0;
    const char *bytes = NULL;
    const char *name_bytes = bytes_of(name, name, &name_len);
    if (name_bytes != NULL && text != NULL)
        bytes = bytes_of(text, name, &len);
    if (name_bytes == NULL || (text != NULL && bytes == NULL))
        return -1;
    hv_error *error = NULL;
    hv_status status =
        hv_dict_set_bytes(dict, name_bytes, (size_t) name_len, bytes, (size_t) len, &error);
    if (status == HV_OK)
        return 0;
    hvpy_raise(status, error);
    return -1;
}

/* Return a new reference to the value's text, for subclasses too, whatever their str() does. */
static PyObject *text_of(PyObject *name, PyObject *value) {
    if (PyUnicode_Check(value)) {
        Py_INCREF(value);
        return value;
    }
    if (PyBool_Check(value))
        return PyUnicode_FromString(value == Py_True ? "true" : "false");
    if (PyLong_Check(value))
        return PyLong_Type.tp_repr(value);
    if (PyFloat_Check(value))
        return PyFloat_Type.tp_repr(value);
    PyErr_Format(PyExc_TypeError, "attribute %R must be str, int, float, bool or None, not %.200s",
                 name, Py_TYPE(value)->tp_name);
    return NULL;
}

static bool check_name(PyObject *name) {
    if (PyUnicode_Check(name))
        return true;
    PyErr_Format(PyExc_TypeError, "the name of an attribute must be str, not %.200s: %R",
                 Py_TYPE(name)->tp_name, name);
    return false;
}

int hvpy_attributes_set(hv_dict *dict, PyObject *name, PyObject *value) {
    if (!check_name(name))
        return -1;
    if (value == Py_None)
        return set_text(dict, name, NULL);
    PyObject *text = text_of(name, value);
    if (text == NULL)
        return -1;
    int result = set_text(dict, name, text);
    Py_DECREF(text);
    return result;
}

static int set_from_dict(hv_dict *dict, PyObject *mapping) {
    PyObject *name, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(mapping, &position, &name, &value)) {
        if (hvpy_attributes_set(dict, name, value) < 0)
            return -1;
    }
    return 0;
}

static int set_from_mapping(hv_dict *dict, PyObject *mapping) {
    PyObject *copy = PyDict_New();
    if (copy == NULL)
        return -1;
    int result = PyDict_Update(copy, mapping);
    if (result < 0 && PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_Format(PyExc_TypeError, "attributes must be a mapping, not %.200s",
                     Py_TYPE(mapping)->tp_name);
    if (result == 0)
        result = set_from_dict(dict, copy);
    Py_DECREF(copy);
    return result;
}

hv_dict *hvpy_attributes_from(PyObject *mapping) {
    hv_dict *dict = hv_dict_new();
    if (dict == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    int result = 0;
    if (PyDict_CheckExact(mapping))
        result = set_from_dict(dict, mapping);
    else if (mapping != Py_None)
        result = set_from_mapping(dict, mapping);
    if (result < 0) {
        hv_dict_free(dict);
        return NULL;
    }
    return dict;
}

PyObject *hvpy_attributes_to_python(const hv_dict *dict) {
    PyObject *attributes = PyDict_New();
    const char *name, *value;
    size_t name_len, value_len;
    for (size_t i = 0;
         attributes != NULL && hv_dict_at(dict, i, &name, &name_len, &value, &value_len); i++) {
        PyObject *name_text = PyUnicode_DecodeUTF8(name, (Py_ssize_t) name_len, NULL);
        PyObject *value_text = Py_None;
        if (value != NULL)
            value_text = PyUnicode_DecodeUTF8(value, (Py_ssize_t) value_len, NULL);
        else
            Py_INCREF(Py_None);
        if (name_text == NULL || value_text == NULL ||
            PyDict_SetItem(attributes, name_text, value_text) < 0)
            Py_CLEAR(attributes);
        Py_XDECREF(name_text);
        Py_XDECREF(value_text);
    }
    return attributes;
}

size_t hvpy_attributes_size(const hv_dict *dict) {
    size_t size = 0, name_len, value_len;
    const char *value;
    for (size_t i = 0; hv_dict_at(dict, i, NULL, &name_len, &value, &value_len); i++)
        size += name_len + (value != NULL ? value_len : 0);
    return size;
}

/* ---- names alone ---- */

/* A tuple of what is in an iterable, which cannot change any more. NULL without an exception, or
 * with a TypeError: it is none, or text, which would be taken apart. */
static PyObject *tuple_of(PyObject *iterable) {
    return PyUnicode_Check(iterable) ? NULL : PySequence_Tuple(iterable);
}

static bool is_no_iterable(void) {
    return !PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_TypeError);
}

/* A name as a string that ends with a NUL, and has no other. */
static const char *name_from(PyObject *name) {
    Py_ssize_t len;
    const char *bytes = check_name(name) ? bytes_of(name, name, &len) : NULL;
    if (bytes == NULL || strlen(bytes) == (size_t) len)
        return bytes;
    hvpy_raise_new(HV_INVALID, "the name of an attribute contains a NUL byte: %A", name);
    return NULL;
}

bool hvpy_names_from(PyObject *names, const char *argument, hvpy_names *result) {
    *result = (hvpy_names){0};
    if (names == NULL || names == Py_None)
        return true;
    result->held = tuple_of(names);
    if (result->held == NULL) {
        if (is_no_iterable())
            PyErr_Format(PyExc_TypeError, "%s must be a list, tuple or set of names, not %.200s",
                         argument, Py_TYPE(names)->tp_name);
        return false;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(result->held);
    result->list = PyMem_New(const char *, count + 1);
    if (result->list == NULL)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++)
        result->list[i] = name_from(PyTuple_GET_ITEM(result->held, i));
    if (PyErr_Occurred()) {
        hvpy_names_free(result);
        return false;
    }
    result->list[count] = NULL;
    return true;
}

void hvpy_names_free(hvpy_names *names) {
    PyMem_Free(names->list);
    Py_XDECREF(names->held);
    *names = (hvpy_names){0};
}

size_t hvpy_names_size(const hvpy_names *names) {
    size_t size = 0;
    for (const char **name = names->list; name != NULL && *name != NULL; name++)
        size += strlen(*name);
    return size;
}

/* ---- values of one name ---- */

/* Make the list of the values' texts. NULL with an exception. */
static PyObject *texts_of(PyObject *name, PyObject *values) {
    PyObject *tuple = tuple_of(values);
    if (tuple == NULL) {
        if (is_no_iterable())
            PyErr_Format(PyExc_TypeError,
                         "the values of attribute %R must be a list, tuple or set, not %.200s",
                         name, Py_TYPE(values)->tp_name);
        return NULL;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    PyObject *texts = PyList_New(count);
    for (Py_ssize_t i = 0; texts != NULL && i < count; i++) {
        PyObject *value = PyTuple_GET_ITEM(tuple, i);
        PyObject *text = value;
        if (value == Py_None)
            Py_INCREF(value);
        else
            text = text_of(name, value);
        if (text == NULL)
            Py_CLEAR(texts);
        else
            PyList_SET_ITEM(texts, i, text);
    }
    Py_DECREF(tuple);
    return texts;
}

bool hvpy_values_from(PyObject *name, PyObject *values, hvpy_values *result) {
    *result = (hvpy_values){0};
    Py_ssize_t len;
    if (!check_name(name) || (result->name = bytes_of(name, name, &len)) == NULL)
        return false;
    result->name_len = (size_t) len;
    result->held = texts_of(name, values);
    if (result->held == NULL)
        return false;
    result->count = (size_t) PyList_GET_SIZE(result->held);
    result->list = PyMem_New(const char *, result->count + 1);
    result->lengths = PyMem_New(size_t, result->count + 1);
    if (result->list == NULL || result->lengths == NULL)
        PyErr_NoMemory();
    for (size_t i = 0; i < result->count && !PyErr_Occurred(); i++) {
        PyObject *text = PyList_GET_ITEM(result->held, (Py_ssize_t) i);
        len = 0;
        result->list[i] = text == Py_None ? NULL : bytes_of(text, name, &len);
        result->lengths[i] = (size_t) len;
    }
    if (!PyErr_Occurred())
        return true;
    hvpy_values_free(result);
    return false;
}

void hvpy_values_free(hvpy_values *values) {
    PyMem_Free(values->list);
    PyMem_Free(values->lengths);
    Py_XDECREF(values->held);
    *values = (hvpy_values){0};
}
