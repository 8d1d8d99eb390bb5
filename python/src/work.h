/*
 * work: the store's methods that change and compare the schemas of all shards: migrations, indexes,
 * drift.
 */
#ifndef HVPY_WORK_H
#define HVPY_WORK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern const char hvpy_migrate_doc[], hvpy_migrate_status_doc[], hvpy_migrate_plan_doc[],
    hvpy_index_create_doc[], hvpy_index_drop_doc[], hvpy_index_list_doc[], hvpy_schema_check_doc[];

/* METH_FASTCALL | METH_KEYWORDS. */
PyObject *hvpy_migrate(PyObject *store, PyObject *const *args, Py_ssize_t count,
                       PyObject *keywords);
PyObject *hvpy_migrate_status(PyObject *store, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords);
PyObject *hvpy_migrate_plan(PyObject *store, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords);
PyObject *hvpy_index_create(PyObject *store, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords);
PyObject *hvpy_index_drop(PyObject *store, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords);
PyObject *hvpy_index_list(PyObject *store, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords);
PyObject *hvpy_schema_check(PyObject *store, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords);

int hvpy_work_init(void);

#endif
