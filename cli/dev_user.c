/*
 * dev_user: whom the servers run as, and becoming that user.
 *
 * PostgreSQL refuses to run as root, and rightly so. Root therefore only finds or makes the folder,
 * a new one for the user, and becomes that user for good before it reads or writes anything in the
 * folder: what an ordinary user may have put there can do nothing with root's rights. Nor does root
 * go where another user could lead it (dev_way.c), or give away a folder that was there before.
 */
#include "dev.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "characters.h"
#include "memory.h"
#include "ui.h"

#define MAX_DIR 800 /* PostgreSQL cuts paths at 1024 bytes, and adds to this one */

char *dev_default_dir(void) {
    if (geteuid() == 0)
        return copy_text("/var/lib/hypervault/dev");
    const char *data = getenv("XDG_DATA_HOME");
    if (data != NULL && data[0] == '/')
        return format_text("%s/hypervault/dev", data);
    const char *home = getenv("HOME");
    if (home != NULL && home[0] == '/')
        return format_text("%s/.local/share/hypervault/dev", home);
    return NULL;
}

/* ---- Choosing the user ----------------------------------------------------------------------- */

static bool choose_named(const char *name, const struct passwd **user) {
    *user = getpwnam(name);
    if (*user == NULL)
        ui_fail(NULL, NULL, "there is no user \"%s\"", name);
    return *user != NULL;
}

/* For root: the folder's owner, or who was named, or the first sensible one. */
static bool choose_user(const char *dir, bool exists, uid_t owner, const char *named,
                        const struct passwd **user) {
    if (exists && owner != 0) {
        *user = getpwuid(owner);
        if (*user == NULL) {
            ui_fail(NULL, NULL, "\"%s\" belongs to user id %u, which has no name", dir,
                    (unsigned) owner);
            return false;
        }
        if (named != NULL && strcmp((*user)->pw_name, named) != 0) {
            ui_fail(NULL, "Leave --user out, or name another folder with --dir.",
                    "\"%s\" belongs to user \"%s\", not to \"%s\"", dir, (*user)->pw_name, named);
            return false;
        }
        return true;
    }
    if (named != NULL && !choose_named(named, user))
        return false;
    if (named == NULL) {
        *user = getpwnam("postgres");
        if (*user == NULL && !choose_named("nobody", user))
            return false;
    }
    if ((*user)->pw_uid == 0) {
        ui_fail(NULL, "Name another user with --user.", "PostgreSQL refuses to run as root");
        return false;
    }
    return true;
}

/* ---- Becoming the user ----------------------------------------------------------------------- */

static bool change_ids(const struct passwd *user) {
    return initgroups(user->pw_name, user->pw_gid) == 0 && setgid(user->pw_gid) == 0 &&
           setuid(user->pw_uid) == 0 && setuid(0) != 0;
}

static bool become_user(const struct passwd *user) {
    if (!change_ids(user)) {
        ui_fail(strerror(errno), NULL, "could not become user \"%s\"", user->pw_name);
        return false;
    }
    /* PostgreSQL's programs leave the working directory and go back to it by its name: they
     * complain if that or a folder above it is closed to them. */
    char here[PATH_MAX];
    if ((getcwd(here, sizeof here) == NULL || chdir(here) != 0) && chdir("/") != 0)
        return false;
    setenv("HOME", user->pw_dir, 1);
    setenv("USER", user->pw_name, 1);
    setenv("LOGNAME", user->pw_name, 1);
    return true;
}

/* Could this user get to a folder that is there? Tried by a child that becomes the user. */
static bool can_enter(const struct passwd *user, const char *folder) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(change_ids(user) && access(folder, X_OK) == 0 ? 0 : 1);
    return pid > 0 && process_wait(pid) == 0;
}

/* ---- Making the folder ----------------------------------------------------------------------- */

/* The part of an absolute path that exists: its length. */
static size_t existing_part(const char *dir) {
    struct stat status;
    size_t len = strlen(dir);
    char *path = copy_text(dir);
    while (len > 1 && stat(path, &status) != 0) {
        while (len > 1 && path[len - 1] != '/')
            len--;
        while (len > 1 && path[len - 1] == '/')
            len--;
        path[len] = '\0';
    }
    free(path);
    return len;
}

static bool fail_to_make(const char *path) {
    ui_fail(strerror(errno), "Name another folder with --dir.", "could not make the folder \"%s\"",
            path);
    return false;
}

/* Make what is missing of the path: its parents for everybody, the folder itself for its owner. */
static bool make_folders(const char *dir, size_t existing) {
    mode_t mask = umask(022);
    char *path = copy_text(dir);
    bool ok = true;
    for (char *at = path + existing; ok && *at != '\0';) {
        at += strspn(at, "/");
        at += strcspn(at, "/");
        char rest = *at;
        *at = '\0';
        if (mkdir(path, rest == '\0' ? 0700 : 0755) != 0 && errno != EEXIST)
            ok = fail_to_make(path);
        *at = rest;
    }
    free(path);
    umask(mask);
    return ok;
}

/* As root, for the user. Where others can make folders too the user's own rights must do: root does
 * not give away what it might not have made. */
static bool make_for(const dev_way *way, const char *dir, const struct passwd *user) {
    if (dev_way_is_roots(way))
        return dev_way_make(way, user->pw_uid, user->pw_gid) || fail_to_make(dir);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(become_user(user) && make_folders(dir, existing_part(dir)) ? 0 : 1);
    if (pid < 0)
        ui_fail(strerror(errno), NULL, "could not start a process");
    return pid > 0 && process_wait(pid) == 0;
}

/* ---- Entering -------------------------------------------------------------------------------- */

/* An absolute path without control characters and not too long. */
static bool make_absolute(char **dir) {
    if ((*dir)[0] == '\0') {
        ui_fail(NULL, NULL, "the folder's name is empty");
        return false;
    }
    if ((*dir)[0] != '/') {
        char *here = getcwd(NULL, 0);
        if (here == NULL) {
            ui_fail(strerror(errno), NULL, "could not find out the working directory");
            return false;
        }
        char *absolute = format_text("%s/%s", here, *dir);
        free(here);
        free(*dir);
        *dir = absolute;
    }
    size_t len = strlen(*dir);
    while (len > 1 && (*dir)[len - 1] == '/')
        (*dir)[--len] = '\0';
    if (len > MAX_DIR) {
        ui_fail(NULL, "Name another folder with --dir.",
                "the folder's name is too long for PostgreSQL: %zu bytes, where %d are allowed",
                len, MAX_DIR);
        return false;
    }
    return true;
}

/* Its name goes to terminals and into files: what acts on a terminal has no place in it. */
static bool check_name(const char *dir) {
    size_t len = strlen(dir);
    for (size_t at = 0, size; at < len; at += size) {
        uint32_t code = 0;
        size = utf8_decode(dir + at, len - at, &code);
        if (size == 0 || acts_on_terminal(code)) {
            ui_fail(NULL, "Name another folder with --dir.",
                    size == 0 ? "the folder's name is not UTF-8: \"%s\""
                              : "the folder's name has control characters: \"%s\"",
                    dir);
            return false;
        }
    }
    return true;
}

static bool resolve(char **dir) {
    char *real = realpath(*dir, NULL);
    if (real == NULL) {
        ui_fail(strerror(errno), NULL, "could not enter the folder \"%s\"", *dir);
        return false;
    }
    free(*dir);
    *dir = real;
    return check_name(*dir);
}

/* Does the folder that was found belong to this user? */
static bool check_owner(const dev_way *way, const char *dir, uid_t owner) {
    struct stat info;
    if (fstat(way->folder, &info) == 0 && info.st_uid == owner)
        return true;
    ui_fail(NULL, "Name another folder with --dir.",
            "the folder \"%s\" has changed its owner meanwhile", dir);
    return false;
}

bool dev_way_of(dev_way *way, char **dir) {
    struct stat info;
    if (!make_absolute(dir) || !check_name(*dir) || !dev_way_walk(way, *dir, false, 0))
        return false;
    if (way->folder < 0 || fstat(way->folder, &info) != 0)
        return true;
    dev_way_close(way);
    return dev_way_walk(way, *dir, true, info.st_uid);
}

/* As root: make the folder if it is missing, and step down. */
static bool enter_as_root(char **dir, const char *named, bool create, bool exists, uid_t owner) {
    const struct passwd *user = NULL;
    dev_way way;
    if (!choose_user(*dir, exists, owner, named, &user))
        return false;
    size_t existing = existing_part(*dir);
    char *there = format_text("%.*s", (int) existing, *dir);
    bool ok = can_enter(user, there);
    if (!ok)
        ui_fail(NULL, "Name another folder with --dir, or another user with --user.",
                "user \"%s\", whom the servers would run as, has no access to \"%s\"",
                user->pw_name, there);
    free(there);
    if (!ok || !dev_way_walk(&way, *dir, true, user->pw_uid))
        return false;
    if (way.folder < 0 && create) {
        ok = make_for(&way, *dir, user);
        dev_way_close(&way);
        ok = ok && dev_way_walk(&way, *dir, true, user->pw_uid);
    }
    ok = ok && check_owner(&way, *dir, user->pw_uid) && become_user(user) && resolve(dir);
    if (ok && !dev_way_leads_to(&way, *dir)) {
        ui_fail(NULL, "Name another folder with --dir.",
                "somebody has replaced the folder \"%s\" meanwhile", *dir);
        ok = false;
    }
    dev_way_close(&way);
    return ok;
}

static bool enter_as_self(char **dir, const char *named, bool exists, uid_t owner) {
    const struct passwd *self = getpwuid(geteuid());
    if (named != NULL && (self == NULL || strcmp(self->pw_name, named) != 0)) {
        ui_fail(NULL, "Run it as root, or leave --user out.",
                "only root can run servers as another user");
        return false;
    }
    if (exists && owner != geteuid()) {
        const struct passwd *other = getpwuid(owner);
        char *name =
            other != NULL ? copy_text(other->pw_name) : format_text("%u", (unsigned) owner);
        ui_fail(NULL, "Run it as that user or as root, or name another folder with --dir.",
                "\"%s\" belongs to user \"%s\"", *dir, name);
        free(name);
        return false;
    }
    return (exists || make_folders(*dir, existing_part(*dir))) && resolve(dir);
}

bool dev_enter(char **dir, const char *user, bool create) {
    if (!make_absolute(dir) || !check_name(*dir))
        return false;
    struct stat status = {0};
    bool is_root = geteuid() == 0;
    bool exists = stat(*dir, &status) == 0;
    if (!exists && errno != ENOENT) {
        ui_fail(strerror(errno), "Name another folder with --dir.",
                "could not look at the folder \"%s\"", *dir);
        return false;
    }
    if (exists && !S_ISDIR(status.st_mode)) {
        ui_fail(NULL, "Name another folder with --dir.", "\"%s\" is not a folder", *dir);
        return false;
    }
    bool is_roots = is_root && exists && status.st_uid == 0;
    if (!create && (!exists || is_roots)) { /* ours never belong to root */
        ui_fail(NULL, "`hv dev up` makes some; name their folder with --dir if it is another one.",
                "there are no private servers in \"%s\"", *dir);
        return false;
    }
    if (is_roots) {
        ui_fail("Root's folders stay root's, empty or not.",
                "Name a folder that is not there yet, or one of the user that the servers are to "
                "run as.",
                "\"%s\" belongs to root", *dir);
        return false;
    }
    umask(077);
    return is_root ? enter_as_root(dir, user, create, exists, status.st_uid)
                   : enter_as_self(dir, user, exists, status.st_uid);
}
