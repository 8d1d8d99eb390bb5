/*
 * rejects: the file of rows that an import did not store.
 *
 * Holds always: a regular file consists of whole lines, `size` bytes that were written here. After
 * a failure nothing more is written.
 */
#include "import/rejects.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rows/own_file.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* The beginning of a line, and what follows for a row that was sent to a shard. Both are read
 * again. */
#define LINE_BEGIN       "{\"line\":%" PRId64 ",\"number\":%" PRId64 ",\"import\":\"%s\""
#define LINE_SHARD       ",\"shard\":%d"
#define IMPORT_NAME_SIZE 80

/* How many default names are tried. */
#define MAX_NUMBER 9999

struct import_rejects {
    pthread_mutex_t lock; /* guards everything below */
    char *path;
    bool chosen; /* by the user: no other name is tried */
    mode_t mode;
    int fd;         /* -1: not open */
    bool made;      /* by opening it */
    off_t size;     /* bytes of whole lines written */
    int64_t rows;   /* their number */
    int failed;     /* the errno of the first failure, or 0 */
    row_text lines; /* lines that are being added */
    int64_t added;  /* their number */
    char *import;   /* owned */
};

static bool exists_as_file(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0 && (stat(path, &info) != 0 || S_ISREG(info.st_mode));
}

/* The folder that a file is in. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? copy_text(".") : format_text("%.*s", (int) (slash - path) + 1, path);
}

/* Report it now if the file could not be made later. */
static bool check_place(const import_rejects *rejects) {
    struct stat info;
    if (rejects->chosen && exists_as_file(rejects->path)) {
        ui_fail(NULL, "Name another file for rejected rows, or move this one away.",
                "file \"%s\" exists already", rejects->path);
        return false;
    }
    if (rejects->chosen && stat(rejects->path, &info) == 0 && S_ISDIR(info.st_mode)) {
        ui_fail(NULL, "Name a file for rejected rows.", "\"%s\" is a folder", rejects->path);
        return false;
    }
    char *folder = folder_of(rejects->path);
    int error = access(folder, W_OK | X_OK) == 0 ? 0 : errno;
    bool writable = error == 0 || access(rejects->path, W_OK) == 0; /* a device, say */
    if (!writable)
        ui_fail(NULL, "Choose a place for rejected rows with --rejects FILE.",
                "no file for rejected rows can be made in \"%s\": %s", folder, strerror(error));
    free(folder);
    return writable;
}

import_rejects *import_rejects_new(const char *path, const char *name, mode_t mode) {
    import_rejects *rejects = new_memory(sizeof *rejects);
    *rejects = (import_rejects){
        .path = path != NULL ? copy_text(path) : format_text("%s.rejects", name),
        .chosen = path != NULL,
        .mode = mode,
        .fd = -1,
    };
    pthread_mutex_init(&rejects->lock, NULL);
    return rejects;
}

bool import_rejects_free(import_rejects *rejects) {
    if (rejects == NULL)
        return true;
    bool kept = rejects->fd < 0 || close(rejects->fd) == 0;
    int error = errno;
    if (rejects->made && rejects->rows == 0) /* there was no room for even one */
        unlink(rejects->path);
    pthread_mutex_destroy(&rejects->lock);
    row_text_fini(&rejects->lines);
    free(rejects->import);
    free(rejects->path);
    free(rejects);
    errno = error;
    return kept;
}

const char *import_rejects_wanted(const import_rejects *rejects) {
    return rejects->path;
}

const char *import_rejects_path(import_rejects *rejects) {
    pthread_mutex_lock(&rejects->lock);
    const char *path = rejects->rows > 0 ? rejects->path : NULL;
    pthread_mutex_unlock(&rejects->lock);
    return path;
}

/* ---- Under the lock -------------------------------------------------------------------------- */

/* Make the file, under the next name if the default one exists. */
static bool open_file(import_rejects *rejects) {
    const int flags = O_WRONLY | O_CLOEXEC | O_APPEND;
    char *first = copy_text(rejects->path);
    for (int number = 2;; number++) {
        rejects->fd = open(rejects->path, flags | O_CREAT | O_EXCL, rejects->mode);
        rejects->made = rejects->fd >= 0;
        if (rejects->made || errno != EEXIST)
            break;
        if (rejects->chosen) { /* a device or a pipe, which has nothing to lose */
            if (!exists_as_file(rejects->path))
                rejects->fd = open_device(rejects->path, flags);
            else
                errno = EEXIST;
            break;
        }
        if (number > MAX_NUMBER) {
            errno = EEXIST;
            break;
        }
        free(rejects->path);
        rejects->path = format_text("%s.%d", first, number);
    }
    free(first);
    return rejects->fd >= 0;
}

static bool write_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t written = write(fd, data, len);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            data += written;
            len -= (size_t) written;
        }
    }
    return true;
}

static void append_text(row_text *line, const char *text) {
    row_text_append(line, text, strlen(text));
}

static void append_base64(row_text *line, const char *bytes, size_t len) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    row_text_append_byte(line, '"');
    for (size_t at = 0; at < len; at += 3) {
        size_t left = len - at;
        uint32_t group = (uint32_t) (unsigned char) bytes[at] << 16;
        if (left > 1)
            group |= (uint32_t) (unsigned char) bytes[at + 1] << 8;
        if (left > 2)
            group |= (unsigned char) bytes[at + 2];
        row_text_append_byte(line, digits[group >> 18]);
        row_text_append_byte(line, digits[group >> 12 & 63]);
        row_text_append_byte(line, left > 1 ? digits[group >> 6 & 63] : '=');
        row_text_append_byte(line, left > 2 ? digits[group & 63] : '=');
    }
    row_text_append_byte(line, '"');
}

/* Write the lines that were added. */
static bool write_lines(import_rejects *rejects) {
    row_text *lines = &rejects->lines;
    if (lines->failed) {
        errno = ENOMEM;
        return false;
    }
    if (rejects->fd < 0 && !open_file(rejects))
        return false;
    if (!write_all(rejects->fd, lines->data, lines->len)) {
        int error = errno;
        if (ftruncate(rejects->fd, rejects->size) != 0)
            rejects->made = false; /* a pipe or a device: the part of a line stays in it */
        errno = error;
        return false;
    }
    rejects->size += (off_t) lines->len;
    rejects->rows += rejects->added;
    return true;
}

/* ---- Public ---------------------------------------------------------------------------------- */

void import_rejects_begin(import_rejects *rejects) {
    pthread_mutex_lock(&rejects->lock);
    row_text_clear(&rejects->lines);
    rejects->added = 0;
}

void import_rejects_add(import_rejects *rejects, const row *rejected, hv_status status, int shard,
                        const char *reason) {
    row_text *line = &rejects->lines;
    char number[IMPORT_NAME_SIZE + 96];
    snprintf(number, sizeof number, LINE_BEGIN, rejected->line, rejected->number, rejects->import);
    append_text(line, number);
    if (shard >= 0) {
        snprintf(number, sizeof number, LINE_SHARD, shard);
        append_text(line, number);
    }
    append_text(line, ",\"status\":\"");
    append_text(line, hv_status_name(status));
    append_text(line, "\",\"reason\":");
    row_text_append_json(line, reason, strlen(reason));
    append_text(line, ",\"row\":");
    row_text_append_json(line, rejected->text, rejected->text_len);
    if (row_text_prefix(rejected->text, rejected->text_len) < rejected->text_len) {
        append_text(line, ",\"row_base64\":");
        append_base64(line, rejected->text, rejected->text_len);
    }
    if (rejected->truncated)
        append_text(line, ",\"truncated\":true");
    append_text(line, "}\n");
    rejects->added++;
}

bool import_rejects_end(import_rejects *rejects) {
    if (rejects->failed == 0 && !write_lines(rejects))
        rejects->failed = errno;
    int failed = rejects->failed;
    pthread_mutex_unlock(&rejects->lock);
    errno = failed;
    return failed == 0;
}

/* ---- Going on with a file ------------------------------------------------------------------- */

/* Read the part of a line before the reason. False if the line is of another origin. */
static bool parse_line(const char *line, char import[IMPORT_NAME_SIZE], int64_t *number,
                       int *shard) {
    int read = 0;
    long long at_line, at_row;
    *shard = -1;
    if (sscanf(line, "{\"line\":%lld,\"number\":%lld,\"import\":\"%79[^\"]\"%n", &at_line, &at_row,
               import, &read) != 3 ||
        read == 0)
        return false;
    *number = at_row;
    sscanf(line + read, LINE_SHARD, shard);
    return true;
}

/* Open a file that an earlier run may have made, for reading. NULL if it cannot be one. */
static FILE *open_ours(const char *path) {
    const char *why;
    int fd = open_own_file(path, O_RDONLY, &why);
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (fd >= 0 && file == NULL)
        close(fd);
    return file;
}

/* Was the file at `path` begun by this import? */
static bool is_ours(const import_rejects *rejects, const char *path) {
    char line[256], import[IMPORT_NAME_SIZE];
    int64_t number;
    int shard;
    FILE *file = open_ours(path);
    bool ours = file != NULL && fgets(line, sizeof line, file) != NULL &&
                parse_line(line, import, &number, &shard) && strcmp(import, rejects->import) == 0;
    if (file != NULL)
        fclose(file);
    return ours;
}

/* Find the file that the user named, or one of those that might have been chosen. */
static char *find_ours(const import_rejects *rejects) {
    if (rejects->chosen)
        return is_ours(rejects, rejects->path) ? copy_text(rejects->path) : NULL;
    char *path = copy_text(rejects->path);
    for (int number = 2; number <= MAX_NUMBER && exists_as_file(path); number++) {
        if (is_ours(rejects, path))
            return path;
        free(path);
        path = format_text("%s.%d", rejects->path, number);
    }
    free(path);
    return NULL;
}

/* Copy the whole lines that are kept. Returns 0 or an errno. */
static int copy_lines(import_rejects *rejects, FILE *from, FILE *to, import_rejects_keep keep,
                      void *context) {
    char *line = NULL, import[IMPORT_NAME_SIZE];
    size_t cap = 0;
    ssize_t len;
    int error = 0;
    while (error == 0 && (len = getline(&line, &cap, from)) > 0) {
        int64_t number;
        int shard;
        bool good = line[len - 1] == '\n' && parse_line(line, import, &number, &shard);
        if (!good || !keep(context, number, shard))
            continue;
        if (fwrite(line, 1, (size_t) len, to) != (size_t) len)
            error = errno;
        rejects->size += len;
        rejects->rows++;
    }
    if (error == 0 && ferror(from))
        error = EIO;
    free(line);
    return error;
}

/* Replace the file by one with the lines that are kept. Returns 0 or an errno. */
static int take_over(import_rejects *rejects, const char *path, import_rejects_keep keep,
                     void *context) {
    char *other = format_text("%s.tmp", path);
    FILE *from = open_ours(path);
    int fd = from != NULL ? replace_own_file(other, O_WRONLY | O_APPEND, rejects->mode) : -1;
    FILE *to = fd >= 0 ? fdopen(fd, "a") : NULL;
    int error = to != NULL ? copy_lines(rejects, from, to, keep, context) : errno;
    if (error == 0 && fchmod(fd, rejects->mode) != 0)
        error = errno;
    if (error == 0 && (fflush(to) != 0 || rename(other, path) != 0 ||
                       (rejects->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0))
        error = errno;
    if (error != 0 && fd >= 0)
        unlink(other);
    if (from != NULL)
        fclose(from);
    if (to != NULL)
        fclose(to);
    else if (fd >= 0)
        close(fd);
    rejects->made = error == 0;
    free(other);
    return error;
}

bool import_rejects_name(import_rejects *rejects, const char *import, bool begun,
                         import_rejects_keep keep, void *context) {
    rejects->import = copy_text(import);
    char *path = begun ? find_ours(rejects) : NULL;
    if (path == NULL)
        return check_place(rejects);
    int error = take_over(rejects, path, keep, context);
    if (error != 0)
        ui_fail(NULL, NULL, "could not continue \"%s\": %s", path, strerror(error));
    free(rejects->path);
    rejects->path = path;
    return error == 0;
}
