/*
 * move_conninfo: how the other servers reach a server, for the subscriptions of a move.
 */
#include "config/move_conninfo.h"

#include <string.h>

#include "config/hosts.h"

/* Append "keyword = 'value'" as libpq reads it. */
static void append(hvi_buffer *to, const char *keyword, const char *value) {
    if (value == NULL || *value == '\0')
        return;
    hvi_buffer_append_format(to, "%s%s='", to->len > 0 ? " " : "", keyword);
    for (; *value != '\0'; value++) {
        if (*value == '\'' || *value == '\\')
            hvi_buffer_append_byte(to, '\\');
        hvi_buffer_append_byte(to, *value);
    }
    hvi_buffer_append_byte(to, '\'');
}

/* The addresses. hostaddr belongs to the server's own host, and a list of ports to its list. */
static void append_hosts(const hvi_server_options *server, const hvi_hosts_known *known,
                         hvi_buffer *to) {
    const char *host = server->move[HVI_MOVE_HOST];
    const char *port = server->move[HVI_MOVE_PORT];
    append(to, "host", host != NULL ? host : known->host);
    if (host == NULL)
        append(to, "hostaddr", known->hostaddr);
    append(to, "port", port != NULL ? port : known->port);
    /* Of several hosts, slots and publications are on the one that takes writes. */
    bool is_list = strchr(host != NULL ? host : known->host, ',') != NULL;
    append(to, "target_session_attrs", is_list ? "read-write" : NULL);
}

void hvi_server_move_conninfo(const hvi_server_options *server, hvi_buffer *to) {
    hvi_hosts_known known = {NULL};
    if (!hvi_hosts_know((const char *const *) server->keywords,
                        (const char *const *) server->values, &known)) {
        hvi_buffer_break(to);
        return;
    }
    append_hosts(server, &known, to);
    append(to, "dbname", known.dbname);
    for (int i = HVI_MOVE_USER; i < HVI_MOVE_SETTINGS; i++) {
        const char *value = server->move[i];
        if (value == NULL && i == HVI_MOVE_USER)
            value = known.user;
        if (value == NULL && i == HVI_MOVE_SSLMODE)
            value = known.sslmode;
        append(to, hvi_move_setting_table[i].keyword, value);
    }
    hvi_hosts_known_fini(&known);
}

bool hvi_server_move_has_secret(const hvi_server_options *server) {
    for (int i = 0; i < HVI_MOVE_SETTINGS; i++)
        if (hvi_move_setting_table[i].is_secret && server->move[i] != NULL &&
            *server->move[i] != '\0')
            return true;
    return false;
}
