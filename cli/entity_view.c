/*
 * entity_view: print an entity for people and for programs.
 *
 * Attributes are sorted by name, so that they are easy to find.
 */
#include "entity_view.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rows/key_json.h"
#include "ui/memory.h"
#include "ui/ui.h"

typedef struct attribute {
    const char *name; /* in the dict; ends with a NUL byte */
    size_t name_len;
    const char *value; /* NULL is NULL */
    size_t value_len;
} attribute;

static int by_name(const void *left, const void *right) {
    return strcmp(((const attribute *) left)->name, ((const attribute *) right)->name);
}

/* The dict's attributes in order: free() the array. */
static attribute *sorted(const hv_dict *dict) {
    size_t count = hv_dict_count(dict);
    attribute *list = new_memory(count * sizeof *list);
    for (size_t i = 0; i < count; i++)
        hv_dict_at(dict, i, &list[i].name, &list[i].name_len, &list[i].value, &list[i].value_len);
    qsort(list, count, sizeof *list, by_name);
    return list;
}

json_t *entity_json(const hv_entity *entity, int64_t epoch) {
    const hv_dict *dict = hv_entity_dict(entity);
    attribute *list = sorted(dict);
    json_t *body = json_object();
    for (size_t i = 0; i < hv_dict_count(dict); i++) {
        json_t *value =
            list[i].value != NULL ? json_stringn(list[i].value, list[i].value_len) : json_null();
        json_object_set_new(body, list[i].name, value);
    }
    free(list);
    int64_t created = 0;
    int shard = 0;
    char time[UI_NUMBER_SIZE];
    hv_key_unpack(hv_entity_key(entity), epoch, &created, &shard, NULL, NULL);
    json_t *whole =
        json_pack("{s:o, s:s, s:i, s:i, s:s, s:o}", "id", key_json(hv_entity_key(entity)),
                  "created", ui_time(time, created), "shard_id", shard, "kind",
                  hv_entity_kind(entity), "version", hv_entity_version(entity), "body", body);
    if (whole == NULL)
        out_of_memory();
    return whole;
}

static void print_attribute(const attribute *shown, int width) {
    fputs("  ", stdout);
    int columns = ui_text(stdout, shown->name, shown->name_len);
    printf("%*s = ", columns < width ? width - columns : 0, "");
    if (shown->value == NULL) {
        printf("%sNULL%s\n", ui_on(stdout, UI_DIM), ui_off(stdout));
        return;
    }
    putchar('"');
    ui_text(stdout, shown->value, shown->value_len);
    puts("\"");
}

void entity_print(const hv_entity *entity, int64_t epoch, const char *server) {
    const hv_dict *dict = hv_entity_dict(entity);
    attribute *list = sorted(dict);
    int64_t created = 0;
    int shard = 0;
    char time[UI_NUMBER_SIZE];
    hv_key_unpack(hv_entity_key(entity), epoch, &created, &shard, NULL, NULL);
    printf("%s%" PRId64 "%s  kind %d  shard %d", ui_on(stdout, UI_NAME), hv_entity_key(entity),
           ui_off(stdout), hv_entity_kind(entity), shard);
    if (server != NULL) {
        fputs(" on ", stdout);
        ui_text(stdout, server, strlen(server));
    }
    printf("  created %s  %sversion %s%s\n", ui_time(time, created), ui_on(stdout, UI_DIM),
           hv_entity_version(entity), ui_off(stdout));
    size_t width = 0;
    for (size_t i = 0; i < hv_dict_count(dict); i++)
        width = list[i].name_len > width ? list[i].name_len : width;
    for (size_t i = 0; i < hv_dict_count(dict); i++)
        print_attribute(&list[i], width < 24 ? (int) width : 24);
    free(list);
}
