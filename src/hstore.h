/*
 * hstore: PostgreSQL's hstore type, binary and text form, both ways.
 *
 * Binary (contrib/hstore/hstore_io.c, hstore_send and hstore_recv): a 32-bit count, then for each
 * pair the key's 32-bit length and bytes, the value's 32-bit length (-1 for NULL) and bytes, all in
 * network byte order. The server sends pairs sorted by length of key, then by its bytes.
 */
#ifndef HVI_HSTORE_H
#define HVI_HSTORE_H

#include "dict.h"

/* Append a dict's binary form. `dict` NULL is an empty one. Check hvi_buffer_ok() afterwards. */
void hvi_hstore_encode(const hv_dict *dict, hvi_buffer *out);

/* Read a binary form. HV_CORRUPT if it is not one, down to a length that is one byte off, text that
 * is not UTF-8, or bytes left over. */
hv_status hvi_hstore_decode(const void *data, size_t len, hv_dict **dict, hv_error **error);

/* Append the text form, pairs in the server's order. Check hvi_buffer_ok() afterwards. */
void hvi_hstore_print(const hv_dict *dict, hvi_buffer *out);

/* Read the text form: see hv_dict_parse(). */
hv_status hvi_hstore_parse(const char *text, size_t len, hv_dict **dict, hv_error **error);

#endif
