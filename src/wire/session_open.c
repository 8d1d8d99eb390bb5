/*
 * session_open: open a session, make it ready to be lent, take it back, close it.
 */
#include "wire/session_open.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "config/redact.h"
#include "wire/connect.h"

/* The time limit for a user's connector if there is no deadline. */
#define LONG_MS INT64_C(3600000)
/* The size of a connector's message. */
#define MESSAGE_SIZE 1024

/* ---- opening and closing ---- */

/* The hint for a server that refuses the login. */
typedef struct hvi_login_hint {
    const char *sqlstate; /* or its beginning */
    bool retriable;       /* may it succeed later by itself? */
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
    if (status == HV_TIMEOUT && hvi_interrupted()) {
        hvi_fail(error, status, "interrupted while connecting to server \"%s\"", config->server);
    } else {
        hvi_fail(error, status, "could not connect to server \"%s\"%s", config->server,
                 status == HV_TIMEOUT ? " in time" : "");
        char shown[MESSAGE_SIZE];
        snprintf(shown, sizeof shown, "%s", message);
        hvi_redact(shown, sizeof shown, config->keywords, config->values);
        hvi_error_detail(error, "%s", shown);
    }
    hvi_error_where(error, config->server, -1);
    if (sqlstate[0] != '\0') {
        hvi_error_sqlstate(error, sqlstate);
        hint_at_login(sqlstate, error);
    }
    return status;
}

/* The server's parameters with ours before and after them, and room for one more; of two with the
 * same name, the later one counts. Two NULL-terminated arrays in one block: free() it. NULL if
 * memory is short. */
static const char **parameters(const hvi_session_config *config, const char ***values) {
    size_t count = 0;
    while (config->keywords[count] != NULL)
        count++;
    const char **keywords = calloc(2 * (count + 4), sizeof *keywords);
    if (keywords == NULL)
        return NULL;
    *values = keywords + count + 4;
    keywords[0] = "fallback_application_name";
    (*values)[0] = "hypervault";
    memcpy(keywords + 1, config->keywords, count * sizeof *keywords);
    memcpy(*values + 1, config->values, count * sizeof **values);
    if (config->asks_for_no_encoding)
        return keywords;
    keywords[count + 1] = "client_encoding";
    (*values)[count + 1] = "UTF8";
    return keywords;
}

static bool parameter_is(const PGconn *conn, const char *name, const char *value) {
    const char *now = PQparameterStatus(conn, name);
    return now != NULL && strcmp(now, value) == 0;
}

static const char set_up_sql[] = "SET client_encoding TO 'UTF8'; SET TimeZone TO 'UTC'";

/* Must encoding or time zone be set? */
static bool needs_set_up(const hvi_session *session) {
    return PQclientEncoding(session->conn) != session->config->utf8 ||
           !parameter_is(session->conn, "TimeZone", "UTC");
}

/*
 * Does the server convert text from its own encoding? hstore_send() counts the bytes of a key or a
 * value before they are converted, so its binary form cannot be read then; hstore_recv() counts
 * afterwards.
 */
static bool is_converted(const PGconn *conn) {
    const char *encoding = PQparameterStatus(conn, "server_encoding");
    return encoding != NULL && strcmp(encoding, "UTF8") != 0 && strcmp(encoding, "SQL_ASCII") != 0;
}

/* ---- the steps ---- */

static void fail_opening(hvi_opening *opening) {
    opening->state = HVI_OPENING_FAILED;
    hvi_error_refusal(&opening->error, HVI_REFUSAL_OPENING);
    hvi_session_close(opening->session);
    opening->session = NULL;
}

static void ask(hvi_opening *opening, const char *sql) {
    opening->state = HVI_ASKING;
    opening->sql = sql;
    hvi_script_start(&opening->script, opening->session, sql != NULL ? sql : set_up_sql, -1, false);
}

static void check(hvi_opening *opening, hv_status status, const PGresult *answer,
                  hv_error **cause) {
    const char *sql = opening->sql;
    if (opening->check != NULL)
        status = opening->check(opening->check_context, opening->session, &sql, status, answer,
                                cause, &opening->error);
    else
        sql = NULL;
    if (status != HV_OK) {
        fail_opening(opening);
    } else if (sql != NULL) {
        ask(opening, sql);
    } else {
        opening->session->opened_at = hvi_clock_us();
        opening->state = HVI_OPENED;
    }
}

/* Go on after the attempt to connect has ended with this status. */
static void connected(hvi_opening *opening, hv_status status, const char *message,
                      const char *sqlstate) {
    hvi_session *session = opening->session;
    const hvi_session_config *config = session->config;
    if (status == HV_OK)
        session->reads_text = is_converted(session->conn);
    if (status != HV_OK) {
        fail_connect(config, status, message, sqlstate, &opening->error);
        fail_opening(opening);
    } else if (PQsetnonblocking(session->conn, 1) != 0) {
        session->broken = true;
        hvi_fail_lost(config->server, -1, &opening->error);
        fail_opening(opening);
    } else if (needs_set_up(session)) {
        ask(opening, NULL);
    } else {
        check(opening, HV_OK, NULL, NULL);
    }
}

/* For a driver that waits in libpq: only connect_timeout makes it go on to the next host. */
static void share_among_hosts(const hvi_opening *opening, const char **keywords,
                              const char **values, char text[12]) {
    int share = hvi_hosts_share(keywords, values, opening->timeout);
    size_t count = 0;
    while (keywords[count] != NULL)
        count++;
    if (share > 0) {
        snprintf(text, 12, "%d", share);
        keywords[count] = "connect_timeout";
        values[count] = text;
    }
}

static void start_users_attempt(hvi_opening *opening, const char *const *keywords,
                                const char *const *values) {
    hvi_session *session = opening->session;
    const hv_connector *connector = &session->config->connector;
    char message[MESSAGE_SIZE] = "", sqlstate[6] = "";
    hv_status status;
    if (connector->start != NULL)
        status = connector->start(connector->context, keywords, values, opening->timeout,
                                  &opening->users_attempt, &opening->users_fd, message,
                                  sizeof message, sqlstate);
    else
        status =
            connector->connect(connector->context, keywords, values, opening->timeout,
                               &session->conn, &session->handle, message, sizeof message, sqlstate);
    opening->by_user = connector->start != NULL && status == HV_OK;
    if (!opening->by_user)
        connected(opening, status, message, sqlstate);
}

void hvi_opening_start(hvi_opening *opening, const hvi_session_config *config,
                       hvi_session_check_fn check_answers, void *check_context, int64_t deadline) {
    int64_t timeout = deadline == HVI_NEVER ? LONG_MS : hvi_deadline_poll_ms(deadline);
    *opening =
        (hvi_opening){.check = check_answers, .check_context = check_context, .timeout = timeout};
    const char **values = NULL;
    const char **keywords = parameters(config, &values);
    hvi_session *made = calloc(1, sizeof *made);
    opening->session = made;
    if (made != NULL) {
        made->config = config;
        hvi_list_init(&made->link);
        hvi_statements_init(&made->statements, config->prepared_max);
    }
    if (made == NULL || keywords == NULL) {
        hvi_no_memory(&opening->error);
        fail_opening(opening);
    } else if (config->own_connections) {
        hvi_connect_start(&opening->attempt, keywords, values, deadline);
    } else {
        char share[12];
        share_among_hosts(opening, keywords, values, share);
        start_users_attempt(opening, keywords, values);
    }
    free(keywords);
}

static void finish_connecting(hvi_opening *opening) {
    char message[MESSAGE_SIZE] = "", sqlstate[6] = "";
    hvi_session *session = opening->session;
    const hv_connector *connector = &session->config->connector;
    hv_status status;
    if (opening->by_user)
        status = connector->finish(connector->context, opening->users_attempt, &session->conn,
                                   &session->handle, message, sizeof message, sqlstate);
    else
        status = hvi_connect_finish(&opening->attempt, opening->timeout, &session->conn, message,
                                    sizeof message, sqlstate);
    opening->by_user = false;
    connected(opening, status, message, sqlstate);
}

/* The deadline has passed. */
static void give_up_connecting(hvi_opening *opening) {
    const hv_connector *connector = &opening->session->config->connector;
    if (!opening->by_user) {
        finish_connecting(opening); /* which fails */
        return;
    }
    char message[100];
    opening->by_user = false;
    connector->give_up(connector->context, opening->users_attempt);
    snprintf(message, sizeof message, "no connection within %lld ms", (long long) opening->timeout);
    connected(opening, HV_TIMEOUT, message, "");
}

static hvi_wants advance_connecting(hvi_opening *opening) {
    if (!opening->by_user)
        return hvi_connect_advance(&opening->attempt);
    return hvi_events_now(opening->users_fd, POLLIN) != 0 ? HVI_WANTS_NOTHING : HVI_WANTS_READ;
}

static void finish_asking(hvi_opening *opening) {
    PGresult *answer = NULL;
    hv_error *cause = NULL;
    hv_status status = hvi_script_finish(&opening->script, &answer, &cause);
    if (opening->sql == NULL && status != HV_OK) { /* the set-up failed */
        hvi_error_move(&opening->error, &cause);
        fail_opening(opening);
    } else {
        check(opening, status, answer, &cause);
    }
    PQclear(answer);
    hv_error_free(cause);
}

hvi_wants hvi_opening_advance(hvi_opening *opening) {
    hvi_wants wants;
    for (;;) {
        switch (opening->state) {
        case HVI_CONNECTING:
            wants = advance_connecting(opening);
            if (wants != HVI_WANTS_NOTHING)
                return wants;
            finish_connecting(opening);
            break;
        case HVI_ASKING:
            wants = hvi_script_advance(&opening->script);
            if (wants != HVI_WANTS_NOTHING)
                return wants;
            finish_asking(opening);
            break;
        default:
            return HVI_WANTS_NOTHING;
        }
    }
}

/* The connection whose socket it waits for, or NULL. */
static const PGconn *opening_conn(const hvi_opening *opening) {
    if (opening->state == HVI_CONNECTING)
        return opening->attempt.conn;
    return opening->state == HVI_ASKING ? opening->session->conn : NULL;
}

int hvi_opening_fd(const hvi_opening *opening) {
    if (opening->by_user)
        return opening->users_fd;
    const PGconn *conn = opening_conn(opening);
    return conn == NULL ? -1 : PQsocket(conn);
}

int64_t hvi_opening_next(const hvi_opening *opening) {
    return opening->state == HVI_CONNECTING && !opening->by_user
               ? hvi_connect_next(&opening->attempt)
               : HVI_NEVER;
}

hv_status hvi_opening_finish(hvi_opening *opening, hvi_session **session, hv_error **error) {
    if (opening->state == HVI_CONNECTING)
        give_up_connecting(opening);
    else if (opening->state == HVI_ASKING)
        finish_asking(opening);
    if (opening->state != HVI_OPENED)
        return hvi_error_move(error, &opening->error);
    *session = opening->session;
    opening->session = NULL;
    return HV_OK;
}

void hvi_opening_await(hvi_opening *opening, int64_t deadline) {
    hvi_wants wants;
    bool in_time = true;
    while ((wants = hvi_opening_advance(opening)) != HVI_WANTS_NOTHING && in_time)
        in_time =
            hvi_wait_fd_until(hvi_opening_fd(opening), wants, hvi_opening_next(opening), deadline);
}

hv_status hvi_session_open(const hvi_session_config *config, int64_t deadline,
                           hvi_session **session, hv_error **error) {
    hvi_opening opening;
    hvi_opening_start(&opening, config, NULL, NULL, deadline);
    hvi_opening_await(&opening, deadline);
    return hvi_opening_finish(&opening, session, error);
}

void hvi_session_close(hvi_session *session) {
    if (session == NULL)
        return;
    const hv_connector *connector = &session->config->connector;
    if (session->broken && PQsocket(session->conn) >= 0) {
        /* PQfinish() would first send the rest of a statement that was given up. */
        shutdown(PQsocket(session->conn), SHUT_RDWR);
    }
    if (session->conn != NULL)
        connector->disconnect(connector->context, session->conn, session->handle);
    hvi_statements_fini(&session->statements);
    free(session);
}

/* Replace the connection's socket by /dev/null. False if that could not be opened. */
static bool detach(const PGconn *conn) {
    int fd = PQsocket(conn);
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool detached = fd >= 0 && nowhere >= 0 && dup3(nowhere, fd, O_CLOEXEC) == fd;
    if (nowhere >= 0)
        close(nowhere);
    return detached;
}

void hvi_session_abandon(hvi_session *session) {
    /* PQfinish() sends a Terminate message, which must not reach a socket that the parent uses. If
     * that cannot be prevented, it is better to leak memory than to end the parent's connection. */
    if (detach(session->conn)) {
        hvi_session_close(session);
    } else {
        hvi_statements_fini(&session->statements);
        free(session);
    }
}

void hvi_session_disown(hvi_session *session) {
    detach(session->conn);
}

void hvi_opening_disown(hvi_opening *opening) {
    if (opening_conn(opening) != NULL)
        detach(opening_conn(opening));
}

/* ---- lending ---- */

bool hvi_session_is_fit(const hvi_session *session) {
    if (session->broken || PQstatus(session->conn) != CONNECTION_OK)
        return false;
    /* An idle server sends nothing: if there is something to read, it has closed the connection, or
     * is about to. */
    int fd = PQsocket(session->conn);
    return fd >= 0 && hvi_events_now(fd, POLLIN) == 0;
}

void hvi_session_prepare_lending(hvi_session *session) {
    PQsetnonblocking(session->conn, 0);
}

/* Remove what a borrower may have left in libpq: notice receiver, trace file, notifications. */
static void forget_borrower(hvi_session *session) {
    PGconn *conn = session->conn;
    PGnotify *notification;
    if (session->config->own_connections) /* first: PQnotifies() may call the receiver */
        PQsetNoticeReceiver(conn, hvi_discard_notice, NULL);
    PQuntrace(conn);
    while ((notification = PQnotifies(conn)) != NULL)
        PQfreemem(notification);
}

static bool is_at_rest(const hvi_session *session) {
    return !session->broken && PQstatus(session->conn) == CONNECTION_OK &&
           PQpipelineStatus(session->conn) == PQ_PIPELINE_OFF;
}

bool hvi_session_is_as_new(hvi_session *session) {
    if (!session->config->own_connections || !is_at_rest(session))
        return false;
    forget_borrower(session);
    return PQtransactionStatus(session->conn) == PQTRANS_IDLE && !needs_set_up(session) &&
           PQsetnonblocking(session->conn, 1) == 0;
}

static bool try_reset(hvi_session *session, int64_t patience_ms) {
    PGconn *conn = session->conn;
    if (!is_at_rest(session))
        return false;
    forget_borrower(session);
    switch (PQtransactionStatus(conn)) {
    case PQTRANS_IDLE:
        break;
    case PQTRANS_INTRANS:
    case PQTRANS_INERROR:
        PQsetnonblocking(conn, 1);
        if (hvi_session_script(session, "ROLLBACK", -1, false, hvi_deadline_after(patience_ms),
                               NULL, NULL) != HV_OK)
            return false;
        break;
    default: /* a statement or COPY in progress */
        return false;
    }
    return PQsetnonblocking(conn, 1) == 0 &&
           (!needs_set_up(session) ||
            hvi_session_script(session, set_up_sql, -1, false, hvi_deadline_after(patience_ms),
                               NULL, NULL) == HV_OK);
}

bool hvi_session_reset(hvi_session *session, int64_t patience_ms) {
    /* The socket of a broken connection is shut down before PQfinish(), which otherwise could block
     * on sending what the borrower has left in libpq's buffer to a server that does not read. */
    if (!try_reset(session, patience_ms))
        session->broken = true;
    return !session->broken;
}
