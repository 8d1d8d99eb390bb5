/*
 * Tests of the public functions of a store, as far as they need no server.
 */
#include "unit.h"

static hv_store *open_store(void) {
    hv_options *options = hv_options_new();
    hv_store *store = NULL;
    assert_int_equal(hv_options_set_server(options, "one", "shards", "1-3", NULL), HV_OK);
    assert_int_equal(hv_options_set_server(options, "one", "host", "/nowhere", NULL), HV_OK);
    assert_int_equal(hv_open(options, &store, NULL), HV_OK);
    hv_options_free(options);
    return store;
}

static void test_the_number_of_created_shards_is_set_whatever_fails(void **state) {
    (void) state;
    static const struct {
        int server;
        hv_status status;
    } cases[] = {{-1, HV_INVALID}, {1, HV_INVALID}, {0, HV_UNAVAILABLE}};
    hv_store *store = open_store();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int created = 7;
        assert_int_equal(hv_create_shards(store, cases[i].server, NULL, NULL, &created, NULL),
                         cases[i].status);
        assert_int_equal(created, 0);
    }
    assert_int_equal(hv_close(store, 0, NULL), HV_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_number_of_created_shards_is_set_whatever_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
