/*
 * Tests of the slots: how each step changes the numbers, and whose turn comes when. Waiters are
 * threads; a test sees from the queue's length, which the lock guards, that they wait.
 */
#include "slots_fixture.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

#define JUST_NOW HVI_NEVER /* however long the test takes */

static void note_failure(fixture *f, hv_status status, int64_t started) {
    hv_error *error = NULL;
    hvi_fail(&error, status, "cause");
    hvi_slots_note_attempt(&f->slots, started, status, error);
    hv_error_free(error);
}

/* The server took no connection, and is left alone until the test says otherwise. */
static void go_down(fixture *f) {
    int64_t before = hvi_clock_us();
    note_failure(f, HV_UNAVAILABLE, before);
    assert_in_range(f->slots.retry_at, before + HVI_SLOTS_RETRY_MS * 1000,
                    hvi_clock_us() + HVI_SLOTS_RETRY_MS * 1000);
    f->slots.retry_at = HVI_NEVER;
}

/* ---- one caller ---- */

static void test_there_are_as_many_slots_as_allowed(void **state) {
    (void) state;
    fixture *f = make(2);
    hvi_session *session = NULL;
    lend_new(f, 0);
    assert_int_equal(take(f, &session), HVI_TURN_OPEN);
    assert_stats(f, 2, 0, 1, 0);
    assert_int_equal(take(f, &session), HVI_TURN_LATE);
    hvi_slots_not_opened(&f->slots);
    assert_stats(f, 1, 0, 1, 0);
    lend_new(f, 1);
    assert_int_equal(take(f, &session), HVI_TURN_LATE);
    assert_int_equal(stat(f, HV_STAT_TIMEOUTS), 2);
    assert_int_equal(stat(f, HV_STAT_WAITS), 2);
    assert_int_equal(stat(f, HV_STAT_OPENED), 2);
    assert_int_equal(stat(f, HV_STAT_FAILED), 1);
    assert_int_equal(stat(f, HV_STAT_LOANS), 2);
    assert_int_equal(hvi_slots_stat(&f->slots, (hv_stat) 99), -1);
    assert_int_equal(hvi_slots_stat(&f->slots, (hv_stat) -1), -1);
    discard(f);
}

static void test_the_session_returned_last_is_lent_first(void **state) {
    (void) state;
    fixture *f = make(3);
    hvi_session *session = NULL;
    for (int i = 0; i < 3; i++)
        lend_new(f, i);
    hvi_slots_return(&f->slots, &f->sessions[1], 1);
    hvi_slots_return(&f->slots, &f->sessions[0], 2);
    hvi_slots_return(&f->slots, &f->sessions[2], 3);
    assert_stats(f, 3, 3, 0, 0);
    assert_int_equal(take(f, &session), HVI_TURN_SESSION);
    assert_ptr_equal(session, &f->sessions[2]);
    assert_int_equal(take(f, &session), HVI_TURN_SESSION);
    assert_ptr_equal(session, &f->sessions[0]);
    discard(f);
}

static void test_unused_sessions_are_retired_coldest_first(void **state) {
    (void) state;
    fixture *f = make(3);
    for (int i = 0; i < 3; i++)
        lend_new(f, i);
    hvi_slots_return(&f->slots, &f->sessions[1], 10);
    hvi_slots_return(&f->slots, &f->sessions[0], 20);
    hvi_slots_return(&f->slots, &f->sessions[2], 30);
    hvi_slots_retire_unused(&f->slots, 10, &f->closing);
    assert_true(hvi_list_empty(&f->closing));
    hvi_slots_retire_unused(&f->slots, 30, &f->closing);
    assert_ptr_equal(f->closing.next, &f->sessions[1].link);
    assert_ptr_equal(f->closing.prev, &f->sessions[0].link);
    assert_stats(f, 3, 1, 0, 0);
    hvi_slots_closed(&f->slots, 2);
    assert_stats(f, 1, 1, 0, 0);
    assert_int_equal(stat(f, HV_STAT_CLOSED), 2);
    hvi_slots_retire_idle(&f->slots, &f->closing);
    assert_stats(f, 1, 0, 0, 0);
    discard(f);
}

static void test_a_slot_is_free_when_its_session_is_closed_and_not_before(void **state) {
    (void) state;
    fixture *f = make(1);
    hvi_session *session = lend_new(f, 0);
    hvi_slots_retire(&f->slots, session, &f->closing);
    assert_stats(f, 1, 0, 0, 0);
    assert_int_equal(take(f, &session), HVI_TURN_LATE);
    hvi_slots_closed(&f->slots, 1);
    assert_int_equal(take(f, &session), HVI_TURN_OPEN);
    discard(f);
}

static void test_a_server_that_failed_is_left_alone_for_a_while_and_tried_by_one(void **state) {
    (void) state;
    fixture *f = make(3);
    hvi_session *session = NULL;
    assert_int_equal(take(f, &session), HVI_TURN_OPEN);
    go_down(f);
    hvi_slots_not_opened(&f->slots);
    assert_true(hvi_slots_are_held_back(&f->slots));
    assert_int_equal(take(f, &session), HVI_TURN_REFUSED);
    f->slots.retry_at = 0; /* the pause is over */
    assert_int_equal(take(f, &session), HVI_TURN_OPEN);
    assert_int_equal(take(f, &session), HVI_TURN_REFUSED); /* while that one tries */
    hvi_slots_note_attempt(&f->slots, hvi_clock_us(), HV_OK, NULL);
    hvi_slots_opened(&f->slots, &f->sessions[0]);
    assert_false(hvi_slots_are_held_back(&f->slots));
    assert_int_equal(take(f, &session), HVI_TURN_OPEN);
    discard(f);
}

static void test_failures_that_are_not_the_servers_fault_hold_no_caller_back(void **state) {
    (void) state;
    fixture *f = make(1);
    note_failure(f, HV_TIMEOUT, JUST_NOW);
    assert_false(f->slots.held_back);
    note_failure(f, HV_MISMATCH, 0);
    assert_false(f->slots.held_back);
    note_failure(f, HV_TIMEOUT, hvi_clock_us() - 2000000);
    assert_true(f->slots.held_back);
    note_failure(f, HV_TIMEOUT, JUST_NOW); /* it changes nothing */
    assert_true(f->slots.held_back);
    note_failure(f, HV_REFUSED, 0); /* but the server answered this */
    assert_false(f->slots.held_back);
    discard(f);
}

static void test_reset_forgets_numbers_and_failures(void **state) {
    (void) state;
    fixture *f = make(1);
    hvi_session *session = NULL;
    go_down(f);
    assert_int_equal(take(f, &session), HVI_TURN_REFUSED);
    hvi_slots_reset(&f->slots);
    assert_int_equal(take(f, &session), HVI_TURN_OPEN);
    discard(f);
}

static void test_a_forked_child_starts_with_all_slots_free(void **state) {
    (void) state;
    fixture *f = make(2);
    hvi_session *session = NULL;
    lend_new(f, 0);
    lend_new(f, 1);
    go_down(f);
    hvi_list_splice_back(&f->closing, &f->slots.lent);
    hvi_slots_forget(&f->slots);
    assert_stats(f, 0, 0, 0, 0);
    for (int which = HV_STAT_OPENED; which <= HV_STAT_TIMEOUTS; which++)
        assert_int_equal(stat(f, (hv_stat) which), 0);
    assert_int_equal(take(f, &session), HVI_TURN_OPEN);
    assert_int_equal(take(f, &session), HVI_TURN_OPEN);
    discard(f);
}

static void test_a_closed_pool_gives_nothing(void **state) {
    (void) state;
    fixture *f = make(2);
    hvi_session *session = NULL;
    hvi_slots_return(&f->slots, lend_new(f, 0), 1);
    hvi_slots_close(&f->slots);
    assert_int_equal(take(f, &session), HVI_TURN_CLOSED);
    discard(f);
}

/* ---- several callers ---- */

typedef struct caller {
    fixture *f;
    pthread_t thread;
    bool again;
    hvi_turn turn;
    hvi_session *session;
} caller;

static void *call(void *context) {
    caller *self = context;
    int64_t waited;
    pthread_mutex_lock(&self->f->lock);
    self->turn = hvi_slots_take(&self->f->slots, &self->f->lock, hvi_deadline_after(30000),
                                self->again, &self->session, &waited);
    pthread_mutex_unlock(&self->f->lock);
    return NULL;
}

/* Start a caller, and return when it waits in the queue. */
static void start_waiter(fixture *f, caller *waiter, bool again) {
    *waiter = (caller){.f = f, .again = again};
    pthread_mutex_lock(&f->lock);
    int before = f->slots.waiting;
    pthread_create(&waiter->thread, NULL, call, waiter);
    while (f->slots.waiting == before) {
        pthread_mutex_unlock(&f->lock);
        sched_yield();
        pthread_mutex_lock(&f->lock);
    }
    pthread_mutex_unlock(&f->lock);
}

static void assert_turn(caller *waiter, hvi_turn turn) {
    pthread_join(waiter->thread, NULL);
    assert_int_equal(waiter->turn, turn);
}

static void test_what_comes_free_goes_to_the_oldest_waiter(void **state) {
    (void) state;
    fixture *f = make(2);
    caller first, second, third;
    lend_new(f, 0);
    lend_new(f, 1);
    start_waiter(f, &first, false);
    start_waiter(f, &second, false);
    start_waiter(f, &third, true); /* its turn had come before */
    pthread_mutex_lock(&f->lock);
    hvi_slots_return(&f->slots, &f->sessions[0], 1);
    pthread_mutex_unlock(&f->lock);
    assert_turn(&third, HVI_TURN_SESSION);
    assert_ptr_equal(third.session, &f->sessions[0]);
    pthread_mutex_lock(&f->lock);
    hvi_slots_retire(&f->slots, &f->sessions[1], &f->closing);
    assert_int_equal(f->slots.waiting, 2);
    hvi_slots_closed(&f->slots, 1);
    pthread_mutex_unlock(&f->lock);
    assert_turn(&first, HVI_TURN_OPEN);
    pthread_mutex_lock(&f->lock);
    hvi_slots_not_opened(&f->slots);
    pthread_mutex_unlock(&f->lock);
    assert_turn(&second, HVI_TURN_OPEN);
    discard(f);
}

static void test_waiters_fail_when_nothing_can_come_free(void **state) {
    (void) state;
    fixture *f = make(2);
    caller first, second;
    lend_new(f, 0);
    lend_new(f, 1);
    start_waiter(f, &first, false);
    start_waiter(f, &second, false);
    pthread_mutex_lock(&f->lock);
    go_down(f);
    hvi_slots_retire(&f->slots, &f->sessions[0], &f->closing);
    hvi_slots_closed(&f->slots, 1);
    assert_int_equal(f->slots.waiting, 2); /* the other session may be returned */
    hvi_slots_retire(&f->slots, &f->sessions[1], &f->closing);
    hvi_slots_closed(&f->slots, 1);
    pthread_mutex_unlock(&f->lock);
    assert_turn(&first, HVI_TURN_REFUSED);
    assert_turn(&second, HVI_TURN_REFUSED);
    discard(f);
}

static void test_waiters_try_a_server_again_after_the_pause(void **state) {
    (void) state;
    fixture *f = make(3);
    caller first, second;
    lend_new(f, 0);
    go_down(f);
    start_waiter(f, &first, false);
    start_waiter(f, &second, false);
    pthread_mutex_lock(&f->lock);
    int64_t pause_ends = f->slots.retry_at = hvi_deadline_after(HVI_SLOTS_RETRY_MS);
    hvi_slots_closed(&f->slots, 0); /* waiters poll again when the pause ends */
    pthread_mutex_unlock(&f->lock);
    assert_turn(&first, HVI_TURN_OPEN); /* it woke up by itself */
    assert_true(hvi_clock_us() >= pause_ends);
    pthread_mutex_lock(&f->lock);
    assert_int_equal(f->slots.waiting, 1);
    hvi_slots_note_attempt(&f->slots, hvi_clock_us(), HV_OK, NULL);
    hvi_slots_opened(&f->slots, &f->sessions[1]);
    pthread_mutex_unlock(&f->lock);
    assert_turn(&second, HVI_TURN_OPEN);
    discard(f);
}

static void test_a_slot_that_comes_free_in_the_pause_is_used_after_it(void **state) {
    (void) state;
    fixture *f = make(2);
    caller first;
    lend_new(f, 0);
    lend_new(f, 1);
    start_waiter(f, &first, false); /* before anything was known about the server */
    pthread_mutex_lock(&f->lock);
    note_failure(f, HV_UNAVAILABLE, hvi_clock_us());
    hvi_slots_retire(&f->slots, &f->sessions[0], &f->closing);
    hvi_slots_closed(&f->slots, 1);
    pthread_mutex_unlock(&f->lock);
    assert_turn(&first, HVI_TURN_OPEN);
    discard(f);
}

static void test_waiters_fail_when_the_pool_is_closed(void **state) {
    (void) state;
    fixture *f = make(1);
    caller first, second;
    lend_new(f, 0);
    start_waiter(f, &first, false);
    start_waiter(f, &second, false);
    pthread_mutex_lock(&f->lock);
    hvi_slots_close(&f->slots);
    pthread_mutex_unlock(&f->lock);
    assert_turn(&first, HVI_TURN_CLOSED);
    assert_turn(&second, HVI_TURN_CLOSED);
    assert_stats(f, 1, 0, 1, 0);
    discard(f);
}

/* ---- waiters that do not sleep ---- */

static hvi_turn attempt(fixture *f, bool may_open, hvi_session **session) {
    *session = NULL;
    return hvi_slots_try(&f->slots, may_open, session);
}

static void test_a_caller_that_does_not_wait_gets_what_there_is_or_nothing(void **state) {
    (void) state;
    fixture *f = make(1);
    hvi_session *session;
    assert_int_equal(attempt(f, false, &session), HVI_TURN_WAIT); /* it may not open one */
    assert_int_equal(attempt(f, true, &session), HVI_TURN_OPEN);
    hvi_slots_opened(&f->slots, &f->sessions[0]);
    assert_int_equal(attempt(f, true, &session), HVI_TURN_WAIT);
    hvi_slots_return(&f->slots, &f->sessions[0], 1);
    assert_int_equal(attempt(f, false, &session), HVI_TURN_SESSION);
    assert_ptr_equal(session, &f->sessions[0]);
    discard(f);
}

static void
test_a_caller_that_does_not_wait_is_refused_while_another_tries_a_lost_server(void **state) {
    (void) state;
    fixture *f = make(2);
    hvi_session *session;
    assert_int_equal(attempt(f, true, &session), HVI_TURN_OPEN);
    go_down(f);
    hvi_slots_not_opened(&f->slots);
    assert_int_equal(attempt(f, true, &session), HVI_TURN_REFUSED);
    assert_int_equal(attempt(f, false, &session), HVI_TURN_REFUSED);
    f->slots.retry_at = 0;
    assert_int_equal(attempt(f, true, &session), HVI_TURN_OPEN);
    assert_int_equal(attempt(f, true, &session), HVI_TURN_REFUSED);
    discard(f);
}

static void test_a_waiter_that_does_not_sleep_is_notified_in_its_turn(void **state) {
    (void) state;
    fixture *f = make(1);
    hvi_session *session = lend_new(f, 0);
    hvi_waiter first, second;
    int64_t next;
    int event = eventfd(0, EFD_NONBLOCK), other = eventfd(0, EFD_NONBLOCK);
    hvi_slots_enqueue(&f->slots, &second, other, false, &next);
    hvi_slots_enqueue(&f->slots, &first, event, true, &next); /* its turn had come before */
    assert_int_equal(hvi_slots_poll(&f->slots, &first, &session, &next), HVI_TURN_WAIT);
    assert_int_equal(next, HVI_NEVER);
    assert_stats(f, 1, 0, 1, 2);
    assert_false(is_notified(event));

    hvi_slots_return(&f->slots, &f->sessions[0], 1);
    assert_true(is_notified(event));
    assert_false(is_notified(other));
    assert_int_equal(hvi_slots_poll(&f->slots, &first, &session, &next), HVI_TURN_SESSION);
    assert_ptr_equal(session, &f->sessions[0]);
    assert_stats(f, 1, 0, 1, 1);

    hvi_slots_retire(&f->slots, session, &f->closing);
    hvi_slots_closed(&f->slots, 1);
    assert_true(is_notified(other));
    assert_int_equal(hvi_slots_poll(&f->slots, &second, &session, &next), HVI_TURN_OPEN);
    hvi_slots_decline(&f->slots);
    assert_stats(f, 0, 0, 0, 0);
    assert_int_equal(stat(f, HV_STAT_FAILED), 0);
    close(event);
    close(other);
    discard(f);
}

static void test_a_waiter_knows_when_a_server_is_tried_again(void **state) {
    (void) state;
    fixture *f = make(2);
    lend_new(f, 0);
    go_down(f);
    f->slots.retry_at = HVI_NEVER - 1;
    hvi_waiter waiter;
    int64_t next = 0;
    hvi_slots_enqueue(&f->slots, &waiter, -1, false, &next);
    assert_int_equal(next, HVI_NEVER - 1);
    hvi_slots_dequeue(&f->slots, &waiter);
    discard(f);
}

static void test_a_waiter_that_left_the_queue_gets_nothing(void **state) {
    (void) state;
    fixture *f = make(1);
    hvi_session *session = lend_new(f, 0);
    hvi_waiter waiter;
    int64_t next;
    int event = eventfd(0, EFD_NONBLOCK);
    hvi_slots_enqueue(&f->slots, &waiter, event, false, &next);
    hvi_slots_dequeue(&f->slots, &waiter);
    hvi_slots_return(&f->slots, session, 1);
    assert_false(is_notified(event));
    assert_stats(f, 1, 1, 0, 0);
    assert_int_equal(stat(f, HV_STAT_TIMEOUTS), 1);
    close(event);
    discard(f);
}

static void test_closing_notifies_waiters_that_do_not_sleep_too(void **state) {
    (void) state;
    fixture *f = make(1);
    hvi_session *session = lend_new(f, 0);
    hvi_waiter waiter;
    int64_t next;
    int event = eventfd(0, EFD_NONBLOCK);
    hvi_slots_enqueue(&f->slots, &waiter, event, false, &next);
    hvi_slots_close(&f->slots);
    assert_true(is_notified(event));
    assert_int_equal(hvi_slots_poll(&f->slots, &waiter, &session, &next), HVI_TURN_CLOSED);
    assert_int_equal(attempt(f, true, &session), HVI_TURN_CLOSED);
    close(event);
    discard(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_caller_that_does_not_wait_gets_what_there_is_or_nothing),
        cmocka_unit_test(
            test_a_caller_that_does_not_wait_is_refused_while_another_tries_a_lost_server),
        cmocka_unit_test(test_a_waiter_that_does_not_sleep_is_notified_in_its_turn),
        cmocka_unit_test(test_a_waiter_knows_when_a_server_is_tried_again),
        cmocka_unit_test(test_a_waiter_that_left_the_queue_gets_nothing),
        cmocka_unit_test(test_closing_notifies_waiters_that_do_not_sleep_too),
        cmocka_unit_test(test_there_are_as_many_slots_as_allowed),
        cmocka_unit_test(test_the_session_returned_last_is_lent_first),
        cmocka_unit_test(test_unused_sessions_are_retired_coldest_first),
        cmocka_unit_test(test_a_slot_is_free_when_its_session_is_closed_and_not_before),
        cmocka_unit_test(test_a_server_that_failed_is_left_alone_for_a_while_and_tried_by_one),
        cmocka_unit_test(test_failures_that_are_not_the_servers_fault_hold_no_caller_back),
        cmocka_unit_test(test_reset_forgets_numbers_and_failures),
        cmocka_unit_test(test_a_forked_child_starts_with_all_slots_free),
        cmocka_unit_test(test_a_closed_pool_gives_nothing),
        cmocka_unit_test(test_what_comes_free_goes_to_the_oldest_waiter),
        cmocka_unit_test(test_waiters_fail_when_nothing_can_come_free),
        cmocka_unit_test(test_waiters_try_a_server_again_after_the_pause),
        cmocka_unit_test(test_a_slot_that_comes_free_in_the_pause_is_used_after_it),
        cmocka_unit_test(test_waiters_fail_when_the_pool_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
