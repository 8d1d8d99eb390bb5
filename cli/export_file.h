/*
 * export_file: the file that an export writes.
 *
 * Until it is complete its name is NAME.part-XXXXXXXX, where the end stands for what is exported:
 * so it is never taken for a complete one, nor gone on with by an export of something else. It
 * holds whole records, but for the last one after a kill.
 */
#ifndef EXPORT_FILE_H
#define EXPORT_FILE_H

#include "row_reader.h"

typedef struct export_file export_file;

typedef enum export_opened {
    EXPORT_NEW,
    EXPORT_GOES_ON,  /* *key and *shard are those of the last record, or 0 and -1 */
    EXPORT_COMPLETE, /* there is nothing to do; no file is open */
    EXPORT_REFUSED,  /* it was said why */
} export_opened;

/* `path` "-" is standard output. With `resume` go on with what there is; without it, neither the
 * file nor a part of it may exist, unless it is a pipe or a device. `identity` stands for what is
 * exported. */
export_opened export_file_open(export_file **file, const char *path, const row_format *format,
                               uint64_t identity, bool resume, int64_t *key, int *shard);

/* What is appended here is written sooner or later. */
row_text *export_file_text(export_file *file);

/* Write it if it is much. False, with errno set, if that failed. */
bool export_file_written(export_file *file);

/* Bytes written since it was opened, once it is closed. */
int64_t export_file_added(const export_file *file);

/* Write the rest and, if it is complete, give it its name. False after saying why that failed. */
bool export_file_close(export_file *file, bool complete);

/* NULL is allowed. */
void export_file_free(export_file *file);

#endif
