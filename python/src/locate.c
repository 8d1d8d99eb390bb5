/*
 * locate: the store's methods that ask the servers where shards are, and whether they can move.
 */
#include "locate.h"

#include <string.h>

#include "arguments.h"
#include "error.h"
#include "report.h"
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

/* ---- doctor ---- */

const char hvpy_locate_doctor_doc[] =
    "doctor($self, source=None, target=None, shard_id=None)\n--\n\n"
    "Find out what would keep shards from moving, as `hv doctor` does: a list of dicts with\n"
    "``severity`` ('error', 'warning' or 'note'), ``server``, ``text``, and, if there is one,\n"
    "``source`` (the other server of a pair), ``shard``, ``detail`` and ``hint``. ``source`` and\n"
    "``target`` are names of servers, all by default. Nothing is changed.";

static bool add_text(PyObject *found, const char *name, const char *text) {
    if (text == NULL)
        return true;
    PyObject *value = PyUnicode_DecodeUTF8(text, (Py_ssize_t) strlen(text), "replace");
    bool ok = value != NULL && PyDict_SetItemString(found, name, value) == 0;
    Py_XDECREF(value);
    return ok;
}

static PyObject *finding_from(const hv_finding *finding) {
    PyObject *found = PyDict_New();
    bool ok = found != NULL && add_text(found, "severity", hv_severity_name(finding->severity)) &&
              add_text(found, "server", finding->server) &&
              add_text(found, "source", finding->other) && add_text(found, "text", finding->text) &&
              add_text(found, "detail", finding->detail) && add_text(found, "hint", finding->hint);
    if (ok && finding->shard >= 0) {
        PyObject *shard = PyLong_FromLong(finding->shard);
        ok = shard != NULL && PyDict_SetItemString(found, "shard", shard) == 0;
        Py_XDECREF(shard);
    }
    if (!ok)
        Py_CLEAR(found);
    return found;
}

static PyObject *list_from(const hv_findings *findings) {
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < hv_findings_count(findings); i++) {
        PyObject *found = finding_from(hv_findings_at(findings, i));
        if (found == NULL || PyList_Append(list, found) < 0)
            Py_CLEAR(list);
        Py_XDECREF(found);
    }
    return list;
}

/* The number of a server by its name; -1: all. Enters and leaves the store. */
static bool number_from(hvpy_store *self, PyObject *name, int *number) {
    int end;
    *number = -1;
    if (name == Py_None)
        return true;
    if (!hvpy_report_servers_from(self, name, number, &end))
        return false;
    hvpy_store_leave(self);
    return true;
}

PyObject *hvpy_locate_doctor(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"source", "target", "shard_id", NULL};
    hvpy_store *self = store_of(object);
    PyObject *source = Py_None, *target = Py_None, *shard = Py_None, *list = NULL;
    int from, to, number = -1;
    hv_findings *findings = NULL;
    hv_error *error = NULL;
    hv_status status;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO:doctor", names, &source, &target,
                                     &shard) ||
        !number_from(self, source, &from) || !number_from(self, target, &to) ||
        (shard != Py_None && (number = hvpy_int_from(shard)) == -1 && PyErr_Occurred() != NULL) ||
        !hvpy_store_enter(self))
        return NULL;
    HVPY_BEGIN_LIBRARY
    status = hv_doctor(self->store, from, to, number, &findings, &error);
    HVPY_END_LIBRARY
    hvpy_store_leave(self);
    if (status != HV_OK)
        return hvpy_raise(status, error);
    if (PyErr_Occurred() == NULL)
        list = list_from(findings);
    hv_findings_free(findings);
    return list;
}
