/*
 * slots: which caller has which of a pool's connections, and whose turn is next.
 *
 * Waiters are served in the order in which they came. But waking a thread takes some microseconds,
 * in which no thread would use the session. Where sessions are lent for less than that, a returned
 * one is idle at first, as with many a mutex: the oldest waiter is woken, and a thread that is
 * running already may take the session before it. After HVI_SLOTS_OVERTAKE_US the waiter has
 * priority, and a returned session is handed to it directly.
 *
 * The states of a slot, and what changes them:
 *
 *              take, serve             opened             take, serve
 *      free ────────────────► opening ────────► lent ◄────────────────── idle
 *       ▲                        │               │ └───────────────────►  │
 *       │◄───────────────────────┘               │        return          │
 *       │       not_opened, decline              │                        │
 *       └──────────────────────── closing ◄──────┴────────────────────────┘
 *                 closed                 retire    retire_idle, retire_unused
 *
 * The states of a waiter. hvi_waiter.turn is WAIT while the waiter is in the queue, also if it is
 * woken or has priority; serve() sets one of the others, once. A waiter whose deadline passes
 * leaves the queue itself.
 *
 *                    wake_oldest()
 *             ┌───────────────────────► woken ───────────────────┐ hvi_slots_poll(): one is idle
 *             │                          │  │                    ▼
 *            WAIT ◄──────────────────────┘  │           SESSION: it has one, in `lent`
 *             │     another took it first   │                    ▲
 *             ├──────────► with priority ◄──┤                    │
 *             │ OVERTAKE_US     └───────────┼────────────────────┤ one is returned, or idle
 *             └─────────────────────────────┴────────────────────┘ one is returned after long use
 *
 *          any of them ──► OPEN: it has a slot in state opening
 *                          REFUSED: no session can be had
 *                          CLOSED: the pool is closed
 *
 * Holds always, when the lock is free:
 *  1. idle_count + lent_count + opening + closing <= max.
 *  2. While there are waiters and a session is idle, one waiter has been woken and has not polled
 *     yet: only one at a time, and only a sleeping one. When it polls, it wakes the next one.
 *  3. While there are waiters and no session is idle, a slot is free only if the server accepts no
 *     more connections for now, but sessions are lent or being opened; or if a waiter was woken.
 *  4. No other caller takes a session while the oldest waiter has priority.
 *
 * A function that makes a session idle or a slot free, learns that the server accepts connections
 * again, or runs for a waiter that was woken, calls settle().
 */
#include "pool/slots.h"

#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"

/* An attempt to open that times out counts against the server if it lasted at least so long. */
#define FAIR_MS 1000

static hvi_session *session_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_session, link);
}

void hvi_slots_init(hvi_slots *slots, int max) {
    *slots = (hvi_slots){.max = max};
    hvi_list_init(&slots->idle);
    hvi_list_init(&slots->lent);
    hvi_list_init(&slots->waiters);
}

void hvi_slots_fini(hvi_slots *slots) {
    hv_error_free(slots->last_error);
}

void hvi_slots_forget(hvi_slots *slots) {
    hvi_list_init(&slots->waiters);
    slots->woken = NULL;
    slots->idle_count = slots->lent_count = slots->opening = slots->closing = slots->waiting = 0;
    slots->probing = false;
    hvi_slots_reset(slots);
}

/* ---- whose turn it is ---- */

static bool has_free_slot(const hvi_slots *slots) {
    return slots->idle_count + slots->lent_count + slots->opening + slots->closing < slots->max;
}

static void mark_lent(hvi_slots *slots, hvi_session *session) {
    hvi_list_push_back(&slots->lent, &session->link);
    session->borrowed = false;
    session->lent_at = 0;
    slots->lent_count++;
    slots->stats[HV_STAT_LOANS]++;
}

static hvi_waiter *oldest(const hvi_slots *slots) {
    return hvi_list_empty(&slots->waiters) ? NULL
                                           : hvi_list_entry(slots->waiters.next, hvi_waiter, link);
}

/* Must a free session go to the oldest waiter? Without waiters, the clock is not read. */
static bool oldest_has_priority(const hvi_slots *slots, int64_t *now) {
    const hvi_waiter *waiter = oldest(slots);
    *now = waiter != NULL ? hvi_clock_us() : 0;
    return waiter != NULL && *now >= waiter->priority_at;
}

hvi_session *hvi_slots_peek_idle(const hvi_slots *slots, int64_t *now) {
    if (hvi_list_empty(&slots->idle) || oldest_has_priority(slots, now))
        return NULL;
    return session_of(slots->idle.next);
}

/* Remove the session that was used last from the idle ones. */
static hvi_session *pop_warmest(hvi_slots *slots) {
    slots->idle_count--;
    return session_of(hvi_list_pop_front(&slots->idle));
}

hvi_session *hvi_slots_take_idle(hvi_slots *slots, int64_t now) {
    hvi_session *session = pop_warmest(slots);
    mark_lent(slots, session);
    session->lent_at = now;
    return session;
}

/* May a session be opened now, or has an attempt failed a moment ago? */
static bool can_open(const hvi_slots *slots) {
    return !slots->held_back || (!slots->probing && hvi_clock_us() >= slots->retry_at);
}

/* A free slot becomes one in state opening. */
static void take_free_slot(hvi_slots *slots) {
    slots->opening++;
    slots->probing = slots->held_back;
}

static void notify(hvi_waiter *waiter) {
    if (waiter->event >= 0) {
        eventfd_write(waiter->event, 1);
    } else {
        atomic_fetch_add(&waiter->notifications, 1);
        hvi_futex_wake(&waiter->notifications, 1);
    }
}

static void leave_queue(hvi_slots *slots, hvi_waiter *waiter) {
    hvi_list_remove(&waiter->link);
    slots->waiting--;
    if (slots->woken == waiter)
        slots->woken = NULL;
}

/* End a waiter's wait with this turn, and a session or slot if that is part of it. */
static void serve(hvi_slots *slots, hvi_waiter *waiter, hvi_turn turn, hvi_session *session) {
    leave_queue(slots, waiter);
    if (turn == HVI_TURN_SESSION)
        mark_lent(slots, session);
    if (turn == HVI_TURN_OPEN)
        take_free_slot(slots);
    waiter->turn = turn;
    waiter->session = session;
}

/* The same for the oldest waiter, and wake it; false if there is none. */
static bool serve_oldest(hvi_slots *slots, hvi_turn turn, hvi_session *session) {
    hvi_waiter *waiter = oldest(slots);
    if (waiter == NULL)
        return false;
    serve(slots, waiter, turn, session);
    notify(waiter);
    return true;
}

/*
 * Let the oldest waiters open sessions in the free slots. If the server accepts no more for now,
 * they go on waiting for a session to be returned or for the next attempt; if no session can be
 * returned, they fail with the last error.
 */
static void use_free_slots(hvi_slots *slots) {
    while (!hvi_list_empty(&slots->waiters) && has_free_slot(slots)) {
        if (can_open(slots)) {
            serve_oldest(slots, HVI_TURN_OPEN, NULL);
        } else if (slots->lent_count + slots->opening == 0) {
            serve_oldest(slots, HVI_TURN_REFUSED, NULL);
        } else {
            /* They must compute again when to wake up: see next_attempt(). */
            hvi_list_foreach (node, &slots->waiters)
                notify(hvi_list_entry(node, hvi_waiter, link));
            return;
        }
    }
}

/*
 * Serve waiters while sessions are idle. Waiters with priority get theirs; the next one is woken. A
 * waiter that does not sleep may poll late, and others would wait for it: it gets a session at
 * once.
 */
static void wake_oldest(hvi_slots *slots) {
    hvi_waiter *waiter;
    int64_t now;
    while (!hvi_list_empty(&slots->idle) && (waiter = oldest(slots)) != NULL) {
        if (waiter->event >= 0 || oldest_has_priority(slots, &now)) {
            serve_oldest(slots, HVI_TURN_SESSION, pop_warmest(slots));
            continue;
        }
        if (slots->woken == NULL) {
            slots->woken = waiter;
            notify(waiter);
        }
        return;
    }
}

/* Serve and wake waiters as far as possible. */
static void settle(hvi_slots *slots) {
    wake_oldest(slots);
    if (hvi_list_empty(&slots->idle))
        use_free_slots(slots);
}

/* The moment when a waiter should see whether the server takes connections again. */
static int64_t next_attempt(const hvi_slots *slots) {
    return hvi_slots_are_held_back(slots) && !slots->probing ? slots->retry_at : HVI_NEVER;
}

/* Sleep until notified, or until that moment, without the lock. */
static void await_notification(hvi_waiter *waiter, pthread_mutex_t *lock, int64_t moment) {
    uint32_t known = atomic_load(&waiter->notifications);
    pthread_mutex_unlock(lock);
    hvi_futex_wait(&waiter->notifications, known, moment);
    pthread_mutex_lock(lock);
}

/* ---- waiting ---- */

void hvi_slots_enqueue(hvi_slots *slots, hvi_waiter *waiter, int event, bool again, int64_t *next) {
    int64_t now = hvi_clock_us();
    *waiter = (hvi_waiter){.turn = HVI_TURN_WAIT, .since = now, .event = event};
    waiter->priority_at = again ? now : now + HVI_SLOTS_OVERTAKE_US;
    if (again)
        hvi_list_push_front(&slots->waiters, &waiter->link);
    else
        hvi_list_push_back(&slots->waiters, &waiter->link);
    slots->waiting++;
    slots->stats[HV_STAT_WAITS]++;
    if (now >= next_attempt(slots))
        settle(slots);
    else
        wake_oldest(slots);
    *next = next_attempt(slots);
}

hvi_turn hvi_slots_poll(hvi_slots *slots, hvi_waiter *waiter, hvi_session **session,
                        int64_t *next) {
    int64_t now = hvi_clock_us();
    bool was_woken = slots->woken == waiter;
    if (was_woken)
        slots->woken = NULL;
    if (waiter == oldest(slots) && !hvi_list_empty(&slots->idle))
        serve(slots, waiter, HVI_TURN_SESSION, pop_warmest(slots));
    if (now >= next_attempt(slots) || was_woken)
        settle(slots);
    else
        wake_oldest(slots);
    *next = next_attempt(slots);
    if (waiter->turn != HVI_TURN_WAIT)
        slots->stats[HV_STAT_WAIT_US] += now - waiter->since;
    if (waiter->turn == HVI_TURN_SESSION) {
        waiter->session->lent_at = now; /* its use begins only now */
        *session = waiter->session;
    }
    return waiter->turn;
}

void hvi_slots_dequeue(hvi_slots *slots, hvi_waiter *waiter) {
    leave_queue(slots, waiter);
    slots->stats[HV_STAT_TIMEOUTS]++;
    slots->stats[HV_STAT_WAIT_US] += hvi_clock_us() - waiter->since;
    wake_oldest(slots);
}

hvi_turn hvi_slots_try(hvi_slots *slots, bool may_open, hvi_session **session) {
    if (slots->closed)
        return HVI_TURN_CLOSED;
    settle(slots);
    if (!hvi_list_empty(&slots->idle)) { /* after settle(): no waiter has priority */
        int64_t now = hvi_list_empty(&slots->waiters) ? 0 : hvi_clock_us();
        *session = hvi_slots_take_idle(slots, now);
        return HVI_TURN_SESSION;
    }
    if (has_free_slot(slots)) {
        bool allowed = can_open(slots);
        if (allowed && may_open) {
            take_free_slot(slots);
            return HVI_TURN_OPEN;
        }
        if (!allowed && slots->lent_count == 0)
            return HVI_TURN_REFUSED;
    }
    return HVI_TURN_WAIT;
}

hvi_turn hvi_slots_take(hvi_slots *slots, pthread_mutex_t *lock, int64_t deadline, bool again,
                        hvi_session **session, int64_t *waited_us) {
    hvi_turn turn = hvi_slots_try(slots, true, session);
    if (turn != HVI_TURN_WAIT)
        return turn;
    hvi_waiter waiter;
    int64_t next;
    hvi_slots_enqueue(slots, &waiter, -1, again, &next);
    *session = waiter.session;
    turn = waiter.turn;
    while (turn == HVI_TURN_WAIT && !hvi_is_late(deadline)) {
        await_notification(&waiter, lock, next < deadline ? next : deadline);
        turn = hvi_slots_poll(slots, &waiter, session, &next);
    }
    if (turn != HVI_TURN_WAIT) /* even if the deadline has passed too */
        return turn;
    *waited_us = hvi_clock_us() - waiter.since;
    hvi_slots_dequeue(slots, &waiter);
    return HVI_TURN_LATE;
}

/* ---- opening ---- */

void hvi_slots_note_attempt(hvi_slots *slots, int64_t started, hv_status status,
                            const hv_error *cause) {
    int64_t now = hvi_clock_us();
    slots->probing = false;
    if (status == HV_TIMEOUT && (hvi_interrupted() || now - started < FAIR_MS * 1000))
        return; /* the caller had too little time: that is not the server's fault */
    slots->held_back = status == HV_UNAVAILABLE || status == HV_TIMEOUT;
    if (!slots->held_back)
        return;
    hv_error_free(slots->last_error);
    slots->last_error = hvi_error_copy(cause);
    slots->retry_at = now + HVI_SLOTS_RETRY_MS * 1000;
}

void hvi_slots_opened(hvi_slots *slots, hvi_session *session) {
    slots->opening--;
    slots->stats[HV_STAT_OPENED]++;
    mark_lent(slots, session);
    settle(slots);
}

void hvi_slots_not_opened(hvi_slots *slots) {
    slots->opening--;
    slots->stats[HV_STAT_FAILED]++;
    settle(slots);
}

void hvi_slots_decline(hvi_slots *slots) {
    slots->opening--;
    slots->probing = false;
    settle(slots);
}

bool hvi_slots_are_held_back(const hvi_slots *slots) {
    return slots->held_back && has_free_slot(slots);
}

/* ---- returning and closing ---- */

static void unmark_lent(hvi_slots *slots, hvi_session *session) {
    hvi_list_remove(&session->link);
    slots->lent_count--;
}

/* Was it in use for so long that waking a waiter takes little time in comparison? Unknown, and
 * taken as yes, for a session that was lent when there were no waiters. Without waiters it does not
 * matter. */
static bool was_kept_long(const hvi_slots *slots, const hvi_session *session) {
    return !hvi_list_empty(&slots->waiters) &&
           (session->lent_at == 0 || hvi_clock_us() - session->lent_at > HVI_SLOTS_SHORT_US);
}

void hvi_slots_return(hvi_slots *slots, hvi_session *session, int64_t now) {
    unmark_lent(slots, session);
    if (was_kept_long(slots, session) && serve_oldest(slots, HVI_TURN_SESSION, session)) {
        wake_oldest(slots); /* another may be idle, for which that waiter had been woken */
        return;
    }
    session->idle_since = now;
    hvi_list_push_front(&slots->idle, &session->link);
    slots->idle_count++;
    if (!hvi_list_empty(&slots->waiters))
        wake_oldest(slots);
}

void hvi_slots_retire(hvi_slots *slots, hvi_session *session, hvi_list *closing) {
    unmark_lent(slots, session);
    hvi_list_push_back(closing, &session->link);
    slots->closing++;
}

void hvi_slots_retire_unused(hvi_slots *slots, int64_t moment, hvi_list *closing) {
    while (!hvi_list_empty(&slots->idle)) {
        hvi_session *coldest = session_of(slots->idle.prev);
        if (coldest->idle_since >= moment)
            break;
        hvi_list_remove(&coldest->link);
        hvi_list_push_back(closing, &coldest->link);
        slots->idle_count--;
        slots->closing++;
    }
}

void hvi_slots_retire_idle(hvi_slots *slots, hvi_list *closing) {
    hvi_slots_retire_unused(slots, HVI_NEVER, closing);
}

void hvi_slots_closed(hvi_slots *slots, int count) {
    slots->closing -= count;
    slots->stats[HV_STAT_CLOSED] += count;
    settle(slots);
}

void hvi_slots_close(hvi_slots *slots) {
    slots->closed = true;
    while (serve_oldest(slots, HVI_TURN_CLOSED, NULL))
        ;
}

void hvi_slots_reset(hvi_slots *slots) {
    memset(slots->stats, 0, sizeof slots->stats);
    slots->held_back = false;
    settle(slots);
}

int64_t hvi_slots_stat(const hvi_slots *slots, hv_stat stat) {
    switch (stat) {
    case HV_STAT_OPEN:
        return slots->idle_count + slots->lent_count + slots->opening + slots->closing;
    case HV_STAT_IDLE:
        return slots->idle_count;
    case HV_STAT_LENT:
        return slots->lent_count;
    case HV_STAT_WAITING:
        return slots->waiting;
    default:
        return (int) stat >= 0 && stat < HVI_SLOTS_STATS ? slots->stats[stat] : -1;
    }
}
