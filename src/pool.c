/*
 * pool: the bounded connections of one server.
 *
 * A slot is one of the `max` connections that may exist. Its states, and who changes them:
 *
 *               take()                opened                 pop_idle(), serve()
 *      free ───────────► opening ───────────────► lent ◄──────────────────────── idle
 *       ▲  use_free_slots() │                     │  └──────────────────────────►  │
 *       │◄──────────────────┘ open failed         │      kept, nobody waits        │
 *       │                                         │                                │
 *       └───────────────────── closing ◄──────────┴────────────────────────────────┘
 *             closed                      not kept, unfit      expired, disconnected
 *
 * A waiter's states: WAITING, then once and for good one of SERVED (it has a session, already in
 * `lent`), GRANTED (it has a slot in state opening), REFUSED (no session can be had), SENT_AWAY
 * (the pool was closed). Only serve() changes them, under the lock; a waiter whose deadline passes
 * takes itself out of the line.
 *
 * Holds always, outside the lock: idle_count + lent_count + opening + closing <= max; while
 * somebody waits there is no idle session, and a free slot only if the server takes no more
 * connections for now, but sessions are lent or being opened. Whoever makes a slot free, or learns
 * that the server takes connections again, calls use_free_slots().
 */
#include "pool.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

/* How long the rollback of a returned session may take. */
#define RESET_MS 5000

/* How long an attempt to open must have lasted for its time-out to be the server's fault. */
#define FAIR_MS 1000

typedef enum hvi_waiter_state { WAITING, SERVED, GRANTED, REFUSED, SENT_AWAY } hvi_waiter_state;

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
    pool->idle_count = pool->lent_count = pool->opening = pool->closing = pool->waiting = 0;
    pool->held_back = pool->probing = false;
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

/* Close a list of sessions that nobody else can see any more. Returns how many. */
static int close_all(hvi_list *sessions) {
    hvi_list *node;
    int count = 0;
    for (; (node = hvi_list_pop_front(sessions)) != NULL; count++)
        hvi_session_close(session_of(node));
    return count;
}

static void abandon_all(hvi_list *sessions) {
    hvi_list *node;
    while ((node = hvi_list_pop_front(sessions)) != NULL)
        hvi_session_abandon(session_of(node));
}

static void disown_all(hvi_list *sessions) {
    hvi_list *node;
    while ((node = hvi_list_pop_front(sessions)) != NULL)
        hvi_session_disown(session_of(node));
}

void hvi_pool_fini(hvi_pool *pool) {
    hvi_fork_leave(&pool->fork);
    close_all(&pool->idle);
    abandon_all(&pool->orphans);
    disown_all(&pool->inherited);
    hv_error_free(pool->last_error);
    pthread_mutex_destroy(&pool->lock);
}

/* ---- slots and waiters; all of these under the lock ---- */

static bool has_free_slot(const hvi_pool *pool) {
    return pool->idle_count + pool->lent_count + pool->opening + pool->closing < pool->config.max;
}

static void mark_lent(hvi_pool *pool, hvi_session *session) {
    hvi_list_push_back(&pool->lent, &session->link);
    session->borrowed = false;
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

/* May a session be opened now, or did the server just show that it takes none? */
static bool may_open(const hvi_pool *pool) {
    return !pool->held_back || (!pool->probing && hvi_clock_us() >= pool->retry_at);
}

/* A free slot becomes one in state opening. */
static void take_free_slot(hvi_pool *pool) {
    pool->opening++;
    pool->probing = pool->held_back;
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
        take_free_slot(pool);
    waiter->state = state;
    waiter->session = session;
    pthread_cond_signal(&waiter->wake);
    return true;
}

/*
 * Let those who have waited longest open sessions in the free slots. If the server takes no more
 * for now, they go on waiting for a session that is returned or for the next attempt; if there is
 * none that could be returned, they are told why.
 */
static void use_free_slots(hvi_pool *pool) {
    while (!hvi_list_empty(&pool->waiters) && has_free_slot(pool)) {
        if (may_open(pool)) {
            serve(pool, GRANTED, NULL);
        } else if (pool->lent_count + pool->opening == 0) {
            serve(pool, REFUSED, NULL);
        } else {
            /* So that they look again when to wake up: see next_attempt(). */
            hvi_list_foreach (node, &pool->waiters)
                pthread_cond_signal(&hvi_list_entry(node, hvi_waiter, link)->wake);
            return;
        }
    }
}

static bool over_lifetime(const hvi_pool *pool, const hvi_session *session, int64_t now) {
    return pool->config.max_lifetime_us > 0 &&
           now - session->opened_at > pool->config.max_lifetime_us;
}

/* Move idle sessions that have expired, coldest first, to `expired`: their slots are closing. */
static void take_expired(hvi_pool *pool, int64_t now, hvi_list *expired) {
    while (pool->config.idle_timeout_us > 0 && !hvi_list_empty(&pool->idle)) {
        hvi_session *coldest = session_of(pool->idle.prev);
        if (now - coldest->idle_since <= pool->config.idle_timeout_us)
            break;
        hvi_list_remove(&coldest->link);
        hvi_list_push_back(expired, &coldest->link);
        pool->idle_count--;
        pool->closing++;
    }
}

/* Without the lock: close sessions whose slots are closing. Only then are the slots free: at no
 * moment are there more than `max` connections. */
static void close_and_free(hvi_pool *pool, hvi_list *sessions) {
    if (hvi_list_empty(sessions))
        return;
    int count = close_all(sessions);
    pthread_mutex_lock(&pool->lock);
    pool->closing -= count;
    pool->stats[HV_STAT_CLOSED] += count;
    use_free_slots(pool);
    pthread_mutex_unlock(&pool->lock);
}

static hv_status fail_closed(hv_error **error) {
    return hvi_fail(error, HV_CLOSED, "the store is closed");
}

/* ---- opening ---- */

/* Under the lock: the last error, for a caller that was not allowed to try. */
static hv_status fail_held_back(const hvi_pool *pool, hv_error **error) {
    hv_error *copy = hvi_error_copy(pool->last_error);
    return hvi_error_move(error, &copy);
}

/* Under the lock: note how an attempt to open ended that had begun at `started`. */
static void note_attempt(hvi_pool *pool, int64_t started, hv_status status, const hv_error *cause) {
    int64_t now = hvi_clock_us();
    pool->probing = false;
    if (status == HV_TIMEOUT && now - started < FAIR_MS * 1000)
        return; /* the caller had no time left: that says nothing about the server */
    pool->held_back = status == HV_UNAVAILABLE || status == HV_TIMEOUT;
    if (!pool->held_back)
        return;
    hv_error_free(pool->last_error);
    pool->last_error = hvi_error_copy(cause);
    pool->retry_at = now + HVI_POOL_RETRY_MS * 1000;
}

/* Did the server say that it has no connection left for us? */
static bool is_server_full(const hv_error *cause) {
    const char *sqlstate = hv_error_sqlstate(cause);
    return sqlstate != NULL && strcmp(sqlstate, "53300") == 0;
}

/*
 * Open a session in a slot that the caller holds in state opening. Without the lock. On failure the
 * slot is free again; *wait_instead says that the server is full, but that sessions of ours may
 * come free. `generation` is the pool's when the slot was taken.
 */
static hv_status open_in_slot(hvi_pool *pool, unsigned generation, int64_t deadline,
                              hvi_session **session, bool *wait_instead, hv_error **error) {
    hvi_session *opened = NULL;
    hv_error *cause = NULL;
    int64_t started = hvi_clock_us();
    hv_status status = hvi_session_open(&pool->config.session, deadline, &opened, &cause);
    bool connected = status == HV_OK;
    if (connected && pool->config.check != NULL)
        status = pool->config.check(pool->config.check_context, opened, deadline, &cause);
    if (status != HV_OK)
        hvi_session_close(opened);
    if (status == HV_TIMEOUT)
        hvi_error_hint(&cause, "The option \"pool_block_timeout\" says how long to wait.");

    pthread_mutex_lock(&pool->lock);
    pool->opening--;
    pool->stats[HV_STAT_OPENED] += connected;
    note_attempt(pool, started, status, cause);
    *wait_instead = false;
    if (status == HV_OK) {
        opened->generation = generation;
        mark_lent(pool, opened);
        *session = opened;
    } else {
        pool->stats[connected ? HV_STAT_CLOSED : HV_STAT_FAILED]++;
        *wait_instead = is_server_full(cause) && pool->lent_count + pool->idle_count > 0;
    }
    use_free_slots(pool);
    pthread_mutex_unlock(&pool->lock);
    if (status != HV_OK)
        hvi_error_move(error, &cause);
    return status;
}

/* ---- borrowing ---- */

static hv_status fail_timeout(const hvi_pool *pool, int64_t waited_us, hv_error **error) {
    const char *server = pool->config.session.server;
    long long waited_ms = (long long) (waited_us / 1000);
    hvi_fail(error, HV_TIMEOUT, "no connection to server \"%s\" came free in time", server);
    if (pool->held_back && has_free_slot(pool)) {
        const char *why = hv_error_detail(pool->last_error);
        hvi_error_detail(error,
                         "%d connections were in use for %lld ms, and the last attempt to "
                         "open another failed: %s",
                         pool->lent_count, waited_ms,
                         why != NULL ? why : hv_error_message(pool->last_error));
        hvi_error_hint(error, "Return connections sooner, or see why the server takes no more.");
    } else {
        hvi_error_detail(error, "All %d connections were in use for %lld ms.", pool->config.max,
                         waited_ms);
        hvi_error_hint(error, "Return connections sooner, or raise \"pool_max\" or "
                              "\"pool_block_timeout\".");
    }
    hvi_error_where(error, server, -1);
    return HV_TIMEOUT;
}

/* The moment when a waiter should see whether the server takes connections again. */
static int64_t next_attempt(const hvi_pool *pool) {
    return pool->held_back && !pool->probing && has_free_slot(pool) ? pool->retry_at : HVI_NEVER;
}

/* Under the lock, which is released meanwhile: wait for a signal, or until this moment. */
static void wait_until(hvi_pool *pool, pthread_cond_t *wake, int64_t moment) {
    struct timespec until = hvi_deadline_timespec(moment);
    if (moment == HVI_NEVER)
        pthread_cond_wait(wake, &pool->lock);
    else
        pthread_cond_timedwait(wake, &pool->lock, &until);
}

/* Under the lock, which is released while waiting: stand in line until something comes. */
static hv_status wait_in_line(hvi_pool *pool, int64_t deadline, bool at_front, hvi_waiter *waiter,
                              hv_error **error) {
    int64_t started = hvi_clock_us(), now = started;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&waiter->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    waiter->state = WAITING;
    waiter->session = NULL;
    if (at_front)
        hvi_list_push_front(&pool->waiters, &waiter->link);
    else
        hvi_list_push_back(&pool->waiters, &waiter->link);
    pool->waiting++;
    pool->stats[HV_STAT_WAITS]++;

    while (waiter->state == WAITING && now < deadline) {
        int64_t attempt = next_attempt(pool);
        wait_until(pool, &waiter->wake, attempt < deadline ? attempt : deadline);
        now = hvi_clock_us();
        if (waiter->state == WAITING && now >= next_attempt(pool))
            use_free_slots(pool);
    }
    pool->stats[HV_STAT_WAIT_US] += now - started;
    pthread_cond_destroy(&waiter->wake);
    if (waiter->state != WAITING) /* also when it came together with the deadline */
        return HV_OK;
    hvi_list_remove(&waiter->link);
    pool->waiting--;
    pool->stats[HV_STAT_TIMEOUTS]++;
    return fail_timeout(pool, now - started, error);
}

/*
 * Under the lock: get a session (*session) or a slot to open one in (*session NULL), waiting if
 * there is neither. `again`: the caller's turn had come already.
 */
static hv_status take(hvi_pool *pool, int64_t deadline, bool again, hvi_session **session,
                      hv_error **error) {
    *session = NULL;
    if (pool->closed)
        return fail_closed(error);
    use_free_slots(pool); /* those who wait come first */
    if ((*session = pop_idle(pool)) != NULL)
        return HV_OK;
    if (has_free_slot(pool)) {
        if (may_open(pool)) {
            take_free_slot(pool);
            return HV_OK;
        }
        if (pool->lent_count == 0)
            return fail_held_back(pool, error);
    }
    hvi_waiter waiter;
    hv_status status = wait_in_line(pool, deadline, again, &waiter, error);
    if (status != HV_OK)
        return status;
    if (waiter.state == SENT_AWAY)
        return fail_closed(error);
    if (waiter.state == REFUSED)
        return fail_held_back(pool, error);
    *session = waiter.session;
    return HV_OK;
}

/* A session about to be lent that is of no use: close it and free its slot. */
static void discard_unfit(hvi_pool *pool, hvi_session *session) {
    hvi_list unfit;
    hvi_list_init(&unfit);
    pthread_mutex_lock(&pool->lock);
    unmark_lent(pool, session);
    pool->stats[HV_STAT_LOANS]--;
    pool->closing++;
    hvi_list_push_back(&unfit, &session->link);
    pthread_mutex_unlock(&pool->lock);
    close_and_free(pool, &unfit);
}

/* Close what has expired and, in a forked child, let go of what is the parent's. */
static void tidy_up(hvi_pool *pool) {
    hvi_list expired, orphans;
    hvi_list_init(&expired);
    hvi_list_init(&orphans);
    pthread_mutex_lock(&pool->lock);
    take_expired(pool, hvi_clock_us(), &expired);
    hvi_list_splice_back(&orphans, &pool->orphans);
    pthread_mutex_unlock(&pool->lock);
    close_and_free(pool, &expired);
    abandon_all(&orphans);
}

hv_status hvi_pool_acquire(hvi_pool *pool, int64_t deadline, hvi_session **session,
                           hv_error **error) {
    hvi_session *taken = NULL;
    hv_status status;
    bool again = false;
    tidy_up(pool);
    for (;;) {
        pthread_mutex_lock(&pool->lock);
        status = take(pool, deadline, again, &taken, error);
        unsigned generation = pool->generation;
        pthread_mutex_unlock(&pool->lock);
        if (status != HV_OK)
            break;
        if (taken != NULL) {
            if (!over_lifetime(pool, taken, hvi_clock_us()) && hvi_session_is_fit(taken))
                break;
            discard_unfit(pool, taken);
            again = true;
            continue;
        }
        status = open_in_slot(pool, generation, deadline, &taken, &again, error);
        if (status == HV_OK || !again)
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
    hvi_list closing;
    hvi_list_init(&closing);
    bool keep = hvi_session_reset(session, hvi_deadline_after(RESET_MS));
    int64_t now = hvi_clock_us();
    keep = keep && !over_lifetime(pool, session, now);

    pthread_mutex_lock(&pool->lock);
    unmark_lent(pool, session);
    if (!keep || pool->closed || session->generation != pool->generation) {
        hvi_list_push_back(&closing, &session->link);
        pool->closing++;
    } else if (!serve(pool, SERVED, session)) {
        session->idle_since = now;
        hvi_list_push_front(&pool->idle, &session->link);
        pool->idle_count++;
    }
    take_expired(pool, now, &closing);
    pthread_mutex_unlock(&pool->lock);
    close_and_free(pool, &closing);
}

/* ---- borrowers of the connection itself ---- */

void hvi_pool_lend(hvi_pool *pool, hvi_session *session) {
    hvi_session_prepare_lending(session);
    pthread_mutex_lock(&pool->lock);
    session->borrowed = true;
    pthread_mutex_unlock(&pool->lock);
}

static hvi_session *find_borrowed(hvi_list *sessions, const PGconn *conn) {
    hvi_list_foreach (node, sessions)
        if (session_of(node)->conn == conn && session_of(node)->borrowed)
            return session_of(node);
    return NULL;
}

bool hvi_pool_handle(hvi_pool *pool, const PGconn *conn, void **handle) {
    pthread_mutex_lock(&pool->lock);
    hvi_session *session = find_borrowed(&pool->lent, conn);
    if (session != NULL)
        *handle = session->handle;
    pthread_mutex_unlock(&pool->lock);
    return session != NULL;
}

bool hvi_pool_take_back(hvi_pool *pool, const PGconn *conn) {
    pthread_mutex_lock(&pool->lock);
    hvi_session *session = find_borrowed(&pool->lent, conn);
    if (session != NULL)
        session->borrowed = false; /* from now on, to return it again is an error */
    hvi_session *inherited = find_borrowed(&pool->inherited, conn);
    if (inherited != NULL)
        hvi_list_remove(&inherited->link);
    pthread_mutex_unlock(&pool->lock);
    if (session != NULL)
        hvi_pool_release(pool, session);
    if (inherited != NULL)
        hvi_session_abandon(inherited);
    return session != NULL || inherited != NULL;
}

/* ---- the pool as a whole ---- */

/* Under the lock: take all idle sessions out; their slots are closing. */
static void take_idle(hvi_pool *pool, hvi_list *taken) {
    hvi_list_splice_back(taken, &pool->idle);
    pool->closing += pool->idle_count;
    pool->idle_count = 0;
}

void hvi_pool_disconnect(hvi_pool *pool, bool anew) {
    hvi_list taken;
    hvi_list_init(&taken);
    pthread_mutex_lock(&pool->lock);
    pool->generation++;
    take_idle(pool, &taken);
    pthread_mutex_unlock(&pool->lock);
    close_and_free(pool, &taken);
    if (!anew)
        return;
    pthread_mutex_lock(&pool->lock);
    memset(pool->stats, 0, sizeof pool->stats);
    pool->held_back = false;
    use_free_slots(pool);
    pthread_mutex_unlock(&pool->lock);
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
    close_and_free(pool, &taken);
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
        value = pool->idle_count + pool->lent_count + pool->opening + pool->closing;
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
