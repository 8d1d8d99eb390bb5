/*
 * reader: the class Reader, the entities of a selection over all shards, in the order of their
 * keys: what find() and feed() return.
 */
#ifndef HVPY_READER_H
#define HVPY_READER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>

extern const char hvpy_find_doc[];
extern const char hvpy_feed_doc[];

/* The store's methods find() and feed(): METH_FASTCALL | METH_KEYWORDS. */
PyObject *hvpy_find(PyObject *store, PyObject *const *args, Py_ssize_t count, PyObject *keywords);
PyObject *hvpy_feed(PyObject *store, PyObject *const *args, Py_ssize_t count, PyObject *keywords);

/* Make a list of DatastoreErrors of what get(object, index) returns for 0, 1, … until NULL. */
typedef const hv_error *hvpy_error_at(const void *object, size_t index);
PyObject *hvpy_errors_list(hvpy_error_at *get, const void *object);

int hvpy_reader_init(PyObject *module);

#endif
