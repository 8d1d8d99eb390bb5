/*
 * hosts: the hosts that libpq tries for one connection, one address after the other.
 *
 * libpq itself goes on to the next host if one refuses, cannot be found or is of the wrong kind
 * (target_session_attrs), but not if one is silent: only PQconnectdb() has a timeout for that, and
 * a way inside libpq to go on. A user of PQconnectPoll() has neither. So an attempt that has come
 * to a silent address is given up, and another one is made for the hosts that are left. Each
 * attempt has the same parameters except for the three lists of hosts, addresses and ports:
 * passwords, certificates and kinds of servers are left to libpq.
 */
#include "config/hosts.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buffer.h"
#include "base/hash.h"

bool hvi_hosts_number(const char *text, int *number) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (end == text || errno != 0 || value < INT_MIN || value > INT_MAX)
        return false;
    while (isspace((unsigned char) *end))
        end++;
    *number = (int) value;
    return *end == '\0';
}

/* ---- what libpq reports ---- */

static const char *or_empty(const char *text) {
    return text != NULL ? text : "";
}

uint64_t hvi_hosts_current(const PGconn *conn) {
    const char *parts[] = {PQhost(conn), PQhostaddr(conn), PQport(conn)};
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const uint64_t key[2] = {hash, i};
        hash = hvi_hash_keyed(key, or_empty(parts[i]), strlen(or_empty(parts[i])));
    }
    return hash;
}

static const char *value_of(const PQconninfoOption *options, const char *keyword) {
    for (; options->keyword != NULL; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return or_empty(options->val);
    return "";
}

char *hvi_hosts_parameter(PGconn *conn, const char *keyword) {
    PQconninfoOption *options = PQconninfo(conn);
    if (options == NULL)
        return NULL;
    char *value = strdup(value_of(options, keyword));
    PQconninfoFree(options);
    return value;
}

/* ---- lists ---- */

/* A piece of a text. */
typedef struct piece {
    const char *at;
    size_t len;
} piece;

static piece whole(const char *text) {
    return (piece){text, strlen(text)};
}

static bool equals(piece one, const char *text) {
    return strlen(text) == one.len && memcmp(one.at, text, one.len) == 0;
}

static size_t count_items(const char *list) {
    size_t count = 1;
    while ((list = strchr(list, ',')) != NULL) {
        list++;
        count++;
    }
    return count;
}

static piece item_of(const char *list, size_t number) {
    while (number-- > 0)
        list += strcspn(list, ",") + 1;
    return (piece){list, strcspn(list, ",")};
}

/* One entry of libpq's lists. */
typedef struct entry {
    piece host;
    piece hostaddr;
    piece port;
} entry;

/* The lists of a connection. */
typedef struct lists {
    const char *host;
    const char *hostaddr;
    const char *port;
    size_t count;
} lists;

static lists lists_of(const PQconninfoOption *options) {
    lists of = {.host = value_of(options, "host"),
                .hostaddr = value_of(options, "hostaddr"),
                .port = value_of(options, "port")};
    of.count = count_items(*of.hostaddr != '\0' ? of.hostaddr : of.host);
    return of;
}

/* An empty list counts as an empty item for each entry; a single port is used for all. */
static entry entry_of(const lists *from, size_t number) {
    return (entry){
        .host = *from->host != '\0' ? item_of(from->host, number) : whole(""),
        .hostaddr = *from->hostaddr != '\0' ? item_of(from->hostaddr, number) : whole(""),
        .port = item_of(from->port, count_items(from->port) > 1 ? number : 0),
    };
}

static bool is_path(const char *host) {
    return *host == '/' || *host == '@';
}

/* Is the attempt at this entry? An empty item stands for libpq's default. */
static bool is_current(const entry *candidate, const PGconn *conn) {
    const char *host = or_empty(PQhost(conn));
    piece shown = candidate->host.len > 0 ? candidate->host : candidate->hostaddr;
    bool same_host = shown.len > 0 ? equals(shown, host) : is_path(host);
    return same_host && (candidate->port.len == 0 || equals(candidate->port, PQport(conn)));
}

/* The entry that the attempt is at; `count` if none is, which should not happen. Among entries with
 * the same host and port it is the one with libpq's current address, or else the first: an address
 * may be spelt in several ways. */
static size_t find_current(const lists *from, const PGconn *conn) {
    size_t found = from->count;
    for (size_t number = 0; number < from->count; number++) {
        entry candidate = entry_of(from, number);
        if (!is_current(&candidate, conn))
            continue;
        if (candidate.hostaddr.len == 0 || equals(candidate.hostaddr, or_empty(PQhostaddr(conn))))
            return number;
        if (found == from->count)
            found = number;
    }
    return found;
}

/* ---- what is left ---- */

typedef struct rest {
    hvi_buffer host;
    hvi_buffer hostaddr;
    hvi_buffer port;
    size_t count;
} rest;

static void append_item(rest *to, hvi_buffer *list, piece item) {
    if (to->count > 0)
        hvi_buffer_append_byte(list, ',');
    hvi_buffer_append(list, item.at, item.len);
}

static void append_entry(rest *to, const entry *which) {
    append_item(to, &to->host, which->host);
    append_item(to, &to->hostaddr, which->hostaddr);
    append_item(to, &to->port, which->port);
    to->count++;
}

/* Is this the numeric address that libpq reports? Compared as numbers: texts may be spelt in
 * several ways. */
static bool is_address(const struct sockaddr *address, const char *text) {
    struct in6_addr number;
    if (inet_pton(address->sa_family, text, &number) != 1)
        return false;
    if (address->sa_family == AF_INET)
        return memcmp(&number, &((const struct sockaddr_in *) address)->sin_addr,
                      sizeof(struct in_addr)) == 0;
    return memcmp(&number, &((const struct sockaddr_in6 *) address)->sin6_addr, sizeof number) == 0;
}

/* The other addresses of the host's name. It is not known which of them libpq has tried before, but
 * trying one again that has refused takes no time. */
static void append_other_addresses(rest *to, const entry *current, const PGconn *conn) {
    const char *host = or_empty(PQhost(conn));
    if (current->hostaddr.len > 0 || is_path(host))
        return;
    struct addrinfo *found = NULL;
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return;
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        char text[NI_MAXHOST];
        if (is_address(at->ai_addr, or_empty(PQhostaddr(conn))) ||
            getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) !=
                0)
            continue;
        entry other = {current->host, whole(text), current->port};
        append_entry(to, &other);
    }
    freeaddrinfo(found);
}

static void append_entries(rest *to, const lists *from, size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
        entry each = entry_of(from, i);
        append_entry(to, &each);
    }
}

static void repeat_item(hvi_buffer *list) {
    size_t len = list->len;
    if (!hvi_buffer_reserve(list, len + 1)) /* from here on its bytes stay where they are */
        return;
    hvi_buffer_append_byte(list, ',');
    hvi_buffer_append(list, list->data, len);
}

/* libpq treats an empty value as one that was not given, and looks for it elsewhere. So a list of
 * one empty item is written as two. */
static void repeat_if_empty(rest *to, const lists *from) {
    if (to->count != 1)
        return;
    if ((to->host.len == 0 && *from->host != '\0') ||
        (to->hostaddr.len == 0 && *from->hostaddr != '\0') ||
        (to->port.len == 0 && *from->port != '\0')) {
        repeat_item(&to->host);
        repeat_item(&to->hostaddr);
        repeat_item(&to->port);
        to->count++;
    }
}

/* NULL for a list of empty items, if it was empty before. */
static char *take_list(hvi_buffer *list, const char *was) {
    if (*was == '\0' && strspn(list->data, ",") == list->len)
        return NULL;
    return hvi_buffer_take(list);
}

static bool take_rest(rest *from, const lists *were, hvi_hosts *left) {
    if (!hvi_buffer_ok(&from->host) || !hvi_buffer_ok(&from->hostaddr) ||
        !hvi_buffer_ok(&from->port))
        return false;
    *left = (hvi_hosts){.host = take_list(&from->host, were->host),
                        .hostaddr = take_list(&from->hostaddr, were->hostaddr),
                        .port = take_list(&from->port, were->port)};
    return true;
}

bool hvi_hosts_left(PGconn *conn, hvi_hosts *left) {
    PQconninfoOption *options = PQconninfo(conn);
    if (options == NULL)
        return false;
    lists from = lists_of(options);
    rest to = {HVI_BUFFER_EMPTY, HVI_BUFFER_EMPTY, HVI_BUFFER_EMPTY, 0};
    size_t at = find_current(&from, conn);
    if (at < from.count) {
        entry current = entry_of(&from, at);
        append_other_addresses(&to, &current, conn);
        append_entries(&to, &from, at + 1, from.count);
        if (strcmp(value_of(options, "target_session_attrs"), "prefer-standby") == 0)
            append_entries(&to, &from, 0, at);
        repeat_if_empty(&to, &from);
    }
    bool something = to.count > 0 && take_rest(&to, &from, left);
    hvi_buffer_fini(&to.host);
    hvi_buffer_fini(&to.hostaddr);
    hvi_buffer_fini(&to.port);
    PQconninfoFree(options);
    return something;
}

void hvi_hosts_fini(hvi_hosts *hosts) {
    free(hosts->host);
    free(hosts->hostaddr);
    free(hosts->port);
    *hosts = (hvi_hosts){NULL, NULL, NULL};
}

/* ---- for other connectors ---- */

/* A connection with the effective parameters. libpq reads the environment and service files only
 * for a connection, so begin one that it refuses before it connects to anything. */
static PGconn *refused(const char *const *keywords, const char *const *values) {
    size_t count = 0;
    while (keywords[count] != NULL)
        count++;
    const char **copies = calloc(2 * (count + 2), sizeof *copies);
    if (copies == NULL)
        return NULL;
    const char **copied_values = copies + count + 2;
    memcpy(copies, keywords, count * sizeof *copies);
    memcpy(copied_values, values, count * sizeof *copies);
    copies[count] = "channel_binding";
    copied_values[count] = "never";
    PGconn *conn = PQconnectStartParams(copies, copied_values, 0);
    free(copies);
    return conn;
}

static PQconninfoOption *look_up(const char *const *keywords, const char *const *values) {
    PGconn *conn = refused(keywords, values);
    PQconninfoOption *options = conn != NULL ? PQconninfo(conn) : NULL;
    PQfinish(conn);
    return options;
}

void hvi_hosts_known_fini(hvi_hosts_known *known) {
    free(known->host);
    free(known->hostaddr);
    free(known->port);
    free(known->dbname);
    free(known->user);
    free(known->sslmode);
    *known = (hvi_hosts_known){NULL};
}

bool hvi_hosts_know(const char *const *keywords, const char *const *values,
                    hvi_hosts_known *known) {
    PGconn *conn = refused(keywords, values);
    PQconninfoOption *options = conn != NULL ? PQconninfo(conn) : NULL;
    *known = (hvi_hosts_known){NULL};
    if (options != NULL) {
        const char *host = value_of(options, "host"), *hostaddr = value_of(options, "hostaddr");
        const char *port = value_of(options, "port");
        /* Without any host it is the directory of sockets, which only the connection knows. */
        bool is_default = *host == '\0' && *hostaddr == '\0';
        *known = (hvi_hosts_known){
            .host = strdup(is_default ? or_empty(PQhost(conn)) : host),
            .hostaddr = strdup(hostaddr),
            .port = strdup(*port == '\0' ? or_empty(PQport(conn)) : port),
            .dbname = strdup(value_of(options, "dbname")),
            .user = strdup(value_of(options, "user")),
            .sslmode = strdup(value_of(options, "sslmode")),
        };
    }
    PQconninfoFree(options);
    PQfinish(conn);
    if (known->host != NULL && known->hostaddr != NULL && known->port != NULL &&
        known->dbname != NULL && known->user != NULL && known->sslmode != NULL)
        return true;
    hvi_hosts_known_fini(known);
    return false;
}

int hvi_hosts_share(const char *const *keywords, const char *const *values, int64_t timeout) {
    PQconninfoOption *options = look_up(keywords, values);
    if (options == NULL)
        return 0;
    int given = 0;
    size_t count = lists_of(options).count;
    bool readable = hvi_hosts_number(value_of(options, "connect_timeout"), &given);
    bool is_nonsense = !readable && *value_of(options, "connect_timeout") != '\0';
    PQconninfoFree(options);
    int64_t share = timeout / 2 / 1000;
    if (share < HVI_LEAST_CONNECT_TIMEOUT)
        share = HVI_LEAST_CONNECT_TIMEOUT;
    return count > 1 && !is_nonsense && (given <= 0 || given > share) ? (int) share : 0;
}
