/*
 * memory: allocation that succeeds or ends the command.
 */
#include "ui/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ui/exit.h"

void out_of_memory(void) {
    static const char message[] = "hv: out of memory\n";
    ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);
    (void) written;
    _exit(EXIT_FAILED); /* not exit(): stdout's buffer holds half a result */
}

void *new_memory(size_t size) {
    void *memory = calloc(1, size != 0 ? size : 1);
    if (memory == NULL)
        out_of_memory();
    return memory;
}

void *resize_memory(void *memory, size_t size) {
    void *resized = realloc(memory, size != 0 ? size : 1);
    if (resized == NULL)
        out_of_memory();
    return resized;
}

char *copy_text(const char *text) {
    char *copy = strdup(text);
    if (copy == NULL)
        out_of_memory();
    return copy;
}

char *format_text(const char *format, ...) {
    char *text = NULL;
    va_list values;
    va_start(values, format);
    if (vasprintf(&text, format, values) < 0)
        out_of_memory();
    va_end(values);
    return text;
}
