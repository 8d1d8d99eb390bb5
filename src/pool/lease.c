/*
 * lease: borrow a session from a pool without ever waiting.
 */
#include "pool/lease.h"

#include <sys/epoll.h>

#include "base/clock.h"

/* How often a session whose socket cannot be watched is tried. */
#define POLL_US 1000

void hvi_lease_init(hvi_lease *lease, hvi_pool *pool, int epoll, int event, void *watcher) {
    *lease = (hvi_lease){.pool = pool, .epoll = epoll, .event = event, .watcher = watcher};
    lease->watched = -1;
}

/* ---- watching ---- */

static void unwatch(hvi_lease *lease) {
    if (lease->watched >= 0)
        epoll_ctl(lease->epoll, EPOLL_CTL_DEL, lease->watched, NULL);
    lease->watched = -1;
    lease->wants = HVI_WANTS_NOTHING;
    lease->is_polled = false;
}

static void watch(hvi_lease *lease, int fd, hvi_wants wants) {
    struct epoll_event event = {
        .events = wants == HVI_WANTS_WRITE ? EPOLLIN | EPOLLOUT : EPOLLIN,
        .data.ptr = lease->watcher,
    };
    if (lease->watched == fd && lease->wants == wants)
        return;
    bool is_new = lease->watched < 0;
    lease->watched = fd;
    lease->wants = wants;
    lease->is_polled =
        epoll_ctl(lease->epoll, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) != 0;
}

void hvi_lease_watch(hvi_lease *lease, hvi_wants wants) {
    int fd = PQsocket(lease->session->conn);
    if (fd < 0) /* libpq has closed it, and its number may be another thread's descriptor by now */
        lease->watched = -1;
    if (fd < 0 || wants == HVI_WANTS_NOTHING)
        unwatch(lease);
    else
        watch(lease, fd, wants);
}

/* ---- borrowing ---- */

static void enqueue(hvi_lease *lease, bool again) {
    hvi_pool_enqueue(lease->pool, &lease->waiter, lease->event, again);
    lease->state = HVI_LEASE_QUEUED;
}

static void lend(hvi_lease *lease, hvi_session *session) {
    lease->session = session;
    lease->state = HVI_LEASE_LENT;
}

/* A session is open, or opening it has failed, or takes too long. */
static hv_status finish_opening(hvi_lease *lease, hv_error **error) {
    hvi_session *session = NULL;
    hv_error *cause = NULL;
    bool again = false;
    unwatch(lease);
    lease->state = HVI_LEASE_NONE;
    hv_status status =
        hvi_pool_finish_opening(lease->pool, &lease->opening, &session, &again, &cause);
    if (status == HV_OK) {
        lend(lease, session);
    } else if (again && lease->queue_deadline > hvi_clock_us()) {
        enqueue(lease, true);
        status = HV_OK;
    }
    if (status != HV_OK)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    return HV_OK;
}

static hv_status go_on_opening(hvi_lease *lease, hv_error **error) {
    hvi_opening *opening = &lease->opening.opening;
    if (lease->opening_deadline <= hvi_clock_us())
        return finish_opening(lease, error);
    unwatch(lease); /* the descriptor may be closed in this step */
    hvi_wants wants = hvi_opening_advance(opening);
    if (wants == HVI_WANTS_NOTHING)
        return finish_opening(lease, error);
    watch(lease, hvi_opening_fd(opening), wants);
    return HV_OK;
}

/* Use what the pool gave. */
static hv_status use_turn(hvi_lease *lease, hvi_turn turn, hvi_session *session, hv_error **cause,
                          hv_error **error) {
    switch (turn) {
    case HVI_TURN_SESSION:
        lend(lease, session);
        break;
    case HVI_TURN_OPEN:
        lease->state = HVI_LEASE_OPENING;
        lease->opening_deadline = hvi_deadline_after(lease->opening_timeout);
        hvi_pool_start_opening(lease->pool, &lease->opening, lease->opening_deadline);
        return go_on_opening(lease, error);
    case HVI_TURN_WAIT:
        if (lease->waiter.is_queued)
            lease->state = HVI_LEASE_QUEUED;
        else if (lease->queue_deadline > hvi_clock_us())
            enqueue(lease, false);
        break;
    default:
        return hvi_error_move(error, cause);
    }
    return HV_OK;
}

hv_status hvi_lease_start(hvi_lease *lease, int64_t queue_timeout, int64_t opening_timeout,
                          hv_error **error) {
    hvi_session *session = NULL;
    hv_error *cause = NULL;
    lease->queue_deadline = hvi_deadline_after(queue_timeout);
    lease->opening_timeout = opening_timeout;
    hvi_turn turn = hvi_pool_try(lease->pool, true, &session, &cause);
    return use_turn(lease, turn, session, &cause, error);
}

static hv_status poll_queue(hvi_lease *lease, hv_error **error) {
    hvi_session *session = NULL;
    hv_error *cause = NULL;
    if (lease->queue_deadline <= hvi_clock_us()) {
        lease->state = HVI_LEASE_NONE;
        return hvi_pool_dequeue(lease->pool, &lease->waiter, error);
    }
    hvi_turn turn = hvi_pool_poll(lease->pool, &lease->waiter, &session, &cause);
    lease->state = HVI_LEASE_NONE;
    return use_turn(lease, turn, session, &cause, error);
}

hv_status hvi_lease_advance(hvi_lease *lease, hv_error **error) {
    if (lease->state == HVI_LEASE_QUEUED)
        return poll_queue(lease, error);
    if (lease->state == HVI_LEASE_OPENING)
        return go_on_opening(lease, error);
    return HV_OK;
}

static int64_t earlier(int64_t one, int64_t other) {
    return one < other ? one : other;
}

int64_t hvi_lease_next(const hvi_lease *lease) {
    int64_t moment = HVI_NEVER;
    if (lease->state == HVI_LEASE_QUEUED)
        moment = earlier(lease->queue_deadline, lease->waiter.poll_at);
    else if (lease->state == HVI_LEASE_OPENING)
        moment = earlier(lease->opening_deadline, hvi_opening_next(&lease->opening.opening));
    return lease->is_polled ? earlier(moment, hvi_clock_us() + POLL_US) : moment;
}

/* ---- the end ---- */

void hvi_lease_end(hvi_lease *lease) {
    hvi_session *session = lease->session;
    if (lease->state == HVI_LEASE_LENT)
        hvi_lease_watch(lease, HVI_WANTS_NOTHING);
    else
        unwatch(lease);
    if (lease->state == HVI_LEASE_QUEUED)
        hvi_pool_dequeue(lease->pool, &lease->waiter, NULL);
    else if (lease->state == HVI_LEASE_OPENING)
        hvi_pool_cancel_opening(lease->pool, &lease->opening);
    lease->state = HVI_LEASE_NONE;
    lease->session = NULL;
    if (session != NULL)
        hvi_pool_release(lease->pool, session);
}

void hvi_lease_forget(hvi_lease *lease) {
    if (lease->state == HVI_LEASE_OPENING)
        hvi_opening_disown(&lease->opening.opening);
    lease->state = HVI_LEASE_NONE;
    lease->session = NULL;
}
