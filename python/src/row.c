/*
 * row: an entity as a hv.entity.Row, which is a psycopg2 DictRow: row[0] is row['id'], row[1]
 * row['type'], row[2] row['body'].
 *
 * A DictRow is a list with a map from the columns' names to their places, which it takes from its
 * cursor when it is made. Here one row is made with an object that looks like a cursor, and the
 * others share that row's map.
 */
#include "row.h"

#include "attributes.h"

static PyTypeObject *row_type;  /* hv.entity.Row */
static PyObject *no_arguments;  /* () */
static PyObject *columns;       /* its _index: {'id': 0, 'type': 1, 'body': 2} */
static PyObject *columns_field; /* "_index" */
static PyObject *version_field; /* "_version" */

/* Get the value that psycopg2's own way of making a row leaves in the field `_index`. */
static PyObject *columns_of(PyObject *index) {
    PyObject *types = PyImport_ImportModule("types");
    PyObject *namespace = types == NULL ? NULL : PyObject_GetAttrString(types, "SimpleNamespace");
    PyObject *fields =
        Py_BuildValue("{s:O,s:(OOO)}", "index", index, "description", Py_None, Py_None, Py_None);
    PyObject *cursor =
        namespace == NULL || fields == NULL ? NULL : PyObject_Call(namespace, no_arguments, fields);
    PyObject *row =
        cursor == NULL ? NULL : PyObject_CallFunctionObjArgs((PyObject *) row_type, cursor, NULL);
    PyObject *found = row == NULL ? NULL : PyObject_GetAttr(row, columns_field);
    Py_XDECREF(types);
    Py_XDECREF(namespace);
    Py_XDECREF(fields);
    Py_XDECREF(cursor);
    Py_XDECREF(row);
    return found;
}

int hvpy_row_init(void) {
    PyObject *module = PyImport_ImportModule("hv._row");
    if (module == NULL)
        return -1;
    row_type = (PyTypeObject *) PyObject_GetAttrString(module, "Row");
    Py_DECREF(module);
    no_arguments = PyTuple_New(0);
    columns_field = PyUnicode_InternFromString("_index");
    version_field = PyUnicode_InternFromString("_version");
    if (row_type == NULL || no_arguments == NULL || columns_field == NULL || version_field == NULL)
        return -1;
    if (!PyType_Check((PyObject *) row_type) || !PyType_IsSubtype(row_type, &PyList_Type)) {
        PyErr_SetString(PyExc_ImportError, "psycopg2.extras.DictRow is not a list any more");
        return -1;
    }
    PyObject *index = Py_BuildValue("{s:i,s:i,s:i}", "id", 0, "type", 1, "body", 2);
    columns = index == NULL ? NULL : columns_of(index);
    Py_XDECREF(index);
    return columns == NULL ? -1 : 0;
}

/* Append a value, whose reference is stolen. */
static int append(PyObject *row, PyObject *value) {
    int result = value == NULL ? -1 : PyList_Append(row, value);
    Py_XDECREF(value);
    return result;
}

static int set_version(PyObject *row, const char *version) {
    PyObject *text = PyUnicode_FromString(version);
    int result = text == NULL ? -1 : PyObject_SetAttr(row, version_field, text);
    Py_XDECREF(text);
    return result;
}

PyObject *hvpy_row_new(int64_t key, int kind, const hv_dict *dict, const char *version) {
    PyObject *row = row_type->tp_new(row_type, no_arguments, NULL);
    if (row == NULL)
        return NULL;
    if (append(row, PyLong_FromLongLong(key)) < 0 || append(row, PyLong_FromLong(kind)) < 0 ||
        append(row, hvpy_attributes_to_python(dict)) < 0 ||
        PyObject_SetAttr(row, columns_field, columns) < 0 ||
        (version != NULL && set_version(row, version) < 0))
        Py_CLEAR(row);
    return row;
}

PyObject *hvpy_row_of(const hv_entity *entity) {
    if (entity == NULL)
        Py_RETURN_NONE;
    return hvpy_row_new(hv_entity_key(entity), hv_entity_kind(entity), hv_entity_dict(entity),
                        hv_entity_version(entity));
}
