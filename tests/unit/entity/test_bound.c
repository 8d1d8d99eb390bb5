/*
 * Tests of how far everything that was put can be seen.
 */
#include "entity/bound.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "unit.h"
#include "generator.h"

#define UNKNOWN HVI_BOUND_UNKNOWN
#define MS      INT64_C(1000)

static hvi_bound bound;

static int start(void **state) {
    (void) state;
    hvi_bound_init(&bound, 0, UNKNOWN);
    return 0;
}

static int stop(void **state) {
    (void) state;
    hvi_bound_fini(&bound);
    return 0;
}

/* A poll whose answer comes at `now`; returns since when the clock has stepped back. */
static int64_t poll_at(int64_t now_ms, int64_t time, const char *holders) {
    hvi_bound_answer answer = {.time = time, .holders = holders};
    int64_t stepped = 1;
    assert_int_equal(hvi_bound_take(&bound, &answer, now_ms * MS, &stepped, NULL), HV_OK);
    return stepped;
}

/* The same where client and server have the same clock; returns the ceiling. */
static int64_t poll(int64_t time, const char *holders) {
    assert_int_equal(poll_at(time, time, holders), UNKNOWN);
    return bound.ceiling;
}

static const char *holder(void) {
    static char text[HVI_HOLDER_ID_LEN];
    const hvi_holder *first = hvi_bound_holder(&bound);
    return first != NULL ? hvi_holder_id(first, text) : "";
}

static void test_without_holders_all_before_the_poll_is_passed(void **state) {
    (void) state;
    assert_int_equal(bound.ceiling, UNKNOWN);
    assert_int_equal(poll(100, NULL), 100);
    assert_int_equal(poll(150, NULL), 150);
    assert_null(hvi_bound_holder(&bound));
}

static void test_nothing_is_known_until_the_first_holders_have_ended(void **state) {
    (void) state;
    assert_int_equal(poll(100, "3/7 70 ,4/8 80 "), UNKNOWN);
    assert_int_equal(poll(150, "4/8 80 "), UNKNOWN);
    assert_string_equal(holder(), "4/8");
    assert_int_equal(poll(200, "4/9 80 "), 150);
    assert_string_equal(holder(), "4/9");
}

static void test_a_holder_has_made_no_key_before_it_began(void **state) {
    (void) state;
    assert_int_equal(poll(100, "3/7 70 60,4/8 80 90"), 60);
    assert_int_equal(poll(150, "4/8 80 90,5/1 81 80"), 90); /* 5/1: after the last poll */
    assert_int_equal(poll(200, "5/1 81 80,6/1 82 190"), 100);
    /* 6/2: the next transaction of its process has begun, and it is prepared or has ended. */
    assert_int_equal(poll(250, "6/1 82 190,6/2 83 250"), 190);
    assert_int_equal(poll(300, "6/2  "), 200);
}

static void test_a_holder_delays_what_comes_after_the_last_poll_without_it(void **state) {
    (void) state;
    assert_int_equal(poll(100, NULL), 100);
    assert_int_equal(poll(150, "3/7 70 "), 100);
    assert_int_equal(poll(200, "3/7 70 ,5/1 90 "), 100);
    assert_int_equal(poll(250, "3/7 70 "), 100);
    assert_int_equal(bound.holders[0].seen_at, 150 * MS);
    assert_int_equal(poll(300, "5/2 90 "), 250);
    assert_int_equal(poll(350, "6/2 91 "), 300);
}

static void test_a_transaction_keeps_its_number_when_it_is_prepared(void **state) {
    (void) state;
    poll(100, NULL);
    assert_int_equal(poll(150, "3/7 70 "), 100);
    assert_int_equal(poll(200, "3/7  "), 100);
    assert_int_equal(poll(250, "3/7  "), 100);
    assert_int_equal(poll(300, NULL), 300);
}

static void test_a_prepared_transaction_may_be_any_that_is_no_longer_there(void **state) {
    (void) state;
    poll(100, NULL);
    poll(150, "3/7 70 ");
    assert_int_equal(poll(200, "3/7 70 ,4/8 80 "), 100);
    assert_int_equal(poll(250, "4/8 80 ,-1/1234  "), 100); /* 3/7, or new */
    assert_int_equal(poll(300, "-1/1234  "), 100);
    assert_string_equal(holder(), "-1/1234");
    assert_int_equal(poll(350, NULL), 350);
}

static void test_transactions_that_are_prepared_all_the_time_hold_nothing_up(void **state) {
    (void) state;
    int64_t time = 100;
    poll(time, NULL);
    for (int i = 1; i < 100; i++) {
        char holders[64];
        snprintf(holders, sizeof holders, "7/%d 70 ,-1/%d  ", i, 1000 + i);
        int64_t ceiling = poll(time += 50, holders);
        /* This one may be the 7/… of the last poll, which was not there in the poll before that. */
        assert_int_equal(ceiling, i == 1 ? time - 50 : time - 100);
    }
}

static void test_a_number_that_another_process_has_is_another_transaction(void **state) {
    (void) state;
    poll(100, NULL);
    poll(150, "3/7 70 ,4/2 80 ");
    assert_int_equal(poll(200, "3/7 75 ,-1/99  "), 100); /* a crash: 4/2 was prepared, or 3/7 was */
    assert_int_equal(poll(250, "3/7 75 "), 150);
    assert_int_equal(poll(300, "3/7 75 "), 150);
}

static void test_it_stays_behind_by_the_delay(void **state) {
    (void) state;
    bound.delay = 1000;
    assert_int_equal(poll(5000, NULL), 4000);
    assert_int_equal(poll(5050, "1/1 5 "), 4000);
    assert_int_equal(poll(5100, NULL), 4100);
}

static void test_the_ceiling_that_is_given_is_kept(void **state) {
    (void) state;
    hvi_bound_init(&bound, 0, 120);
    assert_int_equal(poll_at(130, 130, "1/1 5 "), UNKNOWN);
    assert_int_equal(bound.ceiling, 120);
    assert_int_equal(poll(150, NULL), 150);
}

/* ---- clocks ---- */

static void test_a_small_step_back_does_no_harm(void **state) {
    (void) state;
    bound.delay = 1000;
    poll_at(10000, 10000, NULL);
    assert_int_equal(poll_at(10050, 9150, "1/1 5 "), UNKNOWN); /* by 900 */
    assert_int_equal(bound.ceiling, 9000);
    /* 1/1 may have made a key at 9120. */
    assert_int_equal(poll_at(11050, 10150, "1/1 5 "), UNKNOWN);
    assert_int_equal(bound.ceiling, 9000);
    assert_int_equal(poll_at(11100, 10200, NULL), UNKNOWN);
    assert_int_equal(bound.ceiling, 9200);
}

static void test_a_large_step_back_is_reported_once(void **state) {
    (void) state;
    bound.delay = 1000;
    poll_at(10000, 10000, NULL);
    assert_int_equal(poll_at(10050, 7050, NULL), 7050 - 51);
    assert_int_equal(poll_at(10100, 7100, NULL), UNKNOWN);
    assert_int_equal(bound.ceiling, 9000);
    assert_int_equal(poll_at(13000, 10000, NULL), UNKNOWN);
    assert_int_equal(poll_at(13100, 10100, NULL), UNKNOWN);
    assert_int_equal(bound.ceiling, 9100);
}

static void test_a_step_back_just_above_the_delay_is_seen(void **state) {
    (void) state;
    bound.delay = 1000;
    poll_at(10000, 10000, NULL);
    /* By 1020 since then, so that there are keys from 8980 on. */
    assert_int_equal(poll_at(10050, 9030, NULL), 9030 - 51);
}

static void test_a_slow_clock_is_no_step(void **state) {
    (void) state;
    bound.delay = 1000;
    poll_at(10000, 10000, NULL);
    assert_int_equal(poll_at(60000, 10001, NULL), UNKNOWN);
    assert_int_equal(bound.ceiling, 9001);
}

static void test_a_step_back_above_a_ceiling_that_is_held_does_no_harm(void **state) {
    (void) state;
    poll_at(1000, 1000, NULL);
    poll_at(5000, 5000, "1/1 5 ");
    poll_at(9000, 9000, "1/1 5 ");
    assert_int_equal(poll_at(9050, 6000, "1/1 5 "), UNKNOWN);
    assert_int_equal(bound.ceiling, 1000);
}

static void test_a_clock_before_the_given_ceiling_is_reported(void **state) {
    (void) state;
    hvi_bound_init(&bound, 1000, 10000);
    assert_int_equal(poll_at(1, 9000, NULL), 9000);
    assert_int_equal(poll_at(51, 9050, NULL), UNKNOWN);
    assert_int_equal(bound.ceiling, 10000);
}

/* ---- at random ---- */

#define WRITERS 12

/* A transaction of the model. It has its lock from `since` on, made keys then and later, and is
 * prepared, or in the process `pid`. */
typedef struct writer {
    uint32_t number;
    bool is_open;
    bool is_prepared;
    bool is_renamed;
    int64_t since;
} writer;

static void test_a_key_below_the_ceiling_is_never_of_an_open_transaction(void **state) {
    (void) state;
    generator random = {1};
    writer writers[WRITERS] = {{0}};
    int64_t time = 1000, reached = UNKNOWN;
    uint32_t number = 0;
    hvi_bound_init(&bound, 0, UNKNOWN);
    for (int step = 0; step < 200000; step++) {
        writer *one = &writers[generate_below(&random, WRITERS)];
        time += (int64_t) generate_below(&random, 3);
        switch (generate_below(&random, 12)) {
        case 0: /* all servers restart: only what is prepared remains, under another number */
            for (int i = 0; i < WRITERS && step % 50 == 0; i++) {
                writers[i].is_open = writers[i].is_open && writers[i].is_prepared;
                writers[i].is_renamed = true;
            }
            break;
        case 1: /* prepare it, in a new or in an old PostgreSQL */
            if (one->is_open && !one->is_prepared) {
                one->is_prepared = true;
                one->is_renamed = generate_below(&random, 2) == 0;
            }
            break;
        case 2:
        case 3:
        case 4:
        case 5: { /* poll */
            hvi_buffer text = HVI_BUFFER_EMPTY;
            for (int i = 0; i < WRITERS; i++) {
                const writer *w = &writers[i];
                if (!w->is_open)
                    continue;
                if (text.len > 0)
                    hvi_buffer_append_text(&text, ",");
                if (w->is_prepared && w->is_renamed)
                    hvi_buffer_append_format(&text, "-1/%" PRIu32 "  ", w->number);
                else if (w->is_prepared)
                    hvi_buffer_append_format(&text, "%d/%" PRIu32 "  ", i, w->number);
                else
                    hvi_buffer_append_format(&text, "%d/%" PRIu32 " %d ", i, w->number, 100 + i);
            }
            hvi_bound_answer answer = {.time = time, .holders = text.len > 0 ? text.data : NULL};
            int64_t stepped;
            assert_int_equal(hvi_bound_take(&bound, &answer, time * MS, &stepped, NULL), HV_OK);
            assert_int_equal(stepped, UNKNOWN);
            assert_true(bound.ceiling >= reached);
            reached = bound.ceiling;
            for (int i = 0; i < WRITERS; i++)
                assert_true(!writers[i].is_open || writers[i].since >= bound.ceiling);
            hvi_buffer_fini(&text);
            break;
        }
        default: /* begin or end, mostly soon */
            if (one->is_open)
                one->is_open = generate_below(&random, one->is_prepared ? 4 : 2) != 0;
            else
                *one = (writer){.number = ++number, .is_open = true, .since = time};
        }
    }
    assert_true(reached > time - 1000); /* and it goes on */
}

static void test_an_answer_that_makes_no_sense_is_an_error(void **state) {
    (void) state;
    static const char *const bad[] = {"4",      "4/",       "4/5 6 ,", ",4/5 6 ", "4/5 6",  "4/5",
                                      "x/5 6 ", "4/5 6 7 ", "4/5 -6 ", "4/5 x ",  "4/5 6 ;"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hvi_bound_answer answer = {.time = 1, .holders = bad[i]};
        int64_t stepped;
        hv_error *error = NULL;
        assert_int_equal(hvi_bound_take(&bound, &answer, 0, &stepped, &error), HV_CORRUPT);
        assert_non_null(error);
        hv_error_free(error);
        assert_int_equal(bound.ceiling, UNKNOWN);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(test_##name, start, stop)
        T(without_holders_all_before_the_poll_is_passed),
        T(nothing_is_known_until_the_first_holders_have_ended),
        T(a_holder_has_made_no_key_before_it_began),
        T(a_holder_delays_what_comes_after_the_last_poll_without_it),
        T(a_transaction_keeps_its_number_when_it_is_prepared),
        T(a_prepared_transaction_may_be_any_that_is_no_longer_there),
        T(transactions_that_are_prepared_all_the_time_hold_nothing_up),
        T(a_number_that_another_process_has_is_another_transaction),
        T(it_stays_behind_by_the_delay),
        T(the_ceiling_that_is_given_is_kept),
        T(a_small_step_back_does_no_harm),
        T(a_large_step_back_is_reported_once),
        T(a_step_back_just_above_the_delay_is_seen),
        T(a_slow_clock_is_no_step),
        T(a_step_back_above_a_ceiling_that_is_held_does_no_harm),
        T(a_clock_before_the_given_ceiling_is_reported),
        T(a_key_below_the_ceiling_is_never_of_an_open_transaction),
        T(an_answer_that_makes_no_sense_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
