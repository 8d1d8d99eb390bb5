/*
 * Tests of which source comes next.
 */
#include "store/fronts.h"
#include "unit.h"

#include <stdlib.h>

#define MAX_SOURCES 40
#define MAX_ROWS    60

/* A source of sorted ranks; some of its fronts are lower bounds at first. */
typedef struct source {
    hvi_front front;
    int64_t ranks[MAX_ROWS];
    size_t count;
    size_t at;
} source;

static int compare_ranks(const void *left, const void *right) {
    int64_t a = *(const int64_t *) left, b = *(const int64_t *) right;
    return a < b ? -1 : a > b;
}

/* Each rank once over all sources, distributed at random. */
static size_t distribute(source *sources, size_t count, int64_t *all) {
    size_t total = 0;
    for (int64_t rank = INT64_MIN; total < MAX_ROWS; rank += 1 + rand() % 5) {
        source *to = &sources[(size_t) rand() % count];
        to->ranks[to->count++] = all[total++] = rank;
    }
    return total;
}

static void set_front(source *from) {
    bool is_row = rand() % 3 > 0;
    int64_t rank = from->ranks[from->at];
    from->front = (hvi_front){is_row ? rank : rank - (rank > INT64_MIN), is_row};
}

static void test_rows_come_in_order_whatever_the_sources_are(void **state) {
    (void) state;
    srand(1);
    for (int run = 0; run < 300; run++) {
        static source sources[MAX_SOURCES];
        int64_t all[MAX_ROWS];
        size_t count = 1 + (size_t) rand() % MAX_SOURCES, returned = 0;
        hvi_fronts fronts = {0};
        hvi_front *first;
        memset(sources, 0, sizeof sources);
        size_t total = distribute(sources, count, all);
        qsort(all, total, sizeof *all, compare_ranks);
        for (size_t i = 0; i < count; i++) {
            if (sources[i].count == 0)
                sources[i].front = (hvi_front){INT64_MIN, false};
            else
                set_front(&sources[i]);
            assert_true(hvi_fronts_add(&fronts, &sources[i].front));
        }
        while ((first = hvi_fronts_first(&fronts)) != NULL) {
            source *of = (source *) first;
            if (of->at == of->count) {
                hvi_fronts_remove(&fronts);
            } else if (!first->is_row) { /* its row is at hand now */
                *first = (hvi_front){of->ranks[of->at], true};
                hvi_fronts_update(&fronts);
            } else {
                assert_int_equal(first->rank, all[returned++]);
                if (++of->at < of->count)
                    set_front(of);
                hvi_fronts_update(&fronts);
            }
        }
        assert_int_equal(returned, total);
        hvi_fronts_fini(&fronts);
    }
}

static void test_of_equal_ranks_rows_come_first(void **state) {
    (void) state;
    hvi_fronts fronts = {0};
    hvi_front bound = {7, false}, row = {7, true}, later = {8, true};
    assert_null(hvi_fronts_first(&fronts));
    assert_true(hvi_fronts_add(&fronts, &later));
    assert_true(hvi_fronts_add(&fronts, &bound));
    assert_true(hvi_fronts_add(&fronts, &row));
    assert_ptr_equal(hvi_fronts_first(&fronts), &row);
    hvi_fronts_remove(&fronts);
    assert_ptr_equal(hvi_fronts_first(&fronts), &bound);
    bound.rank = 9;
    hvi_fronts_update(&fronts);
    assert_ptr_equal(hvi_fronts_first(&fronts), &later);
    hvi_fronts_fini(&fronts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_come_in_order_whatever_the_sources_are),
        cmocka_unit_test(test_of_equal_ranks_rows_come_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
