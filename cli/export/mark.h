/*
 * mark: what an export's file contains and when it was made, kept with the file.
 *
 * It is an extended attribute, user.hypervault.export, so it is moved and renamed with the file,
 * and the file itself contains entities only. If the file system has no such attributes, or a copy
 * has lost it, it is not known.
 */
#ifndef EXPORT_MARK_H
#define EXPORT_MARK_H

#include <stdbool.h>
#include <stdint.h>

typedef struct export_mark {
    uint64_t identity; /* stands for the choice */
    int64_t begun;     /* unix milliseconds */
    int64_t finished;  /* 0: not finished */
    char choice[1000]; /* in words */
} export_mark;

/* Read the mark of an open file. False: it has none. */
bool export_mark_read(int fd, export_mark *mark);

void export_mark_write(int fd, const export_mark *mark);

/* A sentence or two about the file of this name, for a detail: free() it. */
char *export_mark_describe(const char *path);

#endif
