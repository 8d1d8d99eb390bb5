/*
 * import_input: the file or stream that is imported.
 */
#include "import_input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ui.h"

/* How long a stream may be silent before we look whether to go on. */
#define TICK_MS 100

bool import_input_open(import_input *input, const char *path) {
    const char *slash = strrchr(path, '/');
    *input = (import_input){
        .fd = STDIN_FILENO, .is_standard = strcmp(path, "-") == 0, .name = path, .size = -1};
    input->base = input->is_standard ? "stdin" : slash != NULL ? slash + 1 : path;
    if (input->is_standard)
        input->name = "standard input";
    else
        input->fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    int error = input->fd < 0 || fstat(input->fd, &info) != 0 ? errno
                : S_ISDIR(info.st_mode)                       ? EISDIR
                                                              : 0;
    if (error != 0) {
        ui_fail(NULL, NULL, "could not open \"%s\": %s", input->name, strerror(error));
        import_input_close(input);
        return false;
    }
    input->mode = S_IRUSR | S_IWUSR;
    if (S_ISREG(info.st_mode)) {
        off_t at = lseek(input->fd, 0, SEEK_CUR);
        input->size = info.st_size - (at > 0 ? at : 0);
        input->mode = (info.st_mode & 0666) | S_IRUSR | S_IWUSR;
    }
    return true;
}

void import_input_close(import_input *input) {
    if (input->fd >= 0 && !input->is_standard)
        close(input->fd);
    input->fd = -1;
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
