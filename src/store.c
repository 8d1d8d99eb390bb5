/*
 * store: put and get: one entity, one statement.
 *
 * Parameters and results are binary: int8 and int2 in network byte order, hstore as in hstore.h.
 */
#include "store.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hstore.h"
#include "hstore_text.h"
#include "key.h"
#include "layout.h"

struct hv_entity {
    int64_t key;
    int kind;
    hv_dict *dict; /* owned */
};

void hv_entity_free(hv_entity *entity) {
    if (entity == NULL)
        return;
    hv_dict_free(entity->dict);
    free(entity);
}

int64_t hv_entity_key(const hv_entity *entity) {
    return entity->key;
}

int hv_entity_kind(const hv_entity *entity) {
    return entity->kind;
}

const hv_dict *hv_entity_dict(const hv_entity *entity) {
    return entity->dict;
}

/* The server does not know the shard's schema or table. */
static hv_status fail_not_initialized(const hvi_server *server, int shard, const hv_error *cause,
                                      hv_error **error) {
    hvi_fail(error, HV_NOT_INITIALIZED, "shard %d is not initialised on server \"%s\"", shard,
             server->name);
    hvi_error_detail(error, "%s", hv_error_message(cause));
    hvi_error_hint(error, "Run `hv init`.");
    hvi_error_sqlstate(error, hv_error_sqlstate(cause));
    hvi_error_where(error, server->name, shard);
    return HV_NOT_INITIALIZED;
}

static bool is_missing_relation(const hv_error *cause) {
    const char *sqlstate = hv_error_sqlstate(cause);
    return sqlstate != NULL && (strcmp(sqlstate, "42P01") == 0 || strcmp(sqlstate, "3F000") == 0);
}

/*
 * Run a statement on the server of its shard. A session that turns out to be broken before the
 * statement can have had an effect is replaced once.
 */
static hv_status run(hvi_router *router, hvi_server *server, const hvi_query *query,
                     PGresult **result, hv_error **error) {
    hv_error *cause = NULL;
    hv_status status = HV_OK;
    bool again = true;
    for (int try = 0; again; try++) {
        hvi_session *session = NULL;
        status =
            hvi_pool_acquire(&server->pool, hvi_router_pool_deadline(router), &session, &cause);
        if (status != HV_OK)
            break;
        status =
            hvi_session_run(session, query, hvi_router_operation_deadline(router), result, &cause);
        again = status == HV_UNAVAILABLE && session->broken && try == 0;
        hvi_pool_release(&server->pool, session);
    }
    if (status == HV_OK) {
        hv_error_free(cause); /* of the try before */
        return HV_OK;
    }
    if (status == HV_REFUSED && is_missing_relation(cause)) {
        status = fail_not_initialized(server, query->shard, cause, error);
        hv_error_free(cause);
        return status;
    }
    hvi_error_where(&cause, server->name, query->shard);
    return hvi_error_move(error, &cause);
}

/* Does the log want to see parameters? */
static bool wants_parameters(const hvi_server *server) {
    const hvi_log *log = &server->pool.config.session.log;
    return log->fn != NULL && log->parameters;
}

static hv_status fail_corrupt(const hvi_server *server, int shard, hv_error **error) {
    hvi_fail(error, HV_CORRUPT, "unexpected answer from server \"%s\"", server->name);
    hvi_error_detail(error, "The columns are not id bigint, type smallint, body hstore.");
    hvi_error_where(error, server->name, shard);
    return HV_CORRUPT;
}

/* An int8 in a result; false if it is none. */
static bool read_int8(const PGresult *result, int row, int column, int64_t *value) {
    uint64_t wire;
    if (PQgetlength(result, row, column) != sizeof wire)
        return false;
    memcpy(&wire, PQgetvalue(result, row, column), sizeof wire);
    *value = (int64_t) be64toh(wire);
    return true;
}

static bool read_int2(const PGresult *result, int row, int column, int *value) {
    uint16_t wire;
    if (PQgetlength(result, row, column) != sizeof wire)
        return false;
    memcpy(&wire, PQgetvalue(result, row, column), sizeof wire);
    *value = (int16_t) be16toh(wire);
    return true;
}

/* ---- put ---- */

/* A key that does not lead back to its shard would be an entity that nobody finds again. */
static hv_status take_new_key(const PGresult *result, const hvi_server *server, int shard,
                              int64_t *key, hv_error **error) {
    hvi_key_fields fields;
    int64_t made;
    if (PQntuples(result) != 1 || PQnfields(result) != 1 || !read_int8(result, 0, 0, &made))
        return fail_corrupt(server, shard, error);
    if (!hvi_key_unpack(made, &fields) || fields.shard != shard) {
        char schema[HVI_SCHEMA_NAME_LEN];
        hvi_schema_name(shard, schema);
        hvi_fail(error, HV_CORRUPT, "%s.next_id() does not make keys of shard %d", schema, shard);
        hvi_error_detail(error, "The entity was stored with the key %" PRId64 ".", made);
        hvi_error_where(error, server->name, shard);
        return HV_CORRUPT;
    }
    *key = made;
    return HV_OK;
}

hv_status hvi_store_put(hvi_router *router, int shard, int kind, const hv_dict *dict, int64_t *key,
                        hv_error **error) {
    if (kind < INT16_MIN || kind > INT16_MAX)
        return hvi_fail(error, HV_INVALID, "kind %d is out of range: %d to %d", kind, INT16_MIN,
                        INT16_MAX);
    hvi_server *server = NULL;
    hv_status status = hvi_router_find(router, shard, &server, error);
    if (status != HV_OK)
        return status;

    hvi_buffer body = HVI_BUFFER_EMPTY;
    hvi_buffer body_text = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    char kind_text[16];
    char sql[128];
    char schema[HVI_SCHEMA_NAME_LEN];
    uint16_t kind_wire = htobe16((uint16_t) kind);
    bool for_log = wants_parameters(server);

    hvi_hstore_encode(dict, &body);
    if (for_log && dict != NULL)
        hvi_hstore_print(dict, &body_text);
    if (!hvi_buffer_ok(&body) || !hvi_buffer_ok(&body_text)) {
        status = hvi_no_memory(error);
        goto out;
    }
    hvi_schema_name(shard, schema);
    snprintf(sql, sizeof sql, "INSERT INTO %s.entities (type, body) VALUES ($1, $2) RETURNING id",
             schema);
    snprintf(kind_text, sizeof kind_text, "%d", kind);
    const char *log_values[] = {kind_text, body_text.len > 0 ? body_text.data : ""};
    const char *values[] = {(const char *) &kind_wire, body.data};
    const int lengths[] = {sizeof kind_wire, (int) body.len};
    const int formats[] = {1, 1};
    hvi_query query = {
        .sql = sql,
        .shard = shard,
        .is_write = true,
        .id = hvi_statement_id(HVI_STATEMENT_PUT, shard),
        .parameter_count = 2,
        .values = values,
        .lengths = lengths,
        .formats = formats,
        .binary_result = true,
        .log_values = for_log ? log_values : NULL,
    };
    status = run(router, server, &query, &result, error);
    if (status == HV_OK)
        status = take_new_key(result, server, shard, key, error);

out:
    PQclear(result);
    hvi_buffer_fini(&body);
    hvi_buffer_fini(&body_text);
    return status;
}

/* ---- get ---- */

static hv_status take_entity(const PGresult *result, const hvi_server *server, int shard,
                             hv_entity **entity, hv_error **error) {
    if (PQntuples(result) == 0)
        return HV_NOT_FOUND;
    hv_entity *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    if (PQntuples(result) != 1 || PQnfields(result) != 3 || !read_int8(result, 0, 0, &made->key) ||
        !read_int2(result, 0, 1, &made->kind)) {
        hv_entity_free(made);
        return fail_corrupt(server, shard, error);
    }
    hv_status status = hvi_hstore_decode(PQgetvalue(result, 0, 2),
                                         (size_t) PQgetlength(result, 0, 2), &made->dict, error);
    if (status != HV_OK) {
        hvi_error_where(error, server->name, shard);
        hv_entity_free(made);
        return status;
    }
    *entity = made;
    return HV_OK;
}

hv_status hvi_store_get(hvi_router *router, int64_t key, hv_entity **entity, hv_error **error) {
    hvi_key_fields fields;
    if (!hvi_key_unpack(key, &fields)) {
        hvi_fail(error, HV_INVALID, "%" PRId64 " is not a key", key);
        hvi_error_detail(error, "Keys are positive.");
        return HV_INVALID;
    }
    hvi_server *server = NULL;
    hv_status status = hvi_router_find(router, fields.shard, &server, error);
    if (status != HV_OK)
        return status;

    PGresult *result = NULL;
    char key_text[32];
    char sql[128];
    char schema[HVI_SCHEMA_NAME_LEN];
    uint64_t key_wire = htobe64((uint64_t) key);
    hvi_schema_name(fields.shard, schema);
    snprintf(sql, sizeof sql, "SELECT id, type, body FROM %s.entities WHERE id = $1", schema);
    snprintf(key_text, sizeof key_text, "%" PRId64, key);
    const char *log_values[] = {key_text};
    const char *values[] = {(const char *) &key_wire};
    const int lengths[] = {sizeof key_wire};
    const int formats[] = {1};
    hvi_query query = {
        .sql = sql,
        .shard = fields.shard,
        .id = hvi_statement_id(HVI_STATEMENT_GET, fields.shard),
        .parameter_count = 1,
        .values = values,
        .lengths = lengths,
        .formats = formats,
        .binary_result = true,
        .log_values = wants_parameters(server) ? log_values : NULL,
    };
    status = run(router, server, &query, &result, error);
    if (status == HV_OK)
        status = take_entity(result, server, fields.shard, entity, error);
    PQclear(result);
    return status;
}
