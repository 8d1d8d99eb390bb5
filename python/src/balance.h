/*
 * balance: the store's method that plans how shards are distributed over servers.
 */
#ifndef HVPY_BALANCE_H
#define HVPY_BALANCE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* A method of a store: see _hv.pyi. */
PyObject *hvpy_balance_plan(PyObject *self, PyObject *wishes);

#endif
