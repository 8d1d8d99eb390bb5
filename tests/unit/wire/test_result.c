/*
 * Tests of reading results: an answer of another form than expected is an error.
 */
#include "wire/result.h"
#include "unit.h"

#include <stdlib.h>

#include <string.h>

static const hvi_form three = {
    .asked = "three things",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_INT4, HVI_IS_BYTES | HVI_OR_NULL, HVI_IS_BOOL},
};

/* A row of text; NULL is NULL. */
static void add_row(PGresult *result, const char *const *values, int count) {
    int row = PQntuples(result);
    for (int i = 0; i < count; i++) {
        char *copy = values[i] != NULL ? strdup(values[i]) : NULL;
        assert_true(PQsetvalue(result, row, i, copy, copy != NULL ? (int) strlen(copy) : -1));
        free(copy);
    }
}

static PGresult *columns_of(int count, int format, Oid type) {
    static char name[] = "x";
    PGresAttDesc columns[8];
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    for (int i = 0; i < count; i++)
        columns[i] = (PGresAttDesc){.name = name, .format = format, .typid = type};
    assert_true(PQsetResultAttrs(result, count, columns));
    return result;
}

static PGresult *row_of(const char *const *values, int count) {
    PGresult *result = columns_of(count, 0, 0);
    add_row(result, values, count);
    return result;
}

static void expect_error(PGresult *result, const hvi_form *form, const char *detail) {
    hv_error *error = NULL;
    assert_int_equal(hvi_result_check(result, form, "one", 7, &error), HV_CORRUPT);
    assert_string_equal(hv_error_detail(error), detail);
    assert_string_equal(hv_error_server(error), "one");
    assert_int_equal(hv_error_shard(error), 7);
    hv_error_free(error);
    PQclear(result);
}

static void test_an_answer_of_the_form_is_read(void **state) {
    (void) state;
    PGresult *result = row_of((const char *const[]){"-12", NULL, "t"}, 3);
    assert_int_equal(hvi_result_check(result, &three, "one", 7, NULL), HV_OK);
    assert_int_equal(hvi_integer_at(result, 0, 0), -12);
    assert_null(hvi_text_at(result, 0, 1));
    assert_true(hvi_bool_at(result, 0, 2));
    PQclear(result);
}

static void test_rows_and_columns_are_counted(void **state) {
    (void) state;
    expect_error(NULL, &three, "Asked for three things, it sent no rows: PGRES_FATAL_ERROR.");
    expect_error(PQmakeEmptyPGresult(NULL, PGRES_COMMAND_OK), &three,
                 "Asked for three things, it sent no rows: PGRES_COMMAND_OK.");
    expect_error(PQmakeEmptyPGresult(NULL, PGRES_SINGLE_TUPLE), &three,
                 "Asked for three things, it sent no rows: PGRES_SINGLE_TUPLE.");
    expect_error(row_of((const char *const[]){"1", "x"}, 2), &three,
                 "Asked for three things, it sent 2 columns, not 3.");
    expect_error(row_of((const char *const[]){"1", "x", "t", "t"}, 4), &three,
                 "Asked for three things, it sent 4 columns, not 3.");
    expect_error(columns_of(3, 0, 0), &three, "Asked for three things, it sent 0 rows, not 1.");
    PGresult *result = row_of((const char *const[]){"1", "x", "t"}, 3);
    add_row(result, (const char *const[]){"1", "x", "t"}, 3);
    expect_error(result, &three, "Asked for three things, it sent 2 rows, not 1.");
}

static void test_a_number_is_a_number_and_in_its_range(void **state) {
    (void) state;
    static const struct {
        int as;
        const char *good[4], *bad[12];
    } cases[] = {
        {HVI_IS_INT2, {"0", "-32768", "32767"}, {"", "32768", "-32769", "1.5", "a", "1e3", "0x1"}},
        {HVI_IS_INT4,
         {"0", "-2147483648", "2147483647"},
         {" 1", "1 ", "+1", "-", "--1", "2147483648", "12abc", "nan", "99999999999999999999"}},
        {HVI_IS_INT8,
         {"9223372036854775807", "-9223372036854775808"},
         {"9223372036854775808", "-9223372036854775809"}},
        {HVI_IS_COUNT, {"0", "9223372036854775807"}, {"-1"}},
        {HVI_IS_SHARD, {"0", "8191"}, {"-1", "8192"}},
        {HVI_IS_OID, {"0", "4294967295"}, {"-1", "4294967296"}},
        {HVI_IS_KEYS, {"0", "3"}, {"-1", "4"}},
        {HVI_IS_BOOL, {"t", "f"}, {"", "true", "1", "T"}},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        hvi_form form = {.asked = "a number", .columns = {(uint8_t) cases[i].as}};
        for (size_t j = 0; j < LENGTH(cases[i].good) && cases[i].good[j] != NULL; j++) {
            PGresult *result = row_of(&cases[i].good[j], 1);
            assert_int_equal(hvi_result_check(result, &form, "one", -1, NULL), HV_OK);
            PQclear(result);
        }
        for (size_t j = 0; j < LENGTH(cases[i].bad) && cases[i].bad[j] != NULL; j++) {
            PGresult *result = row_of(&cases[i].bad[j], 1);
            assert_int_equal(hvi_result_check(result, &form, "one", -1, NULL), HV_CORRUPT);
            PQclear(result);
        }
    }
}

static void test_what_was_sent_is_said(void **state) {
    (void) state;
    expect_error(row_of((const char *const[]){NULL, NULL, "t"}, 3), &three,
                 "Asked for three things, it sent NULL in column 1, not an integer.");
    expect_error(row_of((const char *const[]){"\033[2J\xff", NULL, "t"}, 3), &three,
                 "Asked for three things, it sent \"\\x1b[2J\\xff\" in column 1, not an integer.");
    expect_error(columns_of(3, 1, 23), &three, "Asked for three things, it sent 0 rows, not 1.");
    PGresult *result = columns_of(3, 1, 23);
    add_row(result, (const char *const[]){"1234", "x", "t"}, 3);
    expect_error(result, &three, "Asked for three things, it sent column 1 in binary form.");
}

static void test_binary_numbers_have_their_type_and_length(void **state) {
    (void) state;
    static const hvi_form form = {
        .asked = "a key", .rows = HVI_ONE_ROW, .binary = true, .columns = {HVI_IS_INT8}};
    static const struct {
        Oid type;
        int len;
        int format;
        const char *sent;
    } cases[] = {
        {20, 4, 1, "sent 4 bytes in column 1 that are not a bigint"},
        {20, 0, 1, "sent 0 bytes in column 1 that are not a bigint"},
        {20, 9, 1, "sent 9 bytes in column 1 that are not a bigint"},
        {701, 8, 1, "sent the type with OID 701 in column 1, not a bigint"},
        {20, 8, 0, "sent column 1 in text form"},
    };
    char bytes[16] = {0, 0, 0, 0, 0, 0, 1, 2}, detail[200];
    for (size_t i = 0; i < LENGTH(cases); i++) {
        PGresult *result = columns_of(1, cases[i].format, cases[i].type);
        assert_true(PQsetvalue(result, 0, 0, bytes, cases[i].len));
        snprintf(detail, sizeof detail, "Asked for a key, it %s.", cases[i].sent);
        expect_error(result, &form, detail);
    }
    PGresult *result = columns_of(1, 1, 20);
    assert_true(PQsetvalue(result, 0, 0, bytes, 8));
    assert_int_equal(hvi_result_check(result, &form, "one", -1, NULL), HV_OK);
    assert_int_equal(hvi_integer_at(result, 0, 0), 258);
    PQclear(result);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_answer_of_the_form_is_read),
        cmocka_unit_test(test_rows_and_columns_are_counted),
        cmocka_unit_test(test_a_number_is_a_number_and_in_its_range),
        cmocka_unit_test(test_what_was_sent_is_said),
        cmocka_unit_test(test_binary_numbers_have_their_type_and_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
