/*
 * slots: which caller has which of a pool's connections, and whose turn is next.
 *
 * A slot is one of the `max` connections that may exist. This module counts them, keeps the lists
 * of sessions and the queue of waiters, and decides; the pool opens and closes sessions. Every
 * function is called under the pool's lock.
 */
#ifndef HVI_SLOTS_H
#define HVI_SLOTS_H

#include <pthread.h>

#include "base/futex.h"
#include "wire/session.h"

/* A waiter that has waited for so long is not overtaken any more. */
#define HVI_SLOTS_OVERTAKE_US 1000

/* A session that was lent for longer is handed to the oldest waiter in any case: waking it takes
 * about as long. Hardly any server answers sooner. */
#define HVI_SLOTS_SHORT_US 5

/* The pause before the next attempt, after a server could not be reached or was full. */
#define HVI_SLOTS_RETRY_MS 200

#define HVI_SLOTS_STATS (HV_STAT_TIMEOUTS + 1)

typedef struct hvi_slots {
    int max;                  /* immutable */
    hvi_list idle;            /* sessions, warmest first */
    hvi_list lent;            /* sessions */
    hvi_list waiters;         /* hvi_waiter, oldest first */
    struct hvi_waiter *woken; /* was woken for an idle session, and has not polled yet */
    int idle_count;
    int lent_count;
    int opening; /* slots whose session is being opened … */
    int closing; /* … or closed */
    int waiting;
    bool closed;                    /* no sessions are lent any more */
    bool held_back;                 /* the last attempt to open failed … */
    bool probing;                   /* … and one caller is trying again */
    int64_t retry_at;               /* … and no other tries before this moment */
    hv_error *last_error;           /* … for this reason; owned */
    int64_t stats[HVI_SLOTS_STATS]; /* the growing ones, by hv_stat */
} hvi_slots;

void hvi_slots_init(hvi_slots *slots, int max);
void hvi_slots_fini(hvi_slots *slots);

/* In a forked child: all slots are free, there are no waiters, nothing is known about the server.
 * The sessions are the parent's: take them out of the lists first. */
void hvi_slots_forget(hvi_slots *slots);

/* The outcome of asking for a session. */
typedef enum hvi_turn {
    HVI_TURN_WAIT,    /* there is none now */
    HVI_TURN_SESSION, /* *session is lent to the caller */
    HVI_TURN_OPEN,    /* the caller has a slot in state opening */
    HVI_TURN_LATE,    /* the deadline passed */
    HVI_TURN_REFUSED, /* the server accepts no connections: see last_error */
    HVI_TURN_CLOSED,
} hvi_turn;

/* A caller in the queue, which may be overtaken until `priority_at`. */
typedef struct hvi_waiter {
    hvi_list link;
    hvi_turn turn;        /* HVI_TURN_WAIT while it is in the queue */
    hvi_session *session; /* with HVI_TURN_SESSION; it is already in `lent` */
    int64_t since;
    int64_t priority_at;
    int event; /* an eventfd(2) that is written to as a notification; -1: the waiter sleeps on … */
    _Atomic uint32_t notifications; /* … this futex, which counts them */
} hvi_waiter;

/*
 * Get a session or a slot to open one in, waiting in the queue if need be; `lock` is released
 * meanwhile. `again`: the caller's turn had come already, so it is first. *waited_us is set with
 * HVI_TURN_LATE.
 */
hvi_turn hvi_slots_take(hvi_slots *slots, pthread_mutex_t *lock, int64_t deadline, bool again,
                        hvi_session **session, int64_t *waited_us);

/* Without waiting: HVI_TURN_WAIT if there is none now, waiters come first, or a session would have
 * to be opened and the caller does not allow that (`may_open`). */
hvi_turn hvi_slots_try(hvi_slots *slots, bool may_open, hvi_session **session);

/* Join the queue without sleeping: `event` is written to when the waiter should poll; -1: the
 * caller sleeps on the futex. *next as below, `again` as above. */
void hvi_slots_enqueue(hvi_slots *slots, hvi_waiter *waiter, int event, bool again, int64_t *next);

/* The waiter's turn, if it has come; it has then left the queue. HVI_TURN_WAIT: it is still in the
 * queue, and should poll again at the moment *next, unless notified before. */
hvi_turn hvi_slots_poll(hvi_slots *slots, hvi_waiter *waiter, hvi_session **session, int64_t *next);

/* Give up waiting. Only for a waiter in the queue. */
void hvi_slots_dequeue(hvi_slots *slots, hvi_waiter *waiter);

/* The idle session that a new caller may take, or NULL. *now is for the next function. */
hvi_session *hvi_slots_peek_idle(const hvi_slots *slots, int64_t *now);

/* idle → lent, for that session */
hvi_session *hvi_slots_take_idle(hvi_slots *slots, int64_t now);

/* Record how an attempt to open that began at `started` ended; `cause` is NULL on success. Call one
 * of the next two afterwards. */
void hvi_slots_note_attempt(hvi_slots *slots, int64_t started, hv_status status,
                            const hv_error *cause);

/* opening → lent */
void hvi_slots_opened(hvi_slots *slots, hvi_session *session);

/* opening → free */
void hvi_slots_not_opened(hvi_slots *slots);

/* opening → free, without an attempt */
void hvi_slots_decline(hvi_slots *slots);

/* lent → lent to the oldest waiter, or idle */
void hvi_slots_return(hvi_slots *slots, hvi_session *session, int64_t now);

/* lent → closing; the session is moved to the list `closing` */
void hvi_slots_retire(hvi_slots *slots, hvi_session *session, hvi_list *closing);

/* idle → closing: all of them, or those that have been idle since before `moment` */
void hvi_slots_retire_idle(hvi_slots *slots, hvi_list *closing);
void hvi_slots_retire_unused(hvi_slots *slots, int64_t moment, hvi_list *closing);

/* closing → free, for `count` slots */
void hvi_slots_closed(hvi_slots *slots, int count);

/* No sessions are lent from now on; waiters get HVI_TURN_CLOSED. */
void hvi_slots_close(hvi_slots *slots);

/* Reset the statistics, and forget that the server could not be reached. */
void hvi_slots_reset(hvi_slots *slots);

/* Is there a slot that stays free because the server accepts no more connections? */
bool hvi_slots_are_held_back(const hvi_slots *slots);

/* -1 for one that does not exist. */
int64_t hvi_slots_stat(const hvi_slots *slots, hv_stat stat);

#endif
