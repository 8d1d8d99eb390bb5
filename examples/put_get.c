/*
 * put_get: store an entity in a shard and fetch it back by its key.
 *
 *     cc put_get.c $(pkg-config --cflags --libs hypervault) -o put_get && ./put_get 3
 *
 * The servers come from a configuration file: hv_options_load() says where it is looked for.
 */
#include <hypervault.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Print an error and what to do about it. */
static int fail(hv_error *error) {
    const char *hint = hv_error_hint(error);
    fprintf(stderr, "put_get: %s\n", hv_error_message(error));
    if (hint != NULL)
        fprintf(stderr, "hint: %s\n", hint);
    hv_error_free(error);
    return 1;
}

int main(int argc, char **argv) {
    int shard = argc > 1 ? atoi(argv[1]) : 0;
    int kind = 1; /* the kind of the entity: a number of your own */
    hv_store *store = NULL;
    hv_dict *dict = NULL;
    hv_entity *entity = NULL;
    hv_error *error = NULL;
    int64_t key;
    int exit_code = 0;

    if (hv_open(NULL, &store, &error) != HV_OK)
        return fail(error);

    dict = hv_dict_new();
    if (dict == NULL || hv_dict_set(dict, "beep", "boop", &error) != HV_OK ||
        hv_put(store, shard, kind, dict, &key, &error) != HV_OK ||
        hv_get(store, key, &entity, &error) != HV_OK) {
        exit_code = error != NULL ? fail(error) : 1;
        goto out;
    }

    printf("%" PRId64 " is of kind %d\n", hv_entity_key(entity), hv_entity_kind(entity));
    const char *name, *value;
    for (size_t i = 0; hv_dict_at(hv_entity_dict(entity), i, &name, NULL, &value, NULL); i++)
        printf("%s = %s\n", name, value != NULL ? value : "(null)");

out:
    hv_entity_free(entity);
    hv_dict_free(dict);
    hv_close(store, -1, NULL);
    return exit_code;
}
