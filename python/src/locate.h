/*
 * locate: the store's methods that ask the servers where shards are, and whether they can move.
 */
#ifndef HVPY_LOCATE_H
#define HVPY_LOCATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "store.h"

PyObject *hvpy_locate_shards(PyObject *self, PyObject *unused);
PyObject *hvpy_locate_config_write(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *hvpy_locate_doctor(PyObject *self, PyObject *args, PyObject *kwargs);

extern const char hvpy_locate_shards_doc[];
extern const char hvpy_locate_config_write_doc[];
extern const char hvpy_locate_doctor_doc[];

#endif
