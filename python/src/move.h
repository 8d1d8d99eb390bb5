/*
 * move: moving shards: the class Mover, and the store's methods that begin, list and sweep moves.
 */
#ifndef HVPY_MOVE_H
#define HVPY_MOVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Methods of a store: see _hv.pyi. */
PyObject *hvpy_move_begin(PyObject *self, PyObject *args);
PyObject *hvpy_move_check(PyObject *self, PyObject *options);
PyObject *hvpy_move_list(PyObject *self, PyObject *unused);
PyObject *hvpy_move_sweep(PyObject *self, PyObject *unused);

int hvpy_move_init(PyObject *module);

#endif
