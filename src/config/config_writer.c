/*
 * config_writer: change the shards of servers in a configuration file, and nothing else.
 *
 * Holds always: the file is either as it was or as it is to be. The new file is read back, and is
 * not used if anything but the shards differs from what was there.
 */
#include "config/config_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/shard_ranges.h"
#include "config/config_file.h"

/* ---- what the new file must be ---- */

void hvi_config_shards(const hv_options *options, int server, hvi_buffer *to) {
    hvi_shard_writer writer = {.text = to};
    for (int shard = -1; (shard = hvi_shard_map_next(&options->map, server, shard)) >= 0;)
        hvi_shard_writer_add(&writer, shard);
    hvi_shard_writer_end(&writer);
    hvi_buffer_append(to, "", 0); /* so that it has data */
}

static bool equals(const char *one, const char *other) {
    return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

static bool is_same_server(const hvi_server_options *one, const hvi_server_options *other) {
    bool same = equals(one->name, other->name) && one->count == other->count &&
                equals(one->dbname_given_as, other->dbname_given_as);
    for (size_t i = 0; same && i < one->count; i++)
        same = equals(one->keywords[i], other->keywords[i]) &&
               equals(one->values[i], other->values[i]);
    for (int i = 0; same && i < HVI_MOVE_SETTINGS; i++)
        same = equals(one->move[i], other->move[i]);
    return same;
}

/* Has the server the shards that it is to have? */
static bool has_shards(const hv_options *before, const hv_options *after, int server,
                       const hvi_config_change *changes, size_t count) {
    hvi_buffer is = HVI_BUFFER_EMPTY, was = HVI_BUFFER_EMPTY;
    hvi_config_shards(after, server, &is);
    hvi_config_shards(before, server, &was);
    const char *wanted = was.data;
    bool is_auto = before->servers[server].is_auto;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(changes[i].server, after->servers[server].name) == 0) {
            wanted = changes[i].shards;
            is_auto = false;
        }
    }
    bool same = hvi_buffer_ok(&is) && hvi_buffer_ok(&was) && equals(is.data, wanted) &&
                after->servers[server].is_auto == is_auto;
    hvi_buffer_fini(&is);
    hvi_buffer_fini(&was);
    return same;
}

/* Are the shards right, and is everything else as it was? */
static bool is_right(const hv_options *before, const hv_options *after,
                     const hvi_config_change *changes, size_t count) {
    bool right = before->server_count == after->server_count;
    for (int i = 0; right && i < HVI_OPTION_COUNT; i++)
        right = equals(before->texts[i], after->texts[i]);
    for (int i = 0; right && i < before->server_count; i++)
        right = is_same_server(&before->servers[i], &after->servers[i]) &&
                has_shards(before, after, i, changes, count);
    return right;
}

/* ---- files ---- */

/* A change of a file, from reading to renaming. */
typedef struct writing {
    const char *name; /* as the user knows it; not owned */
    char *path;       /* the file itself, without symbolic links; owned, as all that follows */
    char *beside;     /* the new file; NULL: there is none */
    struct stat was;
    hvi_buffer text;
    hvi_buffer changed;
} writing;

static hv_status fail_system(const char *what, const char *name, hv_error **error) {
    int number = errno;
    if (number == ENOMEM)
        return hvi_no_memory(error);
    return hvi_fail(error, HV_BAD_CONFIG, "could not %s configuration file \"%s\": %s", what, name,
                    strerror(number));
}

static hv_status read_text(const writing *w, hvi_buffer *text, struct stat *is, hv_error **error) {
    char piece[16384];
    ssize_t count = -1;
    int fd = open(w->path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fstat(fd, is) == 0;
    while (ok && (count = read(fd, piece, sizeof piece)) > 0)
        hvi_buffer_append(text, piece, (size_t) count);
    hv_status status = ok && count == 0 ? HV_OK : fail_system("read", w->name, error);
    if (fd >= 0)
        close(fd);
    explicit_bzero(piece, sizeof piece);
    return status == HV_OK && !hvi_buffer_ok(text) ? hvi_no_memory(error) : status;
}

/* The name of a new file in the folder of this one, for mkstemp(). */
static char *name_beside(const char *path) {
    const char *slash = strrchr(path, '/');
    hvi_buffer name = HVI_BUFFER_EMPTY;
    hvi_buffer_append(&name, path, slash != NULL ? (size_t) (slash + 1 - path) : 0);
    hvi_buffer_append_format(&name, ".%s.XXXXXX", slash != NULL ? slash + 1 : path);
    return hvi_buffer_take(&name);
}

static bool write_all(int fd, const char *text, size_t len) {
    while (len > 0) {
        ssize_t count = write(fd, text, len);
        if (count < 0 && errno != EINTR)
            return false;
        text += count > 0 ? count : 0;
        len -= count > 0 ? (size_t) count : 0;
    }
    return true;
}

static bool keeps_owner(int fd, const struct stat *was) {
    struct stat is;
    if (fstat(fd, &is) != 0)
        return false;
    if (is.st_uid == was->st_uid && is.st_gid == was->st_gid)
        return true;
    return fchown(fd, was->st_uid, was->st_gid) == 0;
}

/* Write the new file, as durable as a file can be, but not in its place yet. */
static hv_status write_beside(writing *w, hv_error **error) {
    char *name = name_beside(w->path);
    if (name == NULL)
        return hvi_no_memory(error);
    int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) {
        free(name);
        return fail_system("write a new file beside", w->name, error);
    }
    w->beside = name;
    hv_status status = HV_OK;
    if (!keeps_owner(fd, &w->was)) {
        status = fail_system("keep the owner of", w->name, error);
        hvi_error_hint(error, "Run this as the file's owner.");
    } else if (fchmod(fd, w->was.st_mode & 07777) != 0 ||
               !write_all(fd, w->changed.data, w->changed.len) || fsync(fd) != 0) {
        status = fail_system("write", w->name, error);
    }
    if (close(fd) != 0 && status == HV_OK)
        status = fail_system("write", w->name, error);
    return status;
}

/* Read the new file as any program would. */
static hv_status check_beside(const writing *w, const hv_options *before,
                              const hvi_config_change *changes, size_t count, hv_error **error) {
    hv_options *after = hv_options_new();
    hv_error *cause = NULL;
    if (after == NULL)
        return hvi_no_memory(error);
    hv_status status = hvi_config_file_read(after, w->beside, true, &cause);
    bool right = status == HV_OK && is_right(before, after, changes, count);
    hv_options_free(after);
    if (!right && status != HV_NO_MEMORY) {
        status = hvi_fail(error, HV_BAD_CONFIG,
                          "could not change \"shards\" in \"%s\" without changing more", w->name);
        hvi_error_hint(error, "Change the file by hand: `hv config` prints the shards.");
    } else if (!right) {
        hvi_no_memory(error);
    }
    hv_error_free(cause);
    return status;
}

/* Let the new file take the place of the old one, if that is still what was read. */
static hv_status replace(writing *w, hv_error **error) {
    hvi_buffer now = HVI_BUFFER_EMPTY;
    struct stat is;
    hv_status status = read_text(w, &now, &is, error);
    if (status == HV_OK &&
        (is.st_ino != w->was.st_ino || is.st_dev != w->was.st_dev || now.len != w->text.len ||
         (now.len > 0 && memcmp(now.data, w->text.data, now.len) != 0))) {
        status =
            hvi_fail(error, HV_BAD_CONFIG,
                     "configuration file \"%s\" was changed by another program meanwhile", w->name);
        hvi_error_hint(error, "Try again.");
    }
    if (now.data != NULL)
        explicit_bzero(now.data, now.len);
    hvi_buffer_fini(&now);
    if (status == HV_OK && rename(w->beside, w->path) != 0)
        status = fail_system("replace", w->name, error);
    if (status != HV_OK)
        return status;
    free(w->beside);
    w->beside = NULL;
    char *copy = strdup(w->path);
    int folder = copy != NULL ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (folder >= 0) { /* as far as the file system can: the file is right in any case */
        fsync(folder);
        close(folder);
    }
    free(copy);
    return HV_OK;
}

static hv_status change(writing *w, const hv_options *before, const hvi_config_change *changes,
                        size_t count, hv_error **error) {
    hv_status status = read_text(w, &w->text, &w->was, error);
    if (status != HV_OK)
        return status;
    hvi_config_rewrite(w->text.data, w->text.len, changes, count, &w->changed);
    if (!hvi_buffer_ok(&w->changed))
        return hvi_no_memory(error);
    status = write_beside(w, error);
    if (status == HV_OK)
        status = check_beside(w, before, changes, count, error);
    return status == HV_OK ? replace(w, error) : status;
}

static void fini_text(hvi_buffer *text) {
    if (text->data != NULL)
        explicit_bzero(text->data, text->cap);
    hvi_buffer_fini(text);
}

hv_status hvi_config_write(const char *path, const hvi_config_change *changes, size_t count,
                           hv_error **error) {
    writing w = {.name = path};
    hv_options *before = hv_options_new();
    hv_status status = HV_OK;
    if (before == NULL)
        status = hvi_no_memory(error);
    if (status == HV_OK)
        status = hvi_config_file_read(before, path, true, error);
    if (status == HV_OK && (w.path = realpath(path, NULL)) == NULL)
        status = fail_system("find", path, error);
    if (status == HV_OK)
        status = change(&w, before, changes, count, error);
    if (w.beside != NULL)
        unlink(w.beside);
    fini_text(&w.text);
    fini_text(&w.changed);
    free(w.beside);
    free(w.path);
    hv_options_free(before);
    return status;
}
