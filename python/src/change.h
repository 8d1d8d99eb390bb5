/*
 * change: the changes of an entity, replace, merge, increment and delete: their arguments, their
 * results, and the class Change, which holds one until it is made.
 */
#ifndef HVPY_CHANGE_H
#define HVPY_CHANGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>
#include <stdbool.h>

#include "attributes.h"

/* The arguments of a condition, for the signatures of methods. */
#define HVPY_CONDITION "if_=None, if_absent=(), if_kind=None, if_version=None"

/* A change for the library, with all that it points to. */
typedef struct hvpy_change {
    hv_change change;
    hv_dict *dict;
    hvpy_names remove;
    PyObject *attribute, *amount; /* text */
    hv_condition *condition;
    size_t size; /* the number of bytes of attributes and texts */
} hvpy_change;

int hvpy_change_init(PyObject *module);

/*
 * Make a change of the arguments of the method of this type, for hvpy_change_free(). Returns false
 * with an exception.
 */
bool hvpy_change_parse(hv_change_type type, PyObject *const *args, Py_ssize_t count,
                       PyObject *keywords, hvpy_change *change);
void hvpy_change_free(hvpy_change *change);

/* The change of a Change, which lives as long. Returns NULL with an exception for another object.
 */
const hvpy_change *hvpy_change_of(PyObject *object);

/*
 * The result of a change that was answered: for HV_OK True, or the new value; for HV_NOT_FOUND
 * False, or None; for HV_CHANGED a ChangedError, which is not raised. NULL with an exception.
 */
PyObject *hvpy_change_result(hv_change_type type, hv_status status, int64_t key, int64_t epoch,
                             const hv_entity *entity);

#endif
