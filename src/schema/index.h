/*
 * index: the definition of an index on the tables entities, and its SQL; the public functions
 * hv_index_* that need no store.
 *
 * An index that is there is the one that is meant if pg_get_indexdef() prints the same text, with
 * the search_path pg_catalog, which hvi_index_definition() makes.
 */
#ifndef HVI_INDEX_H
#define HVI_INDEX_H

#include "base/buffer.h"

/* Room for a name of PostgreSQL's: NAMEDATALEN, with the NUL. */
#define HVI_INDEX_NAME_LEN 64

struct hv_index {
    struct hvi_index_column {
        char *name; /* the attribute's; owned */
        const struct hvi_index_type *type;
    } * columns; /* owned */
    size_t column_count;
    bool is_all;
    bool is_unique;
    bool has_kind;
    int16_t kind;
    char *name;                      /* as set; owned; NULL: made from the definition */
    hvi_buffer answers;              /* what hv_index_expression() and … */
    char chosen[HVI_INDEX_NAME_LEN]; /* … hv_index_chosen_name() return */
};

/* A copy; hv_index_free() it. NULL if memory is short. */
hv_index *hvi_index_copy(const hv_index *index);

/* Is it a definition that can be built? HV_INVALID if not. */
hv_status hvi_index_check(const hv_index *index, hv_error **error);

/* HV_INVALID unless it may be an index's name. */
hv_status hvi_index_check_name(const char *name, hv_error **error);

/* Append the statement that builds it. `hstore` is hstore's schema, quoted. */
void hvi_index_create_sql(hvi_buffer *sql, hv_index *index, const char *schema, const char *hstore);

/* Append what pg_get_indexdef() prints for it. `name` is its name, and `schema` the table's, as
 * quote_ident() prints them. */
void hvi_index_definition(hvi_buffer *text, const hv_index *index, const char *name,
                          const char *schema, const char *hstore);

/* Append the expression of one of its columns, or all of them with commas between, without the key.
 */
void hvi_index_column_sql(hvi_buffer *sql, const hv_index *index, size_t column,
                          const char *hstore);
void hvi_index_columns_sql(hvi_buffer *sql, const hv_index *index, const char *hstore);

/* Append the condition of which entities are in it: "type OPERATOR(pg_catalog.=) …", or "true". */
void hvi_index_condition_sql(hvi_buffer *sql, const hv_index *index);

/*
 * The functions in the schema hypervault that it calls: NULL past the end. `name` is without
 * schema, and `body` PL/pgSQL; its parameter is a text called `value`.
 */
typedef struct hvi_index_function {
    const char *name;
    const char *returns;
    const char *body;
} hvi_index_function;

const hvi_index_function *hvi_index_function_at(const hv_index *index, size_t place);

/* Append the statement that makes one. */
void hvi_index_function_sql(hvi_buffer *sql, const hvi_index_function *function);

#endif
