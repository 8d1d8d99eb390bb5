/*
 * Tests of redact: values in libpq's messages that may be a password in the wrong place.
 */
#include "config/redact.h"
#include "unit.h"

#include <stdio.h>
#include <string.h>

static const char *redact(const char *message, size_t size, const char *keyword,
                          const char *value) {
    static char text[200];
    const char *const keywords[] = {keyword, NULL};
    const char *const values[] = {value, NULL};
    assert_true(size <= sizeof text);
    snprintf(text, size, "%s", message);
    hvi_redact(text, size, keywords, values);
    return text;
}

/* As in libpq's catalogs of messages: its language is the program's. */
static void a_value_is_hidden_in_the_quotes_of_every_language(void **state) {
    (void) state;
    static const char *const quotes[][2] = {
        {"\"", "\""}, {"»", "«"}, {"«", "»"}, {"« ", " »"}, {"«\u00a0", "\u00a0»"}, {"»", "»"}};
    for (size_t i = 0; i < sizeof quotes / sizeof quotes[0]; i++) {
        char message[100];
        snprintf(message, sizeof message, "bad %ss3cret%s, %ss3cretx%s", quotes[i][0], quotes[i][1],
                 quotes[i][0], quotes[i][1]);
        const char *text = redact(message, 200, "sslmode", "s3cret");
        assert_int_equal(strncmp(text, "bad (not shown), ", 17), 0);
        assert_contains(text, "s3cretx"); /* another word */
        snprintf(message, sizeof message, "bad %ss3cret", quotes[i][0]);
        assert_string_equal(redact(message, 200, "sslmode", "s3cret"), "bad (not shown)");
    }
}

/* A value that is cut off anywhere, or in the quote after it, is hidden as well. */
static void a_value_is_hidden_where_the_message_is_cut(void **state) {
    (void) state;
    static const char message[] = "bad « s3cret »";
    for (size_t size = sizeof "bad « s"; size <= sizeof message; size++)
        assert_null(strchr(redact(message, size, "sslmode", "s3cret"), '3'));
}

static void an_element_of_a_list_is_hidden(void **state) {
    (void) state;
    assert_string_equal(redact("bad »s3cret« and »5432«", 200, "port", "5432,s3cret"),
                        "bad (not shown) and (not shown)");
}

static void what_helps_is_shown(void **state) {
    (void) state;
    static const char message[] = "no server at «db.example»: »db.example«";
    assert_string_equal(redact(message, 200, "host", "db.example"), message);
    assert_string_equal(redact("bad \"5432,5433\"", 200, "port", "5432,5433"), "bad \"5432,5433\"");
    assert_string_equal(redact("no \"/etc/key\"", 200, "sslkey", "/etc/key"), "no \"/etc/key\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_hidden_in_the_quotes_of_every_language),
        cmocka_unit_test(a_value_is_hidden_where_the_message_is_cut),
        cmocka_unit_test(an_element_of_a_list_is_hidden),
        cmocka_unit_test(what_helps_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
