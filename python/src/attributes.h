/*
 * attributes: an entity's attributes, from Python to the library and back.
 */
#ifndef HVPY_ATTRIBUTES_H
#define HVPY_ATTRIBUTES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>

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

#endif
