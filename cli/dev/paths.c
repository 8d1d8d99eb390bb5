/*
 * paths: where PostgreSQL's programs are.
 *
 * What pg_config returns is checked: on Debian without the server's development files it may name a
 * folder that holds none of the server's programs.
 */
#include "dev/dev.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ui/memory.h"
#include "ui/ui.h"

static bool can_run(const char *bindir, const char *program) {
    char *path = format_text("%s/%s", bindir, program);
    bool yes = access(path, X_OK) == 0;
    free(path);
    return yes;
}

bool has_postgres(const char *bindir) {
    return can_run(bindir, "initdb") && can_run(bindir, "pg_ctl") && can_run(bindir, "postgres");
}

/* "postgres (PostgreSQL) 15.18 (Debian …)": 15. 0 if it is not known. */
int program_version(const char *bindir) {
    char *program = format_text("%s/postgres", bindir);
    char *text = process_output((const char *const[]){program, "--version", NULL});
    int major = 0;
    if (text == NULL || sscanf(text, "postgres (PostgreSQL) %d", &major) != 1)
        major = 0;
    free(text);
    free(program);
    return major;
}

static bool suits(const char *bindir, int major) {
    return has_postgres(bindir) && (major == 0 || program_version(bindir) == major);
}

int data_version(const char *data) {
    char *path = format_text("%s/PG_VERSION", data);
    int major = 0;
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%d", &major) != 1)
            major = 0;
        fclose(file);
    }
    free(path);
    return major;
}

/* The folder on PATH that holds a program, or NULL: free() it. */
static char *folder_on_path(const char *program) {
    const char *path = getenv("PATH");
    for (const char *at = path != NULL ? path : ""; *at != '\0';) {
        size_t len = strcspn(at, ":");
        char *folder = format_text("%.*s", (int) len, at);
        if (folder[0] == '/' && can_run(folder, program))
            return folder;
        free(folder);
        at += len + (at[len] == ':');
    }
    return NULL;
}

static char *ask_pg_config(const char *pg_config) {
    return process_output((const char *const[]){pg_config, "--bindir", NULL});
}

static int newest_first(const void *left, const void *right) {
    return -strverscmp(*(char *const *) left, *(char *const *) right);
}

/* The newest suitable folder of a pattern, or NULL: free() it. */
static char *newest_of(const char *pattern, int major) {
    glob_t found = {0};
    char *best = NULL;
    if (glob(pattern, 0, NULL, &found) == 0) {
        qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, newest_first);
        for (size_t i = 0; i < found.gl_pathc && best == NULL; i++)
            if (suits(found.gl_pathv[i], major))
                best = copy_text(found.gl_pathv[i]);
    }
    globfree(&found);
    return best;
}

/* Keep a folder if it suits; otherwise release it. */
static char *if_suitable(char *bindir, int major) {
    if (bindir != NULL && suits(bindir, major))
        return bindir;
    free(bindir);
    return NULL;
}

char *find_postgres(int major) {
    const char *named = getenv("PG_CONFIG");
    if (named != NULL && named[0] != '\0') {
        char *bindir = ask_pg_config(named);
        if (bindir == NULL || !has_postgres(bindir)) {
            ui_fail(bindir != NULL ? "It names a folder without initdb, pg_ctl and postgres."
                                   : NULL,
                    "Unset PG_CONFIG, or set it to the pg_config of an installed server.",
                    "$PG_CONFIG, \"%s\", finds no PostgreSQL server", named);
            free(bindir);
            return NULL;
        }
        if (suits(bindir, major))
            return bindir;
        free(bindir);
    }
    char *found = NULL;
    char *folder = folder_on_path("pg_config");
    if (folder != NULL) {
        char *pg_config = format_text("%s/pg_config", folder);
        found = if_suitable(ask_pg_config(pg_config), major);
        free(pg_config);
        free(folder);
    }
    if (found == NULL)
        found = if_suitable(folder_on_path("initdb"), major);
    static const char *const patterns[] = {"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
                                           "/usr/local/pgsql/bin"};
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0] && found == NULL; i++)
        found = newest_of(patterns[i], major);
    if (found == NULL && major == 0)
        ui_fail("initdb, pg_ctl and postgres are neither where pg_config says, nor on PATH, nor in "
                "/usr/lib/postgresql/*/bin.",
                "Install it, on Debian or Ubuntu with `apt install postgresql`, or set PG_CONFIG.",
                "no PostgreSQL server is installed");
    else if (found == NULL) {
        char *hint =
            format_text("Install it again, on Debian or Ubuntu with `apt install "
                        "postgresql-%d`, or make new servers: `hv dev destroy`, `hv dev up`.",
                        major);
        ui_fail(NULL, hint,
                "the servers were made by PostgreSQL %d, which is not installed any more", major);
        free(hint);
    }
    return found;
}
