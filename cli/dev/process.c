/*
 * process: run PostgreSQL's programs, without a shell.
 *
 * All descriptors are close-on-exec, so a program gets only those in its plan.
 */
#include "dev/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ui/memory.h"
#include "ui/ui.h"

#define OUTPUT_MAX 4096

void forget_pg_environment(void) {
    for (char **at = environ; *at != NULL;) {
        char *name = format_text("%.*s", (int) strcspn(*at, "="), *at);
        bool forget = strncmp(name, "PG", 2) == 0 && name[2] != '_';
        if (forget)
            unsetenv(name); /* the next one moves here */
        else
            at++;
        free(name);
    }
}

/* In the child: only functions that may be called after fork(). */
_Noreturn static void become(const process_plan *plan, pid_t parent) {
    int null = open("/dev/null", O_RDONLY);
    bool ok = null >= 0 && dup2(null, STDIN_FILENO) >= 0;
    if (plan->output >= 0)
        ok = ok && dup2(plan->output, STDOUT_FILENO) >= 0 && dup2(plan->output, STDERR_FILENO) >= 0;
    if (plan->keep >= 0)
        ok = ok && fcntl(plan->keep, F_SETFD, 0) == 0;
    if (plan->dir != NULL)
        ok = ok && chdir(plan->dir) == 0;
    if (prctl(PR_SET_PDEATHSIG, plan->last_signal) == 0 && getppid() != parent)
        _exit(127); /* the parent died before prctl() */
    if (ok)
        execv(plan->argv[0], (char *const *) (uintptr_t) plan->argv);
    const char *reason = strerror(errno);
    dprintf(STDERR_FILENO, "could not run %s: %s\n", plan->argv[0], reason);
    _exit(127);
}

pid_t process_start(const process_plan *plan) {
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(plan, parent);
    if (pid < 0)
        ui_fail(strerror(errno), NULL, "could not start %s", plan->argv[0]);
    return pid;
}

int process_wait(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return 127;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

char *quote_for_shell(const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-+=:,@%";
    if (word[strspn(word, plain)] == '\0')
        return copy_text(word);
    char *quoted = new_memory(4 * strlen(word) + 3);
    char *to = quoted;
    *to++ = '\'';
    for (; *word != '\0'; word++) {
        if (*word == '\'')
            to = stpcpy(to, "'\\'");
        *to++ = *word;
    }
    *to = '\'';
    return quoted;
}

char *process_output(const char *const *argv) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return NULL;
    pid_t pid = process_start(
        &(process_plan){.argv = argv, .output = ends[1], .keep = -1, .last_signal = SIGKILL});
    close(ends[1]);
    char *text = new_memory(OUTPUT_MAX);
    size_t len = 0;
    ssize_t got;
    while (pid > 0 && len < OUTPUT_MAX - 1 &&
           ((got = read(ends[0], text + len, OUTPUT_MAX - 1 - len)) > 0 ||
            (got < 0 && errno == EINTR)))
        len += got > 0 ? (size_t) got : 0;
    close(ends[0]);
    bool ok = pid > 0 && process_wait(pid) == 0;
    while (len > 0 && text[len - 1] == '\n')
        text[--len] = '\0';
    if (!ok) {
        free(text);
        return NULL;
    }
    return text;
}
