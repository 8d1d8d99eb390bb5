/*
 * interrupt: end an operation's waits when the user's hook returns true.
 */
#include "base/interrupt.h"

#include <time.h>

#include "base/clock.h"

/* The thread's current operation, if it can be interrupted. */
static _Thread_local hvi_interruptible *current;

void hvi_interrupt_push(hvi_interruptible *operation, const hvi_interrupt *hook) {
    *operation = (hvi_interruptible){.hook = hook, .outer = current};
    current = operation;
}

void hvi_interrupt_pop(const hvi_interruptible *operation) {
    current = operation->outer;
}

bool hvi_is_interruptible(void) {
    return current != NULL;
}

bool hvi_interrupted(void) {
    return current != NULL && current->interrupted;
}

bool hvi_is_late(int64_t deadline) {
    return hvi_interrupted() || hvi_clock_us() >= deadline;
}

static bool ask(hvi_interruptible *operation) {
    if (!operation->interrupted)
        operation->interrupted = operation->hook->fn(operation->hook->context);
    operation->ask_at = hvi_deadline_after(HVI_INTERRUPT_MS);
    return operation->interrupted;
}

int64_t hvi_interrupt_before(int64_t moment) {
    hvi_interruptible *operation = current;
    if (operation == NULL)
        return moment;
    if (operation->ask_at == 0)
        operation->ask_at = hvi_deadline_after(HVI_INTERRUPT_MS);
    else if (hvi_clock_us() >= operation->ask_at)
        ask(operation);
    if (operation->interrupted)
        return 0;
    return operation->ask_at < moment ? operation->ask_at : moment;
}

void hvi_interrupt_signalled(void) {
    if (current != NULL)
        ask(current);
}

bool hvi_interrupt_ask_outer(void) {
    return current->outer != NULL && ask(current->outer);
}

bool hvi_pause(int64_t ms) {
    int64_t end = hvi_deadline_after(ms);
    while (!hvi_is_late(end)) {
        struct timespec until = hvi_deadline_timespec(hvi_interrupt_before(end));
        if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
            hvi_interrupt_signalled();
    }
    return !hvi_interrupted();
}
