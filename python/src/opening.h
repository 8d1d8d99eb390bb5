/*
 * opening: a psycopg2 connection that is opened by a thread of its own.
 *
 * psycopg2.connect() can neither be interrupted nor be given a time-out of less than two seconds,
 * and an event loop cannot wait for it. So a thread calls it, and is left alone when it takes too
 * long.
 */
#ifndef HVPY_OPENING_H
#define HVPY_OPENING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>

int hvpy_opening_init(void);

/* Close a psycopg2 connection, even if its class overrides close(). Returns NULL with an
 * exception. */
PyObject *hvpy_close_connection(PyObject *connection);

/*
 * hv_connector's start, finish and give_up. They run no Python byte code in the calling thread, so
 * no signal handler can run in them. Called with the GIL.
 */
hv_status hvpy_opening_start(PyObject *connector, const char *const *keywords,
                             const char *const *values, int64_t timeout, void **attempt, int *fd,
                             char *message, size_t message_size);
hv_status hvpy_opening_finish(void *attempt, PyObject **connection, char *message,
                              size_t message_size, char sqlstate[6]);
void hvpy_opening_give_up(void *attempt);

#endif
