/*
 * where: a selection as SQL: the conditions of a WHERE clause, and their parameters.
 *
 * The conditions are on the columns id, type and body of a table of entities, unqualified. Their
 * text depends on the shape of the selection, the names of attributes, and the schema of hstore,
 * but on no value: so pages of one find, and finds that differ by values alone, have the same text.
 * Names are literals, since an index on (body -> 'user') fits no statement in which the name is a
 * parameter. So is the only kind of a selection with conditions on attributes: an index on an
 * attribute may be one of the entities of this kind alone.
 */
#ifndef HVI_WHERE_H
#define HVI_WHERE_H

#include "value/selection.h"
#include "wire/parameters.h"

/*
 * Append the conditions, without WHERE: "true AND id >= $1 AND id <= $2 AND …".
 * An end of the range that excludes no key is left out: the server would compare it with each row
 * of the index. `hstore_schema` is the session's. The first parameter is $1.
 */
void hvi_where_sql(hvi_buffer *sql, const hv_selection *selection, hvi_key_range range,
                   const char *hstore_schema);

/* Append the parameters of these conditions, to none. What a statement adds begins with
 * $(parameters->count + 1). */
void hvi_where_parameters(hvi_parameters *parameters, const hv_selection *selection,
                          hvi_key_range range);

/* How many parameters these are. */
int hvi_where_parameter_count(const hv_selection *selection, hvi_key_range range);

/* Append that the column, or any expression, is one of the selection's kinds, of which there are
 * some: the parameter with this number. */
void hvi_where_kinds_sql(hvi_buffer *sql, const hv_selection *selection, const char *column,
                         int parameter);

#endif
