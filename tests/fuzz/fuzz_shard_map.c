/*
 * fuzz_shard_map: any text for shards is refused and changes nothing, or adds shards that no server
 * had.
 */
#include <string.h>

#include "value/shard_map.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"left", "right"};
    char *text = malloc(size + 1);
    expect(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';

    hvi_shard_map map;
    hvi_shard_map_init(&map);
    expect(hvi_shard_map_add(&map, "100-200", 1, names, NULL) == HV_OK);
    hvi_shard_map before = map;
    hv_error *error = NULL;
    if (hvi_shard_map_add(&map, text, 0, names, &error) != HV_OK) {
        expect(hv_error_status(error) == HV_BAD_CONFIG);
        expect(strcmp(hv_error_server(error), "left") == 0);
        expect(hv_error_hint(error) != NULL);
        expect(memcmp(&map, &before, sizeof map) == 0);
        hv_error_free(error);
        free(text);
        return 0;
    }
    expect(error == NULL);

    int count = 0;
    for (int shard = 0; shard < HV_SHARDS; shard++) {
        int server = hvi_shard_map_server(&map, shard);
        if (server == 0) {
            expect(hvi_shard_map_server(&before, shard) == -1);
            count++;
        } else {
            expect(hvi_shard_map_server(&before, shard) == server);
        }
    }
    expect(count > 0);
    expect(hvi_shard_map_count(&map, 0) == count);
    expect(hvi_shard_map_add(&map, text, 0, names, NULL) == HV_BAD_CONFIG);
    free(text);
    return 0;
}
