/*
 * mark: what an export's file contains and when it was made, kept with the file.
 */
#include "export/mark.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "ui/memory.h"
#include "ui/ui.h"

static const char name[] = "user.hypervault.export";

bool export_mark_read(int fd, export_mark *mark) {
    char text[sizeof mark->choice + 100];
    ssize_t len = fgetxattr(fd, name, text, sizeof text - 1);
    int at = 0;
    if (len < 0)
        return false;
    text[len] = '\0';
    *mark = (export_mark){0};
    if (sscanf(text, "%16" SCNx64 " %" SCNd64 " %" SCNd64 " %n", &mark->identity, &mark->begun,
               &mark->finished, &at) != 3 ||
        at == 0)
        return false;
    snprintf(mark->choice, sizeof mark->choice, "%s", text + at);
    return true;
}

void export_mark_write(int fd, const export_mark *mark) {
    char *text = format_text("%016" PRIx64 " %" PRId64 " %" PRId64 " %s", mark->identity,
                             mark->begun, mark->finished, mark->choice);
    (void) fsetxattr(fd, name, text, strlen(text), 0); /* on failure it is not known later */
    free(text);
}

char *export_mark_describe(const char *path) {
    export_mark mark;
    struct stat info = {0};
    char begun[UI_NUMBER_SIZE], ended[UI_NUMBER_SIZE];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool known = fd >= 0 && export_mark_read(fd, &mark);
    if (fd >= 0 && fstat(fd, &info) != 0)
        info.st_mtim.tv_sec = 0;
    if (fd >= 0)
        close(fd);
    if (!known)
        return format_text("It was last written at %s; that it is an export, and of what, is not "
                           "known.",
                           ui_time(ended, (int64_t) info.st_mtim.tv_sec * 1000));
    if (mark.finished == 0)
        return format_text("It was begun at %s and contains %s.", ui_time(begun, mark.begun),
                           mark.choice);
    return format_text("It was begun at %s, finished at %s and contains %s.",
                       ui_time(begun, mark.begun), ui_time(ended, mark.finished), mark.choice);
}
