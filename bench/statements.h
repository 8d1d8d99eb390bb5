/*
 * statements: the statements on entities, with libpq alone and every saving: prepared, in binary.
 */
#ifndef BENCH_STATEMENTS_H
#define BENCH_STATEMENTS_H

#include <libpq-fe.h>

#include "contender.h"

/* Attributes in hstore's binary form. */
typedef struct bench_body {
    char bytes[256];
    int len;
} bench_body;
void bench_body_init(bench_body *body); /* the entity's */
void bench_body_init_merged(bench_body *body);

/* Open a connection on which the statements of every shard are prepared; NAME_0012 is shard
 * 12's. */
PGconn *bench_connect(const bench_settings *settings);
/* Prepare NAME_0012 … from `sql`, which has one %04d for the shard. */
void bench_prepare(PGconn *conn, const bench_settings *settings, const char *name, const char *sql);
void bench_statement_name(char name[32], const char *verb, int shard);

/* End the program unless the result has this status. */
void bench_expect(PGconn *conn, const PGresult *result, ExecStatusType expected);
/* The same for one row of a get, which must be the entity that was put. */
void bench_expect_entity(const PGresult *result, int row, const bench_body *body);

int64_t bench_read_int8(const PGresult *result, int row, int column);

/* Run "put" or "get" on one connection and wait for the answer. */
void bench_put_one(PGconn *conn, const bench_body *body, int shard, int64_t *key);
void bench_get_one(PGconn *conn, const bench_body *body, int shard, int64_t key);

#endif
