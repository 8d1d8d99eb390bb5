/*
 * import_input: the file or stream that is imported.
 */
#include "import_input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"
#include "ui.h"

/* How long a stream may be silent before we look whether to go on. */
#define TICK_MS 100

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
        input->size = info.st_size - (at > 0 ? at : 0);
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
    free(input->name);
    input->name = NULL;
}

ssize_t import_input_read(void *context, char *data, size_t size) {
    const import_input *input = context;
    for (;;) {
        if (input->canceled(input->context)) {
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
