/*
 * Tests of the statement that reads a page.
 */
#include "entity/page.h"
#include "unit.h"

static const int16_t shards[] = {3, 12};

static void assert_sql(const hvi_page *page, bool reads_text, const char *expected) {
    hvi_buffer sql = HVI_BUFFER_EMPTY;
    hvi_page_sql(&sql, page, "h", reads_text);
    assert_true(hvi_buffer_ok(&sql));
    assert_string_equal(sql.data, expected);
    hvi_buffer_fini(&sql);
}

static hvi_page page_of(const hv_selection *selection, int shard_count, int rows) {
    return (hvi_page){
        .selection = selection,
        .range = {1, INT64_MAX},
        .portion = {.shards = shards, .count = shard_count},
        .rows = rows,
    };
}

static void test_one_shard_needs_no_merge(void **state) {
    (void) state;
    hv_selection *s = hv_selection_new();
    const hvi_page page = page_of(s, 1, 256);
    assert_sql(&page, false,
               "SELECT id, type, body FROM ((SELECT id, type, body AS body FROM shard0003.entities"
               " WHERE true ORDER BY id LIMIT 1000)) AS page ORDER BY id LIMIT $1::bigint");
    hv_selection_free(s);
}

static void test_several_are_merged(void **state) {
    (void) state;
    hv_selection *s = hv_selection_new();
    hv_selection_newest(s, true);
    hv_selection_kind(s, 5, NULL);
    hv_selection_only(s, (const char *[]){"a", NULL}, NULL);
    const hvi_page page = page_of(s, 2, 8);
    assert_sql(&page, true,
               "SELECT id, type, body FROM ("
               "(SELECT id, type, h.slice(body, $3::pg_catalog.text[])::pg_catalog.text AS body"
               " FROM shard0003.entities WHERE true AND type OPERATOR(pg_catalog.=) $1::smallint"
               " ORDER BY id DESC LIMIT 10) UNION ALL "
               "(SELECT id, type, h.slice(body, $3::pg_catalog.text[])::pg_catalog.text AS body"
               " FROM shard0012.entities WHERE true AND type OPERATOR(pg_catalog.=) $1::smallint"
               " ORDER BY id DESC LIMIT 10)"
               " ORDER BY id DESC LIMIT 10) AS page ORDER BY id DESC LIMIT $2::bigint");
    hvi_parameters parameters = HVI_PARAMETERS_EMPTY;
    hvi_page_parameters(&parameters, &page);
    assert_int_equal(parameters.count, 3);
    hvi_parameters_fini(&parameters);
    hv_selection_free(s);
}

#define SIZE                                                                                   \
    "coalesce(least(pg_catalog.pg_column_size(body), 100000000)"                               \
    " OPERATOR(pg_catalog.*) CASE WHEN pg_catalog.pg_column_compression(body) IS NULL THEN 1 " \
    "ELSE 10 END, 0)"

static void test_a_limit_of_bytes_ends_the_page(void **state) {
    (void) state;
    hv_selection *s = hv_selection_new();
    hvi_page page = page_of(s, 1, 100);
    page.care = HVI_PAGE_MEASURED;
    page.bytes = 5000;
    hv_selection_only(s, (const char *[]){"a", NULL}, NULL);
    assert_sql(&page, false,
               "SELECT id, type, body, bytes OPERATOR(pg_catalog.>=) $3::bigint AS is_cut FROM ("
               "SELECT id, type, body, " SIZE " AS size,"
               " pg_catalog.sum(" SIZE ") OVER ( ORDER BY id ROWS UNBOUNDED PRECEDING) AS bytes"
               " FROM ((SELECT id, type, h.slice(body, $2::pg_catalog.text[]) AS body"
               " FROM shard0003.entities WHERE true ORDER BY id LIMIT 100)) AS page"
               " ORDER BY id LIMIT $1::bigint) AS measured"
               " WHERE bytes OPERATOR(pg_catalog.-) size OPERATOR(pg_catalog.<) $3::bigint"
               " ORDER BY id");
    hvi_parameters parameters = HVI_PARAMETERS_EMPTY;
    hvi_page_parameters(&parameters, &page);
    assert_int_equal(parameters.count, 3);
    hvi_parameters_fini(&parameters);
    hv_selection_free(s);
}

static void test_large_bodies_are_left_out(void **state) {
    (void) state;
    hv_selection *s = hv_selection_new();
    hvi_page page = page_of(s, 1, 100);
    page.care = HVI_PAGE_SMALL_ROWS;
    assert_sql(&page, false,
               "SELECT id, type, CASE WHEN"
               " pg_catalog.pg_column_size(body) OPERATOR(pg_catalog.<=) 2000"
               " AND pg_catalog.pg_column_compression(body) IS NULL THEN body END AS body,"
               " body IS NULL AS is_null FROM ((SELECT id, type, body AS body"
               " FROM shard0003.entities WHERE true ORDER BY id LIMIT 100)) AS page"
               " ORDER BY id LIMIT $1::bigint");
    hv_selection_free(s);
}

static void test_the_limits_of_branches_are_few(void **state) {
    (void) state;
    static const struct {
        int rows;
        const char *limit;
    } cases[] = {
        {1, "LIMIT 10)"},    {10, "LIMIT 10)"},    {11, "LIMIT 100)"},
        {100, "LIMIT 100)"}, {101, "LIMIT 1000)"}, {1000, "LIMIT 1000)"},
    };
    hv_selection *s = hv_selection_new();
    for (size_t i = 0; i < LENGTH(cases); i++) {
        hvi_buffer sql = HVI_BUFFER_EMPTY;
        const hvi_page page = page_of(s, 2, cases[i].rows);
        hvi_page_sql(&sql, &page, "h", false);
        assert_contains(sql.data, cases[i].limit);
        hvi_buffer_fini(&sql);
    }
    hv_selection_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_shard_needs_no_merge),
        cmocka_unit_test(test_several_are_merged),
        cmocka_unit_test(test_a_limit_of_bytes_ends_the_page),
        cmocka_unit_test(test_large_bodies_are_left_out),
        cmocka_unit_test(test_the_limits_of_branches_are_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
