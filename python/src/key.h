/*
 * key: hv.entity.Key, the key of an entity.
 */
#ifndef HVPY_KEY_H
#define HVPY_KEY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

int hvpy_key_init(PyObject *module);

/* Make a Key. `epoch` is that of its store. */
PyObject *hvpy_key_new(int64_t id, int64_t epoch);

bool hvpy_key_check(PyObject *object);

/* The number of an object that is a Key. */
int64_t hvpy_key_id(PyObject *key);

/* A moment, in ms since 1970-01-01 UTC, as a datetime in UTC without a time zone. */
PyObject *hvpy_datetime_of(int64_t moment);

/* The moment of a datetime, rounded down; without a time zone it is UTC. `name` is what an error
 * calls it. Returns false with an exception. */
bool hvpy_moment_from(PyObject *datetime, const char *name, int64_t *moment);

/* The function key_bound() of the module. */
extern const char hvpy_key_bound_doc[];
PyObject *hvpy_key_bound(PyObject *module, PyObject *args, PyObject *kwargs);

#endif
