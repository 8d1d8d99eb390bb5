/*
 * key: hv.entity.Key, the key of an entity.
 */
#ifndef HVPY_KEY_H
#define HVPY_KEY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

/* Add to the module the class, and the functions that turn points in time into bounds of keys. */
int hvpy_key_init(PyObject *module);

/* Make a Key. `epoch` is that of its store. */
PyObject *hvpy_key_new(int64_t id, int64_t epoch);

bool hvpy_key_check(PyObject *object);

/* The number of an object that is a Key. */
int64_t hvpy_key_id(PyObject *key);

#endif
