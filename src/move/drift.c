/*
 * drift: has the schema of a shard been changed while it moves?
 */
#include "move/drift.h"

#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "schema/catalogue.h"
#include "schema/differences.h"
#include "value/shard_map.h"
#include "value/sql_text.h"

/* The lines of a difference that an error shows. */
#define SHOWN_MAX 1500

/* ---- reading ---- */

static hv_status describe(hvi_session *source, int shard, const char *server, int64_t deadline,
                          char **description, hv_error **error) {
    hvi_buffer parameter = HVI_BUFFER_EMPTY, made = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hv_status status = HV_NO_MEMORY;
    *description = NULL;
    hvi_catalogue_parameter(&parameter, &shard, 1);
    if (!hvi_buffer_ok(&parameter)) {
        hvi_no_memory(error);
        goto out;
    }
    const char *values[] = {parameter.data};
    hvi_query query = {
        .sql = hvi_catalogue_sql, .shard = shard, .parameter_count = 1, .values = values};
    status = hvi_session_run(source, &query, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_catalogue_check(result, server, error);
    if (status != HV_OK)
        goto out;
    hvi_catalogue_describe(result, shard, &made);
    *description = hvi_buffer_ok(&made) ? hvi_buffer_take(&made) : NULL;
    status = *description != NULL ? HV_OK : hvi_no_memory(error);
out:
    PQclear(result);
    hvi_buffer_fini(&parameter);
    hvi_buffer_fini(&made);
    return status;
}

/*
 * What can be changed while the tables are locked, or before: which objects there are, by their
 * OIDs, the rights on relations, and of functions also the transaction that wrote them. All
 * look-ups are by index, so that the time does not depend on how many shards the server has.
 */
#define EQ    " OPERATOR(pg_catalog.=) "
#define ORDER "::pg_catalog.text COLLATE pg_catalog.\"C\""

static const char quick_sql[] =
    "WITH objects AS MATERIALIZED (SELECT d.classid, d.objid FROM pg_catalog.pg_depend d"
    " WHERE d.refclassid" EQ "'pg_catalog.pg_namespace'::pg_catalog.regclass"
    " AND d.refobjid" EQ "(SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname" EQ "'%s'))"
    " SELECT coalesce(pg_catalog.string_agg(l.line, E'\\n' ORDER BY l.line), '') FROM ("
    "SELECT pg_catalog.concat(o.classid, ' ', o.objid, ' ', c.relname, ' ', c.relacl, ' ',"
    " c.relreplident, ' ', p.xmin)" ORDER " AS line FROM objects o"
    " LEFT JOIN pg_catalog.pg_class c ON c.oid" EQ "o.objid AND c.tableoid" EQ "o.classid"
    " LEFT JOIN pg_catalog.pg_proc p ON p.oid" EQ "o.objid AND p.tableoid" EQ "o.classid"
    " UNION ALL SELECT pg_catalog.concat('column ', a.attrelid, ' ', a.attnum, ' ', a.attname, ' ',"
    " a.atttypid, ' ', a.atttypmod, ' ', a.attnotnull, ' ', a.atthasdef, ' ', a.attacl)" ORDER
    " FROM objects o JOIN pg_catalog.pg_attribute a ON a.attrelid" EQ "o.objid"
    " WHERE o.classid" EQ "'pg_catalog.pg_class'::pg_catalog.regclass"
    " AND a.attnum OPERATOR(pg_catalog.>) 0::smallint"
    " UNION ALL SELECT pg_catalog.concat('index ', x.indexrelid, ' ', x.indisvalid)" ORDER
    " FROM objects o JOIN pg_catalog.pg_index x ON x.indrelid" EQ "o.objid"
    " WHERE o.classid" EQ "'pg_catalog.pg_class'::pg_catalog.regclass"
    " UNION ALL SELECT pg_catalog.concat('trigger ', t.oid, ' ', t.tgenabled)" ORDER
    " FROM objects o JOIN pg_catalog.pg_trigger t ON t.tgrelid" EQ "o.objid"
    " WHERE o.classid" EQ "'pg_catalog.pg_class'::pg_catalog.regclass"
    ") AS l";

static hv_status read_relations(hvi_session *source, int shard, int64_t deadline, char **relations,
                                hv_error **error) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_schema_name(shard, schema);
    hvi_buffer_append_format(&sql, quick_sql, schema);
    hv_status status = hvi_buffer_ok(&sql) ? hvi_session_script(source, sql.data, shard, false,
                                                                deadline, &result, error)
                                           : hvi_no_memory(error);
    *relations = NULL;
    if (status == HV_OK) {
        const char *text = PQntuples(result) == 1 ? PQgetvalue(result, 0, 0) : "";
        *relations = strdup(text);
        status = *relations != NULL ? HV_OK : hvi_no_memory(error);
    }
    PQclear(result);
    hvi_buffer_fini(&sql);
    return status;
}

static hv_status take(hvi_drift *drift, hvi_session *source, const char *server, int64_t deadline,
                      hv_error **error) {
    hv_status status = describe(source, drift->shard, server, deadline, &drift->description, error);
    if (status == HV_OK)
        status = read_relations(source, drift->shard, deadline, &drift->relations, error);
    if (status == HV_OK)
        hvi_sha256(drift->description, strlen(drift->description), drift->digest);
    return status;
}

hv_status hvi_drift_take(hvi_drift *drift, hvi_session *source, int shard, const char *server,
                         int64_t deadline, hv_error **error) {
    /* Both answers are to be of the same moment. */
    bool begins = PQtransactionStatus(source->conn) == PQTRANS_IDLE;
    *drift = (hvi_drift){.shard = shard};
    hv_status status = HV_OK;
    if (begins)
        status = hvi_session_script(source, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                                    shard, false, deadline, NULL, error);
    if (status == HV_OK)
        status = take(drift, source, server, deadline, error);
    if (begins && !source->broken && PQtransactionStatus(source->conn) != PQTRANS_IDLE) {
        hv_status ended = hvi_session_script(source, "ROLLBACK", shard, false, deadline, NULL,
                                             status == HV_OK ? error : NULL);
        status = status == HV_OK ? ended : status;
    }
    if (status != HV_OK)
        hvi_drift_fini(drift);
    return status;
}

void hvi_drift_fini(hvi_drift *drift) {
    free(drift->description);
    free(drift->relations);
    *drift = (hvi_drift){.shard = drift->shard};
}

/* ---- comparing ---- */

/* `before` NULL: it is not known what has changed. */
static hv_status fail_changed(int shard, const char *server, const char *before, const char *now,
                              hv_error **error) {
    hvi_fail(error, HV_MISMATCH, "the schema of shard %d was changed while it was moved", shard);
    hvi_buffer lines = HVI_BUFFER_EMPTY;
    if (before != NULL)
        hvi_differences(&lines, before, now);
    if (hvi_buffer_ok(&lines) && lines.len > 0) {
        bool is_long = lines.len > SHOWN_MAX;
        size_t shown = is_long ? SHOWN_MAX : lines.len;
        while (shown > 0 && lines.data[shown - 1] != '\n')
            shown--;
        shown -= shown > 0; /* without the last newline */
        hvi_error_detail(error, "%.*s%s", (int) shown, lines.data, is_long ? "\n…" : "");
    }
    hvi_error_hint(error, "Nothing has been switched. Move it again: then the copy has the new "
                          "schema. Migrations wait until a move is over; other changes of the "
                          "schema have to wait, too.");
    hvi_error_where(error, server, shard);
    hvi_buffer_fini(&lines);
    return HV_MISMATCH;
}

hv_status hvi_drift_check(const hvi_drift *drift, hvi_session *source, const char *server,
                          int64_t deadline, hv_error **error) {
    char *now = NULL;
    hv_status status = describe(source, drift->shard, server, deadline, &now, error);
    if (status == HV_OK && strcmp(drift->description, now) != 0)
        status = fail_changed(drift->shard, server, drift->description, now, error);
    free(now);
    return status;
}

hv_status hvi_drift_check_digest(const char *digest, hvi_session *source, int shard,
                                 const char *server, int64_t deadline, hv_error **error) {
    char *now = NULL, its[HVI_SHA256_LEN];
    hv_status status = describe(source, shard, server, deadline, &now, error);
    if (status == HV_OK) {
        hvi_sha256(now, strlen(now), its);
        if (strcmp(digest, its) != 0)
            status = fail_changed(shard, server, NULL, NULL, error);
    }
    free(now);
    return status;
}

hv_status hvi_drift_quick(const hvi_drift *drift, hvi_session *source, const char *server,
                          int64_t deadline, hv_error **error) {
    char *now = NULL;
    hv_status status = read_relations(source, drift->shard, deadline, &now, error);
    if (status == HV_OK && strcmp(drift->relations, now) != 0)
        status = fail_changed(drift->shard, server, NULL, NULL, error);
    free(now);
    return status;
}
