/*
 * input: the file or stream that is imported.
 */
#ifndef IMPORT_INPUT_H
#define IMPORT_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct import_input {
    int fd;           /* -1: not open */
    bool is_standard; /* standard input, which stays open */
    char *name;       /* for messages: in quotes, or "standard input"; owned */
    const char *base; /* the path's last part, for other files' names; lives as long as the path */
    off_t start;      /* where in a regular file */
    int64_t size;     /* bytes to be read, or -1 if it is not a regular file */
    mode_t mode;      /* its permissions */
    char *head;       /* bytes that import_input_identity() has read ahead; owned */
    size_t head_len;
    size_t head_at; /* how much of it was returned */
    bool (*canceled)(void *context);
    void *context;
} import_input;

/* Open a file, or standard input for "-". False after an error message; close it then too. */
bool import_input_open(import_input *input, const char *path);
void import_input_close(import_input *input);

/* A hash that identifies this input: of the size and the first 64 KiB of a file, or of the first
 * line of a stream, for which it waits. False, with errno set, if it cannot be read. */
bool import_input_identity(import_input *input, uint64_t *identity);

/* A row_input: reads, and now and then checks input->canceled(input->context). */
ssize_t import_input_read(void *input, char *data, size_t size);

#endif
