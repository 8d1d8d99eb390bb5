/*
 * locate: the store's methods that ask the servers where shards are.
 */
#include "locate.h"

#include "error.h"
#include "threads.h"

static hvpy_store *store_of(PyObject *object) {
    return (hvpy_store *) object;
}

/* None, or the exception of a failure. Leaves the store. */
static PyObject *end(hvpy_store *self, hv_status status, hv_error *error) {
    hvpy_store_leave(self);
    if (status != HV_OK)
        return hvpy_raise(status, error);
    if (PyErr_Occurred() != NULL) /* a signal's handler raised it too late to stop the call */
        return NULL;
    Py_RETURN_NONE;
}

const char hvpy_locate_shards_doc[] =
    "locate_shards($self)\n--\n\n"
    "Ask all servers at once which shards they hold, and follow what they say. A store with\n"
    "``shards='auto'`` does that by itself when it is opened, and when a shard is used that has "
    "no\n"
    "server. If a server cannot be asked, its error is raised; what the others say counts all the\n"
    "same.";

PyObject *hvpy_locate_shards(PyObject *object, PyObject *unused) {
    (void) unused;
    hvpy_store *self = store_of(object);
    hv_error *error = NULL;
    hv_status status;
    if (!hvpy_store_enter(self))
        return NULL;
    HVPY_BEGIN_LIBRARY
    status = hv_locate_shards(self->store, &error);
    HVPY_END_LIBRARY
    return end(self, status, error);
}

const char hvpy_locate_config_write_doc[] =
    "config_write($self, path=None)\n--\n\n"
    "Ask all servers which shards they hold, and write that into a configuration file, as\n"
    "`hv config --write` does; without a path into the one that from_config() would find. Only\n"
    "lines with ``shards`` change. If a server cannot be asked, or two of them claim a shard,\n"
    "DatastoreError is raised and the file stays as it is.";

PyObject *hvpy_locate_config_write(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"path", NULL};
    hvpy_store *self = store_of(object);
    PyObject *path = Py_None, *file = NULL;
    hv_error *error = NULL;
    hv_status status;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:config_write", names, &path) ||
        (path != Py_None && !PyUnicode_FSConverter(path, &file)))
        return NULL;
    if (!hvpy_store_enter(self)) {
        Py_XDECREF(file);
        return NULL;
    }
    const char *name = file != NULL ? PyBytes_AS_STRING(file) : NULL;
    HVPY_BEGIN_LIBRARY
    status = hv_config_write(self->store, name, &error);
    HVPY_END_LIBRARY
    Py_XDECREF(file);
    return end(self, status, error);
}
