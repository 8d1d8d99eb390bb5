/*
 * counts: the store's methods count() and explain().
 */
#ifndef HVPY_COUNTS_H
#define HVPY_COUNTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

int hvpy_counts_init(void);

extern const char hvpy_count_doc[];
extern const char hvpy_explain_doc[];

/* METH_FASTCALL | METH_KEYWORDS. */
PyObject *hvpy_count(PyObject *store, PyObject *const *args, Py_ssize_t count, PyObject *keywords);
PyObject *hvpy_explain(PyObject *store, PyObject *const *args, Py_ssize_t count,
                       PyObject *keywords);

#endif
