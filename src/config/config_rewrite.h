/*
 * config_rewrite: change the shards of servers in the text of a configuration file, and nothing
 * else.
 */
#ifndef HVI_CONFIG_REWRITE_H
#define HVI_CONFIG_REWRITE_H

#include "base/buffer.h"

/* What a server's shards are to be. */
typedef struct hvi_config_change {
    const char *server; /* it has a section in the file */
    const char *shards; /* as hvi_config_shards() writes them; "": none */
} hvi_config_change;

/*
 * Append the file's text with these changes. A server's first line `shards` gets the new ones, on
 * several lines if they are many; its other lines `shards` and their continuations go, except for
 * comments on them. Where there is none, a line is added to the server's section. All the rest
 * stays as it is, byte by byte, with the ends of lines that the file has.
 */
void hvi_config_rewrite(const char *text, size_t len, const hvi_config_change *changes,
                        size_t count, hvi_buffer *to);

#endif
