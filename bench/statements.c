/*
 * statements: the statements on entities, with libpq alone and every saving: prepared, in binary.
 */
#include "statements.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const bench_attributes[BENCH_ATTRIBUTES][2] = {
    {"name", "Ada Lovelace"},
    {"email", "ada@analytical.example"},
    {"beep", "boop"},
};

const char *const bench_merged[BENCH_MERGED][2] = {{"beep", "bleep"}};

void bench_die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static const int binary[] = {1, 1};

static void append(bench_body *body, const void *bytes, size_t len) {
    memcpy(body->bytes + body->len, bytes, len);
    body->len += (int) len;
}

static void append_int4(bench_body *body, size_t value) {
    uint32_t wire = htobe32((uint32_t) value);
    append(body, &wire, sizeof wire);
}

static void fill(bench_body *body, const char *const (*attributes)[2], size_t count) {
    *body = (bench_body){.len = 0};
    append_int4(body, count);
    for (size_t i = 0; i < count; i++) {
        for (int part = 0; part < 2; part++) {
            const char *text = attributes[i][part];
            append_int4(body, strlen(text));
            append(body, text, strlen(text));
        }
    }
}

void bench_body_init(bench_body *body) {
    fill(body, bench_attributes, BENCH_ATTRIBUTES);
}

void bench_body_init_merged(bench_body *body) {
    fill(body, bench_merged, BENCH_MERGED);
}

void bench_statement_name(char name[32], const char *verb, int shard) {
    snprintf(name, 32, "%s_%04d", verb, shard);
}

void bench_expect(PGconn *conn, const PGresult *result, ExecStatusType expected) {
    if (PQresultStatus(result) != expected)
        bench_die("%s, not %s: %s", PQresStatus(PQresultStatus(result)), PQresStatus(expected),
                  PQerrorMessage(conn));
}

void bench_prepare(PGconn *conn, const bench_settings *settings, const char *name,
                   const char *sql) {
    for (int i = 0; i < settings->shard_count; i++) {
        char full_name[32], full_sql[512];
        bench_statement_name(full_name, name, settings->first_shard + i);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(full_sql, sizeof full_sql, sql, settings->first_shard + i);
#pragma GCC diagnostic pop
        PGresult *result = PQprepare(conn, full_name, full_sql, 0, NULL);
        bench_expect(conn, result, PGRES_COMMAND_OK);
        PQclear(result);
    }
}

PGconn *bench_connect(const bench_settings *settings) {
    PGconn *conn = PQconnectdb(settings->server);
    if (PQstatus(conn) != CONNECTION_OK)
        bench_die("%s", PQerrorMessage(conn));
    bench_prepare(conn, settings, "put",
                  "INSERT INTO shard%04d.entities (type, body) VALUES ($1, $2) RETURNING id");
    bench_prepare(
        conn, settings, "get",
        "SELECT id, type, body FROM shard%04d.entities WHERE id OPERATOR(pg_catalog.=) $1");
    return conn;
}

int64_t bench_read_int8(const PGresult *result, int row, int column) {
    uint64_t wire;
    if (PQgetlength(result, row, column) != sizeof wire)
        bench_die("no bigint where one was expected");
    memcpy(&wire, PQgetvalue(result, row, column), sizeof wire);
    return (int64_t) be64toh(wire);
}

/* The server orders attributes by length and then by bytes; only their size is compared. */
void bench_expect_entity(const PGresult *result, int row, const bench_body *body) {
    uint16_t kind;
    memcpy(&kind, PQgetvalue(result, row, 1), sizeof kind);
    if (be16toh(kind) != BENCH_KIND || PQgetlength(result, row, 2) != body->len)
        bench_die("a get brought another entity");
}

void bench_put_one(PGconn *conn, const bench_body *body, int shard, int64_t *key) {
    char name[32];
    uint16_t kind = htobe16(BENCH_KIND);
    const char *values[] = {(const char *) &kind, body->bytes};
    const int lengths[] = {sizeof kind, body->len};
    bench_statement_name(name, "put", shard);
    PGresult *result = PQexecPrepared(conn, name, 2, values, lengths, binary, 1);
    bench_expect(conn, result, PGRES_TUPLES_OK);
    *key = bench_read_int8(result, 0, 0);
    PQclear(result);
}

void bench_get_one(PGconn *conn, const bench_body *body, int shard, int64_t key) {
    char name[32];
    uint64_t wire = htobe64((uint64_t) key);
    const char *values[] = {(const char *) &wire};
    const int lengths[] = {sizeof wire};
    bench_statement_name(name, "get", shard);
    PGresult *result = PQexecPrepared(conn, name, 1, values, lengths, binary, 1);
    bench_expect(conn, result, PGRES_TUPLES_OK);
    if (PQntuples(result) != 1 || bench_read_int8(result, 0, 0) != key)
        bench_die("a get brought %d rows", PQntuples(result));
    bench_expect_entity(result, 0, body);
    PQclear(result);
}
