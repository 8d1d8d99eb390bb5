/*
 * feed_output: where hv feed writes its lines: standard output, or a file that later runs add to.
 */
#include "feed_output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "export/format.h"
#include "rows/own_file.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* How long an interrupt waits for a reader that does not read. */
#define LAST_WRITE_MS 1000
/* How long to wait for a descriptor that somebody has made non-blocking, before trying again. */
#define NAP_MS 250

static bool fail(const feed_output *output, const char *hint, const char *what, const char *why) {
    if (output->path == NULL)
        ui_fail(NULL, hint, "could not %s standard output: %s", what, why);
    else
        ui_fail(NULL, hint, "could not %s \"%s\": %s", what, output->path, why);
    return false;
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* Is what follows these bytes the beginning of lines that will be written again? */
static bool is_repeated(const feed_output *output, int64_t size, int64_t position) {
    char end[160];
    int shard;
    int64_t key;
    ssize_t len = pread(output->fd, end, sizeof end - 1, size > 0 ? size - 1 : 0);
    if (len < 0 || (size > 0 && (len == 0 || end[0] != '\n')))
        return false;
    end[len] = '\0';
    const char *line = end + (size > 0);
    bool is_whole = strchr(line, '\n') != NULL || line + strlen(line) == end + sizeof end - 1;
    return export_parse(line, &row_ndjson, &key, &shard) ? key >= position : !is_whole;
}

/* Cut the file to what the checkpoint covers. */
static bool cut(feed_output *output, int64_t size, int64_t position) {
    if (output->size < size)
        return fail(output, "Name another file, or begin again with another checkpoint.",
                    "go on with", "it is shorter than when the checkpoint was written");
    if (output->size > size && !is_repeated(output, size, position))
        return fail(output, "Name another file.", "go on with",
                    "something else was added to it since the checkpoint was written");
    if (ftruncate(output->fd, size) != 0)
        return fail(output, NULL, "cut off the end of", strerror(errno));
    output->size = size;
    return true;
}

bool feed_output_open(feed_output *output, const char *path, int64_t size, uint64_t inode,
                      int64_t position) {
    struct stat info;
    const char *why = NULL;
    *output = (feed_output){.path = path, .fd = STDOUT_FILENO};
    if (path == NULL)
        return true;
    output->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (output->fd < 0 && errno == EEXIST)
        output->fd = open_own_file(path, O_RDWR | O_APPEND, &why);
    if (output->fd < 0 || fstat(output->fd, &info) != 0)
        return fail(output, NULL, "open", why != NULL ? why : strerror(errno));
    if (flock(output->fd, LOCK_EX | LOCK_NB) != 0)
        return fail(output, NULL, "open", "another process writes to it");
    output->size = info.st_size;
    output->inode = info.st_ino;
    sync_folder(path);
    if (inode == output->inode)
        return cut(output, size, position);
    char end = '\n';
    if (output->size > 0 && (pread(output->fd, &end, 1, output->size - 1) != 1 || end != '\n'))
        return fail(output, "Name another file, or remove its end.", "go on with",
                    "its last line is not complete");
    return true;
}

void feed_output_fini(feed_output *output) {
    row_text_fini(&output->text);
    if (output->path != NULL && output->fd >= 0)
        close(output->fd);
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* Can some bytes be written without waiting longer than this? */
static bool is_ready(const feed_output *output, int timeout) {
    struct pollfd to = {.fd = output->fd, .events = POLLOUT};
    return poll(&to, 1, timeout) > 0;
}

bool feed_output_write(feed_output *output) {
    if (output->text.failed)
        out_of_memory();
    const char *data = output->text.data;
    size_t left = output->text.len;
    int64_t until = INT64_MAX; /* after an interrupt */
    while (left > 0) {
        size_t some = left;
        if (interrupted()) {
            if (until == INT64_MAX)
                until = hvi_deadline_after(LAST_WRITE_MS);
            some = left < PIPE_BUF ? left : PIPE_BUF; /* what a pipe takes without blocking */
            if (!is_ready(output, hvi_deadline_poll_ms(until)) && hvi_clock_us() >= until) {
                output->is_torn = true;
                return false;
            }
        }
        ssize_t written = write(output->fd, data, some);
        if (written > 0) {
            data += written;
            left -= (size_t) written;
            output->size += output->path != NULL ? written : 0;
        } else if (written < 0 && errno == EAGAIN) {
            is_ready(output, NAP_MS);
        } else if (written < 0 && errno != EINTR) {
            return fail(output, NULL, "write to", strerror(errno));
        }
    }
    row_text_clear(&output->text);
    return true;
}

bool feed_output_sync(const feed_output *output) {
    return output->path == NULL || fsync(output->fd) == 0 ||
           fail(output, NULL, "write to", strerror(errno));
}

int feed_output_watched(const feed_output *output) {
    return output->path == NULL ? output->fd : -1;
}
