/*
 * shard_list: some shards as a text, "1-9,12", as the configuration and --shards take it.
 */
#include "shard_list.h"

#include <stdlib.h>
#include <string.h>

#include "ui/memory.h"

/* A longer list is cut for people. */
#define SHORT_LEN 60

static hvi_shard_writer writer_of(shard_list *list) {
    return (hvi_shard_writer){.text = &list->text, .open = list->open};
}

void shard_list_add(shard_list *list, int shard) {
    hvi_shard_writer writer = writer_of(list);
    hvi_shard_writer_add(&writer, shard);
    list->open = writer.open;
    list->count++;
}

char *shard_list_take(shard_list *list) {
    hvi_shard_writer writer = writer_of(list);
    hvi_shard_writer_end(&writer);
    char *text = list->text.len > 0 ? hvi_buffer_take(&list->text) : copy_text("");
    if (text == NULL)
        out_of_memory();
    hvi_buffer_fini(&list->text);
    *list = (shard_list){0};
    return text;
}

char *shard_list_short(const char *ranges) {
    if (strlen(ranges) <= SHORT_LEN)
        return copy_text(ranges);
    size_t len = SHORT_LEN;
    while (len > 0 && ranges[len] != ',')
        len--;
    return format_text("%.*s,...", (int) len, ranges);
}
