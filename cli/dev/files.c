/*
 * files: write a file as a whole or not at all; read files; remove and measure folders.
 */
#include "dev/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ui/memory.h"
#include "ui/ui.h"

#define OPEN_FOLDERS 16 /* that nftw() may have open at a time */

bool write_file(const char *path, const char *text) {
    char *temporary = format_text("%s.new", path);
    bool ok = false;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file != NULL) {
        ok = fputs(text, file) >= 0 && fflush(file) == 0 && fsync(fd) == 0;
        ok = fclose(file) == 0 && ok;
    }
    ok = ok && rename(temporary, path) == 0;
    if (!ok) {
        ui_fail(strerror(errno), NULL, "could not write \"%s\"", path);
        if (fd >= 0)
            unlink(temporary);
    }
    free(temporary);
    return ok;
}

char *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "re");
    struct stat status;
    char *bytes = NULL;
    if (file == NULL)
        return NULL;
    errno = EINVAL;
    if (fstat(fileno(file), &status) == 0 && S_ISREG(status.st_mode)) {
        *len = (size_t) status.st_size;
        bytes = new_memory(*len + 1);
        if (fread(bytes, 1, *len, file) != *len) {
            free(bytes);
            bytes = NULL;
            errno = EIO;
        }
    }
    fclose(file);
    return bytes;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where) {
    (void) status;
    (void) type;
    (void) where;
    if (remove(path) == 0 || errno == ENOENT)
        return 0;
    ui_fail(strerror(errno), NULL, "could not remove \"%s\"", path);
    return 1;
}

bool remove_tree(const char *path) {
    struct stat status;
    if (lstat(path, &status) != 0 && errno == ENOENT)
        return true;
    int result = nftw(path, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS);
    if (result == -1)
        ui_fail(strerror(errno), NULL, "could not remove \"%s\"", path);
    return result == 0;
}

static int64_t bytes_seen; /* nftw() passes no context to its callback */

static int add_bytes(const char *path, const struct stat *status, int type, struct FTW *where) {
    (void) path;
    (void) where;
    if (type != FTW_NS)
        bytes_seen += (int64_t) status->st_blocks * 512;
    return 0;
}

int64_t tree_bytes(const char *path) {
    bytes_seen = 0;
    nftw(path, add_bytes, OPEN_FOLDERS, FTW_PHYS);
    return bytes_seen;
}
