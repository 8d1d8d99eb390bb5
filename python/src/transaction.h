/*
 * transaction: the class Transaction, an hv_tx as long as it is open, and where it comes from: the
 * store's methods transaction() and run_transaction().
 *
 * Its methods for entities are those of the store: see scope, below.
 */
#ifndef HVPY_TRANSACTION_H
#define HVPY_TRANSACTION_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>
#include <stdbool.h>

#include "store.h"

extern const char hvpy_transaction_doc[];
extern const char hvpy_transaction_run_doc[];

int hvpy_transaction_init(PyObject *module);

/* Methods of the store: METH_FASTCALL | METH_KEYWORDS. */
PyObject *hvpy_transaction(PyObject *store, PyObject *const *args, Py_ssize_t count,
                           PyObject *keywords);
PyObject *hvpy_transaction_run(PyObject *store, PyObject *const *args, Py_ssize_t count,
                               PyObject *keywords);

/* A function of the module: see _hv.pyi. */
PyObject *hvpy_transaction_guard(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                 PyObject *keywords);
extern const char hvpy_transaction_guard_doc[];

/* Where a method for entities does its work: in a store, or in a transaction there. */
typedef struct hvpy_scope {
    hvpy_store *store;
    hv_tx *tx; /* NULL: in none */
    struct hvpy_transaction *transaction;
} hvpy_scope;

/* For a method of a Store or a Transaction. Returns false with an exception if it is closed, over,
 * or in use by another thread. */
bool hvpy_scope_enter(PyObject *object, hvpy_scope *scope);
void hvpy_scope_leave(const hvpy_scope *scope);

/* Raise the library's error, as hvpy_raise() does. */
PyObject *hvpy_scope_raise(const hvpy_scope *scope, hv_status status, hv_error *error);

#endif
