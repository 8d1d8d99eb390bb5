/*
 * sequences: the sequences of a shard go on at the target where they are at the source.
 *
 * A sequence is not locked by LOCK TABLE, and what other sessions take from it is not undone by a
 * rollback. So under the fence each gets the lock that ALTER takes, by giving it the owner that it
 * has: that changes nothing, neither when it is committed nor when it is rolled back.
 */
#include "move/sequences.h"

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
        "%%%%s, %%%%L);'', ''%s.%%I'', last_value, is_called) FROM %%s UNION ALL ', c.relname,"
        " c.oid::pg_catalog.regclass) FROM pg_catalog.pg_class AS c"
        " WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('%s')"
        "::pg_catalog.oid AND c.relkind OPERATOR(pg_catalog.=) 'S' ORDER BY c.oid",
        copy, schema);
    hv_status status = collect(link, &ask, &read, deadline, error);
    if (status == HV_OK && read.len > 0) {
        hvi_buffer_append_text(&read, "SELECT '' WHERE false");
        status = collect(link, &read, sql, deadline, error);
    }
    hvi_buffer_fini(&read);
    return status;
}
