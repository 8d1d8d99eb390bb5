/*
 * export_file: the file that an export writes.
 *
 * Until it is complete its name is NAME.part-XXXXXXXX, where the end stands for what is exported:
 * so it is never taken for a complete one, nor gone on with by an export of something else. It
 * holds whole records, but for the last one after a kill.
 */
#ifndef EXPORT_FILE_H
#define EXPORT_FILE_H

#include "rows/reader.h"

typedef struct export_file export_file;

typedef enum export_opened {
    EXPORT_NEW,
    EXPORT_GOES_ON,  /* *key and *shard are those of the last record, or 0 and -1 */
    EXPORT_COMPLETE, /* there is nothing to do; no file is open */
    EXPORT_REFUSED,  /* it was said why */
} export_opened;

/* What is exported, and how. */
typedef struct export_choice {
    const row_format *format;
    uint64_t identity; /* stands for it */
    char *text;        /* in words */
    bool resume;       /* go on with a part of it, if there is one */
    bool overwrite;    /* in place of a file that is there, and anew if a part of it is */
    bool many;         /* files: with `resume`, one that is there and of this choice is complete */
} export_choice;

/* `path` "-" is standard output. Without `resume` and `overwrite`, neither the file nor a part of
 * it may exist, unless it is a pipe or a device. The choice must outlive the file. */
export_opened export_file_open(export_file **file, const char *path, const export_choice *choice,
                               int64_t *key, int *shard);

/* Say that a file of this name is there and will not be replaced. */
void export_file_refuse(const char *path);

/* What is appended here is written sooner or later. */
row_text *export_file_text(export_file *file);

/* Write it if it is much. False, with errno set, if that failed. */
bool export_file_written(export_file *file);

/* Bytes written since it was opened, once it is closed. */
int64_t export_file_added(const export_file *file);

/* Write the rest and, if it is complete, give it its name; to overwrite, that is left to
 * export_file_replace(). False after saying why that failed. */
bool export_file_close(export_file *file, bool complete);

/* Put a complete part in place of the file, which is replaced as a whole or not at all. */
bool export_file_replace(const char *path, const export_choice *choice);

/* NULL is allowed. */
void export_file_free(export_file *file);

#endif
