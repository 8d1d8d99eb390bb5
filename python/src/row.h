/*
 * row: an entity as a hv.entity.Row, which is a psycopg2 DictRow: row[0] is row['id'], row[1]
 * row['type'], row[2] row['body'].
 */
#ifndef HVPY_ROW_H
#define HVPY_ROW_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>

int hvpy_row_init(void);

/* Make a row. `version` NULL: it has none. */
PyObject *hvpy_row_new(int64_t key, int kind, const hv_dict *dict, const char *version);

/* Make a row of an entity, or None of NULL. */
PyObject *hvpy_row_of(const hv_entity *entity);

#endif
