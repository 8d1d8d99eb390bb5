/*
 * doctor_pair: the checks of two servers together: whether one has what the other's shards need,
 * and reaches it.
 */
#include "move/doctor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "config/move_conninfo.h"
#include "shard/placement.h"
#include "value/shard_map.h"
#include "wire/result.h"

#define CLOCK_US   500000 /* clocks that differ by more are a finding */
#define MOST_NAMES 5      /* that a finding has */

/* ---- facts of a server that are compared ---- */

typedef struct facts {
    int64_t version; /* 150002 */
    char *encoding;  /* owned, as all texts */
    char *collation;
    char *collation_version; /* of its libraries; "": none */
    char *extensions;        /* "\nhstore\tpublic\t1.8\n…" */
    char *needs; /* "\nrapp\ntfast\n…": roles and tablespaces that its shards cannot be without */
    char *identity;
    int64_t ahead; /* of this machine's clock, microseconds */
} facts;

static const hvi_form facts_form = {
    .asked = "its version, encoding and extensions",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_INT8, HVI_IS_BYTES, HVI_IS_BYTES, HVI_IS_BYTES, HVI_IS_BYTES, HVI_IS_BYTES,
                HVI_IS_INT8},
};

/* %s is the pattern of the schemas. Columns of pg_database that only some versions have are read
 * from its row as JSON. */
static const char facts_sql[] =
    "WITH s AS (SELECT n.oid, n.nspowner, n.nspacl FROM pg_catalog.pg_namespace n"
    "  WHERE n.nspname OPERATOR(pg_catalog.~) '%s'::pg_catalog.text),"
    " c AS (SELECT k.oid, k.relowner, k.relacl, k.reltablespace FROM pg_catalog.pg_class k, s"
    "  WHERE k.relnamespace OPERATOR(pg_catalog.=) s.oid),"
    " f AS (SELECT p.proowner, p.proacl FROM pg_catalog.pg_proc p, s"
    "  WHERE p.pronamespace OPERATOR(pg_catalog.=) s.oid),"
    " needs AS (SELECT 'r' OPERATOR(pg_catalog.||) r.rolname::pg_catalog.text AS name"
    "  FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) ANY (ARRAY("
    "   SELECT s.nspowner FROM s"
    "   UNION SELECT c.relowner FROM c"
    "   UNION SELECT f.proowner FROM f"
    "   UNION SELECT a.grantee FROM s, pg_catalog.aclexplode(s.nspacl) a"
    "   UNION SELECT a.grantee FROM c, pg_catalog.aclexplode(c.relacl) a"
    "   UNION SELECT a.grantee FROM f, pg_catalog.aclexplode(f.proacl) a"
    "   UNION SELECT a.grantee FROM c, pg_catalog.pg_attribute t,"
    "    pg_catalog.aclexplode(t.attacl) a WHERE t.attrelid OPERATOR(pg_catalog.=) c.oid))"
    "  UNION ALL SELECT 't' OPERATOR(pg_catalog.||) t.spcname::pg_catalog.text"
    "  FROM pg_catalog.pg_tablespace t WHERE t.oid OPERATOR(pg_catalog.=) ANY"
    "  (SELECT c.reltablespace FROM c))"
    "SELECT pg_catalog.current_setting('server_version_num')::bigint,"
    " pg_catalog.pg_encoding_to_char(d.encoding)::pg_catalog.text,"
    " pg_catalog.concat_ws(' ', d.datcollate, d.datctype,"
    "  COALESCE(j.fields OPERATOR(pg_catalog.->>) 'datlocale', j.fields OPERATOR(pg_catalog.->>)"
    "  'daticulocale')), COALESCE(j.fields OPERATOR(pg_catalog.->>) 'datcollversion', ''),"
    " COALESCE((SELECT pg_catalog.string_agg(pg_catalog.format(E'\\n%%s\\t%%s\\t%%s\\n',"
    "  e.extname, n.nspname, e.extversion), '' ORDER BY e.extname)"
    "  FROM pg_catalog.pg_extension e, pg_catalog.pg_namespace n"
    "  WHERE n.oid OPERATOR(pg_catalog.=) e.extnamespace), ''),"
    " COALESCE((SELECT pg_catalog.string_agg(E'\\n' OPERATOR(pg_catalog.||) needs.name"
    "  OPERATOR(pg_catalog.||) E'\\n', '' ORDER BY needs.name) FROM needs), ''),"
    " (EXTRACT(epoch FROM pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*)"
    "  1000000::pg_catalog.numeric)::bigint"
    " FROM pg_catalog.pg_database d, pg_catalog.to_jsonb(d) AS j(fields)"
    " WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()";

static void fini_facts(facts *f) {
    free(f->encoding);
    free(f->collation);
    free(f->collation_version);
    free(f->extensions);
    free(f->needs);
    free(f->identity);
    *f = (facts){0};
}

static hv_status read_facts(hvi_link *link, int shard, int64_t deadline, facts *f,
                            hv_error **error) {
    PGresult *result = NULL;
    char pattern[HVI_SCHEMA_NAME_LEN + 8] = "^shard[0-9]{4}$";
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    if (shard >= 0) {
        char schema[HVI_SCHEMA_NAME_LEN];
        hvi_schema_name(shard, schema);
        snprintf(pattern, sizeof pattern, "^%s$", schema);
    }
    hvi_buffer_append_format(&sql, facts_sql, pattern);
    int64_t before = hvi_clock_unix_us();
    hv_status status = hvi_link_say(link, &sql, deadline, &result, error);
    int64_t after = hvi_clock_unix_us();
    if (status == HV_OK)
        status = hvi_result_check(result, &facts_form, link->server->name, -1, error);
    if (status == HV_OK) {
        *f = (facts){
            .version = hvi_integer_at(result, 0, 0),
            .encoding = strdup(hvi_text_at(result, 0, 1)),
            .collation = strdup(hvi_text_at(result, 0, 2)),
            .collation_version = strdup(hvi_text_at(result, 0, 3)),
            .extensions = strdup(hvi_text_at(result, 0, 4)),
            .needs = strdup(hvi_text_at(result, 0, 5)),
        };
        int64_t then = hvi_integer_at(result, 0, 6);
        f->ahead = then < before ? then - before : then > after ? then - after : 0;
        if (f->encoding == NULL || f->collation == NULL || f->collation_version == NULL ||
            f->extensions == NULL || f->needs == NULL)
            status = hvi_no_memory(error);
    }
    PQclear(result);
    if (status == HV_OK)
        status = hvi_placement_identity(link->session, deadline, &f->identity, error);
    return status;
}

/* ---- pairs ---- */

typedef struct pair {
    hvi_link *from, *to;
    const facts *source, *target;
    hv_findings *findings;
} pair;

/* Add a finding about both. Takes *text. */
static void add(const pair *p, hv_severity severity, hvi_buffer *text, const char *detail,
                const char *hint) {
    if (hvi_buffer_ok(text))
        hvi_remarks_add(p->findings, &(hv_finding){.severity = severity,
                                                   .server = p->to->server->name,
                                                   .other = p->from->server->name,
                                                   .shard = -1,
                                                   .text = text->data,
                                                   .detail = detail,
                                                   .hint = hint});
    else
        p->findings->is_broken = true;
    hvi_buffer_fini(text);
}

/* The parts of a line "hstore\tpublic\t1.8\n". */
typedef struct extension {
    const char *name, *schema, *version;
    int name_len, schema_len, version_len;
} extension;

static extension read_extension(const char *line) {
    extension e = {.name = line, .name_len = (int) strcspn(line, "\t\n")};
    e.schema = e.name + e.name_len + (e.name[e.name_len] == '\t');
    e.schema_len = (int) strcspn(e.schema, "\t\n");
    e.version = e.schema + e.schema_len + (e.schema[e.schema_len] == '\t');
    e.version_len = (int) strcspn(e.version, "\n");
    return e;
}

static bool is_same(const char *one, int one_len, const char *other, int other_len) {
    return one_len == other_len && strncmp(one, other, (size_t) one_len) == 0;
}

static void compare_extension(const pair *p, const extension *e) {
    char start[128];
    hvi_buffer text = HVI_BUFFER_EMPTY;
    bool is_hstore = is_same(e->name, e->name_len, "hstore", 6);
    snprintf(start, sizeof start, "\n%.*s\t", e->name_len, e->name);
    const char *there = strstr(p->target->extensions, start);
    if (there == NULL) {
        hvi_buffer_append_format(&text, "it has not got the extension %.*s", e->name_len, e->name);
        add(p, is_hstore ? HV_SEVERITY_ERROR : HV_SEVERITY_WARNING, &text,
            "Shards that use it cannot be moved there.", "CREATE EXTENSION, on this server.");
        return;
    }
    const extension its = read_extension(there + 1);
    if (is_hstore && !is_same(e->schema, e->schema_len, its.schema, its.schema_len)) {
        hvi_buffer_append_format(&text, "its extension hstore is in another schema");
        add(p, HV_SEVERITY_ERROR, &text, NULL, "ALTER EXTENSION hstore SET SCHEMA …");
    }
    if (!is_same(e->version, e->version_len, its.version, its.version_len)) {
        hvi_buffer_append_format(&text, "its extension %.*s has version %.*s, not %.*s",
                                 e->name_len, e->name, its.version_len, its.version, e->version_len,
                                 e->version);
        add(p, HV_SEVERITY_WARNING, &text, "What shards use of it may be missing or different.",
            "ALTER EXTENSION … UPDATE, where it is older.");
    }
}

static void compare_extensions(const pair *p) {
    for (const char *at = p->source->extensions; *at == '\n';) {
        const extension e = read_extension(at + 1);
        compare_extension(p, &e);
        at += 1 + strcspn(at + 1, "\n") + 1;
    }
}

static const hvi_form names_form = {
    .asked = "its roles and tablespaces",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_BYTES},
};

static const char names_sql[] =
    "SELECT 'r' OPERATOR(pg_catalog.||) r.rolname::pg_catalog.text FROM pg_catalog.pg_roles r"
    " UNION ALL SELECT 't' OPERATOR(pg_catalog.||) t.spcname::pg_catalog.text"
    " FROM pg_catalog.pg_tablespace t";

static bool is_among(const PGresult *names, const char *name, size_t len) {
    for (int i = 0; i < PQntuples(names); i++)
        if (strlen(hvi_text_at(names, i, 0)) == len &&
            strncmp(hvi_text_at(names, i, 0), name, len) == 0)
            return true;
    return false;
}

/* Of the names of one kind, those that the target lacks. */
static void compare_names(const pair *p, const PGresult *there, char kind, const char *one,
                          const char *many, const char *detail, const char *hint) {
    hvi_buffer text = HVI_BUFFER_EMPTY, names = HVI_BUFFER_EMPTY;
    int missing = 0;
    for (const char *at = p->source->needs; *at == '\n';) {
        size_t len = strcspn(++at, "\n");
        if (*at == kind && !is_among(there, at, len) && missing++ < MOST_NAMES)
            hvi_buffer_append_format(&names, "%s\"%.*s\"", missing > 1 ? ", " : "", (int) len - 1,
                                     at + 1);
        at += len + 1;
    }
    if (!hvi_buffer_ok(&names)) {
        p->findings->is_broken = true;
    } else if (missing > 0) {
        hvi_buffer_append_format(&text, "%s %s%s %s not exist here", missing == 1 ? one : many,
                                 names.data, missing > MOST_NAMES ? ", …" : "",
                                 missing == 1 ? "does" : "do");
        add(p, HV_SEVERITY_ERROR, &text, detail, hint);
    }
    hvi_buffer_fini(&names);
}

static void compare_needs(const pair *p, int64_t deadline) {
    PGresult *result = NULL;
    hv_error *cause = NULL;
    const char *server = p->to->server->name;
    hv_status status = hvi_link_run(p->to, names_sql, deadline, &result, &cause);
    if (status == HV_OK)
        status = hvi_result_check(result, &names_form, server, -1, &cause);
    if (status == HV_OK) {
        compare_names(p, result, 'r', "role", "roles",
                      "They own, or may use, what is in the shards.",
                      "Make these roles on this server, too.");
        compare_names(p, result, 't', "tablespace", "tablespaces",
                      "Tables or indexes of the shards are in them.",
                      "Make these tablespaces on this server, too, or take what is in them to the "
                      "default one.");
    } else {
        hvi_remarks_add_error(p->findings, HV_SEVERITY_WARNING, server, NULL, -1, &cause);
    }
    PQclear(result);
}

static void compare(const pair *p) {
    const facts *from = p->source, *to = p->target;
    hvi_buffer text = HVI_BUFFER_EMPTY;
    if (to->version / 10000 < from->version / 10000) {
        hvi_buffer_append_format(&text,
                                 "it has PostgreSQL %" PRId64 ", which is older than %" PRId64,
                                 to->version / 10000, from->version / 10000);
        add(p, HV_SEVERITY_WARNING, &text, "Not all that a newer one has can be restored there.",
            "Upgrade this server first.");
    }
    if (strcmp(from->encoding, to->encoding) != 0) {
        hvi_buffer_append_format(&text, "its database's encoding is %s, not %s", to->encoding,
                                 from->encoding);
        add(p, HV_SEVERITY_ERROR, &text, NULL, "Make the database anew with the same encoding.");
    }
    if (strcmp(from->collation, to->collation) != 0) {
        hvi_buffer_append_format(&text, "its database's collation is %s, not %s", to->collation,
                                 from->collation);
        add(p, HV_SEVERITY_WARNING, &text, "Texts are sorted in another way there.", NULL);
    } else if (from->collation_version[0] != '\0' && to->collation_version[0] != '\0' &&
               strcmp(from->collation_version, to->collation_version) != 0) {
        hvi_buffer_append_format(&text, "its database's collation has version %s, not %s",
                                 to->collation_version, from->collation_version);
        add(p, HV_SEVERITY_WARNING, &text, "Some texts may be sorted in another way there.",
            "Use the same versions of the C library, or of ICU, on both machines.");
    }
    int64_t apart = to->ahead - from->ahead;
    if (apart > CLOCK_US || apart < -CLOCK_US) {
        hvi_buffer_append_format(&text, "its clock is %.1f s %s that of the other",
                                 (double) (apart < 0 ? -apart : apart) / 1e6,
                                 apart < 0 ? "behind" : "ahead of");
        add(p, HV_SEVERITY_WARNING, &text,
            "Keys go on above the old ones, but their times are off for so long.",
            "Let both keep time by NTP.");
    }
}

/*
 * Let the target connect to the source as a subscription does, and take that back. The publication
 * does not exist, which makes no difference but for a warning. The connection string may hold a
 * password: it is a parameter, and is in no statement's text; but the server would log it as part
 * of the warning's context.
 */
static hv_status try_to_connect(const pair *p, const hvi_server_options *source, int64_t deadline,
                                hv_error **error) {
    hvi_buffer conninfo = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_server_move_conninfo(source, &conninfo);
    hvi_buffer_append_text(&conninfo, " connect_timeout='5'");
    const char *value = conninfo.data;
    const hvi_query query = {
        .sql = "SELECT pg_catalog.length(pg_catalog.set_config('hypervault.conninfo', $1, true))",
        .shard = -1,
        .parameter_count = 1,
        .values = &value,
    };
    hv_status status = hvi_link_run(
        p->to, "BEGIN;SET LOCAL log_parameter_max_length TO 0;SET LOCAL log_min_messages TO error",
        deadline, NULL, error);
    if (status == HV_OK)
        status = hvi_buffer_ok(&conninfo)
                     ? hvi_session_run(p->to->session, &query, deadline, &result, error)
                     : hvi_no_memory(error);
    if (conninfo.data != NULL)
        explicit_bzero(conninfo.data, conninfo.len);
    hvi_buffer_fini(&conninfo);
    PQclear(result);
    if (status == HV_OK)
        status = hvi_link_run(
            p->to,
            "SET LOCAL client_min_messages TO error;"
            "DO $hv$ BEGIN EXECUTE pg_catalog.format('CREATE SUBSCRIPTION hypervault_doctor"
            " CONNECTION %L PUBLICATION hypervault_doctor WITH (connect = true, enabled = false,"
            " create_slot = false, copy_data = false, slot_name = NONE)',"
            " pg_catalog.current_setting('hypervault.conninfo'));"
            /* The context of an error that is not caught is the whole text, in the server's log. */
            " EXCEPTION WHEN OTHERS THEN RAISE EXCEPTION USING MESSAGE = SQLERRM,"
            " ERRCODE = SQLSTATE; END $hv$",
            deadline, NULL, error);
    if (hvi_link_is_open(p->to))
        hvi_link_run(p->to, "ROLLBACK", deadline, NULL, NULL);
    return status;
}

static void check_way(const pair *p, const hvi_server_options *source, int64_t deadline) {
    hv_error *cause = NULL;
    if (!hvi_link_is_open(p->from) || !hvi_link_is_open(p->to) ||
        try_to_connect(p, source, deadline, &cause) == HV_OK)
        return;
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&text, "it cannot connect to server \"%s\" as a subscriber",
                             p->from->server->name);
    const char *detail = hv_error_message(cause);
    hvi_buffer hint = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(
        &hint,
        "Set move_host, move_port, move_user and move_passfile in [server %s]: "
        "see docs/config.md, \"For moves\"; and pg_hba.conf there.",
        p->from->server->name);
    if (!hvi_buffer_ok(&hint))
        p->findings->is_broken = true;
    add(p, HV_SEVERITY_ERROR, &text, detail, hint.data);
    hvi_buffer_fini(&hint);
    hv_error_free(cause);
}

void hvi_doctor_way(hvi_link *from, hvi_link *to, const hvi_server_options *source,
                    int64_t deadline, hv_findings *findings) {
    const pair p = {.from = from, .to = to, .findings = findings};
    check_way(&p, source, deadline);
}

void hvi_doctor_pair(hvi_link *from, hvi_link *to, const hvi_server_options *source,
                     const hvi_doctor_scope *scope, int64_t deadline, hv_findings *findings) {
    facts one = {0}, other = {0};
    hv_error *cause = NULL;
    pair p = {.from = from, .to = to, .source = &one, .target = &other, .findings = findings};
    if (!hvi_link_is_open(from) || !hvi_link_is_open(to))
        return;
    hv_status status = read_facts(from, scope->shard, deadline, &one, &cause);
    if (status == HV_OK)
        status = read_facts(to, scope->shard, deadline, &other, &cause);
    if (status != HV_OK) {
        hvi_remarks_add_error(findings, HV_SEVERITY_ERROR, to->server->name, from->server->name, -1,
                              &cause);
    } else if (strcmp(one.identity, other.identity) == 0) {
        hvi_buffer text = HVI_BUFFER_EMPTY;
        hvi_buffer_append_format(&text, "it is the same database as server \"%s\"",
                                 from->server->name);
        add(&p, HV_SEVERITY_ERROR, &text, NULL,
            "Look at host, port and dbname of both in the configuration.");
    } else {
        compare(&p);
        compare_extensions(&p);
        compare_needs(&p, deadline);
        if (!scope->is_offline)
            check_way(&p, source, deadline);
    }
    fini_facts(&one);
    fini_facts(&other);
}
