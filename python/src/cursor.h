/*
 * cursor: the class LentCursor, a cursor on a borrowed connection for as long as a `with` lasts.
 */
#ifndef HVPY_CURSOR_H
#define HVPY_CURSOR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

int hvpy_cursor_init(PyObject *module);

#endif
