/*
 * trial: run statements on copies of a shard's tables, and see what they lock and rewrite.
 */
#include "schema/trial.h"

#include <stdlib.h>
#include <string.h>

#include "schema/shard_sql.h"
#include "value/shard_map.h"
#include "wire/result.h"

/* The schema of temporary objects, whatever its name is. */
#define SCHEMA "pg_temp"

#define LOCK_TIMEOUT_MS 1000

typedef struct trial_job {
    hvi_job job;
    const hv_migrations *migrations;
    const bool *tried;
    hv_plan *plan;
    bool is_copied;
    size_t next;       /* the step that is tried */
    bool is_uncertain; /* a statement before it was not tried */
    bool is_contained; /* the one before it has changed copies only, and is to be committed */
    hvi_buffer sql;
    size_t before; /* characters in front of the statement */
} trial_job;

/* ---- the copies ---- */

/* What cannot be copied, other than a table, is left out: a statement that needs it is refused,
 * which the plan says. The shard's schema as a qualifier becomes that of temporary objects. */
static const char copy_sql[] =
    "DO $copy$ DECLARE o record; s CONSTANT pg_catalog.text := '%s';"
    " q CONSTANT pg_catalog.text := '\\m%s\\.';"
    " BEGIN "
    "SET LOCAL check_function_bodies TO off;"
    " FOR o IN"
    /* sequences */
    " SELECT pg_catalog.format('CREATE TEMP SEQUENCE %%I', c.relname) AS sql, 1 AS place"
    " FROM pg_catalog.pg_class AS c WHERE c.relkind OPERATOR(pg_catalog.=) 'S'"
    " AND c.relnamespace OPERATOR(pg_catalog.=) s::pg_catalog.regnamespace"
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d"
    " WHERE d.objid OPERATOR(pg_catalog.=) c.oid AND d.deptype OPERATOR(pg_catalog.=) 'i')"
    /* enums */
    " UNION ALL SELECT pg_catalog.format('CREATE TYPE " SCHEMA ".%%I AS ENUM (%%s)', t.typname,"
    " (SELECT pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel::pg_catalog.text), ','"
    " ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum AS e"
    " WHERE e.enumtypid OPERATOR(pg_catalog.=) t.oid)), 2 FROM pg_catalog.pg_type AS t"
    " WHERE t.typtype OPERATOR(pg_catalog.=) 'e'"
    " AND t.typnamespace OPERATOR(pg_catalog.=) s::pg_catalog.regnamespace"
    /* tables, with columns, defaults, constraints of their own and indexes */
    " UNION ALL SELECT pg_catalog.format('CREATE TEMP TABLE %%I (LIKE %%I.%%I INCLUDING ALL)',"
    " c.relname, s, c.relname), 3 FROM pg_catalog.pg_class AS c"
    " WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p}')"
    " AND c.relnamespace OPERATOR(pg_catalog.=) s::pg_catalog.regnamespace"
    " AND c.relname OPERATOR(pg_catalog.<>) '" HVI_LEDGER "'"
    /* functions */
    " UNION ALL SELECT pg_catalog.regexp_replace(pg_catalog.pg_get_functiondef(p.oid), q,"
    " '" SCHEMA ".', 'g'), 4 FROM pg_catalog.pg_proc AS p"
    " WHERE p.prokind OPERATOR(pg_catalog.<>) 'a'"
    " AND p.pronamespace OPERATOR(pg_catalog.=) s::pg_catalog.regnamespace"
    /* views */
    " UNION ALL SELECT pg_catalog.format('CREATE TEMP VIEW %%I AS %%s', c.relname,"
    " pg_catalog.regexp_replace(pg_catalog.pg_get_viewdef(c.oid), q, '" SCHEMA ".', 'g')), 5"
    " FROM pg_catalog.pg_class AS c WHERE c.relkind OPERATOR(pg_catalog.=) 'v'"
    " AND c.relnamespace OPERATOR(pg_catalog.=) s::pg_catalog.regnamespace"
    /* foreign keys */
    " UNION ALL SELECT pg_catalog.format('ALTER TABLE " SCHEMA ".%%I ADD CONSTRAINT %%I %%s',"
    " c.relname, r.conname, pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(r.oid), q,"
    " '" SCHEMA ".', 'g')), 6 FROM pg_catalog.pg_constraint AS r"
    " JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) r.conrelid"
    " WHERE r.contype OPERATOR(pg_catalog.=) 'f'"
    " AND c.relnamespace OPERATOR(pg_catalog.=) s::pg_catalog.regnamespace"
    /* triggers */
    " UNION ALL SELECT pg_catalog.regexp_replace(pg_catalog.pg_get_triggerdef(t.oid), q,"
    " '" SCHEMA ".', 'g'), 7 FROM pg_catalog.pg_trigger AS t"
    " JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid"
    " WHERE NOT t.tgisinternal"
    " AND c.relnamespace OPERATOR(pg_catalog.=) s::pg_catalog.regnamespace"
    " ORDER BY 2"
    " LOOP BEGIN EXECUTE o.sql; EXCEPTION WHEN OTHERS THEN"
    " IF o.place OPERATOR(pg_catalog.=) 3 THEN RAISE; END IF; END;"
    " END LOOP; END $copy$";

static hvi_job_next end(trial_job *t, hv_status status) {
    t->job.work = status == HV_OK ? HV_WORK_DONE : HV_WORK_FAILED;
    return HVI_JOB_END;
}

static hvi_job_next run(trial_job *t, int wanted, hvi_request *request) {
    if (!hvi_buffer_ok(&t->sql))
        return end(t, hvi_no_memory(&t->job.error));
    request->sql = t->sql.data;
    request->wanted = wanted;
    return HVI_JOB_RUN;
}

/* The real schema comes behind the copies, because functions are not looked for among temporary
 * objects. */
static hvi_job_next copy(trial_job *t, const hvi_session *session, hvi_request *request) {
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(t->job.shard, schema);
    hvi_buffer_reset(&t->sql);
    hvi_buffer_append_format(&t->sql, "SET lock_timeout TO %d;SET search_path TO pg_catalog;",
                             LOCK_TIMEOUT_MS);
    hvi_buffer_append_format(&t->sql, copy_sql, schema, schema);
    hvi_buffer_append_text(&t->sql, ";SET search_path TO " SCHEMA ", ");
    hvi_shard_sql_path(&t->sql, session, t->job.shard);
    return run(t, 0, request);
}

/* ---- one statement ---- */

/* Keep what the tables are before the statement, and the OIDs of all temporary objects, in settings
 * of this transaction. */
static const char before_sql[] =
    "SELECT pg_catalog.set_config('hypervault.temporary', ARRAY("
    "SELECT oid FROM pg_catalog.pg_class WHERE relpersistence OPERATOR(pg_catalog.=) 't'"
    " UNION ALL SELECT oid FROM pg_catalog.pg_proc"
    " WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"
    " UNION ALL SELECT oid FROM pg_catalog.pg_type"
    " WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"
    ")::pg_catalog.text, true),"
    " pg_catalog.set_config('hypervault.before', coalesce(("
    "SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('table', c.oid, 'name', c.relname,"
    " 'file', c.relfilenode, 'scans', pg_catalog.pg_stat_get_xact_numscans(c.oid)))"
    " FROM pg_catalog.pg_class AS c"
    " WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"
    " AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p}')), '[]')::pg_catalog.text, true);";

/* The table of the strongest lock: its name, the lock's rank, was it written anew, was it read; and
 * tables elsewhere that were locked more than for reading. */
static const char after_sql[] =
    "\n;SELECT s.name, s.rank, s.anew, s.scanned, (SELECT pg_catalog.string_agg(DISTINCT "
    "pg_catalog.format('%I.%I', n.nspname,"
    " c.relname), ', ') FROM pg_catalog.pg_locks AS l"
    " JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) l.relation"
    " JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
    " WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"
    " AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m}')"
    " AND l.mode OPERATOR(pg_catalog.<>) ALL ('{AccessShareLock,RowShareLock}')"
    " AND n.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,pg_toast,information_schema}')"
    " AND n.oid OPERATOR(pg_catalog.<>) pg_catalog.pg_my_temp_schema())";

static const char seen_sql[] =
    " FROM (SELECT) AS one LEFT JOIN ("
    "SELECT b.name, pg_catalog.max(pg_catalog.array_position('{AccessShareLock,RowShareLock,"
    "RowExclusiveLock,ShareUpdateExclusiveLock,ShareLock,ShareRowExclusiveLock,ExclusiveLock,"
    "AccessExclusiveLock}'::pg_catalog.text[], l.mode)) AS rank,"
    " coalesce(pg_catalog.bool_or(c.relfilenode OPERATOR(pg_catalog.<>) b.file), false) AS anew,"
    " pg_catalog.bool_or(pg_catalog.pg_stat_get_xact_numscans(b.\"table\")"
    " OPERATOR(pg_catalog.>) b.scans) AS scanned"
    " FROM pg_catalog.jsonb_to_recordset(pg_catalog.current_setting('hypervault.before')"
    "::pg_catalog.jsonb) AS b(\"table\" pg_catalog.oid, name pg_catalog.text,"
    " file pg_catalog.oid, scans bigint)"
    " JOIN pg_catalog.pg_locks AS l ON l.relation OPERATOR(pg_catalog.=) b.\"table\""
    " AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"
    " LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) b.\"table\""
    " GROUP BY b.\"table\", b.name ORDER BY 3 DESC, 2 DESC, 4 DESC, 1 LIMIT 1) AS s ON true";

/*
 * Two columns of that: has the statement changed temporary objects only, as far as locks and rows
 * of catalogues show it, and has it changed anything? (Objects with an OID below 16384 are the
 * catalogues themselves.) What is locked and has no row any more was dropped; or, in ALTER TABLE,
 * it is the file of a table that is written anew (%s: true).
 */
static const char contained_sql[] =
    ", NOT EXISTS (SELECT FROM pg_catalog.pg_locks AS l"
    " LEFT JOIN pg_catalog.pg_class AS c ON l.locktype OPERATOR(pg_catalog.=) 'relation'"
    " AND c.oid OPERATOR(pg_catalog.=) l.relation"
    " CROSS JOIN LATERAL (SELECT coalesce(l.relation, l.objid)) AS o(id)"
    " WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"
    " AND l.locktype OPERATOR(pg_catalog.=) ANY ('{relation,object}')"
    " AND l.mode OPERATOR(pg_catalog.<>) ALL ('{AccessShareLock,RowShareLock}')"
    " AND o.id OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid"
    " AND coalesce(l.classid OPERATOR(pg_catalog.<>) ALL ("
    "'{pg_catalog.pg_attrdef,pg_catalog.pg_constraint,pg_catalog.pg_rewrite,pg_catalog.pg_trigger}'"
    "::pg_catalog.regclass[]::pg_catalog.oid[]), true)" /* the lock of their table counts */
    " AND o.id OPERATOR(pg_catalog.<>) ALL"
    " (pg_catalog.current_setting('hypervault.temporary')::pg_catalog.oid[])"
    " AND (CASE WHEN c.oid IS NOT NULL THEN c.relpersistence OPERATOR(pg_catalog.<>) 't'"
    " WHEN l.locktype OPERATOR(pg_catalog.=) 'relation' THEN NOT %s ELSE true END))"
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_class"
    " WHERE xmin OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.xid"
    " AND relpersistence OPERATOR(pg_catalog.<>) 't')"
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc"
    " WHERE xmin OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.xid"
    " AND pronamespace OPERATOR(pg_catalog.<>) pg_catalog.pg_my_temp_schema())"
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_type"
    " WHERE xmin OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.xid"
    " AND typnamespace OPERATOR(pg_catalog.<>) pg_catalog.pg_my_temp_schema()),"
    " pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL";

/* Statements that may be committed if they are contained: they change nothing that contained_sql
 * does not look at. A trigger may do anything, such as pg_notify(), so no rows are changed. */
static const char *const committed[] = {
    "alter table",   "create table",        "drop table",
    "create index",  "create unique index", "alter index",
    "drop index",    "create view",         "create or replace view",
    "drop view",     "create sequence",     "alter sequence",
    "drop sequence", "create type",         "alter type",
    "drop type",     "create function",     "create or replace function",
    "drop function", "create trigger",      "create or replace trigger",
    "drop trigger",
};

#define COUNT_BEFORE 3 /* BEGIN, SET LOCAL, before_sql */

static const hvi_form seen_form = {
    .asked = "the locks of a statement",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BYTES | HVI_OR_NULL, HVI_IS_INT4 | HVI_OR_NULL, HVI_IS_BOOL | HVI_OR_NULL,
                HVI_IS_BOOL | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL, HVI_IS_BOOL, HVI_IS_BOOL},
};

static const char *const locks[] = {
    NULL,    "ACCESS SHARE",        "ROW SHARE", "ROW EXCLUSIVE",   "SHARE UPDATE EXCLUSIVE",
    "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"};

#define SHARE_UPDATE_EXCLUSIVE 4
#define SHARE                  5
#define ACCESS_EXCLUSIVE       8

static const hvi_sql *sql_of(const trial_job *t, const hvi_plan_step *step) {
    return &t->migrations->files[step->step.file].sql;
}

/* Add a warning, made of three parts. */
static void set_warning(trial_job *t, hvi_plan_step *step, const char *before, const char *text,
                        const char *after) {
    hvi_buffer warning = HVI_BUFFER_EMPTY;
    if (step->warning != NULL)
        hvi_buffer_append_format(&warning, "%s; ", step->warning);
    hvi_buffer_append_format(&warning, "%s%s%s", before, text, after);
    free(step->warning);
    step->step.warning = step->warning = hvi_buffer_take(&warning);
    if (step->warning == NULL)
        hvi_no_memory(&t->job.error);
}

/* A statement that is not tried. CONCURRENTLY's locks are known. */
static void pass_over(trial_job *t, hvi_plan_step *step) {
    const hvi_sql *sql = sql_of(t, step);
    const hvi_sql_statement *statement = &sql->statements[step->number];
    t->is_uncertain = true;
    hvi_buffer_reset(&t->sql);
    hvi_sql_append(sql, statement->begin, statement->end, SCHEMA, &t->sql);
    if (!hvi_buffer_ok(&t->sql)) {
        hvi_no_memory(&t->job.error);
        return;
    }
    hvi_concurrently said = hvi_concurrently_read(t->sql.data, t->sql.len);
    if (said.what == HVI_CONCURRENT_NOT)
        return;
    step->step.lock = locks[SHARE_UPDATE_EXCLUSIVE];
    step->step.reads = said.what != HVI_CONCURRENT_DROP;
    if (said.table_len > 0) {
        /* without its schema */
        const char *end = said.table + said.table_len, *name = said.table;
        for (const char *at = said.table; at < end; at++)
            if (*at == '.')
                name = at + 1;
        step->step.relation = step->relation = strndup(name, (size_t) (end - name));
    }
}

static bool is_skipped(const trial_job *t, const hvi_plan_step *step) {
    const hvi_sql *sql = sql_of(t, step);
    return sql->no_transaction || hvi_sql_begins(sql, step->number, "copy") ||
           hvi_sql_begins(sql, step->number, "savepoint") ||
           hvi_sql_begins(sql, step->number, "release") ||
           hvi_sql_begins(sql, step->number, "rollback");
}

static bool may_commit(const hvi_sql *sql, size_t statement) {
    for (size_t i = 0; i < sizeof committed / sizeof *committed; i++)
        if (hvi_sql_begins(sql, statement, committed[i]))
            return true;
    return false;
}

/* The transaction of the statement before is still open. Whatever it was, nothing but the copies is
 * ever changed. */
static hvi_job_next try_step(trial_job *t, const hvi_session *session, hvi_request *request) {
    const hvi_plan_step *step = &t->plan->steps[t->next];
    const hvi_sql *sql = sql_of(t, step);
    const hvi_sql_statement *statement = &sql->statements[step->number];
    bool is_open = PQtransactionStatus(session->conn) != PQTRANS_IDLE;
    hvi_buffer_reset(&t->sql);
    hvi_buffer_append_format(&t->sql, "%sBEGIN;SET LOCAL lock_timeout TO %d;",
                             !is_open          ? ""
                             : t->is_contained ? "COMMIT;"
                                               : "ROLLBACK;",
                             LOCK_TIMEOUT_MS);
    t->is_contained = false;
    hvi_buffer_append_text(&t->sql, before_sql);
    t->before = t->sql.len;
    hvi_sql_append(sql, statement->begin, statement->end, SCHEMA, &t->sql);
    hvi_buffer_append_text(&t->sql, after_sql);
    hvi_buffer_append_format(&t->sql, contained_sql,
                             hvi_sql_begins(sql, step->number, "alter table") ? "true" : "false");
    hvi_buffer_append_text(&t->sql, seen_sql);
    return run(t, COUNT_BEFORE + 2 + is_open, request);
}

static hvi_job_next try_next(trial_job *t, const hvi_session *session, hvi_request *request) {
    for (; t->next < t->plan->count; t->next++) {
        hvi_plan_step *step = &t->plan->steps[t->next];
        if (!t->tried[step->step.file]) {
            set_warning(t, step, "not tried, since the shard for that has the file", "", "");
            continue;
        }
        if (is_skipped(t, step)) {
            pass_over(t, step);
            continue;
        }
        return try_step(t, session, request);
    }
    return end(t, t->job.error == NULL ? HV_OK : HV_NO_MEMORY);
}

/* What everybody waits for, and what can be done about it. */
static void warn(trial_job *t, hvi_plan_step *step, int rank) {
    const char *name = step->step.relation;
    if (rank == ACCESS_EXCLUSIVE && step->step.rewrites)
        set_warning(t, step, "nobody can read or write ", name, " while it is written anew");
    else if (rank == ACCESS_EXCLUSIVE && step->step.reads)
        set_warning(t, step, "nobody can read or write ", name, " while all of it is read");
    else if (rank >= SHARE && step->step.reads)
        set_warning(t, step, "nobody can write to ", name,
                    hvi_sql_begins(sql_of(t, step), step->number, "create index")
                        ? " while all of it is read; CREATE INDEX CONCURRENTLY lets them"
                        : " while all of it is read");
}

static hvi_job_next after_step(trial_job *t, const hvi_session *session, hvi_answer *answer,
                               hvi_request *request) {
    hvi_plan_step *step = &t->plan->steps[t->next];
    const PGresult *result = answer->result;
    if (hvi_result_check(result, &seen_form, session->config->server, t->job.shard,
                         &t->job.error) != HV_OK)
        return end(t, HV_CORRUPT);
    int64_t rank = hvi_integer_at(result, 0, 1);
    const char *name = hvi_text_at(result, 0, 0), *elsewhere = hvi_text_at(result, 0, 4);
    if (name != NULL && rank > 0 && rank <= ACCESS_EXCLUSIVE) {
        step->relation = strdup(name);
        if (step->relation == NULL)
            return end(t, hvi_no_memory(&t->job.error));
        step->step.relation = step->relation;
        step->step.lock = locks[rank];
        /* TRUNCATE makes a new file, with nothing in it. */
        bool is_full = !hvi_sql_begins(sql_of(t, step), step->number, "truncate");
        step->step.rewrites = is_full && hvi_bool_at(result, 0, 2);
        step->step.reads = is_full && hvi_bool_at(result, 0, 3) && !step->step.rewrites;
        warn(t, step, (int) rank);
    }
    if (elsewhere != NULL)
        set_warning(t, step, "it locks ", elsewhere, ", which was not copied");
    t->is_contained = may_commit(sql_of(t, step), step->number) && hvi_bool_at(result, 0, 5);
    t->is_uncertain = t->is_uncertain || (!t->is_contained && hvi_bool_at(result, 0, 6));
    t->next++;
    return try_next(t, session, request);
}

/* A statement may need what could not be copied or tried before. But it can at least be read. */
static bool may_be_ours(const trial_job *t, const hv_error *error) {
    return hvi_error_has_sqlstate(error, "42P16") || hvi_error_has_sqlstate(error, "0A000") ||
           (t->is_uncertain && !hvi_error_has_sqlstate(error, "42601"));
}

static hvi_job_next after_refusal(trial_job *t, const hvi_session *session, hvi_answer *answer,
                                  hvi_request *request) {
    hvi_plan_step *step = &t->plan->steps[t->next];
    const hvi_sql *sql = sql_of(t, step);
    const hvi_sql_statement *statement = &sql->statements[step->number];
    if (may_be_ours(t, answer->error)) {
        set_warning(t, step, "could not be tried: ", hv_error_message(answer->error), "");
        t->is_uncertain = true;
        t->next++;
        return try_next(t, session, request);
    }
    int line = statement->line;
    if (answer->position > (int) t->before)
        line = hvi_sql_line(sql, hvi_sql_offset(sql, statement->begin, statement->end, SCHEMA,
                                                answer->position - (int) t->before));
    hvi_sql_locate(sql, line, &answer->error);
    if (hvi_error_has_sqlstate(answer->error, "25001"))
        hvi_error_hint(&answer->error, "Move it to a file of its own that begins with the line "
                                       "\"-- hv: no-transaction\".");
    return end(t, hvi_error_move(&t->job.error, &answer->error));
}

static hvi_job_next step(hvi_job *job, hvi_session *session, hvi_answer *answer,
                         hvi_request *request) {
    trial_job *t = (trial_job *) job;
    if (answer == NULL) {
        for (size_t i = 0; i < t->next && i < t->plan->count; i++)
            hvi_plan_step_reset(&t->plan->steps[i]);
        t->next = 0;
        t->is_copied = t->is_uncertain = t->is_contained = false;
        return copy(t, session, request);
    }
    if (answer->status == HV_UNAVAILABLE)
        return HVI_JOB_AFRESH;
    if (answer->status == HV_REFUSED && t->is_copied)
        return after_refusal(t, session, answer, request);
    if (answer->status != HV_OK)
        return end(t, hvi_error_move(&job->error, &answer->error));
    if (t->is_copied)
        return after_step(t, session, answer, request);
    t->is_copied = true;
    return try_next(t, session, request);
}

static void free_job(hvi_job *job) {
    trial_job *t = (trial_job *) job;
    hvi_buffer_fini(&t->sql);
    free(t);
}

hvi_job *hvi_trial_new(int server, int shard, const hv_migrations *migrations, const bool *tried,
                       hv_plan *plan) {
    trial_job *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->job = (hvi_job){.server = server, .shard = shard, .step = step, .free = free_job};
    t->migrations = migrations;
    t->tried = tried;
    t->plan = plan;
    return &t->job;
}
