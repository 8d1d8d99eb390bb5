/*
 * load: the class Load, which stores many entities on one server, transaction by transaction.
 */
#ifndef HVPY_LOAD_H
#define HVPY_LOAD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern const char hvpy_load_open_doc[], hvpy_load_list_doc[];

/* The store's methods load() and loads(). */
PyObject *hvpy_load_open(PyObject *store, PyObject *args, PyObject *kwargs);
PyObject *hvpy_load_list(PyObject *store, PyObject *args, PyObject *kwargs);

int hvpy_load_init(PyObject *module);

#endif
