/*
 * verify_tool: compares a shard with a copy of it, as a move does, without moving it.
 *
 * usage: verify_tool CONFIG SOURCE TARGET SHARD SCHEMA COPY
 *
 * SOURCE and TARGET are the numbers of servers, SCHEMA the shard's, COPY that of the copy. A stream
 * must carry the table COPY.marker from the source to the target. Reads commands, a line each:
 *
 *     run [MS]     compare from the beginning, in steps of so many ms
 *     again        after run: another pass, over what has changed since
 *     last         after run: what the fence does: lock all tables, wait for a marker, compare
 *     take         remember the schema
 *     check        has it changed since? And the quick look:
 *     quick
 *
 * and prints a line of JSON for each. Uses the library's inside.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "move/drift.h"
#include "move/link.h"
#include "move/verify.h"

typedef struct tool {
    hvi_router router;
    hvi_link source, target, witness;
    const char *schema, *copy;
    int shard;
    int64_t marker;
    hvi_verify *verify;
    hvi_drift drift;
} tool;

static int64_t soon(void) {
    return hvi_deadline_after(30000);
}

_Noreturn static void die(const hv_error *error, const char *what) {
    fprintf(stderr, "verify_tool: %s: %s %s\n", what, error != NULL ? hv_error_message(error) : "",
            error != NULL && hv_error_detail(error) != NULL ? hv_error_detail(error) : "");
    exit(3);
}

/* ---- the marker ---- */

static hv_status mark(void *context, int64_t deadline, int64_t *number, hv_error **error) {
    tool *its = context;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    *number = ++its->marker;
    hvi_buffer_append_format(&sql, "INSERT INTO %s.marker VALUES ('%" PRId64 "')", its->copy,
                             *number);
    return hvi_link_say(&its->witness, &sql, deadline, NULL, error);
}

static hv_status arrived(void *context, int64_t number, int64_t deadline, bool *has,
                         hv_error **error) {
    tool *its = context;
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_buffer_append_format(&sql,
                             "SELECT FROM %s.marker WHERE number OPERATOR(pg_catalog.=)"
                             " '%" PRId64 "'",
                             its->copy, number);
    hv_status status = hvi_link_say(&its->target, &sql, deadline, &result, error);
    *has = status == HV_OK && PQntuples(result) > 0;
    PQclear(result);
    return status;
}

/* ---- commands ---- */

static hv_status run(tool *its, int64_t ms, int *steps, hv_error **error) {
    hv_status status = HV_OK;
    bool done = false;
    if (its->verify == NULL) {
        hvi_verify_sides sides = {.shard = its->shard,
                                  .source = its->source.session,
                                  .target = its->target.session,
                                  .source_name = its->source.server->name,
                                  .target_name = its->target.server->name,
                                  .source_schema = its->schema,
                                  .target_schema = its->copy,
                                  .marker = {mark, arrived, its}};
        status = hvi_verify_new(&sides, &its->verify, error);
    }
    for (*steps = 0; status == HV_OK && !done; (*steps)++)
        status = hvi_verify_step(its->verify, hvi_deadline_after(ms), &done, error);
    return status;
}

/* All tables of the schema, as the fence locks them. */
static hv_status lock(tool *its, hv_error **error) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(
        &sql,
        "BEGIN; DO $do$ DECLARE name pg_catalog.text; BEGIN FOR name IN SELECT"
        " c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c WHERE c.relkind"
        " OPERATOR(pg_catalog.=) 'r' AND c.relnamespace OPERATOR(pg_catalog.=)"
        " '%s'::pg_catalog.regnamespace LOOP"
        " EXECUTE pg_catalog.concat('LOCK TABLE ', name, ' IN ACCESS EXCLUSIVE MODE');"
        " END LOOP; END $do$",
        its->schema);
    return hvi_link_say(&its->source, &sql, soon(), NULL, error);
}

static hv_status last(tool *its, hv_error **error) {
    int64_t number;
    bool has = false;
    hv_status status = lock(its, error);
    if (status == HV_OK)
        status = mark(its, soon(), &number, error);
    while (status == HV_OK && !has)
        status = arrived(its, number, soon(), &has, error);
    if (status == HV_OK)
        status =
            hvi_verify_last(its->verify, its->source.session, its->target.session, soon(), error);
    hvi_link_run(&its->source, "ROLLBACK", soon(), NULL, NULL);
    return status;
}

static json_t *text(const char *value) {
    return value != NULL ? json_string(value) : json_null();
}

static void report(const tool *its, hv_status status, const hv_error *error, double seconds,
                   int steps) {
    hvi_verify_progress progress = {0};
    if (its->verify != NULL)
        hvi_verify_progress_of(its->verify, &progress);
    json_t *line = json_pack(
        "{s:s, s:o, s:o, s:f, s:i, s:I, s:I, s:I, s:i, s:i}", "status", hv_status_name(status),
        "message", text(error != NULL ? hv_error_message(error) : NULL), "detail",
        text(error != NULL ? hv_error_detail(error) : NULL), "seconds", seconds, "steps", steps,
        "rows", (json_int_t) progress.rows, "rows_total", (json_int_t) progress.rows_total,
        "ranges", (json_int_t) progress.ranges_total, "pass", progress.pass, "left",
        (int) progress.left);
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(line);
}

static void obey(tool *its, const char *command) {
    hv_error *error = NULL;
    hv_status status = HV_INVALID;
    const char *server = its->source.server->name;
    int64_t began = hvi_clock_us();
    int steps = 0;
    if (strncmp(command, "run", 3) == 0) {
        hvi_verify_free(its->verify);
        its->verify = NULL;
        status = run(its, command[3] != '\0' ? atoi(command + 3) : 1000, &steps, &error);
    } else if (strcmp(command, "again") == 0) {
        hvi_verify_again(its->verify);
        status = run(its, 1000, &steps, &error);
    } else if (strcmp(command, "last") == 0) {
        status = last(its, &error);
    } else if (strcmp(command, "take") == 0) {
        hvi_drift_fini(&its->drift);
        status =
            hvi_drift_take(&its->drift, its->source.session, its->shard, server, soon(), &error);
    } else if (strcmp(command, "check") == 0) {
        status = hvi_drift_check(&its->drift, its->source.session, server, soon(), &error);
    } else if (strcmp(command, "quick") == 0) {
        status = hvi_drift_quick(&its->drift, its->source.session, server, soon(), &error);
    }
    report(its, status, error, (double) (hvi_clock_us() - began) / 1e6, steps);
    hv_error_free(error);
    if (status != HV_OK && strncmp(command, "run", 3) == 0) {
        hvi_verify_free(its->verify);
        its->verify = NULL;
    }
}

int main(int argc, char **argv) {
    if (argc != 7)
        die(NULL, "usage: verify_tool CONFIG SOURCE TARGET SHARD SCHEMA COPY");
    hv_error *error = NULL;
    tool its = {.shard = atoi(argv[4]), .schema = argv[5], .copy = argv[6]};
    hv_options *options = hv_options_new();
    if (options == NULL || hv_options_load(options, argv[1], NULL, &error) != HV_OK ||
        hvi_router_init(&its.router, options, NULL, NULL, &error) != HV_OK)
        die(error, "options");
    hvi_server *source = &its.router.servers[atoi(argv[2])];
    hvi_server *target = &its.router.servers[atoi(argv[3])];
    if (hvi_link_open(&its.source, source, soon(), &error) != HV_OK ||
        hvi_link_open(&its.witness, source, soon(), &error) != HV_OK ||
        hvi_link_open(&its.target, target, soon(), &error) != HV_OK)
        die(error, "connect");
    its.marker = hvi_clock_unix_us();
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        obey(&its, line);
    }
    hvi_verify_free(its.verify);
    hvi_drift_fini(&its.drift);
    hvi_link_close(&its.source);
    hvi_link_close(&its.witness);
    hvi_link_close(&its.target);
    hvi_router_fini(&its.router);
    hv_options_free(options);
    return 0;
}
