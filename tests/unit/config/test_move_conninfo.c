/*
 * Tests of move_conninfo: what a subscription on another server is told of a server.
 */
#include "config/move_conninfo.h"
#include "unit.h"

#include <libpq-fe.h>
#include <stdlib.h>

/* A server of these settings, in pairs that end with NULL. */
static hv_options *server_of(const char *const *settings) {
    hv_options *options = hv_options_new();
    for (; settings[0] != NULL; settings += 2)
        assert_int_equal(hv_options_set_server(options, "one", settings[0], settings[1], NULL),
                         HV_OK);
    return options;
}

static char *conninfo_of(const char *const *settings) {
    hv_options *options = server_of(settings);
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_server_move_conninfo(&options->servers[0], &text);
    hv_options_free(options);
    return hvi_buffer_take(&text);
}

#define ASSERT_CONNINFO(expected, ...)                      \
    do {                                                    \
        const char *const settings[] = {__VA_ARGS__, NULL}; \
        char *text = conninfo_of(settings);                 \
        assert_string_equal(text, expected);                \
        free(text);                                         \
    } while (0)

static void test_it_is_the_servers_own_without_its_password(void **state) {
    (void) state;
    ASSERT_CONNINFO("host='db1' port='5433' dbname='app' user='me' sslmode='require'", "host",
                    "db1", "port", "5433", "dbname", "app", "user", "me", "password", "s",
                    "sslmode", "require", "sslcert", "/here", "passfile", "/here", "shards", "1");
}

static void test_settings_for_moves_come_first(void **state) {
    (void) state;
    ASSERT_CONNINFO("host='inner' port='5432' dbname='app' user='mover' password='p' "
                    "passfile='/there' sslmode='verify-full' sslrootcert='/ca' sslcert='/c' "
                    "sslkey='/k'",
                    "host", "db1", "hostaddr", "10.0.0.1", "port", "6432", "dbname", "app", "user",
                    "me", "move_host", "inner", "move_port", "5432", "move_user", "mover",
                    "move_password", "p", "move_passfile", "/there", "move_sslmode", "verify-full",
                    "move_sslrootcert", "/ca", "move_sslcert", "/c", "move_sslkey", "/k");
}

static void test_what_libpq_would_fill_in_is_written_out(void **state) {
    (void) state;
    /* On another server, an empty host would be that server itself. */
    ASSERT_CONNINFO("host='/var/run/postgresql' port='5432' dbname='app' user='app' "
                    "sslmode='prefer'",
                    "user", "app");
    setenv("PGHOST", "from-environment", 1);
    ASSERT_CONNINFO("host='from-environment' port='5432' dbname='x' user='app' sslmode='prefer'",
                    "user", "app", "dbname", "x");
    unsetenv("PGHOST");
    ASSERT_CONNINFO("hostaddr='10.0.0.1' port='5432' dbname='x' user='app' sslmode='prefer'",
                    "hostaddr", "10.0.0.1", "user", "app", "dbname", "x");
}

static void test_of_several_hosts_the_one_that_takes_writes_is_meant(void **state) {
    (void) state;
    ASSERT_CONNINFO("host='a,b' port='1,2' target_session_attrs='read-write' dbname='x' user='u' "
                    "sslmode='prefer'",
                    "host", "a,b", "port", "1,2", "dbname", "x", "user", "u");
}

static void test_values_are_quoted_as_libpq_reads_them(void **state) {
    (void) state;
    const char *const settings[] = {"host", "h", "dbname", "a b'c\\d", "user", " ", NULL};
    char *text = conninfo_of(settings);
    PQconninfoOption *parsed = PQconninfoParse(text, NULL);
    assert_non_null(parsed);
    for (PQconninfoOption *option = parsed; option->keyword != NULL; option++) {
        if (strcmp(option->keyword, "dbname") == 0)
            assert_string_equal(option->val, "a b'c\\d");
        if (strcmp(option->keyword, "user") == 0)
            assert_string_equal(option->val, " ");
    }
    PQconninfoFree(parsed);
    free(text);
}

static void test_a_password_for_moves_is_a_secret(void **state) {
    (void) state;
    const char *const with[] = {"move_password", "p", NULL}, *const without[] = {"password", "p",
                                                                                 NULL};
    hv_options *one = server_of(with), *two = server_of(without);
    hv_error *error = NULL;
    assert_true(hvi_is_secret("move_password"));
    assert_false(hvi_is_secret("move_passfile"));
    assert_true(hvi_server_move_has_secret(&one->servers[0]));
    assert_false(hvi_server_move_has_secret(&two->servers[0]));
    hv_options *copy = hvi_options_copy(one);
    assert_string_equal(copy->servers[0].move[HVI_MOVE_PASSWORD], "p");
    hv_options_free(copy);
    /* A password may look like settings, an address may not. */
    assert_int_equal(hv_options_set_server(one, "one", "move_password", "password=x", &error),
                     HV_OK);
    hv_options_set_server(one, "one", "move_host", "a password=x", &error);
    assert_error(&error, HV_BAD_CONFIG, "the value of \"move_host\" contains other settings");
    hv_options_set_server(one, "one", "move_port", "x", &error);
    assert_error(&error, HV_BAD_CONFIG, "server \"one\": invalid port");
    hv_options_set_server(one, "one", "move_hots", "x", &error);
    assert_string_equal(hv_error_hint(error), "Did you mean \"move_host\"?");
    assert_error(&error, HV_BAD_CONFIG, "server \"one\": unknown parameter \"move_hots\"");
    hv_options_free(one);
    hv_options_free(two);
}

int main(void) {
    static const char *const variables[] = {"PGHOST",    "PGPORT",    "PGUSER",    "PGDATABASE",
                                            "PGSSLMODE", "PGSERVICE", "PGHOSTADDR"};
    for (size_t i = 0; i < LENGTH(variables); i++)
        unsetenv(variables[i]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_the_servers_own_without_its_password),
        cmocka_unit_test(test_settings_for_moves_come_first),
        cmocka_unit_test(test_what_libpq_would_fill_in_is_written_out),
        cmocka_unit_test(test_of_several_hosts_the_one_that_takes_writes_is_meant),
        cmocka_unit_test(test_values_are_quoted_as_libpq_reads_them),
        cmocka_unit_test(test_a_password_for_moves_is_a_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
