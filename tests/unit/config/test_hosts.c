/*
 * Tests of hosts: the part of libpq's lists that is left when an address is given up. The hosts
 * here accept connections and never answer.
 */
#include "base/clock.h"
#include "config/hosts.h"
#include "wire/connect.h"
#include "unit.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int listener = -1, second = -1; /* on 127.0.0.1 and 127.0.0.2, the same port */
static char port[8];
static char closed_port[8]; /* no server listens there */

/* ---- a name with two addresses ---- */

static struct addrinfo *made(struct sockaddr_in *address, const char *text, const char *service) {
    struct addrinfo *info = calloc(1, sizeof *info);
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    inet_pton(AF_INET, text, &address->sin_addr);
    address->sin_port = htons((uint16_t) (service != NULL ? atoi(service) : 0));
    *info = (struct addrinfo){.ai_family = AF_INET,
                              .ai_socktype = SOCK_STREAM,
                              .ai_addr = (struct sockaddr *) address,
                              .ai_addrlen = sizeof *address};
    return info;
}

/* Replaces the system's, for libpq too: "two" has two addresses, other texts are addresses. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    static struct sockaddr_in one_address, two_address;
    (void) hints;
    bool is_two = strcmp(node, "two") == 0;
    *found = made(&one_address, is_two ? "127.0.0.1" : node, service);
    if (is_two)
        (*found)->ai_next = made(&two_address, "127.0.0.2", service);
    return 0;
}

void freeaddrinfo(struct addrinfo *found) {
    while (found != NULL) {
        struct addrinfo *next = found->ai_next;
        free(found);
        found = next;
    }
}

/* ---- connections ---- */

static int listen_on(const char *text, uint16_t number) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(number)};
    int made_socket = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, text, &address.sin_addr);
    if (bind(made_socket, (struct sockaddr *) &address, sizeof address) == 0 &&
        listen(made_socket, 50) == 0)
        return made_socket;
    close(made_socket);
    return -1;
}

static uint16_t number_of(int made_socket) {
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    assert_int_equal(getsockname(made_socket, (struct sockaddr *) &address, &len), 0);
    return ntohs(address.sin_port);
}

static int set_up(void **state) {
    (void) state;
    for (int tries = 0; tries < 20 && second < 0; tries++) {
        close(listener);
        listener = listen_on("127.0.0.1", 0);
        second = listen_on("127.0.0.2", number_of(listener));
    }
    assert_true(second >= 0);
    snprintf(port, sizeof port, "%d", number_of(listener));
    int closed = listen_on("127.0.0.1", 0);
    snprintf(closed_port, sizeof closed_port, "%d", number_of(closed));
    close(closed);
    const char *const variables[] = {"PGHOST",    "PGHOSTADDR",        "PGPORT",
                                     "PGSERVICE", "PGCONNECT_TIMEOUT", "PGTARGETSESSIONATTRS"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i]);
    return 0;
}

static int tear_down(void **state) {
    (void) state;
    close(listener);
    close(second);
    return 0;
}

static PGconn *begin(const char *host, const char *hostaddr, const char *ports,
                     const char *target) {
    const char *const keywords[] = {"host", "hostaddr", "port", "user", "target_session_attrs",
                                    NULL};
    const char *const values[] = {host, hostaddr, ports, "nobody", target, NULL};
    PGconn *conn = PQconnectStartParams(keywords, values, 0);
    assert_non_null(conn);
    while (PQstatus(conn) == CONNECTION_STARTED) { /* until a host takes it */
        struct pollfd fd = {.fd = PQsocket(conn), .events = POLLOUT};
        assert_int_equal(poll(&fd, 1, 10000), 1);
        PQconnectPoll(conn);
    }
    assert_int_not_equal(PQstatus(conn), CONNECTION_BAD);
    return conn;
}

static void assert_text(const char *actual, const char *wanted) {
    assert_string_equal(actual != NULL ? actual : "(none)", wanted);
}

static void assert_left(PGconn *conn, const char *host, const char *hostaddr, const char *ports) {
    hvi_hosts left = {NULL, NULL, NULL};
    assert_true(hvi_hosts_left(conn, &left));
    assert_text(left.host, host);
    assert_text(left.hostaddr, hostaddr);
    assert_text(left.port, ports);
    hvi_hosts_fini(&left);
    PQfinish(conn);
}

static void assert_nothing_left(PGconn *conn) {
    hvi_hosts left;
    assert_false(hvi_hosts_left(conn, &left));
    PQfinish(conn);
}

/* ---- what is left ---- */

static void nothing_is_left_of_one_host(void **state) {
    (void) state;
    assert_nothing_left(begin("127.0.0.1", NULL, port, NULL));
    assert_nothing_left(begin(NULL, "127.0.0.1", port, NULL));
}

static void the_hosts_behind_it_are_left(void **state) {
    (void) state;
    char ports[40], wanted[40];
    snprintf(ports, sizeof ports, "%s,1,2", port);
    assert_left(begin("127.0.0.1,b,c", NULL, ports, NULL), "b,c", "(none)", "1,2");
    snprintf(wanted, sizeof wanted, "%s,%s", port, port);
    assert_left(begin("a,b,c", "127.0.0.1,1.1.1.1,", port, NULL), "b,c", "1.1.1.1,", wanted);
    assert_left(begin(NULL, "127.0.0.1,1.1.1.1", port, NULL), "(none)", "1.1.1.1", port);
}

static void those_before_it_had_their_turn(void **state) {
    (void) state;
    char ports[40];
    snprintf(ports, sizeof ports, "%s,%s,3", closed_port, port);
    assert_left(begin("127.0.0.1,127.0.0.1,c", NULL, ports, "primary"), "c", "(none)", "3");
}

/* As after a name whose first address was silent: its other addresses have the same name. */
static void of_two_with_the_same_host_the_address_decides(void **state) {
    (void) state;
    char wanted[40];
    assert_left(begin("b,b,c", "127.0.0.3,127.0.0.1,127.0.0.2", port, NULL), "c", "127.0.0.2",
                port);
    snprintf(wanted, sizeof wanted, "%s,%s", port, port);
    assert_left(begin("b,b,c", "127.0.0.3,127.0.0.1,127.0.0.2", port, "prefer-standby"), "c,b",
                "127.0.0.2,127.0.0.3", wanted);
}

static void a_standby_that_is_preferred_leaves_those_before_it_too(void **state) {
    (void) state;
    char ports[40], wanted[40];
    snprintf(ports, sizeof ports, "%s,%s,3", closed_port, port);
    snprintf(wanted, sizeof wanted, "3,%s", closed_port);
    assert_left(begin("127.0.0.1,127.0.0.1,c", NULL, ports, "prefer-standby"), "c,127.0.0.1",
                "(none)", wanted);
}

/* For an empty list, libpq would use the environment's list, or the one that was given before. */
static void an_item_that_is_empty_is_written_twice(void **state) {
    (void) state;
    char ports[40], wanted[40];
    snprintf(ports, sizeof ports, "%s,", port);
    snprintf(wanted, sizeof wanted, "%s,%s", port, port);
    assert_left(begin("a,b", "127.0.0.1,", port, NULL), "b,b", ",", wanted);
    assert_left(begin("127.0.0.1,b", NULL, ports, NULL), "b,b", "(none)", ",");
    assert_left(begin("127.0.0.1,", NULL, port, NULL), ",", "(none)", wanted);
}

static void the_other_addresses_of_its_name_come_first(void **state) {
    (void) state;
    char ports[40], wanted[40];
    assert_left(begin("two", NULL, port, NULL), "two", "127.0.0.2", port);
    snprintf(ports, sizeof ports, "%s,7", port);
    snprintf(wanted, sizeof wanted, "%s,7", port);
    assert_left(begin("two,b", NULL, ports, NULL), "two,b", "127.0.0.2,", wanted);
    assert_nothing_left(begin("two", "127.0.0.2", port, NULL));
}

static void an_attempt_goes_on_to_the_other_address_of_a_name(void **state) {
    (void) state;
    const char *const keywords[] = {"host", "port", "user", NULL};
    const char *const values[] = {"two", port, "nobody", NULL};
    int64_t deadline = hvi_deadline_after(600);
    hvi_attempt attempt;
    hvi_connect_start(&attempt, keywords, values, deadline);
    hvi_connect_advance(&attempt);
    assert_string_equal(PQhostaddr(attempt.conn), "127.0.0.1");
    hvi_connect_await(&attempt, deadline);
    assert_string_equal(PQhostaddr(attempt.conn), "127.0.0.2");
    char message[1024], sqlstate[6] = "";
    PGconn *conn = NULL;
    assert_int_equal(hvi_connect_finish(&attempt, 600, &conn, message, sizeof message, sqlstate),
                     HV_TIMEOUT);
    assert_contains(message, "\"two\" (127.0.0.1)");
    assert_contains(message, "\"127.0.0.2\"");
}

/* ---- a server that sends without end ---- */

/* "The login is granted", and then notices until the socket is full: no other message follows. */
static void flood(int server) {
    static const char granted[] = "R\0\0\0\x08\0\0\0\0", fields[] = "SNOTICE\0C00000\0Mit is wet\0";
    char notice[1 + 4 + sizeof fields] = {'N', 0, 0, 0, (char) (4 + sizeof fields)};
    char request[1000];
    memcpy(notice + 5, fields, sizeof fields);
    assert_true(recv(server, request, sizeof request, 0) > 0);
    assert_int_equal(send(server, granted, sizeof granted - 1, 0), sizeof granted - 1);
    while (send(server, notice, sizeof notice, MSG_DONTWAIT) == (ssize_t) sizeof notice)
        continue;
}

static void a_server_that_sends_without_end_does_not_hold_the_caller_up(void **state) {
    (void) state;
    const char *const keywords[] = {"host", "port", "user", "sslmode", "gssencmode", NULL};
    const char *const values[] = {"127.0.0.4", port, "nobody", "disable", "disable", NULL};
    int flooding = listen_on("127.0.0.4", (uint16_t) atoi(port));
    hvi_attempt attempt;
    hvi_connect_start(&attempt, keywords, values, hvi_deadline_after(60000));
    while (hvi_connect_advance(&attempt) == HVI_WANTS_WRITE)
        continue; /* until it waits for the answer */
    int server = accept(flooding, NULL, NULL);
    assert_true(server >= 0);
    flood(server);
    assert_int_equal(hvi_connect_advance(&attempt), HVI_WANTS_READ);
    assert_true(hvi_events_now(PQsocket(attempt.conn), POLLIN) != 0);
    hvi_connect_await(&attempt, hvi_deadline_after(0));
    assert_true(hvi_events_now(PQsocket(attempt.conn), POLLIN) != 0);
    char message[1024], sqlstate[6] = "";
    PGconn *conn = NULL;
    assert_int_equal(hvi_connect_finish(&attempt, 0, &conn, message, sizeof message, sqlstate),
                     HV_TIMEOUT);
    close(server);
    close(flooding);
}

static void the_same_address_is_the_same(void **state) {
    (void) state;
    PGconn *one = begin("a,b", "127.0.0.1,127.0.0.2", port, NULL);
    PGconn *same = begin("a,b", "127.0.0.1,127.0.0.2", port, NULL);
    PGconn *other = begin("a,b", "127.0.0.2,127.0.0.1", port, NULL);
    assert_true(hvi_hosts_current(one) == hvi_hosts_current(same));
    assert_true(hvi_hosts_current(one) != hvi_hosts_current(other));
    PQfinish(one);
    PQfinish(same);
    PQfinish(other);
}

/* ---- numbers ---- */

static void numbers_are_read_as_libpq_reads_them(void **state) {
    (void) state;
    int number = 0;
    assert_true(hvi_hosts_number(" -12 ", &number));
    assert_int_equal(number, -12);
    assert_true(hvi_hosts_number("2147483647", &number));
    const char *const bad[] = {
        "", " ", "abc", "1.5", "0x10", "2147483648", "99999999999999999999", "2 s"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(hvi_hosts_number(bad[i], &number));
}

static int share(const char *host, const char *connect_timeout, int64_t timeout) {
    const char *const keywords[] = {"host", "connect_timeout", NULL};
    const char *const values[] = {host, connect_timeout, NULL};
    return hvi_hosts_share(keywords, values, timeout);
}

static void several_hosts_share_the_time_of_a_driver(void **state) {
    (void) state;
    assert_int_equal(share("a", NULL, 60000), 0);
    assert_int_equal(share("a,b", NULL, 60000), 30);
    assert_int_equal(share("a,b", "0", 60000), 30);
    assert_int_equal(share("a,b", "40", 60000), 30);
    assert_int_equal(share("a,b", "20", 60000), 0);
    assert_int_equal(share("a,b", NULL, 1000), HVI_LEAST_CONNECT_TIMEOUT);
    assert_int_equal(share("a,b", "nonsense", 60000), 0); /* libpq reports it */
    setenv("PGHOST", "a,b", 1);
    assert_int_equal(share(NULL, NULL, 60000), 30);
    unsetenv("PGHOST");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_left_of_one_host),
        cmocka_unit_test(the_hosts_behind_it_are_left),
        cmocka_unit_test(those_before_it_had_their_turn),
        cmocka_unit_test(of_two_with_the_same_host_the_address_decides),
        cmocka_unit_test(a_standby_that_is_preferred_leaves_those_before_it_too),
        cmocka_unit_test(an_item_that_is_empty_is_written_twice),
        cmocka_unit_test(the_other_addresses_of_its_name_come_first),
        cmocka_unit_test(an_attempt_goes_on_to_the_other_address_of_a_name),
        cmocka_unit_test(a_server_that_sends_without_end_does_not_hold_the_caller_up),
        cmocka_unit_test(the_same_address_is_the_same),
        cmocka_unit_test(numbers_are_read_as_libpq_reads_them),
        cmocka_unit_test(several_hosts_share_the_time_of_a_driver),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
