/*
 * connector: what the library calls back into Python for: psycopg2's connections, the log, Ctrl-C.
 *
 * These are called by threads that have given up the GIL, or that still have it, and take it for as
 * long as they need. An exception that is no mere error (KeyboardInterrupt) stays raised in the
 * thread: who called the library looks for it afterwards.
 */
#ifndef HVPY_CONNECTOR_H
#define HVPY_CONNECTOR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>

/* What the callbacks of one store need. Outlives it. */
typedef struct hvpy_callbacks {
    PyObject *connector; /* see Connector in _hv.pyi */
    PyObject *log;       /* see _Log in _hv.pyi; NULL: none */
} hvpy_callbacks;

/* Have the options' store call these. */
void hvpy_callbacks_set(hvpy_callbacks *callbacks, hv_options *options);

/* libpq's part of a psycopg2 connection: NULL with an exception if there is none, or it is closed.
 */
struct pg_conn *hvpy_pgconn(PyObject *connection);

/* A function of the module: see _hv.pyi. */
PyObject *hvpy_refusal(PyObject *module, PyObject *args);

#endif
