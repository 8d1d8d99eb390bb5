/*
 * finder_libpq: the same entities with libpq alone, prepared and in binary: of one table; of one
 * shard after the other, or with one statement for each server at the same time, merged by hand; or
 * with COPY, in no order.
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "finder.h"

typedef struct libpq_finder {
    const finder_settings *settings;
    PGconn *conns[FINDER_SERVERS];
    PGresult **pages; /* loop: of each shard; union: of each server */
    int *places;      /* the row of each page that is its next */
} libpq_finder;

/* ---- connections and statements ---- */

static const int binary[] = {1};

static PGconn *connection(libpq_finder *mine, int shard) {
    return mine->conns[(shard - 1) % FINDER_SERVERS];
}

/* Append the SELECT of a table's newest rows. */
static void append_newest(const libpq_finder *mine, char *sql, const char *table) {
    sprintf(
        sql + strlen(sql), "(SELECT id, type, body FROM %s %s ORDER BY id DESC LIMIT %d)", table,
        mine->settings->users > 0
            ? "WHERE (body OPERATOR(public.->) 'user'::pg_catalog.text) OPERATOR(pg_catalog.=) $1"
            : "",
        mine->settings->limit);
}

static void prepare(PGconn *conn, const char *name, const char *sql) {
    PGresult *result = PQprepare(conn, name, sql, 0, NULL);
    bench_expect(conn, result, PGRES_COMMAND_OK);
    PQclear(result);
}

static void prepare_newest(libpq_finder *mine, PGconn *conn, const char *name, const char *table) {
    char sql[512] = "";
    append_newest(mine, sql, table);
    prepare(conn, name, sql);
}

static void *open_connections(const finder_settings *settings) {
    libpq_finder *mine = calloc(1, sizeof *mine);
    mine->settings = settings;
    size_t pages = (size_t) settings->shards + FINDER_SERVERS;
    mine->pages = calloc(pages, sizeof *mine->pages);
    mine->places = calloc(pages, sizeof *mine->places);
    for (int i = 0; i < FINDER_SERVERS; i++) {
        mine->conns[i] = PQconnectdb(settings->server[i]);
        if (PQstatus(mine->conns[i]) != CONNECTION_OK)
            bench_die("%s", PQerrorMessage(mine->conns[i]));
    }
    return mine;
}

static void close_connections(void *own) {
    libpq_finder *mine = own;
    for (int i = 0; i < FINDER_SERVERS; i++)
        PQfinish(mine->conns[i]);
    free(mine->pages);
    free(mine->places);
    free(mine);
}

static PGresult *run(PGconn *conn, const char *name, const char *user) {
    const char *values[] = {user};
    const int lengths[] = {user != NULL ? (int) strlen(user) : 0};
    PGresult *result = PQexecPrepared(conn, name, user != NULL, values, lengths, binary, 1);
    bench_expect(conn, result, PGRES_TUPLES_OK);
    return result;
}

static int64_t attributes(const PGresult *result, int row) {
    uint32_t wire;
    memcpy(&wire, PQgetvalue(result, row, 2), sizeof wire);
    return be32toh(wire);
}

/* ---- one table ---- */

static void *open_table(const finder_settings *settings) {
    libpq_finder *mine = open_connections(settings);
    prepare_newest(mine, mine->conns[0], "newest", "one.entities");
    return mine;
}

static void table_newest(void *own, const char *user, finder_found *found) {
    libpq_finder *mine = own;
    PGresult *result = run(mine->conns[0], "newest", user);
    int64_t last = 0;
    for (int row = 0; row < PQntuples(result); row++) {
        finder_see(mine->settings, found, &last, bench_read_int8(result, row, 0));
        found->attributes += attributes(result, row);
    }
    PQclear(result);
}

const finder_way finder_table = {
    .name = "table",
    .open = open_table,
    .close = close_connections,
    .newest = table_newest,
};

/* ---- one shard after the other ---- */

static void *open_loop(const finder_settings *settings) {
    libpq_finder *mine = open_connections(settings);
    for (int shard = 1; shard <= settings->shards; shard++) {
        char name[32], table[32];
        bench_statement_name(name, "newest", shard);
        snprintf(table, sizeof table, "shard%04d.entities", shard);
        prepare_newest(mine, connection(mine, shard), name, table);
    }
    return mine;
}

/* See the newest rows of so many pages, and free these. */
static void merge(libpq_finder *mine, int pages, finder_found *found) {
    const finder_settings *settings = mine->settings;
    int64_t last = 0;
    while (found->rows < settings->limit) {
        int best = -1;
        int64_t highest = 0;
        for (int i = 0; i < pages; i++) {
            if (mine->places[i] == PQntuples(mine->pages[i]))
                continue;
            int64_t key = bench_read_int8(mine->pages[i], mine->places[i], 0);
            if (best < 0 || key > highest) {
                best = i;
                highest = key;
            }
        }
        if (best < 0)
            break;
        finder_see(settings, found, &last, highest);
        found->attributes += attributes(mine->pages[best], mine->places[best]++);
    }
    for (int i = 0; i < pages; i++) {
        PQclear(mine->pages[i]);
        mine->places[i] = 0;
    }
}

static void loop_newest(void *own, const char *user, finder_found *found) {
    libpq_finder *mine = own;
    for (int i = 0; i < mine->settings->shards; i++) {
        char name[32];
        bench_statement_name(name, "newest", i + 1);
        mine->pages[i] = run(connection(mine, i + 1), name, user);
    }
    merge(mine, mine->settings->shards, found);
}

const finder_way finder_loop = {
    .name = "loop",
    .open = open_loop,
    .close = close_connections,
    .newest = loop_newest,
};

/* ---- one statement for each server, at the same time ---- */

static int servers_of(const finder_settings *settings) {
    return settings->shards < FINDER_SERVERS ? settings->shards : FINDER_SERVERS;
}

static void *open_union(const finder_settings *settings) {
    libpq_finder *mine = open_connections(settings);
    for (int server = 0; server < servers_of(settings); server++) {
        char *sql = calloc((size_t) settings->shards + 1, 256), table[32];
        strcpy(sql, "SELECT id, type, body FROM (");
        for (int shard = server + 1; shard <= settings->shards; shard += FINDER_SERVERS) {
            if (shard > FINDER_SERVERS)
                strcat(sql, " UNION ALL ");
            snprintf(table, sizeof table, "shard%04d.entities", shard);
            append_newest(mine, sql, table);
        }
        sprintf(sql + strlen(sql), ") AS page ORDER BY id DESC LIMIT %d", settings->limit);
        prepare(mine->conns[server], "newest", sql);
        free(sql);
    }
    return mine;
}

static void union_newest(void *own, const char *user, finder_found *found) {
    libpq_finder *mine = own;
    int servers = servers_of(mine->settings);
    const char *values[] = {user};
    const int lengths[] = {user != NULL ? (int) strlen(user) : 0};
    for (int i = 0; i < servers; i++)
        if (!PQsendQueryPrepared(mine->conns[i], "newest", user != NULL, values, lengths, binary,
                                 1))
            bench_die("%s", PQerrorMessage(mine->conns[i]));
    for (int i = 0; i < servers; i++) {
        mine->pages[i] = PQgetResult(mine->conns[i]);
        bench_expect(mine->conns[i], mine->pages[i], PGRES_TUPLES_OK);
        PQclear(PQgetResult(mine->conns[i]));
    }
    merge(mine, servers, found);
}

const finder_way finder_union = {
    .name = "union",
    .open = open_union,
    .close = close_connections,
    .newest = union_newest,
};

/* ---- COPY ---- */

/* After the header, each row is one message: the number of columns, then each one's length and
 * bytes. The last two bytes are −1 instead. */
#define COPY_HEADER 19

static void copy_shard(PGconn *conn, int shard, finder_found *found) {
    char sql[128], *message;
    snprintf(sql, sizeof sql, "COPY shard%04d.entities (id, type, body) TO STDOUT (FORMAT binary)",
             shard);
    PGresult *result = PQexec(conn, sql);
    bench_expect(conn, result, PGRES_COPY_OUT);
    PQclear(result);
    int len, start = COPY_HEADER;
    while ((len = PQgetCopyData(conn, &message, 0)) > 0) {
        if (len >= start + 14) {
            uint64_t key;
            memcpy(&key, message + start + 6, sizeof key);
            found->keys += be64toh(key);
            found->rows++;
        }
        start = 0;
        PQfreemem(message);
    }
    result = PQgetResult(conn);
    bench_expect(conn, result, PGRES_COMMAND_OK);
    PQclear(result);
    PQclear(PQgetResult(conn));
}

static void copy_all(void *own, finder_found *found) {
    libpq_finder *mine = own;
    for (int shard = 1; shard <= mine->settings->shards; shard++)
        copy_shard(connection(mine, shard), shard, found);
}

const finder_way finder_copy = {
    .name = "copy",
    .open = open_connections,
    .close = close_connections,
    .all = copy_all,
};
