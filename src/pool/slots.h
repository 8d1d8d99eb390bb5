/*
 * slots: who has which of a pool's connections, and whose turn is next.
 *
 * A slot is one of the `max` connections that may exist. This module counts them, keeps the lists
 * of sessions and the line of those who wait, and decides; to open and close sessions is the pool's
 * part. Every function is called under the pool's lock.
 */
#ifndef HVI_SLOTS_H
#define HVI_SLOTS_H

#include <pthread.h>

#include "base/futex.h"
#include "wire/session.h"

/* Who has waited for so long is not overtaken any more. */
#define HVI_SLOTS_OVERTAKE_US 1000

/* A session that was lent for longer than that goes to who waits in any case: to wake him takes
 * about as long. Hardly a server answers sooner. */
#define HVI_SLOTS_SHORT_US 5

/* How long a server that could not be reached, or was full, is left alone. */
#define HVI_SLOTS_RETRY_MS 200

#define HVI_SLOTS_STATS (HV_STAT_TIMEOUTS + 1)

typedef struct hvi_slots {
    int max;                   /* immutable */
    hvi_list idle;             /* sessions, warmest first */
    hvi_list lent;             /* sessions */
    hvi_list waiters;          /* hvi_waiter, oldest first */
    struct hvi_waiter *called; /* has been told that a session is idle, and has not looked yet */
    int idle_count;
    int lent_count;
    int opening; /* slots whose session is being opened by somebody … */
    int closing; /* … or closed */
    int waiting;
    bool closed;                    /* nobody gets anything any more */
    bool held_back;                 /* the last attempt to open failed … */
    bool probing;                   /* … and somebody is trying again */
    int64_t retry_at;               /* … and nobody else tries before this moment */
    hv_error *last_error;           /* … for this reason; owned */
    int64_t stats[HVI_SLOTS_STATS]; /* the growing ones, by hv_stat */
} hvi_slots;

void hvi_slots_init(hvi_slots *slots, int max);
void hvi_slots_fini(hvi_slots *slots);

/* In a forked child: all slots are free, nobody waits, nothing is known of the server. The sessions
 * are the parent's: hand them over first. */
void hvi_slots_forget(hvi_slots *slots);

/* Somebody in line, who can be overtaken before the moment firm_at. One in state HVI_SERVED has a
 * session, already in `lent`; in HVI_GRANTED a slot in state opening. */
typedef struct hvi_waiter {
    hvi_list link;
    enum { HVI_WAITING, HVI_SERVED, HVI_GRANTED, HVI_SENT_BACK, HVI_SENT_AWAY } state;
    hvi_session *session;
    int64_t since;
    int64_t firm_at;
    int event; /* an eventfd(2) that is written to when there is news; or -1, and he sleeps on … */
    _Atomic uint32_t news; /* … this futex, which counts them */
} hvi_waiter;

/* What became of a caller who asked for a session. */
typedef enum hvi_turn {
    HVI_TURN_WAIT,    /* there is none now */
    HVI_TURN_SESSION, /* has one: *session */
    HVI_TURN_OPEN,    /* has a slot in state opening */
    HVI_TURN_LATE,    /* the deadline passed */
    HVI_TURN_REFUSED, /* the server takes no connections: see last_error */
    HVI_TURN_CLOSED,
} hvi_turn;

/*
 * Get a session or a slot to open one in, waiting in line for it if need be; `lock` is released
 * meanwhile. `again`: the caller's turn had come already. *waited_us is set if it is late.
 */
hvi_turn hvi_slots_take(hvi_slots *slots, pthread_mutex_t *lock, int64_t deadline, bool again,
                        hvi_session **session, int64_t *waited_us);

/* Without waiting: HVI_TURN_WAIT if it cannot be now, others come first, or a session would have to
 * be opened and the caller is not `willing`. */
hvi_turn hvi_slots_try(hvi_slots *slots, bool willing, hvi_session **session);

/* Stand in line without sleeping: `event` is told of news; *next as below. `again` as above. */
void hvi_slots_stand_in_line(hvi_slots *slots, hvi_waiter *waiter, int event, bool again,
                             int64_t *next);

/* What is it that the waiter was told? HVI_TURN_WAIT: he is still in line, and should look again at
 * the moment *next, if not told before. Otherwise he is not. */
hvi_turn hvi_slots_look(hvi_slots *slots, hvi_waiter *waiter, hvi_session **session, int64_t *next);

/* Give up waiting. Only while he is in line. */
void hvi_slots_step_out(hvi_slots *slots, hvi_waiter *waiter);

/* The idle session that a caller who comes now may have, or NULL. *now is for the next function. */
hvi_session *hvi_slots_at_hand(const hvi_slots *slots, int64_t *now);

/* idle → lent, that one */
hvi_session *hvi_slots_take_at_hand(hvi_slots *slots, int64_t now);

/* How an attempt to open that began at `started` ended; `cause` is NULL if well. Then one of the
 * next two. */
void hvi_slots_note_attempt(hvi_slots *slots, int64_t started, hv_status status,
                            const hv_error *cause);

/* opening → lent */
void hvi_slots_opened(hvi_slots *slots, hvi_session *session);

/* opening → free */
void hvi_slots_not_opened(hvi_slots *slots);

/* opening → free, without an attempt */
void hvi_slots_decline(hvi_slots *slots);

/* lent → lent to the one who waits longest, or idle */
void hvi_slots_return(hvi_slots *slots, hvi_session *session, int64_t now);

/* lent → closing: it is moved to `closing` */
void hvi_slots_retire(hvi_slots *slots, hvi_session *session, hvi_list *closing);

/* idle → closing: all of them, or those that have been idle since before `moment`. */
void hvi_slots_retire_idle(hvi_slots *slots, hvi_list *closing);
void hvi_slots_retire_unused(hvi_slots *slots, int64_t moment, hvi_list *closing);

/* closing → free: so many of them */
void hvi_slots_closed(hvi_slots *slots, int count);

/* Nobody gets anything from now on; those who wait are told so. */
void hvi_slots_close(hvi_slots *slots);

/* Statistics and what is known about the server start again. */
void hvi_slots_start_anew(hvi_slots *slots);

/* Is there a slot that stays free because the server takes no more connections? */
bool hvi_slots_are_held_back(const hvi_slots *slots);

/* -1 for one that does not exist. */
int64_t hvi_slots_stat(const hvi_slots *slots, hv_stat stat);

#endif
