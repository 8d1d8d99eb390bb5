/*
 * interrupt: end an operation's waits when the user's hook returns true.
 *
 * An operation that may wait lies between hvi_interrupt_begin() and hvi_interrupt_end(). In
 * between, the hook is called wherever the library sleeps: after a signal, and otherwise every
 * HVI_INTERRUPT_MS. Once it has returned true, the operation is interrupted until its end: all of
 * its deadlines count as passed (hvi_is_late()).
 *
 * The current operation is kept in a thread-local variable. Without a hook it is NULL, and the
 * functions here do no more than test for that.
 */
#ifndef HVI_INTERRUPT_H
#define HVI_INTERRUPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hypervault.h"

/* How often a thread that waits calls the hook. */
#define HVI_INTERRUPT_MS 250

typedef struct hvi_interrupt {
    hv_interrupt_fn fn; /* NULL: none */
    void *context;
} hvi_interrupt;

/* An operation that can be interrupted, on the stack of its thread. */
typedef struct hvi_interruptible {
    const hvi_interrupt *hook; /* NULL: cannot be interrupted; not owned */
    int64_t ask_at;            /* when to call the hook next; 0: it has not waited yet */
    bool interrupted;
    struct hvi_interruptible *outer; /* the one in whose callback this one runs, or NULL */
} hvi_interruptible;

/* The next two functions, where there is a hook. */
void hvi_interrupt_push(hvi_interruptible *operation, const hvi_interrupt *hook);
void hvi_interrupt_pop(const hvi_interruptible *operation);

/* Without a hook, that of the enclosing operation stays in force. */
static inline void hvi_interrupt_begin(hvi_interruptible *operation, const hvi_interrupt *hook) {
    operation->hook = NULL;
    if (hook->fn != NULL)
        hvi_interrupt_push(operation, hook);
}

static inline void hvi_interrupt_end(const hvi_interruptible *operation) {
    if (operation->hook != NULL)
        hvi_interrupt_pop(operation);
}

/* Is there a hook? */
bool hvi_is_interruptible(void);

/* Has the current operation been interrupted? Does not call the hook. */
bool hvi_interrupted(void);

/* Has the deadline passed, or does it count as passed? */
bool hvi_is_late(int64_t deadline);

/* ---- for functions that sleep; no lock may be held ---- */

/* The moment until which to sleep at most: `moment`, or earlier to call the hook. Calls the hook if
 * that is due. */
int64_t hvi_interrupt_before(int64_t moment);

/* A signal has arrived: call the hook. */
void hvi_interrupt_signalled(void);

/* For a hook that replaces that of the enclosing operation: call that one. */
bool hvi_interrupt_ask_outer(void);

/* Sleep for some time. False if the operation was interrupted. */
bool hvi_pause(int64_t ms);

#endif
