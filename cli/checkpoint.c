/*
 * checkpoint: the file in which hv feed keeps how far it has come.
 */
#include "checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "rows/key_json.h"
#include "rows/own_file.h"
#include "ui/memory.h"
#include "ui/ui.h"

#define FORMAT      1
#define FORMAT_NAME "hypervault_feed"
#define CHECK_NAME  "check"
#define LONGEST     ((size_t) 1 << 20) /* bytes */
#define IS_FOREIGN  "it is not a checkpoint of hv feed"
#define IS_TORN     "its end is missing"
#define IS_NEWER    "it was written by a newer version of hv"
#define IS_DAMAGED  "it was changed or damaged"

void checkpoint_fini(checkpoint *made) {
    for (size_t i = 0; i < made->database_count; i++)
        free(made->databases[i]);
    for (size_t i = 0; i < made->skip_count; i++)
        free(made->skips[i].server);
    free(made->databases);
    free(made->skips);
    *made = (checkpoint){0};
}

void checkpoint_add_database(checkpoint *made, const char *database) {
    made->databases =
        resize_memory(made->databases, (made->database_count + 1) * sizeof *made->databases);
    made->databases[made->database_count++] = copy_text(database);
}

void checkpoint_add_skip(checkpoint *made, const char *server, int64_t from) {
    made->skips = resize_memory(made->skips, (made->skip_count + 1) * sizeof *made->skips);
    made->skips[made->skip_count++] = (checkpoint_skip){copy_text(server), from};
}

/* The check over everything else in the object, whichever order it is in. */
static void make_check(json_t *object, char check[17]) {
    json_t *rest = json_copy(object);
    if (rest == NULL)
        out_of_memory();
    json_object_del(rest, CHECK_NAME);
    char *text = json_dumps(rest, JSON_SORT_KEYS | JSON_COMPACT);
    if (text == NULL)
        out_of_memory();
    snprintf(check, 17, "%016" PRIx64, hvi_hash_fnv1a(text, strlen(text)));
    free(text);
    json_decref(rest);
}

/* ---- Reading --------------------------------------------------------------------------------- */

static bool read_hex(const char *text, uint64_t *number) {
    char *end;
    if (text == NULL || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return false;
    *number = strtoull(text, &end, 16);
    return true;
}

static bool read_key(const json_t *value, int64_t *key) {
    const char *text = json_string_value(value);
    return text != NULL && key_json_read(text, key);
}

/* The check was right: what is missing now was never there. */
static bool read_members(json_t *object, checkpoint *found) {
    json_t *epoch = json_object_get(object, "epoch");
    json_t *databases = json_object_get(object, "databases");
    json_t *skipped = json_object_get(object, "skipped");
    json_t *output = json_object_get(object, "output"), *size = json_object_get(output, "size");
    if (!read_key(json_object_get(object, "position"), &found->position) ||
        !read_hex(json_string_value(json_object_get(object, "selection")), &found->selection) ||
        !json_is_integer(size) ||
        !read_hex(json_string_value(json_object_get(output, "inode")), &found->output_inode) ||
        !json_is_integer(epoch) || !json_is_array(databases) || !json_is_object(skipped))
        return false;
    found->output_size = json_integer_value(size);
    found->epoch = json_integer_value(epoch);
    size_t i;
    json_t *value;
    const char *server;
    json_array_foreach(databases, i, value) {
        if (!json_is_string(value))
            return false;
        checkpoint_add_database(found, json_string_value(value));
    }
    json_object_foreach(skipped, server, value) {
        int64_t from;
        if (!read_key(value, &from))
            return false;
        checkpoint_add_skip(found, server, from);
    }
    return true;
}

/* NULL, or why it cannot be used. */
static const char *parse(const char *text, size_t len, checkpoint *found) {
    static const char opening[] = "{\"" FORMAT_NAME "\":";
    char check[17];
    size_t begun = len < sizeof opening - 1 ? len : sizeof opening - 1;
    if (len == 0)
        return "it is empty";
    json_t *object = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    if (object == NULL)
        return memcmp(text, opening, begun) == 0 ? IS_TORN : IS_FOREIGN;
    const json_t *format = json_object_get(object, FORMAT_NAME);
    const char *is_wrong = NULL, *expected = json_string_value(json_object_get(object, CHECK_NAME));
    make_check(object, check);
    if (!json_is_integer(format))
        is_wrong = IS_FOREIGN;
    else if (json_integer_value(format) > FORMAT)
        is_wrong = IS_NEWER;
    else if (expected == NULL || strcmp(check, expected) != 0 || !read_members(object, found))
        is_wrong = IS_DAMAGED;
    json_decref(object);
    return is_wrong;
}

/* Up to one byte more than the longest, or -1. */
static ssize_t read_file(int fd, char *text) {
    size_t len = 0;
    ssize_t got;
    while ((got = read(fd, text + len, LONGEST + 1 - len)) > 0)
        len += (size_t) got;
    return got < 0 ? got : (ssize_t) len;
}

checkpoint_found checkpoint_read(const char *path, checkpoint *found, const char **why) {
    int fd = open_own_file(path, O_RDONLY, why);
    if (fd < 0)
        return errno == ENOENT ? CHECKPOINT_NONE : CHECKPOINT_UNUSABLE;
    char *text = new_memory(LONGEST + 1);
    ssize_t len = read_file(fd, text);
    *found = (checkpoint){0};
    *why = len < 0                  ? strerror(errno)
           : (size_t) len > LONGEST ? IS_FOREIGN
                                    : parse(text, (size_t) len, found);
    free(text);
    close(fd);
    if (*why != NULL)
        checkpoint_fini(found);
    return *why == NULL ? CHECKPOINT_READ : CHECKPOINT_UNUSABLE;
}

/* ---- Writing --------------------------------------------------------------------------------- */

static json_t *hex_json(uint64_t number) {
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, number);
    return json_string(text);
}

/* The file's contents: free() them. */
static char *contents(const checkpoint *made) {
    char time[UI_NUMBER_SIZE], check[17];
    json_t *databases = json_array(), *skipped = json_object();
    for (size_t i = 0; i < made->database_count; i++)
        json_array_append_new(databases, json_string(made->databases[i]));
    for (size_t i = 0; i < made->skip_count; i++)
        json_object_set_new(skipped, made->skips[i].server, key_json(made->skips[i].from));
    json_t *object =
        json_pack("{s:i, s:o, s:I, s:o, s:o, s:{s:I, s:o}, s:o, s:s}", FORMAT_NAME, FORMAT,
                  "position", key_json(made->position), "epoch", (json_int_t) made->epoch,
                  "databases", databases, "selection", hex_json(made->selection), "output", "size",
                  (json_int_t) made->output_size, "inode", hex_json(made->output_inode), "skipped",
                  skipped, "written", ui_time(time, hvi_clock_unix_us() / 1000));
    if (object == NULL)
        out_of_memory();
    make_check(object, check);
    json_object_set_new(object, CHECK_NAME, json_string(check));
    char *text = json_dumps(object, 0);
    if (text == NULL)
        out_of_memory();
    json_decref(object);
    char *line = format_text("%s\n", text);
    free(text);
    return line;
}

static bool write_all(int fd, const char *text) {
    for (size_t left = strlen(text); left > 0;) {
        ssize_t written = write(fd, text, left);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            text += written;
            left -= (size_t) written;
        }
    }
    return true;
}

bool checkpoint_write(const char *path, const checkpoint *made, const char **why) {
    char *text = contents(made), *new_path = format_text("%s.new", path);
    int fd = replace_own_file(new_path, O_WRONLY, 0666);
    bool written = fd >= 0 && write_all(fd, text) && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0 && close(fd) != 0 && written) {
        written = false;
        error = errno;
    }
    if (written && rename(new_path, path) != 0) {
        written = false;
        error = errno;
    }
    if (written)
        sync_folder(path);
    else if (fd >= 0)
        unlink(new_path);
    if (!written)
        *why = strerror(error);
    free(new_path);
    free(text);
    return written;
}
