/*
 * doctor_server: the checks of one server.
 *
 * Each is a statement whose rows are what is wrong: a sentence, and a detail or nothing.
 */
#include "move/doctor.h"
#include "move/names.h"
#include "wire/result.h"

/* | of parts: this matters also where no stream is needed. */
enum { ALSO_OFFLINE = 4 };

typedef struct check {
    int parts;
    hv_severity severity;
    const char *about; /* for a check that cannot be made: "settings" */
    const char *sql;
    const char *hint;
    int since; /* the version of PostgreSQL from which on it can be asked; 0: all */
} check;

#define SETTING(name) "pg_catalog.current_setting('" name "')::integer"
#define EITHER        (HVI_DOCTOR_SOURCE | HVI_DOCTOR_TARGET)
#define TAKEN(what)   "SELECT pg_catalog.format('%s of %s " what " are taken', n, m), "
#define OF_MOVES      " OPERATOR(pg_catalog.~) '^(hypervault_[0-9]{4}_|pg_[0-9]+_sync_)'"

/*
 * Of n that are taken, of m that there are, t are taken by moves, which give them back. A move
 * takes two, one of them while it copies tables; if there are more, it copies more tables at a
 * time.
 */
#define TOO_FEW                                                  \
    " WHERE n OPERATOR(pg_catalog.+) 2 OPERATOR(pg_catalog.>) m" \
    " AND t OPERATOR(pg_catalog.=) 0"
#define FEW                                                      \
    " WHERE n OPERATOR(pg_catalog.+) 3 OPERATOR(pg_catalog.>) m" \
    " AND (n OPERATOR(pg_catalog.+) 2 OPERATOR(pg_catalog.<=) m" \
    "  OR t OPERATOR(pg_catalog.>) 0)"
/* Without one for itself a move fails at once. */
#define NONE " OR n OPERATOR(pg_catalog.>=) m"
#define SOME " AND n OPERATOR(pg_catalog.<) m"

#define SLOTS_FROM                                                                           \
    " FROM (SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) AS n, " \
    "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots s"                     \
    " WHERE s.slot_name::pg_catalog.text" OF_MOVES                                           \
    ") AS t, " SETTING("max_replication_slots") " AS m) AS x"
#define SENDERS_FROM                                                                        \
    " FROM (SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication) AS n, " \
    "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication s"                     \
    " WHERE s.application_name" OF_MOVES ") AS t, " SETTING("max_wal_senders") " AS m) AS x"
#define WORKERS_FROM                                                                             \
    " FROM (SELECT (SELECT pg_catalog.count(s.pid) FROM pg_catalog.pg_stat_subscription s) AS n" \
    ", (SELECT pg_catalog.count(s.pid) FROM pg_catalog.pg_stat_subscription s"                   \
    " WHERE s.subname::pg_catalog.text" OF_MOVES                                                 \
    ") AS t, LEAST(" SETTING("max_logical_replication_workers") ", " SETTING(                    \
        "max_worker_processes") " OPERATOR(pg_catalog.-) 1) AS m) AS x"
#define ORIGINS_FROM                                                                        \
    " FROM (SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_origin) AS n" \
    ", (SELECT pg_catalog.count(*) FROM pg_catalog.pg_subscription s"                       \
    " WHERE s.subname::pg_catalog.text" OF_MOVES                                            \
    ") AS t, (SELECT s.setting::integer FROM pg_catalog.pg_settings s WHERE s.name"         \
    " OPERATOR(pg_catalog.=) ANY (ARRAY['max_replication_slots',"                           \
    " 'max_active_replication_origins']) ORDER BY s.name LIMIT 1) AS m) AS x"

/* A limit of a server, once as an error and once as a warning. */
#define LIMIT(part, about, what, from, none, some, hint)                                           \
    {part,  HV_SEVERITY_ERROR,                                                                     \
     about, TAKEN(what) "'A move takes two of them.'" from TOO_FEW none,                           \
     hint,  0},                                                                                    \
    {                                                                                              \
        part, HV_SEVERITY_WARNING, about,                                                          \
            TAKEN(what) "'A move takes one, and two more while tables are copied.'" from FEW some, \
            hint, 0                                                                                \
    }

static const check checks[] = {
    {EITHER | ALSO_OFFLINE, HV_SEVERITY_ERROR, "whether it takes writes",
     "SELECT 'it is a standby', NULL WHERE pg_catalog.pg_is_in_recovery()",
     "Name its primary in the configuration, or set target_session_attrs = read-write.", 0},
    {HVI_DOCTOR_SOURCE, HV_SEVERITY_ERROR, "wal_level",
     "SELECT 'wal_level is ' OPERATOR(pg_catalog.||) pg_catalog.current_setting('wal_level')"
     " OPERATOR(pg_catalog.||) ', and moving a shard while it is used takes logical', NULL"
     " WHERE pg_catalog.current_setting('wal_level') OPERATOR(pg_catalog.<>) 'logical'",
     "Set wal_level = logical in postgresql.conf and restart the server; or move offline.", 0},
    {HVI_DOCTOR_SOURCE, HV_SEVERITY_ERROR, "the role",
     "SELECT pg_catalog.format('the role %s has not got the attribute REPLICATION', rolname), NULL"
     " FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) CURRENT_USER"
     " AND NOT rolreplication AND NOT rolsuper",
     "ALTER ROLE … REPLICATION, as a superuser.", 0},
    {HVI_DOCTOR_SOURCE, HV_SEVERITY_WARNING, "max_slot_wal_keep_size",
     "SELECT 'max_slot_wal_keep_size is ' OPERATOR(pg_catalog.||)"
     " pg_catalog.current_setting('max_slot_wal_keep_size'),"
     " 'If more is written while a shard is copied, its slot is lost and the move ends.'"
     " FROM pg_catalog.pg_settings"
     " WHERE name OPERATOR(pg_catalog.=) 'max_slot_wal_keep_size'"
     " AND setting::bigint OPERATOR(pg_catalog.>=) 0"
     " AND setting::bigint OPERATOR(pg_catalog.<) 1024",
     "Raise it: the move option max_wal protects the server, too.", 0},
    {EITHER, HV_SEVERITY_WARNING, "settings of roles",
     "SELECT pg_catalog.format('%s is set for %s', c,"
     "  CASE WHEN s.setrole OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'the database'"
     "  ELSE 'the role ' OPERATOR(pg_catalog.||)"
     "   pg_catalog.pg_get_userbyid(s.setrole)::pg_catalog.text END),"
     " 'It may end a copy that takes longer.'"
     " FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS c"
     " WHERE (s.setrole OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR"
     "  pg_catalog.pg_get_userbyid(s.setrole) OPERATOR(pg_catalog.=) CURRENT_USER)"
     " AND (s.setdatabase OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.setdatabase"
     "  OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d"
     "  WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))"
     " AND c OPERATOR(pg_catalog.~)"
     "  '^(statement_timeout|idle_in_transaction_session_timeout|transaction_timeout)=[^0]'"
     "  ::pg_catalog.text",
     "Set move_user to a role without it, or ALTER ROLE … RESET it while shards move.", 0},
    {HVI_DOCTOR_SOURCE, HV_SEVERITY_WARNING, "long transactions",
     "SELECT pg_catalog.format('a transaction of %s has been open for %s s', usename,"
     "  EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) xact_start)"
     "  ::integer), pg_catalog.format('Its process is %s, %s.', pid, state)"
     " FROM pg_catalog.pg_stat_activity"
     " WHERE backend_type OPERATOR(pg_catalog.=) 'client backend'::pg_catalog.text"
     " AND pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()"
     " AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)"
     " AND xact_start OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp()"
     "  OPERATOR(pg_catalog.-) '1 min'::pg_catalog.interval)",
     "A move waits for it before it copies: end it, or pg_terminate_backend(…).", 0},
    {HVI_DOCTOR_SOURCE, HV_SEVERITY_WARNING, "prepared transactions",
     "SELECT pg_catalog.format('the transaction %L has been prepared since %s', gid, prepared),"
     " pg_catalog.format('It is %s''s, in the database %s.', owner, database)"
     " FROM pg_catalog.pg_prepared_xacts"
     " WHERE prepared OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp()"
     "  OPERATOR(pg_catalog.-) '1 min'::pg_catalog.interval)",
     "A move waits for it before it copies: COMMIT PREPARED or ROLLBACK PREPARED.", 0},
    {HVI_DOCTOR_SOURCE, HV_SEVERITY_WARNING, "publications",
     "SELECT pg_catalog.format('the publication %I is for all tables', pubname),"
     " 'It publishes the tables with which shards are moved, too, and the rows of a shard twice.'"
     " FROM pg_catalog.pg_publication WHERE puballtables",
     "Publish the tables by name, or the schemas (FOR TABLES IN SCHEMA).", 0},
    {HVI_DOCTOR_SOURCE, HV_SEVERITY_WARNING, "slots that keep WAL",
     "SELECT pg_catalog.format('the slot %I, which nobody uses, keeps %s of WAL', slot_name,"
     "  pg_catalog.pg_size_pretty(kept)), NULL FROM (SELECT slot_name,"
     "  pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL"
     "   ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn) AS kept"
     "  FROM pg_catalog.pg_replication_slots WHERE NOT active) AS x"
     " WHERE kept OPERATOR(pg_catalog.>) 1073741824::pg_catalog.numeric",
     "Start whoever uses it, or SELECT pg_drop_replication_slot(…): the disk fills.", 0},
    {HVI_DOCTOR_TARGET, HV_SEVERITY_ERROR, "the role's rights",
     "SELECT pg_catalog.format('the role %s may not make subscriptions', rolname), NULL"
     " FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) CURRENT_USER"
     " AND NOT rolsuper AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles r"
     "  WHERE r.rolname OPERATOR(pg_catalog.=) 'pg_create_subscription'"
     "  AND pg_catalog.pg_has_role(r.oid, 'MEMBER'))",
     "Up to PostgreSQL 15 only superusers may; later GRANT pg_create_subscription TO it.", 0},
    {EITHER | ALSO_OFFLINE, HV_SEVERITY_ERROR, "the right to make schemas",
     "SELECT pg_catalog.format('the role %s may not make schemas', CURRENT_USER), NULL"
     " WHERE NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')",
     "GRANT CREATE ON DATABASE … TO it.", 0},
    {HVI_DOCTOR_TARGET, HV_SEVERITY_ERROR, "max_sync_workers_per_subscription",
     "SELECT 'max_sync_workers_per_subscription is 0', 'No table would ever be copied.'"
     " FROM pg_catalog.pg_settings"
     " WHERE name OPERATOR(pg_catalog.=) 'max_sync_workers_per_subscription'"
     " AND setting::bigint OPERATOR(pg_catalog.=) 0",
     "ALTER SYSTEM RESET max_sync_workers_per_subscription, and SELECT "
     "pg_catalog.pg_reload_conf().",
     0},
    {HVI_DOCTOR_TARGET, HV_SEVERITY_WARNING, "wal_retrieve_retry_interval",
     "SELECT 'wal_retrieve_retry_interval is ' OPERATOR(pg_catalog.||)"
     " pg_catalog.current_setting('wal_retrieve_retry_interval'),"
     " 'Workers are started no more often than that, and each move to it may wait for so long.'"
     " FROM pg_catalog.pg_settings"
     " WHERE name OPERATOR(pg_catalog.=) 'wal_retrieve_retry_interval'"
     " AND setting::bigint OPERATOR(pg_catalog.>) 1000",
     "ALTER SYSTEM SET wal_retrieve_retry_interval TO '500ms', and SELECT "
     "pg_catalog.pg_reload_conf().",
     0},
    LIMIT(HVI_DOCTOR_SOURCE, "its slots", "replication slots", SLOTS_FROM, NONE, SOME,
          "Raise max_replication_slots and restart the server, or drop slots that nobody needs."),
    LIMIT(HVI_DOCTOR_SOURCE, "its senders", "WAL senders", SENDERS_FROM, NONE, SOME,
          "Raise max_wal_senders and restart the server."),
    LIMIT(HVI_DOCTOR_TARGET, "its workers", "workers of logical replication", WORKERS_FROM, "", "",
          "Raise max_logical_replication_workers and max_worker_processes, and restart the "
          "server."),
    LIMIT(HVI_DOCTOR_TARGET, "its origins", "replication origins", ORIGINS_FROM, "", "",
          "Raise max_replication_slots (from PostgreSQL 18 on max_active_replication_origins), and "
          "restart the server."),
    {HVI_DOCTOR_SOURCE, HV_SEVERITY_WARNING, "wal_sender_timeout",
     "SELECT 'wal_sender_timeout is ' OPERATOR(pg_catalog.||)"
     " pg_catalog.current_setting('wal_sender_timeout'),"
     " CASE WHEN setting::bigint OPERATOR(pg_catalog.=) 0"
     "  THEN 'A target that has gone is not noticed, and its slot stays in use.'"
     "  ELSE 'A target that is busy for so long is cut off, and has to connect again.' END"
     " FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'wal_sender_timeout'"
     " AND setting::bigint OPERATOR(pg_catalog.<) 10000",
     "ALTER SYSTEM SET wal_sender_timeout TO '60s', and SELECT pg_catalog.pg_reload_conf().", 0},
    {HVI_DOCTOR_TARGET, HV_SEVERITY_WARNING, "wal_receiver_timeout",
     "SELECT 'wal_receiver_timeout is ' OPERATOR(pg_catalog.||)"
     " pg_catalog.current_setting('wal_receiver_timeout'),"
     " CASE WHEN setting::bigint OPERATOR(pg_catalog.=) 0"
     "  THEN 'A source that has gone is not noticed, and the copy waits for it.'"
     "  ELSE 'A source that is busy for so long is left, and has to be connected to again.' END"
     " FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'wal_receiver_timeout'"
     " AND setting::bigint OPERATOR(pg_catalog.<) 10000",
     "ALTER SYSTEM SET wal_receiver_timeout TO '60s', and SELECT pg_catalog.pg_reload_conf().", 0},
    {EITHER | ALSO_OFFLINE, HV_SEVERITY_WARNING, "event triggers",
     "SELECT pg_catalog.format('the event trigger %I runs at %s', evtname, evtevent),"
     " 'A move makes, alters and drops tables; it may refuse this, or do more than is wanted.'"
     " FROM pg_catalog.pg_event_trigger WHERE evtevent OPERATOR(pg_catalog.=)"
     " ANY (ARRAY['ddl_command_start', 'ddl_command_end', 'sql_drop'])"
     " AND evtenabled OPERATOR(pg_catalog.=) ANY (ARRAY['O', 'A'])",
     "See what it does; ALTER EVENT TRIGGER … DISABLE while shards move.", 0},
    {EITHER | ALSO_OFFLINE, HV_SEVERITY_WARNING, "the collation's version",
     "SELECT pg_catalog.format('its database was made with version %s of its collation, and the"
     " system has %s now', datcollversion,"
     " pg_catalog.pg_database_collation_actual_version(oid)),"
     " 'Its indexes of texts may be out of order, so that rows are not found.'"
     " FROM pg_catalog.pg_database"
     " WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()"
     " AND datcollversion OPERATOR(pg_catalog.<>)"
     " pg_catalog.pg_database_collation_actual_version(oid)",
     "REINDEX DATABASE, and ALTER DATABASE … REFRESH COLLATION VERSION.", 150000},
};

#define COUNT (sizeof checks / sizeof checks[0])

/* What moves have left behind. Without the table of the journal there is no move. */
#define NAMED(kind, name, from)                                                               \
    "SELECT 'the " kind " ' OPERATOR(pg_catalog.||) " name "::pg_catalog.text AS what, " name \
    "::pg_catalog.text AS name FROM " from " WHERE " name                                     \
    "::pg_catalog.text OPERATOR(pg_catalog.~) " HVI_MOVE_NAME_PATTERN "::pg_catalog.text"
#define OF_DATABASE                                               \
    "(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname" \
    " OPERATOR(pg_catalog.=) pg_catalog.current_database())"
#define SLOTS         NAMED("slot", "slot_name", "pg_catalog.pg_replication_slots")
#define PUBLICATIONS  NAMED("publication", "pubname", "pg_catalog.pg_publication")
#define SUBSCRIPTIONS NAMED("subscription", "subname", "pg_catalog.pg_subscription")
#define SCHEMAS       NAMED("schema", "nspname", "pg_catalog.pg_namespace")
#define AND           " UNION ALL "
#define ALL_LEFT_OVER                                                                          \
    SLOTS " AND datoid OPERATOR(pg_catalog.=) " OF_DATABASE AND PUBLICATIONS AND SUBSCRIPTIONS \
          " AND subdbid OPERATOR(pg_catalog.=) " OF_DATABASE AND SCHEMAS

static const check has_journal = {
    EITHER,
    HV_SEVERITY_WARNING,
    "what moves have left",
    "SELECT 'yes', NULL FROM pg_catalog.pg_class c, pg_catalog.pg_namespace n"
    " WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid"
    " AND n.nspname OPERATOR(pg_catalog.=) 'hypervault' AND c.relname OPERATOR(pg_catalog.=) "
    "'moves'",
    NULL,
    0};

static const char left_hint[] =
    "No journal has its move, so remove it by hand: a subscription first (DISABLE, SET (slot_name "
    "= "
    "NONE), DROP), then the slot; in a schema, ALTER TABLE … DETACH PARTITION what its tables have "
    "as partitions, which are the shard's own tables, and only then DROP TABLE, DROP PUBLICATION "
    "and DROP SCHEMA, never with CASCADE.";

static const check left_over = {
    EITHER,
    HV_SEVERITY_WARNING,
    "what moves have left",
    "SELECT what OPERATOR(pg_catalog.||) ' is left over from a move', NULL"
    " FROM (" ALL_LEFT_OVER ") AS x WHERE NOT EXISTS (SELECT FROM hypervault.moves m"
    " WHERE m.shard OPERATOR(pg_catalog.=) pg_catalog.substr(name, 12, 4)::integer)",
    left_hint,
    0};

static const check left_over_alone = {
    EITHER,
    HV_SEVERITY_WARNING,
    "what moves have left",
    "SELECT what OPERATOR(pg_catalog.||) ' is left over from a move', NULL"
    " FROM (" ALL_LEFT_OVER ") AS x",
    left_hint,
    0};

static const hvi_form form = {
    .asked = "what may keep shards from moving",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_BYTES, HVI_IS_BYTES | HVI_OR_NULL},
};

/* Ask; NULL after a failure, which is a finding. */
static PGresult *ask(hvi_link *link, const check *c, int64_t deadline, hv_findings *findings) {
    PGresult *result = NULL;
    hv_error *cause = NULL;
    if (!hvi_link_is_open(link))
        return NULL;
    hv_status status = hvi_link_run(link, c->sql, deadline, &result, &cause);
    if (status == HV_OK)
        status = hvi_result_check(result, &form, link->server->name, -1, &cause);
    if (status == HV_OK)
        return result;
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&text, "could not look at %s", c->about);
    hvi_remarks_add(findings, &(hv_finding){.severity = HV_SEVERITY_WARNING,
                                            .server = link->server->name,
                                            .shard = -1,
                                            .text = text.data,
                                            .detail = hv_error_message(cause),
                                            .hint = hv_error_hint(cause)});
    hvi_buffer_fini(&text);
    hv_error_free(cause);
    PQclear(result);
    return NULL;
}

static void add(const hvi_link *link, const check *c, const PGresult *result, int row, int column,
                hv_findings *findings) {
    hvi_remarks_add(findings, &(hv_finding){.severity = c->severity,
                                            .server = link->server->name,
                                            .shard = -1,
                                            .text = hvi_text_at(result, row, column),
                                            .detail = PQgetisnull(result, row, column + 1)
                                                          ? NULL
                                                          : hvi_text_at(result, row, column + 1),
                                            .hint = c->hint});
}

static void run(hvi_link *link, const check *c, int64_t deadline, hv_findings *findings) {
    PGresult *result = ask(link, c, deadline, findings);
    for (int i = 0; result != NULL && i < PQntuples(result); i++)
        add(link, c, result, i, 0, findings);
    PQclear(result);
}

/* ---- all of them ---- */

static const hvi_form all_form = {
    .asked = "what may keep shards from moving",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_INT8, HVI_IS_BYTES, HVI_IS_BYTES | HVI_OR_NULL},
};

static bool is_wanted(const check *c, const hvi_link *link, int parts,
                      const hvi_doctor_scope *scope) {
    return (c->parts & parts) != 0 && (!scope->is_offline || (c->parts & ALSO_OFFLINE) != 0) &&
           (!scope->only_errors || c->severity == HV_SEVERITY_ERROR) &&
           PQserverVersion(link->session->conn) >= c->since;
}

/* All in one statement; false if a server refuses it because of one of them. */
static bool run_together(hvi_link *link, int parts, const hvi_doctor_scope *scope, int64_t deadline,
                         hv_findings *findings) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hv_error *cause = NULL;
    for (size_t i = 0; i < COUNT; i++)
        if (is_wanted(&checks[i], link, parts, scope)) {
            hvi_buffer_append_text(&sql, sql.len > 0 ? " UNION ALL " : "");
            hvi_buffer_append_format(&sql, "SELECT %d::bigint, c.found::pg_catalog.text,", (int) i);
            hvi_buffer_append_text(&sql, " c.detail::pg_catalog.text FROM (");
            hvi_buffer_append_text(&sql, checks[i].sql);
            hvi_buffer_append_text(&sql, ") AS c(found, detail)");
        }
    hvi_buffer_append_text(&sql, " ORDER BY 1");
    hv_status status = hvi_link_say(link, &sql, deadline, &result, &cause);
    if (status == HV_OK)
        status = hvi_result_check(result, &all_form, link->server->name, -1, &cause);
    for (int i = 0; status == HV_OK && i < PQntuples(result); i++) {
        size_t number = (size_t) hvi_integer_at(result, i, 0);
        if (number < COUNT)
            add(link, &checks[number], result, i, 1, findings);
    }
    PQclear(result);
    if (status != HV_OK && status != HV_REFUSED)
        hvi_remarks_add_error(findings, HV_SEVERITY_ERROR, link->server->name, NULL, -1, &cause);
    hv_error_free(cause);
    return status != HV_REFUSED;
}

/* A pooler in between is no obstacle as long as each session keeps its connection. */
static void check_pooler(hvi_link *link, int64_t deadline, hv_findings *findings) {
    hv_error *cause = NULL;
    if (!link->is_pooled || !hvi_link_is_open(link))
        return;
    if (hvi_link_check_pooler(link, deadline, &cause) != HV_OK)
        hvi_remarks_add_error(findings, HV_SEVERITY_ERROR, link->server->name, NULL, -1, &cause);
    else
        hvi_remarks_add(
            findings,
            &(hv_finding){.severity = HV_SEVERITY_WARNING,
                          .server = link->server->name,
                          .shard = -1,
                          .text = "it is reached through a connection pooler",
                          .detail = "Each session must keep its connection until it ends, and the "
                                    "other servers cannot subscribe through it.",
                          .hint = HVI_LINK_POOLER_HINT});
}

static void check_encoding(hvi_link *link, int64_t deadline, hv_findings *findings) {
    hv_error *cause = NULL;
    if (!hvi_link_is_open(link))
        return;
    hv_status status = hvi_link_check_encoding(link, deadline, &cause);
    if (status != HV_OK)
        hvi_remarks_add_error(findings,
                              status == HV_INVALID ? HV_SEVERITY_ERROR : HV_SEVERITY_WARNING,
                              link->server->name, NULL, -1, &cause);
}

void hvi_doctor_server(hvi_link *link, int parts, const hvi_doctor_scope *scope, int64_t deadline,
                       hv_findings *findings) {
    if (!hvi_link_is_open(link))
        return;
    if (!run_together(link, parts, scope, deadline, findings))
        for (size_t i = 0; i < COUNT; i++)
            if (hvi_link_is_open(link) && is_wanted(&checks[i], link, parts, scope))
                run(link, &checks[i], deadline, findings);
    if ((parts & HVI_DOCTOR_TARGET) != 0 && !scope->is_offline)
        check_encoding(link, deadline, findings);
    if (scope->only_errors)
        return;
    check_pooler(link, deadline, findings);
    PGresult *journal = ask(link, &has_journal, deadline, findings);
    if (journal != NULL)
        run(link, PQntuples(journal) > 0 ? &left_over : &left_over_alone, deadline, findings);
    PQclear(journal);
}
