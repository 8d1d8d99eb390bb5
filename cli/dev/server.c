/*
 * dev_server: a private server's life: made, started, watched, stopped.
 *
 * A server runs if its postmaster.pid names a process whose working directory is the data
 * directory; a process id that was given to another program since is not taken for it.
 */
#include "dev/dev.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <locale.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ui/memory.h"
#include "ui/ui.h"

#define START_SECONDS 60 /* without a sign of life; crash recovery may take longer */
#define STOP_SECONDS  60
#define POLL_MS       20
#define LOG_TAIL      2000 /* bytes of a log that an error shows */

static void sleep_ms(int ms) {
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

/* What a file holds from an offset on, the last LOG_TAIL bytes of it, whole lines: free() it. */
static char *tail_of(const char *path, off_t start) {
    char *text = new_memory(LOG_TAIL + 1);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return text;
    fseeko(file, 0, SEEK_END);
    bool cut = ftello(file) - start > LOG_TAIL;
    fseeko(file, cut ? ftello(file) - LOG_TAIL : start, SEEK_SET);
    size_t len = fread(text, 1, LOG_TAIL, file);
    fclose(file);
    text[len] = '\0';
    char *line = cut ? strchr(text, '\n') : NULL;
    if (line != NULL)
        memmove(text, line + 1, strlen(line));
    return text;
}

/* ---- Is it running? -------------------------------------------------------------------------- */

/* True if the process's working directory is the data directory. */
static bool works_in(pid_t pid, const char *data) {
    char link[64];
    struct stat there, here;
    snprintf(link, sizeof link, "/proc/%ld/cwd", (long) pid);
    return stat(link, &there) == 0 && stat(data, &here) == 0 && there.st_dev == here.st_dev &&
           there.st_ino == here.st_ino;
}

/* The process that postmaster.pid names, or 0: not necessarily the server, if it has crashed. */
static pid_t recorded_pid(const dev_server *server) {
    char *path = format_text("%s/postmaster.pid", server->data);
    long pid = 0;
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%ld", &pid) != 1)
            pid = 0;
        fclose(file);
    }
    free(path);
    return pid > 1 ? (pid_t) pid : 0;
}

pid_t dev_server_pid(const dev_server *server) {
    pid_t pid = recorded_pid(server);
    return pid != 0 && works_in(pid, server->data) ? pid : 0;
}

/* ---- Connecting ------------------------------------------------------------------------------ */

/* By the socket, where no password is asked for. */
static PGconn *connect_to(const dev_folder *folder, const dev_server *server, const char *dbname) {
    char port[16];
    snprintf(port, sizeof port, "%d", server->port);
    const char *const keywords[] = {"host", "port", "user", "dbname", "connect_timeout", NULL};
    const char *const values[] = {folder->sockets, port, DEV_SUPERUSER, dbname, "10", NULL};
    PGconn *conn = PQconnectdbParams(keywords, values, 0);
    if (conn == NULL)
        out_of_memory();
    return conn;
}

static PGPing ping(const dev_folder *folder, const dev_server *server) {
    char port[16];
    snprintf(port, sizeof port, "%d", server->port);
    const char *const keywords[] = {"host", "port", "user", "dbname", "connect_timeout", NULL};
    const char *const values[] = {folder->sockets, port, DEV_SUPERUSER, "postgres", "10", NULL};
    return PQpingParams(keywords, values, 0);
}

char *dev_server_version(const dev_folder *folder, const dev_server *server) {
    char *version = NULL;
    if (dev_server_pid(server) != 0) {
        PGconn *conn = connect_to(folder, server, "postgres");
        const char *full = PQparameterStatus(conn, "server_version");
        if (full != NULL)
            version = format_text("%.*s", (int) strcspn(full, " "), full);
        PQfinish(conn);
    }
    if (version == NULL && data_version(server->data) != 0)
        version = format_text("%d", data_version(server->data));
    return version != NULL ? version : copy_text("");
}

static bool make_database(const dev_folder *folder, const dev_server *server) {
    PGconn *conn = connect_to(folder, server, "postgres");
    PGresult *there = PQexec(conn, "SELECT FROM pg_catalog.pg_database"
                                   " WHERE datname OPERATOR(pg_catalog.=) '" DEV_SUPERUSER "'");
    bool ok = PQresultStatus(there) == PGRES_TUPLES_OK;
    if (ok && PQntuples(there) == 0) {
        PGresult *made = PQexec(conn, "CREATE DATABASE " DEV_SUPERUSER);
        ok = PQresultStatus(made) == PGRES_COMMAND_OK;
        PQclear(made);
    }
    if (!ok)
        ui_fail(PQerrorMessage(conn), NULL, "could not make the database on server \"%s\"",
                server->name);
    PQclear(there);
    PQfinish(conn);
    return ok;
}

/* ---- Making data directories ----------------------------------------------------------------- */

/* Settings that do not depend on where the folder is; the others stand on the command line. */
static bool append_settings(const dev_server *server, const char *data) {
    char *path = format_text("%s/postgresql.conf", data);
    FILE *file = fopen(path, "ae");
    bool ok = file != NULL;
    if (ok) {
        fprintf(file,
                "\n# Added by `hv dev up`: a private server on a developer's machine.\n"
                "cluster_name = 'hypervault %s'\n"
                "shared_buffers = 32MB\n"
                "max_wal_size = 256MB\n"
                "jit = off\n"
                "timezone = 'UTC'\n"
                "log_timezone = 'UTC'\n"
                "log_destination = 'stderr'\n"
                "log_line_prefix = '%%m [%%p] %%q%%u@%%d '\n",
                server->name);
        ok = fflush(file) == 0 && fsync(fileno(file)) == 0;
        ok = fclose(file) == 0 && ok;
    }
    if (!ok)
        ui_fail(strerror(errno), NULL, "could not write \"%s\"", path);
    free(path);
    return ok;
}

static const char *best_locale(void) {
    locale_t locale = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t) 0);
    if (locale == (locale_t) 0)
        return "C";
    freelocale(locale);
    return "C.UTF-8";
}

/* Start initdb. Returns its process, or -1. */
static pid_t start_initdb(const dev_folder *folder, const dev_server *server, const char *data,
                          const char *log) {
    if ((mkdir(server->place, 0700) != 0 && errno != EEXIST) || !remove_tree(data)) {
        ui_fail(strerror(errno), NULL, "could not make the folder \"%s\"", server->place);
        return -1;
    }
    int output = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (output < 0) {
        ui_fail(strerror(errno), NULL, "could not write \"%s\"", log);
        return -1;
    }
    char *program = format_text("%s/initdb", folder->bindir);
    char *locale = format_text("--locale=%s", best_locale());
    char *password_file = dev_password_file(folder);
    char *password = format_text("--pwfile=%s", password_file);
    const char *argv[] = {
        program,
        "--pgdata",
        data,
        "--username=" DEV_SUPERUSER,
        "--encoding=UTF8",
        locale,
        "--auth-local=trust", /* only the owner gets to the sockets' folder */
        folder->port != 0 ? "--auth-host=scram-sha-256" : "--auth-host=reject",
        folder->port != 0 ? password : NULL,
        NULL,
    };
    pid_t pid = process_start(&(process_plan){
        .argv = argv, .dir = server->place, .output = output, .keep = folder->lock});
    close(output);
    free(program);
    free(locale);
    free(password_file);
    free(password);
    return pid;
}

/* Wait for initdb; give what it made its name. */
static bool finish_initdb(const dev_server *server, pid_t pid, const char *data, const char *log) {
    if (process_wait(pid) != 0) {
        char *output = tail_of(log, 0);
        ui_fail(output, NULL, "initdb failed for server \"%s\"", server->name);
        free(output);
        return false;
    }
    if (!append_settings(server, data))
        return false;
    if (rename(data, server->data) != 0) {
        ui_fail(strerror(errno), NULL, "could not make the folder \"%s\"", server->data);
        return false;
    }
    unlink(log);
    return true;
}

bool dev_make_data(const dev_folder *folder) {
    pid_t pids[DEV_MAX_SERVERS] = {0};
    bool ok = true;
    setenv("TZ", "UTC", 1); /* initdb would try every time zone there is */
    for (int i = 0; i < folder->count; i++) {
        const dev_server *server = &folder->servers[i];
        if (access(server->data, F_OK) == 0)
            continue;
        char *data = format_text("%s/data.new", server->place);
        char *log = format_text("%s/initdb.log", server->place);
        pids[i] = start_initdb(folder, server, data, log);
        ok = ok && pids[i] > 0;
        free(data);
        free(log);
    }
    for (int i = 0; i < folder->count; i++) {
        const dev_server *server = &folder->servers[i];
        if (pids[i] <= 0)
            continue;
        char *data = format_text("%s/data.new", server->place);
        char *log = format_text("%s/initdb.log", server->place);
        ok = finish_initdb(server, pids[i], data, log) && ok;
        free(data);
        free(log);
    }
    return ok;
}

/* ---- Starting -------------------------------------------------------------------------------- */

/* Is a TCP port free? PostgreSQL would say so in its log only. */
static bool port_is_free(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    bool is_free = true;
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* as PostgreSQL does */
        is_free = bind(fd, (struct sockaddr *) &address, sizeof address) == 0 && listen(fd, 1) == 0;
        close(fd);
    }
    if (!is_free)
        ui_fail(strerror(errno),
                "Stop what uses it (`ss -ltnp` shows it), or take other ports: "
                "`hv dev destroy`, `hv dev up --port N`.",
                "port %d of 127.0.0.1 is taken", port);
    return is_free;
}

/* One that is being started. */
typedef struct start {
    pid_t pid;       /* 0: it was running; -1: it could not be started */
    off_t log_start; /* where this run's part of the log begins */
} start;

/* The value of a list setting with one element: "…", in which " is doubled. free() it. */
static char *quote_element(const char *text) {
    char *quoted = new_memory(2 * strlen(text) + 3);
    char *to = quoted;
    *to++ = '"';
    for (; *text != '\0'; text++) {
        *to++ = *text;
        if (*text == '"')
            *to++ = '"';
    }
    *to = '"';
    return quoted;
}

/*
 * A server that crashed has left its process id, which may be another program's by now: PostgreSQL
 * would take that for a running server and refuse to start. We know better, and tell it so in the
 * way that pg_ctl does about its own process.
 */
static void dismiss_recorded_pid(const dev_server *server) {
    char number[32];
    snprintf(number, sizeof number, "%ld", (long) recorded_pid(server));
    setenv("PG_GRANDPARENT_PID", number, 1);
}

static start start_server(const dev_folder *folder, const dev_server *server) {
    start begun = {.pid = -1};
    if (folder->port != 0 && !port_is_free(server->port))
        return begun;
    int log = open(server->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0) {
        ui_fail(strerror(errno), NULL, "could not write \"%s\"", server->log);
        return begun;
    }
    begun.log_start = lseek(log, 0, SEEK_END);
    char *program = dev_postgres(folder);
    char *port = format_text("port=%d", server->port);
    char *quoted = quote_element(folder->sockets);
    char *sockets = format_text("unix_socket_directories=%s", quoted);
    const char *addresses = folder->port != 0 ? "listen_addresses=127.0.0.1" : "listen_addresses=";
    const char *argv[] = {program, "-D",    server->data, "-c",      port,
                          "-c",    sockets, "-c",         addresses, NULL};
    dismiss_recorded_pid(server);
    begun.pid = process_start(&(process_plan){
        .argv = argv, .dir = server->place, .output = log, .keep = -1, .detached = true});
    close(log);
    free(program);
    free(port);
    free(quoted);
    free(sockets);
    return begun;
}

/* Wait until a server accepts connections. */
static bool wait_ready(const dev_folder *folder, const dev_server *server, start begun) {
    pid_t pid = begun.pid;
    PGPing answer = PQPING_NO_RESPONSE;
    for (int waited = 0; waited < START_SECONDS * 1000; waited += POLL_MS) {
        bool ended = pid > 0 ? waitpid(pid, NULL, WNOHANG) == pid : dev_server_pid(server) == 0;
        answer = ping(folder, server);
        if (answer == PQPING_OK)
            return true;
        if (ended && dev_server_pid(server) == 0) {
            char *log = tail_of(server->log, begun.log_start);
            char *hint = format_text("Its log is \"%s\".", server->log);
            ui_fail(log, hint, "server \"%s\" did not start", server->name);
            free(hint);
            free(log);
            return false;
        }
        if (ended) /* somebody else has started it */
            pid = 0;
        if (answer == PQPING_REJECT)
            waited = 0; /* it is there, and recovering from a crash */
        sleep_ms(POLL_MS);
    }
    char *hint =
        format_text("See its log, \"%s\"; or try `hv dev down` and `hv dev up`.", server->log);
    ui_fail(NULL, hint, "server \"%s\" does not accept connections after %d s", server->name,
            START_SECONDS);
    free(hint);
    return false;
}

bool dev_start(const dev_folder *folder, int *started) {
    start begun[DEV_MAX_SERVERS] = {{0}};
    bool ok = true;
    *started = 0;
    for (int i = 0; i < folder->count; i++) {
        if (dev_server_pid(&folder->servers[i]) != 0)
            continue;
        begun[i] = start_server(folder, &folder->servers[i]);
        ok = ok && begun[i].pid > 0;
        *started += begun[i].pid > 0;
    }
    for (int i = 0; i < folder->count; i++)
        if (begun[i].pid >= 0)
            ok = wait_ready(folder, &folder->servers[i], begun[i]) && ok;
    for (int i = 0; ok && i < folder->count; i++)
        ok = make_database(folder, &folder->servers[i]);
    return ok;
}

/* ---- Stopping -------------------------------------------------------------------------------- */

bool dev_stop(const dev_folder *folder, int signal, int *stopped) {
    pid_t pids[DEV_MAX_SERVERS] = {0};
    bool ok = true;
    *stopped = 0;
    for (int i = 0; i < folder->count; i++) {
        pids[i] = dev_server_pid(&folder->servers[i]);
        if (pids[i] != 0)
            kill(pids[i], signal);
    }
    for (int i = 0; i < folder->count; i++) {
        const dev_server *server = &folder->servers[i];
        if (pids[i] == 0)
            continue;
        for (int waited = 0; waited < STOP_SECONDS * 1000 && works_in(pids[i], server->data);
             waited += POLL_MS)
            sleep_ms(POLL_MS);
        if (works_in(pids[i], server->data)) {
            char *hint = format_text("See its log, \"%s\".", server->log);
            ui_fail(NULL, hint, "server \"%s\" (pid %ld) does not stop", server->name,
                    (long) pids[i]);
            free(hint);
            ok = false;
        } else {
            ++*stopped;
        }
    }
    return ok;
}
