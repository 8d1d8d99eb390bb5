/*
 * arguments: take a method's arguments apart, where any other keyword is an attribute.
 */
#ifndef HVPY_ARGUMENTS_H
#define HVPY_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>

/* A method's own arguments, which can be given by position or by name. */
typedef struct hvpy_arguments {
    const char *method;
    const char *const *names;
    int count;
    int required; /* the first ones */
} hvpy_arguments;

/*
 * For a method that is METH_FASTCALL | METH_KEYWORDS. found[i] becomes a borrowed reference to the
 * argument i, or NULL. If `attributes` is not NULL, one more argument may come by position, a
 * mapping of attributes, and every other name is an attribute: *attributes belongs to the caller.
 * -1 with an exception, and there is nothing to free.
 */
int hvpy_arguments_parse(const hvpy_arguments *expected, PyObject *const *args, Py_ssize_t count,
                         PyObject *keywords, PyObject **found, hv_dict **attributes);

/* An argument that is an int, of a shard or a kind or a count; -1 with an exception if it is none.
 * Narrower ranges are the library's to check. */
int hvpy_int_from(PyObject *argument);

#endif
