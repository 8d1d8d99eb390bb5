/*
 * inspect: report on a server: versions, connections, the state and size of its shards.
 *
 * It only reads, and scans small tables only: it must be safe to run at any time on a busy server.
 */
#include "shard/inspect.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "wire/result.h"
#include "shard/extension.h"
#include "shard/layout.h"
#include "shard/location.h"
#include "shard/owners.h"
#include "shard/placement.h"
#include "shard/report.h"

/* The rows of tables up to this size are counted; of larger ones the server's estimate is used. */
#define COUNTED_BYTES (INT64_C(8) << 20)

/* Tables counted in one statement. Each is locked until its end, and the server has room for only a
 * few thousand locks, which others need too. */
#define COUNTED_TABLES 64

static const hvi_form server_form = {
    .asked = "the server's version and connections",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BYTES, HVI_IS_BYTES, HVI_IS_INT4, HVI_IS_INT4, HVI_IS_BYTES | HVI_OR_NULL},
};

/* Version, database, connections. */
static hv_status read_server(hvi_session *session, int64_t deadline, hv_report *report,
                             hv_error **error) {
    PGresult *result = NULL;
    hv_status status = hvi_session_script(
        session,
        "SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_database(),"
        /* Of other roles' sessions, an ordinary role sees only the role and the database. */
        " (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity"
        "   WHERE backend_type OPERATOR(pg_catalog.=) 'client backend'"
        "   OR (backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL)),"
        " pg_catalog.current_setting('max_connections'),"
        " (SELECT extversion FROM pg_catalog.pg_extension"
        "   WHERE extname OPERATOR(pg_catalog.=) 'hypervault')",
        -1, false, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &server_form, session->config->server, -1, error);
    if (status != HV_OK) {
        PQclear(result);
        return status;
    }
    report->postgres_version = strdup(hvi_text_at(result, 0, 0));
    report->database = strdup(hvi_text_at(result, 0, 1));
    report->connections = (int) hvi_integer_at(result, 0, 2);
    report->max_connections = (int) hvi_integer_at(result, 0, 3);
    bool has_extension = !PQgetisnull(result, 0, 4);
    if (has_extension)
        report->extension = strdup(hvi_text_at(result, 0, 4));
    PQclear(result);
    if (report->postgres_version == NULL || report->database == NULL ||
        (has_extension && report->extension == NULL))
        return hvi_no_memory(error);
    return HV_OK;
}

/* The report's line for a schema that was found. */
static hvi_report_shard describe(const hvi_shard_row *row, bool is_mapped) {
    unsigned faults = hvi_shard_row_faults(row);
    hv_shard_state found = faults == 0 ? HV_SHARD_READY : HV_SHARD_INCOMPLETE;
    return (hvi_report_shard){
        .shard = row->shard,
        .state = is_mapped ? found : HV_SHARD_UNMAPPED,
        .is_configured = is_mapped,
        .is_held = row->has_table,
        .entities = row->tuples > 0 ? row->tuples : 0,
        .bytes = row->bytes,
        .keys = (hv_keys) row->generator, /* the same numbers */
        .faults = faults,
    };
}

/* Set detail and hint of all shards with faults. */
static hv_status word_faults(hv_report *report, hv_error **error) {
    for (size_t i = 0; i < report->shard_count; i++) {
        hvi_report_shard *shard = &report->shards[i];
        if (shard->faults == 0)
            continue;
        hvi_buffer detail = HVI_BUFFER_EMPTY, hint = HVI_BUFFER_EMPTY;
        hvi_shard_faults_explain(shard->faults, &detail, &hint);
        shard->detail = hvi_buffer_take(&detail);
        shard->hint = hvi_buffer_take(&hint);
        if (shard->detail == NULL || shard->hint == NULL)
            return hvi_no_memory(error);
    }
    return HV_OK;
}

/* Add to an existing shard's detail and hint that an untrusted role owns part of it. */
static hv_status add_owner(hvi_report_shard *shard, const hvi_foreign *foreign, hv_error **error) {
    hvi_buffer detail = HVI_BUFFER_EMPTY, hint = HVI_BUFFER_EMPTY;
    if (shard->detail != NULL)
        hvi_buffer_append_format(&detail, "%s; ", shard->detail);
    hvi_buffer new_hint = HVI_BUFFER_EMPTY;
    hvi_owners_explain(foreign, &detail, &new_hint);
    if (shard->hint != NULL)
        hvi_buffer_append_format(&hint, "%s ", shard->hint);
    hvi_buffer_append(&hint, new_hint.data, new_hint.len);
    hvi_buffer_fini(&new_hint);
    free(shard->detail);
    free(shard->hint);
    shard->detail = hvi_buffer_take(&detail);
    shard->hint = hvi_buffer_take(&hint);
    if (shard->state == HV_SHARD_READY)
        shard->state = HV_SHARD_INCOMPLETE;
    return shard->detail != NULL && shard->hint != NULL ? HV_OK : hvi_no_memory(error);
}

static hv_status add_owners(hv_report *report, const hvi_foreign *foreign, size_t count,
                            hv_error **error) {
    hv_status status = HV_OK;
    for (size_t i = 0; i < report->shard_count; i++) {
        hvi_report_shard *shard = &report->shards[i];
        bool is_there = shard->state != HV_SHARD_MISSING;
        for (size_t j = 0; status == HV_OK && is_there && j < count; j++)
            if (foreign[j].shard < 0 || foreign[j].shard == shard->shard)
                status = add_owner(shard, &foreign[j], error);
    }
    return status;
}

static bool is_foreign(const hvi_foreign *foreign, size_t count, int shard) {
    for (size_t i = 0; i < count; i++)
        if (foreign[i].shard == shard)
            return true;
    return false;
}

/* The shards that should be on the server, in ascending order, and then a number above all: at one
 * moment, because they may move. */
static int *list_expected(const hvi_router *router, int number, size_t *count) {
    int *list = malloc((HV_SHARDS + 1) * sizeof *list);
    *count = 0;
    for (int shard = -1; list != NULL && (shard = hvi_router_next(router, number, shard)) >= 0;)
        list[(*count)++] = shard;
    if (list != NULL)
        list[*count] = HV_SHARDS;
    return list;
}

/* Merge the shards that should be on the server with those that it has, both in ascending order. */
static hv_status merge_shards(const hvi_router *router, int number, const hvi_shard_row *rows,
                              size_t row_count, hv_report *report, hv_error **error) {
    size_t expected_count, i = 0, at = 0;
    int *expected = list_expected(router, number, &expected_count);
    if (expected != NULL)
        report->shards = calloc(row_count + expected_count + 1, sizeof *report->shards);
    if (report->shards == NULL) {
        free(expected);
        return hvi_no_memory(error);
    }
    while (i < row_count || at < expected_count) {
        hvi_report_shard *to = &report->shards[report->shard_count++];
        int found = i < row_count ? rows[i].shard : HV_SHARDS;
        bool is_expected = expected[at] <= found;
        if (expected[at] < found)
            *to = (hvi_report_shard){.shard = expected[at],
                                     .state = HV_SHARD_MISSING,
                                     .is_configured = true,
                                     .exact = true};
        else
            *to = describe(&rows[i++], is_expected);
        at += is_expected;
    }
    free(expected);
    return HV_OK;
}

static const hvi_form counts_form = {
    .asked = "the number of entities",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_SHARD, HVI_IS_COUNT},
};

/* Put a statement's counts into the report. */
static void take_counts(const PGresult *result, hv_report *report) {
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t shard = hvi_integer_at(result, row, 0);
        for (size_t i = 0; i < report->shard_count; i++) {
            if (report->shards[i].shard == shard) {
                report->shards[i].entities = hvi_integer_at(result, row, 1);
                report->shards[i].exact = true;
            }
        }
    }
}

/* Run a statement that counts. If the server refuses it (a table was dropped meanwhile, or may not
 * be read), the estimates stay. */
static hv_status count_some(hvi_session *session, int64_t deadline, const hvi_buffer *sql,
                            hv_report *report, hv_error **error) {
    PGresult *result = NULL;
    hv_error *cause = NULL;
    hv_status status = hvi_session_script(session, sql->data, -1, false, deadline, &result, &cause);
    if (status == HV_OK)
        status = hvi_result_check(result, &counts_form, session->config->server, -1, &cause);
    if (status == HV_OK)
        take_counts(result, report);
    PQclear(result);
    if (status != HV_OK && status != HV_REFUSED)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    return HV_OK;
}

/* Count the rows of the small tables, except those of untrusted roles, which may have a policy that
 * runs their code. */
static hv_status count_entities(hvi_session *session, int64_t deadline, const hvi_shard_row *rows,
                                size_t row_count, const hvi_foreign *foreign, size_t foreign_count,
                                hv_report *report, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    char schema[HVI_SCHEMA_NAME_LEN];
    hv_status status = HV_OK;
    int tables = 0;
    for (size_t i = 0; status == HV_OK && i < row_count; i++) {
        if (rows[i].table_fits && rows[i].heap_bytes <= COUNTED_BYTES &&
            !is_foreign(foreign, foreign_count, rows[i].shard)) {
            hvi_schema_name(rows[i].shard, schema);
            hvi_buffer_append_format(&sql, "%sSELECT %d, pg_catalog.count(*) FROM %s.entities",
                                     tables > 0 ? " UNION ALL " : "", rows[i].shard, schema);
            tables++;
        }
        if (tables == COUNTED_TABLES || (tables > 0 && i + 1 == row_count)) {
            status = hvi_buffer_ok(&sql) ? count_some(session, deadline, &sql, report, error)
                                         : hvi_no_memory(error);
            hvi_buffer_reset(&sql);
            tables = 0;
        }
    }
    hvi_buffer_fini(&sql);
    return status;
}

/* Strict keys need the extension, which may be in the catalogue and still not work. */
static hv_status check_extension(hvi_session *session, int64_t deadline, hv_report *report,
                                 hv_error **error) {
    bool is_needed = false;
    for (size_t i = 0; i < report->shard_count; i++)
        is_needed = is_needed || (report->shards[i].keys == HV_KEYS_STRICT &&
                                  (report->shards[i].faults & HVI_FAULT_NO_EXTENSION) == 0);
    if (!is_needed)
        return HV_OK;
    hv_error *cause = NULL;
    hv_status status = hvi_extension_works(session, deadline, &cause);
    if (status != HV_OK && status != HV_MISMATCH && status != HV_NOT_FOUND)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    for (size_t i = 0; status != HV_OK && i < report->shard_count; i++) {
        hvi_report_shard *shard = &report->shards[i];
        if (shard->keys != HV_KEYS_STRICT)
            continue;
        shard->faults |= HVI_FAULT_EXTENSION;
        if (shard->state == HV_SHARD_READY)
            shard->state = HV_SHARD_INCOMPLETE;
    }
    return HV_OK;
}

/* Where the server says that shards are: what the configuration says may be old. */
static hv_status learn_locations(hvi_router *router, const hvi_server *server, hvi_session *session,
                                 int64_t deadline, hv_error **error) {
    hvi_location *locations = NULL;
    size_t count = 0;
    hv_status status = hvi_location_read_all(session, deadline, &locations, &count, error);
    hvi_location_apply(locations, count, router, server->number);
    free(locations);
    return status;
}

static hv_status read_report(hvi_router *router, hvi_server *server, hvi_session *session,
                             hv_report *report, hv_error **error) {
    int64_t deadline = hvi_router_operation_deadline(router);
    hvi_layout layout = {0};
    hvi_shard_row *rows = NULL;
    hvi_foreign *foreign = NULL;
    size_t row_count = 0, foreign_count = 0;
    report->server = strdup(server->name);
    hv_status status = report->server != NULL ? read_server(session, deadline, report, error)
                                              : hvi_no_memory(error);
    if (status == HV_OK)
        status = hvi_placement_identity(session, deadline, &report->identity, error);
    if (status == HV_OK)
        status = hvi_layout_read(session, deadline, &layout, error);
    report->layout = layout.version;
    hvi_layout_fini(&layout);
    if (status == HV_OK)
        status = hvi_layout_shards(session, deadline, &rows, &row_count, error);
    if (status == HV_OK)
        status = learn_locations(router, server, session, deadline, error);
    if (status == HV_OK)
        status = merge_shards(router, server->number, rows, row_count, report, error);
    if (status == HV_OK)
        status = check_extension(session, deadline, report, error);
    if (status == HV_OK)
        status = word_faults(report, error);
    if (status == HV_OK)
        status = hvi_owners_read(session, deadline, &foreign, &foreign_count, error);
    if (status == HV_OK)
        status = add_owners(report, foreign, foreign_count, error);
    if (status == HV_OK)
        status = count_entities(session, deadline, rows, row_count, foreign, foreign_count, report,
                                error);
    hvi_owners_free(foreign, foreign_count);
    free(rows);
    return status;
}

hv_status hvi_inspect(hvi_router *router, hvi_server *server, hv_report **report,
                      hv_error **error) {
    hv_report *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    hvi_session *session = NULL;
    hv_status status =
        hvi_pool_acquire(&server->pool, hvi_router_pool_deadline(router), &session, error);
    if (status == HV_OK) {
        status = read_report(router, server, session, made, error);
        hvi_pool_release(&server->pool, session);
    }
    if (status != HV_OK) {
        hv_report_free(made);
        return status;
    }
    *report = made;
    return HV_OK;
}

hv_status hvi_inspect_shards_ready(hvi_router *router, hvi_server *server, int64_t deadline,
                                   hv_error **error) {
    hvi_session *session = NULL;
    hvi_shard_row *rows = NULL;
    size_t count = 0;
    hv_status status = hvi_pool_acquire(&server->pool, deadline, &session, error);
    if (status != HV_OK)
        return status;
    status = learn_locations(router, server, session, deadline, error);
    if (status == HV_OK)
        status = hvi_layout_shards(session, deadline, &rows, &count, error);
    hvi_pool_release(&server->pool, session);
    for (int shard = -1;
         status == HV_OK && (shard = hvi_router_next(router, server->number, shard)) >= 0;) {
        const hvi_shard_row *row = hvi_shard_row_find(rows, count, shard);
        if (row != NULL && row->table_fits)
            continue;
        status = hvi_fail_not_initialized(server->name, shard, error);
    }
    free(rows);
    return status;
}
