/*
 * owners: do the objects that a store uses belong to trusted roles?
 *
 * The owner of a shard's table, its functions, or their schema decides which code runs when another
 * role puts an entity, with that role's rights. Trusted are the role in use, roles that it is a
 * member of (none for a superuser, which is a member of all), superusers, and the owner of the
 * database with the members of that role: all of these have the rights already, or could take them.
 */
#ifndef HVI_OWNERS_H
#define HVI_OWNERS_H

#include "base/buffer.h"
#include "wire/session.h"

/* A query of the roles that are not trusted: their OIDs and names. Objects of pg_database_owner
 * belong to the database's owner. */
#define HVI_UNTRUSTED_ROLES                                                          \
    "SELECT r.oid, r.rolname FROM pg_catalog.pg_roles r"                             \
    " JOIN pg_catalog.pg_roles me ON me.rolname OPERATOR(pg_catalog.=) current_user" \
    " JOIN pg_catalog.pg_database d"                                                 \
    "   ON d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()"           \
    " WHERE NOT (r.oid OPERATOR(pg_catalog.=) me.oid"                                \
    "   OR (NOT me.rolsuper AND pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER'))"    \
    "   OR pg_catalog.pg_has_role(r.oid, d.datdba, 'MEMBER')"                        \
    "   OR r.rolname OPERATOR(pg_catalog.=) 'pg_database_owner')"

/* The objects that an untrusted role owns in one shard, or in the schema hypervault. All texts are
 * owned. */
typedef struct hvi_foreign {
    int shard; /* -1: the schema hypervault and what is in it */
    char *role;
    char *what;  /* "the schema, the table entities, the function next_id()" */
    char *first; /* one of them, as ALTER and DROP take it: "FUNCTION shard0001.next_id()" */
} hvi_foreign;

/* All objects of untrusted roles, in the order of the shards, -1 first; free *list with
 * hvi_owners_free(). Errors: those of hvi_session_script(), HV_CORRUPT. */
hv_status hvi_owners_read(hvi_session *session, int64_t deadline, hvi_foreign **list, size_t *count,
                          hv_error **error);
void hvi_owners_free(hvi_foreign *list, size_t count);

/* Append the objects and their role to `detail`, and the trusted roles to `hint`. The words are the
 * same for every shard with the same objects of the same role. */
void hvi_owners_explain(const hvi_foreign *foreign, hvi_buffer *detail, hvi_buffer *hint);

/* The error for objects of an untrusted role: HV_MISMATCH. */
hv_status hvi_owners_refuse(const hvi_foreign *foreign, const char *server, hv_error **error);

#endif
