/*
 * stop: ends what a thread does in the library, when another one wants it to end.
 *
 * The library asks its interrupt hook wherever it waits, a few times a second: see connector.c.
 */
#ifndef HVPY_STOP_H
#define HVPY_STOP_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

/* All fields are guarded by the GIL. */
typedef struct hvpy_stop {
    bool is_wanted;
    struct hvpy_stop *outer; /* of the same thread */
} hvpy_stop;

/* From one to the other the current thread is one that this stop ends. */
void hvpy_stop_enter(hvpy_stop *stop);
void hvpy_stop_leave(const hvpy_stop *stop);

/* Shall the current thread end what it does in the library? */
bool hvpy_stop_is_wanted(void);

/* The class Stop: see _hv.pyi. */
int hvpy_stop_init(PyObject *module);

#endif
