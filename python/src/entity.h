/*
 * entity: methods for single entities: put, put_key, get, exists, replace, merge, increment,
 * delete, of a store or of a transaction, and the store's reserve.
 */
#ifndef HVPY_ENTITY_H
#define HVPY_ENTITY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern const char hvpy_entity_put_doc[], hvpy_entity_put_key_doc[], hvpy_entity_get_doc[],
    hvpy_entity_exists_doc[], hvpy_entity_replace_doc[], hvpy_entity_merge_doc[],
    hvpy_entity_increment_doc[], hvpy_entity_delete_doc[], hvpy_entity_reserve_doc[];

PyObject *hvpy_entity_put(PyObject *self, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords);
PyObject *hvpy_entity_put_key(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords);
PyObject *hvpy_entity_get(PyObject *self, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords);
PyObject *hvpy_entity_exists(PyObject *self, PyObject *const *args, Py_ssize_t count,
                             PyObject *keywords);
PyObject *hvpy_entity_replace(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords);
PyObject *hvpy_entity_merge(PyObject *self, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords);
PyObject *hvpy_entity_increment(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                PyObject *keywords);
PyObject *hvpy_entity_delete(PyObject *self, PyObject *const *args, Py_ssize_t count,
                             PyObject *keywords);
PyObject *hvpy_entity_reserve(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords);

#endif
