/*
 * port: one server's part of a queue: the operations that wait for it, and the connections that
 * carry them.
 *
 * A port never waits, and calls no callback. It has an epoll(7) instance watch its sockets, reports
 * when it must be pumped, and collects the operations that are done.
 */
#ifndef HVI_PORT_H
#define HVI_PORT_H

#include "pool/pool.h"
#include "entity/batch.h"
#include "entity/operation.h"
#include "store/key_order.h"

/* The most connections of one port: while the server works on one batch, the next is built. */
#define HVI_PORT_CONNECTIONS 2

/* A batch takes no more operations than this, and no more bytes of bodies, but at least one. */
#define HVI_PORT_MAX_OPERATIONS 1024
#define HVI_PORT_MAX_BYTES      (1 << 20)

/* An operation of a queue. */
typedef struct hvi_queued {
    hvi_list link; /* where it waits */
    hvi_operation operation;
    void *tag;              /* the user's */
    hvi_key_place place;    /* among the operations on its key */
    int64_t resume_at;      /* when its pause is over */
    bool waits_for_opening; /* for a connection that is being opened */
    enum {
        HVI_QUEUED_LISTED, /* it is in a list */
        HVI_QUEUED_IN_FLIGHT,
        HVI_QUEUED_DETACHED, /* it is done, and in a list, but its batch is still running … */
        HVI_QUEUED_RELEASED, /* … and only keeps its memory */
    } state;
} hvi_queued;

/* A connection of a port. */
typedef struct hvi_port_connection {
    enum { HVI_PORT_IDLE, HVI_PORT_OPENING, HVI_PORT_RUNNING } state;

    /* Opening. */
    hvi_pool_opening opening;
    int64_t opening_deadline;

    /* Running. */
    hvi_session *session; /* lent by the pool */
    hvi_batch batch;
    int64_t deadline; /* the earliest of its operations' */
    size_t count;
    hvi_queued *queued[HVI_PORT_MAX_OPERATIONS]; /* owned */
    hvi_item *items[HVI_PORT_MAX_OPERATIONS];    /* theirs */

    int watched; /* the descriptor that is watched, or -1 */
    hvi_wants wants;
} hvi_port_connection;

/* What the ports of a queue share. */
typedef struct hvi_ports_shared {
    hvi_key_order order;
    hvi_list moving; /* operations that their port gives up, as their shard is on another server */
    bool has_moved;  /* there were some */
    bool is_stirred; /* what happened in one port may matter in another: pump all again */
} hvi_ports_shared;

typedef struct hvi_port {
    hvi_ports_shared *shared; /* not owned */
    hvi_pool *pool;
    int64_t block_timeout; /* ms: how long to wait for a connection */
    int epoll;             /* where sockets are watched, with their connection as the data */
    int event;             /* an eventfd(2) that signals news from the pool's queue */
    bool is_polled;        /* a socket could not be watched: the queue tries all now and then */

    hvi_list waiting; /* operations that go together, the earliest deadline first */
    hvi_list apart;   /* operations that go apart, likewise */
    hvi_list paused;  /* operations that go on when their pause is over, the first at … */
    int64_t resume_at;
    hvi_list done;          /* operations that are done, until hvi_port_take() */
    hvi_pool_waiter waiter; /* in the pool's queue, while no connection is in use */
    int64_t waiter_deadline;
    hvi_port_connection connections[HVI_PORT_CONNECTIONS];
} hvi_port;

void hvi_port_init(hvi_port *port, hvi_ports_shared *shared, hvi_pool *pool, int64_t block_timeout,
                   int epoll, int event);

/* Abandon what is on its way. */
void hvi_port_stop(hvi_port *port);

/* Free its operations, when all ports that share their order are stopped. */
void hvi_port_fini(hvi_port *port);

/* In a forked child, instead of both. */
void hvi_port_forget(hvi_port *port);

/* Add an operation, which the port owns then. It goes when the port is next pumped. */
void hvi_port_add(hvi_port *port, hvi_queued *queued);

/* The same for one that another port has given up; it keeps its place in the order. */
void hvi_port_add_again(hvi_port *port, hvi_queued *queued);

/* From now on the order matters: note the port's operations, all of which only read. */
void hvi_port_note_order(hvi_port *port);

/* Take the next operation that is done, or NULL. The caller takes its results, and then releases it
 * with hvi_queued_release(). */
hvi_queued *hvi_port_take(hvi_port *port);
void hvi_queued_release(hvi_queued *queued);

/* The same with all in a list. */
void hvi_queued_release_all(hvi_list *list);

/* Go on with a connection whose socket is ready. */
void hvi_port_step(hvi_port *port, hvi_port_connection *connection);

/* See whether the port's turn in the pool's queue has come. */
void hvi_port_poll(hvi_port *port);

/* Handle the moments that have passed, and send what can be sent. */
void hvi_port_pump(hvi_port *port);

/* Has it no operation, no connection, and no place in the pool's queue? */
bool hvi_port_is_idle(const hvi_port *port);

/* Give all its operations so much more time: its user was busy elsewhere. */
void hvi_port_postpone(hvi_port *port, int64_t us);

/* Let all its operations' deadlines pass now. Some may need more than one call to be done. */
void hvi_port_expire(hvi_port *port);

/* The moment when it must be pumped, whatever else happens, or HVI_NEVER. */
int64_t hvi_port_next(const hvi_port *port);

#endif
