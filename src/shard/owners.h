/*
 * owners: do the objects that a store uses belong to roles that may be trusted?
 *
 * Whoever owns a shard's table, its functions, or the schema around them decides what runs when
 * somebody puts an entity, with that somebody's rights. Trusted are the role in use, roles that it
 * is a member of (for a superuser, who is a member of all, none), superusers, and the owner of the
 * database with the members of that role: all of these have the rights already, or could take them.
 */
#ifndef HVI_OWNERS_H
#define HVI_OWNERS_H

#include "base/buffer.h"
#include "wire/session.h"

/* Which roles are. */
#define HVI_OWNERS_TRUSTED                                                                    \
    "Trusted are your role and those that it is a member of, superusers, and the database's " \
    "owner."

/* What another role has of one shard, or of the schema hypervault. All texts are owned. */
typedef struct hvi_foreign {
    int shard; /* -1: the schema hypervault and what is in it */
    char *role;
    char *what;  /* "the schema, the table entities, the function next_id()" */
    char *first; /* one of them, as ALTER and DROP take it: "FUNCTION shard0001.next_id()" */
} hvi_foreign;

/* All that is not trusted, in the order of the shards, -1 first; *list is to be freed. Errors: what
 * hvi_session_script() gives, HV_CORRUPT. */
hv_status hvi_owners_read(hvi_session *session, int64_t deadline, hvi_foreign **list, size_t *count,
                          hv_error **error);
void hvi_owners_free(hvi_foreign *list, size_t count);

/* Append to `detail` which objects belong to which role, and to `hint` which roles would be right.
 * The words are the same for every shard of which the same belongs to the same role. */
void hvi_owners_explain(const hvi_foreign *foreign, hvi_buffer *detail, hvi_buffer *hint);

/* HV_MISMATCH: nothing is built on that. */
hv_status hvi_owners_refuse(const hvi_foreign *foreign, const char *server, hv_error **error);

#endif
