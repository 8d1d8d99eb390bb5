/*
 * entity: the store's methods for single entities: put, put_key, get, exists, reserve.
 */
#ifndef HVPY_ENTITY_H
#define HVPY_ENTITY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern const char hvpy_entity_put_doc[], hvpy_entity_put_key_doc[], hvpy_entity_get_doc[],
    hvpy_entity_exists_doc[], hvpy_entity_reserve_doc[];

PyObject *hvpy_entity_put(PyObject *self, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords);
PyObject *hvpy_entity_put_key(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords);
PyObject *hvpy_entity_get(PyObject *self, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords);
PyObject *hvpy_entity_exists(PyObject *self, PyObject *const *args, Py_ssize_t count,
                             PyObject *keywords);
PyObject *hvpy_entity_reserve(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords);

#endif
