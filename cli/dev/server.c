/*
 * server: a private server's life: made, started, watched, stopped.
 *
 * pg_ctl starts and stops servers and waits for the result. It is run only after a check of the
 * process that postmaster.pid names: if the working directory of that process is not the data
 * directory, the server has crashed and the process id belongs to another program by now. pg_ctl
 * would take that program for the server, and stop it.
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
#include <time.h>
#include <unistd.h>

#include "ui/memory.h"
#include "ui/ui.h"

#define START_SECONDS "600" /* recovery from a crash may take minutes */
#define STOP_SECONDS  "60"
#define END_MS        1000 /* from the removal of postmaster.pid to the end of the process */
#define LOG_TAIL      2000 /* bytes of a log that an error shows */

/* The text of a file from an offset on, at most its last LOG_TAIL bytes, in whole lines: free()
 * it. */
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

/* What postmaster.pid says, or the lock file of a socket. */
typedef struct record {
    pid_t pid;  /* 0: none; after a crash it may be any process */
    bool ready; /* it accepts connections */
} record;

#define PID_LINE    1
#define STATUS_LINE 8

static record read_record(const char *path) {
    record found = {0};
    FILE *file = fopen(path, "re");
    char line[2048];
    for (int number = 1; file != NULL && fgets(line, sizeof line, file) != NULL; number++) {
        if (number == PID_LINE)
            found.pid = (pid_t) atol(line);
        if (number == STATUS_LINE)
            found.ready = strncmp(line, "ready", 5) == 0;
    }
    if (file != NULL)
        fclose(file);
    return found.pid > 1 ? found : (record){0};
}

/* The record of a server that runs, or zeros. */
static record running(const dev_server *server) {
    char *path = format_text("%s/postmaster.pid", server->data);
    record found = read_record(path);
    free(path);
    return works_in(found.pid, server->data) ? found : (record){0};
}

pid_t dev_server_pid(const dev_server *server) {
    return running(server).pid;
}

static void remove_if_stale(const char *path, const dev_server *server) {
    pid_t pid = read_record(path).pid;
    if (pid != 0 && !works_in(pid, server->data) && kill(pid, 0) == 0)
        unlink(path);
}

/* PostgreSQL does not start as long as these files name a live process of this user, whichever it
 * is. Without them it still detects remaining processes of the crashed server, by their shared
 * memory. */
static void remove_stale_records(const dev_folder *folder, const dev_server *server) {
    char *path = format_text("%s/postmaster.pid", server->data);
    char *lock = format_text("%s/.s.PGSQL.%d.lock", folder->sockets, server->port);
    remove_if_stale(path, server);
    remove_if_stale(lock, server);
    free(path);
    free(lock);
}

/* ---- Connecting ------------------------------------------------------------------------------ */

PGconn *dev_connect(const dev_folder *folder, const dev_server *server, const char *dbname) {
    char port[16];
    snprintf(port, sizeof port, "%d", server->port);
    const char *const keywords[] = {"host", "port", "user", "dbname", "connect_timeout", NULL};
    const char *const values[] = {folder->sockets, port, DEV_SUPERUSER, dbname, "10", NULL};
    PGconn *conn = PQconnectdbParams(keywords, values, 0);
    if (conn == NULL)
        out_of_memory();
    return conn;
}

char *dev_server_version(const dev_folder *folder, const dev_server *server) {
    char *version = NULL;
    if (dev_server_pid(server) != 0) {
        PGconn *conn = dev_connect(folder, server, "postgres");
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
    PGconn *conn = dev_connect(folder, server, "postgres");
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
        "--auth-local=trust", /* only the owner can enter the sockets' folder */
        folder->port != 0 ? "--auth-host=scram-sha-256" : "--auth-host=reject",
        folder->port != 0 ? password : NULL,
        NULL,
    };
    pid_t pid = process_start(&(process_plan){.argv = argv,
                                              .dir = server->place,
                                              .output = output,
                                              .keep = folder->lock,
                                              .last_signal = SIGKILL});
    close(output);
    free(program);
    free(locale);
    free(password_file);
    free(password);
    return pid;
}

/* Wait for initdb, and give the data directory its name. */
static bool finish_initdb(const dev_server *server, pid_t pid, const char *data, const char *log) {
    if (process_wait(pid) != 0) {
        char *output = tail_of(log, 0);
        ui_fail(output, NULL, "initdb failed for server \"%s\"", server->name);
        free(output);
        return false;
    }
    if (!dev_settings_write(server, data))
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

/* Is a TCP port free? PostgreSQL would report that in its log only. */
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
                "Stop the program that uses it (`ss -ltnp` shows it), or take other ports: "
                "`hv dev destroy`, `hv dev up --port N`.",
                "port %d of 127.0.0.1 is taken", port);
    return is_free;
}

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

/* Start pg_ctl in the server's folder: pg_ctl passes paths to a shell without quoting them, so
 * they are relative. Returns its process, or -1. If this command ends first, pg_ctl cancels the
 * start. */
static pid_t start_pg_ctl(const dev_server *server, const char *const *argv) {
    int output = open("/dev/null", O_WRONLY | O_CLOEXEC); /* the server's log says more */
    pid_t pid = process_start(&(process_plan){
        .argv = argv, .dir = server->place, .output = output, .keep = -1, .last_signal = SIGINT});
    if (output >= 0)
        close(output);
    return pid;
}

/* One that is being started. */
typedef struct start {
    pid_t pid;       /* pg_ctl's; 0: the server was running; -1: it could not be started */
    off_t log_start; /* where this run's part of the log begins */
} start;

/* Where the server's log ends; it is made if there is none. -1 after an error message. */
static off_t end_of_log(const dev_server *server) {
    int log = open(server->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    off_t end = log >= 0 ? lseek(log, 0, SEEK_END) : -1;
    if (end < 0)
        ui_fail(strerror(errno), NULL, "could not write \"%s\"", server->log);
    if (log >= 0)
        close(log);
    return end;
}

/* Start a server. One that runs but accepts no connections was left in that state by a command that
 * was killed: it is restarted, and so is one that runs with settings of before. */
static start start_server(const dev_folder *folder, const dev_server *server) {
    bool runs = dev_server_pid(server) != 0;
    start begun = {.pid = -1};
    if (!runs && folder->port != 0 && !port_is_free(server->port))
        return begun;
    begun.log_start = end_of_log(server);
    if (begun.log_start < 0)
        return begun;
    if (!runs)
        remove_stale_records(folder, server);
    char *control = format_text("%s/pg_ctl", folder->bindir);
    char *program = dev_postgres(folder);
    char *element = quote_element(folder->sockets);
    char *sockets = quote_for_shell(element);
    char *options = format_text("-c port=%d -c unix_socket_directories=%s -c listen_addresses=%s",
                                server->port, sockets, folder->port != 0 ? "127.0.0.1" : "");
    const char *const argv[] = {control,
                                runs ? "restart" : "start",
                                "--wait",
                                "--timeout=" START_SECONDS,
                                "--pgdata=data",
                                "--log=log",
                                "-p",
                                program,
                                "-o",
                                options,
                                NULL};
    begun.pid = start_pg_ctl(server, argv);
    free(options);
    free(sockets);
    free(element);
    free(program);
    free(control);
    return begun;
}

/* Wait for pg_ctl, and report what has become of the server. */
static bool finish_start(const dev_server *server, start begun) {
    if (process_wait(begun.pid) == 0)
        return true;
    if (dev_server_pid(server) != 0) {
        char *hint =
            format_text("See its log, \"%s\"; or try `hv dev down` and `hv dev up`.", server->log);
        ui_fail(NULL, hint, "server \"%s\" does not accept connections after " START_SECONDS " s",
                server->name);
        free(hint);
        return false;
    }
    char *log = tail_of(server->log, begun.log_start);
    char *hint = format_text("Its log is \"%s\".", server->log);
    ui_fail(log, hint, "server \"%s\" did not start", server->name);
    free(hint);
    free(log);
    return false;
}

bool dev_start(const dev_folder *folder, int *started) {
    start begun[DEV_MAX_SERVERS] = {{0}};
    bool ok = true;
    *started = 0;
    for (int i = 0; i < folder->count; i++) {
        const dev_server *server = &folder->servers[i];
        bool is_ready = running(server).ready;
        if (is_ready && !dev_settings_wait(folder, server))
            continue;
        if (is_ready)
            ui_note("Restarting server \"%s\", with settings that moving shards needs.",
                    server->name);
        begun[i] = start_server(folder, &folder->servers[i]);
        ok = ok && begun[i].pid > 0;
        *started += begun[i].pid > 0;
    }
    for (int i = 0; i < folder->count; i++)
        if (begun[i].pid > 0)
            ok = finish_start(&folder->servers[i], begun[i]) && ok;
    for (int i = 0; ok && i < folder->count; i++)
        ok = make_database(folder, &folder->servers[i]);
    return ok;
}

/* ---- Stopping -------------------------------------------------------------------------------- */

/* pg_ctl waits until postmaster.pid is removed; the process ends a moment later. */
static bool has_ended(const dev_server *server, pid_t pid) {
    for (int ms = 0; works_in(pid, server->data) && ms < END_MS; ms++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return !works_in(pid, server->data);
}

bool dev_stop(const dev_folder *folder, const char *mode, int *stopped) {
    pid_t pids[DEV_MAX_SERVERS] = {0}, controls[DEV_MAX_SERVERS] = {0};
    char *program = format_text("%s/pg_ctl", folder->bindir);
    const char *const argv[] = {program,         "stop",   "--wait", "--timeout=" STOP_SECONDS,
                                "--pgdata=data", "--mode", mode,     NULL};
    bool ok = true;
    *stopped = 0;
    for (int i = 0; i < folder->count; i++) {
        pids[i] = dev_server_pid(&folder->servers[i]);
        if (pids[i] != 0)
            controls[i] = start_pg_ctl(&folder->servers[i], argv);
    }
    for (int i = 0; i < folder->count; i++) {
        const dev_server *server = &folder->servers[i];
        if (controls[i] > 0)
            process_wait(controls[i]);
        if (pids[i] == 0)
            continue;
        if (has_ended(server, pids[i])) {
            ++*stopped;
            continue;
        }
        char *hint = format_text("See its log, \"%s\".", server->log);
        ui_fail(NULL, hint, "server \"%s\" (pid %ld) does not stop", server->name, (long) pids[i]);
        free(hint);
        ok = false;
    }
    free(program);
    return ok;
}
