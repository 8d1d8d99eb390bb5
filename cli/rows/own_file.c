/*
 * own_file: open files for writing so that no other user decides which file that is.
 */
#include "rows/own_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ui/memory.h"

static int refuse(int fd, int error) {
    close(fd);
    errno = error;
    return -1;
}

int open_own_file(const char *path, int flags, const char **why) {
    struct stat info;
    /* O_NONBLOCK: otherwise opening a pipe without a writer would wait. It has no effect on
     * files. */
    int fd = open(path, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        *why = errno == ELOOP ? "it is a symbolic link" : strerror(errno);
        return -1;
    }
    if (fstat(fd, &info) != 0) {
        *why = strerror(errno);
        return refuse(fd, errno);
    }
    *why = !S_ISREG(info.st_mode)     ? "it is not a regular file"
           : info.st_uid != geteuid() ? "it belongs to another user"
           : info.st_nlink > 1        ? "it has another name too (a hard link)"
                                      : NULL;
    return *why != NULL ? refuse(fd, EPERM) : fd;
}

int open_device(const char *path, int flags) {
    struct stat info;
    int fd = open(path, flags | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode))
        return refuse(fd, EEXIST);
    return fd;
}

int replace_own_file(const char *path, int flags, mode_t mode) {
    if (unlink(path) != 0 && errno != ENOENT)
        return -1;
    return open(path, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
}

void sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder =
        slash != NULL ? format_text("%.*s/", (int) (slash - path), path) : copy_text(".");
    int fd = open(folder, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (fd >= 0) {
        (void) fsync(fd); /* a file system that cannot sync folders does not need it */
        close(fd);
    }
    free(folder);
}

bool is_called(int fd, const char *path) {
    struct stat open_one, named;
    return fstat(fd, &open_one) == 0 && lstat(path, &named) == 0 &&
           open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino;
}
