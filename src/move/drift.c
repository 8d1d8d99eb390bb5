/*
 * drift: has the schema of a shard been changed while it moves?
 */
#include "move/drift.h"

#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "move/names.h"
#include "schema/catalogue.h"
#include "schema/differences.h"
#include "value/sql_text.h"

/* The lines of a difference that an error shows. */
#define SHOWN_MAX 1500

/* ---- without what a move adds ---- */

/*
 * While a table is attached to a root, its lines say so:
 *
 *     table entities partition DEFAULT inherits hypervault_0012_1a2b3c4d.entities owner one
 *     column entities.id bigint not null inherited, number 1
 */
#define PARTITION " partition DEFAULT inherits hypervault_"
#define OWNER     " owner "
#define INHERITED " inherited, number "

/* Is this the beginning of the name of a root? */
static bool is_root(const char *name, size_t len) {
    char schema[HVI_MOVE_NAME_LEN];
    size_t end = strcspn(name, ".");
    if (end >= len || end >= sizeof schema)
        return false;
    memcpy(schema, name, end);
    schema[end] = '\0';
    return hvi_move_name_read(schema, NULL, NULL, NULL);
}

/* Look for a text in a line. */
static const char *find(const char *line, size_t len, const char *text) {
    return memmem(line, len, text, strlen(text));
}

/* The length of a name, which ends at the first space; if it is quoted, at its last quote: those in
 * it are doubled. */
static size_t length_of_name(const char *name, const char *end) {
    if (*name != '"')
        return strcspn(name, " \n");
    const char *at = name + 1;
    while (at < end && (at[0] != '"' || (at + 1 < end && at[1] == '"')))
        at += at[0] == '"' ? 2 : 1;
    return (size_t) (at - name) + 1;
}

/* Append a line of a relation; if it has a root, without that, and its name to `attached` as
 * "\nname.". False: it is another line. */
static bool append_relation(hvi_buffer *to, const char *line, size_t len, hvi_buffer *attached) {
    static const char *const kinds[] = {"table ", "partitioned table "};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t word = strlen(kinds[i]);
        const char *partition = find(line, len, PARTITION);
        if (strncmp(line, kinds[i], word) != 0 || partition == NULL)
            continue;
        const char *root = partition + strlen(PARTITION) - strlen("hypervault_");
        const char *owner = find(root, len - (size_t) (root - line), OWNER);
        if (owner == NULL || !is_root(root, (size_t) (owner - root)))
            continue;
        const char *name = line + word;
        size_t name_len = length_of_name(name, partition);
        hvi_buffer_append_byte(attached, '\n');
        hvi_buffer_append(attached, name, name_len);
        hvi_buffer_append_byte(attached, '.');
        hvi_buffer_append(to, line, (size_t) (partition - line));
        hvi_buffer_append(to, owner, len - (size_t) (owner - line));
        return true;
    }
    return false;
}

/* The same for a column of a relation that has a root. */
static bool append_column(hvi_buffer *to, const char *line, size_t len,
                          const hvi_buffer *attached) {
    static const char word[] = "column ";
    const char *inherited = find(line, len, INHERITED);
    if (strncmp(line, word, strlen(word)) != 0 || inherited == NULL || attached->len == 0)
        return false;
    for (const char *name = attached->data; name != NULL; name = strchr(name + 1, '\n')) {
        size_t name_len = strcspn(name + 1, "\n");
        if (strncmp(line + strlen(word), name + 1, name_len) != 0)
            continue;
        hvi_buffer_append(to, line, (size_t) (inherited - line));
        inherited += strlen(" inherited");
        hvi_buffer_append(to, inherited, len - (size_t) (inherited - line));
        return true;
    }
    return false;
}

static void append_without_roots(hvi_buffer *to, const char *description) {
    hvi_buffer attached = HVI_BUFFER_EMPTY;
    for (const char *line = description; line != NULL && *line != '\0';) {
        size_t len = strcspn(line, "\n");
        if (!append_relation(to, line, len, &attached) && !append_column(to, line, len, &attached))
            hvi_buffer_append(to, line, len);
        hvi_buffer_append_byte(to, '\n');
        line += len + (line[len] == '\n');
    }
    if (!hvi_buffer_ok(&attached))
        hvi_buffer_break(to);
    hvi_buffer_fini(&attached);
}

/* ---- reading ---- */

static hv_status describe(hvi_session *source, int shard, const char *server, int64_t deadline,
                          char **description, hv_error **error) {
    hvi_buffer parameter = HVI_BUFFER_EMPTY, raw = HVI_BUFFER_EMPTY, made = HVI_BUFFER_EMPTY;
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
    hvi_catalogue_describe(result, shard, &raw);
    append_without_roots(&made, raw.data);
    *description = hvi_buffer_ok(&raw) ? hvi_buffer_take(&made) : NULL;
    status = *description != NULL ? HV_OK : hvi_no_memory(error);
out:
    PQclear(result);
    hvi_buffer_fini(&parameter);
    hvi_buffer_fini(&raw);
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
