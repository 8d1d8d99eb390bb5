/*
 * file: the file that an export writes.
 *
 * Until it is complete, its name is NAME.part-XXXXXXXX, where the digits stand for what is
 * exported. So it is never mistaken for a complete file, and an export of something else never
 * continues it. It consists of whole records, except for the last one after a kill.
 */
#ifndef EXPORT_FILE_H
#define EXPORT_FILE_H

#include "rows/reader.h"

typedef struct export_file export_file;

typedef enum export_opened {
    EXPORT_NEW,
    EXPORT_GOES_ON,  /* *key and *shard are those of the last record, or 0 and -1 */
    EXPORT_COMPLETE, /* there is nothing to do, and no file is open */
    EXPORT_REFUSED,  /* the reason was reported */
} export_opened;

/* What is exported, and how. */
typedef struct export_choice {
    const row_format *format;
    uint64_t identity; /* stands for it */
    char *text;        /* in words */
    bool resume;       /* continue a part of it, if there is one */
    bool overwrite;    /* replace an existing file, and begin again if there is a part */
    bool many; /* one of many files: with `resume`, an existing one of this choice is complete */
} export_choice;

/* `path` "-" is standard output. Without `resume` and `overwrite`, neither the file nor a part of
 * it may exist, unless it is a pipe or a device. The choice must outlive the file. */
export_opened export_file_open(export_file **file, const char *path, const export_choice *choice,
                               int64_t *key, int *shard);

/* Report that a file of this name exists and will not be replaced. */
void export_file_refuse(const char *path);

/* Text appended here is written by the functions below. */
row_text *export_file_text(export_file *file);

/* Write the text if there is much of it. False, with errno set, on failure. */
bool export_file_written(export_file *file);

/* Bytes written since it was opened, once it is closed. */
int64_t export_file_added(const export_file *file);

/* Write the rest and, if the export is complete, give the file its name, unless it overwrites
 * another: export_file_replace() does that. False after an error message. */
bool export_file_close(export_file *file, bool complete);

/* Put a complete part in place of the file, which is replaced as a whole or not at all. False after
 * an error message. */
bool export_file_replace(const char *path, const export_choice *choice);

/* NULL is allowed. */
void export_file_free(export_file *file);

#endif
