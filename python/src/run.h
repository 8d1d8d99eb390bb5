/*
 * run: the store's method run_transaction(): a function that hv_transaction() calls.
 */
#ifndef HVPY_RUN_H
#define HVPY_RUN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern const char hvpy_run_transaction_doc[];

/* METH_FASTCALL | METH_KEYWORDS. */
PyObject *hvpy_run_transaction(PyObject *store, PyObject *const *args, Py_ssize_t count,
                               PyObject *keywords);

#endif
