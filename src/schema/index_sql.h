/*
 * index_sql: the statements of jobs that build and drop indexes, and the forms of their answers.
 */
#ifndef HVI_INDEX_SQL_H
#define HVI_INDEX_SQL_H

#include "schema/index.h"
#include "wire/result.h"

/*
 * Append two more columns to a SELECT: is there the table entities, and something with the name of
 * the index? Planning the statement below takes longer than to build the index of a small table,
 * and most shards need no more than this.
 */
void hvi_index_glance_sql(hvi_buffer *sql, const char *schema, const char *name);

/* Both, after the answer about the shard's lock. */
extern const hvi_form hvi_index_glance_form;

/* What has the name of an index in a shard; the parameters are the schema and the name. */
extern const char hvi_index_look_sql[];
extern const hvi_form hvi_index_look_form;

typedef struct hvi_index_found {
    bool has_table;         /* the table entities */
    const char *kind;       /* of the relation with the name, as in pg_class; NULL: none */
    bool is_ours;           /* it is an index of the table entities */
    bool is_valid;          /* and can be used */
    bool is_of_constraint;  /* and a constraint needs it */
    const char *definition; /* as the server prints it */
    const char *name;       /* in quotes, if it needs them */
    const char *builder;    /* what builds it just now, for people; or NULL */
} hvi_index_found;

/* Texts belong to the result. */
hvi_index_found hvi_index_found_of(const PGresult *result);

/* Append a script that makes the functions which the index calls, as far as they are missing. Its
 * answer is the name of one that another role has made, or made differently, or NULL. */
void hvi_index_functions_script(hvi_buffer *sql, const hv_index *index);
extern const hvi_form hvi_index_functions_form;

/*
 * Append a script that looks, for half a minute, for what keeps the index from being built: after a
 * refusal with this SQLSTATE. Its answer is a text for people, "The entity with key 5 has it.", or
 * NULL. False if nothing is to be looked for.
 */
bool hvi_index_search_script(hvi_buffer *sql, const hv_index *index, const char *sqlstate,
                             const char *schema, const char *hstore);
extern const hvi_form hvi_index_search_form;

/* The indexes that are being built on tables of shards: the shard, the phase, how far it is (in
 * thousandths, or NULL), what it waits for, or NULL, and the process that builds it. */
extern const char hvi_index_progress_sql[];
extern const hvi_form hvi_index_progress_form;

#endif
