/*
 * slots_fixture: slots with sessions that were never opened, for the tests of the slots.
 */
#ifndef HV_TEST_SLOTS_FIXTURE_H
#define HV_TEST_SLOTS_FIXTURE_H

#include <stdlib.h>
#include <sys/eventfd.h>

#include "pool/slots.h"
#include "unit.h"

typedef struct fixture {
    hvi_slots slots;
    pthread_mutex_t lock;
    hvi_session sessions[4]; /* never opened: only their links and times are used */
    hvi_list closing;
} fixture;

static inline fixture *make(int max) {
    fixture *f = calloc(1, sizeof *f);
    hvi_slots_init(&f->slots, max);
    pthread_mutex_init(&f->lock, NULL);
    hvi_list_init(&f->closing);
    for (size_t i = 0; i < LENGTH(f->sessions); i++)
        hvi_list_init(&f->sessions[i].link);
    return f;
}

static inline void discard(fixture *f) {
    hvi_slots_fini(&f->slots);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

/* Without waiting. */
static inline hvi_turn take(fixture *f, hvi_session **session) {
    int64_t waited;
    pthread_mutex_lock(&f->lock);
    hvi_turn turn = hvi_slots_take(&f->slots, &f->lock, 0, false, session, &waited);
    pthread_mutex_unlock(&f->lock);
    return turn;
}

/* Lend session number i, opened for it. */
static inline hvi_session *lend_new(fixture *f, int i) {
    hvi_session *session = NULL;
    assert_int_equal(take(f, &session), HVI_TURN_OPEN);
    assert_null(session);
    hvi_slots_opened(&f->slots, &f->sessions[i]);
    return &f->sessions[i];
}

static inline int64_t stat(fixture *f, hv_stat which) {
    return hvi_slots_stat(&f->slots, which);
}

static inline void assert_stats(fixture *f, int open, int idle, int lent, int waiting) {
    assert_int_equal(stat(f, HV_STAT_OPEN), open);
    assert_int_equal(stat(f, HV_STAT_IDLE), idle);
    assert_int_equal(stat(f, HV_STAT_LENT), lent);
    assert_int_equal(stat(f, HV_STAT_WAITING), waiting);
}

static inline bool is_notified(int event) {
    eventfd_t count;
    return eventfd_read(event, &count) == 0;
}

#endif
