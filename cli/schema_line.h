/*
 * schema_line: what `hv status` says of the schemas of all shards: are they alike, and do they have
 * all migrations?
 */
#ifndef SCHEMA_LINE_H
#define SCHEMA_LINE_H

#include "hypervault.h"
#include "ledger_view.h"

struct json_t;

typedef struct schema_line {
    hv_status status; /* of the comparison */
    hv_error *error;  /* owned, as all here */
    size_t groups;    /* of shards that are alike */
    size_t shards;    /* in all groups */
    size_t different; /* those that are not in the largest group */
    size_t unread;    /* shards */
    bool has_migrations;
    hv_error *migrations_error; /* NULL: none */
    ledger_counts ledgers;
} schema_line;

/* Compare these shards, "1-9,12"; `migrations`: a directory, or NULL. */
void schema_line_ask(schema_line *line, hv_store *store, const char *shards,
                     const char *migrations);
void schema_line_fini(schema_line *line);

void schema_line_print(const schema_line *line);

/* Add the members "schemas" and "migrations". */
void schema_line_add(const schema_line *line, struct json_t *object);

#endif
