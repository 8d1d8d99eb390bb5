/*
 * Tests of selections: what adds up, what contradicts itself, which keys the bounds allow.
 */
#include "value/selection.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>

typedef struct fixture {
    hv_selection *selection;
    hv_error *error;
} fixture;

static int set_up(void **state) {
    static fixture f;
    f = (fixture){.selection = hv_selection_new()};
    *state = &f;
    return f.selection == NULL;
}

static int tear_down(void **state) {
    fixture *f = *state;
    hv_selection_free(f->selection);
    hv_error_free(f->error);
    return 0;
}

#define EPOCH INT64_C(1379365531352)

static hv_status equal(fixture *f, const char *name, const char *value) {
    hv_error_free(f->error);
    f->error = NULL;
    return hv_selection_equal(f->selection, name, HV_STRLEN, value, HV_STRLEN, &f->error);
}

static hv_status one_of(fixture *f, const char *name, const char *const *values, size_t count) {
    hv_error_free(f->error);
    f->error = NULL;
    return hv_selection_one_of(f->selection, name, HV_STRLEN, values, NULL, count, &f->error);
}

static hv_status has(fixture *f, const char *name, const char *value) {
    hv_dict *one = hv_dict_new();
    assert_int_equal(hv_dict_set(one, name, value, NULL), HV_OK);
    hv_error_free(f->error);
    f->error = NULL;
    hv_status status = hv_selection_has(f->selection, one, &f->error);
    hv_dict_free(one);
    return status;
}

static hv_status exists(fixture *f, const char *name) {
    return hv_selection_exists(f->selection, name, HV_STRLEN, NULL);
}

static hv_status lacks(fixture *f, const char *name) {
    return hv_selection_lacks(f->selection, name, HV_STRLEN, NULL);
}

/* The values of a choice, in order of their appearance: "1,2,NULL". */
static const char *values_of(const hvi_choice *choice) {
    static char text[200];
    const char *value;
    text[0] = '\0';
    for (size_t i = 0; hv_dict_at(choice->values, i, &value, NULL, NULL, NULL); i++)
        sprintf(text + strlen(text), "%s,", value);
    return strcat(text, choice->or_null ? "NULL" : "");
}

static void test_a_new_one_means_everything(void **state) {
    fixture *f = *state;
    hvi_key_range range;
    assert_true(hvi_selection_has_shard(f->selection, 0));
    assert_true(hvi_selection_has_shard(f->selection, 8191));
    assert_false(hvi_selection_has_shard(f->selection, 8192));
    assert_false(hvi_selection_has_shard(f->selection, -1));
    assert_false(hvi_selection_has_attributes(f->selection));
    assert_int_equal(hvi_selection_bounds(f->selection, EPOCH, &range, NULL), HV_OK);
    assert_int_equal(range.first, 1);
    assert_int_equal(range.last, INT64_MAX);
    hv_selection_free(NULL);
}

static void test_shards_add_up(void **state) {
    fixture *f = *state;
    assert_int_equal(hv_selection_shards(f->selection, "1-3, 70", NULL), HV_OK);
    assert_int_equal(hv_selection_shards(f->selection, "8191", NULL), HV_OK);
    for (int shard = 0; shard < HV_SHARDS; shard++)
        assert_int_equal(hvi_selection_has_shard(f->selection, shard),
                         shard == 1 || shard == 2 || shard == 70 || shard == 8191);
}

static void test_shards_that_are_none_are_refused(void **state) {
    fixture *f = *state;
    static const char *const wrong[] = {NULL,  "",    "  ",   "x",      "1,", ",",
                                        "3-1", "1-1", "8192", "1-8193", "-1", "1;2"};
    for (size_t i = 0; i < LENGTH(wrong); i++) {
        assert_int_equal(hv_selection_shards(f->selection, wrong[i], &f->error), HV_INVALID);
        assert_int_equal(hv_error_status(f->error), HV_INVALID);
        assert_non_null(hv_error_hint(f->error));
    }
    assert_true(hvi_selection_has_shard(f->selection, 5)); /* still all */
    assert_int_equal(hv_selection_shards(f->selection, "7,x", &f->error), HV_INVALID);
    assert_false(f->selection->has_shards);
}

static void test_kinds_are_a_set(void **state) {
    fixture *f = *state;
    static const int kinds[] = {5, -32768, 32767, 5, 0, -1, 0};
    for (size_t i = 0; i < LENGTH(kinds); i++)
        assert_int_equal(hv_selection_kind(f->selection, kinds[i], NULL), HV_OK);
    assert_int_equal(hv_selection_kind(f->selection, 32768, NULL), HV_INVALID);
    assert_int_equal(hv_selection_kind(f->selection, -32769, NULL), HV_INVALID);
    static const int expected[] = {-32768, -1, 0, 5, 32767};
    assert_int_equal(f->selection->kind_count, LENGTH(expected));
    for (size_t i = 0; i < LENGTH(expected); i++)
        assert_int_equal(f->selection->kinds[i], expected[i]);
}

static void test_servers_to_skip_need_a_name(void **state) {
    fixture *f = *state;
    assert_int_equal(hv_selection_skip(f->selection, NULL, NULL), HV_INVALID);
    assert_int_equal(hv_selection_skip(f->selection, "", NULL), HV_INVALID);
    assert_int_equal(hv_selection_skip(f->selection, "left", NULL), HV_OK);
    assert_int_equal(hv_selection_skip(f->selection, "left", NULL), HV_OK);
    assert_int_equal(hv_selection_skip(f->selection, "right", NULL), HV_OK);
    assert_int_equal(hv_dict_count(f->selection->skip), 2);
}

/* ---- bounds ---- */

static void assert_range(fixture *f, int64_t first, int64_t last) {
    hvi_key_range range;
    assert_int_equal(hvi_selection_bounds(f->selection, EPOCH, &range, NULL), HV_OK);
    assert_int_equal(range.first, first);
    assert_int_equal(range.last, last);
}

#define KEY(milliseconds) ((INT64_C(1) << 23) * (milliseconds))

static void test_the_narrowest_bounds_count(void **state) {
    fixture *f = *state;
    hv_selection_from(f->selection, 100, NULL);
    hv_selection_from(f->selection, 50, NULL);
    hv_selection_until(f->selection, KEY(9), NULL);
    hv_selection_until(f->selection, KEY(20), NULL);
    assert_range(f, 100, KEY(9) - 1);
    hv_selection_since(f->selection, EPOCH + 2, NULL);
    hv_selection_since(f->selection, EPOCH + 1, NULL);
    hv_selection_before(f->selection, EPOCH + 7, NULL);
    hv_selection_before(f->selection, EPOCH + 8, NULL);
    assert_range(f, KEY(2), KEY(7) - 1);
    hv_selection_from(f->selection, KEY(3), NULL);
    hv_selection_until(f->selection, KEY(6), NULL);
    assert_range(f, KEY(3), KEY(6) - 1);
}

static void test_a_lower_bound_above_the_upper_one_is_refused(void **state) {
    fixture *f = *state;
    hvi_key_range range;
    hv_selection_from(f->selection, 10, NULL);
    hv_selection_until(f->selection, 10, NULL);
    assert_int_equal(hvi_selection_bounds(f->selection, EPOCH, &range, NULL), HV_OK);
    assert_true(hvi_key_range_is_empty(range));
    hv_selection_from(f->selection, 11, NULL);
    assert_int_equal(hvi_selection_bounds(f->selection, EPOCH, &range, &f->error), HV_INVALID);
    assert_error(&f->error, HV_INVALID, "the selection's lower bound is above its upper bound");
}

static void test_moments_count_with_the_epoch(void **state) {
    fixture *f = *state;
    hvi_key_range range;
    hv_selection_since(f->selection, INT64_MIN, NULL);
    assert_range(f, 1, INT64_MAX);
    hv_selection_before(f->selection, EPOCH - 5, NULL);
    assert_int_equal(hvi_selection_bounds(f->selection, EPOCH, &range, NULL), HV_OK);
    assert_true(hvi_key_range_is_empty(range));
    assert_int_equal(hvi_selection_bounds(f->selection, EPOCH - 10, &range, NULL), HV_OK);
    assert_int_equal(range.last, KEY(5) - 1);
    hv_selection_since(f->selection, INT64_MAX, NULL);
    assert_int_equal(hvi_selection_bounds(f->selection, EPOCH, &range, NULL), HV_INVALID);
}

static void test_going_on_after_a_key_never_widens(void **state) {
    fixture *f = *state;
    hvi_key_range range;
    hv_selection_from(f->selection, 10, NULL);
    hv_selection_until(f->selection, 20, NULL);
    static const struct {
        int64_t after;
        bool newest;
        int64_t first, last; /* 1, 0: none */
    } cases[] = {
        {5, false, 10, 19}, {9, false, 10, 19}, {10, false, 11, 19},      {18, false, 19, 19},
        {19, false, 1, 0},  {20, false, 1, 0},  {INT64_MAX, false, 1, 0}, {INT64_MAX, true, 10, 19},
        {20, true, 10, 19}, {19, true, 10, 18}, {11, true, 10, 10},       {10, true, 1, 0},
        {1, true, 1, 0},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        hv_selection_newest(f->selection, cases[i].newest);
        hv_selection_after(f->selection, cases[i].after, NULL);
        assert_int_equal(hvi_selection_bounds(f->selection, EPOCH, &range, NULL), HV_OK);
        if (cases[i].last == 0) {
            assert_true(hvi_key_range_is_empty(range));
            continue;
        }
        assert_int_equal(range.first, cases[i].first);
        assert_int_equal(range.last, cases[i].last);
    }
}

static void test_nothing_comes_after_the_last_key(void **state) {
    fixture *f = *state;
    hvi_key_range range;
    hv_selection_after(f->selection, INT64_MAX, NULL);
    assert_int_equal(hvi_selection_bounds(f->selection, EPOCH, &range, NULL), HV_OK);
    assert_true(hvi_key_range_is_empty(range));
    hv_selection_newest(f->selection, true);
    assert_range(f, 1, INT64_MAX - 1);
    hv_selection_after(f->selection, 1, NULL);
    assert_int_equal(hvi_selection_bounds(f->selection, EPOCH, &range, NULL), HV_OK);
    assert_true(hvi_key_range_is_empty(range));
}

static void test_keys_are_positive(void **state) {
    fixture *f = *state;
    static const int64_t wrong[] = {0, -1, INT64_MIN};
    for (size_t i = 0; i < LENGTH(wrong); i++) {
        assert_int_equal(hv_selection_from(f->selection, wrong[i], NULL), HV_INVALID);
        assert_int_equal(hv_selection_until(f->selection, wrong[i], NULL), HV_INVALID);
        assert_int_equal(hv_selection_after(f->selection, wrong[i], NULL), HV_INVALID);
        assert_int_equal(hv_selection_limit(f->selection, wrong[i], NULL), HV_INVALID);
    }
    assert_range(f, 1, INT64_MAX);
    assert_int_equal(f->selection->limit, 0);
}

/* ---- attributes ---- */

static void test_values_of_an_attribute_narrow_each_other(void **state) {
    fixture *f = *state;
    assert_int_equal(one_of(f, "a", (const char *[]){"1", "2", NULL, "", "2"}, 5), HV_OK);
    assert_string_equal(values_of(&f->selection->choices[0]), "1,2,,NULL");
    assert_int_equal(one_of(f, "a", (const char *[]){NULL, "2", "3"}, 3), HV_OK);
    assert_string_equal(values_of(&f->selection->choices[0]), "2,NULL");
    assert_int_equal(equal(f, "a", "3"), HV_INVALID);
    assert_error(&f->error, HV_INVALID, "the selection contradicts itself: attribute \"a\"");
    assert_string_equal(values_of(&f->selection->choices[0]), "2,NULL");
    assert_int_equal(equal(f, "a", NULL), HV_OK);
    assert_string_equal(values_of(&f->selection->choices[0]), "NULL");
    assert_int_equal(equal(f, "a", "2"), HV_INVALID);
    assert_int_equal(equal(f, "b", "2"), HV_OK);
    assert_int_equal(f->selection->choice_count, 2);
    assert_true(hvi_selection_has_attributes(f->selection));
}

static void test_an_attribute_is_not_both_there_and_absent(void **state) {
    fixture *f = *state;
    assert_int_equal(lacks(f, "gone"), HV_OK);
    assert_int_equal(lacks(f, "gone"), HV_OK);
    assert_int_equal(equal(f, "gone", NULL), HV_INVALID);
    assert_int_equal(has(f, "gone", NULL), HV_INVALID);
    assert_int_equal(exists(f, "gone"), HV_INVALID);
    assert_int_equal(equal(f, "e", "1"), HV_OK);
    assert_int_equal(has(f, "h", "1"), HV_OK);
    assert_int_equal(exists(f, "x"), HV_OK);
    assert_int_equal(lacks(f, "e"), HV_INVALID);
    assert_int_equal(lacks(f, "h"), HV_INVALID);
    assert_int_equal(lacks(f, "x"), HV_INVALID);
    assert_int_equal(exists(f, "e"), HV_OK);
    assert_int_equal(exists(f, "h"), HV_OK);
    assert_int_equal(hv_dict_count(f->selection->lacks), 1);
}

static void test_what_it_has_must_be_among_the_values(void **state) {
    fixture *f = *state;
    assert_int_equal(one_of(f, "a", (const char *[]){"1", NULL}, 2), HV_OK);
    assert_int_equal(has(f, "a", "2"), HV_INVALID);
    assert_int_equal(has(f, "a", NULL), HV_OK);
    assert_int_equal(has(f, "a", "1"), HV_INVALID); /* it is to be NULL now */
    assert_int_equal(equal(f, "a", "1"), HV_INVALID);
    assert_int_equal(has(f, "b", "1"), HV_OK);
    assert_int_equal(has(f, "b", "1"), HV_OK);
    assert_int_equal(equal(f, "b", "11"), HV_INVALID);
    assert_int_equal(equal(f, "b", "1"), HV_OK);
    assert_int_equal(hv_dict_count(f->selection->has), 2);
}

static void test_conditions_on_nothing_are_refused(void **state) {
    fixture *f = *state;
    hv_dict *none = hv_dict_new();
    assert_int_equal(hv_selection_has(f->selection, NULL, NULL), HV_INVALID);
    assert_int_equal(hv_selection_has(f->selection, none, NULL), HV_INVALID);
    assert_int_equal(one_of(f, "a", NULL, 0), HV_INVALID);
    assert_error(&f->error, HV_INVALID, "no values for attribute \"a\"");
    assert_int_equal(hv_selection_one_of(f->selection, NULL, 0, NULL, NULL, 0, NULL), HV_INVALID);
    assert_int_equal(hv_selection_equal(f->selection, NULL, 3, "1", 1, NULL), HV_INVALID);
    assert_int_equal(hv_selection_exists(f->selection, NULL, HV_STRLEN, NULL), HV_INVALID);
    assert_int_equal(hv_selection_lacks(f->selection, NULL, 1, NULL), HV_INVALID);
    assert_false(hvi_selection_has_attributes(f->selection));
    hv_dict_free(none);
}

static void test_text_that_no_attribute_has_is_refused(void **state) {
    fixture *f = *state;
    static const char *const wrong[] = {"\xff", "a\xc3"};
    for (size_t i = 0; i < LENGTH(wrong); i++) {
        assert_int_equal(equal(f, wrong[i], "1"), HV_INVALID);
        assert_int_equal(equal(f, "a", wrong[i]), HV_INVALID);
        assert_int_equal(exists(f, wrong[i]), HV_INVALID);
        assert_int_equal(lacks(f, wrong[i]), HV_INVALID);
        assert_int_equal(
            hv_selection_only(f->selection, (const char *[]){"a", wrong[i], NULL}, NULL),
            HV_INVALID);
    }
    assert_int_equal(hv_selection_equal(f->selection, "a\0b", 3, "1", 1, NULL), HV_INVALID);
    assert_int_equal(hv_selection_equal(f->selection, "a", 1, "\0", 1, NULL), HV_INVALID);
    assert_int_equal(hv_selection_equal(f->selection, "ab", 1, "12", 1, NULL), HV_OK);
    assert_string_equal(values_of(&f->selection->choices[0]), "1,");
    assert_int_equal(f->selection->choice_count, 1);
    assert_null(f->selection->only);
}

static void test_too_many_attributes_are_refused(void **state) {
    fixture *f = *state;
    char name[20];
    for (int i = 0; i < HVI_SELECTION_ATTRIBUTES_MAX; i++) {
        sprintf(name, "%d", i);
        assert_int_equal(i % 3 == 0   ? equal(f, name, "1")
                         : i % 3 == 1 ? exists(f, name)
                                      : lacks(f, name),
                         HV_OK);
    }
    assert_int_equal(equal(f, "new", "1"), HV_INVALID);
    assert_int_equal(exists(f, "new"), HV_INVALID);
    assert_int_equal(lacks(f, "new"), HV_INVALID);
    assert_int_equal(equal(f, "0", "1"), HV_OK); /* not another one */
}

static void test_only_is_all_some_or_none(void **state) {
    fixture *f = *state;
    assert_int_equal(hv_selection_only(f->selection, (const char *[]){"a", "b", "a", NULL}, NULL),
                     HV_OK);
    assert_int_equal(hv_dict_count(f->selection->only), 2);
    assert_int_equal(hv_selection_only(f->selection, (const char *[]){NULL}, NULL), HV_OK);
    assert_int_equal(hv_dict_count(f->selection->only), 0);
    assert_int_equal(hv_selection_only(f->selection, NULL, NULL), HV_OK);
    assert_null(f->selection->only);
}

static void test_a_timeout_is_at_least_minus_one(void **state) {
    fixture *f = *state;
    assert_int_equal(hv_selection_timeout(f->selection, -2, NULL), HV_INVALID);
    assert_int_equal(hv_selection_timeout(f->selection, -1, NULL), HV_OK);
    assert_int_equal(f->selection->timeout, -1);
    assert_int_equal(hv_selection_limit(f->selection, INT64_MAX, NULL), HV_OK);
}

/* ---- copies ---- */

static void fill(hv_selection *s) {
    hv_dict *dict = hv_dict_new();
    hv_dict_set(dict, "h", "1", NULL);
    assert_int_equal(hv_selection_shards(s, "4", NULL), HV_OK);
    assert_int_equal(hv_selection_skip(s, "left", NULL), HV_OK);
    assert_int_equal(hv_selection_kind(s, 7, NULL), HV_OK);
    assert_int_equal(hv_selection_from(s, 5, NULL), HV_OK);
    assert_int_equal(hv_selection_one_of(s, "a", 1, (const char *[]){"1", NULL}, NULL, 2, NULL),
                     HV_OK);
    assert_int_equal(hv_selection_exists(s, "x", 1, NULL), HV_OK);
    assert_int_equal(hv_selection_lacks(s, "l", 1, NULL), HV_OK);
    assert_int_equal(hv_selection_has(s, dict, NULL), HV_OK);
    assert_int_equal(hv_selection_only(s, (const char *[]){"o", NULL}, NULL), HV_OK);
    hv_selection_newest(s, true);
    hv_selection_partial(s, true);
    hv_dict_free(dict);
}

static void test_a_copy_is_independent(void **state) {
    fixture *f = *state;
    fill(f->selection);
    hv_selection *copy = hvi_selection_copy(f->selection);
    hv_selection_free(f->selection);
    f->selection = NULL;
    assert_true(hvi_selection_has_shard(copy, 4));
    assert_false(hvi_selection_has_shard(copy, 5));
    assert_int_equal(hv_dict_count(copy->skip), 1);
    assert_int_equal(copy->kind_count, 1);
    assert_int_equal(copy->kinds[0], 7);
    assert_int_equal(copy->from, 5);
    assert_int_equal(copy->choice_count, 1);
    assert_string_equal(values_of(&copy->choices[0]), "1,NULL");
    assert_true(hv_dict_get(copy->exists, "x", 1, NULL, NULL));
    assert_true(hv_dict_get(copy->lacks, "l", 1, NULL, NULL));
    assert_true(hv_dict_get(copy->has, "h", 1, NULL, NULL));
    assert_true(hv_dict_get(copy->only, "o", 1, NULL, NULL));
    assert_true(copy->newest && copy->partial);
    hv_selection_free(copy);
}

static void test_a_copy_of_none_means_everything(void **state) {
    (void) state;
    hv_selection *copy = hvi_selection_copy(NULL);
    assert_non_null(copy);
    assert_true(hvi_selection_has_shard(copy, 8191));
    assert_null(copy->only);
    hv_selection_free(copy);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_new_one_means_everything),
        TEST(test_shards_add_up),
        TEST(test_shards_that_are_none_are_refused),
        TEST(test_kinds_are_a_set),
        TEST(test_servers_to_skip_need_a_name),
        TEST(test_the_narrowest_bounds_count),
        TEST(test_a_lower_bound_above_the_upper_one_is_refused),
        TEST(test_moments_count_with_the_epoch),
        TEST(test_going_on_after_a_key_never_widens),
        TEST(test_nothing_comes_after_the_last_key),
        TEST(test_keys_are_positive),
        TEST(test_values_of_an_attribute_narrow_each_other),
        TEST(test_an_attribute_is_not_both_there_and_absent),
        TEST(test_what_it_has_must_be_among_the_values),
        TEST(test_conditions_on_nothing_are_refused),
        TEST(test_text_that_no_attribute_has_is_refused),
        TEST(test_too_many_attributes_are_refused),
        TEST(test_only_is_all_some_or_none),
        TEST(test_a_timeout_is_at_least_minus_one),
        TEST(test_a_copy_is_independent),
        TEST(test_a_copy_of_none_means_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
