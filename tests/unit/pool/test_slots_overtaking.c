/*
 * Tests of overtaking: which caller gets a returned session when some wait and others are running.
 */
#include "slots_fixture.h"

#include <sched.h>
#include <unistd.h>

#include "base/clock.h"

/* Add a waiter that would sleep if it had a thread. */
static void enqueue(fixture *f, hvi_waiter *waiter) {
    int64_t next;
    hvi_slots_enqueue(&f->slots, waiter, -1, false, &next);
    waiter->priority_at = HVI_NEVER; /* however long the test takes */
}

static hvi_turn poll_turn(fixture *f, hvi_waiter *waiter) {
    hvi_session *session;
    int64_t next;
    return hvi_slots_poll(&f->slots, waiter, &session, &next);
}

static hvi_session *peek_idle(fixture *f) {
    int64_t now;
    return hvi_slots_peek_idle(&f->slots, &now);
}

/* As after a short use, however long ago the test has lent it. */
static void give_back(fixture *f, int i) {
    f->sessions[i].lent_at = HVI_NEVER;
    hvi_slots_return(&f->slots, &f->sessions[i], 1);
}

/* A pool whose sessions are all lent, and two waiters. */
static fixture *make_busy(int max, hvi_waiter *first, hvi_waiter *second) {
    fixture *f = make(max);
    for (int i = 0; i < max; i++)
        lend_new(f, i);
    enqueue(f, first);
    enqueue(f, second);
    return f;
}

static void test_what_comes_free_is_idle_and_the_oldest_waiter_is_woken_once(void **state) {
    (void) state;
    hvi_waiter first, second;
    fixture *f = make_busy(3, &first, &second);
    give_back(f, 0);
    assert_stats(f, 3, 1, 2, 2);
    assert_int_equal(first.notifications, 1);
    give_back(f, 1);
    assert_stats(f, 3, 2, 1, 2);
    assert_int_equal(first.notifications, 1);
    assert_int_equal(second.notifications, 0);
    assert_int_equal(poll_turn(f, &first), HVI_TURN_SESSION);
    assert_stats(f, 3, 1, 2, 1);
    assert_int_equal(second.notifications, 1); /* the first has woken it */
    assert_int_equal(poll_turn(f, &second), HVI_TURN_SESSION);
    assert_stats(f, 3, 0, 3, 0);
    assert_int_equal(first.notifications, 1); /* not notified of what it polls itself */
    discard(f);
}

static void test_a_woken_waiter_is_overtaken_and_woken_again(void **state) {
    (void) state;
    hvi_waiter first, second;
    hvi_session *session = NULL;
    fixture *f = make_busy(1, &first, &second);
    for (uint32_t wakes = 1; wakes <= 3; wakes++) {
        give_back(f, 0);
        assert_int_equal(first.notifications, wakes);
        assert_ptr_equal(peek_idle(f), &f->sessions[0]);
        assert_int_equal(take(f, &session), HVI_TURN_SESSION);
        assert_int_equal(poll_turn(f, &first), HVI_TURN_WAIT);
    }
    assert_int_equal(second.notifications, 0);
    give_back(f, 0);
    assert_int_equal(poll_turn(f, &second), HVI_TURN_WAIT); /* it is not its turn */
    assert_int_equal(poll_turn(f, &first), HVI_TURN_SESSION);
    discard(f);
}

static void test_what_was_used_for_long_goes_to_the_oldest_waiter(void **state) {
    (void) state;
    hvi_waiter first, second;
    hvi_session *session = NULL;
    fixture *f = make_busy(3, &first, &second);
    give_back(f, 0);
    assert_ptr_equal(f->slots.woken, &first);
    f->sessions[1].lent_at = hvi_clock_us() - HVI_SLOTS_SHORT_US - 1;
    hvi_slots_return(&f->slots, &f->sessions[1], 1);
    assert_int_equal(first.turn, HVI_TURN_SESSION);
    assert_ptr_equal(first.session, &f->sessions[1]);
    assert_ptr_equal(f->slots.woken, &second); /* for the other session */
    f->sessions[2].lent_at = 0;                /* since when is unknown */
    hvi_slots_return(&f->slots, &f->sessions[2], 1);
    assert_int_equal(second.turn, HVI_TURN_SESSION);
    assert_stats(f, 3, 1, 2, 0);
    assert_int_equal(take(f, &session), HVI_TURN_SESSION);
    discard(f);
}

static void test_the_use_of_a_session_begins_when_its_waiter_wakes_up(void **state) {
    (void) state;
    hvi_waiter first, second;
    fixture *f = make_busy(1, &first, &second);
    first.priority_at = 0;
    give_back(f, 0);
    assert_int_equal(first.turn, HVI_TURN_SESSION);
    f->sessions[0].lent_at = 0;
    int64_t before = hvi_clock_us();
    assert_int_equal(poll_turn(f, &first), HVI_TURN_SESSION);
    assert_in_range(f->sessions[0].lent_at, before, hvi_clock_us());
    discard(f);
}

static void test_what_comes_free_goes_to_a_waiter_with_priority(void **state) {
    (void) state;
    hvi_waiter first, second;
    hvi_session *session = NULL;
    fixture *f = make_busy(2, &first, &second);
    first.priority_at = 0;
    give_back(f, 0);
    assert_int_equal(first.turn, HVI_TURN_SESSION);
    assert_int_equal(take(f, &session), HVI_TURN_LATE);
    give_back(f, 1);
    assert_int_equal(second.turn, HVI_TURN_WAIT);
    assert_int_equal(take(f, &session), HVI_TURN_SESSION);
    assert_int_equal(poll_turn(f, &first), HVI_TURN_SESSION);
    discard(f);
}

static void test_a_waiter_that_got_priority_after_it_was_woken_is_not_overtaken(void **state) {
    (void) state;
    hvi_waiter first, second;
    hvi_session *session = NULL;
    fixture *f = make_busy(2, &first, &second);
    give_back(f, 0);
    give_back(f, 1);
    first.priority_at = second.priority_at = 0;
    assert_null(peek_idle(f));
    assert_int_equal(take(f, &session), HVI_TURN_LATE);
    assert_int_equal(first.turn, HVI_TURN_SESSION);
    assert_int_equal(second.turn, HVI_TURN_SESSION);
    assert_stats(f, 2, 0, 2, 0);
    discard(f);
}

static void test_polling_serves_older_waiters_with_priority_first(void **state) {
    (void) state;
    hvi_waiter first, second;
    fixture *f = make_busy(2, &first, &second);
    give_back(f, 0);
    give_back(f, 1);
    first.priority_at = second.priority_at = 0; /* the first was woken, but has not polled */
    assert_int_equal(poll_turn(f, &second), HVI_TURN_SESSION);
    assert_int_equal(first.turn, HVI_TURN_SESSION);
    discard(f);
}

static void test_a_woken_waiter_that_leaves_wakes_the_next(void **state) {
    (void) state;
    hvi_waiter first, second;
    fixture *f = make_busy(1, &first, &second);
    give_back(f, 0);
    hvi_slots_dequeue(&f->slots, &first);
    assert_int_equal(second.notifications, 1);
    assert_int_equal(poll_turn(f, &second), HVI_TURN_SESSION);
    discard(f);
}

static void test_a_waiter_that_does_not_sleep_is_served_at_once(void **state) {
    (void) state;
    hvi_waiter sleeper, other, awake;
    int64_t next;
    fixture *f = make_busy(3, &sleeper, &other);
    int event = eventfd(0, EFD_NONBLOCK);
    hvi_slots_enqueue(&f->slots, &awake, event, false, &next);
    awake.priority_at = HVI_NEVER;
    hvi_slots_dequeue(&f->slots, &other);
    give_back(f, 0);
    give_back(f, 1);
    assert_false(is_notified(event));
    assert_int_equal(poll_turn(f, &sleeper), HVI_TURN_SESSION);
    assert_true(is_notified(event));
    assert_int_equal(awake.turn, HVI_TURN_SESSION);
    close(event);
    discard(f);
}

static void test_a_slot_that_came_free_is_used_by_a_waiter_that_was_woken_in_vain(void **state) {
    (void) state;
    hvi_waiter first, second;
    hvi_session *session = NULL;
    fixture *f = make_busy(2, &first, &second);
    give_back(f, 0);
    hvi_slots_retire(&f->slots, &f->sessions[1], &f->closing);
    hvi_slots_closed(&f->slots, 1);
    assert_int_equal(first.turn, HVI_TURN_WAIT); /* it has been woken for the idle one */
    assert_int_equal(take(f, &session), HVI_TURN_SESSION);
    assert_ptr_equal(session, &f->sessions[0]);
    assert_int_equal(poll_turn(f, &first), HVI_TURN_OPEN);
    assert_stats(f, 2, 0, 1, 1);
    discard(f);
}

/* Otherwise a waiter after a woken one would not know that there is a slot to be tried. */
static void test_all_waiters_learn_when_to_poll_again_if_the_server_accepts_no_more(void **state) {
    (void) state;
    hvi_waiter first, second;
    hvi_session *session = NULL;
    hv_error *cause = NULL;
    fixture *f = make_busy(2, &first, &second);
    give_back(f, 0);
    hvi_fail(&cause, HV_UNAVAILABLE, "full");
    hvi_slots_note_attempt(&f->slots, hvi_clock_us(), HV_UNAVAILABLE, cause);
    hv_error_free(cause);
    assert_true(f->slots.held_back);
    f->slots.retry_at = HVI_NEVER; /* however long the test takes */
    hvi_slots_retire(&f->slots, &f->sessions[1], &f->closing);
    hvi_slots_closed(&f->slots, 1);
    assert_int_equal(take(f, &session), HVI_TURN_SESSION);
    uint32_t known = atomic_load(&second.notifications);
    assert_int_equal(poll_turn(f, &first), HVI_TURN_WAIT);
    assert_int_not_equal(atomic_load(&second.notifications), known);
    discard(f);
}

static void test_a_waiter_that_was_woken_for_a_closed_session_opens_another(void **state) {
    (void) state;
    hvi_waiter first, second;
    fixture *f = make_busy(1, &first, &second);
    give_back(f, 0);
    hvi_slots_retire_idle(&f->slots, &f->closing);
    assert_int_equal(poll_turn(f, &first), HVI_TURN_WAIT);
    hvi_slots_closed(&f->slots, 1);
    assert_int_equal(poll_turn(f, &first), HVI_TURN_OPEN);
    discard(f);
}

static void test_a_woken_waiter_fails_when_the_pool_is_closed(void **state) {
    (void) state;
    hvi_waiter first, second;
    fixture *f = make_busy(1, &first, &second);
    give_back(f, 0);
    hvi_slots_close(&f->slots);
    assert_int_equal(poll_turn(f, &first), HVI_TURN_CLOSED);
    assert_int_equal(poll_turn(f, &second), HVI_TURN_CLOSED);
    discard(f);
}

/* ---- overtaking, by threads ---- */

#define CROWD  12
#define ROUNDS 4000

typedef struct crowd {
    fixture *f;
    int overtakings;  /* guarded by the lock, as the next two are */
    int of_priority;  /* … of a waiter with priority */
    int out_of_order; /* waiters served while an older one still waited */
} crowd;

/* Under the lock: is there a waiter from before `since`? */
static bool has_waiter_since(const fixture *f, int64_t since) {
    hvi_list_foreach (node, &f->slots.waiters)
        if (hvi_list_entry(node, hvi_waiter, link)->since < since)
            return true;
    return false;
}

static void *borrow_again_and_again(void *context) {
    crowd *c = context;
    fixture *f = c->f;
    for (int i = 0; i < ROUNDS; i++) {
        hvi_session *session = NULL;
        int64_t waited;
        pthread_mutex_lock(&f->lock);
        int64_t begun = hvi_clock_us(), waits = f->slots.stats[HV_STAT_WAITS];
        bool crowded = f->slots.waiting > 0;
        hvi_turn turn = hvi_slots_take(&f->slots, &f->lock, hvi_deadline_after(30000), false,
                                       &session, &waited);
        /* Not exact if another caller began to wait meanwhile, but then this one has waited too. */
        bool has_waited = f->slots.stats[HV_STAT_WAITS] != waits;
        if (turn != HVI_TURN_SESSION)
            break;
        if (has_waited) {
            c->out_of_order += has_waiter_since(f, begun);
        } else {
            c->overtakings += crowded;
            c->of_priority += has_waiter_since(f, begun - HVI_SLOTS_OVERTAKE_US);
        }
        pthread_mutex_unlock(&f->lock);
        if (i % 8 == 0) /* some keep it for long */
            sched_yield();
        pthread_mutex_lock(&f->lock);
        hvi_slots_return(&f->slots, session, 1);
        pthread_mutex_unlock(&f->lock);
        if (i % 64 == 0) /* some others come */
            sched_yield();
    }
    return NULL;
}

static void
test_in_a_crowd_no_waiter_with_priority_is_overtaken_and_all_come_in_order(void **state) {
    (void) state;
    pthread_t threads[CROWD];
    crowd c = {.f = make(3)};
    for (int i = 0; i < 3; i++)
        lend_new(c.f, i);
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, borrow_again_and_again, &c), 0);
    pthread_mutex_lock(&c.f->lock);
    while (c.f->slots.waiting < CROWD) {
        pthread_mutex_unlock(&c.f->lock);
        sched_yield();
        pthread_mutex_lock(&c.f->lock);
    }
    for (int i = 0; i < 3; i++)
        give_back(c.f, i);
    pthread_mutex_unlock(&c.f->lock);
    for (int i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(stat(c.f, HV_STAT_LOANS), 3 + CROWD * ROUNDS);
    assert_stats(c.f, 3, 3, 0, 0);
    assert_true(c.overtakings > 0);
    assert_int_equal(c.of_priority, 0);
    assert_int_equal(c.out_of_order, 0);
    discard(c.f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_comes_free_is_idle_and_the_oldest_waiter_is_woken_once),
        cmocka_unit_test(test_a_woken_waiter_is_overtaken_and_woken_again),
        cmocka_unit_test(test_what_was_used_for_long_goes_to_the_oldest_waiter),
        cmocka_unit_test(test_the_use_of_a_session_begins_when_its_waiter_wakes_up),
        cmocka_unit_test(test_what_comes_free_goes_to_a_waiter_with_priority),
        cmocka_unit_test(test_a_waiter_that_got_priority_after_it_was_woken_is_not_overtaken),
        cmocka_unit_test(test_polling_serves_older_waiters_with_priority_first),
        cmocka_unit_test(test_a_woken_waiter_that_leaves_wakes_the_next),
        cmocka_unit_test(test_a_waiter_that_does_not_sleep_is_served_at_once),
        cmocka_unit_test(test_a_slot_that_came_free_is_used_by_a_waiter_that_was_woken_in_vain),
        cmocka_unit_test(test_all_waiters_learn_when_to_poll_again_if_the_server_accepts_no_more),
        cmocka_unit_test(test_a_waiter_that_was_woken_for_a_closed_session_opens_another),
        cmocka_unit_test(test_a_woken_waiter_fails_when_the_pool_is_closed),
        cmocka_unit_test(
            test_in_a_crowd_no_waiter_with_priority_is_overtaken_and_all_come_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
