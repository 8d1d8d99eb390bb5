/*
 * Tests of conditions: what is added up, and what contradicts itself.
 */
#include "value/condition.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>

typedef struct fixture {
    hv_condition *condition;
    hv_dict *dict;
    hv_error *error;
} fixture;

static int set_up(void **state) {
    static fixture f;
    f = (fixture){.condition = hv_condition_new(), .dict = hv_dict_new()};
    *state = &f;
    return f.condition == NULL || f.dict == NULL;
}

static int tear_down(void **state) {
    fixture *f = *state;
    hv_condition_free(f->condition);
    hv_dict_free(f->dict);
    hv_error_free(f->error);
    return 0;
}

/* Add that the entity has this attribute, through a dict of its own. */
static hv_status has(fixture *f, const char *name, const char *value) {
    hv_dict *one = hv_dict_new();
    assert_int_equal(hv_dict_set(one, name, value, NULL), HV_OK);
    hv_error_free(f->error);
    f->error = NULL;
    hv_status status = hv_condition_has(f->condition, one, &f->error);
    hv_dict_free(one);
    return status;
}

static hv_status lacks(fixture *f, const char *name) {
    hv_error_free(f->error);
    f->error = NULL;
    return hv_condition_lacks(f->condition, name, HV_STRLEN, &f->error);
}

static void assert_contradicts(fixture *f, hv_status status, const char *message) {
    assert_int_equal(status, HV_INVALID);
    assert_string_equal(hv_error_message(f->error), message);
}

static void test_a_new_one_demands_nothing(void **state) {
    fixture *f = *state;
    assert_int_equal(hv_dict_count(f->condition->has), 0);
    assert_int_equal(hv_dict_count(f->condition->lacks), 0);
    assert_int_equal(f->condition->kind, HVI_ANY_KIND);
    assert_false(f->condition->has_version);
    hv_condition_free(NULL);
}

static void test_what_is_added_adds_up(void **state) {
    fixture *f = *state;
    const char *value;
    assert_int_equal(has(f, "a", "1"), HV_OK);
    assert_int_equal(has(f, "b", NULL), HV_OK);
    assert_int_equal(has(f, "", ""), HV_OK);
    assert_int_equal(lacks(f, "c"), HV_OK);
    assert_int_equal(lacks(f, "d"), HV_OK);
    assert_int_equal(hv_dict_count(f->condition->has), 3);
    assert_int_equal(hv_dict_count(f->condition->lacks), 2);
    assert_true(hv_dict_get(f->condition->has, "b", 1, &value, NULL));
    assert_null(value);
}

static void test_the_dict_is_copied(void **state) {
    fixture *f = *state;
    const char *value;
    hv_dict_set(f->dict, "a", "1", NULL);
    assert_int_equal(hv_condition_has(f->condition, f->dict, NULL), HV_OK);
    hv_dict_set(f->dict, "a", "2", NULL);
    assert_true(hv_dict_get(f->condition->has, "a", 1, &value, NULL));
    assert_string_equal(value, "1");
}

static void test_the_same_may_be_added_twice(void **state) {
    fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(has(f, "a", "1"), HV_OK);
        assert_int_equal(has(f, "n", NULL), HV_OK);
        assert_int_equal(lacks(f, "c"), HV_OK);
        assert_int_equal(hv_condition_kind(f->condition, -5, NULL), HV_OK);
        assert_int_equal(hv_condition_version(f->condition, "1-2-3-4", NULL), HV_OK);
        assert_int_equal(hv_condition_has(f->condition, NULL, NULL), HV_OK); /* no attributes */
    }
    assert_int_equal(hv_dict_count(f->condition->has), 2);
    assert_int_equal(f->condition->kind, -5);
    assert_int_equal(f->condition->version.block, 3);
}

static void test_two_values_of_an_attribute_contradict_each_other(void **state) {
    fixture *f = *state;
    static const char *const values[] = {"1", "", NULL, "11", "2"};
    for (size_t i = 0; i < LENGTH(values); i++) {
        for (size_t j = 0; j < LENGTH(values); j++) {
            char name[16];
            snprintf(name, sizeof name, "a%zu%zu", i, j);
            assert_int_equal(has(f, name, values[i]), HV_OK);
            size_t count = hv_dict_count(f->condition->has);
            assert_int_equal(has(f, name, values[j]), i == j ? HV_OK : HV_INVALID);
            if (i != j)
                assert_string_equal(hv_error_detail(f->error), "It is to have two values.");
            assert_int_equal(hv_dict_count(f->condition->has), count);
        }
    }
}

static void test_a_value_and_its_absence_contradict_each_other(void **state) {
    fixture *f = *state;
    assert_int_equal(has(f, "a", NULL), HV_OK);
    assert_int_equal(lacks(f, "b"), HV_OK);
    assert_contradicts(f, lacks(f, "a"), "the condition contradicts itself: attribute \"a\"");
    assert_contradicts(f, has(f, "b", "1"), "the condition contradicts itself: attribute \"b\"");
    assert_int_equal(hv_dict_count(f->condition->has), 1);
    assert_int_equal(hv_dict_count(f->condition->lacks), 1);
}

static void test_one_that_is_refused_stays_as_it_was(void **state) {
    fixture *f = *state;
    assert_int_equal(has(f, "b", "1"), HV_OK);
    hv_dict_set(f->dict, "a", "1", NULL);
    hv_dict_set(f->dict, "b", "2", NULL);
    hv_dict_set(f->dict, "c", "3", NULL);
    assert_int_equal(hv_condition_has(f->condition, f->dict, NULL), HV_INVALID);
    assert_int_equal(hv_dict_count(f->condition->has), 1);
}

static void test_two_kinds_contradict_each_other(void **state) {
    fixture *f = *state;
    assert_int_equal(hv_condition_kind(f->condition, 32768, NULL), HV_INVALID);
    assert_int_equal(f->condition->kind, HVI_ANY_KIND);
    assert_int_equal(hv_condition_kind(f->condition, 0, NULL), HV_OK);
    assert_contradicts(f, hv_condition_kind(f->condition, 1, &f->error),
                       "the condition contradicts itself: kind 0 and kind 1");
    assert_int_equal(f->condition->kind, 0);
}

static void test_two_versions_contradict_each_other(void **state) {
    fixture *f = *state;
    assert_int_equal(hv_condition_version(f->condition, "1-2-3-4x", NULL), HV_INVALID);
    assert_int_equal(hv_condition_version(f->condition, NULL, NULL), HV_INVALID);
    assert_false(f->condition->has_version);
    assert_int_equal(hv_condition_version(f->condition, "1-2-3-4", NULL), HV_OK);
    assert_contradicts(f, hv_condition_version(f->condition, "1-2-3-5", &f->error),
                       "the condition contradicts itself: version 1-2-3-4 and version 1-2-3-5");
    assert_int_equal(f->condition->version.offset, 4);
}

static void test_names_may_be_bytes_but_must_be_text(void **state) {
    fixture *f = *state;
    assert_int_equal(hv_condition_lacks(f->condition, "abc", 2, NULL), HV_OK);
    assert_true(hv_dict_get(f->condition->lacks, "ab", 2, &(const char *){NULL}, NULL));
    assert_int_equal(hv_condition_lacks(f->condition, "", 0, NULL), HV_OK);
    assert_int_equal(hv_condition_lacks(f->condition, "a\0b", 3, NULL), HV_INVALID);
    assert_int_equal(hv_condition_lacks(f->condition, "\xff", 1, NULL), HV_INVALID);
    assert_int_equal(hv_dict_count(f->condition->lacks), 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_new_one_demands_nothing),
        TEST(test_what_is_added_adds_up),
        TEST(test_the_dict_is_copied),
        TEST(test_the_same_may_be_added_twice),
        TEST(test_two_values_of_an_attribute_contradict_each_other),
        TEST(test_a_value_and_its_absence_contradict_each_other),
        TEST(test_one_that_is_refused_stays_as_it_was),
        TEST(test_two_kinds_contradict_each_other),
        TEST(test_two_versions_contradict_each_other),
        TEST(test_names_may_be_bytes_but_must_be_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
