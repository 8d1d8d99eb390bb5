/*
 * module: the extension module hv._hv: its classes, and functions that need no store.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>
#include <hypervault.h>
#include <libpq-fe.h>

#include "change.h"
#include "connector.h"
#include "counts.h"
#include "cursor.h"
#include "each.h"
#include "error.h"
#include "handler.h"
#include "key.h"
#include "lend.h"
#include "load.h"
#include "move.h"
#include "opening.h"
#include "queue.h"
#include "reader.h"
#include "rollout.h"
#include "row.h"
#include "scan.h"
#include "stop.h"
#include "store.h"
#include "threads.h"
#include "transaction.h"
#include "work.h"

static PyObject *options(PyObject *module, PyObject *args) {
    (void) module;
    (void) args;
    PyObject *list = PyList_New(0);
    hv_option_info info;
    for (size_t i = 0; list != NULL && hv_option_at(i, &info); i++) {
        PyObject *option =
            Py_BuildValue("{s:s,s:s,s:s,s:s,s:s}", "name", info.name, "type", info.type, "default",
                          info.default_value, "range", info.range, "help", info.help);
        if (option == NULL || PyList_Append(list, option) < 0)
            Py_CLEAR(list);
        Py_XDECREF(option);
    }
    return list;
}

/* ---- libpq ---- */

static PyObject *libpq_version(PyObject *module, PyObject *args) {
    (void) module;
    (void) args;
    return PyLong_FromLong(PQlibVersion());
}

/* The path of the file that contains a function of libpq, or None. */
static PyObject *file_of(void *function) {
    Dl_info info;
    if (function == NULL || dladdr(function, &info) == 0 || info.dli_fname == NULL)
        Py_RETURN_NONE;
    return PyUnicode_DecodeFSDefault(info.dli_fname);
}

static PyObject *libpq_file(PyObject *module, PyObject *args) {
    (void) module;
    (void) args;
    return file_of((void *) PQlibVersion);
}

/* The libpq that a loaded object uses: the one that it finds among the libraries it was linked
 * with. */
static PyObject *libpq_file_of(PyObject *module, PyObject *args) {
    (void) module;
    PyObject *path;
    if (!PyArg_ParseTuple(args, "O&:libpq_file_of", PyUnicode_FSConverter, &path))
        return NULL;
    void *object = dlopen(PyBytes_AS_STRING(path), RTLD_LAZY | RTLD_NOLOAD);
    Py_DECREF(path);
    if (object == NULL)
        Py_RETURN_NONE;
    PyObject *file = file_of(dlsym(object, "PQlibVersion"));
    dlclose(object);
    return file;
}

/* ---- the module ---- */

static PyMethodDef functions[] = {
    {"options", options, METH_NOARGS,
     "options($module)\n--\n\nThe options of a store: a list of dicts."},
    {"key_bound", (PyCFunction) (void (*)(void)) hvpy_key_bound, METH_VARARGS | METH_KEYWORDS,
     hvpy_key_bound_doc},
    {"libpq_version", libpq_version, METH_NOARGS,
     "libpq_version($module)\n--\n\nThe version of libpq, as psycopg2.extensions.libpq_version()."},
    {"libpq_file", libpq_file, METH_NOARGS,
     "libpq_file($module)\n--\n\nThe libpq that this module uses."},
    {"libpq_file_of", libpq_file_of, METH_VARARGS,
     "libpq_file_of($module, path, /)\n--\n\nThe libpq that another loaded module uses, or None."},
    {"refusal", hvpy_refusal, METH_VARARGS,
     "refusal($module, parameters, timeout, /)\n--\n\n"
     "Connect once to learn why the server refuses: return (message, SQLSTATE), or None if it\n"
     "does not refuse."},
    {"in_transaction", (PyCFunction) (void (*)(void)) hvpy_transaction_guard,
     METH_FASTCALL | METH_KEYWORDS, hvpy_transaction_guard_doc},
    {"end", hvpy_threads_end, METH_NOARGS,
     "end($module)\n--\n\n"
     "Wait, for a second at most, for the threads that open connections. No more are started."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hv._hv",
    .m_doc = "The C part of hv, which hv.datastore and hv.entity are built on.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__hv(void);

PyMODINIT_FUNC PyInit__hv(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    if (PyModule_AddStringConstant(module, "__version__", hv_version()) < 0 ||
        hvpy_errors_init(module) < 0 || hvpy_key_init(module) < 0 || hvpy_row_init() < 0 ||
        hvpy_change_init(module) < 0 || hvpy_threads_init() < 0 || hvpy_handler_init() < 0 ||
        hvpy_opening_init() < 0 || hvpy_lend_init(module) < 0 || hvpy_cursor_init(module) < 0 ||
        hvpy_store_init(module) < 0 || hvpy_queue_init(module) < 0 || hvpy_scan_init(module) < 0 ||
        hvpy_load_init(module) < 0 || hvpy_move_init(module) < 0 || hvpy_reader_init(module) < 0 ||
        hvpy_counts_init() < 0 || hvpy_transaction_init(module) < 0 || hvpy_stop_init(module) < 0 ||
        hvpy_rollout_init() < 0 || hvpy_each_init(module) < 0 || hvpy_work_init() < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
