/*
 * fuzz_spread: any text for the option `spread` is refused and changes nothing, or is a set in
 * which every value has a shard, and which is the same when it is written and read again.
 */
#include <string.h>

#include "base/shard_ranges.h"
#include "value/spread.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    expect(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';

    hvi_spread spread;
    hv_error *error = NULL;
    expect(hvi_spread_read(&spread, "100-200", NULL) == HV_OK);
    if (hvi_spread_read(&spread, text, &error) != HV_OK) {
        expect(hv_error_status(error) == HV_BAD_CONFIG);
        expect(hv_error_hint(error) != NULL);
        expect(spread.count == 100 && spread.shards[0] == 100);
        hv_error_free(error);
        free(text);
        return 0;
    }
    expect(error == NULL);

    hvi_buffer written = HVI_BUFFER_EMPTY;
    hvi_shard_writer writer = {.text = &written};
    int count = 0, value_shard = hvi_spread_shard(&spread, text, size);
    bool found = value_shard < 0;
    for (int shard = -1; (shard = hvi_spread_next(&spread, shard)) >= 0; count++) {
        expect(shard == spread.shards[count]);
        found = found || shard == value_shard;
        hvi_shard_writer_add(&writer, shard);
    }
    hvi_shard_writer_end(&writer);
    expect(count == spread.count && found && (value_shard < 0) == (count == 0));

    hvi_spread again;
    expect(hvi_spread_read(&again, count > 0 ? written.data : "", NULL) == HV_OK);
    expect(again.count == count);
    expect(memcmp(again.shards, spread.shards, sizeof(int16_t) * (size_t) count) == 0);
    hvi_buffer_fini(&written);
    free(text);
    return 0;
}
