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

/* The same for 64 bits: a Key is an integer, too. Returns false with an exception. */
bool hvpy_int64_from(PyObject *argument, int64_t *result);

/* Get text that ends with a NUL and has no other; it lives as long as the argument. `name` is what
 * an error calls it. NULL with an exception. */
const char *hvpy_text_from(PyObject *argument, const char *name);

/* What hvpy_seconds_from() takes besides numbers above 0. */
#define HVPY_ZERO     1
#define HVPY_INFINITY 2 /* -1 ms */

/* Get a number of seconds as milliseconds, rounded up. Returns false with an exception. */
bool hvpy_seconds_from(PyObject *argument, const char *name, int allowed, int64_t *ms);

/* Is the argument true? NULL, which was not given, is not. Returns false with an exception. */
bool hvpy_bool_from(PyObject *argument, bool *result);

/* A bool that must be one, so that the text "off" is not true; None or none is false. */
bool hvpy_switch_from(PyObject *argument, const char *name, bool *result);

#endif
