/*
 * dev_user: whom the servers run as, and becoming that user.
 *
 * PostgreSQL refuses to run as root, and rightly so. Root therefore only finds or makes the folder,
 * gives it to the user, and becomes that user for good before it reads or writes anything in the
 * folder: what an ordinary user may have put there can do nothing with root's rights.
 */
#include "dev.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* Root gives a new or empty folder of its own to the user. */
static bool hand_over(const char *dir, const struct passwd *user) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        int reason = errno;
        if (fd >= 0)
            close(fd);
        ui_fail(reason == ENOTDIR ? "It is a symbolic link." : strerror(reason),
                "Name another folder with --dir.", "could not open the folder \"%s\"", dir);
        return false;
    }
    bool ok = true;
    if (status.st_uid == 0) {
        DIR *list = fdopendir(dup(fd));
        int entries = 0;
        while (list != NULL && readdir(list) != NULL)
            entries++;
        if (list != NULL)
            closedir(list);
        if (entries != 2) { /* . and .. */
            ui_fail(NULL, "Name a new or an empty folder with --dir.",
                    "\"%s\" belongs to root and is not empty", dir);
            ok = false;
        } else if (fchown(fd, user->pw_uid, user->pw_gid) != 0 || fchmod(fd, 0700) != 0) {
            ui_fail(strerror(errno), NULL, "could not give \"%s\" to user \"%s\"", dir,
                    user->pw_name);
            ok = false;
        }
    }
    close(fd);
    return ok;
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
    for (const char *at = *dir; *at != '\0'; at++) {
        if ((unsigned char) *at < 0x20 || *at == 0x7F) {
            ui_fail(NULL, "Name another folder with --dir.",
                    "the folder's name has control characters: \"%s\"", *dir);
            return false;
        }
    }
    if (len > MAX_DIR) {
        ui_fail(NULL, "Name another folder with --dir.",
                "the folder's name is too long for PostgreSQL: %zu bytes, where %d are allowed",
                len, MAX_DIR);
        return false;
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
    return true;
}

/* As root: make the folder or hand it over, and step down. */
static bool enter_as_root(char **dir, const char *named, bool create, bool exists, uid_t owner) {
    const struct passwd *user = NULL;
    if (!choose_user(*dir, exists, owner, named, &user))
        return false;
    size_t existing = existing_part(*dir);
    char *there = format_text("%.*s", (int) existing, *dir);
    if (exists && owner == 0) /* it will be the user's: what matters is the way to it */
        there[strrchr(there, '/') > there ? strrchr(there, '/') - there : 1] = '\0';
    bool ok = can_enter(user, there);
    if (!ok)
        ui_fail(NULL, "Name another folder with --dir, or another user with --user.",
                "user \"%s\", whom the servers would run as, has no access to \"%s\"",
                user->pw_name, there);
    free(there);
    if (ok && create)
        ok = make_folders(*dir, existing) && hand_over(*dir, user);
    return ok && resolve(dir) && become_user(user);
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
    if (!make_absolute(dir))
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
    bool is_roots = is_root && status.st_uid == 0;
    if (!create && (!exists || is_roots)) { /* ours never belong to root */
        ui_fail(NULL, "`hv dev up` makes some; name their folder with --dir if it is another one.",
                "there are no private servers in \"%s\"", *dir);
        return false;
    }
    umask(077);
    return is_root ? enter_as_root(dir, user, create, exists, status.st_uid)
                   : enter_as_self(dir, user, exists, status.st_uid);
}
