/*
 * Tests of the prepared statements' books: what is in them, and which goes first.
 */
#include "wire/statements.h"
#include "unit.h"

#include <stdlib.h>

#include "generator.h"

static const char put[] = "put", get[] = "get";

#define NONE UINT32_MAX

/* Statements by numbers, as is handy in a model: the upper half is the verb. */
static hvi_statement_id id_of(uint32_t number) {
    return (hvi_statement_id){number >> 16 == 0 ? put : get, (int) (number & 0xFFFF)};
}

static uint32_t number_of(hvi_statement_id id) {
    if (id.verb == NULL)
        return NONE;
    return (id.verb == put ? UINT32_C(0) : UINT32_C(1)) << 16 | (uint32_t) id.shard;
}

static bool use(hvi_statements *statements, uint32_t number) {
    return hvi_statements_use(statements, id_of(number));
}

static bool add(hvi_statements *statements, uint32_t number) {
    return hvi_statements_add(statements, id_of(number));
}

static void drop(hvi_statements *statements, uint32_t number) {
    hvi_statements_remove(statements, number != NONE ? id_of(number) : (hvi_statement_id){0});
}

static uint32_t oldest_of(const hvi_statements *statements) {
    return number_of(hvi_statements_oldest(statements));
}

static void assert_name(const char *verb, int shard, const char *expected) {
    char name[HVI_STATEMENT_NAME_LEN];
    hvi_statement_name((hvi_statement_id){verb, shard}, name);
    assert_string_equal(name, expected);
}

static void test_names_say_what_and_where(void **state) {
    (void) state;
    assert_name("put", 0, "hv_put_0000");
    assert_name("put", 12, "hv_put_0012");
    assert_name("put_key", 1, "hv_put_key_0001");
    assert_name("put_once_many", 1, "hv_put_once_many_0001");
    assert_name("get", 8191, "hv_get_8191");
    assert_name("reserve", 4096, "hv_reserve_4096");
}

static void test_no_two_statements_are_the_same(void **state) {
    (void) state;
    hvi_statements statements;
    hvi_statements_init(&statements, 2 * HV_SHARDS);
    for (uint32_t shard = 0; shard < HV_SHARDS; shard++) {
        for (uint32_t verb = 0; verb < 2; verb++) {
            assert_false(use(&statements, verb << 16 | shard));
            assert_true(add(&statements, verb << 16 | shard));
            assert_true(use(&statements, verb << 16 | shard));
        }
    }
    assert_int_equal(statements.count, 2 * HV_SHARDS);
    hvi_statements_fini(&statements);
}

static void test_empty_books_hold_nothing(void **state) {
    (void) state;
    hvi_statements statements;
    hvi_statements_init(&statements, 3);
    assert_false(use(&statements, 1));
    assert_int_equal(oldest_of(&statements), NONE);
    drop(&statements, 1);
    hvi_statements_clear(&statements);
    assert_null(statements.entries); /* nothing is allocated before the first use */
    hvi_statements_fini(&statements);
}

static void test_the_least_recently_used_goes_first(void **state) {
    (void) state;
    hvi_statements statements;
    hvi_statements_init(&statements, 3);
    for (uint32_t id = 1; id <= 3; id++) {
        assert_int_equal(oldest_of(&statements), NONE);
        assert_true(add(&statements, id));
    }
    assert_int_equal(oldest_of(&statements), 1);
    assert_true(use(&statements, 1));
    assert_int_equal(oldest_of(&statements), 2);
    assert_true(use(&statements, 3));
    assert_int_equal(oldest_of(&statements), 2);
    drop(&statements, 2);
    assert_int_equal(oldest_of(&statements), NONE);
    assert_true(add(&statements, 4));
    assert_int_equal(oldest_of(&statements), 1);
    hvi_statements_fini(&statements);
}

static void test_books_that_were_cleared_are_used_again(void **state) {
    (void) state;
    hvi_statements statements;
    hvi_statements_init(&statements, 2);
    for (int round = 0; round < 3; round++) {
        assert_true(add(&statements, 1));
        assert_true(add(&statements, 2));
        hvi_statements_clear(&statements);
        assert_false(use(&statements, 1));
        assert_false(use(&statements, 2));
        assert_int_equal(oldest_of(&statements), NONE);
    }
    hvi_statements_fini(&statements);
}

static void test_one_statement_may_be_all_there_is_room_for(void **state) {
    (void) state;
    hvi_statements statements;
    hvi_statements_init(&statements, 1);
    for (uint32_t id = 0; id < 100; id++) {
        uint32_t oldest = oldest_of(&statements);
        assert_int_equal(oldest, id == 0 ? NONE : id - 1);
        drop(&statements, oldest);
        assert_true(add(&statements, id));
        assert_true(use(&statements, id));
    }
    hvi_statements_fini(&statements);
}

/* What the books should be: an array, most recently used first. */
typedef struct model {
    uint32_t ids[300];
    uint32_t count;
} model;

static uint32_t model_find(const model *m, uint32_t id) {
    uint32_t at = 0;
    while (at < m->count && m->ids[at] != id)
        at++;
    return at;
}

static void model_remove(model *m, uint32_t id) {
    uint32_t at = model_find(m, id);
    if (at == m->count)
        return;
    m->count--;
    memmove(m->ids + at, m->ids + at + 1, (m->count - at) * sizeof *m->ids);
}

static void model_push(model *m, uint32_t id) {
    memmove(m->ids + 1, m->ids, m->count * sizeof *m->ids);
    m->ids[0] = id;
    m->count++;
}

/* All of the books, through their interface, against the model; leaves both empty. */
static void assert_same(hvi_statements *statements, model *m) {
    assert_int_equal(statements->count, m->count);
    while (m->count > 0) {
        uint32_t last = m->ids[m->count - 1];
        assert_ptr_equal(&statements->order, statements->order.prev->next);
        statements->max = statements->count; /* full, so that the oldest is returned */
        assert_int_equal(oldest_of(statements), last);
        drop(statements, last);
        m->count--;
    }
    assert_int_equal(statements->count, 0);
    assert_true(hvi_list_empty(&statements->order));
}

static void test_any_sequence_of_uses_keeps_the_order(void **state) {
    (void) state;
    static const uint32_t sizes[] = {1, 2, 3, 15, 16, 17, 200, 300};
    generator g = {7};
    for (size_t size = 0; size < LENGTH(sizes); size++) {
        for (int round = 0; round < 20; round++) {
            hvi_statements statements;
            model m = {.count = 0};
            hvi_statements_init(&statements, sizes[size]);
            for (int i = 0; i < 2000; i++) {
                /* Twice as many as there is room for, spread as real ones are. */
                int shard = (int) generate_below(&g, sizes[size] + 1);
                uint32_t id = (uint32_t) generate_below(&g, 2) << 16 | (uint32_t) shard;
                bool known = model_find(&m, id) < m.count;
                assert_int_equal(use(&statements, id), known);
                model_remove(&m, id);
                if (generate_below(&g, 10) == 0) {
                    drop(&statements, id);
                    continue;
                }
                if (!known) {
                    uint32_t oldest = oldest_of(&statements);
                    bool full = m.count == sizes[size];
                    assert_int_equal(oldest, full ? m.ids[m.count - 1] : NONE);
                    if (full) {
                        drop(&statements, oldest);
                        model_remove(&m, oldest);
                    }
                    assert_true(add(&statements, id));
                }
                model_push(&m, id);
            }
            assert_same(&statements, &m);
            hvi_statements_fini(&statements);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_say_what_and_where),
        cmocka_unit_test(test_no_two_statements_are_the_same),
        cmocka_unit_test(test_empty_books_hold_nothing),
        cmocka_unit_test(test_the_least_recently_used_goes_first),
        cmocka_unit_test(test_books_that_were_cleared_are_used_again),
        cmocka_unit_test(test_one_statement_may_be_all_there_is_room_for),
        cmocka_unit_test(test_any_sequence_of_uses_keeps_the_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
