/*
 * doctor: the checks of a pair of servers and of shards, and all of them together.
 */
#include "move/doctor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "config/move_conninfo.h"
#include "move/fit.h"
#include "shard/placement.h"
#include "wire/result.h"

#define OPEN_MS    5000
#define CHECK_MS   15000
#define CLOCK_US   500000 /* clocks that differ by more are a finding */
#define MOST_ROLES 5      /* that a finding names */

/* ---- facts of a server that are compared ---- */

typedef struct facts {
    int64_t version; /* 150002 */
    char *encoding;  /* owned, as all texts */
    char *collation;
    char *extensions; /* "\nhstore\t1.8\tpublic\n…" */
    char *roles;      /* "\napp\n…": those that own or may use something of its shards */
    char *identity;
    int64_t ahead; /* of this machine's clock, microseconds */
} facts;

static const hvi_form facts_form = {
    .asked = "its version, encoding and extensions",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_INT8, HVI_IS_BYTES, HVI_IS_BYTES, HVI_IS_BYTES, HVI_IS_BYTES, HVI_IS_INT8},
};

#define SHARDS "'^shard[0-9]{4}$'::pg_catalog.text"

static const char facts_sql[] =
    "SELECT pg_catalog.current_setting('server_version_num')::bigint,"
    " pg_catalog.pg_encoding_to_char(d.encoding)::pg_catalog.text,"
    " d.datcollate::pg_catalog.text OPERATOR(pg_catalog.||) ' '"
    "  OPERATOR(pg_catalog.||) d.datctype::pg_catalog.text,"
    " COALESCE((SELECT pg_catalog.string_agg(E'\\n' OPERATOR(pg_catalog.||)"
    "  e.extname::pg_catalog.text OPERATOR(pg_catalog.||) E'\\t' OPERATOR(pg_catalog.||)"
    "  n.nspname::pg_catalog.text OPERATOR(pg_catalog.||) E'\\n', '' ORDER BY e.extname)"
    "  FROM pg_catalog.pg_extension e, pg_catalog.pg_namespace n"
    "  WHERE n.oid OPERATOR(pg_catalog.=) e.extnamespace), ''),"
    " COALESCE((SELECT pg_catalog.string_agg(E'\\n' OPERATOR(pg_catalog.||)"
    "  r.rolname::pg_catalog.text OPERATOR(pg_catalog.||) E'\\n', '' ORDER BY r.rolname)"
    "  FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) ANY (ARRAY("
    "   SELECT n.nspowner FROM pg_catalog.pg_namespace n"
    "    WHERE n.nspname OPERATOR(pg_catalog.~) " SHARDS
    "   UNION SELECT c.relowner FROM pg_catalog.pg_class c, pg_catalog.pg_namespace n"
    "    WHERE n.oid OPERATOR(pg_catalog.=) c.relnamespace"
    "    AND n.nspname OPERATOR(pg_catalog.~) " SHARDS
    "   UNION SELECT a.grantee FROM pg_catalog.pg_class c, pg_catalog.pg_namespace n,"
    "    pg_catalog.aclexplode(c.relacl) a WHERE n.oid OPERATOR(pg_catalog.=) c.relnamespace"
    "    AND n.nspname OPERATOR(pg_catalog.~) " SHARDS
    "   UNION SELECT a.grantee FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a"
    "    WHERE n.nspname OPERATOR(pg_catalog.~) " SHARDS "))), ''),"
    " (EXTRACT(epoch FROM pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*)"
    "  1000000::pg_catalog.numeric)::bigint"
    " FROM pg_catalog.pg_database d"
    " WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()";

static void fini_facts(facts *f) {
    free(f->encoding);
    free(f->collation);
    free(f->extensions);
    free(f->roles);
    free(f->identity);
    *f = (facts){0};
}

static hv_status read_facts(hvi_link *link, int64_t deadline, facts *f, hv_error **error) {
    PGresult *result = NULL;
    int64_t before = hvi_clock_unix_us();
    hv_status status = hvi_link_run(link, facts_sql, deadline, &result, error);
    int64_t after = hvi_clock_unix_us();
    if (status == HV_OK)
        status = hvi_result_check(result, &facts_form, link->server->name, -1, error);
    if (status == HV_OK) {
        *f = (facts){
            .version = hvi_integer_at(result, 0, 0),
            .encoding = strdup(hvi_text_at(result, 0, 1)),
            .collation = strdup(hvi_text_at(result, 0, 2)),
            .extensions = strdup(hvi_text_at(result, 0, 3)),
            .roles = strdup(hvi_text_at(result, 0, 4)),
        };
        int64_t then = hvi_integer_at(result, 0, 5);
        f->ahead = then < before ? then - before : then > after ? then - after : 0;
        if (f->encoding == NULL || f->collation == NULL || f->extensions == NULL ||
            f->roles == NULL)
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

static void compare_extensions(const pair *p) {
    const char *at = p->source->extensions;
    while (*at == '\n') {
        char name[128];
        size_t len = strcspn(++at, "\t"), line = strcspn(at, "\n");
        hvi_buffer text = HVI_BUFFER_EMPTY;
        snprintf(name, sizeof name, "\n%.*s\t", (int) len, at);
        const char *there = strstr(p->target->extensions, name);
        bool is_hstore = strncmp(at, "hstore\t", 7) == 0;
        if (there == NULL) {
            hvi_buffer_append_format(&text, "it has not got the extension %.*s", (int) len, at);
            add(p, is_hstore ? HV_SEVERITY_ERROR : HV_SEVERITY_WARNING, &text,
                "Shards that use it cannot be moved there.", "CREATE EXTENSION, on this server.");
        } else if (is_hstore && strncmp(there + 1, at, line + 1) != 0) {
            hvi_buffer_append_format(&text, "its extension hstore is in another schema");
            add(p, HV_SEVERITY_ERROR, &text, NULL, "ALTER EXTENSION hstore SET SCHEMA …");
        }
        at += line + 1;
    }
}

/* Which roles of the source's shards the target lacks. */
static void compare_roles(const pair *p, int64_t deadline) {
    hvi_buffer sql = HVI_BUFFER_EMPTY, text = HVI_BUFFER_EMPTY, names = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hv_error *cause = NULL;
    int missing = 0;
    hvi_buffer_append_text(&sql, "SELECT rolname FROM pg_catalog.pg_roles");
    if (hvi_link_say(p->to, &sql, deadline, &result, &cause) != HV_OK) {
        hvi_remarks_add_error(p->findings, HV_SEVERITY_WARNING, p->to->server->name, NULL, -1,
                              &cause);
        return;
    }
    for (const char *at = p->source->roles; *at == '\n';) {
        size_t len = strcspn(++at, "\n");
        bool found = false;
        for (int i = 0; !found && i < PQntuples(result); i++)
            found = strlen(PQgetvalue(result, i, 0)) == len &&
                    strncmp(PQgetvalue(result, i, 0), at, len) == 0;
        if (!found && missing++ < MOST_ROLES)
            hvi_buffer_append_format(&names, "%s%.*s", missing > 1 ? ", " : "", (int) len, at);
        at += len + 1;
    }
    PQclear(result);
    if (missing > 0) {
        hvi_buffer_append_format(&text, "%d role%s of its shards %s missing here: %s%s", missing,
                                 missing == 1 ? "" : "s", missing == 1 ? "is" : "are", names.data,
                                 missing > MOST_ROLES ? ", …" : "");
        add(p, HV_SEVERITY_ERROR, &text, "They own, or may use, what is in the shards.",
            "Make these roles on this server, too.");
    }
    hvi_buffer_fini(&names);
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
 * does not exist, which makes no difference. The connection string may hold a password: it is a
 * parameter, and is in no statement's text.
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
    hv_status status =
        hvi_link_run(p->to, "BEGIN;SET LOCAL log_parameter_max_length TO 0", deadline, NULL, error);
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
    if (try_to_connect(p, source, deadline, &cause) == HV_OK)
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

void hvi_doctor_pair(hvi_link *from, hvi_link *to, const hvi_server_options *source,
                     int64_t deadline, hv_findings *findings) {
    facts one = {0}, other = {0};
    hv_error *cause = NULL;
    pair p = {.from = from, .to = to, .source = &one, .target = &other, .findings = findings};
    if (!hvi_link_is_open(from) || !hvi_link_is_open(to))
        return;
    hv_status status = read_facts(from, deadline, &one, &cause);
    if (status == HV_OK)
        status = read_facts(to, deadline, &other, &cause);
    if (status != HV_OK) {
        hvi_remarks_add_error(findings, HV_SEVERITY_ERROR, to->server->name, from->server->name, -1,
                              &cause);
    } else if (strcmp(one.identity, other.identity) == 0) {
        hvi_buffer text = HVI_BUFFER_EMPTY;
        hvi_buffer_append_format(&text, "it is the same database as server \"%s\"",
                                 from->server->name);
        add(&p, HV_SEVERITY_ERROR, &text, NULL, "Correct the configuration.");
    } else {
        compare(&p);
        compare_extensions(&p);
        compare_roles(&p, deadline);
        check_way(&p, source, deadline);
    }
    fini_facts(&one);
    fini_facts(&other);
}

/* ---- shards ---- */

static void check_shard(hvi_link *from, int shard, bool offline, int64_t deadline,
                        hv_findings *findings) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hv_error *cause = NULL;
    hvi_schema_name(shard, schema);
    if (hvi_link_is_open(from) &&
        hvi_fit_check(from, shard, schema, offline, deadline, &cause) != HV_OK)
        hvi_remarks_add_error(findings, HV_SEVERITY_ERROR, from->server->name, NULL, shard, &cause);
}

void hvi_doctor_check(hvi_router *router, hvi_link *from, hvi_link *to, int shard, bool offline,
                      int64_t deadline, hv_findings *findings) {
    if (!offline) {
        hvi_doctor_server(from, HVI_DOCTOR_SOURCE, deadline, findings);
        hvi_doctor_server(to, HVI_DOCTOR_TARGET, deadline, findings);
        hvi_doctor_pair(from, to, &router->options->servers[from->server->number], deadline,
                        findings);
    }
    if (shard >= 0)
        check_shard(from, shard, offline, deadline, findings);
}

/* ---- all servers ---- */

/* With an undo, or when a server is drained later, each is both. */
static void check_servers(hvi_router *router, hvi_link *links, const int *parts,
                          hv_findings *findings) {
    for (int i = 0; i < router->server_count; i++) {
        hv_error *cause = NULL;
        hvi_server *server = &router->servers[i];
        if (parts[i] == 0)
            continue;
        if (hvi_link_open(&links[i], server, hvi_deadline_after(OPEN_MS), &cause) != HV_OK)
            hvi_remarks_add_error(findings, HV_SEVERITY_ERROR, server->name, NULL, -1, &cause);
        else
            hvi_doctor_server(&links[i], parts[i], hvi_deadline_after(CHECK_MS), findings);
    }
}

static void check_shards(hvi_router *router, hvi_link *links, const int *parts, int shard,
                         hv_findings *findings) {
    for (int each = -1; (each = hvi_router_next(router, -1, each)) >= 0;) {
        int server = hvi_router_holder(router, each);
        if ((shard < 0 || each == shard) && server >= 0 && (parts[server] & HVI_DOCTOR_SOURCE) != 0)
            check_shard(&links[server], each, false, hvi_deadline_after(CHECK_MS), findings);
    }
}

hv_status hvi_doctor(hvi_router *router, int from, int to, int shard, hv_findings **findings,
                     hv_error **error) {
    int count = router->server_count;
    hv_findings *made = calloc(1, sizeof *made);
    hvi_link *links = calloc((size_t) count, sizeof *links);
    int *parts = calloc((size_t) count, sizeof *parts);
    hv_status status = HV_OK;
    if (made == NULL || links == NULL || parts == NULL) {
        status = hvi_no_memory(error);
        goto out;
    }
    for (int i = 0; i < count; i++)
        parts[i] = (from < 0 || i == from ? HVI_DOCTOR_SOURCE : 0) |
                   (to < 0 || i == to ? HVI_DOCTOR_TARGET : 0);
    check_servers(router, links, parts, made);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < count; j++)
            if (i != j && (parts[i] & HVI_DOCTOR_SOURCE) != 0 &&
                (parts[j] & HVI_DOCTOR_TARGET) != 0)
                hvi_doctor_pair(&links[i], &links[j], &router->options->servers[i],
                                hvi_deadline_after(CHECK_MS), made);
    check_shards(router, links, parts, shard, made);
    for (int i = 0; i < count; i++)
        hvi_link_close(&links[i]);
    if (made->is_broken)
        status = hvi_no_memory(error);
out:
    free(links);
    free(parts);
    if (status != HV_OK) {
        hv_findings_free(made);
        return status;
    }
    *findings = made;
    return HV_OK;
}
