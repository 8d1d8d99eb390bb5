/*
 * fuzz_hstore_binary: whatever bytes a server sends, they are refused, or read without loss.
 */
#include <string.h>

#include "value/hstore.h"
#include "value/hstore_text.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    hv_dict *dict = NULL;
    hv_error *error = NULL;
    hv_status status = hvi_hstore_decode(data, size, &dict, &error);
    if (status != HV_OK) {
        expect(status == HV_CORRUPT);
        expect(dict == NULL);
        expect(hv_error_status(error) == HV_CORRUPT);
        hv_error_free(error);
        return 0;
    }
    expect(error == NULL);

    hvi_buffer bytes = HVI_BUFFER_EMPTY;
    hvi_hstore_encode(dict, &bytes);
    expect(bytes.len == size && memcmp(bytes.data, data, size) == 0);
    hvi_buffer_fini(&bytes);

    char *text;
    hv_dict *again;
    expect(hv_dict_text(dict, &text, NULL) == HV_OK);
    expect(hv_dict_parse(text, HV_STRLEN, &again, NULL) == HV_OK);
    expect(hv_dict_equal(dict, again));
    hv_dict_free(again);
    free(text);
    hv_dict_free(dict);
    return 0;
}
