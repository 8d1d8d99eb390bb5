/*
 * port: one server's part of a queue: the tasks that wait for it, and its flights.
 *
 * A port never waits. It says what to watch and when to come back; somebody else waits for that.
 */
#ifndef HVI_PORT_H
#define HVI_PORT_H

#include "pool/router.h"
#include "entity/flight.h"

/* So many flights of one port at most: while the server works on one, the next is made up. */
#define HVI_PORT_FLIGHTS 2

typedef struct hvi_port hvi_port;

/* What a port asks of the one who waits for it. */
typedef struct hvi_port_owner {
    void *context;
    /* Watch the flight's socket for flight->wants; `fd` -1: not any more. */
    void (*watch)(void *context, hvi_flight *flight, int fd, hvi_wants wants);
    /* A task is done: it is the function's, but see hvi_landed_fn. */
    void (*finished)(void *context, hvi_task *task);
} hvi_port_owner;

struct hvi_port {
    const hvi_port_owner *owner;
    hvi_server *server;
    int64_t block_timeout; /* ms: how long to wait for a connection */
    int event;             /* an eventfd(2) that tells of news from the pool's line */

    hvi_list waiting; /* tasks that go together, the oldest first */
    hvi_list apart;   /* tasks that go apart, the same */
    hvi_list paused;  /* tasks that go on at … */
    int64_t resume_at;
    hvi_place place; /* in the pool's line, while there is no flight */
    int64_t place_deadline;
    hvi_flight flights[HVI_PORT_FLIGHTS];
};

void hvi_port_init(hvi_port *port, const hvi_port_owner *owner, hvi_server *server,
                   int64_t block_timeout, int event);

/* Abandon everything; tasks are freed. */
void hvi_port_fini(hvi_port *port);

/* In a forked child, instead. */
void hvi_port_forget(hvi_port *port);

/* A new task. It goes when the port is next pumped. */
void hvi_port_add(hvi_port *port, hvi_task *task);

/* A flight's socket is ready. */
void hvi_port_step(hvi_port *port, hvi_flight *flight);

/* There may be news in the pool's line. */
void hvi_port_look(hvi_port *port);

/* Do what time demands, and send what can be sent. */
void hvi_port_pump(hvi_port *port);

/* All its tasks' deadlines have passed as of now. Some may need more than one call to be done. */
void hvi_port_expire(hvi_port *port);

/* The moment when it must be pumped, whatever else happens; HVI_NEVER. */
int64_t hvi_port_next(const hvi_port *port);

#endif
