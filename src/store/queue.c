/*
 * queue: any number of operations from one thread.
 *
 * A queue counts itself among the store's users as long as it lives.
 *
 * Everything that the queue waits for is in one epoll(7) instance: the sockets of its ports, a
 * timerfd(2) for the next deadline, and an eventfd(2) by which pools signal news. An epoll instance
 * can be waited for like any descriptor, so it is all that the queue's user needs.
 *
 * Holds always, outside the queue's functions, once its user has asked for the descriptor: the
 * timer is set to the moment when something must be done; that is now if there are new operations.
 */
#include "store/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/parked.h"
#include "store/port.h"

#define MAX_EVENTS 64

/* How often a queue tries all its sockets if the system cannot watch one. */
#define POLL_US 1000

struct hv_queue {
    hv_store *store;
    hv_done_fn done;
    void *context;       /* the user's */
    unsigned generation; /* hvi_fork_generation() when it was made */
    int epoll;
    int timer;
    int event;
    hvi_port *ports; /* one per server; owned */
    int port_count;
    hvi_ports_shared shared;
    hvi_parked parked; /* operations that have no port yet */
    size_t pending;
    size_t bytes;     /* of bodies */
    size_t finished;  /* counts operations that are done */
    bool in_use;      /* hv_queue_advance() is running */
    bool has_news;    /* there are operations that were not pumped yet */
    bool is_watched;  /* its user may wait for the descriptor: the timer is kept */
    hv_queue *self;   /* for hv_queue_fd(), whose argument is const */
    int64_t timer_at; /* what the timer is set to */
    int64_t wake_at;  /* when its user wants to go on, or HVI_NEVER */
};

/* ---- the timer ---- */

static void set_timer(hv_queue *queue, int64_t moment) {
    if (!queue->is_watched || moment == queue->timer_at)
        return;
    struct itimerspec when = {0}; /* all zero: never */
    queue->timer_at = moment;
    if (moment != HVI_NEVER) {
        when.it_value = hvi_deadline_timespec(moment);
        if (when.it_value.tv_sec == 0 && when.it_value.tv_nsec == 0)
            when.it_value.tv_nsec = 1;
    }
    timerfd_settime(queue->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* The moment when the queue must be advanced, whatever else happens. */
static int64_t next_moment(const hv_queue *queue) {
    if (queue->has_news)
        return 0;
    int64_t moment = queue->wake_at;
    int64_t parked = hvi_parked_next(&queue->parked);
    if (parked < moment)
        moment = parked;
    for (int i = 0; i < queue->port_count; i++) {
        const hvi_port *port = &queue->ports[i];
        int64_t next = port->is_polled ? hvi_clock_us() + POLL_US : hvi_port_next(port);
        if (next < moment)
            moment = next;
    }
    return moment;
}

/* ---- life ---- */

static bool is_foreign(const hv_queue *queue) {
    return hvi_store_is_foreign(queue->generation);
}

/* The timer and the event have their fields' addresses as data; connections have their own. */
static bool open_descriptors(hv_queue *queue) {
    struct epoll_event timer = {.events = EPOLLIN, .data.ptr = &queue->timer};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &queue->event};
    queue->epoll = epoll_create1(EPOLL_CLOEXEC);
    queue->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    queue->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return queue->epoll >= 0 && queue->timer >= 0 && queue->event >= 0 &&
           epoll_ctl(queue->epoll, EPOLL_CTL_ADD, queue->timer, &timer) == 0 &&
           epoll_ctl(queue->epoll, EPOLL_CTL_ADD, queue->event, &event) == 0;
}

static void close_descriptors(hv_queue *queue) {
    const int opened[] = {queue->epoll, queue->timer, queue->event};
    for (size_t i = 0; i < sizeof opened / sizeof opened[0]; i++)
        if (opened[i] >= 0)
            close(opened[i]);
}

static hv_status fail_descriptors(hv_error **error) {
    hvi_fail(error, HV_NO_MEMORY, "no file descriptors for a queue");
    hvi_error_detail(error, "%s", strerror(errno));
    hvi_error_hint(error, "Close files, or raise the limit on open ones (ulimit -n).");
    return HV_NO_MEMORY;
}

static void free_queue(hv_queue *queue) {
    close_descriptors(queue);
    free(queue->ports);
    free(queue);
}

static hv_status make_queue(hv_store *store, hv_queue **queue, hv_error **error) {
    hvi_router *router = &store->router;
    hv_queue *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    *made = (hv_queue){.store = store, .epoll = -1, .timer = -1, .event = -1, .self = made};
    made->generation = hvi_fork_generation();
    made->timer_at = made->wake_at = HVI_NEVER;
    hvi_list_init(&made->shared.moving);
    made->ports = calloc((size_t) router->server_count, sizeof *made->ports);
    bool has_descriptors = open_descriptors(made);
    if (made->ports == NULL || !has_descriptors) {
        hv_status status = made->ports == NULL ? hvi_no_memory(error) : fail_descriptors(error);
        free_queue(made);
        return status;
    }
    hvi_parked_init(&made->parked, &store->locator, made->epoll);
    made->port_count = router->server_count;
    for (int i = 0; i < made->port_count; i++)
        hvi_port_init(&made->ports[i], &made->shared, &router->servers[i].pool,
                      router->options->values[HVI_POOL_BLOCK_TIMEOUT], made->epoll, made->event);
    *queue = made;
    return HV_OK;
}

hv_status hv_queue_new(hv_store *store, hv_done_fn done, void *context, hv_queue **queue,
                       hv_error **error) {
    hvi_visit visit;
    hv_queue *made = NULL;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = make_queue(store, &made, error);
    if (status == HV_OK) {
        made->done = done;
        made->context = context;
        *queue = made;
    }
    return hvi_store_leave_object(&visit, status);
}

/* Whether it is this process's or, in a child, the parent's. */
static void end_queue(hv_queue *queue, bool foreign) {
    if (foreign)
        hvi_parked_forget(&queue->parked);
    else
        hvi_parked_fini(&queue->parked);
    for (int i = 0; i < queue->port_count && !foreign; i++)
        hvi_port_stop(&queue->ports[i]);
    for (int i = 0; i < queue->port_count; i++) {
        if (foreign)
            hvi_port_forget(&queue->ports[i]);
        else
            hvi_port_fini(&queue->ports[i]);
    }
    hvi_queued_release_all(&queue->shared.moving);
    hvi_key_order_fini(&queue->shared.order);
    free_queue(queue);
}

void hv_queue_free(hv_queue *queue) {
    if (queue == NULL)
        return;
    hv_store *store = queue->store;
    bool foreign = is_foreign(queue);
    end_queue(queue, foreign);
    if (!foreign)
        hvi_store_drop_object(store);
}

/* ---- a spare one ---- */

hv_status hvi_queue_borrow(hv_store *store, hv_done_fn done, void *context, hv_queue **queue,
                           hv_error **error) {
    hv_queue *spare = atomic_exchange(&store->spare, NULL);
    if (spare != NULL && is_foreign(spare)) {
        end_queue(spare, true);
        spare = NULL;
    }
    if (spare == NULL)
        return hv_queue_new(store, done, context, queue, error);
    atomic_fetch_add(&store->users, 1);
    spare->done = done;
    spare->context = context;
    *queue = spare;
    return HV_OK;
}

/* Is nothing on its way, not even a connection? */
static bool is_idle(const hv_queue *queue) {
    for (int i = 0; i < queue->port_count; i++)
        if (!hvi_port_is_idle(&queue->ports[i]))
            return false;
    return queue->pending == 0 && hvi_parked_is_empty(&queue->parked);
}

void hvi_queue_return(hv_queue *queue) {
    hv_store *store = queue->store;
    hv_queue *none = NULL;
    if (is_foreign(queue) || !is_idle(queue)) {
        hv_queue_free(queue);
        return;
    }
    queue->wake_at = HVI_NEVER;
    set_timer(queue, HVI_NEVER);
    queue->is_watched = false;
    if (atomic_compare_exchange_strong(&store->spare, &none, queue))
        hvi_store_drop_object(store);
    else
        hv_queue_free(queue);
}

void hvi_queue_free_spare(hv_store *store) {
    hv_queue *spare = atomic_exchange(&store->spare, NULL);
    if (spare != NULL)
        end_queue(spare, is_foreign(spare));
}

/* ---- adding ---- */

hv_status hvi_queue_check(const hv_queue *queue, hv_error **error) {
    if (is_foreign(queue)) {
        hvi_fail(error, HV_INVALID, "the queue is another process's");
        hvi_error_hint(error, "Make a queue of its own in each process.");
        return HV_INVALID;
    }
    if (atomic_load(&queue->store->closed))
        return hvi_fail(error, HV_CLOSED, "the store is closed");
    return HV_OK;
}

/* Keep the order of operations on a key, if that is not done yet. False if memory is short. */
static bool begin_order(hv_queue *queue) {
    if (queue->shared.order.buckets != NULL)
        return true;
    if (!hvi_key_order_begin(&queue->shared.order))
        return false;
    for (int i = 0; i < queue->port_count; i++)
        hvi_port_note_order(&queue->ports[i]);
    return true;
}

static hvi_port *port_for(hv_queue *queue, const hvi_queued *queued) {
    return &queue->ports[queued->operation.target.server->number];
}

/* Give the operations whose shards have moved to the ports of the servers that have them. */
static void pass_on(hv_queue *queue) {
    hvi_list *node;
    while ((node = hvi_list_pop_front(&queue->shared.moving)) != NULL) {
        hvi_queued *queued = hvi_list_entry(node, hvi_queued, link);
        hvi_port_add_again(port_for(queue, queued), queued);
    }
}

/* False if memory is short. */
static bool add_to_port(hv_queue *queue, hvi_queued *queued) {
    if (hvi_key_order_matters(&queued->operation) && !begin_order(queue))
        return false;
    hvi_port_add(port_for(queue, queued), queued);
    return true;
}

/* As hvi_queue_add(). */
static hv_status add(hv_queue *queue, hvi_operation *operation, hv_status status, int64_t deadline,
                     void *tag, hv_error **error) {
    hvi_queued *made = status == HV_OK ? malloc(sizeof *made) : NULL;
    if (made == NULL) {
        hvi_operation_fini(operation);
        return status == HV_OK ? hvi_no_memory(error) : status;
    }
    *made = (hvi_queued){.operation = *operation, .tag = tag};
    made->operation.deadline = deadline;
    if (hvi_parked_wants(&queue->parked, operation)) {
        hvi_parked_add(&queue->parked, made);
    } else if (!add_to_port(queue, made)) {
        hvi_operation_fini(operation);
        free(made);
        return hvi_no_memory(error);
    }
    queue->pending++;
    queue->bytes += operation->item.body_len;
    queue->has_news = true;
    if (!queue->in_use)
        set_timer(queue, 0);
    return HV_OK;
}

hv_status hvi_queue_add(hv_queue *queue, hvi_operation *operation, hv_status status, void *tag,
                        hv_error **error) {
    int64_t deadline = hvi_router_operation_deadline(&queue->store->router);
    return add(queue, operation, status, deadline, tag, error);
}

hv_status hvi_queue_add_until(hv_queue *queue, hvi_operation *operation, int64_t deadline,
                              void *tag, hv_error **error) {
    return add(queue, operation, hvi_queue_check(queue, error), deadline, tag, error);
}

hv_status hvi_queue_add_key(hv_queue *queue, const hvi_verb *verb, int64_t key, void *tag,
                            hv_error **error) {
    hvi_operation op;
    hv_status status = hvi_queue_check(queue, error);
    if (status != HV_OK)
        return status;
    status = hvi_operation_init_key(&op, verb, &queue->store->router, key, error);
    return hvi_queue_add(queue, &op, status, tag, error);
}

int hv_queue_fd(const hv_queue *queue) {
    if (!queue->is_watched && !is_foreign(queue)) {
        queue->self->is_watched = true;
        set_timer(queue->self, next_moment(queue));
    }
    return queue->epoll;
}

size_t hv_queue_pending(const hv_queue *queue) {
    return is_foreign(queue) ? 0 : queue->pending;
}

void hvi_queue_wake_at(hv_queue *queue, int64_t moment) {
    queue->wake_at = moment;
    if (!queue->in_use)
        set_timer(queue, next_moment(queue));
}

size_t hvi_queue_bytes(const hv_queue *queue) {
    return queue->bytes;
}

hv_store *hvi_queue_store(const hv_queue *queue) {
    return queue->store;
}

/* ---- advancing ---- */

static void report_one(hv_queue *queue, hvi_queued *queued) {
    hvi_operation *operation = &queued->operation;
    hv_entity *entity = operation->entity;
    hv_error *error = operation->error;
    hv_status status = operation->status;
    int64_t key = operation->key;
    void *tag = queued->tag;
    operation->entity = NULL;
    operation->error = NULL;
    queue->pending--;
    queue->bytes -= operation->item.body_len;
    queue->finished++;
    hvi_queued_release(queued);
    queue->done(queue->context, tag, status, key, entity, error);
}

/* Report the operations that are done. */
static void report(hv_queue *queue) {
    hvi_queued *queued;
    for (int i = 0; i < queue->port_count; i++)
        while ((queued = hvi_port_take(&queue->ports[i])) != NULL)
            report_one(queue, queued);
}

/* Hand operations whose server is known now to its port. */
static void pump_parked(hv_queue *queue) {
    hvi_queued *queued;
    while ((queued = hvi_parked_take(&queue->parked)) != NULL) {
        hvi_operation *operation = &queued->operation;
        if (operation->status == HV_OK && !add_to_port(queue, queued))
            operation->status = hvi_no_memory(&operation->error);
        if (operation->status != HV_OK)
            report_one(queue, queued);
    }
}

static hvi_port *port_of(hv_queue *queue, const hvi_port_connection *connection) {
    int i = 0;
    while (connection < queue->ports[i].connections ||
           connection >= queue->ports[i].connections + HVI_PORT_CONNECTIONS)
        i++;
    return &queue->ports[i];
}

static void handle(hv_queue *queue, void *what) {
    if (what == &queue->timer) {
        set_timer(queue, HVI_NEVER); /* it is set again at the end */
    } else if (what == &queue->event) {
        eventfd_t count;
        eventfd_read(queue->event, &count);
        for (int i = 0; i < queue->port_count; i++)
            hvi_port_poll(&queue->ports[i]);
    } else if (what != &queue->parked) { /* which is looked after in any case */
        hvi_port_step(port_of(queue, what), what);
    }
}

static void pump_ports(hv_queue *queue) {
    for (int i = 0; i < queue->port_count; i++) {
        hvi_port *port = &queue->ports[i];
        for (int j = 0; port->is_polled && j < HVI_PORT_CONNECTIONS; j++)
            hvi_port_step(port, &port->connections[j]);
        hvi_port_pump(port);
    }
}

static void pump(hv_queue *queue) {
    queue->has_news = false;
    pump_parked(queue);
    pass_on(queue);
    do {
        queue->shared.is_stirred = false;
        pump_ports(queue);
        pass_on(queue);
    } while (queue->shared.is_stirred);
    report(queue);
}

/* Wait until something can be done, or not at all; true if the wait was interrupted by a signal. */
static bool wait_and_handle(hv_queue *queue, int64_t until) {
    struct epoll_event events[MAX_EVENTS];
    int64_t moment = next_moment(queue);
    int64_t wake_up = hvi_interrupt_before(moment < until ? moment : until);
    int count = epoll_wait(queue->epoll, events, MAX_EVENTS, hvi_deadline_poll_ms(wake_up));
    if (count < 0)
        hvi_interrupt_signalled();
    for (int i = 0; i < count; i++)
        handle(queue, events[i].data.ptr);
    return count < 0;
}

/* Is there something to wait for? */
static bool has_future(const hv_queue *queue) {
    return queue->pending > 0 || queue->wake_at != HVI_NEVER;
}

size_t hv_queue_advance(hv_queue *queue, int64_t timeout) {
    if (is_foreign(queue) || queue->in_use)
        return 0;
    size_t before = queue->finished;
    int64_t until = hvi_deadline_after(timeout);
    if (queue->wake_at < until)
        until = queue->wake_at;
    bool interrupted = false;
    queue->in_use = true;
    pump(queue);
    do {
        bool may_wait = queue->finished == before && has_future(queue);
        interrupted = wait_and_handle(queue, may_wait ? until : 0);
        pump(queue);
    } while (queue->finished == before && has_future(queue) && !interrupted && !hvi_is_late(until));
    queue->in_use = false;
    set_timer(queue, next_moment(queue));
    return queue->finished - before;
}

void hvi_queue_postpone(hv_queue *queue, int64_t us) {
    hvi_parked_postpone(&queue->parked, us);
    for (int i = 0; i < queue->port_count; i++)
        hvi_port_postpone(&queue->ports[i], us);
    set_timer(queue, next_moment(queue));
}

void hvi_queue_expire(hv_queue *queue) {
    queue->in_use = true;
    hvi_parked_expire(&queue->parked);
    pump_parked(queue);
    for (int i = 0; i < queue->port_count; i++)
        hvi_port_expire(&queue->ports[i]);
    pass_on(queue);
    report(queue);
    queue->in_use = false;
    set_timer(queue, next_moment(queue));
}
