/*
 * placement: does another server of the store hold a shard already?
 */
#include "shard/placement.h"

#include <stdlib.h>
#include <string.h>

#include "wire/result.h"
#include "shard/layout.h"

/* A message names at most so many ranges. */
#define RANGES_MAX 8

static const hvi_form identity_form = {
    .asked = "the database's identity",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BYTES},
};

hv_status hvi_placement_identity(hvi_session *session, int64_t deadline, char **identity,
                                 hv_error **error) {
    PGresult *result = NULL;
    /* The moment of its start, to the microsecond, distinguishes a server from a copy of it, and
     * every role may read it. */
    hv_status status =
        hvi_session_script(session,
                           "SELECT pg_catalog.encode(pg_catalog.timestamptz_send("
                           "   pg_catalog.pg_postmaster_start_time()), 'hex'::pg_catalog.text)"
                           " OPERATOR(pg_catalog.||) '/'::pg_catalog.text OPERATOR(pg_catalog.||) "
                           "d.oid::pg_catalog.text"
                           " FROM pg_catalog.pg_database d"
                           " WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()",
                           -1, false, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &identity_form, session->config->server, -1, error);
    if (status == HV_OK && (*identity = strdup(hvi_text_at(result, 0, 0))) == NULL)
        status = hvi_no_memory(error);
    PQclear(result);
    return status;
}

/* "shard 5", "shards 1 to 4, 7"; cut when there are many. */
static void append_shards(hvi_buffer *to, const bool set[HV_SHARDS]) {
    int count = 0, ranges = 0;
    for (int shard = 0; shard < HV_SHARDS; shard++)
        count += set[shard];
    hvi_buffer_append_text(to, count == 1 ? "shard " : "shards ");
    for (int first = 0, end; first < HV_SHARDS; first = end + 1) {
        for (end = first; end < HV_SHARDS && set[end];)
            end++;
        if (end == first)
            continue;
        if (++ranges > RANGES_MAX) {
            hvi_buffer_append_format(to, ", … (%d in all)", count);
            return;
        }
        hvi_buffer_append_format(to, "%s%d", ranges > 1 ? ", " : "", first);
        if (end > first + 1)
            hvi_buffer_append_format(to, " to %d", end - 1);
    }
}

hv_status hvi_placement_fail(const char *server, const char *holder, const bool held[HV_SHARDS],
                             hv_error **error) {
    hvi_buffer shards = HVI_BUFFER_EMPTY;
    append_shards(&shards, held);
    if (!hvi_buffer_ok(&shards)) {
        hvi_buffer_fini(&shards);
        return hvi_no_memory(error);
    }
    bool one = strncmp(shards.data, "shards", strlen("shards")) != 0;
    hvi_fail(error, HV_MISMATCH, "server \"%s\" holds %s, which the configuration gives to \"%s\"",
             holder, shards.data, server);
    hvi_error_detail(error,
                     "Made on server \"%s\", %s would be empty: what is stored there now would not "
                     "be found.",
                     server, one ? "it" : "they");
    hvi_error_hint(error,
                   "Correct \"shards\" in the configuration; or move the schema%s with all "
                   "entities, and rename or drop what stays on server \"%s\".",
                   one ? "" : "s", holder);
    hvi_error_where(error, server, -1);
    hvi_buffer_fini(&shards);
    return HV_MISMATCH;
}

/* The error for a server that could not be asked. Takes *cause. */
static hv_status fail_ask(const hvi_server *server, const hvi_server *other, hv_error **cause,
                          hv_error **error) {
    hv_status status = hv_error_status(*cause);
    hvi_fail(error, status, "could not ask server \"%s\" which shards it holds", other->name);
    hvi_error_detail(error, "%s%s%s", hv_error_message(*cause),
                     hv_error_detail(*cause) != NULL ? ": " : "",
                     hv_error_detail(*cause) != NULL ? hv_error_detail(*cause) : "");
    if (status == HV_UNAVAILABLE || status == HV_TIMEOUT)
        hvi_error_hint(error,
                       "If it holds none of the shards of server \"%s\", `hv init` goes on with "
                       "--without \"%s\". Otherwise try again when it can be reached.",
                       server->name, other->name);
    else if (hv_error_hint(*cause) != NULL)
        hvi_error_hint(error, "%s", hv_error_hint(*cause));
    if (hv_error_sqlstate(*cause) != NULL)
        hvi_error_sqlstate(error, hv_error_sqlstate(*cause));
    hvi_error_where(error, other->name, -1);
    hv_error_free(*cause);
    *cause = NULL;
    return status;
}

static bool may_be_left_out(const hvi_server *other, hvi_without without, const hv_error *cause) {
    hv_status status = hv_error_status(cause);
    if (status != HV_UNAVAILABLE && status != HV_TIMEOUT)
        return false;
    for (size_t i = 0; i < without.count; i++)
        if (without.servers[i] == other->number)
            return true;
    return false;
}

/* Find the wanted shards that a session's database holds: none if it is the same database. */
static hv_status read_held(hvi_session *session, int64_t deadline, const char *identity,
                           const bool wanted[HV_SHARDS], bool held[HV_SHARDS], bool *any,
                           hv_error **error) {
    char *its = NULL;
    hvi_shard_row *rows = NULL;
    size_t count = 0;
    hv_status status = hvi_placement_identity(session, deadline, &its, error);
    if (status == HV_OK && strcmp(its, identity) != 0)
        status = hvi_layout_shards(session, deadline, &rows, &count, error);
    for (size_t i = 0; status == HV_OK && i < count; i++) {
        held[rows[i].shard] = rows[i].has_table && wanted[rows[i].shard];
        *any = *any || held[rows[i].shard];
    }
    free(rows);
    free(its);
    return status;
}

static hv_status ask(hvi_router *router, const hvi_server *server, hvi_server *other,
                     const char *identity, const bool wanted[HV_SHARDS], hvi_without without,
                     hv_error **error) {
    bool held[HV_SHARDS] = {false}, any = false;
    hvi_session *session = NULL;
    hv_error *cause = NULL;
    hv_status status =
        hvi_pool_acquire(&other->pool, hvi_router_pool_deadline(router), &session, &cause);
    if (status == HV_OK) {
        status = read_held(session, hvi_router_operation_deadline(router), identity, wanted, held,
                           &any, &cause);
        hvi_pool_release(&other->pool, session);
    }
    if (status == HV_OK)
        return any ? hvi_placement_fail(server->name, other->name, held, error) : HV_OK;
    if (!may_be_left_out(other, without, cause))
        return fail_ask(server, other, &cause, error);
    hv_error_free(cause);
    return HV_OK;
}

hv_status hvi_placement_check(hvi_router *router, const hvi_server *server, hvi_session *session,
                              const bool wanted[HV_SHARDS], hvi_without without, hv_error **error) {
    char *identity = NULL;
    hv_status status =
        hvi_placement_identity(session, hvi_router_operation_deadline(router), &identity, error);
    for (int i = 0; status == HV_OK && i < router->server_count; i++)
        if (i != server->number)
            status = ask(router, server, &router->servers[i], identity, wanted, without, error);
    free(identity);
    return status;
}
