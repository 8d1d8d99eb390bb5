/*
 * store: the class Store, an open hv_store.
 *
 * A method that uses the store enters and leaves it, so that close() frees it only when nobody is
 * on the way into the library any more. All fields are guarded by the GIL.
 */
#ifndef HVPY_STORE_H
#define HVPY_STORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>
#include <stdbool.h>

#include "connector.h"

typedef struct hvpy_store {
    PyObject_HEAD
    hv_store *store; /* NULL: closed, or not opened */
    int64_t epoch;
    hvpy_callbacks *callbacks; /* they go with the hv_store */
    int users;                 /* methods that are using it */
    unsigned long forks;       /* tells which process they are in */
    bool closing;              /* nobody gets in any more */
    bool log_parameters;       /* the option */
    PyObject *weak_references;
} hvpy_store;

extern PyTypeObject hvpy_store_type;

int hvpy_store_init(PyObject *module);

/* False with an exception if the store is closed. */
bool hvpy_store_enter(hvpy_store *self);
/* The same, but who brings something back gets in for longer. */
bool hvpy_store_enter_late(hvpy_store *self);
void hvpy_store_leave(hvpy_store *self);

#endif
