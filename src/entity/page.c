/*
 * page: the statement that reads a page of a portion of shards.
 */
#include "entity/page.h"

#include <stdlib.h>

#include "value/key.h"
#include "entity/target.h"

/*
 * The limit of the branches. Of a limit that is a parameter the planner expects a tenth of the
 * rows: if fewer are wanted, it finds a plan for that number cheaper, and plans again each time. So
 * the literals grow by no more than ten times.
 */
static const int limits[] = {10, 100, HVI_PAGE_MAX_ROWS};

/* ---- the statement ---- */

static int limit_of(int rows) {
    size_t i = 0;
    while (limits[i] < rows && limits[i] < HVI_PAGE_MAX_ROWS)
        i++;
    return limits[i];
}

/* The column body, as it is to be read. */
static void append_body(hvi_buffer *sql, const hvi_page *page, const char *schema,
                        bool reads_text) {
    if (page->selection->only == NULL)
        hvi_buffer_append_text(sql, hvi_body_column(reads_text));
    else
        hvi_buffer_append_format(sql, "%s.slice(body, $%d::pg_catalog.text[])%s", schema,
                                 hvi_where_parameter_count(page->selection, page->range) + 2,
                                 reads_text ? "::pg_catalog.text" : "");
}

/*
 * How many bytes of a row's attributes the server has, without reading those that it keeps
 * elsewhere (TOAST). Compressed ones may be many times larger. No more than an integer can hold.
 */
#define SIZE                                                                           \
    "coalesce(least(pg_catalog.pg_column_size(body), 100000000)"                       \
    " OPERATOR(pg_catalog.*) CASE WHEN pg_catalog.pg_column_compression(body) IS NULL" \
    " THEN 1 ELSE 10 END, 0)"

/* A body that is no longer than a row may be that the server stores as it is (TOAST_TUPLE_TARGET).
 */
#define IS_SMALL                                                   \
    "pg_catalog.pg_column_size(body) OPERATOR(pg_catalog.<=) 2000" \
    " AND pg_catalog.pg_column_compression(body) IS NULL"

/* Around the page: a running sum of sizes, which ends it. */
static void begin_measuring(hvi_buffer *sql, int bytes_parameter) {
    hvi_buffer_append_format(sql,
                             "SELECT id, type, body,"
                             " bytes OPERATOR(pg_catalog.>=) $%d::bigint AS is_cut FROM (",
                             bytes_parameter);
}

static void measure(hvi_buffer *sql, const char *order) {
    hvi_buffer_append_format(sql,
                             ", " SIZE " AS size, pg_catalog.sum(" SIZE ")"
                             " OVER (%s ROWS UNBOUNDED PRECEDING) AS bytes",
                             order);
}

static void end_measuring(hvi_buffer *sql, int bytes_parameter, const char *order) {
    hvi_buffer_append_format(sql,
                             ") AS measured WHERE bytes OPERATOR(pg_catalog.-) size"
                             " OPERATOR(pg_catalog.<) $%d::bigint",
                             bytes_parameter);
    hvi_buffer_append_text(sql, order);
}

/* A shard's branch is the same as the others', but for the schema. */
typedef struct branch {
    hvi_buffer before;
    hvi_buffer after;
} branch;

static void write_branch(branch *one, const hvi_page *page, const char *schema, bool reads_text) {
    hvi_buffer_append_text(&one->before, "(SELECT id, type, ");
    append_body(&one->before, page, schema, reads_text);
    hvi_buffer_append_text(&one->before, " AS body FROM ");
    hvi_buffer_append_text(&one->after, ".entities WHERE ");
    hvi_where_sql(&one->after, page->selection, page->range, schema);
    hvi_buffer_append_format(&one->after, " ORDER BY id%s LIMIT %d)",
                             page->selection->newest ? " DESC" : "", limit_of(page->rows));
}

void hvi_page_sql(hvi_buffer *sql, const hvi_page *page, const char *hstore_schema,
                  bool reads_text) {
    const char *order = page->selection->newest ? " ORDER BY id DESC" : " ORDER BY id";
    int rows_parameter = hvi_where_parameter_count(page->selection, page->range) + 1;
    branch one = {HVI_BUFFER_EMPTY, HVI_BUFFER_EMPTY};
    write_branch(&one, page, hstore_schema, reads_text);
    if (!hvi_buffer_ok(&one.before) || !hvi_buffer_ok(&one.after))
        hvi_buffer_break(sql);
    if (page->care == HVI_PAGE_MEASURED)
        begin_measuring(sql, rows_parameter + 1 + (page->selection->only != NULL));
    hvi_buffer_append_text(sql, page->care == HVI_PAGE_SMALL_ROWS
                                    ? "SELECT id, type, CASE WHEN " IS_SMALL
                                      " THEN body END AS body, body IS NULL AS is_null"
                                    : "SELECT id, type, body");
    if (page->care == HVI_PAGE_MEASURED)
        measure(sql, order);
    hvi_buffer_append_text(sql, " FROM (");
    for (int i = 0; i < page->portion.count && hvi_buffer_ok(sql); i++) {
        char schema[HVI_SCHEMA_NAME_LEN];
        hvi_schema_name(page->portion.shards[i], schema);
        hvi_buffer_append_text(sql, i > 0 ? " UNION ALL " : "");
        hvi_buffer_append(sql, one.before.data, one.before.len);
        hvi_buffer_append_text(sql, schema);
        hvi_buffer_append(sql, one.after.data, one.after.len);
    }
    if (page->portion.count > 1)
        hvi_buffer_append_format(sql, "%s LIMIT %d", order, limit_of(page->rows));
    hvi_buffer_append_format(sql, ") AS page%s LIMIT $%d::bigint", order, rows_parameter);
    if (page->care == HVI_PAGE_MEASURED)
        end_measuring(sql, rows_parameter + 1 + (page->selection->only != NULL), order);
    hvi_buffer_fini(&one.before);
    hvi_buffer_fini(&one.after);
}

void hvi_page_parameters(hvi_parameters *parameters, const hvi_page *page) {
    hvi_where_parameters(parameters, page->selection, page->range);
    hvi_parameters_int8(parameters, page->rows);
    if (page->selection->only != NULL)
        hvi_parameters_text_array(parameters, page->selection->only);
    if (page->care == HVI_PAGE_MEASURED)
        hvi_parameters_int8(parameters, page->bytes);
}

/* ---- the question ---- */

typedef struct asked_page {
    hvi_ask ask;
    hvi_page page;
    hvi_statement_texts *texts;
    hvi_buffer sql;
    hvi_parameters parameters;
} asked_page;

static const hvi_form form = {
    .asked = "entities: id bigint, type smallint, body hstore",
    .rows = HVI_ANY_ROWS,
    .binary = true,
    .columns = {HVI_IS_INT8, HVI_IS_INT2 | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL},
};

/* With the column that says where it ends. */
static const hvi_form careful_form = {
    .asked = "entities: id bigint, type smallint, body hstore",
    .rows = HVI_ANY_ROWS,
    .binary = true,
    .columns = {HVI_IS_INT8, HVI_IS_INT2 | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL, HVI_IS_BOOL},
};

static asked_page *page_of(hvi_ask *ask) {
    return (asked_page *) ((char *) ask - offsetof(asked_page, ask));
}

static bool query(hvi_ask *ask, const hvi_session *session, hvi_query *query) {
    asked_page *self = page_of(ask);
    hvi_buffer_reset(&self->sql);
    hvi_page_sql(&self->sql, &self->page, session->hstore_schema, session->reads_text);
    if (!hvi_buffer_ok(&self->sql))
        return false;
    query->sql = self->sql.data;
    query->id.verb = hvi_statement_texts_name(self->texts, "page", self->sql.data, self->sql.len);
    query->id.shard = self->page.portion.shards[0];
    return hvi_parameters_bind(&self->parameters, query);
}

static void free_page(hvi_ask *ask) {
    asked_page *self = page_of(ask);
    hvi_buffer_fini(&self->sql);
    hvi_parameters_fini(&self->parameters);
    free(self);
}

hv_status hvi_page_init(hvi_operation *op, const hvi_page *page, hvi_router *router,
                        hvi_statement_texts *texts, PGresult **to, hv_error **error) {
    asked_page *made = malloc(sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    *made = (asked_page){
        .ask = {.answer = page->care != HVI_PAGE_ANY_SIZE ? &careful_form : &form,
                .query = query,
                .free = free_page},
        .page = *page,
        .texts = texts,
        .sql = HVI_BUFFER_EMPTY,
        .parameters = {.log = router->options->values[HVI_LOG_PARAMETERS] != 0},
    };
    hvi_page_parameters(&made->parameters, page);
    hvi_question_init(op, &made->ask, router, page->portion.server,
                      page->portion.count == 1 ? page->portion.shards[0] : -1, to);
    return HV_OK;
}

/* ---- rows ---- */

/* Is this a row of which the body was left out? */
static bool lacks_body(const PGresult *result, int row) {
    return PQgetisnull(result, row, 2) && !hvi_bool_at(result, row, 3);
}

int hvi_page_rows(const PGresult *result, hvi_page_care care, bool *is_cut) {
    int count = PQntuples(result), row = 0;
    if (care == HVI_PAGE_SMALL_ROWS) {
        while (row < count && !lacks_body(result, row))
            row++;
        *is_cut = row < count;
        return row;
    }
    *is_cut = care == HVI_PAGE_MEASURED && count > 0 && hvi_bool_at(result, count - 1, 3);
    return count;
}

int64_t hvi_page_key(const PGresult *result, int row) {
    return hvi_integer_at(result, row, 0);
}

static hv_status fail_null(const PGresult *result, int row, const hvi_portion *portion,
                           hv_error **error) {
    int64_t key = hvi_page_key(result, row);
    hvi_key_fields fields = {0};
    hvi_key_unpack(key, &fields);
    hvi_target target = {.server = portion->server, .shard = fields.shard};
    hvi_schema_name(fields.shard, target.schema);
    return hvi_target_fail_null(&target, key, PQgetisnull(result, row, 1), error);
}

hv_status hvi_page_row(const PGresult *result, int row, const hvi_portion *portion, int *kind,
                       hv_dict **dict, hv_error **error) {
    if (PQgetisnull(result, row, 1) || PQgetisnull(result, row, 2))
        return fail_null(result, row, portion, error);
    *kind = (int) hvi_integer_at(result, row, 1);
    hv_status status = hvi_body_at(result, row, 2, dict, error);
    if (status != HV_OK) {
        hvi_key_fields fields;
        bool is_key = hvi_key_unpack(hvi_page_key(result, row), &fields);
        hvi_error_where(error, portion->server->name, is_key ? fields.shard : -1);
    }
    return status;
}
