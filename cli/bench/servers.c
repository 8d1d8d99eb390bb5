/*
 * servers: check the servers before a run, and remove the entities that it has put.
 */
#include "bench/servers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench/clock.h"
#include "bench/errors.h"
#include "bench/usage.h"
#include "servers/servers.h"
#include "servers/sql.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* How long before the run its entities may seem to be made: clocks step back. */
#define CLOCK_MARGIN_MS 60000
/* How many entities one statement removes at most. */
#define CHUNK_ENTITIES 5000
#define CHUNK_BYTES    (INT64_C(16) << 20)
/* How long to try to reach a server before giving up on its entities. */
#define RETRY_MS 3000
#define PAUSE_MS 200

typedef struct bench_server {
    bench_servers *all;
    ui_progress *progress;
    char *shards; /* the run's shards on this server, "{1,2}"; NULL: none */
    char *hstore; /* the schema of hstore's operators, quoted */
    bool ready;
    int64_t clock; /* the server's time at the check: milliseconds since 1970 */
    int64_t from;  /* no key of the run is less */
    int64_t removed;
    bool is_clean;
} bench_server;

/* ---- Before ---------------------------------------------------------------------------------- */

/* The run's shards on a server as an array for SQL, or NULL. */
static char *list_shards(const bench_servers *servers, int server) {
    const bench_settings *settings = servers->settings;
    char *list = NULL;
    size_t size = 0;
    int count = 0;
    FILE *stream = open_memstream(&list, &size);
    if (stream == NULL)
        out_of_memory();
    for (int i = 0; i < settings->shard_count; i++)
        if (hv_shard_server(servers->store, settings->shards[i]) == server)
            fprintf(stream, "%c%d", count++ == 0 ? '{' : ',', settings->shards[i]);
    fputc('}', stream);
    if (fclose(stream) != 0)
        out_of_memory();
    if (count == 0) {
        free(list);
        return NULL;
    }
    return list;
}

#define TABLE                                                      \
    "pg_catalog.to_regclass(pg_catalog.format('shard%s.entities'," \
    " pg_catalog.lpad(n::pg_catalog.text, 4, '0')))"

/* One row: what the run needs to know about the server. */
static const char check_sql[] =
    "SELECT pg_catalog.pg_backend_pid(),"
    " (SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()"
    "   OPERATOR(pg_catalog.-) backend_start) OPERATOR(pg_catalog.*) 1000)::bigint"
    "  FROM pg_catalog.pg_stat_activity"
    "  WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()),"
    " (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())"
    "  OPERATOR(pg_catalog.*) 1000)::bigint,"
    " (SELECT pg_catalog.min(n) FROM pg_catalog.unnest($1::integer[]) AS n"
    "  WHERE " TABLE " IS NULL),"
    " (SELECT pg_catalog.min(n) FROM pg_catalog.unnest($1::integer[]) AS n"
    "  WHERE NOT pg_catalog.has_table_privilege(" TABLE ", 'DELETE')),"
    " (SELECT pg_catalog.quote_ident(s.nspname::pg_catalog.text) FROM pg_catalog.pg_extension e"
    "  JOIN pg_catalog.pg_namespace s ON s.oid OPERATOR(pg_catalog.=) e.extnamespace"
    "  WHERE e.extname OPERATOR(pg_catalog.=) 'hstore')";

static void take_answer(bench_servers *servers, int server, const PGresult *result) {
    bench_server *asked = &servers->each[server];
    const char *name = hv_server_name(servers->store, server);
    if (!PQgetisnull(result, 0, 3)) {
        ui_fail_status(HV_NOT_INITIALIZED, NULL,
                       "Run `hv init`, unless another server holds it: see `hv status`.",
                       "server \"%s\" does not have shard %s", name, PQgetvalue(result, 0, 3));
        return;
    }
    if (!PQgetisnull(result, 0, 4) && !servers->settings->keep) {
        char *hint = format_text("Grant DELETE on shard%04d.entities, or leave them there: --keep.",
                                 (int) sql_number(result, 0, 4, 0));
        ui_fail_status(HV_REFUSED, NULL, hint,
                       "entities could not be removed from server \"%s\" at the end", name);
        free(hint);
        return;
    }
    servers->postmasters[server] =
        bench_usage_find_server((int) sql_number(result, 0, 0, 0), sql_number(result, 0, 1, -1));
    asked->clock = sql_number(result, 0, 2, 0);
    asked->hstore = copy_text(PQgetisnull(result, 0, 5) ? "public" : PQgetvalue(result, 0, 5));
    asked->ready = true;
}

static void check(hv_store *store, int server, void *item) {
    bench_server *asked = item;
    sql_failure failure = {0};
    PGconn *conn = NULL;
    PGresult *result = NULL;
    if (asked->shards == NULL) {
        asked->ready = true;
        return;
    }
    failure.status = hv_acquire_server(store, server, &conn, &failure.error);
    if (failure.status == HV_OK) {
        const char *values[] = {asked->shards};
        int sent = PQsendQueryParams(conn, check_sql, 1, NULL, values, NULL, NULL, 0);
        if (sql_answer(conn, sent, false, SQL_PATIENCE_MS, &result, &failure) == HV_OK)
            sql_check(result, "nNnNNT", 1, 1, &failure);
    }
    if (failure.status == HV_OK)
        take_answer(asked->all, server, result);
    else
        sql_failure_say(&failure);
    PQclear(result);
    if (conn != NULL)
        hv_release(store, conn, NULL);
    sql_failure_clear(&failure);
}

bool bench_servers_check(bench_servers *servers, const bench_settings *settings, hv_store *store) {
    size_t count = (size_t) hv_server_count(store);
    *servers = (bench_servers){
        .settings = settings,
        .store = store,
        .each = new_memory(count * sizeof *servers->each),
        .postmasters = new_memory(count * sizeof *servers->postmasters),
    };
    for (size_t i = 0; i < count; i++) {
        servers->each[i].all = servers;
        servers->each[i].shards = list_shards(servers, (int) i);
        servers->postmasters[i] = servers->each[i].shards != NULL ? 0 : -1;
    }
    on_all_servers(store, check, servers->each, sizeof *servers->each);
    bool ready = true;
    for (size_t i = 0; i < count; i++)
        ready = ready && servers->each[i].ready;
    return ready;
}

void bench_servers_fini(bench_servers *servers) {
    for (int i = 0; servers->each != NULL && i < hv_server_count(servers->store); i++) {
        free(servers->each[i].shards);
        free(servers->each[i].hstore);
    }
    free(servers->each);
    free(servers->postmasters);
    *servers = (bench_servers){0};
}

/* ---- After ----------------------------------------------------------------------------------- */

static int64_t now_ms(void) {
    return bench_now() / 1000000;
}

/* Remove a chunk of a shard's entities with keys from *from on. *from becomes the first key of the
 * next chunk, or 0 when there is none. */
static hv_status clean_chunk(bench_server *server, PGconn *conn, int shard, int64_t *from,
                             sql_failure *failure) {
    const bench_settings *settings = server->all->settings;
    int64_t limit = settings->value_size > 0 ? CHUNK_BYTES / settings->value_size : CHUNK_ENTITIES;
    limit = limit < 1 ? 1 : limit > CHUNK_ENTITIES ? CHUNK_ENTITIES : limit;
    char *sql = format_text(
        "WITH found AS (SELECT id FROM shard%04d.entities"
        " WHERE id OPERATOR(pg_catalog.>=) %" PRId64 " AND type OPERATOR(pg_catalog.=) %d"
        " AND body OPERATOR(%s.->) '" BENCH_MARK "'::pg_catalog.text"
        " OPERATOR(pg_catalog.=) '%s' ORDER BY id LIMIT %" PRId64 "),"
        " gone AS (DELETE FROM shard%04d.entities AS e USING found"
        " WHERE e.id OPERATOR(pg_catalog.=) found.id RETURNING e.id)"
        " SELECT (SELECT pg_catalog.max(id) FROM found),"
        " (SELECT pg_catalog.count(*) FROM gone)",
        shard, *from, settings->kind, server->hstore, settings->mark, limit, shard);
    PGresult *result = NULL;
    if (sql_answer(conn, PQsendQuery(conn, sql), true, SQL_PATIENCE_MS, &result, failure) ==
            HV_OK &&
        sql_check(result, "Nn", 1, 1, failure) == HV_OK) {
        int64_t last = sql_number(result, 0, 0, 0);
        int64_t removed = sql_number(result, 0, 1, 0);
        if (last != 0 && last < *from) {
            sql_fail(failure, HV_CORRUPT, "unexpected answer: keys outside the range");
        } else {
            server->removed += removed;
            ui_progress_add(server->progress, 0, removed);
            *from = last == 0 || last == INT64_MAX ? 0 : last + 1;
        }
    }
    PQclear(result);
    free(sql);
    return failure->status;
}

/* Clean the server's shards after `*shard`, which becomes the last one that is clean. */
static hv_status clean_shards(bench_server *server, int number, int *shard, sql_failure *failure) {
    const bench_settings *settings = server->all->settings;
    hv_store *store = server->all->store;
    PGconn *conn = NULL;
    failure->status = hv_acquire_server(store, number, &conn, &failure->error);
    if (failure->status != HV_OK)
        return failure->status;
    PQsetnonblocking(conn, 1);
    for (int i = 0; i < settings->shard_count && failure->status == HV_OK; i++) {
        int next = settings->shards[i];
        if (next <= *shard || hv_shard_server(store, next) != number)
            continue;
        int64_t from = server->from;
        while (from != 0 && clean_chunk(server, conn, next, &from, failure) == HV_OK)
            ;
        if (failure->status == HV_OK)
            *shard = next;
    }
    hv_release(store, conn, NULL);
    return failure->status;
}

static void say_left(const bench_server *server, int number, const sql_failure *failure) {
    const bench_settings *settings = server->all->settings;
    sql_failure_say(failure);
    char *hint = format_text(
        "Remove them from each shard: DELETE FROM shard%04d.entities WHERE id >= %" PRId64
        " AND type = %d AND body -> '" BENCH_MARK "' = '%s'",
        atoi(server->shards + 1), server->from, settings->kind, settings->mark);
    ui_fail(NULL, hint, "entities of this run may be left on server \"%s\"",
            hv_server_name(server->all->store, number));
    free(hint);
}

static void clean(hv_store *store, int number, void *item) {
    bench_server *server = item;
    (void) store;
    server->is_clean = true;
    if (server->shards == NULL)
        return;
    sql_failure failure = {0};
    int shard = -1;
    int64_t deadline = now_ms() + RETRY_MS;
    while (clean_shards(server, number, &shard, &failure) != HV_OK &&
           failure.status != HV_REFUSED && now_ms() < deadline) {
        sql_failure_clear(&failure);
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
    }
    if (failure.status != HV_OK) {
        server->is_clean = false;
        say_left(server, number, &failure);
    }
    sql_failure_clear(&failure);
}

bool bench_servers_clean(bench_servers *servers, int64_t stored, int64_t least_key,
                         int64_t *removed) {
    int count = hv_server_count(servers->store);
    hv_locate_shards(servers->store, NULL); /* some may have moved during the run */
    ui_progress *progress = ui_progress_new(1, (const char *const[]){"removing"}, "entities");
    ui_progress_total(progress, 0, stored);
    for (int i = 0; i < count; i++) {
        bench_server *server = &servers->each[i];
        server->progress = progress;
        if (hv_key_bound(server->clock - CLOCK_MARGIN_MS, hv_epoch(servers->store), &server->from,
                         NULL) != HV_OK)
            server->from = 1;
        if (least_key != 0 && least_key < server->from)
            server->from = least_key;
        if (server->from < 1)
            server->from = 1; /* 0 is not a key, and ends clean_shards() */
    }
    on_all_servers(servers->store, clean, servers->each, sizeof *servers->each);
    ui_progress_free(progress, false);
    bool is_clean = true;
    *removed = 0;
    for (int i = 0; i < count; i++) {
        is_clean = is_clean && servers->each[i].is_clean;
        *removed += servers->each[i].removed;
    }
    return is_clean;
}
