/*
 * Tests of the waits for a connection's descriptor.
 */
#include <poll.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "unit.h"
#include "base/clock.h"
#include "wire/connect.h"

static void ignore(int number) {
    (void) number;
}

static void a_signal_does_not_make_a_descriptor_readable(void **state) {
    (void) state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct sigaction action = {.sa_handler = ignore};
    const struct itimerval often = {{.tv_usec = 20}, {.tv_usec = 20}}, never = {{0}, {0}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    bool is_readable = false;
    for (int64_t end = hvi_clock_us() + 500000; !is_readable && hvi_clock_us() < end;)
        is_readable = hvi_events_now(ends[0], POLLIN) != 0;
    setitimer(ITIMER_REAL, &never, NULL);
    assert_false(is_readable);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(hvi_events_now(ends[0], POLLIN), POLLIN);
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_does_not_make_a_descriptor_readable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
