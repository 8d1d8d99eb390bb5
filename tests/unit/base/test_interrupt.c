/*
 * Tests of interrupting: when the hook is called, and what its answer ends.
 */
#include "base/interrupt.h"
#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/futex.h"

/* If the wait is not ended, neither is the test. */
#define LONG_MS 600000

typedef struct asked {
    _Atomic bool answer;
    atomic_int times;
} asked;

static bool ask(void *context) {
    asked *self = context;
    atomic_fetch_add(&self->times, 1);
    return atomic_load(&self->answer);
}

static void nothing_is_interrupted_without_a_hook(void **state) {
    (void) state;
    hvi_interrupt none = {0};
    hvi_interruptible operation;
    hvi_interrupt_begin(&operation, &none);
    assert_false(hvi_is_interruptible());
    hvi_interrupt_signalled();
    assert_false(hvi_interrupted());
    assert_int_equal(hvi_interrupt_before(HVI_NEVER), HVI_NEVER);
    assert_int_equal(hvi_interrupt_before(7), 7);
    assert_true(hvi_is_late(hvi_clock_us()));
    assert_false(hvi_is_late(HVI_NEVER));
    assert_true(hvi_pause(1));
    hvi_interrupt_end(&operation);
}

static void the_hook_is_asked_now_and_then(void **state) {
    (void) state;
    asked hook = {0};
    hvi_interrupt interrupt = {ask, &hook};
    hvi_interruptible operation;
    int64_t begun = hvi_clock_us();
    hvi_interrupt_begin(&operation, &interrupt);
    int64_t first = hvi_interrupt_before(HVI_NEVER);
    assert_in_range(first - begun, HVI_INTERRUPT_MS * 1000, LONG_MS * 1000L);
    assert_int_equal(operation.ask_at, first);
    operation.ask_at = HVI_NEVER - 1; /* however long the test takes */
    assert_int_equal(hvi_interrupt_before(HVI_NEVER), HVI_NEVER - 1);
    assert_int_equal(hvi_interrupt_before(begun), begun);
    assert_int_equal(hook.times, 0);
    operation.ask_at = 1; /* long ago */
    assert_true(hvi_interrupt_before(HVI_NEVER) >= first);
    assert_int_equal(hook.times, 1);
    assert_false(hvi_interrupted());
    hvi_interrupt_end(&operation);
}

static void an_operation_that_is_interrupted_stays_so_until_its_end(void **state) {
    (void) state;
    asked hook = {.answer = true};
    hvi_interrupt interrupt = {ask, &hook};
    hvi_interruptible operation;
    hvi_interrupt_begin(&operation, &interrupt);
    assert_false(hvi_interrupted());
    hvi_interrupt_signalled();
    atomic_store(&hook.answer, false);
    assert_true(hvi_interrupted());
    assert_true(hvi_is_late(HVI_NEVER));
    assert_int_equal(hvi_interrupt_before(HVI_NEVER), 0);
    hvi_interrupt_signalled();
    assert_int_equal(hook.times, 1); /* it need not be asked again */
    assert_false(hvi_pause(LONG_MS));
    _Atomic uint32_t word = 0;
    assert_false(hvi_futex_wait(&word, 0, HVI_NEVER));
    hvi_interrupt_end(&operation);
    assert_false(hvi_interrupted());
    assert_false(hvi_is_interruptible());

    hvi_interrupt_begin(&operation, &interrupt);
    assert_false(hvi_interrupted());
    hvi_interrupt_end(&operation);
}

static void an_operation_within_another_has_its_own_hook(void **state) {
    (void) state;
    asked outer_hook = {.answer = true}, inner_hook = {0};
    hvi_interrupt outer_interrupt = {ask, &outer_hook}, inner_interrupt = {ask, &inner_hook};
    hvi_interruptible outer, inner;
    hvi_interrupt_begin(&outer, &outer_interrupt);
    hvi_interrupt_begin(&inner, &inner_interrupt);
    hvi_interrupt_signalled();
    assert_false(hvi_interrupted());
    assert_int_equal(inner_hook.times, 1);
    assert_int_equal(outer_hook.times, 0);
    assert_true(hvi_interrupt_ask_outer());
    assert_false(hvi_interrupted());
    hvi_interrupt_end(&inner);
    assert_true(hvi_interrupted());
    hvi_interrupt_end(&outer);
}

/* ---- a thread that sleeps ---- */

static void ignore(int number) {
    (void) number; /* a handler that does nothing still ends a system call */
}

typedef struct sleeper {
    bool (*sleep)(void);
    asked hook;
    pthread_t thread;
    bool in_time;
} sleeper;

static bool sleep_on_futex(void) {
    _Atomic uint32_t word = 0;
    int64_t end = hvi_deadline_after(LONG_MS);
    while (hvi_futex_wait(&word, 0, end))
        ;
    return hvi_clock_us() >= end;
}

static bool sleep_by_pausing(void) {
    return hvi_pause(LONG_MS);
}

static void *fall_asleep(void *context) {
    sleeper *self = context;
    hvi_interrupt interrupt = {ask, &self->hook};
    hvi_interruptible operation;
    hvi_interrupt_begin(&operation, &interrupt);
    self->in_time = self->sleep();
    hvi_interrupt_end(&operation);
    return NULL;
}

static void begin(sleeper *self, bool (*sleep)(void)) {
    *self = (sleeper){.sleep = sleep};
    assert_int_equal(pthread_create(&self->thread, NULL, fall_asleep, self), 0);
}

static void assert_interrupted(sleeper *self) {
    pthread_join(self->thread, NULL);
    assert_false(self->in_time);
    assert_true(self->hook.times > 0);
}

static void a_sleeper_calls_the_hook_without_a_signal_too(void **state) {
    (void) state;
    sleeper on_futex, pausing;
    begin(&on_futex, sleep_on_futex);
    begin(&pausing, sleep_by_pausing);
    atomic_store(&on_futex.hook.answer, true);
    atomic_store(&pausing.hook.answer, true);
    assert_interrupted(&on_futex);
    assert_interrupted(&pausing);
}

/* The time between two calls is far longer than a signal takes, but the machine may be busy. */
static void assert_signal_is_quick(bool (*sleep)(void)) {
    int64_t quickest = HVI_NEVER;
    for (int try = 0; try < 50 && quickest >= HVI_INTERRUPT_MS * 1000 / 2; try++) {
        sleeper self;
        begin(&self, sleep);
        hvi_pause(5); /* so that the other thread most likely sleeps */
        int64_t sent = hvi_clock_us();
        atomic_store(&self.hook.answer, true);
        pthread_kill(self.thread, SIGUSR1);
        pthread_join(self.thread, NULL);
        int64_t took = hvi_clock_us() - sent;
        quickest = took < quickest ? took : quickest;
    }
    assert_true(quickest < HVI_INTERRUPT_MS * 1000 / 2);
}

static void a_signal_makes_a_sleeper_call_the_hook_at_once(void **state) {
    (void) state;
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = ignore}, NULL);
    assert_signal_is_quick(sleep_on_futex);
    assert_signal_is_quick(sleep_by_pausing);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_interrupted_without_a_hook),
        cmocka_unit_test(the_hook_is_asked_now_and_then),
        cmocka_unit_test(an_operation_that_is_interrupted_stays_so_until_its_end),
        cmocka_unit_test(an_operation_within_another_has_its_own_hook),
        cmocka_unit_test(a_sleeper_calls_the_hook_without_a_signal_too),
        cmocka_unit_test(a_signal_makes_a_sleeper_call_the_hook_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
