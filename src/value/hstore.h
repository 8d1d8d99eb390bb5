/*
 * hstore: PostgreSQL's hstore type in binary form, both ways; also the public hv_dict_binary().
 *
 * The form (contrib/hstore/hstore_io.c, hstore_send and hstore_recv) is a 32-bit count, then for
 * each pair the key's 32-bit length and bytes, and the value's 32-bit length (-1 for NULL) and
 * bytes, all in network byte order. The server sends pairs sorted by the key's length, then by its
 * bytes.
 */
#ifndef HVI_HSTORE_H
#define HVI_HSTORE_H

#include "base/buffer.h"
#include "value/dict.h"

/* The size of a dict's binary form. `dict` NULL is an empty one. */
size_t hvi_hstore_size(const hv_dict *dict);

/* Append a dict's binary form. `dict` NULL is an empty one. Check hvi_buffer_ok() afterwards. */
void hvi_hstore_encode(const hv_dict *dict, hvi_buffer *out);

/* Read a binary form. Errors: HV_CORRUPT for any fault: a wrong length, a key sent twice, text that
 * is not UTF-8, bytes left over; HV_NO_MEMORY. */
hv_status hvi_hstore_decode(const void *data, size_t len, hv_dict **dict, hv_error **error);

#endif
