/*
 * interrupt: end the waits of an operation when the user's hook says so.
 *
 * An operation that may wait lies between hvi_interrupt_begin() and hvi_interrupt_end(). In
 * between, each place where the library sleeps lets the hook be asked: when a signal has come, and
 * otherwise every HVI_INTERRUPT_MS. Once it has said yes, the operation is interrupted until its
 * end: all of its deadlines count as passed, which hvi_is_late() knows.
 *
 * The present operation is the thread's own affair, so it is kept in a thread-local variable.
 * Without a hook there is none, and nothing here costs more than to see that.
 */
#ifndef HVI_INTERRUPT_H
#define HVI_INTERRUPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hypervault.h"

/* How often the hook is asked by a thread that waits. */
#define HVI_INTERRUPT_MS 250

typedef struct hvi_interrupt {
    hv_interrupt_fn fn; /* NULL: none */
    void *context;
} hvi_interrupt;

/* An operation that can be interrupted. It lies on the stack of its thread. */
typedef struct hvi_interruptible {
    const hvi_interrupt *hook; /* NULL: it cannot; not owned */
    int64_t ask_at;            /* 0: it has not waited yet */
    bool interrupted;
    struct hvi_interruptible *outer; /* the one in whose callback this one runs, or NULL */
} hvi_interruptible;

/* What the next two functions do where there is a hook. */
void hvi_interrupt_push(hvi_interruptible *operation, const hvi_interrupt *hook);
void hvi_interrupt_pop(const hvi_interruptible *operation);

/* Without a hook, that of the operation around stays in force. */
static inline void hvi_interrupt_begin(hvi_interruptible *operation, const hvi_interrupt *hook) {
    operation->hook = NULL;
    if (hook->fn != NULL)
        hvi_interrupt_push(operation, hook);
}

static inline void hvi_interrupt_end(const hvi_interruptible *operation) {
    if (operation->hook != NULL)
        hvi_interrupt_pop(operation);
}

/* Is there a hook that could be asked? */
bool hvi_is_interruptible(void);

/* Has the present operation been interrupted? Asks nobody. */
bool hvi_interrupted(void);

/* Has the deadline passed, or does it count as passed? */
bool hvi_is_late(int64_t deadline);

/* ---- for those who sleep; no lock may be held ---- */

/* How long to sleep at most of the time until `moment`, as a moment. Asks the hook if it is time
 * to. */
int64_t hvi_interrupt_before(int64_t moment);

/* A signal has come: ask the hook. */
void hvi_interrupt_signalled(void);

/* For a hook that stands in for that of the operation around: ask that one. */
bool hvi_interrupt_ask_outer(void);

/* Do nothing for some time. False if it was interrupted. */
bool hvi_pause(int64_t ms);

#endif
