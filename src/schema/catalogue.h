/*
 * catalogue: what the schemas of shards consist of, as lines of text.
 *
 * A description has a line for each thing, and several for a function's or a view's text:
 *
 *     column entities.body public.hstore not null, number 3
 *     function next_id(OUT result bigint) |     SELECT …
 *
 * Shards that are alike have the same description: the lines are in an order that no setting
 * changes, "@shard" stands in place of the schema's name, and no object's number (OID) is in it.
 * Left out are the ledger of migrations, comments, and what the server keeps for itself:
 * statistics, the values of sequences, the sizes and places of files.
 */
#ifndef HVI_CATALOGUE_H
#define HVI_CATALOGUE_H

#include "base/buffer.h"
#include "wire/result.h"

/* The statement that reads the schemas of some shards. Its parameter is made by the function. */
extern const char hvi_catalogue_sql[];
void hvi_catalogue_parameter(hvi_buffer *parameter, const int *shards, size_t count);

/* Check an answer. Errors: HV_CORRUPT. */
hv_status hvi_catalogue_check(const PGresult *result, const char *server, hv_error **error);

/* Append the description of one of those shards: nothing if its schema is missing. */
void hvi_catalogue_describe(const PGresult *result, int shard, hvi_buffer *description);

/* Append a text with "@shard" in place of the shard's schema, where that is a word. */
void hvi_catalogue_generalize(hvi_buffer *to, const char *text, int shard);

#endif
