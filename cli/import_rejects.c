/*
 * import_rejects: the file of rows that an import did not store.
 *
 * Holds always: a regular file has whole lines only, `size` bytes of ours; after a failure nothing
 * more is written.
 */
#include "import_rejects.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "ui.h"

/* Of so many default names one must be free. */
#define MAX_NUMBER 9999

struct import_rejects {
    pthread_mutex_t lock; /* guards all below */
    char *path;
    bool chosen; /* by the user: no other name will do */
    mode_t mode;
    int fd;       /* -1: not open */
    bool made;    /* by us, by opening it */
    off_t size;   /* bytes of whole lines written */
    int64_t rows; /* their number */
    int failed;   /* the errno of the first failure, or 0 */
    row_text line;
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

/* Say so if a file could not be made at `path` later. */
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
    if (!check_place(rejects)) {
        import_rejects_free(rejects);
        return NULL;
    }
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
    row_text_fini(&rejects->line);
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

/* Make the file, under the next name if the default one is taken. */
static bool open_file(import_rejects *rejects) {
    const int flags = O_WRONLY | O_CLOEXEC | O_APPEND;
    char *first = copy_text(rejects->path);
    for (int number = 2;; number++) {
        rejects->fd = open(rejects->path, flags | O_CREAT | O_EXCL, rejects->mode);
        rejects->made = rejects->fd >= 0;
        if (rejects->made || errno != EEXIST)
            break;
        if (rejects->chosen) { /* a device or a pipe: nothing is there that could be lost */
            if (!exists_as_file(rejects->path))
                rejects->fd = open(rejects->path, flags);
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

/* A JSON string. Bytes that are not UTF-8 become U+FFFD. */
static void append_string(row_text *line, const char *text, size_t len) {
    row_text_append_byte(line, '"');
    for (size_t at = 0; at < len;) {
        size_t valid = utf8_prefix(text + at, len - at);
        for (size_t end = at + valid; at < end; at++) {
            unsigned char c = (unsigned char) text[at];
            char escape[8] = {'\\', (char) c, '\0'};
            if (c == '\n' || c == '\t' || c == '\r')
                escape[1] = c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
            else if (c < 0x20 || c == 0x7F)
                snprintf(escape, sizeof escape, "\\u%04x", c);
            else if (c != '"' && c != '\\') {
                row_text_append_byte(line, (char) c);
                continue;
            }
            append_text(line, escape);
        }
        if (at < len) {
            append_text(line, "\xef\xbf\xbd");
            at++;
        }
    }
    row_text_append_byte(line, '"');
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

static bool add(import_rejects *rejects, const row *rejected, hv_status status, int shard,
                const char *reason) {
    row_text *line = &rejects->line;
    char number[32];
    row_text_clear(line);
    snprintf(number, sizeof number, "{\"line\":%lld", (long long) rejected->line);
    append_text(line, number);
    append_text(line, ",\"reason\":");
    append_string(line, reason, strlen(reason));
    append_text(line, ",\"status\":\"");
    append_text(line, hv_status_name(status));
    append_text(line, "\"");
    if (shard >= 0) {
        snprintf(number, sizeof number, ",\"shard\":%d", shard);
        append_text(line, number);
    }
    append_text(line, ",\"row\":");
    append_string(line, rejected->text, rejected->text_len);
    if (utf8_prefix(rejected->text, rejected->text_len) < rejected->text_len) {
        append_text(line, ",\"row_base64\":");
        append_base64(line, rejected->text, rejected->text_len);
    }
    if (rejected->truncated)
        append_text(line, ",\"truncated\":true");
    append_text(line, "}\n");
    if (line->failed) {
        errno = ENOMEM;
        return false;
    }
    if (rejects->fd < 0 && !open_file(rejects))
        return false;
    if (!write_all(rejects->fd, line->data, line->len)) {
        int error = errno;
        if (ftruncate(rejects->fd, rejects->size) != 0)
            rejects->made = false; /* a pipe or a device: it keeps the piece of a line */
        errno = error;
        return false;
    }
    rejects->size += (off_t) line->len;
    rejects->rows++;
    return true;
}

/* ---- Public ---------------------------------------------------------------------------------- */

bool import_rejects_add(import_rejects *rejects, const row *rejected, hv_status status, int shard,
                        const char *reason) {
    pthread_mutex_lock(&rejects->lock);
    if (rejects->failed == 0 && !add(rejects, rejected, status, shard, reason))
        rejects->failed = errno;
    int failed = rejects->failed;
    pthread_mutex_unlock(&rejects->lock);
    errno = failed;
    return failed == 0;
}
