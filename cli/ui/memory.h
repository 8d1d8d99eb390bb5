/*
 * memory: allocation that succeeds or ends the command.
 *
 * A command that cannot get a few kilobytes can only report that. Memory whose size depends on the
 * user's data is allocated elsewhere, with errors that are handled.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stddef.h>

/* All are released with free(). */
void *new_memory(size_t size); /* zeroed */
void *resize_memory(void *memory, size_t size);
char *copy_text(const char *text);
char *format_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Report it and exit with EXIT_FAILED. */
_Noreturn void out_of_memory(void);

#endif
