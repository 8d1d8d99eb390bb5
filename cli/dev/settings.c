/*
 * settings: what `hv dev up` appends to a private server's postgresql.conf.
 *
 * There are two parts, each with a comment that says so: what makes a server small, and what moving
 * shards needs. An earlier version has written only the first; the second is appended once, so that
 * users can change it afterwards.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev/dev.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* The last line of the second part, so that a part of it does not count. */
#define MOVES_MARK "# These were added by `hv dev up`, so that shards can be moved."

/* From this version on, subscriptions have a limit of their own. */
#define HAS_ORIGINS 18

static void print_own(FILE *file, const dev_server *server) {
    fprintf(file,
            "\n# Added by `hv dev up`: a private server on a developer's machine.\n"
            "cluster_name = 'hypervault %s'\n"
            "shared_buffers = 32MB\n"
            "max_wal_size = 256MB\n"
            "jit = off\n"
            "timezone = 'UTC'\n"
            "log_timezone = 'UTC'\n"
            "log_destination = 'stderr'\n"
            "log_line_prefix = '%%m [%%p] %%q%%u@%%d '\n",
            server->name);
}

/* Each shard that moves takes a slot and a sender on the server that has it, and workers on the one
 * that gets it: one that applies, and up to two that copy. Workers are started no more often than
 * wal_retrieve_retry_interval, which each move would have to wait for. */
static void print_moves(FILE *file, const char *data) {
    fputs("\n"
          "wal_level = logical\n"
          "max_wal_senders = 40\n"
          "max_replication_slots = 40\n"
          "max_worker_processes = 48\n"
          "max_logical_replication_workers = 40\n"
          "wal_retrieve_retry_interval = 500ms\n",
          file);
    if (data_version(data) >= HAS_ORIGINS)
        fputs("max_active_replication_origins = 40\n", file);
    fputs(MOVES_MARK "\n", file);
}

/* Append to postgresql.conf; `own`: the first part, too. */
static bool append(const dev_server *server, const char *data, bool own) {
    char *path = format_text("%s/postgresql.conf", data);
    FILE *file = fopen(path, "ae");
    bool ok = file != NULL;
    if (ok) {
        if (own)
            print_own(file, server);
        print_moves(file, data);
        ok = fflush(file) == 0 && fsync(fileno(file)) == 0;
        ok = fclose(file) == 0 && ok;
    }
    if (!ok)
        ui_fail(strerror(errno), NULL, "could not write \"%s\"", path);
    free(path);
    return ok;
}

bool dev_settings_write(const dev_server *server, const char *data) {
    return append(server, data, true);
}

/* Has the file the second part? */
static bool has_moves(const dev_server *server) {
    char *path = format_text("%s/postgresql.conf", server->data);
    size_t len = 0;
    char *text = read_file(path, &len);
    /* Without a file, the server itself will say what is wrong. */
    bool has = text == NULL || strstr(text, MOVES_MARK "\n") != NULL;
    free(text);
    free(path);
    return has;
}

bool dev_settings_complete(const dev_folder *folder) {
    for (int i = 0; i < folder->count; i++) {
        const dev_server *server = &folder->servers[i];
        if (has_moves(server))
            continue;
        if (!append(server, server->data, false))
            return false;
        ui_note("Server \"%s\" has new settings, so that shards can be moved.", server->name);
    }
    return true;
}

bool dev_settings_wait(const dev_folder *folder, const dev_server *server) {
    PGconn *conn = dev_connect(folder, server, "postgres");
    PGresult *result =
        PQexec(conn, "SELECT pg_catalog.current_setting('wal_level') OPERATOR(pg_catalog.<>) "
                     "'logical'::pg_catalog.text AND"
                     " (SELECT f.setting FROM pg_catalog.pg_file_settings f"
                     "   WHERE f.name OPERATOR(pg_catalog.=) 'wal_level'::pg_catalog.text"
                     "   ORDER BY f.seqno DESC LIMIT 1) OPERATOR(pg_catalog.=)"
                     "  'logical'::pg_catalog.text");
    bool waits = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 &&
                 PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    PQfinish(conn);
    return waits;
}
