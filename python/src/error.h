/*
 * error: the exceptions of the package, with all that the library says of an error.
 */
#ifndef HVPY_ERROR_H
#define HVPY_ERROR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>

/* Add the classes to the module. As all functions here: 0, or -1 with an exception. */
int hvpy_errors_init(PyObject *module);

/* An exception that is not raised, or NULL with one that is. The error may be NULL. */
PyObject *hvpy_error_from(hv_status status, const hv_error *error);

/* The same, and the error is freed. */
PyObject *hvpy_error_new(hv_status status, hv_error *error);

/*
 * Raise it, and return NULL. If something was raised already while the library was at work
 * (Ctrl-C), that stays, with this as its context.
 */
PyObject *hvpy_raise(hv_status status, hv_error *error);

/* Raise an error of the package's own, and return NULL. Format as PyUnicode_FromFormat(). */
PyObject *hvpy_raise_new(hv_status status, const char *format, ...);

/* The same, with what is raised already as its cause. */
PyObject *hvpy_raise_from(hv_status status, const char *format, ...);

/* Raise a PoolError for what is not a connection that the store has lent. */
PyObject *hvpy_raise_foreign(PyObject *connection);

/* Raise a KeyTypeError for what is given as a key and is none, and return NULL. */
PyObject *hvpy_raise_no_key(PyObject *argument);

/* Text from the library, whatever it is; None for NULL. */
PyObject *hvpy_text(const char *text);

#endif
