/*
 * report: the store's methods that report on servers, shards and pools, and that make shards.
 */
#ifndef HVPY_REPORT_H
#define HVPY_REPORT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "store.h"

/*
 * For a method whose argument is a server's name, or None or NULL for all servers: sets *first and
 * *end to the range of the servers' numbers (*end is not in it), and enters the store. Returns
 * false with an exception.
 */
bool hvpy_report_servers_from(hvpy_store *self, PyObject *name, int *first, int *end);

PyObject *hvpy_report_servers(PyObject *self, void *closure);
PyObject *hvpy_report_server_of(PyObject *self, PyObject *shard);
PyObject *hvpy_report_where(PyObject *self, PyObject *shard);
PyObject *hvpy_report_shard_of(PyObject *self, PyObject *value);
PyObject *hvpy_report_spread(PyObject *self, void *closure);
PyObject *hvpy_report_shards(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *hvpy_report_pool_stats(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *hvpy_report_create_shards(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *hvpy_report_inspect(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *hvpy_report_inspect_all(PyObject *self, PyObject *unused);

#endif
