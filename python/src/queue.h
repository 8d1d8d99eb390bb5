/*
 * queue: the class Queue, many operations in flight at once from one thread.
 */
#ifndef HVPY_QUEUE_H
#define HVPY_QUEUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

int hvpy_queue_init(PyObject *module);

#endif
