/*
 * slots: who has which of a pool's connections, and whose turn is next.
 *
 * Those who wait are served in the order they came. But to wake a thread takes some microseconds,
 * in which nobody would use the session. Where sessions are lent for less than that, one that comes
 * free is idle at first, as in many a mutex: the oldest waiter is called, and whoever runs already
 * may be quicker and take it. That goes on for HVI_SLOTS_OVERTAKE_US; then the waiter is firm, and
 * what comes free goes to him directly.
 *
 * The states of a slot, and what changes them:
 *
 *              take, serve             opened             take, serve
 *      free ────────────────► opening ────────► lent ◄────────────────── idle
 *       ▲                        │               │ └───────────────────►  │
 *       │◄───────────────────────┘               │        return          │
 *       │       not_opened                       │                        │
 *       └──────────────────────── closing ◄──────┴────────────────────────┘
 *                 closed                 retire    retire_idle, retire_unused
 *
 * A waiter's states. `called` and `firm` do not show in hvi_waiter.state; the others are once and
 * for good, and only serve() makes them. A waiter whose deadline passes takes himself out of the
 * line.
 *
 *                   call_oldest()
 *             ┌───────────────────────► called ──────────────────┐ hvi_slots_look(): one is idle
 *             │                          │  │                    ▼
 *          WAITING ◄─────────────────────┘  │           SERVED: he has a session, in `lent`
 *             │        another was quicker  │                    ▲
 *             ├─────────────► firm ◄────────┤                    │
 *             │ OVERTAKE_US     └───────────┼────────────────────┤ one is returned, or idle
 *             └─────────────────────────────┴────────────────────┘ one is returned after long use
 *
 *          any of them ──► GRANTED: he has a slot in state opening
 *                          SENT_BACK: no session can be had
 *                          SENT_AWAY: the pool is closed
 *
 * Holds always, when the lock is free:
 *  1. idle_count + lent_count + opening + closing <= max.
 *  2. While somebody waits and a session is idle, somebody has been called and has not looked yet:
 *     one at a time, and only one who sleeps. When he looks, he calls the next one.
 *  3. While somebody waits and none is idle, there is a free slot only if the server takes no more
 *     connections for now, but sessions are lent or being opened; or if somebody has been called.
 *  4. Nobody takes a session while the oldest waiter is firm.
 *
 * Who makes a session idle or a slot free, learns that the server takes connections again, or has
 * been called, calls settle().
 */
#include "pool/slots.h"

#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"

/* How long an attempt to open must have lasted for its time-out to be the server's fault. */
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
    slots->called = NULL;
    slots->idle_count = slots->lent_count = slots->opening = slots->closing = slots->waiting = 0;
    slots->probing = false;
    hvi_slots_start_anew(slots);
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

/* Must what comes free go to the oldest waiter? Where nobody waits, the clock is not asked. */
static bool oldest_is_firm(const hvi_slots *slots, int64_t *now) {
    const hvi_waiter *waiter = oldest(slots);
    *now = waiter != NULL ? hvi_clock_us() : 0;
    return waiter != NULL && *now >= waiter->firm_at;
}

hvi_session *hvi_slots_at_hand(const hvi_slots *slots, int64_t *now) {
    if (hvi_list_empty(&slots->idle) || oldest_is_firm(slots, now))
        return NULL;
    return session_of(slots->idle.next);
}

/* Out of the idle ones. */
static hvi_session *pop_warmest(hvi_slots *slots) {
    slots->idle_count--;
    return session_of(hvi_list_pop_front(&slots->idle));
}

hvi_session *hvi_slots_take_at_hand(hvi_slots *slots, int64_t now) {
    hvi_session *session = pop_warmest(slots);
    mark_lent(slots, session);
    session->lent_at = now;
    return session;
}

/* May a session be opened now, or did the server just show that it takes none? */
static bool may_open(const hvi_slots *slots) {
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
        atomic_fetch_add(&waiter->news, 1);
        hvi_futex_wake(&waiter->news, 1);
    }
}

static void leave_line(hvi_slots *slots, hvi_waiter *waiter) {
    hvi_list_remove(&waiter->link);
    slots->waiting--;
    if (slots->called == waiter)
        slots->called = NULL;
}

/* The oldest waiter's turn has come: he has what he waits for. */
static void serve(hvi_slots *slots, hvi_waiter *waiter, int state, hvi_session *session) {
    leave_line(slots, waiter);
    if (state == HVI_SERVED)
        mark_lent(slots, session);
    if (state == HVI_GRANTED)
        take_free_slot(slots);
    waiter->state = state;
    waiter->session = session;
}

/* The same, and wake him; false if nobody waits. */
static bool serve_oldest(hvi_slots *slots, int state, hvi_session *session) {
    hvi_waiter *waiter = oldest(slots);
    if (waiter == NULL)
        return false;
    serve(slots, waiter, state, session);
    notify(waiter);
    return true;
}

/*
 * Let those who have waited longest open sessions in the free slots. If the server takes no more
 * for now, they go on waiting for a session that is returned or for the next attempt; if there is
 * none that could be returned, they are told why.
 */
static void use_free_slots(hvi_slots *slots) {
    while (!hvi_list_empty(&slots->waiters) && has_free_slot(slots)) {
        if (may_open(slots)) {
            serve_oldest(slots, HVI_GRANTED, NULL);
        } else if (slots->lent_count + slots->opening == 0) {
            serve_oldest(slots, HVI_SENT_BACK, NULL);
        } else {
            /* So that they look again when to wake up: see next_attempt(). */
            hvi_list_foreach (node, &slots->waiters)
                notify(hvi_list_entry(node, hvi_waiter, link));
            return;
        }
    }
}

/*
 * Sessions are idle. Those who are firm get theirs; who comes next is called. Who does not sleep
 * may be long in coming, and others would wait for him: he gets a session at once.
 */
static void call_oldest(hvi_slots *slots) {
    hvi_waiter *waiter;
    int64_t now;
    while (!hvi_list_empty(&slots->idle) && (waiter = oldest(slots)) != NULL) {
        if (waiter->event >= 0 || oldest_is_firm(slots, &now)) {
            serve_oldest(slots, HVI_SERVED, pop_warmest(slots));
            continue;
        }
        if (slots->called == NULL) {
            slots->called = waiter;
            notify(waiter);
        }
        return;
    }
}

/* Do for those who wait what can be done. */
static void settle(hvi_slots *slots) {
    call_oldest(slots);
    if (hvi_list_empty(&slots->idle))
        use_free_slots(slots);
}

/* The moment when a waiter should see whether the server takes connections again. */
static int64_t next_attempt(const hvi_slots *slots) {
    return hvi_slots_are_held_back(slots) && !slots->probing ? slots->retry_at : HVI_NEVER;
}

/* Sleep until there is news, or until that moment, without the lock. */
static void await_news(hvi_waiter *waiter, pthread_mutex_t *lock, int64_t moment) {
    uint32_t known = atomic_load(&waiter->news);
    pthread_mutex_unlock(lock);
    hvi_futex_wait(&waiter->news, known, moment);
    pthread_mutex_lock(lock);
}

/* ---- standing in line ---- */

void hvi_slots_stand_in_line(hvi_slots *slots, hvi_waiter *waiter, int event, bool again,
                             int64_t *next) {
    int64_t now = hvi_clock_us();
    *waiter = (hvi_waiter){.state = HVI_WAITING, .since = now, .event = event};
    waiter->firm_at = again ? now : now + HVI_SLOTS_OVERTAKE_US;
    if (again)
        hvi_list_push_front(&slots->waiters, &waiter->link);
    else
        hvi_list_push_back(&slots->waiters, &waiter->link);
    slots->waiting++;
    slots->stats[HV_STAT_WAITS]++;
    if (now >= next_attempt(slots))
        settle(slots);
    else
        call_oldest(slots);
    *next = next_attempt(slots);
}

static hvi_turn turn_of(const hvi_waiter *waiter, hvi_session **session) {
    switch (waiter->state) {
    case HVI_SERVED:
        *session = waiter->session;
        return HVI_TURN_SESSION;
    case HVI_GRANTED:
        return HVI_TURN_OPEN;
    case HVI_SENT_BACK:
        return HVI_TURN_REFUSED;
    case HVI_SENT_AWAY:
        return HVI_TURN_CLOSED;
    default:
        return HVI_TURN_WAIT;
    }
}

hvi_turn hvi_slots_look(hvi_slots *slots, hvi_waiter *waiter, hvi_session **session,
                        int64_t *next) {
    int64_t now = hvi_clock_us();
    bool was_called = slots->called == waiter;
    if (was_called)
        slots->called = NULL;
    if (waiter == oldest(slots) && !hvi_list_empty(&slots->idle))
        serve(slots, waiter, HVI_SERVED, pop_warmest(slots));
    if (now >= next_attempt(slots) || was_called)
        settle(slots);
    else
        call_oldest(slots);
    *next = next_attempt(slots);
    if (waiter->state != HVI_WAITING)
        slots->stats[HV_STAT_WAIT_US] += now - waiter->since;
    if (waiter->state == HVI_SERVED) /* he can use it only from now on */
        waiter->session->lent_at = now;
    return turn_of(waiter, session);
}

void hvi_slots_step_out(hvi_slots *slots, hvi_waiter *waiter) {
    leave_line(slots, waiter);
    slots->stats[HV_STAT_TIMEOUTS]++;
    slots->stats[HV_STAT_WAIT_US] += hvi_clock_us() - waiter->since;
    call_oldest(slots);
}

hvi_turn hvi_slots_try(hvi_slots *slots, bool willing, hvi_session **session) {
    if (slots->closed)
        return HVI_TURN_CLOSED;
    settle(slots);
    if (!hvi_list_empty(&slots->idle)) { /* the oldest waiter is not firm */
        int64_t now = hvi_list_empty(&slots->waiters) ? 0 : hvi_clock_us();
        *session = hvi_slots_take_at_hand(slots, now);
        return HVI_TURN_SESSION;
    }
    if (has_free_slot(slots)) {
        bool can_open = may_open(slots);
        if (can_open && willing) {
            take_free_slot(slots);
            return HVI_TURN_OPEN;
        }
        if (!can_open && slots->lent_count == 0)
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
    hvi_slots_stand_in_line(slots, &waiter, -1, again, &next);
    turn = turn_of(&waiter, session);
    while (turn == HVI_TURN_WAIT && !hvi_is_late(deadline)) {
        await_news(&waiter, lock, next < deadline ? next : deadline);
        turn = hvi_slots_look(slots, &waiter, session, &next);
    }
    if (turn != HVI_TURN_WAIT) /* something may come together with the deadline */
        return turn;
    *waited_us = hvi_clock_us() - waiter.since;
    hvi_slots_step_out(slots, &waiter);
    return HVI_TURN_LATE;
}

/* ---- opening ---- */

void hvi_slots_note_attempt(hvi_slots *slots, int64_t started, hv_status status,
                            const hv_error *cause) {
    int64_t now = hvi_clock_us();
    slots->probing = false;
    if (status == HV_TIMEOUT && (hvi_interrupted() || now - started < FAIR_MS * 1000))
        return; /* the caller had no time left: that says nothing about the server */
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

/* Was it in use for so long that to wake somebody for it takes no time in comparison? Of one that
 * was lent when nobody waited it is not known. Where nobody waits it does not matter. */
static bool was_kept_long(const hvi_slots *slots, const hvi_session *session) {
    return !hvi_list_empty(&slots->waiters) &&
           (session->lent_at == 0 || hvi_clock_us() - session->lent_at > HVI_SLOTS_SHORT_US);
}

void hvi_slots_return(hvi_slots *slots, hvi_session *session, int64_t now) {
    unmark_lent(slots, session);
    if (was_kept_long(slots, session) && serve_oldest(slots, HVI_SERVED, session)) {
        call_oldest(slots); /* another may be idle, for which he had been called */
        return;
    }
    session->idle_since = now;
    hvi_list_push_front(&slots->idle, &session->link);
    slots->idle_count++;
    if (!hvi_list_empty(&slots->waiters))
        call_oldest(slots);
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
    while (serve_oldest(slots, HVI_SENT_AWAY, NULL))
        ;
}

void hvi_slots_start_anew(hvi_slots *slots) {
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
