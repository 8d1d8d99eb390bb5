/*
 * delay_relay: a TCP relay that delivers what it reads a fixed time later, in both directions, as a
 * network between two machines does. Fast enough for benchmarks; see TcpRelay for one that
 * misbehaves.
 *
 *     delay_relay MICROSECONDS ADDRESS PORT
 *
 * Prints the port of 127.0.0.1 that it listens on, and ends when its input does.
 *
 * The delay is the same for all pieces, so those that were read first are due first: one queue of
 * pieces serves all connections. Bytes that the receiver's socket does not take when they are due
 * wait in the receiver's backlog. A closed channel is freed when none of its pieces is queued any
 * more.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIECE_SIZE 16384
#define EVENTS     64
/* Nothing more is read for a receiver that has this much left to take. */
#define MAX_BACKLOG (1 << 20)

typedef struct piece piece;
typedef struct end end;
typedef struct channel channel;

struct piece {
    piece *next;
    end *receiver;
    int64_t due; /* nanoseconds */
    size_t len;  /* 0: the sender has ended */
    size_t written;
    char bytes[];
};

typedef struct queue {
    piece *first;
    piece **last;
} queue;

struct end {
    int fd;
    end *peer;
    channel *channel;
    queue backlog;  /* due, but not taken yet */
    size_t pending; /* bytes that are queued or in the backlog for this end */
    bool has_ended; /* it sends nothing more */
    bool was_ended; /* … and its peer has been notified */
    uint32_t events;
};

struct channel {
    end ends[2];
    int pieces; /* pieces in the queue */
    bool is_closed;
    channel *next; /* of closed channels */
};

static int poller;
static int64_t delay;
static queue line;      /* the queue of pieces */
static channel *closed; /* channels */

static _Noreturn void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t) time.tv_sec * 1000000000 + time.tv_nsec;
}

static void *memory(void *got) {
    if (got == NULL)
        die("memory");
    return got;
}

/* ---- queues ---- */

static void init(queue *made) {
    made->first = NULL;
    made->last = &made->first;
}

static void push(queue *to, piece *added) {
    added->next = NULL;
    *to->last = added;
    to->last = &added->next;
}

static piece *pop(queue *from) {
    piece *first = from->first;
    if (first != NULL && (from->first = first->next) == NULL)
        from->last = &from->first;
    return first;
}

/* ---- channels ---- */

static void close_channel(channel *ending) {
    if (ending->is_closed)
        return;
    ending->is_closed = true;
    ending->next = closed;
    closed = ending;
    close(ending->ends[0].fd);
    close(ending->ends[1].fd);
}

/* Not in the middle of a round of events, some of which may belong to the channel. */
static void free_closed(void) {
    for (channel **at = &closed; *at != NULL;) {
        channel *unused = *at;
        if (unused->pieces > 0) {
            at = &unused->next;
            continue;
        }
        *at = unused->next;
        for (int i = 0; i < 2; i++)
            for (piece *left; (left = pop(&unused->ends[i].backlog)) != NULL;)
                free(left);
        free(unused);
    }
}

/* Wait for the events that this end can handle now. */
static void watch(end *watched) {
    bool reads = !watched->has_ended && watched->peer->pending < MAX_BACKLOG;
    uint32_t events = (reads ? EPOLLIN : 0) | (watched->backlog.first != NULL ? EPOLLOUT : 0);
    if (events == watched->events)
        return;
    watched->events = events;
    struct epoll_event event = {.events = events, .data.ptr = watched};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, watched->fd, &event) != 0)
        die("epoll_ctl");
}

static void add(end *added, channel *of, int fd) {
    added->fd = fd;
    added->channel = of;
    added->events = EPOLLIN;
    init(&added->backlog);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = added->events, .data.ptr = added};
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl");
}

/* Connecting is not delayed, and blocks: the server is near. */
static void accept_channel(int listener, const struct sockaddr_in *server) {
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    int target = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client < 0 || target < 0 ||
        connect(target, (const struct sockaddr *) server, sizeof *server) != 0) {
        if (client >= 0)
            close(client);
        if (target >= 0)
            close(target);
        return;
    }
    channel *made = memory(calloc(1, sizeof *made));
    made->ends[0].peer = &made->ends[1];
    made->ends[1].peer = &made->ends[0];
    add(&made->ends[0], made, client);
    add(&made->ends[1], made, target);
}

/* ---- relaying ---- */

/* Read what has arrived, and queue it. */
static void read_from(end *sender) {
    static char bytes[PIECE_SIZE];
    ssize_t len = read(sender->fd, bytes, sizeof bytes);
    if (len < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (len < 0) {
        close_channel(sender->channel);
        return;
    }
    piece *made = memory(malloc(sizeof *made + (size_t) len));
    *made = (piece){.receiver = sender->peer, .due = now() + delay, .len = (size_t) len};
    memcpy(made->bytes, bytes, (size_t) len);
    push(&line, made);
    sender->channel->pieces++;
    sender->peer->pending += (size_t) len;
    sender->has_ended = len == 0;
    watch(sender);
}

/* Deliver as much of the backlog as the receiver takes. */
static void write_to(end *receiver) {
    piece *next;
    while ((next = receiver->backlog.first) != NULL) {
        if (next->len == 0) {
            shutdown(receiver->fd, SHUT_WR);
            receiver->peer->was_ended = true;
        } else {
            ssize_t len = send(receiver->fd, next->bytes + next->written, next->len - next->written,
                               MSG_NOSIGNAL);
            if (len < 0 && (errno == EAGAIN || errno == EINTR))
                break;
            if (len < 0) {
                close_channel(receiver->channel);
                return;
            }
            next->written += (size_t) len;
            receiver->pending -= (size_t) len;
        }
        if (next->written == next->len)
            free(pop(&receiver->backlog));
    }
    watch(receiver);
    watch(receiver->peer);
    if (receiver->was_ended && receiver->peer->was_ended)
        close_channel(receiver->channel);
}

static void deliver_due(void) {
    int64_t moment = now();
    while (line.first != NULL && line.first->due <= moment) {
        piece *due = pop(&line);
        end *receiver = due->receiver;
        receiver->channel->pieces--;
        push(&receiver->backlog, due);
        if (!receiver->channel->is_closed)
            write_to(receiver);
    }
}

/* ---- the program ---- */

static int listen_anywhere(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *) &address, len) != 0 ||
        listen(listener, 128) != 0 ||
        getsockname(listener, (struct sockaddr *) &address, &len) != 0)
        die("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static int wait_for_events(struct epoll_event *events) {
    struct timespec left = {0};
    if (line.first != NULL) {
        int64_t wait = line.first->due - now();
        if (wait > 0)
            left = (struct timespec){.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
    }
    int count = epoll_pwait2(poller, events, EVENTS, line.first != NULL ? &left : NULL, NULL);
    if (count < 0 && errno != EINTR)
        die("epoll_pwait2");
    return count;
}

/* Skip events of a channel that an earlier event has closed; false: the input has ended. */
static bool handle(const struct epoll_event *event, int listener,
                   const struct sockaddr_in *server) {
    if (event->data.ptr == NULL) {
        char bytes[64];
        return read(STDIN_FILENO, bytes, sizeof bytes) > 0;
    }
    if (event->data.ptr == &line) {
        accept_channel(listener, server);
        return true;
    }
    end *ready = event->data.ptr;
    if (ready->channel->is_closed)
        return true;
    if (ready->has_ended && event->events & (EPOLLHUP | EPOLLERR))
        close_channel(ready->channel);
    else if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_from(ready);
    if (!ready->channel->is_closed && event->events & EPOLLOUT)
        write_to(ready);
    return true;
}

int main(int argc, char **argv) {
    struct sockaddr_in server = {.sin_family = AF_INET};
    if (argc != 4 || inet_pton(AF_INET, argv[2], &server.sin_addr) != 1) {
        fprintf(stderr, "usage: delay_relay MICROSECONDS ADDRESS PORT\n");
        return 2;
    }
    delay = atoll(argv[1]) * 1000;
    server.sin_port = htons((uint16_t) atoi(argv[3]));
    init(&line);
    prctl(PR_SET_TIMERSLACK, 1); /* by default, waits end up to 50 us late */
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_anywhere();
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    struct epoll_event arrival = {.events = EPOLLIN, .data.ptr = &line};
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &arrival) != 0 ||
        epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &input) != 0)
        die("epoll_ctl");
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = wait_for_events(events);
        for (int i = 0; i < count; i++)
            if (!handle(&events[i], listener, &server))
                _exit(0); /* open connections end with the process */
        deliver_due();
        free_closed();
    }
}
