/*
 * transaction: the class Transaction, an hv_tx as long as it is open.
 *
 * Its methods for entities are those of the store: see scope, below.
 */
#ifndef HVPY_TRANSACTION_H
#define HVPY_TRANSACTION_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>
#include <stdbool.h>

#include "caller.h"
#include "store.h"

extern const char hvpy_transaction_doc[];

int hvpy_transaction_init(PyObject *module);

/* A method of the store: METH_FASTCALL | METH_KEYWORDS. */
PyObject *hvpy_transaction(PyObject *store, PyObject *const *args, Py_ssize_t count,
                           PyObject *keywords);

/* What a transaction begins with. */
typedef struct hvpy_terms {
    int shard;
    hv_isolation isolation;
    int64_t timeout; /* ms; 0: the store's */
} hvpy_terms;

/* Take them from the arguments shard_id and, `options`, isolation and timeout. Returns false with
 * an exception. */
bool hvpy_terms_from(PyObject *shard, PyObject *const *options, hvpy_terms *given);

/* Is the caller in no other transaction of the store? Returns false with an exception. */
bool hvpy_transaction_may_begin(const hvpy_store *store, const hvpy_caller *caller);

/* The same for the running caller: a method of the store, METH_NOARGS. */
PyObject *hvpy_transaction_check(PyObject *store, PyObject *args);

/* Make an open Transaction of one that hv_transaction() begins and ends. NULL with an exception. */
PyObject *hvpy_transaction_of(hvpy_store *store, const hvpy_terms *given, const hvpy_caller *caller,
                              hv_tx *tx);

/* Its end has come: it cannot be used any more. Returns false, without an exception, if another
 * thread was using it; that was waited for. */
bool hvpy_transaction_end(PyObject *transaction);
void hvpy_transaction_raise_in_use(void);

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
