/*
 * store: the class Store, an open hv_store.
 *
 * A method that uses the store enters and leaves it, so that close() frees it only when no thread
 * is in the library or on the way into it. All fields are guarded by the GIL.
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
    hvpy_callbacks *callbacks;             /* they are freed with the hv_store */
    int users;                             /* methods that are using it */
    unsigned long forks;                   /* says which process they are in */
    bool closing;                          /* no more users are let in */
    bool log_parameters;                   /* the option */
    PyObject *migrations;                  /* the option, bytes; NULL: not set */
    struct hvpy_transaction *transactions; /* that are open: a list */
    PyObject *weak_references;
} hvpy_store;

extern PyTypeObject hvpy_store_type;

int hvpy_store_init(PyObject *module);

/* Returns false with an exception if the store is closed. */
bool hvpy_store_enter(hvpy_store *self);
/* The same, but works while the store is closing too, for borrowers that return something. */
bool hvpy_store_enter_late(hvpy_store *self);
void hvpy_store_leave(hvpy_store *self);

#endif
