/*
 * connector: the library's callbacks into Python, for psycopg2's connections, the log and Ctrl-C.
 *
 * The callbacks are called by threads that have released the GIL or still hold it, and take it for
 * as long as they need it. An exception that is not derived from Exception (KeyboardInterrupt)
 * stays raised in the thread; the caller of the library checks for it afterwards.
 */
#ifndef HVPY_CONNECTOR_H
#define HVPY_CONNECTOR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>

/* The context of one store's callbacks, which outlives the store. */
typedef struct hvpy_callbacks {
    PyObject *connector; /* see Connector in _hv.pyi */
    PyObject *log;       /* see _Log in _hv.pyi; NULL: none */
} hvpy_callbacks;

/* Set these as the callbacks of the options' store. */
void hvpy_callbacks_set(hvpy_callbacks *callbacks, hv_options *options);

/* Return libpq's part of a psycopg2 connection; NULL with an exception if there is none, or the
 * connection is closed. */
struct pg_conn *hvpy_pgconn(PyObject *connection);

/* A function of the module: see _hv.pyi. */
PyObject *hvpy_refusal(PyObject *module, PyObject *args);

#endif
