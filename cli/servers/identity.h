/*
 * identity: which databases the servers of a store are.
 */
#ifndef IDENTITY_H
#define IDENTITY_H

#include "servers/sql.h"

/* A text that no other database has, and that it keeps when it is renamed, restarted or failed over
 * to a standby. A dump and its restore make another one. */
#define IDENTITY_SIZE 48
typedef struct database_identity {
    bool is_left_out;         /* do not ask this server; set by the caller */
    char text[IDENTITY_SIZE]; /* "": it is not known, and `failure` says why */
    sql_failure failure;      /* sql_failure_clear() it */
} database_identity;

/* Ask all servers at the same time; `all` has an element for each of them, zeroed otherwise. */
void identify_databases(hv_store *store, database_identity *all);

#endif
