/*
 * unit: for every unit test: cmocka, and assertions about errors.
 */
#ifndef HV_TEST_UNIT_H
#define HV_TEST_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hypervault.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* Assert that *error has this status and message; free it, and set *error to NULL. */
static inline void assert_error(hv_error **error, hv_status status, const char *message) {
    assert_non_null(*error);
    assert_string_equal(hv_error_message(*error), message);
    assert_int_equal(hv_error_status(*error), status);
    hv_error_free(*error);
    *error = NULL;
}

/* Assert that the text contains these words. */
static inline void assert_contains(const char *text, const char *words) {
    assert_non_null(text);
    if (strstr(text, words) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", words, text);
}

#endif
