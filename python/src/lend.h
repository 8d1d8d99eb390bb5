/*
 * lend: the store's methods that lend psycopg2's connections and take them back.
 */
#ifndef HVPY_LEND_H
#define HVPY_LEND_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "store.h"

extern const char hvpy_lend_get_doc[], hvpy_lend_get_server_doc[], hvpy_lend_put_doc[],
    hvpy_lend_discard_doc[];

PyObject *hvpy_lend_get(PyObject *self, PyObject *const *args, Py_ssize_t count,
                        PyObject *keywords);
PyObject *hvpy_lend_get_server(PyObject *self, PyObject *const *args, Py_ssize_t count,
                               PyObject *keywords);
PyObject *hvpy_lend_put(PyObject *self, PyObject *const *args, Py_ssize_t count,
                        PyObject *keywords);

/* The same for the module's own use. Returns NULL with an exception. */
PyObject *hvpy_lend_borrow(hvpy_store *self, PyObject *shard_id);
PyObject *hvpy_lend_borrow_server(hvpy_store *self, PyObject *server);
PyObject *hvpy_lend_return(hvpy_store *self, PyObject *connection);

/* Make the store close a connection that it has lent; False if it has not lent it. */
PyObject *hvpy_lend_discard(PyObject *self, PyObject *connection);

/* Close a connection at once if a borrower has it. */
PyObject *hvpy_lend_close(PyObject *self, PyObject *connection);

int hvpy_lend_init(PyObject *module);

#endif
