/*
 * copy_rows: entities as rows of PostgreSQL's binary COPY, both ways.
 *
 * Holds always: nothing is read that was not fed, whatever lengths the stream names.
 */
#include "value/copy_rows.h"

#include <endian.h>
#include <string.h>

#include "value/hstore.h"

/* Signature, flags, and the length of an extension of the header. */
const char hvi_copy_header[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0";
const char hvi_copy_trailer[] = "\377\377";

#define SIGNATURE_LEN 11
/* Unknown flags in the upper half change the format of the rows. */
#define CRITICAL_FLAGS UINT32_C(0xFFFF0000)

/* ---- writing ---- */

static void append_be16(hvi_buffer *out, int value) {
    uint16_t wire = htobe16((uint16_t) value);
    hvi_buffer_append(out, &wire, sizeof wire);
}

/* The part of a row before the body. */
static void append_head(hvi_buffer *out, int64_t key, int kind, size_t body_len) {
    append_be16(out, key != 0 ? 3 : 2);
    if (key != 0) {
        uint64_t wire = htobe64((uint64_t) key);
        hvi_buffer_append_be32(out, sizeof wire);
        hvi_buffer_append(out, &wire, sizeof wire);
    }
    hvi_buffer_append_be32(out, sizeof(uint16_t));
    append_be16(out, kind);
    hvi_buffer_append_be32(out, (uint32_t) body_len);
}

void hvi_copy_append_row(hvi_buffer *out, int64_t key, int kind, const hv_dict *dict) {
    append_head(out, key, kind, hvi_hstore_size(dict));
    hvi_hstore_encode(dict, out);
}

void hvi_copy_append_encoded_row(hvi_buffer *out, int64_t key, int kind, const char *body,
                                 size_t body_len) {
    append_head(out, key, kind, body_len);
    hvi_buffer_append(out, body, body_len);
}

/* ---- reading ---- */

void hvi_copy_reader_init(hvi_copy_reader *reader) {
    *reader = (hvi_copy_reader){.pending = HVI_BUFFER_EMPTY};
}

void hvi_copy_reader_fini(hvi_copy_reader *reader) {
    hvi_buffer_fini(&reader->pending);
}

bool hvi_copy_feed(hvi_copy_reader *reader, const char *piece, size_t len) {
    hvi_buffer *pending = &reader->pending;
    if (reader->at > 0) {
        memmove(pending->data, pending->data + reader->at, pending->len - reader->at);
        pending->len -= reader->at;
        reader->at = 0;
    }
    hvi_buffer_append(pending, piece, len);
    return hvi_buffer_ok(pending);
}

/* A position in the pending bytes; the reader takes it over only when a whole row was read. */
typedef struct cursor {
    const char *data;
    size_t len;
    size_t at;
} cursor;

static bool read_bytes(cursor *c, size_t len, const char **bytes) {
    if (c->len - c->at < len)
        return false;
    *bytes = c->data + c->at;
    c->at += len;
    return true;
}

static bool read_be16(cursor *c, int *value) {
    const char *bytes;
    uint16_t wire;
    if (!read_bytes(c, sizeof wire, &bytes))
        return false;
    memcpy(&wire, bytes, sizeof wire);
    *value = (int16_t) be16toh(wire);
    return true;
}

/* The length of a column that is NULL. */
#define NULL_LEN UINT32_MAX

static bool read_be32(cursor *c, uint32_t *value) {
    const char *bytes;
    uint32_t wire;
    if (!read_bytes(c, sizeof wire, &bytes))
        return false;
    memcpy(&wire, bytes, sizeof wire);
    *value = be32toh(wire);
    return true;
}

static hv_status fail_stream(hv_error **error, const char *what) {
    hvi_fail(error, HV_CORRUPT, "server sent a malformed COPY");
    hvi_error_detail(error, "%s", what);
    return HV_CORRUPT;
}

/* HV_NOT_FOUND: it is not complete yet. */
static hv_status read_header(cursor *c, hv_error **error) {
    const char *signature, *extension;
    uint32_t flags, len;
    if (!read_bytes(c, SIGNATURE_LEN, &signature) || !read_be32(c, &flags) || !read_be32(c, &len))
        return HV_NOT_FOUND;
    if (memcmp(signature, hvi_copy_header, SIGNATURE_LEN) != 0)
        return fail_stream(error, "It does not begin as a binary COPY does.");
    if ((flags & CRITICAL_FLAGS) != 0)
        return fail_stream(error, "It is in a later form of the format.");
    return read_bytes(c, len, &extension) ? HV_OK : HV_NOT_FOUND;
}

/* A column of this length (0: of any), or NULL. *found is its length. */
static hv_status read_column(cursor *c, size_t len, const char **bytes, size_t *found,
                             hv_error **error) {
    uint32_t sent;
    if (!read_be32(c, &sent))
        return HV_NOT_FOUND;
    *bytes = NULL;
    *found = 0;
    if (sent == NULL_LEN)
        return HV_OK;
    if (sent > INT32_MAX || (len != 0 && sent != len))
        return fail_stream(error, "The columns are not id bigint, type smallint, body hstore.");
    *found = sent;
    return read_bytes(c, sent, bytes) ? HV_OK : HV_NOT_FOUND;
}

static hv_status read_row(cursor *c, hvi_copy_row *row, bool *ended, hv_error **error) {
    int columns;
    const char *key, *kind;
    uint64_t key_wire;
    uint16_t kind_wire;
    size_t len;
    if (!read_be16(c, &columns))
        return HV_NOT_FOUND;
    *ended = columns == -1;
    if (*ended)
        return HV_NOT_FOUND;
    if (columns != 3)
        return fail_stream(error, "A row does not have three columns.");
    hv_status status = read_column(c, sizeof key_wire, &key, &len, error);
    if (status == HV_OK)
        status = read_column(c, sizeof kind_wire, &kind, &len, error);
    if (status == HV_OK)
        status = read_column(c, 0, &row->body, &row->body_len, error);
    if (status != HV_OK)
        return status;
    if (key == NULL)
        return fail_stream(error, "A row has no key.");
    memcpy(&key_wire, key, sizeof key_wire);
    row->key = (int64_t) be64toh(key_wire);
    row->has_kind = kind != NULL;
    row->kind = 0;
    if (row->has_kind) {
        memcpy(&kind_wire, kind, sizeof kind_wire);
        row->kind = (int16_t) be16toh(kind_wire);
    }
    return HV_OK;
}

hv_status hvi_copy_read(hvi_copy_reader *reader, hvi_copy_row *row, hv_error **error) {
    cursor c = {.data = reader->pending.data, .len = reader->pending.len, .at = reader->at};
    hv_status status = HV_OK;
    if (reader->ended)
        return HV_NOT_FOUND;
    if (!reader->started) {
        status = read_header(&c, error);
        if (status != HV_OK)
            return status;
        reader->started = true;
        reader->at = c.at;
    }
    status = read_row(&c, row, &reader->ended, error);
    if (status == HV_OK || reader->ended)
        reader->at = c.at;
    return status;
}
