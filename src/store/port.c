/*
 * port: one server's part of a queue.
 *
 * How a task goes through a port:
 *
 *     add ──► waiting ──┬──► flight ──► finished
 *               ▲       │     │ │ │
 *               │       │     │ │ └── apart ───► flight, in a transaction of its own
 *               ├───────┼─────┘ │
 *               └─────paused ◄──┘
 *
 * A session is borrowed for one flight and returned after it: who waits in the pool's line gets his
 * turn between two flights. While one flight is under way, a second one goes only if a session is
 * free at once; while none is, the port stands in the pool's line like anybody.
 *
 * Holds always: tasks in `waiting` and `apart` have neither flight nor callback to wait for; a port
 * that has a place in line has no flight that is running.
 */
#include "store/port.h"

#include "base/clock.h"
#include "entity/put.h"

static hvi_task *task_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_task, link);
}

static hvi_pool *pool_of(const hvi_port *port) {
    return &port->server->pool;
}

void hvi_port_init(hvi_port *port, const hvi_port_owner *owner, hvi_server *server,
                   int64_t block_timeout, int event) {
    *port = (hvi_port){
        .owner = owner, .server = server, .block_timeout = block_timeout, .event = event};
    hvi_list_init(&port->waiting);
    hvi_list_init(&port->apart);
    hvi_list_init(&port->paused);
    for (int i = 0; i < HVI_PORT_FLIGHTS; i++)
        port->flights[i].watched = -1;
}

static bool has_flight(const hvi_port *port, hvi_flight_state state) {
    for (int i = 0; i < HVI_PORT_FLIGHTS; i++)
        if (port->flights[i].state == state)
            return true;
    return false;
}

static bool is_under_way(const hvi_port *port) {
    return has_flight(port, HVI_FLIGHT_OPENING) || has_flight(port, HVI_FLIGHT_RUNNING);
}

static bool has_tasks(const hvi_port *port) {
    return !hvi_list_empty(&port->waiting) || !hvi_list_empty(&port->apart);
}

static void watch(hvi_port *port, hvi_flight *flight, int fd, hvi_wants wants) {
    port->owner->watch(port->owner->context, flight, fd, wants);
}

/* ---- tasks ---- */

void hvi_port_add(hvi_port *port, hvi_task *task) {
    hvi_list_push_back(&port->waiting, &task->link);
}

static void pause_task(hvi_port *port, hvi_task *task, bool apart) {
    int ms = task->item.verb == HVI_PUT ? HVI_PUT_PAUSE_MS : HVI_PUT_RECONNECT_MS;
    int64_t moment = hvi_clock_us() + ms * 1000;
    if (hvi_list_empty(&port->paused) || moment < port->resume_at)
        port->resume_at = moment;
    task->apart = apart;
    hvi_list_push_back(&port->paused, &task->link);
}

/* What is to be done with a task that is not in any list. */
static void put_in_place(void *context, hvi_task *task, hvi_next next) {
    hvi_port *port = context;
    switch (next) {
    case HVI_TASK_DONE:
        port->owner->finished(port->owner->context, task);
        break;
    case HVI_TASK_AGAIN:
        hvi_list_push_front(&port->waiting, &task->link);
        break;
    case HVI_TASK_APART:
        hvi_list_push_front(&port->apart, &task->link);
        break;
    default:
        pause_task(port, task, next == HVI_TASK_PAUSE_APART);
    }
}

static void resume(hvi_port *port) {
    hvi_list_foreach (node, &port->paused) {
        hvi_task *task = task_of(node);
        hvi_list_remove(node);
        hvi_list_push_back(task->apart ? &port->apart : &port->waiting, node);
    }
}

/* Tasks that wait for a connection that is being opened are patient, the others not. */
typedef enum whom { THE_PATIENT, THE_OTHERS, ALL } whom;

/* There is no connection to be had. Tasks that are added meanwhile, by those who are told, are not
 * concerned. */
static void fail_list(hvi_port *port, hvi_list *tasks, whom which, const hv_error *cause) {
    hvi_list failing;
    hvi_list_init(&failing);
    hvi_list_foreach (node, tasks) {
        if (which != ALL && task_of(node)->patient != (which == THE_PATIENT))
            continue;
        hvi_list_remove(node);
        hvi_list_push_back(&failing, node);
    }
    hvi_list *node;
    while ((node = hvi_list_pop_front(&failing)) != NULL)
        put_in_place(port, task_of(node), hvi_task_failed(task_of(node), cause));
}

/* Takes *cause. */
static void fail_tasks(hvi_port *port, whom which, hv_error **cause) {
    fail_list(port, &port->waiting, which, *cause);
    fail_list(port, &port->apart, which, *cause);
    hv_error_free(*cause);
    *cause = NULL;
}

/* The first of the list may be late, and then those behind it. */
static void expire_list(hvi_port *port, hvi_list *tasks, int64_t now) {
    while (!hvi_list_empty(tasks) && task_of(tasks->next)->deadline <= now) {
        hvi_task *task = task_of(hvi_list_pop_front(tasks));
        put_in_place(port, task, hvi_task_late(task, false));
    }
}

/* ---- flights ---- */

/* What is watched for a flight of which nothing is under way any more: nothing. */
static void unwatch(hvi_port *port, hvi_flight *flight) {
    if (flight->watched >= 0)
        watch(port, flight, -1, HVI_WANTS_NOTHING);
}

static void land(hvi_port *port, hvi_flight *flight) {
    unwatch(port, flight);
    hvi_flight_land(flight, put_in_place, port);
}

static void go_on(hvi_port *port, hvi_flight *flight) {
    hvi_wants wants = hvi_flight_advance(flight);
    if (wants == HVI_WANTS_NOTHING)
        land(port, flight);
    else
        watch(port, flight, PQsocket(flight->session->conn), wants);
}

/* A session is there: send what waits. */
static void take_off(hvi_port *port, hvi_flight *flight, hvi_session *session) {
    bool apart = !hvi_list_empty(&port->apart);
    flight->state = HVI_FLIGHT_IDLE;
    if (!has_tasks(port)) { /* what it was for is late by now */
        hvi_pool_release(pool_of(port), session);
        return;
    }
    hvi_flight_start(flight, pool_of(port), session, apart ? &port->apart : &port->waiting, apart);
    go_on(port, flight);
}

static void stand_in_line(hvi_port *port, bool again) {
    hvi_pool_stand_in_line(pool_of(port), &port->place, port->event, again);
    port->place_deadline = hvi_deadline_after(port->block_timeout);
}

/* A session is open, or it is not to be had. */
static void finish_opening(hvi_port *port, hvi_flight *flight) {
    hvi_session *session = NULL;
    hv_error *cause = NULL;
    bool again = false;
    unwatch(port, flight);
    flight->state = HVI_FLIGHT_IDLE;
    if (hvi_pool_finish_opening(pool_of(port), &flight->opening, &session, &again, &cause) ==
        HV_OK) {
        take_off(port, flight, session);
    } else if (again && !is_under_way(port)) {
        stand_in_line(port, true);
    } else if (!again && !has_flight(port, HVI_FLIGHT_RUNNING)) {
        fail_tasks(port, THE_PATIENT, &cause);
    }
    hv_error_free(cause);
}

static void go_on_opening(hvi_port *port, hvi_flight *flight) {
    hvi_opening *opening = &flight->opening.opening;
    unwatch(port, flight); /* the descriptor may be closed in this step */
    hvi_wants wants = hvi_opening_advance(opening);
    if (wants == HVI_WANTS_NOTHING)
        finish_opening(port, flight);
    else
        watch(port, flight, hvi_opening_fd(opening), wants);
}

static void open_session(hvi_port *port, hvi_flight *flight) {
    hvi_list_foreach (node, &port->waiting)
        task_of(node)->patient = true;
    hvi_list_foreach (node, &port->apart)
        task_of(node)->patient = true;
    flight->state = HVI_FLIGHT_OPENING;
    flight->opening_deadline = hvi_deadline_after(port->block_timeout);
    hvi_pool_start_opening(pool_of(port), &flight->opening, flight->opening_deadline);
    go_on_opening(port, flight);
}

/* Use what the pool gave for this flight. Takes *cause. */
static void use_turn(hvi_port *port, hvi_flight *flight, hvi_turn turn, hvi_session *session,
                     hv_error **cause) {
    switch (turn) {
    case HVI_TURN_SESSION:
        take_off(port, flight, session);
        break;
    case HVI_TURN_OPEN:
        open_session(port, flight);
        break;
    case HVI_TURN_WAIT:
        if (!is_under_way(port) && !port->place.taken)
            stand_in_line(port, false);
        break;
    default: /* while a connection is being opened, that is what some wait for */
        fail_tasks(port, has_flight(port, HVI_FLIGHT_OPENING) ? THE_OTHERS : ALL, cause);
    }
}

static hvi_flight *idle_flight(hvi_port *port) {
    for (int i = 0; i < HVI_PORT_FLIGHTS; i++)
        if (port->flights[i].state == HVI_FLIGHT_IDLE)
            return &port->flights[i];
    return NULL;
}

/* ---- what happens ---- */

void hvi_port_step(hvi_port *port, hvi_flight *flight) {
    if (flight->state == HVI_FLIGHT_OPENING)
        go_on_opening(port, flight);
    else if (flight->state == HVI_FLIGHT_RUNNING)
        go_on(port, flight);
}

void hvi_port_look(hvi_port *port) {
    if (!port->place.taken)
        return;
    hvi_session *session = NULL;
    hv_error *cause = NULL;
    hvi_turn turn = hvi_pool_look(pool_of(port), &port->place, &session, &cause);
    if (turn != HVI_TURN_WAIT)
        use_turn(port, idle_flight(port), turn, session, &cause);
}

static void expire(hvi_port *port, int64_t now) {
    hv_error *cause = NULL;
    if (!hvi_list_empty(&port->paused) && port->resume_at <= now)
        resume(port);
    expire_list(port, &port->waiting, now);
    expire_list(port, &port->apart, now);
    for (int i = 0; i < HVI_PORT_FLIGHTS; i++) {
        hvi_flight *flight = &port->flights[i];
        if (flight->state == HVI_FLIGHT_OPENING && flight->opening_deadline <= now)
            finish_opening(port, flight);
        else if (flight->state == HVI_FLIGHT_OPENING &&
                 hvi_opening_next(&flight->opening.opening) <= now)
            go_on_opening(port, flight);
        else if (flight->state == HVI_FLIGHT_RUNNING &&
                 hvi_flight_expire(flight, now, put_in_place, port))
            land(port, flight);
    }
    if (!port->place.taken)
        return;
    if (port->place_deadline <= now) {
        hvi_pool_step_out(pool_of(port), &port->place, &cause);
        fail_tasks(port, ALL, &cause);
    } else if (!has_tasks(port)) {
        hvi_pool_step_out(pool_of(port), &port->place, NULL);
    } else if (port->place.look_at <= now) {
        hvi_port_look(port);
    }
}

void hvi_port_pump(hvi_port *port) {
    hvi_flight *flight;
    hvi_turn turn = HVI_TURN_SESSION;
    expire(port, hvi_clock_us());
    while (turn == HVI_TURN_SESSION && has_tasks(port) && !port->place.taken &&
           (flight = idle_flight(port)) != NULL) {
        hvi_session *session = NULL;
        hv_error *cause = NULL;
        bool willing = !has_flight(port, HVI_FLIGHT_OPENING); /* one at a time */
        turn = hvi_pool_try(pool_of(port), willing, &session, &cause);
        use_turn(port, flight, turn, session, &cause);
        hv_error_free(cause);
    }
}

static void make_late(const hvi_list *tasks) {
    hvi_list_foreach (node, tasks)
        task_of(node)->deadline = 0;
}

void hvi_port_expire(hvi_port *port) {
    make_late(&port->waiting);
    make_late(&port->apart);
    make_late(&port->paused);
    port->resume_at = 0;
    for (int i = 0; i < HVI_PORT_FLIGHTS; i++) {
        hvi_flight *flight = &port->flights[i];
        flight->opening_deadline = 0;
        if (flight->state == HVI_FLIGHT_RUNNING)
            hvi_flight_make_late(flight);
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
        keep_earlier(&moment, task_of(port->waiting.next)->deadline);
    if (!hvi_list_empty(&port->apart))
        keep_earlier(&moment, task_of(port->apart.next)->deadline);
    if (!hvi_list_empty(&port->paused))
        keep_earlier(&moment, port->resume_at);
    if (port->place.taken) {
        keep_earlier(&moment, port->place_deadline);
        keep_earlier(&moment, port->place.look_at);
    }
    for (int i = 0; i < HVI_PORT_FLIGHTS; i++) {
        const hvi_flight *flight = &port->flights[i];
        if (flight->state == HVI_FLIGHT_OPENING) {
            keep_earlier(&moment, flight->opening_deadline);
            keep_earlier(&moment, hvi_opening_next(&flight->opening.opening));
        } else if (flight->state == HVI_FLIGHT_RUNNING) {
            keep_earlier(&moment, flight->deadline);
        }
    }
    return moment;
}

/* ---- the end ---- */

static void free_tasks(hvi_list *tasks) {
    hvi_list *node;
    while ((node = hvi_list_pop_front(tasks)) != NULL)
        hvi_task_free(task_of(node));
}

static void free_all_tasks(hvi_port *port) {
    free_tasks(&port->waiting);
    free_tasks(&port->apart);
    free_tasks(&port->paused);
}

static void drop(void *context, hvi_task *task, hvi_next next) {
    (void) context;
    (void) next;
    hvi_task_free(task);
}

void hvi_port_fini(hvi_port *port) {
    if (port->place.taken)
        hvi_pool_step_out(pool_of(port), &port->place, NULL);
    for (int i = 0; i < HVI_PORT_FLIGHTS; i++) {
        hvi_flight *flight = &port->flights[i];
        unwatch(port, flight);
        if (flight->state == HVI_FLIGHT_OPENING)
            hvi_pool_cancel_opening(pool_of(port), &flight->opening);
        else if (flight->state == HVI_FLIGHT_RUNNING)
            hvi_flight_land(flight, drop, NULL);
    }
    free_all_tasks(port);
}

void hvi_port_forget(hvi_port *port) {
    for (int i = 0; i < HVI_PORT_FLIGHTS; i++) {
        hvi_flight *flight = &port->flights[i];
        if (flight->state == HVI_FLIGHT_OPENING)
            hvi_opening_disown(&flight->opening.opening);
        else if (flight->state == HVI_FLIGHT_RUNNING)
            hvi_flight_forget(flight);
    }
    free_all_tasks(port);
}
