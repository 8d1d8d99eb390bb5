/*
 * lend: borrow a connection to a shard's server for statements with libpq: here, on a table of its
 * own beside `entities`, in one transaction.
 *
 *     cc lend.c $(pkg-config --cflags --libs hypervault libpq) -o lend && ./lend 3
 */
#include <hypervault.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

/* Run one statement and print its rows. If it fails, print why and return false. */
static bool run(PGconn *conn, const char *sql) {
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
    if (!ok)
        fprintf(stderr, "lend: %s", PQerrorMessage(conn));
    for (int row = 0; ok && row < PQntuples(result); row++)
        printf("%s: %s\n", PQgetvalue(result, row, 0), PQgetvalue(result, row, 1));
    PQclear(result);
    return ok;
}

int main(int argc, char **argv) {
    int shard = argc > 1 ? atoi(argv[1]) : 0;
    hv_store *store = NULL;
    hv_error *error = NULL;
    PGconn *conn = NULL;

    if (hv_open(NULL, &store, &error) != HV_OK ||
        hv_acquire(store, shard, &conn, &error) != HV_OK) {
        fprintf(stderr, "lend: %s\n", hv_error_message(error));
        hv_error_free(error);
        hv_close(store, -1, NULL);
        return 1;
    }

    char sql[512];
    snprintf(sql, sizeof sql,
             "BEGIN;"
             "CREATE TABLE IF NOT EXISTS shard%04d.notes "
             "(name pg_catalog.text PRIMARY KEY, note pg_catalog.text);"
             "INSERT INTO shard%04d.notes VALUES ('lend.c', 'was here')"
             " ON CONFLICT (name) DO UPDATE SET note = 'was here again';"
             "COMMIT;"
             "SELECT name, note FROM shard%04d.notes ORDER BY name",
             shard, shard, shard);
    bool ok = run(conn, sql);

    /* A transaction that failed half-way is rolled back here. */
    hv_release(store, conn, NULL);
    hv_close(store, -1, NULL);
    return ok ? 0 : 1;
}
