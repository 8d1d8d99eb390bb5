/*
 * error: the package's exceptions, with everything that the library says about an error.
 */
#ifndef HVPY_ERROR_H
#define HVPY_ERROR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>

/* Add the classes to the module. Like all functions here it returns 0, or -1 with an exception. */
int hvpy_errors_init(PyObject *module);

/* Make an exception without raising it; NULL with one raised. The error may be NULL. */
PyObject *hvpy_error_from(hv_status status, const hv_error *error);

/* The same for the work on a shard, whose number and whose server's name it gets; NULL: there was
 * an exception. Its text says where it was. */
PyObject *hvpy_error_of_shard(const hv_error *error, PyObject *server, PyObject *shard);

/* The same as hvpy_error_from(); the error is freed. */
PyObject *hvpy_error_new(hv_status status, hv_error *error);

/*
 * Make a ChangedError for a change of an entity that does not meet its condition. `present` is the
 * entity's row, or None. NULL with an exception.
 */
PyObject *hvpy_changed_new(int64_t key, int shard, PyObject *present);

/* Raise a MovedError: the shard is on this server now. `cause` is what was raised before. */
void hvpy_raise_moved(int shard, const char *server, PyObject *cause);

/* Raise an exception, whose reference is stolen, unless it is NULL. Returns NULL. */
PyObject *hvpy_raise_object(PyObject *exception);

/*
 * Raise the error and return NULL. If an exception was raised already while the library was at work
 * (Ctrl-C), that one stays, with this one as its context.
 */
PyObject *hvpy_raise(hv_status status, hv_error *error);

/* The same with a hint, which may be NULL, unless the error has one. */
PyObject *hvpy_raise_with(hv_status status, hv_error *error, const char *hint);

/* The same, with an exception as its cause. None may be raised already. */
PyObject *hvpy_raise_because(hv_status status, hv_error *error, const char *hint, PyObject *cause);

/* The same; the exception gets the attribute `summary`, unless that is NULL, and its text says
 * where it was. */
PyObject *hvpy_raise_summary(hv_status status, hv_error *error, PyObject *summary);

/* Raise an error of the package's own and return NULL. The format is that of
 * PyUnicode_FromFormat(). */
PyObject *hvpy_raise_new(hv_status status, const char *format, ...);

/* The same with a message and a hint. */
PyObject *hvpy_raise_hint(hv_status status, const char *message, const char *hint);

/* The same as hvpy_raise_new(), with the exception that is already raised as its cause. */
PyObject *hvpy_raise_from(hv_status status, const char *format, ...);

/* Raise a PoolError for an object that is not a connection lent by the store. */
PyObject *hvpy_raise_foreign(PyObject *connection);

/* Raise a KeyTypeError for an object that was passed as a key and is not one, and return NULL. */
PyObject *hvpy_raise_no_key(PyObject *argument);

/* Convert text from the library, whatever bytes it has; None for NULL. */
PyObject *hvpy_text(const char *text);

#endif
