/*
 * file: the file that an export writes.
 */
#include "export/file.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "export/format.h"
#include "export/mark.h"
#include "rows/own_file.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* How much is written at once. */
#define PIECE ((size_t) 256 << 10)

struct export_file {
    const export_choice *choice;
    export_mark mark;
    char *path; /* when it is complete; NULL: standard output */
    char *part; /* until then; NULL: there is none, it is a pipe or a device */
    int fd;
    row_text text;
    int64_t size;
    int64_t there;    /* bytes of it that existed before */
    bool on_terminal; /* then people read it, and no import */
};

static bool fail(const export_file *file, const char *what) {
    const char *path = file->part != NULL ? file->part : file->path;
    ui_fail(NULL, NULL, "could not %s %s%s%s: %s", what, path != NULL ? "\"" : "",
            path != NULL ? path : "standard output", path != NULL ? "\"" : "", strerror(errno));
    return false;
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* The name of a part of an export of something else, if there is one, or NULL. */
static char *find_other(const export_file *file) {
    glob_t found = {0};
    char *quoted = new_memory(2 * strlen(file->path) + sizeof ".part-????????");
    char *to = quoted;
    for (const char *c = file->path; *c != '\0'; c++) {
        if (strchr("*?[]\\", *c) != NULL)
            *to++ = '\\';
        *to++ = *c;
    }
    strcpy(to, ".part-????????");
    char *other = NULL;
    if (glob(quoted, 0, NULL, &found) == 0 && found.gl_pathc > 0)
        other = copy_text(found.gl_pathv[0]);
    globfree(&found);
    free(quoted);
    return other;
}

/* Find the last whole record, and the file's length without what follows it. */
static bool read_end(export_file *file, export_end *end, char *record, size_t size) {
    char *piece = new_memory(PIECE);
    ssize_t got;
    while ((got = read(file->fd, piece, PIECE)) > 0)
        export_end_feed(end, file->choice->format, piece, (size_t) got);
    free(piece);
    if (got == 0 && end->start >= 0) {
        int64_t len = end->end - end->start;
        size_t some = len < (int64_t) size - 1 ? (size_t) len : size - 1;
        got = pread(file->fd, record, some, end->start);
        record[got > 0 ? got : 0] = '\0';
    }
    return got >= 0;
}

/* Cut off the part of a record that a kill has left, and find where to continue. */
static bool find_end(export_file *file, int64_t *key, int *shard) {
    char record[160] = "";
    export_end end = {.start = -1};
    if (!read_end(file, &end, record, sizeof record))
        return fail(file, "read");
    const char *header = export_header(file->choice->format);
    bool is_header = header[0] != '\0' && end.start == 0 && strcmp(record, header) == 0;
    if (end.start >= 0 && !is_header && !export_parse(record, file->choice->format, key, shard)) {
        ui_fail(NULL, "Remove it, and begin again without --resume.",
                "\"%s\" does not end like an export", file->part);
        return false;
    }
    file->size = file->there = end.end;
    if (ftruncate(file->fd, end.end) != 0 || lseek(file->fd, end.end, SEEK_SET) < 0)
        return fail(file, "cut off the end of");
    return true;
}

/* The name of a file until it is complete. */
static char *part_of(const char *path, const export_choice *choice) {
    return format_text("%s.part-%08x", path,
                       (unsigned) (choice->identity ^ choice->identity >> 32));
}

static bool open_part(export_file *file, bool *goes_on) {
    char *other = find_other(file);
    struct stat info;
    *goes_on = lstat(file->part, &info) == 0;
    if (*goes_on && other == NULL)
        other = copy_text(file->part);
    if (other != NULL && !(*goes_on && (file->choice->resume || file->choice->overwrite))) {
        char *about = export_mark_describe(*goes_on ? file->part : other);
        ui_fail(about,
                *goes_on ? "Continue it with --resume, or remove it."
                         : "Give the same options to continue it, or remove it.",
                *goes_on ? "there is a part of this export: \"%s\""
                         : "there is a part of an export of something else: \"%s\"",
                *goes_on ? file->part : other);
        free(about);
        free(other);
        return false;
    }
    free(other);
    const char *why = NULL;
    if (*goes_on)
        file->fd = open_own_file(file->part, O_RDWR, &why);
    else
        file->fd = open(file->part, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0666);
    if (file->fd < 0 && *goes_on) {
        ui_fail(NULL, "Check what it is, and remove it to begin again.",
                "could not continue \"%s\": %s", file->part, why);
        return false;
    }
    if (file->fd < 0)
        return fail(file, "open");
    if (flock(file->fd, LOCK_EX | LOCK_NB) != 0) {
        ui_fail(NULL, NULL, "another process writes to \"%s\"", file->part);
        return false;
    }
    return true;
}

void export_file_refuse(const char *path) {
    export_mark mark;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool known = fd >= 0 && export_mark_read(fd, &mark);
    char *about = export_mark_describe(path);
    ui_fail(about, "Replace it with --overwrite, name another file, or move this one away.",
            known ? "\"%s\" is a finished export" : "\"%s\" exists already", path);
    free(about);
    if (fd >= 0)
        close(fd);
}

/* One of many files exists: find out whether an earlier run of this export has finished it. */
static export_opened look_at_finished(const char *path, const export_choice *choice) {
    export_mark mark;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool known = fd >= 0 && export_mark_read(fd, &mark);
    if (fd >= 0)
        close(fd);
    if (!known)
        ui_note("\"%s\" exists already; what it is an export of is not known", path);
    if (!known || mark.identity == choice->identity)
        return EXPORT_COMPLETE;
    export_file_refuse(path);
    return EXPORT_REFUSED;
}

/* Mark what the part is of: this export, unless it was begun before. */
static void mark_part(export_file *file, bool goes_on) {
    if (!goes_on || !export_mark_read(file->fd, &file->mark)) {
        file->mark =
            (export_mark){.identity = file->choice->identity, .begun = hvi_clock_unix_us() / 1000};
        snprintf(file->mark.choice, sizeof file->mark.choice, "%s", file->choice->text);
    }
    file->mark.finished = 0;
    export_mark_write(file->fd, &file->mark);
}

export_opened export_file_open(export_file **file, const char *path, const export_choice *choice,
                               int64_t *key, int *shard) {
    struct stat info;
    bool standard = strcmp(path, "-") == 0;
    bool goes_on = false;
    bool exists = !standard && stat(path, &info) == 0;
    *key = 0;
    *shard = -1;
    bool regular = exists && S_ISREG(info.st_mode);
    if (regular && choice->resume && choice->many && !choice->overwrite)
        return look_at_finished(path, choice);
    if (exists && S_ISDIR(info.st_mode)) {
        ui_fail(NULL, "Name a file, or give it with --dir.", "\"%s\" is a folder", path);
        return EXPORT_REFUSED;
    }
    if (regular && !choice->overwrite) {
        export_file_refuse(path);
        return EXPORT_REFUSED;
    }
    export_file *made = new_memory(sizeof *made);
    *made = (export_file){.choice = choice, .fd = standard ? STDOUT_FILENO : -1};
    made->path = standard ? NULL : copy_text(path);
    bool good = true;
    if (exists && !regular) {
        made->fd = open_device(path, O_WRONLY);
        good = made->fd >= 0 || fail(made, "open");
    } else if (!standard) {
        made->part = part_of(path, choice);
        good = open_part(made, &goes_on);
        if (good && goes_on && !choice->resume) { /* begin again */
            goes_on = false;
            good = ftruncate(made->fd, 0) == 0 || fail(made, "empty");
        }
        good = good && (!goes_on || find_end(made, key, shard));
        if (good)
            mark_part(made, goes_on);
    }
    if (!good) {
        export_file_free(made);
        return EXPORT_REFUSED;
    }
    made->on_terminal = made->part == NULL && isatty(made->fd) == 1;
    if (made->size == 0)
        row_text_append(&made->text, export_header(choice->format),
                        strlen(export_header(choice->format)));
    *file = made;
    return goes_on ? EXPORT_GOES_ON : EXPORT_NEW;
}

/* ---- Writing --------------------------------------------------------------------------------- */

row_text *export_file_text(export_file *file) {
    return &file->text;
}

/* CSV has no escapes: on a terminal control characters become visible, except for line ends. */
static void make_visible(row_text *text) {
    char *shown = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&shown, &size);
    if (stream == NULL)
        out_of_memory();
    ui_lines(stream, text->data, text->len);
    if (fclose(stream) != 0)
        out_of_memory();
    row_text_clear(text);
    row_text_append(text, shown, size);
    free(shown);
}

static bool write_text(export_file *file) {
    if (file->on_terminal && !file->text.failed)
        make_visible(&file->text);
    if (file->text.failed)
        out_of_memory();
    const char *data = file->text.data;
    size_t left = file->text.len;
    while (left > 0) {
        ssize_t written = write(file->fd, data, left);
        if (written < 0 && errno != EINTR)
            return fail(file, "write to");
        if (written > 0) {
            data += written;
            left -= (size_t) written;
            file->size += written;
        }
    }
    row_text_clear(&file->text);
    return true;
}

bool export_file_written(export_file *file) {
    return file->text.len < PIECE || write_text(file);
}

int64_t export_file_added(const export_file *file) {
    return file->size - file->there;
}

/* Give the part the file's name, but do not replace another file. */
static bool give_name(const export_file *file) {
    if (!is_called(file->fd, file->part)) {
        ui_fail(NULL, "Export again, into a folder that no other user can write to.",
                "\"%s\" was moved or replaced by another program", file->part);
        return false;
    }
    if (link(file->part, file->path) == 0)
        return unlink(file->part) == 0 || fail(file, "remove");
    /* On a file system without links. Where renaming without replacing is not possible, rename. */
    if (errno != EEXIST &&
        renameat2(AT_FDCWD, file->part, AT_FDCWD, file->path, RENAME_NOREPLACE) == 0)
        return true;
    if (errno != EEXIST)
        return rename(file->part, file->path) == 0 || fail(file, "rename");
    ui_fail(NULL, "The export is complete: move one of the two away.",
            "\"%s\" was made by another program; the export is in \"%s\"", file->path, file->part);
    return false;
}

bool export_file_replace(const char *path, const export_choice *choice) {
    char *part = part_of(path, choice);
    export_mark mark;
    const char *why = NULL;
    int fd = open_own_file(part, O_RDONLY, &why);
    if (fd >= 0 && export_mark_read(fd, &mark) && mark.finished == 0)
        why = "it is not complete";
    if (why == NULL && rename(part, path) != 0)
        why = strerror(errno);
    if (why != NULL)
        ui_fail(NULL, NULL, "could not put \"%s\" in place of \"%s\": %s", part, path, why);
    else
        sync_folder(path);
    if (fd >= 0)
        close(fd);
    free(part);
    return why == NULL;
}

bool export_file_close(export_file *file, bool complete) {
    if (!write_text(file))
        return false;
    if (file->part == NULL)
        return file->path == NULL || close(file->fd) == 0 || fail(file, "write to");
    if (!complete)
        return true;
    file->mark.finished = hvi_clock_unix_us() / 1000;
    export_mark_write(file->fd, &file->mark);
    if (fsync(file->fd) != 0)
        return fail(file, "write to");
    if (file->choice->overwrite)
        return true;
    if (!give_name(file))
        return false;
    sync_folder(file->path);
    return true;
}

void export_file_free(export_file *file) {
    if (file == NULL)
        return;
    if (file->fd > STDERR_FILENO)
        close(file->fd);
    row_text_fini(&file->text);
    free(file->path);
    free(file->part);
    free(file);
}
