/*
 * cancel: ask a server to end the statement that a session is running.
 */
#include "wire/cancel.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

/* The request for TLS, which a server answers with one byte before all else. */
static const unsigned char ssl_request[] = {0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f};

/* Wait for one of these events, whether or not the operation was interrupted. */
static bool await(int fd, short events, int64_t deadline) {
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int count;
    do
        count = poll(&poll_fd, 1, hvi_deadline_poll_ms(deadline));
    while (count < 0 && errno == EINTR && hvi_clock_us() < deadline);
    return count > 0;
}

/* An error is an answer, too: then libpq gets it as quickly. */
static bool is_heard(int fd, const struct sockaddr *address, socklen_t len, int64_t deadline) {
    char answer;
    if (connect(fd, address, len) != 0 && errno != EINPROGRESS)
        return errno != EAGAIN; /* a Unix socket whose queue is full */
    return await(fd, POLLOUT, deadline) &&
           send(fd, ssl_request, sizeof ssl_request, MSG_NOSIGNAL) == sizeof ssl_request &&
           await(fd, POLLIN, deadline) && recv(fd, &answer, 1, 0) >= 0;
}

bool hvi_cancel_is_heard(const hvi_session *session, int64_t patience_ms) {
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    struct sockaddr *peer = (struct sockaddr *) &address;
    int socket_of_conn = PQsocket(session->conn);
    if (socket_of_conn < 0 || getpeername(socket_of_conn, peer, &len) != 0)
        return false;
    int fd = socket(peer->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool heard = is_heard(fd, peer, len, hvi_deadline_after(patience_ms));
    close(fd);
    return heard;
}

void hvi_cancel(hvi_session *session) {
    char message[256];
    PGcancel *cancel = PQgetCancel(session->conn);
    if (cancel != NULL)
        PQcancel(cancel, message, sizeof message);
    PQfreeCancel(cancel);
}
