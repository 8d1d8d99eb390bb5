/*
 * way: the way to a folder, which root checks folder by folder.
 *
 * Holds always: the descriptors are of the folders that were checked, whatever their names lead to
 * by now. Everything on a good way belongs to root or to the user that the servers run as, and only
 * they can change it (in a folder like /tmp, users can change only what they own). So no other user
 * decides where the way leads.
 */
#include "dev/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ui/memory.h"
#include "ui/ui.h"

#define MAX_LINKS 40

void dev_way_close(dev_way *way) {
    if (way->parent >= 0)
        close(way->parent);
    if (way->folder >= 0)
        close(way->folder);
    free(way->name);
    *way = (dev_way){.parent = -1, .folder = -1};
}

static bool is_other(uid_t owner, uid_t user) {
    return owner != 0 && owner != user;
}

static bool fail_way(const char *what, const char *path, const char *why) {
    ui_fail(why, "Name a folder elsewhere with --dir, or the user who owns it with --user.",
            "root does not follow the %s \"%s\"", what, path);
    return false;
}

/* Check that no other user can change what is in this folder. */
static bool check_folder(const struct stat *info, uid_t user, const char *path) {
    if (is_other(info->st_uid, user))
        return fail_way("folder", path, "It belongs to another user.");
    bool others = (info->st_mode & S_IWOTH) != 0;
    bool group = (info->st_mode & S_IWGRP) != 0 && info->st_gid != 0;
    if ((others || group) && (info->st_mode & S_ISVTX) == 0)
        return fail_way("folder", path, "Others can write to it, and replace what is in it.");
    return true;
}

/* The state of a walk. */
typedef struct walk {
    dev_way *way;
    char *path; /* of the present folder, for messages; owned */
    char *left; /* the rest of the path; owned */
    uid_t user;
    bool check;
    int links;
} walk;

static void go_to(walk *w, int folder) {
    if (w->way->parent >= 0)
        close(w->way->parent);
    w->way->parent = w->way->folder;
    w->way->folder = folder;
}

static bool go_to_root(walk *w) {
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        ui_fail(strerror(errno), NULL, "could not look at the folder \"/\"");
    go_to(w, root);
    free(w->path);
    w->path = copy_text("");
    return root >= 0;
}

/* Insert the link's target before the rest of the path. */
static bool follow(walk *w, const char *name, const struct stat *info, const char *path) {
    char target[PATH_MAX];
    if (w->check && is_other(info->st_uid, w->user))
        return fail_way("symbolic link", path, "It belongs to another user.");
    ssize_t len = readlinkat(w->way->folder, name, target, sizeof target);
    if (len < 0 || len == (ssize_t) sizeof target || ++w->links > MAX_LINKS) {
        ui_fail(len < 0 ? strerror(errno) : strerror(ELOOP), "Name another folder with --dir.",
                "could not follow the symbolic link \"%s\"", path);
        return false;
    }
    char *left = format_text("%.*s/%s", (int) len, target, w->left);
    free(w->left);
    w->left = left;
    return target[0] != '/' || go_to_root(w);
}

/* Take one step. *missing: the name does not exist. */
static bool step(walk *w, const char *name, bool *missing) {
    struct stat info;
    char *path = format_text("%s/%s", w->path, name);
    bool good = false;
    int folder = -1;
    *missing = false;
    if (fstat(w->way->folder, &info) != 0) {
        ui_fail(strerror(errno), NULL, "could not look at the folder \"%s\"", w->path);
    } else if (w->check && !check_folder(&info, w->user, w->path[0] != '\0' ? w->path : "/")) {
        good = false;
    } else if (fstatat(w->way->folder, name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        good = *missing = errno == ENOENT;
        if (!good)
            ui_fail(strerror(errno), "Name another folder with --dir.",
                    "could not look at the folder \"%s\"", path);
    } else if (S_ISLNK(info.st_mode)) {
        good = follow(w, name, &info, path);
    } else if (!S_ISDIR(info.st_mode)) {
        ui_fail(NULL, "Name another folder with --dir.", "\"%s\" is not a folder", path);
    } else {
        folder = openat(w->way->folder, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder < 0)
            ui_fail(strerror(errno), "Name another folder with --dir.",
                    "could not look at the folder \"%s\"", path);
        good = folder >= 0;
    }
    if (folder >= 0) {
        free(w->way->name);
        w->way->name = copy_text(name);
        go_to(w, folder);
        free(w->path);
        w->path = path;
        path = NULL;
    }
    free(path);
    return good;
}

/* The next name of the rest, or NULL at its end: free() it. */
static char *take_name(walk *w) {
    char *at = w->left + strspn(w->left, "/");
    size_t len = strcspn(at, "/");
    char *name = len > 0 ? format_text("%.*s", (int) len, at) : NULL;
    memmove(w->left, at + len, strlen(at + len) + 1);
    return name;
}

bool dev_way_walk(dev_way *way, const char *dir, bool check, uid_t user) {
    walk w = {.way = way, .left = copy_text(dir), .user = user, .check = check};
    *way = (dev_way){.parent = -1, .folder = -1};
    bool good = go_to_root(&w);
    bool missing = false;
    char *name;
    while (good && !missing && (name = take_name(&w)) != NULL) {
        if (strcmp(name, ".") != 0)
            good = step(&w, name, &missing);
        if (good && missing) {
            free(way->name);
            way->name = format_text("%s%s", name, w.left);
        }
        free(name);
    }
    /* After the last step `folder` is the folder, or if that is missing the nearest one that
     * exists. */
    if (good && missing) {
        if (way->parent >= 0)
            close(way->parent);
        way->parent = way->folder;
        way->folder = -1;
    }
    free(w.path);
    free(w.left);
    if (!good)
        dev_way_close(way);
    return good;
}

/* Make a folder that belongs to its owner from the moment when it has its name. */
static bool make_owned(int parent, const char *name, uid_t owner, gid_t group, mode_t mode) {
    char *temporary = format_text(".%s.%ld", name, (long) getpid());
    int fd = -1;
    bool made = mkdirat(parent, temporary, 0700) == 0;
    bool good = made;
    if (good) {
        fd = openat(parent, temporary, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        good = fd >= 0 && fchown(fd, owner, group) == 0 && fchmod(fd, mode) == 0 &&
               renameat2(parent, temporary, parent, name, RENAME_NOREPLACE) == 0;
    }
    int reason = errno;
    if (fd >= 0)
        close(fd);
    if (made && !good)
        unlinkat(parent, temporary, AT_REMOVEDIR);
    free(temporary);
    errno = reason;
    return good;
}

bool dev_way_is_roots(const dev_way *way) {
    struct stat info;
    return fstat(way->parent, &info) == 0 && info.st_uid == 0 && (info.st_mode & S_IWOTH) == 0 &&
           ((info.st_mode & S_IWGRP) == 0 || info.st_gid == 0);
}

bool dev_way_make(const dev_way *way, uid_t owner, gid_t group) {
    int at = fcntl(way->parent, F_DUPFD_CLOEXEC, 0);
    char *left = copy_text(way->name);
    bool good = at >= 0;
    for (char *name = left; good && *name != '\0';) {
        size_t len = strcspn(name, "/");
        char *next = name + len + strspn(name + len, "/");
        name[len] = '\0';
        bool last = *next == '\0';
        good = make_owned(at, name, last ? owner : 0, last ? group : 0, last ? 0700 : 0755);
        if (good && !last) {
            int inner = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            good = inner >= 0;
            close(at);
            at = inner;
        }
        name = next;
    }
    int reason = errno;
    if (at >= 0)
        close(at);
    free(left);
    errno = reason;
    return good;
}

bool dev_way_leads_to(const dev_way *way, const char *dir) {
    struct stat there, here;
    return fstat(way->folder, &there) == 0 && lstat(dir, &here) == 0 &&
           there.st_dev == here.st_dev && there.st_ino == here.st_ino;
}

bool dev_way_remove(const dev_way *way) {
    struct stat there, here;
    if (fstat(way->folder, &there) != 0 ||
        fstatat(way->parent, way->name, &here, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    if (there.st_dev != here.st_dev || there.st_ino != here.st_ino) {
        errno = ENOENT;
        return false;
    }
    return unlinkat(way->parent, way->name, AT_REMOVEDIR) == 0;
}
