/*
 * owners: do the objects that a store uses belong to trusted roles?
 */
#include "shard/owners.h"

#include <stdlib.h>
#include <string.h>

#include "wire/result.h"

/* The hint that lists the trusted roles. */
#define TRUSTED_HINT                                                                          \
    "Trusted are your role and those that it is a member of, superusers, and the database's " \
    "owner."

#define SCHEMAS                                                     \
    "SELECT n.oid, n.tableoid, n.nspname, n.nspowner,"              \
    "   n.nspname OPERATOR(pg_catalog.<>) 'hypervault' AS is_shard" \
    " FROM pg_catalog.pg_namespace n"                               \
    " WHERE n.nspname OPERATOR(pg_catalog.=) 'hypervault'"          \
    "   OR n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) '^shard[0-9]{4}$'"

/* By name: the relations that puts, gets and `hv` use. */
#define RELATIONS                                                                              \
    "SELECT s.oid AS schema, c.tableoid, c.oid, c.relowner FROM schemas s"                     \
    " JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) s.oid"               \
    "   AND c.relname OPERATOR(pg_catalog.=) ANY (CASE WHEN s.is_shard"                        \
    "     THEN '{entities,table_id_seq,reserved_id_seq,retired_id_seq,hypervault_migrations}'" \
    "     ::pg_catalog.name[]"                                                                 \
    "     ELSE '{layout,imports,shard_locations,moves}' END)"

#define FUNCTIONS                                                               \
    "SELECT s.oid, p.tableoid, p.oid, p.proowner FROM schemas s"                \
    " JOIN pg_catalog.pg_proc p ON p.pronamespace OPERATOR(pg_catalog.=) s.oid" \
    "   AND p.proname OPERATOR(pg_catalog.=)"                                   \
    "     ANY ('{next_id,next_ids,advance,reserve_ids,publish_shard}')"

/* Functions, in any schema, that the defaults, triggers, rules, policies, constraints and indexes
 * of those relations call: these depend on the relation, and on the function. */
#define CALLED                                                                             \
    "SELECT r.schema, p.tableoid, p.oid, p.proowner FROM relations r"                      \
    " JOIN pg_catalog.pg_depend has ON has.refclassid OPERATOR(pg_catalog.=) r.tableoid"   \
    "   AND has.refobjid OPERATOR(pg_catalog.=) r.oid"                                     \
    " JOIN pg_catalog.pg_depend calls ON calls.classid OPERATOR(pg_catalog.=) has.classid" \
    "   AND calls.objid OPERATOR(pg_catalog.=) has.objid"                                  \
    " JOIN pg_catalog.pg_proc p ON p.tableoid OPERATOR(pg_catalog.=) calls.refclassid"     \
    "   AND p.oid OPERATOR(pg_catalog.=) calls.refobjid"

static const char owners_sql[] =
    "WITH others AS MATERIALIZED (" HVI_UNTRUSTED_ROLES "),"
    " schemas AS MATERIALIZED (" SCHEMAS "),"
    " relations AS MATERIALIZED (" RELATIONS "),"
    " objects (schema, class, object, owner) AS"
    "   (SELECT oid, tableoid, oid, nspowner FROM schemas"
    "    UNION ALL SELECT schema, tableoid, oid, relowner FROM relations"
    "    UNION ALL " FUNCTIONS "    UNION " CALLED ")"
    " SELECT CASE WHEN s.is_shard"
    "   THEN pg_catalog.substr(s.nspname::pg_catalog.text, 6)::integer ELSE -1 END,"
    "   o.rolname,"
    "   pg_catalog.string_agg(CASE WHEN i.type OPERATOR(pg_catalog.=) 'schema' AND s.is_shard"
    "     THEN 'the schema' ELSE pg_catalog.concat('the ', i.type, ' ', CASE WHEN s.is_shard"
    "       THEN pg_catalog.replace(i.identity, pg_catalog.concat(s.nspname, '.'), '')"
    "       ELSE i.identity END) END, ', ' ORDER BY x.class, x.object),"
    "   (pg_catalog.array_agg(pg_catalog.concat(pg_catalog.upper(i.type), ' ', i.identity)"
    "     ORDER BY x.class, x.object))[1]"
    " FROM objects x JOIN others o ON o.oid OPERATOR(pg_catalog.=) x.owner"
    " JOIN schemas s ON s.oid OPERATOR(pg_catalog.=) x.schema"
    " CROSS JOIN LATERAL pg_catalog.pg_identify_object(x.class, x.object, 0) i"
    " GROUP BY 1, o.rolname ORDER BY 1, o.rolname";

static const hvi_form owners_form = {
    .asked = "the owners of the shards",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_INT4, HVI_IS_BYTES, HVI_IS_BYTES, HVI_IS_BYTES},
};

hv_status hvi_owners_read(hvi_session *session, int64_t deadline, hvi_foreign **list, size_t *count,
                          hv_error **error) {
    PGresult *result = NULL;
    *list = NULL;
    *count = 0;
    hv_status status = hvi_session_script(session, owners_sql, -1, false, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &owners_form, session->config->server, -1, error);
    size_t found = status == HV_OK ? (size_t) PQntuples(result) : 0;
    hvi_foreign *read = status == HV_OK ? calloc(found + 1, sizeof *read) : NULL;
    if (status == HV_OK && read == NULL)
        status = hvi_no_memory(error);
    for (size_t i = 0; status == HV_OK && i < found; i++) {
        int row = (int) i;
        read[i] = (hvi_foreign){
            .shard = (int) hvi_integer_at(result, row, 0),
            .role = strdup(hvi_text_at(result, row, 1)),
            .what = strdup(hvi_text_at(result, row, 2)),
            .first = strdup(hvi_text_at(result, row, 3)),
        };
        if (read[i].role == NULL || read[i].what == NULL || read[i].first == NULL)
            status = hvi_no_memory(error);
    }
    PQclear(result);
    if (status != HV_OK) {
        hvi_owners_free(read, found);
        return status;
    }
    *list = read;
    *count = found;
    return HV_OK;
}

void hvi_owners_free(hvi_foreign *list, size_t count) {
    for (size_t i = 0; list != NULL && i < count; i++) {
        free(list[i].role);
        free(list[i].what);
        free(list[i].first);
    }
    free(list);
}

void hvi_owners_explain(const hvi_foreign *foreign, hvi_buffer *detail, hvi_buffer *hint) {
    hvi_buffer_append_format(detail, "the role \"%s\", which is not trusted here, owns %s",
                             foreign->role, foreign->what);
    hvi_buffer_append_text(hint, TRUSTED_HINT);
}

hv_status hvi_owners_refuse(const hvi_foreign *foreign, const char *server, hv_error **error) {
    if (foreign->shard >= 0)
        hvi_fail(error, HV_MISMATCH, "the role \"%s\" owns part of shard %d on server \"%s\"",
                 foreign->role, foreign->shard, server);
    else
        hvi_fail(error, HV_MISMATCH,
                 "the role \"%s\" owns part of the schema hypervault on server \"%s\"",
                 foreign->role, server);
    hvi_error_detail(error, "It owns %s, and could make other roles run its code.", foreign->what);
    hvi_error_hint(error,
                   TRUSTED_HINT " ALTER %s OWNER TO one of them if it is as it should be, "
                                "or else DROP it.",
                   foreign->first);
    hvi_error_where(error, server, foreign->shard);
    return HV_MISMATCH;
}
