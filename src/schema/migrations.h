/*
 * migrations: the struct hv_migrations: a directory of SQL files, in the order of their numbers.
 */
#ifndef HVI_MIGRATIONS_H
#define HVI_MIGRATIONS_H

#include "base/sha256.h"
#include "schema/script.h"

typedef struct hvi_migration {
    int64_t number; /* 1 or more */
    char digest[HVI_SHA256_LEN];
    hvi_sql sql; /* its name is the file's */
} hvi_migration;

struct hv_migrations {
    char *directory;      /* owned */
    hvi_migration *files; /* owned; in ascending order */
    size_t count;
};

/* The file with this number, or NULL. */
const hvi_migration *hvi_migrations_find(const hv_migrations *migrations, int64_t number);

/* What a statement does CONCURRENTLY, as far as an interrupted one leaves something behind. */
typedef enum hvi_concurrent {
    HVI_CONCURRENT_NOT,
    HVI_CONCURRENT_CREATE,  /* CREATE [UNIQUE] INDEX CONCURRENTLY: the index, and its table */
    HVI_CONCURRENT_DROP,    /* DROP INDEX CONCURRENTLY: the index */
    HVI_CONCURRENT_REINDEX, /* REINDEX … CONCURRENTLY: the index or table */
} hvi_concurrent;

/* Names as they are in the statement, with a schema if it has one: "shard0012".entities. They are
 * in the text; `len` 0: none. */
typedef struct hvi_concurrently {
    hvi_concurrent what;
    bool is_index; /* REINDEX INDEX, otherwise TABLE or SCHEMA */
    bool is_schema;
    const char *index;
    size_t index_len;
    const char *table;
    size_t table_len;
} hvi_concurrently;

/* Read one statement, in which @shard is replaced already. */
hvi_concurrently hvi_concurrently_read(const char *statement, size_t len);

#endif
