/*
 * put_many: store each line of text as an entity, spread over all shards, and fetch them back.
 *
 *     cc put_many.c $(pkg-config --cflags --libs hypervault) -o put_many && ./put_many <LINES
 *
 * All lines are stored in one call, which keeps all servers busy at once; a line that cannot be
 * stored does not affect the others.
 */
#include <hypervault.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LINES 10000
#define KIND      7

static hv_new_entity entities[MAX_LINES];
static hv_dict *dicts[MAX_LINES]; /* the kind of the entities */
static int64_t keys[MAX_LINES];
static hv_status statuses[MAX_LINES];
static hv_error *errors[MAX_LINES];
static hv_entity *found[MAX_LINES];

/* Turn a line into an entity with one attribute, in the next shard. */
static void make_entity(const hv_store *store, size_t number, const char *line) {
    static int shard = -1;
    shard = hv_next_shard(store, -1, shard);
    if (shard < 0)
        shard = hv_next_shard(store, -1, -1);
    dicts[number] = hv_dict_new();
    if (dicts[number] == NULL || hv_dict_set(dicts[number], "line", line, NULL) != HV_OK)
        fprintf(stderr, "put_many: line %zu is not text\n", number + 1);
    entities[number].shard = shard;
    entities[number].kind = KIND;
    entities[number].dict = dicts[number];
}

static size_t read_lines(const hv_store *store) {
    size_t count = 0, size = 0;
    char *line = NULL;
    while (count < MAX_LINES && getline(&line, &size, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        make_entity(store, count++, line);
    }
    free(line);
    return count;
}

int main(void) {
    hv_store *store = NULL;
    hv_error *error = NULL;
    if (hv_open(NULL, &store, &error) != HV_OK) {
        fprintf(stderr, "put_many: %s\n", hv_error_message(error));
        hv_error_free(error);
        return 1;
    }
    size_t count = read_lines(store), stored = 0, same = 0;

    hv_put_many(store, entities, count, keys, statuses, errors, NULL);
    for (size_t i = 0; i < count; i++) {
        if (statuses[i] == HV_OK)
            keys[stored++] = keys[i];
        else
            fprintf(stderr, "put_many: line %zu: %s\n", i + 1, hv_error_message(errors[i]));
        hv_error_free(errors[i]);
    }

    if (hv_get_many(store, keys, stored, found, NULL, NULL, &error) != HV_OK)
        fprintf(stderr, "put_many: %s\n", hv_error_message(error));
    for (size_t i = 0; i < stored; i++) {
        same += found[i] != NULL && hv_entity_kind(found[i]) == KIND;
        hv_entity_free(found[i]);
    }
    printf("%zu lines, %zu stored, %zu read back\n", count, stored, same);

    for (size_t i = 0; i < count; i++)
        hv_dict_free(dicts[i]);
    hv_error_free(error);
    hv_close(store, -1, NULL);
    return same == count ? 0 : 1;
}
