/*
 * attributes: an entity's attributes, from Python to the library and back.
 */
#ifndef HVPY_ATTRIBUTES_H
#define HVPY_ATTRIBUTES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>
#include <stdbool.h>

/*
 * Set an attribute: str, int, float and bool become text, None becomes NULL. Raises TypeError,
 * which names the attribute, for anything else, and DatastoreError for text that PostgreSQL cannot
 * hold.
 */
int hvpy_attributes_set(hv_dict *dict, PyObject *name, PyObject *value);

/* Make a dict of a mapping, or an empty one of None. Returns NULL with an exception. */
hv_dict *hvpy_attributes_from(PyObject *mapping);

/* Make a Python dict of str to str or None. */
PyObject *hvpy_attributes_to_python(const hv_dict *dict);

/* The number of bytes of all names and values. */
size_t hvpy_attributes_size(const hv_dict *dict);

/* Names of attributes. */
typedef struct hvpy_names {
    const char **list; /* ends with NULL; NULL: none were given */
    PyObject *held;    /* the tuple whose text it points to */
} hvpy_names;

/*
 * Take the names from an iterable of str that is not itself a str, or none from None or NULL; for
 * hvpy_names_free(). `argument` is what an error calls it. Returns false with an exception.
 */
bool hvpy_names_from(PyObject *names, const char *argument, hvpy_names *result);
void hvpy_names_free(hvpy_names *names);

/* The number of bytes of all of them. */
size_t hvpy_names_size(const hvpy_names *names);

/* An attribute's name, and values for it. */
typedef struct hvpy_values {
    const char *name;
    size_t name_len;
    const char **list; /* NULL: the value NULL */
    size_t *lengths;
    size_t count;
    PyObject *held; /* the list whose text it points to */
} hvpy_values;

/*
 * Take values from an iterable that is not a str, each as hvpy_attributes_set() does; for
 * hvpy_values_free(). The name must live as long. Returns false with an exception.
 */
bool hvpy_values_from(PyObject *name, PyObject *values, hvpy_values *result);
void hvpy_values_free(hvpy_values *values);

#endif
