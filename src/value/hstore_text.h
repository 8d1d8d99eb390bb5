/*
 * hstore_text: PostgreSQL's hstore type in text form, both ways; also the public hv_dict_parse()
 * and hv_dict_text().
 */
#ifndef HVI_HSTORE_TEXT_H
#define HVI_HSTORE_TEXT_H

#include "base/buffer.h"
#include "value/dict.h"

/* Append the text form, byte for byte as the server prints it, with pairs in its order. Check
 * hvi_buffer_ok() afterwards. */
void hvi_hstore_print(const hv_dict *dict, hvi_buffer *out);

/* Read a text form that a server has sent, as hvi_hstore_decode() reads a binary one. Errors:
 * HV_CORRUPT if it is malformed, HV_NO_MEMORY. */
hv_status hvi_hstore_decode_text(const char *text, size_t len, hv_dict **dict, hv_error **error);

#endif
