/*
 * Tests of groups: which operations share a statement, and which one each answer belongs to.
 */
#include "entity/group.h"
#include "unit.h"

#include <endian.h>
#include <string.h>

#define HSTORE       70000
#define HSTORE_ARRAY 70001

/* A result like the server's, with binary int8 columns. */
static PGresult *result_of(int columns, const int64_t *values, int rows) {
    static char name[] = "x";
    PGresAttDesc columns_of[2] = {{.name = name, .format = 1, .typid = 20},
                                  {.name = name, .format = 1, .typid = 20}};
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_true(PQsetResultAttrs(result, columns, columns_of));
    for (int row = 0; row < rows; row++) {
        for (int column = 0; column < columns; column++) {
            uint64_t wire = htobe64((uint64_t) values[row * columns + column]);
            assert_true(PQsetvalue(result, row, column, (char *) &wire, sizeof wire));
        }
    }
    return result;
}

/* Entities, as a get returns them. */
static PGresult *entities_of(const int64_t *keys, int rows) {
    static char name[] = "x", kind[2] = {0, 1}, body[4] = {0};
    PGresAttDesc columns[3] = {{.name = name, .format = 1, .typid = 20},
                               {.name = name, .format = 1, .typid = 21},
                               {.name = name, .format = 1, .typid = HSTORE}};
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_true(PQsetResultAttrs(result, 3, columns));
    for (int row = 0; row < rows; row++) {
        uint64_t wire = htobe64((uint64_t) keys[row]);
        assert_true(PQsetvalue(result, row, 0, (char *) &wire, sizeof wire));
        assert_true(PQsetvalue(result, row, 1, kind, sizeof kind));
        assert_true(PQsetvalue(result, row, 2, body, sizeof body));
    }
    return result;
}

/* Set an array of int8 in the only row; `values` NULL: NULL. */
static void set_array(PGresult *result, int column, const int64_t *values, size_t count) {
    hvi_buffer bytes = HVI_BUFFER_EMPTY;
    const uint32_t header[] = {count > 0, 0, 20, (uint32_t) count, 1};
    for (size_t i = 0; i < (count > 0 ? LENGTH(header) : 3); i++)
        hvi_buffer_append_be32(&bytes, header[i]);
    for (size_t i = 0; i < count; i++) {
        uint64_t wire = htobe64((uint64_t) values[i]);
        hvi_buffer_append_be32(&bytes, sizeof wire);
        hvi_buffer_append(&bytes, &wire, sizeof wire);
    }
    assert_true(PQsetvalue(result, 0, column, bytes.data, values != NULL ? (int) bytes.len : -1));
    hvi_buffer_fini(&bytes);
}

/* Two arrays: the keys that were made, and those that were stored. */
static PGresult *arrays_of(const int64_t *made, size_t made_count, const int64_t *stored,
                           size_t stored_count) {
    static char name[] = "x";
    PGresAttDesc columns[2] = {{.name = name, .format = 1, .typid = 1016},
                               {.name = name, .format = 1, .typid = 1016}};
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_true(PQsetResultAttrs(result, 2, columns));
    set_array(result, 0, made, made_count);
    set_array(result, 1, stored, stored_count);
    return result;
}

/* One array of the keys that were stored. */
static PGresult *array_of(const int64_t *stored, size_t count) {
    static char name[] = "x";
    PGresAttDesc column = {.name = name, .format = 1, .typid = 1016};
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_true(PQsetResultAttrs(result, 1, &column));
    set_array(result, 0, stored, count);
    return result;
}

typedef struct fixture {
    hvi_item items[8];
    hvi_item *order[16];
    hvi_group groups[16];
    size_t count;
} fixture;

static void add(fixture *f, const hvi_verb *verb, int shard, int64_t key) {
    f->order[f->count] = &f->items[f->count];
    f->items[f->count++] =
        (hvi_item){.verb = verb, .shard = shard, .key = key, .count = 1, .body = ""};
}

/* The group of this verb and shard. */
static hvi_group *group_of(fixture *f, size_t count, const hvi_verb *verb, int shard) {
    for (size_t i = 0; i < count; i++)
        if (f->groups[i].items[0]->verb == verb && f->groups[i].items[0]->shard == shard)
            return &f->groups[i];
    fail();
    return NULL;
}

static void test_operations_of_one_verb_and_shard_share_a_statement(void **state) {
    (void) state;
    fixture f = {0};
    add(&f, &hvi_put, 4, 0);
    add(&f, &hvi_get, 3, 9);
    add(&f, &hvi_put, 3, 0);
    add(&f, &hvi_get, 3, 7);
    add(&f, &hvi_put, 3, 0);
    add(&f, &hvi_put_key, 3, 5);
    assert_int_equal(hvi_groups_make(f.order, f.count, false, f.groups), 4);
    const struct {
        const hvi_verb *verb;
        int shard;
        size_t count;
        int parameters;
        const char *sql;
    } expected[] = {
        {&hvi_get, 3, 2, 1,
         "SELECT id, type, body FROM shard0003.entities"
         " WHERE id OPERATOR(pg_catalog.=) ANY ((SELECT $1)::bigint[])"},
        {&hvi_put, 3, 2, 2, "WITH new"},
        {&hvi_put, 4, 1, 2, "INSERT INTO shard0004.entities (type, body) VALUES"},
        {&hvi_put_key, 3, 1, 3,
         "WITH stored AS (INSERT INTO shard0003.entities (type, body, id) SELECT"},
    };
    for (size_t i = 0; i < LENGTH(expected); i++) {
        hvi_query query;
        const hvi_session session = {.hstore_type = HSTORE, .hstore_array_type = HSTORE_ARRAY};
        hvi_group *group = group_of(&f, 4, expected[i].verb, expected[i].shard);
        assert_int_equal(group->count, expected[i].count);
        for (size_t j = 0; j < group->count; j++) {
            assert_ptr_equal(group->items[j]->verb, expected[i].verb);
            assert_int_equal(group->items[j]->shard, expected[i].shard);
        }
        assert_true(hvi_group_query(group, &session, false, &query));
        assert_int_equal(query.parameter_count, expected[i].parameters);
        assert_int_equal(query.is_write, expected[i].verb != &hvi_get);
        assert_memory_equal(query.sql, expected[i].sql, strlen(expected[i].sql));
        hvi_group_fini(group);
    }
}

static void test_operations_apart_keep_their_order(void **state) {
    (void) state;
    fixture f = {0};
    add(&f, &hvi_put, 4, 0);
    add(&f, &hvi_get, 3, 9);
    add(&f, &hvi_put, 4, 0);
    hvi_groups_make(f.order, f.count, true, f.groups);
    for (size_t i = 0; i < f.count; i++) {
        assert_int_equal(f.groups[i].count, 1);
        assert_ptr_equal(f.groups[i].items[0], &f.items[i]);
    }
}

/* Make one group of all, and give it this answer. */
static void answer(fixture *f, PGresult *result) {
    assert_int_equal(hvi_groups_make(f->order, f->count, false, f->groups), 1);
    hvi_group_answer(&f->groups[0], result, "one");
}

/* The answer does not fit the group's statement: each of its items has the error. */
static void answer_in_vain(fixture *f, PGresult *result) {
    answer(f, result);
    assert_int_equal(hv_error_status(f->groups[0].error), HV_CORRUPT);
    assert_string_equal(hv_error_server(f->groups[0].error), "one");
    for (size_t i = 0; i < f->count; i++) {
        assert_false(f->items[i].answered);
        assert_ptr_equal(f->items[i].error, f->groups[0].error);
    }
    hvi_group_fini(&f->groups[0]);
    PQclear(result);
}

static void test_entities_are_found_by_their_keys_whatever_the_order_of_rows(void **state) {
    (void) state;
    fixture f = {0};
    const int64_t asked[] = {50, 20, 40, 20, 30}, rows[] = {40, 20, 50};
    for (size_t i = 0; i < LENGTH(asked); i++)
        add(&f, &hvi_get, 3, asked[i]);
    PGresult *result = entities_of(rows, LENGTH(rows));
    answer(&f, result);
    const int found[] = {2, 1, 0, 1, -1};
    for (size_t i = 0; i < LENGTH(asked); i++) {
        assert_int_equal(f.items[i].answered, found[i] >= 0);
        if (found[i] >= 0)
            assert_int_equal(f.items[i].row, found[i]);
    }
    PQclear(result);
}

static void test_an_entity_that_nobody_asked_for_is_another_answer(void **state) {
    (void) state;
    for (size_t count = 1; count <= 2; count++) { /* the plain statement, and the one with arrays */
        fixture f = {0};
        const int64_t rows[] = {20, 99};
        add(&f, &hvi_get, 3, 20);
        if (count == 2)
            add(&f, &hvi_get, 3, 30);
        answer_in_vain(&f, entities_of(rows + 2 - count, (int) count));
    }
}

static void test_new_keys_go_by_the_places_in_the_array(void **state) {
    (void) state;
    fixture f = {0};
    const int64_t keys[] = {31, 11, 21};
    for (size_t i = 0; i < LENGTH(keys); i++)
        add(&f, &hvi_put, 3, 0);
    PGresult *result = arrays_of(keys, LENGTH(keys), NULL, 0);
    answer(&f, result);
    for (size_t i = 0; i < LENGTH(keys); i++) {
        assert_true(f.groups[0].items[i]->answered);
        assert_int_equal(f.groups[0].items[i]->new_key, keys[i]);
    }
    PQclear(result);
}

static void test_only_what_was_stored_is_answered_whatever_the_order(void **state) {
    (void) state;
    const int64_t keys[] = {31, 11, 21, 41};
    const int64_t stored[][4] = {{31, 21}, {21, 31}, {41, 21, 31, 11}, {41}, {0}};
    const size_t counts[] = {2, 2, 4, 1, 0};
    for (size_t n = 0; n < LENGTH(stored); n++) {
        fixture f = {0};
        for (size_t i = 0; i < LENGTH(keys); i++)
            add(&f, &hvi_put, 3, 0);
        PGresult *result = arrays_of(keys, LENGTH(keys), stored[n], counts[n]);
        answer(&f, result);
        for (size_t i = 0; i < LENGTH(keys); i++) {
            bool is_stored = false;
            for (size_t j = 0; j < counts[n]; j++)
                is_stored = is_stored || stored[n][j] == keys[i];
            assert_int_equal(f.groups[0].items[i]->answered, is_stored);
            assert_int_equal(f.groups[0].items[i]->swallowed, !is_stored);
        }
        PQclear(result);
    }
}

static void test_a_single_put_without_a_row_was_swallowed(void **state) {
    (void) state;
    const hvi_verb *const verbs[] = {&hvi_put, &hvi_put_key, &hvi_put_once};
    const int64_t row[] = {5};
    for (size_t n = 0; n < LENGTH(verbs); n++) {
        for (int rows = 0; rows <= 1; rows++) {
            fixture f = {0};
            add(&f, verbs[n], 3, verbs[n] == &hvi_put ? 0 : 5);
            PGresult *result = result_of(1, row, rows);
            hvi_groups_make(f.order, f.count, true, f.groups);
            hvi_group_answer(&f.groups[0], result, "one");
            assert_int_equal(f.items[0].answered, rows);
            assert_int_equal(f.items[0].swallowed, !rows);
            assert_int_equal(f.items[0].new_key, rows > 0 && verbs[n] != &hvi_put_key ? 5 : 0);
            PQclear(result);
        }
    }
}

static void test_an_array_of_another_length_answers_nothing(void **state) {
    (void) state;
    for (size_t count = 1; count <= 5; count++) {
        fixture f = {0};
        const int64_t keys[] = {31, 11, 21, 41, 51};
        for (size_t i = 0; i < 3; i++)
            add(&f, &hvi_put, 3, 0);
        PGresult *result = arrays_of(keys, count, NULL, 0);
        if (count != 3) {
            answer_in_vain(&f, result);
            continue;
        }
        answer(&f, result);
        for (size_t i = 0; i < 3; i++)
            assert_true(f.items[i].answered);
        PQclear(result);
    }
}

static void test_a_key_that_is_missing_in_the_answer_was_not_stored(void **state) {
    (void) state;
    fixture f = {0};
    const int64_t keys[] = {7, 5};
    add(&f, &hvi_put_key, 3, 5);
    add(&f, &hvi_put_key, 3, 7);
    add(&f, &hvi_put_key, 3, 6);
    PGresult *result = array_of(keys, LENGTH(keys));
    answer(&f, result);
    const bool stored[] = {true, true, false};
    for (size_t i = 0; i < LENGTH(stored); i++)
        assert_int_equal(f.items[i].answered, stored[i]);
    PQclear(result);
}

/* The number of the group that an item is in. */
static size_t place_of(const fixture *f, size_t groups, const hvi_item *item) {
    for (size_t i = 0; i < groups; i++)
        for (size_t j = 0; j < f->groups[i].count; j++)
            if (f->groups[i].items[j] == item && f->groups[i].verb == item->verb)
                return i;
    fail();
    return 0;
}

static void test_operations_on_one_key_take_turns_in_their_order(void **state) {
    (void) state;
    const hvi_verb *const verbs[] = {&hvi_merge,  &hvi_get,     &hvi_get,     &hvi_delete_if,
                                     &hvi_exists, &hvi_put_key, &hvi_put_key, &hvi_increment};
    fixture f = {0};
    for (size_t i = 0; i < LENGTH(verbs); i++)
        add(&f, verbs[i], 3, 5);
    size_t count = hvi_groups_make(f.order, f.count, false, f.groups);
    for (size_t i = 1; i < LENGTH(verbs); i++) {
        bool both_read = !verbs[i - 1]->is_write && !verbs[i]->is_write;
        size_t before = place_of(&f, count, &f.items[i - 1]);
        size_t at = place_of(&f, count, &f.items[i]);
        assert_true(before < at || both_read);
    }
    assert_int_equal(place_of(&f, count, &f.items[1]), place_of(&f, count, &f.items[2]));
}

static void test_operations_on_other_keys_share_the_first_turn(void **state) {
    (void) state;
    fixture f = {0};
    const int64_t keys[] = {5, 9, 5, 7, 5, 9};
    for (size_t i = 0; i < LENGTH(keys); i++)
        add(&f, &hvi_merge, 3, keys[i]);
    assert_int_equal(hvi_groups_make(f.order, f.count, false, f.groups), 3);
    const size_t turns[] = {0, 0, 1, 0, 2, 1}, sizes[] = {3, 2, 1};
    for (size_t i = 0; i < LENGTH(keys); i++)
        assert_int_equal(place_of(&f, 3, &f.items[i]), turns[i]);
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        assert_int_equal(f.groups[i].count, sizes[i]);
        for (size_t j = 1; j < sizes[i]; j++) /* by which rows are locked in the same order */
            assert_true(f.groups[i].items[j - 1]->key < f.groups[i].items[j]->key);
    }
}

static void test_rows_are_locked_first_unless_their_changes_lock_them_in_order(void **state) {
    (void) state;
    const struct {
        struct {
            const hvi_verb *verb;
            int shard;
            int64_t key;
        } items[5];
        size_t locks; /* groups that lock */
        int64_t keys[4];
    } cases[] = {
        {{{&hvi_merge, 4, 7}, {&hvi_merge, 3, 9}, {&hvi_merge, 3, 5}, {&hvi_merge, 3, 9}}, 0, {0}},
        {{{&hvi_merge, 3, 7}, {&hvi_get, 3, 5}, {&hvi_put, 3, 0}, {&hvi_put_key, 3, 8}}, 0, {0}},
        {{{&hvi_merge, 3, 7}, {&hvi_merge_if, 3, 5}}, 1, {5, 7}},
        {{{&hvi_merge, 4, 2}, {&hvi_delete, 3, 9}, {&hvi_delete, 3, 4}}, 2, {4, 9, 2}},
        {{{&hvi_get, 3, 5}, {&hvi_merge, 3, 5}, {&hvi_merge, 3, 8}}, 1, {5, 8}},
        {{{&hvi_increment, 3, 5}, {&hvi_merge, 3, 5}, {&hvi_get, 3, 1}}, 1, {5, 5}},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        fixture f = {0};
        for (size_t j = 0; cases[i].items[j].verb != NULL; j++)
            add(&f, cases[i].items[j].verb, cases[i].items[j].shard, cases[i].items[j].key);
        size_t count = hvi_groups_make(f.order, f.count, false, f.groups), at = 0;
        for (size_t j = 0; j < count; j++) {
            assert_int_equal(f.groups[j].verb == &hvi_lock_rows, j < cases[i].locks);
            for (size_t k = 0; k < f.groups[j].count && j < cases[i].locks; k++)
                assert_int_equal(f.groups[j].items[k]->key, cases[i].keys[at++]);
        }
    }
}

static void test_reads_and_puts_under_new_keys_take_no_turns(void **state) {
    (void) state;
    fixture f = {0};
    add(&f, &hvi_get, 3, 5);
    add(&f, &hvi_put, 3, 0);
    add(&f, &hvi_get, 3, 5);
    add(&f, &hvi_put, 3, 0);
    add(&f, &hvi_get_only, 3, 5);
    assert_int_equal(hvi_groups_make(f.order, f.count, false, f.groups), 3);
}

static void test_reserved_keys_are_one_for_each(void **state) {
    (void) state;
    fixture f = {0};
    const int64_t rows[] = {7, 5};
    for (size_t i = 0; i < 2; i++)
        add(&f, &hvi_reserve, 3, 0);
    PGresult *result = result_of(1, rows, LENGTH(rows));
    answer(&f, result);
    assert_int_not_equal(f.items[0].row, f.items[1].row);
    for (size_t i = 0; i < 2; i++)
        assert_true(f.items[i].answered && f.items[i].result == result);
    PQclear(result);
}

static void
test_a_single_put_under_a_key_shares_no_transaction_with_what_it_would_undo(void **state) {
    (void) state;
    fixture f = {0};
    hvi_query query;
    const hvi_session session = {.hstore_type = HSTORE, .hstore_array_type = HSTORE_ARRAY};
    add(&f, &hvi_put_key, 3, 5);
    assert_int_equal(hvi_groups_make(f.order, f.count, false, f.groups), 1);
    assert_true(hvi_group_query(&f.groups[0], &session, false, &query));
    assert_string_equal(query.id.verb, "put_key"); /* alone, it is refused alone */
    hvi_group_fini(&f.groups[0]);
    add(&f, &hvi_get, 3, 5);
    assert_int_equal(hvi_groups_make(f.order, f.count, false, f.groups), 2);
    hvi_group *group = group_of(&f, 2, &hvi_put_key, 3);
    assert_true(hvi_group_query(group, &session, false, &query));
    assert_string_equal(query.id.verb, "put_key_many");
    hvi_group_fini(group);
}

/* There is room for the longest statement of each verb, whatever the longest schema and column. */
static void test_every_statement_has_room(void **state) {
    (void) state;
    const hvi_verb *const verbs[] = {
        &hvi_get,      &hvi_get_only,  &hvi_exists, &hvi_put,    &hvi_put_key,   &hvi_put_once,
        &hvi_reserve,  &hvi_replace,   &hvi_merge,  &hvi_delete, &hvi_increment, &hvi_replace_if,
        &hvi_merge_if, &hvi_delete_if, &hvi_where,  &hvi_locate, &hvi_publish};
    hvi_session session = {.reads_text = true};
    memset(session.hstore_schema, '"', sizeof session.hstore_schema - 1);
    for (size_t n = 0; n < LENGTH(verbs); n++) {
        for (size_t apart = 0; apart <= 1; apart++) {
            fixture f = {0};
            hvi_query query;
            add(&f, verbs[n], HV_SHARDS - 1, 5);
            add(&f, verbs[n], HV_SHARDS - 1, 6);
            hvi_groups_make(f.order, f.count, apart == 1, f.groups);
            assert_true(hvi_group_query(&f.groups[0], &session, false, &query));
            assert_in_range(strlen(query.sql), 1, HVI_GROUP_SQL_LEN - 1);
            assert_null(strchr(query.sql, '%'));
            for (size_t i = 0; i < f.count; i++)
                hvi_group_forget_parameters(&f.groups[i]);
        }
    }
}

static void test_more_keys_than_were_to_be_reserved_are_another_answer(void **state) {
    (void) state;
    fixture f = {0};
    const int64_t rows[] = {7, 5, 3};
    for (size_t i = 0; i < 2; i++)
        add(&f, &hvi_reserve, 3, 0);
    answer_in_vain(&f, result_of(1, rows, LENGTH(rows)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operations_of_one_verb_and_shard_share_a_statement),
        cmocka_unit_test(test_operations_apart_keep_their_order),
        cmocka_unit_test(test_entities_are_found_by_their_keys_whatever_the_order_of_rows),
        cmocka_unit_test(test_an_entity_that_nobody_asked_for_is_another_answer),
        cmocka_unit_test(test_new_keys_go_by_the_places_in_the_array),
        cmocka_unit_test(test_only_what_was_stored_is_answered_whatever_the_order),
        cmocka_unit_test(test_a_single_put_without_a_row_was_swallowed),
        cmocka_unit_test(test_an_array_of_another_length_answers_nothing),
        cmocka_unit_test(test_a_key_that_is_missing_in_the_answer_was_not_stored),
        cmocka_unit_test(test_operations_on_one_key_take_turns_in_their_order),
        cmocka_unit_test(test_operations_on_other_keys_share_the_first_turn),
        cmocka_unit_test(test_rows_are_locked_first_unless_their_changes_lock_them_in_order),
        cmocka_unit_test(test_reads_and_puts_under_new_keys_take_no_turns),
        cmocka_unit_test(test_reserved_keys_are_one_for_each),
        cmocka_unit_test(
            test_a_single_put_under_a_key_shares_no_transaction_with_what_it_would_undo),
        cmocka_unit_test(test_every_statement_has_room),
        cmocka_unit_test(test_more_keys_than_were_to_be_reserved_are_another_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
