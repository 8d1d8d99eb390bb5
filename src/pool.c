/*
 * pool: the bounded connections of one server.
 *
 * A slot is one of the `max` connections that may exist. Its states, and who changes them:
 *
 *              take_slot()             opened()                      release()
 *      free ───────────────► opening ───────────► lent ◄──────────┐ (kept, nobody waits)
 *       ▲                     ▲   │                │ │    pop_idle() ───────┐
 *       │        open failed  │   │                │ └──────────► idle ─────┘
 *       │◄────────────────────┼───┘                │               │
 *       │                     │ unfit when lent    │               │
 *       │                     └────────────────────┤               │
 *       └──── give_slot_back() ◄── not kept ───────┴── expired ────┘
 *
 * A waiter's states: WAITING, then once and for good one of SERVED (it has a session, already in
 * `lent`), GRANTED (it has a slot in state opening), SENT_AWAY (the pool was closed). Only serve()
 * and the closing change them, under the lock; a waiter whose deadline passes takes itself out of
 * the line.
 *
 * Holds always, outside the lock: idle_count + lent_count + opening <= max; while somebody waits
 * there is no idle session, and a free slot only if the server is full or cannot be reached.
 */
#include "pool.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

/* How long the rollback of a returned session may take. */
#define RESET_MS 5000

typedef enum hvi_waiter_state { WAITING, SERVED, GRANTED, SENT_AWAY } hvi_waiter_state;

typedef struct hvi_waiter {
    hvi_list link;
    pthread_cond_t wake;
    hvi_waiter_state state;
    hvi_session *session; /* when SERVED */
} hvi_waiter;

static hvi_session *session_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_session, link);
}

static hvi_pool *pool_of(hvi_fork_member *member) {
    return hvi_list_entry(member, hvi_pool, fork);
}

/* ---- fork ---- */

static void fork_prepare(hvi_fork_member *member) {
    pthread_mutex_lock(&pool_of(member)->lock);
}

static void fork_parent(hvi_fork_member *member) {
    pthread_mutex_unlock(&pool_of(member)->lock);
}

/* The child has one thread: whoever waited, opened or borrowed is not here any more. */
static void fork_child(hvi_fork_member *member) {
    hvi_pool *pool = pool_of(member);
    pthread_mutex_init(&pool->lock, NULL);
    hvi_list_splice_back(&pool->orphans, &pool->idle);
    hvi_list_splice_back(&pool->inherited, &pool->lent);
    hvi_list_init(&pool->waiters);
    pool->idle_count = pool->lent_count = pool->opening = pool->waiting = 0;
    pool->unreachable = pool->probing = false;
    pool->generation++;
    memset(pool->stats, 0, sizeof pool->stats);
}

/* ---- life ---- */

hv_status hvi_pool_init(hvi_pool *pool, const hvi_pool_config *config, hv_error **error) {
    memset(pool, 0, sizeof *pool);
    pool->config = *config;
    hvi_list_init(&pool->idle);
    hvi_list_init(&pool->lent);
    hvi_list_init(&pool->waiters);
    hvi_list_init(&pool->orphans);
    hvi_list_init(&pool->inherited);
    if (pthread_mutex_init(&pool->lock, NULL) != 0)
        return hvi_no_memory(error);
    pool->fork.prepare = fork_prepare;
    pool->fork.parent = fork_parent;
    pool->fork.child = fork_child;
    hvi_fork_join(&pool->fork);
    return HV_OK;
}

/* Close a list of sessions that nobody else can see any more. */
static void close_all(hvi_list *sessions) {
    hvi_list *node;
    while ((node = hvi_list_pop_front(sessions)) != NULL)
        hvi_session_close(session_of(node));
}

static void abandon_all(hvi_list *sessions) {
    hvi_list *node;
    while ((node = hvi_list_pop_front(sessions)) != NULL)
        hvi_session_abandon(session_of(node));
}

void hvi_pool_fini(hvi_pool *pool) {
    hvi_fork_leave(&pool->fork);
    close_all(&pool->idle);
    abandon_all(&pool->orphans);
    abandon_all(&pool->inherited);
    hv_error_free(pool->last_error);
    pthread_mutex_destroy(&pool->lock);
}

/* ---- slots and waiters; all of these under the lock ---- */

static bool has_free_slot(const hvi_pool *pool) {
    return pool->idle_count + pool->lent_count + pool->opening < pool->config.max;
}

static void mark_lent(hvi_pool *pool, hvi_session *session) {
    hvi_list_push_back(&pool->lent, &session->link);
    pool->lent_count++;
    pool->stats[HV_STAT_LOANS]++;
}

static void unmark_lent(hvi_pool *pool, hvi_session *session) {
    hvi_list_remove(&session->link);
    pool->lent_count--;
}

static hvi_session *pop_idle(hvi_pool *pool) {
    hvi_list *node = hvi_list_pop_front(&pool->idle);
    if (node == NULL)
        return NULL;
    pool->idle_count--;
    mark_lent(pool, session_of(node));
    return session_of(node);
}

/* Wake the oldest waiter with what it waits for; false if nobody waits. */
static bool serve(hvi_pool *pool, hvi_waiter_state state, hvi_session *session) {
    hvi_list *node = hvi_list_pop_front(&pool->waiters);
    if (node == NULL)
        return false;
    hvi_waiter *waiter = hvi_list_entry(node, hvi_waiter, link);
    pool->waiting--;
    if (state == SERVED)
        mark_lent(pool, session);
    if (state == GRANTED)
        pool->opening++;
    waiter->state = state;
    waiter->session = session;
    pthread_cond_signal(&waiter->wake);
    return true;
}

/* A slot has come free: the oldest waiter may open a session in it. */
static void give_slot_back(hvi_pool *pool) {
    serve(pool, GRANTED, NULL);
}

static bool over_lifetime(const hvi_pool *pool, const hvi_session *session, int64_t now) {
    return pool->config.max_lifetime_us > 0 &&
           now - session->opened_at > pool->config.max_lifetime_us;
}

/* Move idle sessions that have expired, coldest first, to `expired`. */
static void take_expired(hvi_pool *pool, int64_t now, hvi_list *expired) {
    while (pool->config.idle_timeout_us > 0 && !hvi_list_empty(&pool->idle)) {
        hvi_session *coldest = session_of(pool->idle.prev);
        if (now - coldest->idle_since <= pool->config.idle_timeout_us)
            break;
        hvi_list_remove(&coldest->link);
        hvi_list_push_back(expired, &coldest->link);
        pool->idle_count--;
        pool->stats[HV_STAT_CLOSED]++;
    }
}

static hv_status fail_closed(hv_error **error) {
    return hvi_fail(error, HV_CLOSED, "the store is closed");
}

/* ---- opening ---- */

/* Under the lock: should this caller leave the server alone, because it is known to be down? */
static bool must_not_try(const hvi_pool *pool, int64_t now) {
    return pool->unreachable && (pool->probing || now < pool->retry_at);
}

/* Under the lock: the last error, for a caller that was not allowed to try. */
static hv_status fail_unreachable(hvi_pool *pool, hv_error **error) {
    hv_error *copy = hvi_error_copy(pool->last_error);
    return hvi_error_move(error, &copy);
}

/* Under the lock: note how an attempt to open ended. */
static void note_attempt(hvi_pool *pool, hv_status status, const hv_error *cause) {
    pool->probing = false;
    pool->unreachable = status == HV_UNAVAILABLE || status == HV_TIMEOUT;
    if (!pool->unreachable)
        return;
    hv_error_free(pool->last_error);
    pool->last_error = hvi_error_copy(cause);
    pool->retry_at = hvi_clock_us() + HVI_POOL_RETRY_MS * 1000;
}

/* Did the server say that it has no connection left for us? */
static bool is_server_full(const hv_error *cause) {
    const char *sqlstate = hv_error_sqlstate(cause);
    return sqlstate != NULL && strcmp(sqlstate, "53300") == 0;
}

/*
 * Open a session in a slot that the caller holds in state opening. Without the lock. On failure the
 * slot is free again; *wait_instead says that the server is full, but sessions of ours that may be
 * returned are out.
 */
static hv_status open_in_slot(hvi_pool *pool, int64_t deadline, hvi_session **session,
                              bool *wait_instead, hv_error **error) {
    hvi_session *opened = NULL;
    hv_error *cause = NULL;
    hv_status status = hvi_session_open(&pool->config.session, deadline, &opened, &cause);
    bool connected = status == HV_OK;
    if (connected && pool->config.check != NULL)
        status = pool->config.check(pool->config.check_context, opened, deadline, &cause);
    if (status != HV_OK)
        hvi_session_close(opened);

    pthread_mutex_lock(&pool->lock);
    pool->opening--;
    if (connected)
        pool->stats[HV_STAT_OPENED]++;
    if (status == HV_OK) {
        note_attempt(pool, HV_OK, NULL);
        opened->generation = pool->generation;
        mark_lent(pool, opened);
        *session = opened;
    } else {
        pool->stats[connected ? HV_STAT_CLOSED : HV_STAT_FAILED]++;
        *wait_instead = is_server_full(cause) && pool->lent_count + pool->idle_count > 0;
        note_attempt(pool, *wait_instead ? HV_OK : status, cause);
        if (!*wait_instead)
            give_slot_back(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    if (status != HV_OK)
        hvi_error_move(error, &cause);
    return status;
}

/* ---- borrowing ---- */

static hv_status fail_timeout(const hvi_pool *pool, int64_t waited_us, hv_error **error) {
    const char *server = pool->config.session.server;
    hvi_fail(error, HV_TIMEOUT, "no connection to server \"%s\" came free in time", server);
    hvi_error_detail(error, "All %d connections were in use for %lld ms.", pool->config.max,
                     (long long) (waited_us / 1000));
    hvi_error_hint(error, "Return connections sooner, or raise \"pool_max\" or "
                          "\"pool_block_timeout\".");
    hvi_error_where(error, server, -1);
    return HV_TIMEOUT;
}

/* Under the lock, which is released while waiting: stand in line until something comes. */
static hv_status wait_in_line(hvi_pool *pool, int64_t deadline, hvi_waiter *waiter,
                              hv_error **error) {
    int64_t started = hvi_clock_us();
    struct timespec until = hvi_deadline_timespec(deadline);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&waiter->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    waiter->state = WAITING;
    waiter->session = NULL;
    hvi_list_push_back(&pool->waiters, &waiter->link);
    pool->waiting++;
    pool->stats[HV_STAT_WAITS]++;

    int timed_out = 0;
    while (waiter->state == WAITING && timed_out == 0) {
        if (deadline == HVI_NEVER)
            pthread_cond_wait(&waiter->wake, &pool->lock);
        else
            timed_out = pthread_cond_timedwait(&waiter->wake, &pool->lock, &until);
    }
    int64_t waited = hvi_clock_us() - started;
    pool->stats[HV_STAT_WAIT_US] += waited;
    pthread_cond_destroy(&waiter->wake);
    if (waiter->state == SENT_AWAY)
        return fail_closed(error);
    if (waiter->state != WAITING)
        return HV_OK; /* also when it came together with the deadline */
    hvi_list_remove(&waiter->link);
    pool->waiting--;
    pool->stats[HV_STAT_TIMEOUTS]++;
    return fail_timeout(pool, waited, error);
}

/*
 * Under the lock: get a session (*session) or a slot to open one in (*session NULL), waiting if
 * `wait` says so or there is neither.
 */
static hv_status take_slot(hvi_pool *pool, int64_t deadline, bool wait, hvi_session **session,
                           hv_error **error) {
    *session = NULL;
    if (pool->closed)
        return fail_closed(error);
    if (!wait && (*session = pop_idle(pool)) != NULL)
        return HV_OK;
    if (!wait && has_free_slot(pool)) {
        if (!must_not_try(pool, hvi_clock_us())) {
            pool->probing = pool->unreachable;
            pool->opening++;
            return HV_OK;
        }
        if (pool->lent_count == 0)
            return fail_unreachable(pool, error);
    }
    hvi_waiter waiter;
    hv_status status = wait_in_line(pool, deadline, &waiter, error);
    if (status != HV_OK)
        return status;
    *session = waiter.session;
    if (*session != NULL)
        return HV_OK;
    if (must_not_try(pool, hvi_clock_us())) {
        pool->opening--;
        give_slot_back(pool);
        return fail_unreachable(pool, error);
    }
    pool->probing = pool->unreachable;
    return HV_OK;
}

/* A session about to be lent that is of no use: close it, and keep its slot for opening. */
static void replace_unfit(hvi_pool *pool, hvi_session *session) {
    pthread_mutex_lock(&pool->lock);
    unmark_lent(pool, session);
    pool->stats[HV_STAT_LOANS]--;
    pool->stats[HV_STAT_CLOSED]++;
    pool->opening++;
    pthread_mutex_unlock(&pool->lock);
    hvi_session_close(session);
}

hv_status hvi_pool_acquire(hvi_pool *pool, int64_t deadline, hvi_session **session,
                           hv_error **error) {
    hvi_list expired, orphans;
    hvi_list_init(&expired);
    hvi_list_init(&orphans);
    hvi_session *taken = NULL;
    hv_status status;
    bool wait = false;
    for (;;) {
        int64_t now = hvi_clock_us();
        pthread_mutex_lock(&pool->lock);
        take_expired(pool, now, &expired);
        hvi_list_splice_back(&orphans, &pool->orphans);
        status = take_slot(pool, deadline, wait, &taken, error);
        pthread_mutex_unlock(&pool->lock);
        close_all(&expired);
        abandon_all(&orphans);
        if (status != HV_OK)
            break;
        if (taken != NULL) {
            if (!over_lifetime(pool, taken, now) && hvi_session_is_fit(taken))
                break;
            replace_unfit(pool, taken);
            taken = NULL;
        }
        status = open_in_slot(pool, deadline, &taken, &wait, error);
        if (status == HV_OK || !wait)
            break;
        if (error != NULL) { /* wait for one of our own after all */
            hv_error_free(*error);
            *error = NULL;
        }
    }
    if (status == HV_OK)
        *session = taken;
    return status;
}

/* ---- returning ---- */

void hvi_pool_release(hvi_pool *pool, hvi_session *session) {
    hvi_list expired;
    hvi_list_init(&expired);
    bool keep = hvi_session_reset(session, hvi_deadline_after(RESET_MS));
    int64_t now = hvi_clock_us();
    keep = keep && !over_lifetime(pool, session, now);

    pthread_mutex_lock(&pool->lock);
    keep = keep && !pool->closed && session->generation == pool->generation;
    unmark_lent(pool, session);
    if (!keep) {
        pool->stats[HV_STAT_CLOSED]++;
        give_slot_back(pool);
    } else if (!serve(pool, SERVED, session)) {
        session->idle_since = now;
        hvi_list_push_front(&pool->idle, &session->link);
        pool->idle_count++;
    }
    take_expired(pool, now, &expired);
    pthread_mutex_unlock(&pool->lock);
    if (!keep)
        hvi_session_close(session);
    close_all(&expired);
}

static hvi_session *find_in(hvi_list *sessions, const PGconn *conn) {
    hvi_list_foreach (node, sessions)
        if (session_of(node)->conn == conn)
            return session_of(node);
    return NULL;
}

hvi_session *hvi_pool_find_lent(hvi_pool *pool, const PGconn *conn) {
    pthread_mutex_lock(&pool->lock);
    hvi_session *session = find_in(&pool->lent, conn);
    pthread_mutex_unlock(&pool->lock);
    return session;
}

bool hvi_pool_forget_inherited(hvi_pool *pool, const PGconn *conn) {
    pthread_mutex_lock(&pool->lock);
    hvi_session *session = find_in(&pool->inherited, conn);
    if (session != NULL)
        hvi_list_remove(&session->link);
    pthread_mutex_unlock(&pool->lock);
    if (session != NULL)
        hvi_session_abandon(session);
    return session != NULL;
}

/* ---- the pool as a whole ---- */

/* Under the lock: take all idle sessions out. */
static void take_idle(hvi_pool *pool, hvi_list *taken) {
    hvi_list_splice_back(taken, &pool->idle);
    pool->stats[HV_STAT_CLOSED] += pool->idle_count;
    pool->idle_count = 0;
}

void hvi_pool_disconnect(hvi_pool *pool, bool anew) {
    hvi_list taken;
    hvi_list_init(&taken);
    pthread_mutex_lock(&pool->lock);
    pool->generation++;
    take_idle(pool, &taken);
    if (anew) {
        memset(pool->stats, 0, sizeof pool->stats);
        pool->unreachable = false;
    }
    pthread_mutex_unlock(&pool->lock);
    close_all(&taken);
}

void hvi_pool_close(hvi_pool *pool) {
    hvi_list taken;
    hvi_list_init(&taken);
    pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    pool->generation++;
    take_idle(pool, &taken);
    while (serve(pool, SENT_AWAY, NULL))
        ;
    pthread_mutex_unlock(&pool->lock);
    close_all(&taken);
}

int hvi_pool_users(hvi_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    int users = pool->lent_count + pool->opening + pool->waiting;
    pthread_mutex_unlock(&pool->lock);
    return users;
}

int64_t hvi_pool_stat(hvi_pool *pool, hv_stat stat) {
    int64_t value;
    pthread_mutex_lock(&pool->lock);
    switch (stat) {
    case HV_STAT_OPEN:
        value = pool->idle_count + pool->lent_count + pool->opening;
        break;
    case HV_STAT_IDLE:
        value = pool->idle_count;
        break;
    case HV_STAT_LENT:
        value = pool->lent_count;
        break;
    case HV_STAT_WAITING:
        value = pool->waiting;
        break;
    default:
        value = (int) stat >= 0 && stat < HVI_POOL_STATS ? pool->stats[stat] : -1;
    }
    pthread_mutex_unlock(&pool->lock);
    return value;
}
