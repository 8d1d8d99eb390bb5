/*
 * session_open: open a session, make it ready to be lent, take it back, close it.
 */
#include "session_open.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "connect.h"

/* ---- opening and closing ---- */

/* What to do about a server that refuses the login. */
typedef struct hvi_login_hint {
    const char *sqlstate; /* or its beginning */
    bool retriable;       /* does it go by without anybody doing anything? */
    const char *text;
} hvi_login_hint;

static const hvi_login_hint login_hints[] = {
    {"28", false,
     "Check user and password in the configuration, .pgpass or environment, and the server's "
     "pg_hba.conf."},
    {"3D000", false, "Create the database, or correct \"dbname\"."},
    {"53300", true,
     "Raise the server's max_connections, or lower \"pool_max\" in the programs that use it."},
    {"57P03", true, "Try again when the server has started."},
};

static void hint_at_login(const char *sqlstate, hv_error **error) {
    for (size_t i = 0; i < sizeof login_hints / sizeof login_hints[0]; i++) {
        const hvi_login_hint *hint = &login_hints[i];
        if (strncmp(sqlstate, hint->sqlstate, strlen(hint->sqlstate)) == 0) {
            hvi_error_hint(error, "%s", hint->text);
            hvi_error_retriable(error, hint->retriable);
        }
    }
}

static hv_status fail_connect(const hvi_session_config *config, hv_status status,
                              const char *message, const char *sqlstate, hv_error **error) {
    if (status == HV_NO_MEMORY)
        return hvi_no_memory(error);
    hvi_fail(error, status, "could not connect to server \"%s\"%s", config->server,
             status == HV_TIMEOUT ? " in time" : "");
    hvi_error_detail(error, "%s", message);
    hvi_error_where(error, config->server, -1);
    if (sqlstate[0] != '\0') {
        hvi_error_sqlstate(error, sqlstate);
        hint_at_login(sqlstate, error);
    }
    return status;
}

/* The server's parameters with ours around them: of two with the same name the later one counts. */
static hv_status connect_with(const hvi_session_config *config, int64_t deadline, PGconn **conn,
                              void **handle, hv_error **error) {
    size_t count = 0;
    while (config->keywords[count] != NULL)
        count++;
    const char **keywords = calloc(2 * (count + 3), sizeof *keywords);
    if (keywords == NULL)
        return hvi_no_memory(error);
    const char **values = keywords + count + 3;
    keywords[0] = "fallback_application_name";
    values[0] = "hypervault";
    memcpy(keywords + 1, config->keywords, count * sizeof *keywords);
    memcpy(values + 1, config->values, count * sizeof *values);
    keywords[count + 1] = "client_encoding";
    values[count + 1] = "UTF8";

    char message[1024] = "";
    char sqlstate[6] = "";
    int64_t timeout = deadline == HVI_NEVER ? INT64_C(3600000) : hvi_deadline_poll_ms(deadline);
    hv_status status =
        config->connector.connect(config->connector.context, keywords, values, timeout, conn,
                                  handle, message, sizeof message, sqlstate);
    free(keywords);
    if (status != HV_OK)
        fail_connect(config, status, message, sqlstate, error);
    return status;
}

static bool parameter_is(const PGconn *conn, const char *name, const char *value) {
    const char *now = PQparameterStatus(conn, name);
    return now != NULL && strcmp(now, value) == 0;
}

/* Encoding and time zone as promised; without a round trip if they are. */
static hv_status set_up(hvi_session *session, int64_t deadline, hv_error **error) {
    hv_status status = HV_OK;
    if (PQsetnonblocking(session->conn, 1) != 0) {
        session->broken = true;
        hvi_fail(error, HV_UNAVAILABLE, "connection to server \"%s\" lost",
                 session->config->server);
        hvi_error_where(error, session->config->server, -1);
        return HV_UNAVAILABLE;
    }
    if (!parameter_is(session->conn, "client_encoding", "UTF8") ||
        !parameter_is(session->conn, "TimeZone", "UTC"))
        status = hvi_session_script(session, "SET client_encoding TO 'UTF8'; SET TimeZone TO 'UTC'",
                                    -1, false, deadline, NULL, error);
    return status;
}

hv_status hvi_session_open(const hvi_session_config *config, int64_t deadline,
                           hvi_session **session, hv_error **error) {
    hvi_session *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    made->config = config;
    hvi_list_init(&made->link);
    hvi_statements_init(&made->statements, config->prepared_max);
    hv_status status = connect_with(config, deadline, &made->conn, &made->handle, error);
    if (status == HV_OK)
        status = set_up(made, deadline, error);
    if (status != HV_OK) {
        hvi_session_close(made);
        return status;
    }
    made->opened_at = hvi_clock_us();
    *session = made;
    return HV_OK;
}

void hvi_session_close(hvi_session *session) {
    if (session == NULL)
        return;
    const hv_connector *connector = &session->config->connector;
    if (session->broken && PQsocket(session->conn) >= 0) {
        /* PQfinish() would first send what is left of a statement that was given up. */
        shutdown(PQsocket(session->conn), SHUT_RDWR);
    }
    if (session->conn != NULL)
        connector->disconnect(connector->context, session->conn, session->handle);
    hvi_statements_fini(&session->statements);
    free(session);
}

/* Point the connection's descriptor at nobody. False: no descriptor to be had. */
static bool detach(const hvi_session *session) {
    int fd = PQsocket(session->conn);
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool detached = fd >= 0 && nowhere >= 0 && dup3(nowhere, fd, O_CLOEXEC) == fd;
    if (nowhere >= 0)
        close(nowhere);
    return detached;
}

void hvi_session_abandon(hvi_session *session) {
    /* PQfinish() says goodbye, and must not do so on a socket that the parent uses. If that cannot
     * be had: better to lose the memory than the parent's connection. */
    if (detach(session)) {
        hvi_session_close(session);
    } else {
        hvi_statements_fini(&session->statements);
        free(session);
    }
}

void hvi_session_disown(hvi_session *session) {
    detach(session);
}

/* ---- lending ---- */

bool hvi_session_is_fit(const hvi_session *session) {
    if (session->broken || PQstatus(session->conn) != CONNECTION_OK)
        return false;
    /* An idle server says nothing: whatever can be read means it closed, or is about to. */
    struct pollfd fd = {.fd = PQsocket(session->conn), .events = POLLIN};
    return fd.fd >= 0 && poll(&fd, 1, 0) == 0;
}

void hvi_session_prepare_lending(hvi_session *session) {
    PQsetnonblocking(session->conn, 0);
}

/* What a borrower may have left on libpq's side: the trace's file and the notifications are his. */
static void forget_borrower(hvi_session *session) {
    PGconn *conn = session->conn;
    PGnotify *notification;
    PQuntrace(conn);
    while ((notification = PQnotifies(conn)) != NULL)
        PQfreemem(notification);
    if (session->config->own_connections)
        PQsetNoticeReceiver(conn, hvi_discard_notice, NULL);
}

static bool put_right(hvi_session *session, int64_t deadline) {
    PGconn *conn = session->conn;
    if (session->broken || PQstatus(conn) != CONNECTION_OK ||
        PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
        return false;
    forget_borrower(session);
    switch (PQtransactionStatus(conn)) {
    case PQTRANS_IDLE:
        break;
    case PQTRANS_INTRANS:
    case PQTRANS_INERROR:
        PQsetnonblocking(conn, 1);
        if (hvi_session_script(session, "ROLLBACK", -1, false, deadline, NULL, NULL) != HV_OK)
            return false;
        break;
    default: /* a statement or COPY under way */
        return false;
    }
    return set_up(session, deadline, NULL) == HV_OK;
}

bool hvi_session_reset(hvi_session *session, int64_t deadline) {
    /* A broken connection is closed without a word. Else PQfinish() could wait for a server that
     * does not read, to send it what the borrower has left in libpq's buffer. */
    if (!put_right(session, deadline))
        session->broken = true;
    return !session->broken;
}
