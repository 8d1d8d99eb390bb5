/*
 * process: run one of PostgreSQL's programs on a database, and take what it writes.
 */
#include "move/process.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "wire/connect.h"

extern char **environ;

#define SAID_MAX 2000 /* bytes of what it says that an error shows */

/* ---- the environment ---- */

typedef struct environment {
    char **list; /* owned, as its strings */
    size_t count;
    bool broken;
} environment;

static void add(environment *to, char *owned) {
    char **longer = realloc(to->list, (to->count + 2) * sizeof *longer);
    if (longer == NULL || owned == NULL) {
        to->broken = true;
        to->list = longer != NULL ? longer : to->list;
        free(owned);
        return;
    }
    to->list = longer;
    to->list[to->count++] = owned;
    to->list[to->count] = NULL;
}

static void add_value(environment *to, const char *name, const char *value) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_buffer_append_format(&text, "%s=%s", name, value);
    add(to, hvi_buffer_take(&text));
}

static void free_environment(environment *of) {
    for (size_t i = 0; i < of->count; i++) {
        explicit_bzero(of->list[i], strlen(of->list[i])); /* one has the password */
        free(of->list[i]);
    }
    free(of->list);
}

/* Ours, but with nothing of libpq's other than what the connection has, and without what is loaded
 * into this program only. */
static void make_environment(environment *to, PGconn *conn) {
    *to = (environment){0};
    for (char **at = environ; *at != NULL; at++)
        if (strncmp(*at, "PG", 2) != 0 && strncmp(*at, "LC_", 3) != 0 &&
            strncmp(*at, "LANG", 4) != 0 && strncmp(*at, "LD_PRELOAD=", 11) != 0)
            add(to, strdup(*at));
    add_value(to, "LC_ALL", "C.UTF-8");
    if (conn == NULL)
        return;
    PQconninfoOption *options = PQconninfo(conn);
    for (PQconninfoOption *at = options; at != NULL && at->keyword != NULL; at++) {
        const char *value = at->val;
        /* Of several hosts, the one that it is connected to. */
        if (strcmp(at->keyword, "host") == 0)
            value = PQhost(conn);
        else if (strcmp(at->keyword, "port") == 0)
            value = PQport(conn);
        else if (strcmp(at->keyword, "hostaddr") == 0)
            value = PQhostaddr(conn); /* a name may have other addresses, of other servers */
        else if (strcmp(at->keyword, "password") == 0)
            value = PQpass(conn);
        if (at->envvar != NULL && value != NULL && *value != '\0' &&
            strcmp(at->keyword, "service") != 0)
            add_value(to, at->envvar, value);
    }
    if (options == NULL)
        to->broken = true;
    PQconninfoFree(options);
    add_value(to, "PGAPPNAME", "hv move");
    add_value(to, "PGCLIENTENCODING", "UTF8");
}

/* ---- the program ---- */

/* Debian has the programs of each version in a folder of its own, and not every machine has the
 * package that puts them into the PATH: the newest of these. */
static int spawn_newest(pid_t *pid, const char *name, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attributes, char *const *argv,
                        char *const *values) {
    glob_t found;
    char pattern[128];
    const char *newest = NULL;
    int cause = ENOENT, version = 0;
    snprintf(pattern, sizeof pattern, "/usr/lib/postgresql/*/bin/%s", name);
    if (glob(pattern, 0, NULL, &found) != 0)
        return ENOENT;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        int its = (int) strtol(found.gl_pathv[i] + strlen("/usr/lib/postgresql/"), NULL, 10);
        if (its > version) {
            version = its;
            newest = found.gl_pathv[i];
        }
    }
    if (newest != NULL)
        cause = posix_spawn(pid, newest, actions, attributes, argv, values);
    globfree(&found);
    return cause;
}

/* ---- files ---- */

hv_status hvi_process_files_open(hvi_process_files *files, hv_error **error) {
    for (int i = 0; i < HVI_PROCESS_FILES_MAX; i++)
        files->fds[i] = -1;
    for (int i = 0; i < HVI_PROCESS_FILES_MAX; i++) {
        int fd = memfd_create("hv-move", MFD_CLOEXEC);
        /* Well above the numbers that the program will know them by. */
        files->fds[i] = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3 + HVI_PROCESS_FILES_MAX) : -1;
        int cause = errno;
        if (fd >= 0)
            close(fd);
        if (files->fds[i] < 0) {
            hvi_process_files_close(files);
            return hvi_fail(error, HV_NO_MEMORY, "cannot make a file in memory: %s",
                            strerror(cause));
        }
    }
    return HV_OK;
}

void hvi_process_files_close(hvi_process_files *files) {
    for (int i = 0; i < HVI_PROCESS_FILES_MAX; i++) {
        if (files->fds[i] >= 0)
            close(files->fds[i]);
        files->fds[i] = -1;
    }
}

hv_status hvi_process_file_write(const hvi_process_files *files, int number,
                                 const hvi_buffer *bytes, hv_error **error) {
    int fd = files->fds[number];
    if (!hvi_buffer_ok(bytes))
        return hvi_no_memory(error);
    bool ok = ftruncate(fd, 0) == 0;
    for (size_t at = 0; ok && at < bytes->len;) {
        ssize_t written = pwrite(fd, bytes->data + at, bytes->len - at, (off_t) at);
        ok = written > 0 || (written < 0 && errno == EINTR);
        at += written > 0 ? (size_t) written : 0;
    }
    return ok ? HV_OK
              : hvi_fail(error, HV_NO_MEMORY, "cannot write a file in memory: %s", strerror(errno));
}

/* ---- running ---- */

typedef struct process {
    pid_t pid;
    int out, said; /* the ends of pipes that we read; -1: closed */
} process;

static bool make_pipe(int ends[2]) {
    return pipe2(ends, O_CLOEXEC) == 0;
}

static void close_end(int *end) {
    if (*end >= 0)
        close(*end);
    *end = -1;
}

static hv_status start(process *made, const char *const *argv, char *const *values,
                       const hvi_process_files *files, hv_error **error) {
    int out[2] = {-1, -1}, said[2] = {-1, -1};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    *made = (process){.pid = -1, .out = -1, .said = -1};
    if (!make_pipe(out) || !make_pipe(said)) {
        int cause = errno;
        close_end(&out[0]), close_end(&out[1]);
        return hvi_fail(error, HV_NO_MEMORY, "cannot make a pipe: %s", strerror(cause));
    }
    sigemptyset(&none);
    sigfillset(&defaults);
    sigdelset(&defaults, SIGKILL);
    sigdelset(&defaults, SIGSTOP);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, said[1], 2);
    for (int i = 0; files != NULL && i < HVI_PROCESS_FILES_MAX; i++)
        posix_spawn_file_actions_adddup2(&actions, files->fds[i], 3 + i);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    /* A group of its own: Ctrl-C on a terminal is for us to deal with. */
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETPGROUP);
    int cause = posix_spawnp(&made->pid, argv[0], &actions, &attributes,
                             (char *const *) (uintptr_t) argv, values);
    if (cause == ENOENT)
        cause = spawn_newest(&made->pid, argv[0], &actions, &attributes,
                             (char *const *) (uintptr_t) argv, values);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    close(said[1]);
    made->out = out[0];
    made->said = said[0];
    if (cause == 0)
        return HV_OK;
    made->pid = -1;
    close_end(&made->out), close_end(&made->said);
    hvi_fail(error, HV_INVALID, "cannot run %s: %s", argv[0], strerror(cause));
    hvi_error_hint(error, "A move uses PostgreSQL's pg_dump and pg_restore, which must be in the "
                          "PATH: they are in the package postgresql-client.");
    return HV_INVALID;
}

/* Read what there is; closes the end at its end. */
static void take(int *end, hvi_buffer *to, size_t max) {
    char bytes[16384];
    ssize_t got = read(*end, bytes, sizeof bytes);
    if (got > 0) {
        if (to->len < max)
            hvi_buffer_append(to, bytes, (size_t) got);
    } else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
        close_end(end);
    }
}

/* Until both are closed; false: late, or interrupted. */
static bool take_all(process *of, int64_t deadline, hvi_buffer *out, hvi_buffer *said) {
    while (of->out >= 0 || of->said >= 0) {
        if (hvi_is_late(deadline))
            return false;
        /* What it says is little: it is looked at now and then. */
        bool waits_for_out = of->out >= 0;
        int64_t moment = hvi_clock_us() + 20000;
        int fd = waits_for_out ? of->out : of->said;
        if (!hvi_wait_fd_until(fd, HVI_WANTS_READ, moment, deadline))
            return false;
        if (of->said >= 0 && hvi_events_now(of->said, POLLIN | POLLHUP) != 0)
            take(&of->said, said, SAID_MAX);
        if (of->out >= 0 && hvi_events_now(of->out, POLLIN | POLLHUP) != 0)
            take(&of->out, out, SIZE_MAX);
    }
    return true;
}

hv_status hvi_process_run(const char *const *argv, PGconn *conn, const hvi_process_files *files,
                          int64_t deadline, hvi_buffer *out, hv_error **error) {
    environment env;
    process running;
    hvi_buffer said = HVI_BUFFER_EMPTY;
    make_environment(&env, conn);
    hv_status status =
        env.broken ? hvi_no_memory(error) : start(&running, argv, env.list, files, error);
    free_environment(&env);
    if (status != HV_OK)
        return status;
    bool in_time = take_all(&running, deadline, out, &said);
    if (!in_time)
        kill(running.pid, SIGKILL);
    close_end(&running.out), close_end(&running.said);
    int how = 0;
    pid_t waited;
    while ((waited = waitpid(running.pid, &how, 0)) < 0 && errno == EINTR)
        ;
    /* Where the program that we are part of ignores SIGCHLD, nobody knows how it ended. */
    bool ok = waited < 0 ? said.len == 0 : WIFEXITED(how) && WEXITSTATUS(how) == 0;
    if (!in_time)
        status = hvi_fail(error, HV_TIMEOUT, "%s has not ended in time", argv[0]);
    else if (!ok) {
        status = hvi_fail(error, HV_REFUSED, "%s has failed", argv[0]);
        while (said.len > 0 && said.data[said.len - 1] == '\n')
            said.data[--said.len] = '\0';
        if (said.len > 0)
            hvi_error_detail(error, "It says: %s", said.data);
    } else if (!hvi_buffer_ok(out))
        status = hvi_no_memory(error);
    hvi_buffer_fini(&said);
    return status;
}
