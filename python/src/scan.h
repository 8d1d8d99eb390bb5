/*
 * scan: the class Scan, the entities of a shard in the order of their keys.
 */
#ifndef HVPY_SCAN_H
#define HVPY_SCAN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern const char hvpy_scan_open_doc[];

/* The store's method scan(). */
PyObject *hvpy_scan_open(PyObject *store, PyObject *args, PyObject *kwargs);

int hvpy_scan_init(PyObject *module);

#endif
