/*
 * config_writer: change the shards of servers in a configuration file, and nothing else.
 */
#ifndef HVI_CONFIG_WRITER_H
#define HVI_CONFIG_WRITER_H

#include "base/buffer.h"
#include "config/config_rewrite.h"
#include "config/options.h"

/* Append the shards that options give to a server, as a list of ranges. */
void hvi_config_shards(const hv_options *options, int server, hvi_buffer *to);

/*
 * Change the file. The new one is written beside it, read back and compared, and then takes its
 * place at once, with its mode and owner; a symbolic link stays one. Errors: HV_BAD_CONFIG: it
 * cannot be read or written, keep its owner, or be changed without changing something else, or
 * another program has changed it meanwhile: then it is as it was. HV_NO_MEMORY.
 */
hv_status hvi_config_write(const char *path, const hvi_config_change *changes, size_t count,
                           hv_error **error);

#endif
