/*
 * interrupt: end in order when the user presses Ctrl-C.
 */
#include "ui/interrupt.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t caught; /* the signal, or 0 */

static void note_signal(int number) {
    caught = number;
}

void interrupt_catch(void) {
    struct sigaction action = {.sa_handler = note_signal};
    action.sa_flags = (int) SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool interrupted(void) {
    return caught != 0;
}

int interrupt_signal(void) {
    return caught;
}
