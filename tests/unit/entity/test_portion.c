/*
 * Tests of the shards of a selection, by server.
 */
#include "entity/portion.h"
#include "unit.h"

static hvi_router router;

static int set_up(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_options_add_server(options, "one", NULL);
    hv_options_set_server(options, "one", "shards", "0-150,1000", NULL);
    hv_options_add_server(options, "idle", NULL);
    hv_options_add_server(options, "two", NULL);
    hv_options_set_server(options, "two", "shards", "150-160,8191", NULL);
    hv_status status = hvi_router_init(&router, options, NULL, NULL, NULL);
    hv_options_free(options);
    return status == HV_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void) state;
    hvi_router_fini(&router);
    return 0;
}

/* What they are, as text: "one:0-51;one:…" */
static void assert_portions(const hv_selection *selection, const char *expected,
                            const char *skipped) {
    hvi_portions portions;
    hvi_missing missing = {0};
    hvi_buffer text = HVI_BUFFER_EMPTY;
    assert_int_equal(hvi_portions_init(&portions, &router, selection, &missing, NULL), HV_OK);
    hvi_buffer_append_text(&text, "");
    for (size_t i = 0; i < portions.count; i++) {
        hvi_buffer shards = HVI_BUFFER_EMPTY;
        const hvi_portion *portion = &portions.items[i];
        hvi_portion_text(portion, &shards);
        hvi_buffer_append_format(&text, "%s:%s;", portion->server->name, shards.data);
        hvi_buffer_fini(&shards);
        for (int shard = 0; shard < HV_SHARDS; shard++) {
            bool is_there = false;
            for (int j = 0; j < portion->count; j++)
                is_there = is_there || portion->shards[j] == shard;
            assert_int_equal(hvi_portion_has(portion, shard), is_there);
        }
    }
    assert_string_equal(text.data, expected);
    if (skipped != NULL)
        assert_string_equal(hv_error_detail(hvi_missing_at(&missing, 0)), skipped);
    assert_int_equal(missing.count, skipped != NULL);
    hvi_buffer_fini(&text);
    hvi_portions_fini(&portions);
    hvi_missing_fini(&missing);
}

static void test_all_shards_in_portions_of_about_the_same_size(void **state) {
    (void) state;
    hv_selection *s = hv_selection_new();
    assert_portions(s, "one:0-50;one:50-100;one:100-150,1000;two:150-160,8191;", NULL);
    hv_selection_free(s);
}

static void test_some_shards(void **state) {
    (void) state;
    hv_selection *s = hv_selection_new();
    hv_selection_shards(s, "7", NULL);
    assert_portions(s, "one:7;", NULL);
    hv_selection_shards(s, "2-4,150,8191", NULL);
    assert_portions(s, "one:2-4,7;two:150,8191;", NULL);
    hv_selection_free(s);
}

static void test_what_is_skipped_is_missing(void **state) {
    (void) state;
    hv_selection *s = hv_selection_new();
    hv_selection_skip(s, "idle", NULL);
    hv_selection_skip(s, "two", NULL);
    assert_portions(s, "one:0-50;one:50-100;one:100-150,1000;",
                    "Left out: the shards 150-160,8191.");
    hv_selection_shards(s, "1-3", NULL);
    assert_portions(s, "one:1-3;", NULL);
    hv_selection_free(s);
}

static void test_what_does_not_exist_is_an_error(void **state) {
    (void) state;
    hv_error *error = NULL;
    hvi_portions portions;
    hvi_missing missing = {0};
    hv_selection *s = hv_selection_new();
    hv_selection_shards(s, "5,170", NULL);
    assert_int_equal(hvi_portions_init(&portions, &router, s, &missing, &error), HV_NO_SERVER);
    assert_error(&error, HV_NO_SERVER, "no server holds shard 170");
    hv_selection_skip(s, "three", NULL);
    assert_int_equal(hvi_portions_init(&portions, &router, s, &missing, &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "there is no server \"three\" to skip");
    hv_selection_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_shards_in_portions_of_about_the_same_size),
        cmocka_unit_test(test_some_shards),
        cmocka_unit_test(test_what_is_skipped_is_missing),
        cmocka_unit_test(test_what_does_not_exist_is_an_error),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
