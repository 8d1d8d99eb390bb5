/*
 * identity: which databases the servers of a store are.
 *
 * The system identifier is made by initdb and is the same on standbys; the database's OID
 * distinguishes it from the others of its cluster.
 */
#include "servers/identity.h"

#include <stdio.h>

#include <libpq-fe.h>

#include "servers/servers.h"

static const char sql[] = "SELECT s.system_identifier, d.oid::bigint"
                          " FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d"
                          " WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()";

static void identify(hv_store *store, int server, void *item) {
    database_identity *found = item;
    PGconn *conn = NULL;
    PGresult *result = NULL;
    if (found->is_left_out ||
        hv_acquire_server(store, server, &conn, &found->failure.error) != HV_OK)
        return;
    if (sql_answer(conn, PQsendQuery(conn, sql), false, SQL_PATIENCE_MS, &result,
                   &found->failure) == HV_OK &&
        sql_check(result, "nn", 1, 1, &found->failure) == HV_OK)
        snprintf(found->text, sizeof found->text, "%s/%s", PQgetvalue(result, 0, 0),
                 PQgetvalue(result, 0, 1));
    PQclear(result);
    hv_release(store, conn, NULL);
}

void identify_databases(hv_store *store, database_identity *all) {
    on_all_servers(store, identify, all, sizeof *all);
}
