/*
 * Tests of overtaking: who gets a session that has come free, when somebody waits and others run.
 */
#include "slots_fixture.h"

#include <sched.h>
#include <unistd.h>

#include "base/clock.h"

/* Somebody in line who would sleep, if he had a thread. */
static void wait_in_line(fixture *f, hvi_waiter *waiter) {
    int64_t next;
    hvi_slots_stand_in_line(&f->slots, waiter, -1, false, &next);
    waiter->firm_at = HVI_NEVER; /* however long the test takes */
}

static hvi_turn look(fixture *f, hvi_waiter *waiter) {
    hvi_session *session;
    int64_t next;
    return hvi_slots_look(&f->slots, waiter, &session, &next);
}

static hvi_session *at_hand(fixture *f) {
    int64_t now;
    return hvi_slots_at_hand(&f->slots, &now);
}

/* After a moment's use, and not as long as it may have been since the test has lent it. */
static void give_back(fixture *f, int i) {
    f->sessions[i].lent_at = HVI_NEVER;
    hvi_slots_return(&f->slots, &f->sessions[i], 1);
}

/* A pool whose sessions are all lent, and two who wait. */
static fixture *make_busy(int max, hvi_waiter *first, hvi_waiter *second) {
    fixture *f = make(max);
    for (int i = 0; i < max; i++)
        lend_new(f, i);
    wait_in_line(f, first);
    wait_in_line(f, second);
    return f;
}

static void test_what_comes_free_is_idle_and_the_oldest_is_called_once(void **state) {
    (void) state;
    hvi_waiter first, second;
    fixture *f = make_busy(3, &first, &second);
    give_back(f, 0);
    assert_stats(f, 3, 1, 2, 2);
    assert_int_equal(first.news, 1);
    give_back(f, 1);
    assert_stats(f, 3, 2, 1, 2);
    assert_int_equal(first.news, 1);
    assert_int_equal(second.news, 0);
    assert_int_equal(look(f, &first), HVI_TURN_SESSION);
    assert_stats(f, 3, 1, 2, 1);
    assert_int_equal(second.news, 1); /* it is passed on */
    assert_int_equal(look(f, &second), HVI_TURN_SESSION);
    assert_stats(f, 3, 0, 3, 0);
    assert_int_equal(first.news, 1); /* who looks is not told what he sees */
    discard(f);
}

static void test_who_is_called_is_overtaken_and_called_again(void **state) {
    (void) state;
    hvi_waiter first, second;
    hvi_session *session = NULL;
    fixture *f = make_busy(1, &first, &second);
    for (uint32_t calls = 1; calls <= 3; calls++) {
        give_back(f, 0);
        assert_int_equal(first.news, calls);
        assert_ptr_equal(at_hand(f), &f->sessions[0]);
        assert_int_equal(take(f, &session), HVI_TURN_SESSION);
        assert_int_equal(look(f, &first), HVI_TURN_WAIT);
    }
    assert_int_equal(second.news, 0);
    give_back(f, 0);
    assert_int_equal(look(f, &second), HVI_TURN_WAIT); /* it is not his turn */
    assert_int_equal(look(f, &first), HVI_TURN_SESSION);
    discard(f);
}

static void test_what_was_used_for_long_goes_to_who_waits_longest(void **state) {
    (void) state;
    hvi_waiter first, second;
    hvi_session *session = NULL;
    fixture *f = make_busy(3, &first, &second);
    give_back(f, 0);
    assert_ptr_equal(f->slots.called, &first);
    f->sessions[1].lent_at = hvi_clock_us() - HVI_SLOTS_SHORT_US - 1;
    hvi_slots_return(&f->slots, &f->sessions[1], 1);
    assert_int_equal(first.state, HVI_SERVED);
    assert_ptr_equal(first.session, &f->sessions[1]);
    assert_ptr_equal(f->slots.called, &second); /* for the other one */
    f->sessions[2].lent_at = 0;                 /* it is not known for how long */
    hvi_slots_return(&f->slots, &f->sessions[2], 1);
    assert_int_equal(second.state, HVI_SERVED);
    assert_stats(f, 3, 1, 2, 0);
    assert_int_equal(take(f, &session), HVI_TURN_SESSION);
    discard(f);
}

static void test_the_use_of_a_session_begins_when_its_waiter_wakes_up(void **state) {
    (void) state;
    hvi_waiter first, second;
    fixture *f = make_busy(1, &first, &second);
    first.firm_at = 0;
    give_back(f, 0);
    assert_int_equal(first.state, HVI_SERVED);
    f->sessions[0].lent_at = 0;
    int64_t before = hvi_clock_us();
    assert_int_equal(look(f, &first), HVI_TURN_SESSION);
    assert_in_range(f->sessions[0].lent_at, before, hvi_clock_us());
    discard(f);
}

static void test_what_comes_free_goes_to_who_is_firm(void **state) {
    (void) state;
    hvi_waiter first, second;
    hvi_session *session = NULL;
    fixture *f = make_busy(2, &first, &second);
    first.firm_at = 0;
    give_back(f, 0);
    assert_int_equal(first.state, HVI_SERVED);
    assert_int_equal(take(f, &session), HVI_TURN_LATE);
    give_back(f, 1);
    assert_int_equal(second.state, HVI_WAITING);
    assert_int_equal(take(f, &session), HVI_TURN_SESSION);
    assert_int_equal(look(f, &first), HVI_TURN_SESSION);
    discard(f);
}

static void test_who_has_become_firm_since_he_was_called_is_not_overtaken(void **state) {
    (void) state;
    hvi_waiter first, second;
    hvi_session *session = NULL;
    fixture *f = make_busy(2, &first, &second);
    give_back(f, 0);
    give_back(f, 1);
    first.firm_at = second.firm_at = 0;
    assert_null(at_hand(f));
    assert_int_equal(take(f, &session), HVI_TURN_LATE);
    assert_int_equal(first.state, HVI_SERVED);
    assert_int_equal(second.state, HVI_SERVED);
    assert_stats(f, 2, 0, 2, 0);
    discard(f);
}

static void test_who_looks_serves_those_before_him_who_are_firm(void **state) {
    (void) state;
    hvi_waiter first, second;
    fixture *f = make_busy(2, &first, &second);
    give_back(f, 0);
    give_back(f, 1);
    first.firm_at = second.firm_at = 0; /* the first was called, but does not come */
    assert_int_equal(look(f, &second), HVI_TURN_SESSION);
    assert_int_equal(first.state, HVI_SERVED);
    discard(f);
}

static void test_who_was_called_and_steps_out_passes_it_on(void **state) {
    (void) state;
    hvi_waiter first, second;
    fixture *f = make_busy(1, &first, &second);
    give_back(f, 0);
    hvi_slots_step_out(&f->slots, &first);
    assert_int_equal(second.news, 1);
    assert_int_equal(look(f, &second), HVI_TURN_SESSION);
    discard(f);
}

static void test_who_does_not_sleep_is_not_called_but_served(void **state) {
    (void) state;
    hvi_waiter sleeper, other, awake;
    int64_t next;
    fixture *f = make_busy(3, &sleeper, &other);
    int event = eventfd(0, EFD_NONBLOCK);
    hvi_slots_stand_in_line(&f->slots, &awake, event, false, &next);
    awake.firm_at = HVI_NEVER;
    hvi_slots_step_out(&f->slots, &other);
    give_back(f, 0);
    give_back(f, 1);
    assert_false(is_told(event));
    assert_int_equal(look(f, &sleeper), HVI_TURN_SESSION);
    assert_true(is_told(event));
    assert_int_equal(awake.state, HVI_SERVED);
    close(event);
    discard(f);
}

static void test_a_slot_that_came_free_is_used_by_who_was_called_in_vain(void **state) {
    (void) state;
    hvi_waiter first, second;
    hvi_session *session = NULL;
    fixture *f = make_busy(2, &first, &second);
    give_back(f, 0);
    hvi_slots_retire(&f->slots, &f->sessions[1], &f->closing);
    hvi_slots_closed(&f->slots, 1);
    assert_int_equal(first.state, HVI_WAITING); /* he has been called for the idle one */
    assert_int_equal(take(f, &session), HVI_TURN_SESSION);
    assert_ptr_equal(session, &f->sessions[0]);
    assert_int_equal(look(f, &first), HVI_TURN_OPEN);
    assert_stats(f, 2, 0, 1, 1);
    discard(f);
}

/* Who waits behind one that was called would else not know that there is a slot to be tried. */
static void test_where_the_server_takes_no_more_all_learn_when_to_look_again(void **state) {
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
    uint32_t known = atomic_load(&second.news);
    assert_int_equal(look(f, &first), HVI_TURN_WAIT);
    assert_int_not_equal(atomic_load(&second.news), known);
    discard(f);
}

static void test_who_was_called_for_a_session_that_is_closed_opens_another(void **state) {
    (void) state;
    hvi_waiter first, second;
    fixture *f = make_busy(1, &first, &second);
    give_back(f, 0);
    hvi_slots_retire_idle(&f->slots, &f->closing);
    assert_int_equal(look(f, &first), HVI_TURN_WAIT);
    hvi_slots_closed(&f->slots, 1);
    assert_int_equal(look(f, &first), HVI_TURN_OPEN);
    discard(f);
}

static void test_who_was_called_is_sent_away_when_the_pool_is_closed(void **state) {
    (void) state;
    hvi_waiter first, second;
    fixture *f = make_busy(1, &first, &second);
    give_back(f, 0);
    hvi_slots_close(&f->slots);
    assert_int_equal(look(f, &first), HVI_TURN_CLOSED);
    assert_int_equal(look(f, &second), HVI_TURN_CLOSED);
    discard(f);
}

/* ---- overtaking, by threads ---- */

#define CROWD  12
#define ROUNDS 4000

typedef struct crowd {
    fixture *f;
    int overtakings; /* under the lock, as the next two */
    int of_the_firm; /* … of somebody who had waited for long */
    int of_the_old;  /* waiters served while an older one still waited */
} crowd;

/* Under the lock: does anybody wait who came before `since`? */
static bool somebody_waits_since(const fixture *f, int64_t since) {
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
        /* Not exact if somebody else stood in line meanwhile; but then we have waited, too. */
        bool has_waited = f->slots.stats[HV_STAT_WAITS] != waits;
        if (turn != HVI_TURN_SESSION)
            break;
        if (has_waited) {
            c->of_the_old += somebody_waits_since(f, begun);
        } else {
            c->overtakings += crowded;
            c->of_the_firm += somebody_waits_since(f, begun - HVI_SLOTS_OVERTAKE_US);
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

static void test_in_a_crowd_nobody_firm_is_overtaken_and_all_come_in_order(void **state) {
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
    assert_int_equal(c.of_the_firm, 0);
    assert_int_equal(c.of_the_old, 0);
    discard(c.f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_comes_free_is_idle_and_the_oldest_is_called_once),
        cmocka_unit_test(test_who_is_called_is_overtaken_and_called_again),
        cmocka_unit_test(test_what_was_used_for_long_goes_to_who_waits_longest),
        cmocka_unit_test(test_the_use_of_a_session_begins_when_its_waiter_wakes_up),
        cmocka_unit_test(test_what_comes_free_goes_to_who_is_firm),
        cmocka_unit_test(test_who_has_become_firm_since_he_was_called_is_not_overtaken),
        cmocka_unit_test(test_who_looks_serves_those_before_him_who_are_firm),
        cmocka_unit_test(test_who_was_called_and_steps_out_passes_it_on),
        cmocka_unit_test(test_who_does_not_sleep_is_not_called_but_served),
        cmocka_unit_test(test_a_slot_that_came_free_is_used_by_who_was_called_in_vain),
        cmocka_unit_test(test_where_the_server_takes_no_more_all_learn_when_to_look_again),
        cmocka_unit_test(test_who_was_called_for_a_session_that_is_closed_opens_another),
        cmocka_unit_test(test_who_was_called_is_sent_away_when_the_pool_is_closed),
        cmocka_unit_test(test_in_a_crowd_nobody_firm_is_overtaken_and_all_come_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
