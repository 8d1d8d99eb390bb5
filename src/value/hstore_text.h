/*
 * hstore_text: PostgreSQL's hstore type in text form, both ways: see hv_dict_parse() and
 * hv_dict_text(), which are here.
 */
#ifndef HVI_HSTORE_TEXT_H
#define HVI_HSTORE_TEXT_H

#include "base/buffer.h"
#include "value/dict.h"

/* Append the text form, pairs in the server's order: byte for byte what the server would print.
 * Check hvi_buffer_ok() afterwards. */
void hvi_hstore_print(const hv_dict *dict, hvi_buffer *out);

/* Read a text form that a server has sent, as hvi_hstore_decode() reads a binary one. HV_CORRUPT if
 * it is none. */
hv_status hvi_hstore_decode_text(const char *text, size_t len, hv_dict **dict, hv_error **error);

#endif
