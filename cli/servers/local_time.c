/*
 * local_time: what moments are in a time zone, as a server knows it.
 */
#include "servers/local_time.h"

#include <inttypes.h>
#include <stdlib.h>

#include <libpq-fe.h>

#include "servers/sql.h"
#include "ui/memory.h"

static const char sql[] =
    "SELECT (pg_catalog.date_part('epoch', pg_catalog.timezone($1::pg_catalog.text,"
    "  pg_catalog.to_timestamp(u.ms OPERATOR(pg_catalog./) 1000::double precision)))"
    "  OPERATOR(pg_catalog.*) 1000::double precision)::bigint"
    " FROM ROWS FROM (pg_catalog.unnest($2::bigint[])) WITH ORDINALITY AS u(ms, n)"
    " ORDER BY u.n USING OPERATOR(pg_catalog.<)";

/* "{1,2}": free() it. */
static char *array_text(const int64_t *numbers, size_t count) {
    char *array = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&array, &size);
    if (text == NULL)
        out_of_memory();
    for (size_t i = 0; i < count; i++)
        fprintf(text, "%c%" PRId64, i == 0 ? '{' : ',', numbers[i]);
    fputs(count == 0 ? "{}" : "}", text);
    if (fclose(text) != 0)
        out_of_memory();
    return array;
}

static hv_status ask(hv_store *store, int server, const char *const values[2], int64_t *moments,
                     size_t count, sql_failure *failure) {
    PGconn *conn = NULL;
    PGresult *result = NULL;
    hv_status status = hv_acquire_server(store, server, &conn, &failure->error);
    if (status != HV_OK)
        return status;
    int sent = PQsendQueryParams(conn, sql, 2, NULL, values, NULL, NULL, 0);
    status = sql_answer(conn, sent, false, SQL_PATIENCE_MS, &result, failure);
    if (status == HV_OK)
        status = sql_check(result, "n", (int) count, (int) count, failure);
    for (size_t i = 0; status == HV_OK && i < count; i++)
        moments[i] = sql_number(result, (int) i, 0, moments[i]);
    PQclear(result);
    hv_release(store, conn, NULL);
    return status;
}

bool local_times(hv_store *store, const char *zone, int64_t *moments, size_t count) {
    char *array = array_text(moments, count);
    const char *const values[] = {zone, array};
    sql_failure failure = {0};
    hv_status status = HV_NO_SERVER;
    for (int i = 0; i < hv_server_count(store) && status != HV_OK; i++) {
        sql_failure_clear(&failure);
        status = ask(store, i, values, moments, count, &failure);
    }
    if (status != HV_OK)
        sql_failure_say(&failure);
    sql_failure_clear(&failure);
    free(array);
    return status == HV_OK;
}
