/*
 * Tests of reading plans: what remains of them, and what is warned of.
 */
#include "entity/plan.h"
#include "unit.h"

#include <string.h>

static hvi_plan read_plan(const char *const *lines, size_t count) {
    hvi_plan plan = HVI_PLAN_EMPTY;
    for (size_t i = 0; i < count; i++)
        hvi_plan_add(&plan, lines[i]);
    assert_true(hvi_buffer_ok(&plan.text));
    return plan;
}

#define READ(...)                                 \
    read_plan((const char *const[]){__VA_ARGS__}, \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* Also frees the plan. */
static void assert_warning(hvi_plan *plan, int64_t total, int64_t limit, const char *expected) {
    hvi_buffer warning = HVI_BUFFER_EMPTY;
    hvi_plan_warn(plan, total, limit, &warning);
    if (expected == NULL)
        assert_int_equal(warning.len, 0);
    else
        assert_string_equal(warning.data, expected);
    hvi_buffer_fini(&warning);
}

#define LIMITS \
    "Limit  (cost=0.29..1.44 rows=20 width=98)", "  ->  Limit  (cost=0.29..3.33 rows=64 width=98)"

static void test_what_every_page_has_is_left_out(void **state) {
    (void) state;
    hvi_plan plan = READ(LIMITS,
                         "        ->  Index Scan using entities_pkey on entities  (cost=0.29..47.2 "
                         "rows=90 width=98)",
                         "              Index Cond: (id >= '1'::bigint)");
    assert_string_equal(plan.text.data, "Index Scan using entities_pkey on entities\n"
                                        "  Index Cond: (id >= '1'::bigint)\n");
    assert_int_equal(plan.found, -1);
    assert_warning(&plan, INT64_MAX, 0, NULL);
    hvi_plan_fini(&plan);
}

static void test_nodes_below_the_first_keep_their_place(void **state) {
    (void) state;
    hvi_plan plan =
        READ(LIMITS, "        ->  Sort  (cost=3390.17..3390.19 rows=10001 width=98)",
             "              Sort Key: entities.id DESC",
             "              ->  Seq Scan on entities  (cost=0.00..3390.00 rows=10001 width=98)",
             "                    Filter: (body ? 'nope'::text)");
    assert_string_equal(plan.text.data, "Sort\n"
                                        "  Sort Key: entities.id DESC\n"
                                        "  ->  Seq Scan on entities\n"
                                        "        Filter: (body ? 'nope'::text)\n");
    assert_true(plan.reads_table);
    assert_int_equal(plan.sorted, 10001);
    assert_warning(&plan, 12000, 0,
                   "The whole table is read, about 12000 entities, as no index fits.");
    assert_warning(&plan, 10000, 0, "About 10001 entities are sorted.");
    hvi_plan_fini(&plan);
}

static void test_a_small_sort_is_no_matter(void **state) {
    (void) state;
    hvi_plan plan = READ(
        "Limit  (cost=1.17..2.19 rows=10 width=98)",
        "  ->  Sort  (cost=1.17..2.19 rows=10000 width=98)", "        Sort Key: entities.id DESC",
        "        ->  Bitmap Heap Scan on entities  (cost=0.00..1.00 rows=10000 width=98)");
    assert_warning(&plan, 1000000, 0, NULL);
    hvi_plan_fini(&plan);
}

static void test_walking_far_for_little_is_warned_of(void **state) {
    (void) state;
    hvi_plan plan = READ(
        LIMITS,
        "        ->  Index Scan using entities_pkey on entities  (cost=0.2..4.2 rows=500 width=98)",
        "              Index Cond: (id >= '1'::bigint)", "              Filter: (type = 2)");
    assert_int_equal(plan.found, 500);
    assert_warning(&plan, 100000, 100, "About 20000 entities are read to find 100.");
    assert_warning(&plan, 100000, 20, NULL);
    assert_warning(&plan, 100000, 0, "About 100000 entities are read to find 500.");
    assert_warning(&plan, 5000, 0, NULL);
    hvi_plan_fini(&plan);
}

static void test_finding_nearly_all_is_no_walk(void **state) {
    (void) state;
    hvi_plan plan = READ(LIMITS,
                         "        ->  Index Scan using entities_pkey on entities  (cost=0.2..4.2 "
                         "rows=9000 width=98)",
                         "              Filter: (type = 2)");
    assert_warning(&plan, 90000, 0, NULL);
    assert_warning(&plan, 100001, 0, "About 100001 entities are read to find 9000.");
    hvi_plan_fini(&plan);
}

static void test_an_index_on_attributes_is_no_walk(void **state) {
    (void) state;
    hvi_plan plan = READ(
        LIMITS, "        ->  Index Scan using by_user on entities  (cost=1..2 rows=1 width=98)",
        "              Index Cond: ((body -> 'user'::text) = '42'::text)",
        "              Filter: (type = 2)");
    assert_int_equal(plan.found, -1);
    hvi_plan_fini(&plan);
}

static void test_values_that_look_like_plans_do_no_harm(void **state) {
    (void) state;
    hvi_plan plan =
        READ(LIMITS,
             "        ->  Index Scan using \"x  (cost=9 rows=9\" on entities  "
             "(cost=0.29..47.2 rows=90 width=98)",
             "              Index Cond: ((body -> 'a  (cost=1 rows=7'::text) = 'b'::text)", "->",
             "", "  (cost=", "Limit");
    assert_string_equal(plan.text.data,
                        "Index Scan using \"x  (cost=9 rows=9\" on entities\n"
                        "  Index Cond: ((body -> 'a  (cost=1 rows=7'::text) = 'b'::text)\n"
                        "->\n\n(cost=\nLimit\n");
    hvi_plan_fini(&plan);
}

static void test_no_plan_is_no_plan(void **state) {
    (void) state;
    hvi_plan plan = HVI_PLAN_EMPTY;
    assert_warning(&plan, INT64_MAX, 0, NULL);
    hvi_plan_fini(&plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_every_page_has_is_left_out),
        cmocka_unit_test(test_nodes_below_the_first_keep_their_place),
        cmocka_unit_test(test_a_small_sort_is_no_matter),
        cmocka_unit_test(test_walking_far_for_little_is_warned_of),
        cmocka_unit_test(test_finding_nearly_all_is_no_walk),
        cmocka_unit_test(test_an_index_on_attributes_is_no_walk),
        cmocka_unit_test(test_values_that_look_like_plans_do_no_harm),
        cmocka_unit_test(test_no_plan_is_no_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
