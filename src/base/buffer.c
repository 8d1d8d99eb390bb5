/*
 * buffer: growable bytes with a sticky out-of-memory state.
 */
#include "base/buffer.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void hvi_buffer_fini(hvi_buffer *buffer) {
    free(buffer->data);
    *buffer = (hvi_buffer) HVI_BUFFER_EMPTY;
}

void hvi_buffer_reset(hvi_buffer *buffer) {
    buffer->len = 0;
    buffer->broken = false;
    if (buffer->data != NULL)
        buffer->data[0] = '\0';
}

void hvi_buffer_break(hvi_buffer *buffer) {
    hvi_buffer_fini(buffer);
    buffer->broken = true;
}

static bool fail(hvi_buffer *buffer) {
    hvi_buffer_break(buffer);
    return false;
}

bool hvi_buffer_reserve(hvi_buffer *buffer, size_t more) {
    if (buffer->broken)
        return false;
    if (more >= SIZE_MAX / 2 - buffer->len)
        return fail(buffer);
    size_t need = buffer->len + more + 1;
    if (need <= buffer->cap)
        return true;
    size_t cap = buffer->cap != 0 ? buffer->cap : 64;
    while (cap < need)
        cap *= 2;
    char *data = realloc(buffer->data, cap);
    if (data == NULL)
        return fail(buffer);
    buffer->data = data;
    buffer->cap = cap;
    buffer->data[buffer->len] = '\0';
    return true;
}

void hvi_buffer_append(hvi_buffer *buffer, const void *bytes, size_t len) {
    if (!hvi_buffer_reserve(buffer, len))
        return;
    if (len > 0)
        memcpy(buffer->data + buffer->len, bytes, len);
    buffer->len += len;
    buffer->data[buffer->len] = '\0';
}

void hvi_buffer_append_text(hvi_buffer *buffer, const char *text) {
    hvi_buffer_append(buffer, text, strlen(text));
}

void hvi_buffer_append_byte(hvi_buffer *buffer, char byte) {
    hvi_buffer_append(buffer, &byte, 1);
}

void hvi_buffer_append_be32(hvi_buffer *buffer, uint32_t value) {
    uint32_t wire = htobe32(value);
    hvi_buffer_append(buffer, &wire, sizeof wire);
}

void hvi_buffer_append_format(hvi_buffer *buffer, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0) {
        fail(buffer);
        return;
    }
    if (!hvi_buffer_reserve(buffer, (size_t) len))
        return;
    va_start(args, format);
    vsnprintf(buffer->data + buffer->len, (size_t) len + 1, format, args);
    va_end(args);
    buffer->len += (size_t) len;
}

char *hvi_buffer_take(hvi_buffer *buffer) {
    if (!hvi_buffer_reserve(buffer, 0))
        return NULL;
    char *data = buffer->data;
    *buffer = (hvi_buffer) HVI_BUFFER_EMPTY;
    return data;
}
