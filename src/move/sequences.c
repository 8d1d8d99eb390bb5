/*
 * sequences: the sequences and the keys of a shard go on at the target where they are at the
 * source.
 *
 * A sequence is not locked by LOCK TABLE, and what other sessions take from it is not undone by a
 * rollback. So under the fence each gets the lock that ALTER takes, by giving it the owner that it
 * has: that changes nothing, neither when it is committed nor when it is rolled back.
 */
#include "move/sequences.h"

#include "shard/extension.h"
#include "value/generator.h"
#include "wire/result.h"

static const hvi_form lock_form = {
    .asked = "the sequences of a shard",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_BYTES},
};

/* Append the first column of all rows. */
static hv_status collect(hvi_link *link, hvi_buffer *ask, hvi_buffer *to, int64_t deadline,
                         hv_error **error) {
    PGresult *result = NULL;
    hv_status status = hvi_link_say(link, ask, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &lock_form, link->server->name, -1, error);
    for (int i = 0; status == HV_OK && i < PQntuples(result); i++)
        hvi_buffer_append_text(to, hvi_text_at(result, i, 0));
    PQclear(result);
    return status;
}

hv_status hvi_sequences_lock_sql(hvi_link *link, const char *schema, hvi_buffer *sql,
                                 int64_t deadline, hv_error **error) {
    hvi_buffer ask = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(
        &ask,
        "SELECT pg_catalog.format('ALTER TABLE %%s OWNER TO %%I;', c.oid::pg_catalog.regclass,"
        " pg_catalog.pg_get_userbyid(c.relowner)) FROM pg_catalog.pg_class AS c"
        " WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('%s')"
        "::pg_catalog.oid AND c.relkind OPERATOR(pg_catalog.=) 'S' ORDER BY c.oid",
        schema);
    return collect(link, &ask, sql, deadline, error);
}

/* ---- keys ---- */

static const hvi_form generator_form = {
    .asked = "the function next_id of a shard",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_INT8},
};

static hv_status make_extension(hvi_link *to, int shard, int64_t deadline, hv_error **error) {
    hv_error *cause = NULL;
    hv_status status = hvi_extension_hypervault(to->session, deadline, &cause);
    if (status == HV_OK)
        return HV_OK;
    if (status != HV_NOT_FOUND)
        return hvi_error_move(error, &cause);
    status = hvi_fail(error, HV_INVALID,
                      "the keys of shard %d are strict, and the extension \"hypervault\" cannot be "
                      "created",
                      shard);
    hvi_error_where(error, to->server->name, shard);
    hvi_error_detail(error, "%s", hv_error_message(cause));
    hvi_error_hint(error, "%s", hvi_generator_extension_hint);
    hv_error_free(cause);
    return status;
}

hv_status hvi_sequences_check(hvi_link *from, hvi_link *to, int shard, const char *schema,
                              int64_t deadline, hv_error **error) {
    hvi_buffer ask = HVI_BUFFER_EMPTY;
    PGresult *made = NULL, *able = NULL;
    hvi_buffer_append_format(
        &ask,
        "SELECT (" HVI_GENERATOR_OF_FUNCTION ")::bigint FROM (SELECT) AS one"
        " LEFT JOIN pg_catalog.pg_proc AS f ON f.pronamespace OPERATOR(pg_catalog.=)"
        " pg_catalog.to_regnamespace('%s')::pg_catalog.oid"
        " AND f.proname OPERATOR(pg_catalog.=) 'next_id' AND f.pronargs OPERATOR(pg_catalog.=) 0",
        schema);
    hv_status status = hvi_link_say(from, &ask, deadline, &made, error);
    if (status == HV_OK)
        status = hvi_result_check(made, &generator_form, from->server->name, shard, error);
    if (status == HV_OK && hvi_integer_at(made, 0, 0) == HVI_GENERATOR_STRICT) {
        status = hvi_link_run(to,
                              "SELECT pg_catalog.count(pg_catalog.to_regprocedure("
                              "'hypervault.next_id(pg_catalog.regclass, integer, bigint)'))",
                              deadline, &able, error);
        if (status == HV_OK)
            status = hvi_result_check(able, &generator_form, to->server->name, shard, error);
        /* A server that has had no shards yet has no extension either. */
        if (status == HV_OK && hvi_integer_at(able, 0, 0) == 0)
            status = make_extension(to, shard, deadline, error);
    }
    PQclear(made);
    PQclear(able);
    return status;
}

/* The source's clock is read here, when nobody can make keys any more. */
static hv_status go_on(hvi_link *link, const char *schema, const char *copy, hvi_buffer *sql,
                       int64_t deadline, hv_error **error) {
    static const hvi_form form = {
        .asked = "the clock",
        .rows = HVI_ONE_ROW,
        .columns = {HVI_IS_INT8},
    };
    hvi_buffer ask = HVI_BUFFER_EMPTY;
    PGresult *result = NULL;
    hvi_generator_time(&ask, schema);
    hv_status status = hvi_link_say(link, &ask, deadline, &result, error);
    if (status == HV_OK)
        status = hvi_result_check(result, &form, link->server->name, -1, error);
    if (status == HV_OK)
        hvi_generator_go_on(sql, copy, hvi_integer_at(result, 0, 0));
    PQclear(result);
    return status;
}

/* ---- sequences ---- */

/*
 * The values are read from the sequences themselves, last_value and is_called, which a function
 * cannot do for a name that it is given; so the SELECTs are made first. One round trip, the names
 * having been read with the locks, would be enough, but this is a millisecond, and the set of
 * sequences cannot be another than that which is locked.
 */
hv_status hvi_sequences_read(hvi_link *link, const char *schema, const char *copy, hvi_buffer *sql,
                             int64_t deadline, hv_error **error) {
    hvi_buffer ask = HVI_BUFFER_EMPTY, read = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(
        &ask,
        "SELECT pg_catalog.format('SELECT pg_catalog.format(''SELECT pg_catalog.setval(%%%%L, "
        "%%%%s, %%%%L);'', %%L, last_value, is_called) FROM %%s UNION ALL ',"
        " pg_catalog.format('%s.%%I', c.relname), c.oid::pg_catalog.regclass) FROM "
        "pg_catalog.pg_class AS c"
        " WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('%s')"
        "::pg_catalog.oid AND c.relkind OPERATOR(pg_catalog.=) 'S' ORDER BY c.oid",
        copy, schema);
    hv_status status = collect(link, &ask, &read, deadline, error);
    if (status == HV_OK && read.len > 0) {
        hvi_buffer_append_text(&read, "SELECT '' WHERE false");
        status = collect(link, &read, sql, deadline, error);
    }
    if (status == HV_OK)
        status = go_on(link, schema, copy, sql, deadline, error);
    hvi_buffer_fini(&read);
    return status;
}
