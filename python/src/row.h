/*
 * row: an entity as psycopg2's DictRow: row[0] is row['id'], row[1] row['type'], row[2]
 * row['body'].
 */
#ifndef HVPY_ROW_H
#define HVPY_ROW_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>

int hvpy_row_init(void);

PyObject *hvpy_row_new(int64_t key, int kind, const hv_dict *dict);

#endif
