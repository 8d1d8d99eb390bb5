/*
 * port: one server's part of a queue.
 *
 * How an operation goes through a port:
 *
 *     add ──► waiting ──┬──► batch ──► done
 *               ▲       │     │ │ │
 *               │       │     │ │ └── apart ───► batch, in a transaction of its own
 *               ├───────┼─────┘ │
 *               ├─────paused ◄──┘
 *               └─ or in another port, if its shard has moved (hvi_ports_shared.moving)
 *
 * A session is borrowed for one batch and returned after it: others that wait in the pool's queue
 * have their turn between two batches. While one batch is running, a second one goes only if a
 * session is free at once; while none is, the port waits in the pool's queue like any caller.
 *
 * Holds always: operations in `waiting` and `apart` are in no batch and not done, and those with
 * the earliest deadlines are first; a port that waits in the pool's queue has no connection that is
 * running.
 */
#include "store/port.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/clock.h"

/* How many pieces of an answer are read after its time, each of 16 kB or more. */
#define LAST_READS 256

static hvi_queued *queued_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_queued, link);
}

void hvi_port_init(hvi_port *port, hvi_ports_shared *shared, hvi_pool *pool, int64_t block_timeout,
                   int epoll, int event) {
    *port = (hvi_port){.shared = shared,
                       .pool = pool,
                       .block_timeout = block_timeout,
                       .epoll = epoll,
                       .event = event};
    hvi_list_init(&port->waiting);
    hvi_list_init(&port->apart);
    hvi_list_init(&port->paused);
    hvi_list_init(&port->done);
    for (int i = 0; i < HVI_PORT_CONNECTIONS; i++)
        port->connections[i].watched = -1;
}

/* A connection in this state, or NULL. */
static hvi_port_connection *find(hvi_port *port, int state) {
    for (int i = 0; i < HVI_PORT_CONNECTIONS; i++)
        if ((int) port->connections[i].state == state)
            return &port->connections[i];
    return NULL;
}

static bool has_connection(hvi_port *port, int state) {
    return find(port, state) != NULL;
}

static bool is_in_use(hvi_port *port) {
    return has_connection(port, HVI_PORT_OPENING) || has_connection(port, HVI_PORT_RUNNING);
}

/* May one of these be sent in a new batch? */
static bool has_ready(const hvi_port *port, const hvi_list *list) {
    hvi_list_foreach (node, list)
        if (hvi_key_order_allows(&port->shared->order, &queued_of(node)->place,
                                 port)) /* not a batch */
            return true;
    return false;
}

static bool has_operations(const hvi_port *port) {
    return has_ready(port, &port->waiting) || has_ready(port, &port->apart);
}

/* ---- watching ---- */

static void watch(hvi_port *port, hvi_port_connection *connection, int fd, hvi_wants wants) {
    /* While a connection is opened, the descriptor may be another one with the same number. */
    bool is_same = connection->watched == fd && connection->state == HVI_PORT_RUNNING;
    if (is_same && connection->wants == wants)
        return;
    struct epoll_event event = {
        .events = wants == HVI_WANTS_WRITE ? EPOLLIN | EPOLLOUT : EPOLLIN,
        .data.ptr = connection,
    };
    bool is_new = connection->watched < 0; /* most likely, but see above */
    connection->watched = fd;
    connection->wants = wants;
    if (epoll_ctl(port->epoll, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) != 0 &&
        epoll_ctl(port->epoll, is_new ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0)
        port->is_polled = true;
}

static void unwatch(hvi_port *port, hvi_port_connection *connection) {
    if (connection->watched >= 0)
        epoll_ctl(port->epoll, EPOLL_CTL_DEL, connection->watched, NULL);
    connection->watched = -1;
}

/* ---- operations ---- */

static void note_order(hvi_port *port, const hvi_list *list) {
    hvi_list_foreach (node, list)
        hvi_key_order_add(&port->shared->order, &queued_of(node)->place,
                          &queued_of(node)->operation);
}

/* A new operation: mostly all have the same time, so that the newest has the latest deadline. */
static void put_by_deadline(hvi_list *list, hvi_queued *queued) {
    hvi_list *earlier = list->prev;
    while (earlier != list && queued_of(earlier)->operation.deadline > queued->operation.deadline)
        earlier = earlier->prev;
    hvi_list_insert_after(earlier, &queued->link);
}

void hvi_port_note_order(hvi_port *port) {
    note_order(port, &port->waiting);
    note_order(port, &port->apart);
    note_order(port, &port->paused);
    for (int i = 0; i < HVI_PORT_CONNECTIONS; i++) {
        hvi_port_connection *connection = &port->connections[i];
        for (size_t j = 0; j < connection->count; j++) {
            hvi_queued *queued = connection->queued[j];
            if (queued->state != HVI_QUEUED_IN_FLIGHT)
                continue;
            hvi_key_order_add(&port->shared->order, &queued->place, &queued->operation);
            queued->place.batch = connection;
        }
    }
}

void hvi_port_add(hvi_port *port, hvi_queued *queued) {
    put_by_deadline(&port->waiting, queued);
    hvi_key_order_add(&port->shared->order, &queued->place, &queued->operation);
}

/* Has the operation to go to another server, after its shard? */
static bool is_elsewhere(const hvi_port *port, const hvi_queued *queued) {
    return &queued->operation.target.server->pool != port->pool;
}

/* Let an operation wait that has been on its way: its deadline is mostly earlier than those of
 * operations that were added since. */
void hvi_port_add_again(hvi_port *port, hvi_queued *queued) {
    if (is_elsewhere(port, queued)) {
        hvi_list_push_back(&port->shared->moving, &queued->link);
        port->shared->has_moved = port->shared->is_stirred = true;
        return;
    }
    hvi_list *list = queued->operation.apart ? &port->apart : &port->waiting;
    hvi_list *later = list->next;
    while (later != list && queued_of(later)->operation.deadline <= queued->operation.deadline)
        later = later->next;
    hvi_list_push_back(later, &queued->link); /* in front of that */
}

hvi_queued *hvi_port_take(hvi_port *port) {
    hvi_list *node = hvi_list_pop_front(&port->done);
    return node != NULL ? queued_of(node) : NULL;
}

static void free_queued(hvi_queued *queued) {
    hvi_operation_fini(&queued->operation);
    free(queued);
}

void hvi_queued_release(hvi_queued *queued) {
    if (queued->state == HVI_QUEUED_DETACHED)
        queued->state = HVI_QUEUED_RELEASED;
    else
        free_queued(queued);
}

/* For as long as it wants, or until its deadline, which ends it then. */
static void begin_pause(hvi_port *port, hvi_queued *queued) {
    int64_t moment = hvi_clock_us() + queued->operation.pause_ms * INT64_C(1000);
    queued->resume_at = moment < queued->operation.deadline ? moment : queued->operation.deadline;
    if (hvi_list_empty(&port->paused) || queued->resume_at < port->resume_at)
        port->resume_at = queued->resume_at;
    hvi_list_push_back(&port->paused, &queued->link);
}

/* Each at its own time: a pause that another one cuts short would be no pause. */
static void end_pauses(hvi_port *port, int64_t now) {
    port->resume_at = HVI_NEVER;
    hvi_list_foreach (node, &port->paused) {
        hvi_queued *queued = queued_of(node);
        if (queued->resume_at <= now) {
            hvi_list_remove(node);
            hvi_port_add_again(port, queued);
        } else if (queued->resume_at < port->resume_at) {
            port->resume_at = queued->resume_at;
        }
    }
}

/* Put an operation that is in no list into the list for what is next. */
static void put_in_list(hvi_port *port, hvi_queued *queued, hvi_next next) {
    queued->place.batch = NULL;
    if (next == HVI_DONE) {
        /* One on the same key may be waiting in another port, if they have come there by different
         * ways. */
        port->shared->is_stirred = port->shared->has_moved;
        hvi_key_order_remove(&port->shared->order, &queued->place);
        hvi_list_push_back(&port->done, &queued->link);
    } else if (next == HVI_AGAIN) {
        hvi_port_add_again(port, queued);
    } else {
        begin_pause(port, queued);
    }
}

/* The waiting operations that an error concerns: those that wait for a connection to be opened, the
 * others, or all. */
typedef enum concerned { OPENING, NOT_OPENING, ALL } concerned;

/* There is no connection available for these operations. */
static void fail_list(hvi_port *port, hvi_list *list, concerned which, const hv_error *cause) {
    hvi_list_foreach (node, list) {
        hvi_queued *queued = queued_of(node);
        if (which != ALL && queued->waits_for_opening != (which == OPENING))
            continue;
        hvi_list_remove(node);
        queued->operation.item.fate = HVI_FATE_UNSENT;
        queued->operation.item.error = cause;
        put_in_list(port, queued, hvi_operation_take(&queued->operation));
    }
}

/* Takes *cause. */
static void fail_waiting(hvi_port *port, concerned which, hv_error **cause) {
    fail_list(port, &port->waiting, which, *cause);
    fail_list(port, &port->apart, which, *cause);
    hv_error_free(*cause);
    *cause = NULL;
}

/* End the operations at the front of the list that are late. */
static void expire_list(hvi_port *port, hvi_list *list, int64_t now) {
    while (!hvi_list_empty(list) && queued_of(list->next)->operation.deadline <= now) {
        hvi_queued *queued = queued_of(hvi_list_pop_front(list));
        put_in_list(port, queued, hvi_operation_late(&queued->operation, false));
    }
}

/* ---- batches ---- */

/* Take operations from the front of the list, as many as fit and may be sent together. */
static void load(hvi_port *port, hvi_port_connection *connection, hvi_list *from) {
    size_t bytes = 0;
    connection->count = 0;
    connection->deadline = HVI_NEVER;
    hvi_list_foreach (node, from) {
        hvi_queued *queued = queued_of(node);
        hvi_operation *operation = &queued->operation;
        if (connection->count == HVI_PORT_MAX_OPERATIONS)
            break;
        if (!hvi_key_order_allows(&port->shared->order, &queued->place, connection))
            continue;
        bytes += operation->item.body_len;
        if (connection->count > 0 && bytes > HVI_PORT_MAX_BYTES)
            break;
        hvi_list_remove(&queued->link);
        hvi_operation_prepare(operation);
        queued->place.batch = connection;
        queued->waits_for_opening = false;
        queued->state = HVI_QUEUED_IN_FLIGHT;
        connection->items[connection->count] = &operation->item;
        connection->queued[connection->count++] = queued;
        if (operation->deadline < connection->deadline)
            connection->deadline = operation->deadline;
    }
}

/* The batch is over, or given up: return the session, and see what is next for each operation. */
static void unload(hvi_port *port, hvi_port_connection *connection) {
    unwatch(port, connection);
    hvi_batch_finish(&connection->batch);
    hvi_pool_release(port->pool, connection->session);
    connection->session = NULL;
    connection->state = HVI_PORT_IDLE;
    for (size_t i = 0; i < connection->count; i++) {
        hvi_queued *queued = connection->queued[i];
        if (queued->state == HVI_QUEUED_RELEASED) {
            free_queued(queued);
            continue;
        }
        if (queued->state == HVI_QUEUED_IN_FLIGHT)
            put_in_list(port, queued, hvi_operation_take(&queued->operation));
        queued->state = HVI_QUEUED_LISTED;
    }
    hvi_batch_fini(&connection->batch);
    connection->count = 0;
}

static void go_on(hvi_port *port, hvi_port_connection *connection) {
    hvi_wants wants = hvi_batch_advance(&connection->batch);
    int fd = PQsocket(connection->session->conn);
    if (fd < 0) /* libpq has closed it, and its number may be another thread's descriptor by now */
        connection->watched = -1;
    if (wants == HVI_WANTS_NOTHING)
        unload(port, connection);
    else
        watch(port, connection, fd, wants);
}

/* A session is there: send the operations that wait. */
static void send(hvi_port *port, hvi_port_connection *connection, hvi_session *session) {
    bool apart = has_ready(port, &port->apart);
    connection->state = HVI_PORT_IDLE;
    if (!has_operations(port)) { /* the operations that it was for are late */
        hvi_pool_release(port->pool, session);
        return;
    }
    load(port, connection, apart ? &port->apart : &port->waiting);
    connection->state = HVI_PORT_RUNNING;
    connection->session = session;
    hvi_batch_init(&connection->batch, connection->items, connection->count);
    hvi_batch_start(&connection->batch, session, apart);
    go_on(port, connection);
}

/* End those operations of a running batch that are late. True if there is nothing left to wait for,
 * or nothing has been sent yet: then the batch is to be given up. */
static bool expire_batch(hvi_port *port, hvi_port_connection *connection, int64_t now) {
    if (connection->deadline > now)
        return false;
    if (!hvi_batch_is_sent(&connection->batch)) /* then nothing of it will have happened */
        return true;
    size_t left = 0;
    connection->deadline = HVI_NEVER;
    for (size_t i = 0; i < connection->count; i++) {
        hvi_queued *queued = connection->queued[i];
        if (queued->state != HVI_QUEUED_IN_FLIGHT)
            continue;
        if (queued->operation.deadline <= now) {
            put_in_list(port, queued, hvi_operation_late(&queued->operation, true));
            queued->state = HVI_QUEUED_DETACHED;
            continue;
        }
        left++;
        if (queued->operation.deadline < connection->deadline)
            connection->deadline = queued->operation.deadline;
    }
    return left == 0;
}

/* ---- sessions ---- */

static void enqueue(hvi_port *port, bool again) {
    hvi_pool_enqueue(port->pool, &port->waiter, port->event, again);
    port->waiter_deadline = hvi_deadline_after(port->block_timeout);
}

/* A session is open, or opening it has failed. */
static void finish_opening(hvi_port *port, hvi_port_connection *connection) {
    hvi_session *session = NULL;
    hv_error *cause = NULL;
    bool again = false;
    unwatch(port, connection);
    connection->state = HVI_PORT_IDLE;
    if (hvi_pool_finish_opening(port->pool, &connection->opening, &session, &again, &cause) ==
        HV_OK) {
        send(port, connection, session);
    } else if (again && !is_in_use(port)) {
        enqueue(port, true);
    } else if (!again && !has_connection(port, HVI_PORT_RUNNING)) {
        fail_waiting(port, OPENING, &cause);
    }
    hv_error_free(cause);
}

static void go_on_opening(hvi_port *port, hvi_port_connection *connection) {
    hvi_opening *opening = &connection->opening.opening;
    unwatch(port, connection); /* the descriptor may be closed in this step */
    hvi_wants wants = hvi_opening_advance(opening);
    if (wants == HVI_WANTS_NOTHING)
        finish_opening(port, connection);
    else
        watch(port, connection, hvi_opening_fd(opening), wants);
}

static void open_session(hvi_port *port, hvi_port_connection *connection) {
    hvi_list_foreach (node, &port->waiting)
        queued_of(node)->waits_for_opening = true;
    hvi_list_foreach (node, &port->apart)
        queued_of(node)->waits_for_opening = true;
    connection->state = HVI_PORT_OPENING;
    connection->opening_deadline = hvi_deadline_after(port->block_timeout);
    hvi_pool_start_opening(port->pool, &connection->opening, connection->opening_deadline);
    go_on_opening(port, connection);
}

/* Use what the pool gave for this connection. Takes *cause. */
static void use_turn(hvi_port *port, hvi_port_connection *connection, hvi_turn turn,
                     hvi_session *session, hv_error **cause) {
    switch (turn) {
    case HVI_TURN_SESSION:
        send(port, connection, session);
        break;
    case HVI_TURN_OPEN:
        open_session(port, connection);
        break;
    case HVI_TURN_WAIT:
        if (!is_in_use(port) && !port->waiter.is_queued)
            enqueue(port, false);
        break;
    default: /* some may be waiting for a connection that is being opened */
        fail_waiting(port, has_connection(port, HVI_PORT_OPENING) ? NOT_OPENING : ALL, cause);
    }
}

/* ---- events ---- */

void hvi_port_step(hvi_port *port, hvi_port_connection *connection) {
    if (connection->state == HVI_PORT_OPENING)
        go_on_opening(port, connection);
    else if (connection->state == HVI_PORT_RUNNING)
        go_on(port, connection);
}

void hvi_port_poll(hvi_port *port) {
    if (!port->waiter.is_queued)
        return;
    hvi_session *session = NULL;
    hv_error *cause = NULL;
    hvi_turn turn = hvi_pool_poll(port->pool, &port->waiter, &session, &cause);
    if (turn != HVI_TURN_WAIT)
        use_turn(port, find(port, HVI_PORT_IDLE), turn, session, &cause);
}

/*
 * Time is over, but what has arrived by now still counts: this process may not have been running.
 * Nothing more is sent. A server that sends without end is not listened to for ever.
 */
static void read_arrived(hvi_port *port, hvi_port_connection *connection, int64_t now) {
    connection->batch.deadline = now;
    for (int i = 0; i < LAST_READS && connection->state == HVI_PORT_RUNNING; i++) {
        int fd = PQsocket(connection->session->conn);
        if (fd < 0 || (hvi_events_now(fd, POLLIN) & POLLIN) == 0)
            return;
        go_on(port, connection);
    }
}

static void expire(hvi_port *port, int64_t now) {
    hv_error *cause = NULL;
    if (!hvi_list_empty(&port->paused) && port->resume_at <= now)
        end_pauses(port, now);
    expire_list(port, &port->waiting, now);
    expire_list(port, &port->apart, now);
    for (int i = 0; i < HVI_PORT_CONNECTIONS; i++) {
        hvi_port_connection *connection = &port->connections[i];
        if (connection->state == HVI_PORT_OPENING && connection->opening_deadline <= now)
            finish_opening(port, connection);
        else if (connection->state == HVI_PORT_OPENING &&
                 hvi_opening_next(&connection->opening.opening) <= now)
            go_on_opening(port, connection);
        else if (connection->state == HVI_PORT_RUNNING && connection->deadline <= now)
            read_arrived(port, connection, now);
        if (connection->state == HVI_PORT_RUNNING && expire_batch(port, connection, now))
            unload(port, connection);
    }
    if (!port->waiter.is_queued)
        return;
    if (port->waiter_deadline <= now) {
        hvi_pool_dequeue(port->pool, &port->waiter, &cause);
        fail_waiting(port, ALL, &cause);
    } else if (!has_operations(port)) {
        hvi_pool_dequeue(port->pool, &port->waiter, NULL);
    } else if (port->waiter.poll_at <= now) {
        hvi_port_poll(port);
    }
}

void hvi_port_pump(hvi_port *port) {
    hvi_port_connection *connection;
    hvi_turn turn = HVI_TURN_SESSION;
    expire(port, hvi_clock_us());
    while (turn == HVI_TURN_SESSION && has_operations(port) && !port->waiter.is_queued &&
           (connection = find(port, HVI_PORT_IDLE)) != NULL) {
        hvi_session *session = NULL;
        hv_error *cause = NULL;
        bool may_open = !has_connection(port, HVI_PORT_OPENING); /* one at a time */
        turn = hvi_pool_try(port->pool, may_open, &session, &cause);
        use_turn(port, connection, turn, session, &cause);
        hv_error_free(cause);
    }
}

bool hvi_port_is_idle(const hvi_port *port) {
    bool is_idle = hvi_list_empty(&port->waiting) && hvi_list_empty(&port->apart) &&
                   hvi_list_empty(&port->paused) && hvi_list_empty(&port->done) &&
                   !port->waiter.is_queued;
    for (int i = 0; i < HVI_PORT_CONNECTIONS; i++)
        is_idle = is_idle && port->connections[i].state == HVI_PORT_IDLE;
    return is_idle;
}

static void postpone(int64_t *deadline, int64_t us) {
    if (*deadline < HVI_NEVER - us)
        *deadline += us;
}

static void postpone_list(const hvi_list *list, int64_t us) {
    hvi_list_foreach (node, list)
        postpone(&queued_of(node)->operation.deadline, us);
}

void hvi_port_postpone(hvi_port *port, int64_t us) {
    postpone_list(&port->waiting, us);
    postpone_list(&port->apart, us);
    postpone_list(&port->paused, us);
    if (port->waiter.is_queued)
        postpone(&port->waiter_deadline, us);
    for (int i = 0; i < HVI_PORT_CONNECTIONS; i++) {
        hvi_port_connection *connection = &port->connections[i];
        for (size_t j = 0; j < connection->count; j++)
            postpone(&connection->queued[j]->operation.deadline, us);
        if (connection->state == HVI_PORT_RUNNING)
            postpone(&connection->deadline, us);
    }
}

static void make_late(const hvi_list *list) {
    hvi_list_foreach (node, list)
        queued_of(node)->operation.deadline = queued_of(node)->resume_at = 0;
}

void hvi_port_expire(hvi_port *port) {
    make_late(&port->waiting);
    make_late(&port->apart);
    make_late(&port->paused);
    port->resume_at = 0;
    for (int i = 0; i < HVI_PORT_CONNECTIONS; i++) {
        hvi_port_connection *connection = &port->connections[i];
        connection->opening_deadline = 0;
        for (size_t j = 0; j < connection->count; j++)
            connection->queued[j]->operation.deadline = 0;
        connection->deadline = 0;
    }
    hvi_port_pump(port);
}

static void keep_earlier(int64_t *moment, int64_t other) {
    if (other < *moment)
        *moment = other;
}

int64_t hvi_port_next(const hvi_port *port) {
    int64_t moment = HVI_NEVER;
    if (!hvi_list_empty(&port->waiting))
        keep_earlier(&moment, queued_of(port->waiting.next)->operation.deadline);
    if (!hvi_list_empty(&port->apart))
        keep_earlier(&moment, queued_of(port->apart.next)->operation.deadline);
    if (!hvi_list_empty(&port->paused))
        keep_earlier(&moment, port->resume_at);
    if (port->waiter.is_queued) {
        keep_earlier(&moment, port->waiter_deadline);
        keep_earlier(&moment, port->waiter.poll_at);
    }
    for (int i = 0; i < HVI_PORT_CONNECTIONS; i++) {
        const hvi_port_connection *connection = &port->connections[i];
        if (connection->state == HVI_PORT_OPENING) {
            keep_earlier(&moment, connection->opening_deadline);
            keep_earlier(&moment, hvi_opening_next(&connection->opening.opening));
        } else if (connection->state == HVI_PORT_RUNNING) {
            keep_earlier(&moment, connection->deadline);
        }
    }
    return moment;
}

/* ---- the end ---- */

void hvi_queued_release_all(hvi_list *list) {
    hvi_list *node;
    while ((node = hvi_list_pop_front(list)) != NULL)
        hvi_queued_release(queued_of(node));
}

static void free_lists(hvi_port *port) {
    hvi_queued_release_all(&port->waiting);
    hvi_queued_release_all(&port->apart);
    hvi_queued_release_all(&port->paused);
    hvi_queued_release_all(&port->done);
}

void hvi_port_stop(hvi_port *port) {
    if (port->waiter.is_queued)
        hvi_pool_dequeue(port->pool, &port->waiter, NULL);
    for (int i = 0; i < HVI_PORT_CONNECTIONS; i++) {
        hvi_port_connection *connection = &port->connections[i];
        unwatch(port, connection);
        if (connection->state == HVI_PORT_OPENING)
            hvi_pool_cancel_opening(port->pool, &connection->opening);
        else if (connection->state == HVI_PORT_RUNNING)
            unload(port, connection);
    }
}

void hvi_port_fini(hvi_port *port) {
    free_lists(port);
}

void hvi_port_forget(hvi_port *port) {
    free_lists(port); /* first those that are done: a batch may hold their memory */
    for (int i = 0; i < HVI_PORT_CONNECTIONS; i++) {
        hvi_port_connection *connection = &port->connections[i];
        if (connection->state == HVI_PORT_OPENING)
            hvi_opening_disown(&connection->opening.opening);
        if (connection->state != HVI_PORT_RUNNING)
            continue;
        hvi_batch_forget(&connection->batch);
        hvi_batch_fini(&connection->batch);
        for (size_t j = 0; j < connection->count; j++)
            free_queued(connection->queued[j]);
    }
}
