/*
 * pool: the bounded connections of one server.
 *
 * slots decides whose turn it is, under the lock; here sessions are opened, checked and closed,
 * without it.
 */
#include "pool/pool.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/interrupt.h"

/* How long the rollback of a returned session may take: some time for a borrower's, little for one
 * that an operation has used, as that comes on top of the operation's own time. After that the
 * connection is closed, and another is opened when needed. */
#define RESET_BORROWED_MS 5000
#define RESET_MS          100

/* A session that was checked, or that the server has answered on, so little time ago is lent
 * without another check: to a borrower, because the check would cost more than all the rest of
 * borrowing (that time is then measured give or take a tick of the coarse clock); for a read,
 * because it is repeated if the connection proves lost. */
#define SEEN_US 1000

static hvi_session *session_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_session, link);
}

/* ---- fork ---- */

/* The child has one thread: those that waited, opened or borrowed do not exist here. */
static void fork_child(hvi_fork_member *member) {
    hvi_pool *pool = hvi_list_entry(member, hvi_pool, fork);
    hvi_list_splice_back(&pool->orphans, &pool->slots.idle);
    hvi_list_splice_back(&pool->inherited, &pool->slots.lent);
    hvi_slots_forget(&pool->slots);
    pool->generation++;
}

/* ---- life ---- */

hv_status hvi_pool_init(hvi_pool *pool, const hvi_pool_config *config, hv_error **error) {
    *pool = (hvi_pool){.config = *config};
    hvi_slots_init(&pool->slots, config->max);
    hvi_list_init(&pool->orphans);
    hvi_list_init(&pool->inherited);
    if (pthread_mutex_init(&pool->lock, NULL) != 0)
        return hvi_no_memory(error);
    pool->fork.lock = &pool->lock;
    pool->fork.child = fork_child;
    hvi_fork_join(&pool->fork);
    return HV_OK;
}

/* End a list of sessions that no other thread can reach any more. Returns their number. */
static int end_all(hvi_list *sessions, void (*end)(hvi_session *session)) {
    hvi_list *node;
    int count = 0;
    for (; (node = hvi_list_pop_front(sessions)) != NULL; count++)
        end(session_of(node));
    return count;
}

void hvi_pool_fini(hvi_pool *pool) {
    hvi_fork_leave(&pool->fork);
    end_all(&pool->slots.idle, hvi_session_close);
    end_all(&pool->orphans, hvi_session_abandon);
    end_all(&pool->inherited, hvi_session_disown);
    hvi_slots_fini(&pool->slots);
    pthread_mutex_destroy(&pool->lock);
}

/* ---- closing ---- */

/* The end of a new session's life, between nine tenths of max_lifetime and all of it, so that
 * sessions that were opened together are not renewed together. Derived from the moment and the
 * address, which no other session has in common with it. */
static int64_t draw_end(const hvi_pool *pool, const hvi_session *session) {
    int64_t longest = pool->config.max_lifetime_us;
    const int64_t drawn_from[] = {session->opened_at, (intptr_t) session, getpid()};
    if (longest == 0)
        return HVI_NEVER;
    uint64_t earlier = hvi_hash(drawn_from, sizeof drawn_from) % ((uint64_t) longest / 10 + 1);
    return session->opened_at + longest - (int64_t) earlier;
}

static bool over_lifetime(const hvi_session *session, int64_t now) {
    return now > session->ends_at;
}

/* Under the lock: is there anything for tidy_up() to do? */
static bool is_untidy(const hvi_pool *pool, int64_t now) {
    const hvi_slots *slots = &pool->slots;
    return !hvi_list_empty(&pool->orphans) ||
           (pool->config.idle_timeout_us > 0 && !hvi_list_empty(&slots->idle) &&
            session_of(slots->idle.prev)->idle_since < now - pool->config.idle_timeout_us);
}

/* Under the lock. */
static void retire_expired(hvi_pool *pool, int64_t now, hvi_list *closing) {
    if (pool->config.idle_timeout_us > 0)
        hvi_slots_retire_unused(&pool->slots, now - pool->config.idle_timeout_us, closing);
}

/* Without the lock: close retired sessions. Their slots become free only afterwards, so that there
 * are never more than `max` connections. */
static void close_retired(hvi_pool *pool, hvi_list *closing) {
    if (hvi_list_empty(closing))
        return;
    int count = end_all(closing, hvi_session_close);
    pthread_mutex_lock(&pool->lock);
    hvi_slots_closed(&pool->slots, count);
    pthread_mutex_unlock(&pool->lock);
}

/* Close expired sessions and, in a forked child, abandon the parent's. */
static void tidy_up(hvi_pool *pool) {
    hvi_list expired, orphans;
    hvi_list_init(&expired);
    hvi_list_init(&orphans);
    pthread_mutex_lock(&pool->lock);
    retire_expired(pool, hvi_clock_us(), &expired);
    hvi_list_splice_back(&orphans, &pool->orphans);
    pthread_mutex_unlock(&pool->lock);
    close_retired(pool, &expired);
    end_all(&orphans, hvi_session_abandon);
}

/* ---- opening ---- */

void hvi_pool_start_opening(hvi_pool *pool, hvi_pool_opening *opening, int64_t deadline) {
    const hvi_pool_config *config = &pool->config;
    pthread_mutex_lock(&pool->lock);
    opening->generation = pool->generation;
    pthread_mutex_unlock(&pool->lock);
    opening->started = hvi_clock_us();
    hvi_opening_start(&opening->opening, &config->session, config->check, config->check_context,
                      deadline);
}

hv_status hvi_pool_finish_opening(hvi_pool *pool, hvi_pool_opening *opening, hvi_session **session,
                                  bool *again, hv_error **error) {
    hvi_session *opened = NULL;
    hv_error *cause = NULL;
    hv_status status = hvi_opening_finish(&opening->opening, &opened, &cause);
    if (status == HV_TIMEOUT && !hvi_interrupted())
        hvi_error_hint(&cause, "The option \"pool_block_timeout\" says how long to wait.");

    pthread_mutex_lock(&pool->lock);
    hvi_slots_note_attempt(&pool->slots, opening->started, status, cause);
    if (status == HV_OK) {
        opened->generation = opening->generation;
        opened->ends_at = draw_end(pool, opened);
        hvi_slots_opened(&pool->slots, opened);
        *session = opened;
    } else {
        *again = hvi_error_has_sqlstate(cause, "53300") && /* too many connections */
                 pool->slots.lent_count + pool->slots.idle_count > 0;
        hvi_slots_not_opened(&pool->slots);
    }
    pthread_mutex_unlock(&pool->lock);
    if (status != HV_OK)
        hvi_error_move(error, &cause);
    return status;
}

void hvi_pool_cancel_opening(hvi_pool *pool, hvi_pool_opening *opening) {
    bool again;
    hvi_session *session = NULL;
    opening->started = hvi_clock_us(); /* so that a time-out does not count against the server */
    if (hvi_pool_finish_opening(pool, opening, &session, &again, NULL) == HV_OK)
        hvi_pool_release(pool, session);
}

/* Open a session, waiting for it. */
static hv_status open_in_slot(hvi_pool *pool, int64_t deadline, hvi_session **session, bool *again,
                              hv_error **error) {
    hvi_pool_opening opening;
    hvi_pool_start_opening(pool, &opening, deadline);
    hvi_opening_await(&opening.opening, deadline);
    return hvi_pool_finish_opening(pool, &opening, session, again, error);
}

/* ---- borrowing ---- */

hv_status hvi_fail_waiting(const char *server, const char *what, hv_error **error) {
    if (hvi_interrupted())
        hvi_fail(error, HV_TIMEOUT, "interrupted while waiting for a %s to server \"%s\"", what,
                 server);
    else
        hvi_fail(error, HV_TIMEOUT, "no %s to server \"%s\" came free in time", what, server);
    return HV_TIMEOUT;
}

static hv_status fail_late(const hvi_pool *pool, int64_t waited_us, hv_error **error) {
    const hvi_slots *slots = &pool->slots;
    const char *server = pool->config.session.server;
    long long waited_ms = (long long) (waited_us / 1000);
    hvi_fail_waiting(server, "connection", error);
    if (hvi_slots_are_held_back(slots)) {
        const char *why = hv_error_detail(slots->last_error);
        hvi_error_detail(error,
                         "%d connections were in use for %lld ms, and the last attempt to "
                         "open another failed: %s",
                         slots->lent_count, waited_ms,
                         why != NULL ? why : hv_error_message(slots->last_error));
        hvi_error_hint(error, "Return connections sooner, or find out why the server accepts no "
                              "more.");
    } else {
        hvi_error_detail(error, "All %d connections were in use for %lld ms.", slots->max,
                         waited_ms);
        hvi_error_hint(error, "Return connections sooner, or raise \"pool_max\" or "
                              "\"pool_block_timeout\".");
    }
    hvi_error_where(error, server, -1);
    return HV_TIMEOUT;
}

/* Under the lock: the error of a turn without a session or slot. */
static hv_status fail_turn(const hvi_pool *pool, hvi_turn turn, int64_t waited_us,
                           hv_error **error) {
    hv_error *copy;
    switch (turn) {
    case HVI_TURN_LATE:
        return fail_late(pool, waited_us, error);
    case HVI_TURN_REFUSED:
        copy = hvi_error_copy(pool->slots.last_error);
        return hvi_error_move(error, &copy);
    case HVI_TURN_CLOSED:
        return hvi_fail(error, HV_CLOSED, "the store is closed");
    default:
        return HV_OK;
    }
}

/* Close a session that was to be lent but cannot be used. */
static void discard(hvi_pool *pool, hvi_session *session) {
    hvi_list unfit;
    hvi_list_init(&unfit);
    pthread_mutex_lock(&pool->lock);
    pool->lost_at = hvi_clock_us();
    hvi_slots_retire(&pool->slots, session, &unfit);
    pool->slots.stats[HV_STAT_LOANS]--; /* it was not lent after all */
    pthread_mutex_unlock(&pool->lock);
    close_retired(pool, &unfit);
}

/* The last attempt before the deadline had too little time: report the server's earlier refusal
 * instead. */
static void report_refusal(hvi_pool *pool, int64_t waited_us, hv_error **error) {
    pthread_mutex_lock(&pool->lock);
    if (hvi_slots_are_held_back(&pool->slots))
        fail_late(pool, waited_us, error);
    pthread_mutex_unlock(&pool->lock);
}

/* May it be lent, as far as a check shows? If not, it is discarded. `is_trusted`: if it was seen
 * alive a moment ago, that is enough. */
static bool is_fit(hvi_pool *pool, hvi_session *session, bool is_trusted) {
    int64_t now = hvi_clock_us();
    bool fit = !over_lifetime(session, now);
    if (fit && (!is_trusted || now - session->seen_alive >= SEEN_US)) {
        session->seen_alive = now;
        fit = hvi_session_is_fit(session);
    }
    if (!fit)
        discard(pool, session);
    return fit;
}

/* Under the lock: has no connection been lost since this one was seen alive? */
static bool may_trust(const hvi_pool *pool, const hvi_session *session) {
    return session->seen_alive > pool->lost_at;
}

static hv_status acquire(hvi_pool *pool, int64_t deadline, bool to_read, hvi_session **session,
                         hv_error **error) {
    int64_t started = hvi_clock_us();
    hv_error *cause = NULL;
    hv_status status;
    bool again = false;
    for (;;) {
        hvi_session *taken = NULL;
        int64_t waited_us = 0;
        pthread_mutex_lock(&pool->lock);
        if (is_untidy(pool, started)) {
            pthread_mutex_unlock(&pool->lock);
            tidy_up(pool);
            pthread_mutex_lock(&pool->lock);
        }
        hvi_turn turn =
            hvi_slots_take(&pool->slots, &pool->lock, deadline, again, &taken, &waited_us);
        status = fail_turn(pool, turn, waited_us, &cause);
        bool is_trusted = to_read && turn == HVI_TURN_SESSION && may_trust(pool, taken);
        pthread_mutex_unlock(&pool->lock);
        if (status != HV_OK)
            break;
        if (turn == HVI_TURN_OPEN) {
            bool was_refused = cause != NULL;
            status = open_in_slot(pool, deadline, &taken, &again, &cause);
            if (status != HV_OK && again)
                continue; /* the server is full: wait for a session to be returned */
            if (status == HV_TIMEOUT && was_refused)
                report_refusal(pool, hvi_clock_us() - started, &cause);
        } else if (!is_fit(pool, taken, is_trusted)) {
            again = true;
            continue;
        }
        if (status == HV_OK)
            *session = taken;
        break;
    }
    if (status != HV_OK)
        return hvi_error_move(error, &cause);
    hv_error_free(cause); /* of an earlier attempt */
    return HV_OK;
}

hv_status hvi_pool_acquire(hvi_pool *pool, int64_t deadline, hvi_session **session,
                           hv_error **error) {
    return acquire(pool, deadline, false, session, error);
}

hv_status hvi_pool_acquire_to_read(hvi_pool *pool, int64_t deadline, hvi_session **session,
                                   hv_error **error) {
    return acquire(pool, deadline, true, session, error);
}

/* ---- borrowing without waiting ---- */

hvi_turn hvi_pool_try(hvi_pool *pool, bool may_open, hvi_session **session, hv_error **error) {
    tidy_up(pool);
    for (;;) {
        hvi_session *taken = NULL;
        pthread_mutex_lock(&pool->lock);
        hvi_turn turn = hvi_slots_try(&pool->slots, may_open, &taken);
        fail_turn(pool, turn, 0, error);
        pthread_mutex_unlock(&pool->lock);
        if (turn == HVI_TURN_SESSION && !is_fit(pool, taken, false))
            continue;
        *session = taken;
        return turn;
    }
}

void hvi_pool_enqueue(hvi_pool *pool, hvi_pool_waiter *waiter, int event, bool again) {
    waiter->is_queued = true;
    pthread_mutex_lock(&pool->lock);
    hvi_slots_enqueue(&pool->slots, &waiter->waiter, event, again, &waiter->poll_at);
    pthread_mutex_unlock(&pool->lock);
}

hvi_turn hvi_pool_poll(hvi_pool *pool, hvi_pool_waiter *waiter, hvi_session **session,
                       hv_error **error) {
    hvi_session *taken = NULL;
    pthread_mutex_lock(&pool->lock);
    hvi_turn turn = hvi_slots_poll(&pool->slots, &waiter->waiter, &taken, &waiter->poll_at);
    fail_turn(pool, turn, 0, error);
    pthread_mutex_unlock(&pool->lock);
    waiter->is_queued = turn == HVI_TURN_WAIT;
    if (turn == HVI_TURN_SESSION && !is_fit(pool, taken, false)) {
        turn = hvi_pool_try(pool, true, session, error);
        if (turn == HVI_TURN_WAIT)
            hvi_pool_enqueue(pool, waiter, waiter->waiter.event, true);
        return turn;
    }
    *session = taken;
    return turn;
}

hv_status hvi_pool_dequeue(hvi_pool *pool, hvi_pool_waiter *waiter, hv_error **error) {
    hvi_session *session = NULL;
    int64_t next;
    waiter->is_queued = false;
    pthread_mutex_lock(&pool->lock);
    hvi_turn turn = hvi_slots_poll(&pool->slots, &waiter->waiter, &session, &next);
    if (turn == HVI_TURN_WAIT)
        hvi_slots_dequeue(&pool->slots, &waiter->waiter);
    if (turn == HVI_TURN_OPEN)
        hvi_slots_decline(&pool->slots);
    hv_status status = fail_late(pool, hvi_clock_us() - waiter->waiter.since, error);
    pthread_mutex_unlock(&pool->lock);
    if (turn == HVI_TURN_SESSION)
        hvi_pool_release(pool, session);
    return status;
}

/* ---- returning ---- */

/* Under the lock. `keep`: it is as good as new. */
static void put_back(hvi_pool *pool, hvi_session *session, bool keep, hvi_list *closing) {
    int64_t now = hvi_clock_coarse_us();
    if (session->broken)
        pool->lost_at = hvi_clock_us();
    if (session->age == HVI_SESSION_OUTDATED && session->generation == pool->generation) {
        pool->generation++; /* the other sessions are outdated too */
        hvi_slots_retire_idle(&pool->slots, closing);
    }
    if (keep && !pool->slots.closed && session->generation == pool->generation &&
        session->age == HVI_SESSION_CURRENT && !over_lifetime(session, now))
        hvi_slots_return(&pool->slots, session, now);
    else
        hvi_slots_retire(&pool->slots, session, closing);
    retire_expired(pool, now, closing);
}

static void release(hvi_pool *pool, hvi_session *session, int64_t patience_ms) {
    hvi_list closing;
    hvi_list_init(&closing);
    bool keep = hvi_session_reset(session, patience_ms);
    pthread_mutex_lock(&pool->lock);
    put_back(pool, session, keep, &closing);
    pthread_mutex_unlock(&pool->lock);
    close_retired(pool, &closing);
}

void hvi_pool_release(hvi_pool *pool, hvi_session *session) {
    release(pool, session, RESET_MS);
}

/* ---- borrowers of the connection itself ---- */

/* Under the lock: this is one system call that does not block. */
static bool check_idle(hvi_session *session) {
    if (!hvi_session_is_fit(session))
        return false; /* the next caller that acquires it discards it */
    session->seen_alive = hvi_clock_us();
    return true;
}

PGconn *hvi_pool_lend_idle(hvi_pool *pool, bool may_check) {
    int64_t now = hvi_clock_coarse_us();
    pthread_mutex_lock(&pool->lock);
    int64_t lent_at = 0;
    hvi_session *session = hvi_slots_peek_idle(&pool->slots, &lent_at);
    if (session != NULL && !over_lifetime(session, now) && !is_untidy(pool, now) &&
        (now - session->seen_alive < SEEN_US || (may_check && check_idle(session)))) {
        hvi_slots_take_idle(&pool->slots, lent_at);
        session->borrowed = true;
    } else {
        session = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
    if (session == NULL)
        return NULL;
    hvi_session_prepare_lending(session);
    return session->conn;
}

void hvi_pool_lend(hvi_pool *pool, hvi_session *session) {
    hvi_session_prepare_lending(session);
    pthread_mutex_lock(&pool->lock);
    session->borrowed = true;
    pthread_mutex_unlock(&pool->lock);
}

static hvi_session *find(hvi_list *sessions, const PGconn *conn) {
    hvi_list_foreach (node, sessions)
        if (session_of(node)->conn == conn)
            return session_of(node);
    return NULL;
}

static hvi_session *find_borrowed(hvi_list *sessions, const PGconn *conn) {
    hvi_session *session = find(sessions, conn);
    return session != NULL && session->borrowed ? session : NULL;
}

bool hvi_pool_handle(hvi_pool *pool, const PGconn *conn, void **handle) {
    pthread_mutex_lock(&pool->lock);
    hvi_session *session = find(&pool->slots.lent, conn);
    if (session != NULL)
        *handle = session->handle;
    pthread_mutex_unlock(&pool->lock);
    return session != NULL;
}

bool hvi_pool_take_back(hvi_pool *pool, const PGconn *conn, bool keep) {
    bool is_back = false;
    hvi_list closing;
    hvi_list_init(&closing);
    pthread_mutex_lock(&pool->lock);
    hvi_session *session = find_borrowed(&pool->slots.lent, conn);
    if (session != NULL) {
        session->borrowed = false; /* from now on, returning it again is an error */
        session->broken = session->broken || !keep;
        is_back = hvi_session_is_as_new(session);
    }
    if (is_back)
        put_back(pool, session, true, &closing);
    hvi_session *inherited = find_borrowed(&pool->inherited, conn);
    if (inherited != NULL)
        hvi_list_remove(&inherited->link);
    pthread_mutex_unlock(&pool->lock);
    if (is_back)
        close_retired(pool, &closing);
    else if (session != NULL)
        release(pool, session, RESET_BORROWED_MS);
    if (inherited != NULL)
        hvi_session_abandon(inherited);
    return session != NULL || inherited != NULL;
}

/* ---- the pool as a whole ---- */

void hvi_pool_disconnect(hvi_pool *pool, bool anew) {
    hvi_list closing;
    hvi_list_init(&closing);
    pthread_mutex_lock(&pool->lock);
    pool->generation++;
    hvi_slots_retire_idle(&pool->slots, &closing);
    pthread_mutex_unlock(&pool->lock);
    close_retired(pool, &closing);
    if (!anew)
        return;
    pthread_mutex_lock(&pool->lock);
    hvi_slots_reset(&pool->slots);
    pthread_mutex_unlock(&pool->lock);
}

void hvi_pool_close(hvi_pool *pool) {
    hvi_list closing;
    hvi_list_init(&closing);
    pthread_mutex_lock(&pool->lock);
    pool->generation++;
    hvi_slots_close(&pool->slots);
    hvi_slots_retire_idle(&pool->slots, &closing);
    pthread_mutex_unlock(&pool->lock);
    close_retired(pool, &closing);
}

int hvi_pool_users(hvi_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    int users = pool->slots.lent_count + pool->slots.opening + pool->slots.waiting;
    pthread_mutex_unlock(&pool->lock);
    return users;
}

int64_t hvi_pool_stat(hvi_pool *pool, hv_stat stat) {
    pthread_mutex_lock(&pool->lock);
    int64_t value = hvi_slots_stat(&pool->slots, stat);
    pthread_mutex_unlock(&pool->lock);
    return value;
}
