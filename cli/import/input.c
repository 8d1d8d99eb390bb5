/*
 * input: the file or stream that is imported.
 */
#include "import/input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "import/resume.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* How long to wait for a stream before checking whether to continue. */
#define TICK_MS 100

/* How much of a file identifies it. */
#define HEAD_BYTES ((size_t) 64 << 10)

/* Returns 0 or an errno. */
static int look_at(import_input *input) {
    struct stat info;
    if (fstat(input->fd, &info) != 0)
        return errno;
    if (S_ISDIR(info.st_mode))
        return EISDIR;
    input->mode = S_IRUSR | S_IWUSR;
    if (S_ISREG(info.st_mode)) {
        off_t at = lseek(input->fd, 0, SEEK_CUR);
        input->start = at > 0 ? at : 0;
        input->size = info.st_size - input->start;
        input->mode |= info.st_mode & 0666;
    }
    return 0;
}

bool import_input_open(import_input *input, const char *path) {
    *input = (import_input){.fd = STDIN_FILENO, .base = "stdin", .size = -1};
    int error = 0;
    if (strcmp(path, "-") == 0) {
        input->is_standard = true;
        input->name = copy_text("standard input");
    } else {
        const char *slash = strrchr(path, '/');
        input->base = slash != NULL ? slash + 1 : path;
        input->name = format_text("\"%s\"", path);
        input->fd = open(path, O_RDONLY | O_CLOEXEC);
        error = input->fd < 0 ? errno : 0;
    }
    if (error == 0)
        error = look_at(input);
    if (error != 0)
        ui_fail(NULL, NULL, "could not open %s: %s", input->name, strerror(error));
    return error == 0;
}

void import_input_close(import_input *input) {
    if (input->fd >= 0 && !input->is_standard)
        close(input->fd);
    input->fd = -1;
    free(input->head);
    input->head = NULL;
    free(input->name);
    input->name = NULL;
}

static ssize_t read_some(const import_input *input, char *data, size_t size) {
    for (;;) {
        if (input->canceled != NULL && input->canceled(input->context)) {
            errno = ECANCELED;
            return -1;
        }
        struct pollfd ready = {.fd = input->fd, .events = POLLIN};
        int count = poll(&ready, 1, TICK_MS);
        if (count == 0 || (count < 0 && errno == EINTR))
            continue;
        ssize_t got = read(input->fd, data, size);
        if (got >= 0 || (errno != EINTR && errno != EAGAIN))
            return got;
    }
}

bool import_input_identity(import_input *input, uint64_t *identity) {
    input->head = new_memory(HEAD_BYTES);
    ssize_t got = 1;
    const char *end = NULL;
    while (got > 0 && input->head_len < HEAD_BYTES && (input->size >= 0 || end == NULL)) {
        char *to = input->head + input->head_len;
        got = read_some(input, to, HEAD_BYTES - input->head_len);
        if (got < 0)
            return false;
        end = memchr(to, '\n', (size_t) got);
        input->head_len += (size_t) got;
    }
    size_t len = input->head_len;
    if (input->size < 0 && end != NULL)
        len = (size_t) (end - input->head) + 1;
    *identity = import_digest(0, (const char *) &input->size, sizeof input->size);
    *identity = import_digest(*identity, input->head, len);
    return true;
}

ssize_t import_input_read(void *context, char *data, size_t size) {
    import_input *input = context;
    size_t left = input->head_len - input->head_at;
    if (left == 0)
        return read_some(input, data, size);
    size_t some = left < size ? left : size;
    memcpy(data, input->head + input->head_at, some);
    input->head_at += some;
    return (ssize_t) some;
}
