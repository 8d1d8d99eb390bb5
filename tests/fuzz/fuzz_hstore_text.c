/*
 * fuzz_hstore_text: any text is refused with a position, or read as a dict that is printed and sent
 * without loss.
 */
#include <string.h>

#include "value/hstore.h"
#include "value/hstore_text.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    hv_dict *dict = NULL;
    hv_error *error = NULL;
    hv_status status = hv_dict_parse((const char *) data, size, &dict, &error);
    if (status != HV_OK) {
        expect(status == HV_INVALID);
        expect(dict == NULL);
        expect(strstr(hv_error_message(error), "at byte offset ") != NULL);
        expect(hv_error_detail(error) != NULL);
        hv_error_free(error);
        return 0;
    }
    expect(error == NULL);

    char *text, *text_again;
    hv_dict *again;
    expect(hv_dict_text(dict, &text, NULL) == HV_OK);
    expect(hv_dict_parse(text, HV_STRLEN, &again, NULL) == HV_OK);
    expect(hv_dict_equal(dict, again));
    expect(hv_dict_text(again, &text_again, NULL) == HV_OK);
    expect(strcmp(text, text_again) == 0);
    hv_dict_free(again);
    free(text_again);
    free(text);

    hvi_buffer bytes = HVI_BUFFER_EMPTY;
    hvi_hstore_encode(dict, &bytes);
    expect(bytes.len == hvi_hstore_size(dict));
    expect(hvi_hstore_decode(bytes.data, bytes.len, &again, NULL) == HV_OK);
    expect(hv_dict_equal(again, dict));
    hvi_buffer_fini(&bytes);
    hv_dict_free(again);
    hv_dict_free(dict);
    return 0;
}
