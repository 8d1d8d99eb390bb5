/*
 * doctor: all checks together, for hv_doctor() and for a move that begins.
 */
#include "move/doctor.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/interrupt.h"

#define OPEN_MS   5000
#define CHECK_MS  15000
#define LARGE     (INT64_C(64) << 20) /* a shard of which the space that it needs is worth a note */
#define IS_BOTH   (HVI_DOCTOR_SOURCE | HVI_DOCTOR_TARGET)
#define MEGABYTES 20

/* ---- one move ---- */

/* What was found may be nothing but a connection that was lost: then it is another error. */
static hv_status find_lost(hvi_link *from, hvi_link *to, hv_error **error) {
    hv_status status = hvi_link_run(from, "SELECT", hvi_link_deadline(), NULL, error);
    return status != HV_OK ? status : hvi_link_run(to, "SELECT", hvi_link_deadline(), NULL, error);
}

hv_status hvi_doctor_check(hvi_router *router, hvi_link *from, hvi_link *to,
                           const hvi_doctor_scope *scope, bool with_undo, int64_t deadline,
                           hv_error **error) {
    hv_findings findings = {0};
    hv_error *lost = NULL;
    int64_t bytes;
    const hvi_server_options *servers = router->options->servers;
    hvi_doctor_server(from, with_undo ? IS_BOTH : HVI_DOCTOR_SOURCE, scope, deadline, &findings);
    hvi_doctor_server(to, with_undo ? IS_BOTH : HVI_DOCTOR_TARGET, scope, deadline, &findings);
    hvi_doctor_pair(from, to, &servers[from->server->number], scope, deadline, &findings);
    if (with_undo)
        hvi_doctor_way(to, from, &servers[to->server->number], deadline, &findings);
    hvi_doctor_shard(from, scope->shard, scope, deadline, &bytes, &findings);
    hv_status status = hvi_remarks_fail(&findings, error);
    if (status != HV_OK || !hvi_link_is_open(from) || !hvi_link_is_open(to)) {
        hv_status its = find_lost(from, to, &lost);
        if (its != HV_OK) {
            if (error != NULL) {
                hv_error_free(*error);
                *error = NULL;
            }
            status = hvi_error_move(error, &lost);
        }
    }
    hvi_remarks_fini(&findings);
    return status;
}

/* ---- all servers ---- */

typedef struct rounds {
    hvi_router *router;
    hvi_link *links; /* owned, as the others: one for each server */
    int *parts;
    int *largest;          /* the number of the largest of its shards; -1: none */
    int64_t *largest_size; /* its bytes */
    hvi_doctor_scope scope;
    hv_findings *findings;
} rounds;

static void check_servers(rounds *r) {
    for (int i = 0; i < r->router->server_count; i++) {
        hv_error *cause = NULL;
        hvi_server *server = &r->router->servers[i];
        if (r->parts[i] == 0)
            continue;
        if (hvi_link_open(&r->links[i], server, hvi_deadline_after(OPEN_MS), &cause) != HV_OK)
            hvi_remarks_add_error(r->findings, HV_SEVERITY_ERROR, server->name, NULL, -1, &cause);
        else
            hvi_doctor_server(&r->links[i], r->parts[i], &r->scope, hvi_deadline_after(CHECK_MS),
                              r->findings);
    }
}

static void check_pairs(rounds *r) {
    for (int i = 0; i < r->router->server_count; i++)
        for (int j = 0; j < r->router->server_count; j++)
            if (i != j && (r->parts[i] & HVI_DOCTOR_SOURCE) != 0 &&
                (r->parts[j] & HVI_DOCTOR_TARGET) != 0)
                hvi_doctor_pair(&r->links[i], &r->links[j], &r->router->options->servers[i],
                                &r->scope, hvi_deadline_after(CHECK_MS), r->findings);
}

static void check_shards(rounds *r) {
    for (int shard = -1; (shard = hvi_router_next(r->router, -1, shard)) >= 0;) {
        int server = hvi_router_holder(r->router, shard);
        int64_t bytes = 0;
        if ((r->scope.shard >= 0 && shard != r->scope.shard) || server < 0 ||
            (r->parts[server] & HVI_DOCTOR_SOURCE) == 0)
            continue;
        hvi_doctor_shard(&r->links[server], shard, &r->scope, hvi_deadline_after(CHECK_MS), &bytes,
                         r->findings);
        if (bytes > r->largest_size[server]) {
            r->largest[server] = shard;
            r->largest_size[server] = bytes;
        }
    }
}

/* SQL can say how much a shard has, and not how much room there is. */
static void note_space(rounds *r) {
    for (int i = 0; i < r->router->server_count; i++) {
        hvi_buffer text = HVI_BUFFER_EMPTY;
        if (r->largest_size[i] < LARGE)
            continue;
        hvi_buffer_append_format(&text, "%sshard %d has %" PRId64 " MB",
                                 r->scope.shard < 0 ? "the largest one, " : "", r->largest[i],
                                 r->largest_size[i] >> MEGABYTES);
        hvi_remarks_add(
            r->findings,
            &(hv_finding){
                .severity = HV_SEVERITY_NOTE,
                .server = r->router->servers[i].name,
                .shard = r->largest[i],
                .text = hvi_buffer_ok(&text) ? text.data : "",
                .detail = "Where it goes it needs so much space, and there and here there must be "
                          "room for the WAL of a copy: here for up to the option max_wal.",
                .hint = "PostgreSQL cannot say how much is free: look with `df` at the data "
                        "directory and at pg_wal of both servers.",
            });
        hvi_buffer_fini(&text);
    }
}

hv_status hvi_doctor(hvi_router *router, int from, int to, int shard, hv_findings **findings,
                     hv_error **error) {
    size_t count = (size_t) router->server_count;
    rounds r = {
        .router = router,
        .links = calloc(count, sizeof *r.links),
        .parts = calloc(count, sizeof *r.parts),
        .largest = calloc(count, sizeof *r.largest),
        .largest_size = calloc(count, sizeof *r.largest_size),
        .scope = {.shard = shard},
        .findings = calloc(1, sizeof *r.findings),
    };
    hv_status status = HV_OK;
    if (r.links == NULL || r.parts == NULL || r.largest == NULL || r.largest_size == NULL ||
        r.findings == NULL) {
        status = hvi_no_memory(error);
        goto out;
    }
    /* With an undo, or when a server is drained later, each is both. */
    for (int i = 0; i < router->server_count; i++)
        r.parts[i] = (from < 0 || i == from ? HVI_DOCTOR_SOURCE : 0) |
                     (to < 0 || i == to ? HVI_DOCTOR_TARGET : 0);
    check_servers(&r);
    check_pairs(&r);
    check_shards(&r);
    note_space(&r);
    for (int i = 0; i < router->server_count; i++)
        hvi_link_close(&r.links[i]);
    if (r.findings->is_broken)
        status = hvi_no_memory(error);
out:
    free(r.links);
    free(r.parts);
    free(r.largest);
    free(r.largest_size);
    if (status != HV_OK) {
        hv_findings_free(r.findings);
        return status;
    }
    *findings = r.findings;
    return HV_OK;
}
