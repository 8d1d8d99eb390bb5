/*
 * shard_ranges: lists of shards as text, read and written.
 *
 * Ranges are half-open ("1-9" is shards 1 to 8); single shards ("5") and lists ("1-5,9-12") are
 * read too, with spaces anywhere between.
 */
#ifndef HVI_SHARD_RANGES_H
#define HVI_SHARD_RANGES_H

#include "base/buffer.h"

/* A hint: how they are written. */
extern const char hvi_shard_ranges_syntax[];

/* A half-open range. */
typedef struct hvi_shard_range {
    int begin;
    int end;
} hvi_shard_range;

/* A text that is read from left to right. */
typedef struct hvi_shard_reader {
    const char *text;  /* all of it, for messages */
    const char *at;    /* where reading goes on */
    const char *place; /* where the text is from, for messages: "shards of server", … */
    const char *name;  /* … and its name: "left" */
    hv_status status;  /* of errors: HV_BAD_CONFIG, unless the caller sets another one */
} hvi_shard_reader;

hvi_shard_reader hvi_shard_reader_of(const char *text, const char *place, const char *name);

/* Is there nothing but white space? */
bool hvi_shard_ranges_blank(const char *text);

/*
 * Read the next range. Errors (the reader's status, naming the place and the text at fault, unless
 * that may be a password): an empty item, an item that is no number, a reversed or empty range, a
 * shard above 8191.
 */
hv_status hvi_shard_reader_next(hvi_shard_reader *reader, hvi_shard_range *range, hv_error **error);

/* After a range: is there another one? */
bool hvi_shard_reader_goes_on(hvi_shard_reader *reader);

/* A text that is being written, with the range at its end that may still grow. */
typedef struct hvi_shard_writer {
    hvi_buffer *text;
    hvi_shard_range open; /* empty: none */
} hvi_shard_writer;

/* Add a shard, greater than all before it; at last write the range at the end. */
void hvi_shard_writer_add(hvi_shard_writer *writer, int shard);
void hvi_shard_writer_end(hvi_shard_writer *writer);

/* Append the line of the configuration that sets an option to these ranges, in quotes if it is
 * long: "spread = 0-16". */
void hvi_shard_ranges_setting(hvi_buffer *line, const char *option, const char *ranges);

#endif
