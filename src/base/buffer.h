/*
 * buffer: growable bytes with a sticky out-of-memory state.
 *
 * Append as much as you like and check hvi_buffer_ok() once at the end: after a failed allocation
 * the buffer is empty and stays broken, and every append does nothing, until hvi_buffer_fini() or
 * hvi_buffer_reset(). While it is not broken and has data, data[len] is a NUL byte.
 */
#ifndef HVI_BUFFER_H
#define HVI_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct hvi_buffer {
    char *data; /* owned; NULL until the first append */
    size_t len;
    size_t cap; /* bytes allocated; > len when data is not NULL */
    bool broken;
} hvi_buffer;

#define HVI_BUFFER_EMPTY \
    { NULL, 0, 0, false }

void hvi_buffer_fini(hvi_buffer *buffer);

/* Empty it, keeping the memory; also makes a broken one usable again. */
void hvi_buffer_reset(hvi_buffer *buffer);

static inline bool hvi_buffer_ok(const hvi_buffer *buffer) {
    return !buffer->broken;
}

/* Mark it as broken, when memory ran out elsewhere while filling it. */
void hvi_buffer_break(hvi_buffer *buffer);

/* Make room for `more` bytes after those it has. Returns ok. */
bool hvi_buffer_reserve(hvi_buffer *buffer, size_t more);

void hvi_buffer_append(hvi_buffer *buffer, const void *bytes, size_t len);
void hvi_buffer_append_text(hvi_buffer *buffer, const char *text);
void hvi_buffer_append_byte(hvi_buffer *buffer, char byte);
void hvi_buffer_append_be32(hvi_buffer *buffer, uint32_t value); /* network byte order */
void hvi_buffer_append_format(hvi_buffer *buffer, const char *format, ...) HVI_PRINTF(2, 3);

/* Take the bytes, NUL-terminated, out of the buffer, which is empty afterwards; free() them. NULL
 * if it is broken or memory is short. */
char *hvi_buffer_take(hvi_buffer *buffer);

#endif
