/*
 * each: the class ShardAnswers, the answers of all shards to one SQL text: what each_shard()
 * returns.
 */
#ifndef HVPY_EACH_H
#define HVPY_EACH_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern const char hvpy_each_shard_doc[];

/* The store's method each_shard(): METH_FASTCALL | METH_KEYWORDS. */
PyObject *hvpy_each_shard(PyObject *store, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords);

int hvpy_each_init(PyObject *module);

#endif
