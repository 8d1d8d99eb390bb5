/*
 * arguments: parsing of a method's arguments, where any other keyword may be an attribute.
 */
#ifndef HVPY_ARGUMENTS_H
#define HVPY_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include <hypervault.h>

/* A method's own arguments: all can be given by name. */
typedef struct hvpy_arguments {
    const char *method;
    const char *const *names;
    int count;
    int required;   /* the first ones */
    int positional; /* so many of the first ones may be given by position; 0: all */
} hvpy_arguments;

/*
 * For a method that is METH_FASTCALL | METH_KEYWORDS. found[i] becomes a borrowed reference to the
 * argument i, or NULL. If `attributes` is not NULL, one more argument may come by position, a
 * mapping of attributes, and every other name is an attribute: *attributes belongs to the caller.
 * Returns -1 with an exception, and then there is nothing to free.
 */
int hvpy_arguments_parse(const hvpy_arguments *expected, PyObject *const *args, Py_ssize_t count,
                         PyObject *keywords, PyObject **found, hv_dict **attributes);

/* Get an integer argument: a shard, a kind or a count. Returns -1 with an exception if it is not
 * an int; narrower ranges are left to the library to check. */
int hvpy_int_from(PyObject *argument);

/* Is the argument true? NULL, which was not given, is not. Returns false with an exception. */
bool hvpy_bool_from(PyObject *argument, bool *result);

#endif
