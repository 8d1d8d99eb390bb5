/*
 * Tests of options: every value that is allowed, many that are not, and servers.
 */
#include "config/options.h"
#include "unit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static hvi_option_id id_of(const char *name) {
    hvi_option_id id = HVI_OPTION_COUNT;
    assert_int_equal(hvi_option_find(name, &id, NULL), HV_OK);
    return id;
}

/* When the option is set to this text, it has this value. */
static void assert_value(const char *name, const char *text, int64_t value) {
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    if (hv_options_set(options, name, text, &error) != HV_OK)
        fail_msg("%s = \"%s\": %s", name, text, hv_error_message(error));
    bool is_boolean = hvi_option_table[id_of(name)].type == HVI_BOOLEAN;
    assert_string_equal(hv_options_get(options, name), !is_boolean  ? text
                                                       : value != 0 ? "on"
                                                                    : "off");
    if (options->values[id_of(name)] != value)
        fail_msg("%s = \"%s\" is %" PRId64, name, text, options->values[id_of(name)]);
    hv_options_free(options);
}

/* The option refuses this text, and keeps its value. */
static void assert_bad_value(const char *name, const char *text) {
    hv_options *options = hv_options_new();
    hv_option_info info;
    hv_error *error = NULL;
    char message[300], detail[300];
    hv_option_at((size_t) id_of(name), &info);
    int64_t before = options->values[id_of(name)];
    if (hv_options_set(options, name, text, &error) == HV_OK)
        fail_msg("%s = \"%s\" is accepted as %" PRId64, name, text, options->values[id_of(name)]);
    snprintf(message, sizeof message, "invalid value for option \"%s\"", name);
    snprintf(detail, sizeof detail, "It takes a value of type %s: %s.", info.type, info.range);
    assert_string_equal(hv_error_detail(error), detail);
    assert_int_equal(hv_error_hint(error) != NULL, strcmp(info.type, "duration") == 0);
    assert_error(&error, HV_BAD_CONFIG, message);
    assert_int_equal(options->values[id_of(name)], before);
    assert_string_equal(hv_options_get(options, name), info.default_value);
    hv_options_free(options);
}

/* ---- the table ---- */

static void test_the_table_describes_itself(void **state) {
    (void) state;
    hv_option_info info;
    size_t count = 0;
    for (; hv_option_at(count, &info); count++) {
        assert_non_null(info.name);
        assert_non_null(info.type);
        assert_true(strlen(info.range) > 0);
        assert_int_equal(info.help[strlen(info.help) - 1], '.');
        assert_int_equal(id_of(info.name), count);
    }
    assert_int_equal(count, HVI_OPTION_COUNT);
    assert_false(hv_option_at(count + 1, &info));
    assert_false(hv_option_at(SIZE_MAX, &info));
}

static void test_every_option_has_its_default(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_option_info info;
    for (size_t i = 0; hv_option_at(i, &info); i++) {
        assert_string_equal(hv_options_get(options, info.name), info.default_value);
        assert_value(info.name, info.default_value, options->values[i]);
    }
    assert_int_equal(options->values[HVI_POOL_MAX], 10);
    assert_int_equal(options->values[HVI_POOL_BLOCK_TIMEOUT], 5000);
    assert_int_equal(options->values[HVI_EPOCH], HV_DEFAULT_EPOCH);
    hv_options_free(options);
}

static void test_every_range_ends_where_it_says(void **state) {
    (void) state;
    for (int i = 0; i < HVI_OPTION_COUNT; i++) {
        const hvi_option *option = &hvi_option_table[i];
        const char *unit = option->type == HVI_DURATION ? "ms" : "";
        char text[64];
        if (option->type != HVI_INTEGER && option->type != HVI_DURATION)
            continue;
        snprintf(text, sizeof text, "%" PRId64 "%s", option->min, unit);
        assert_value(option->name, text, option->min);
        snprintf(text, sizeof text, "%" PRId64 "%s", option->max, unit);
        assert_value(option->name, text, option->max);
        snprintf(text, sizeof text, "%" PRId64 "%s", option->min - 1, unit);
        assert_bad_value(option->name, text);
        snprintf(text, sizeof text, "%" PRId64 "%s", option->max + 1, unit);
        assert_bad_value(option->name, text);
    }
}

/* ---- values ---- */

static void test_integers(void **state) {
    (void) state;
    assert_value("pool_max", "3", 3);
    assert_value("pool_max", "+3", 3);
    assert_value("pool_max", "0003", 3);
    assert_value("pool_max", " 3\t", 3);
    static const char *const bad[] = {
        "",      " ",    "x",   "3x",   "3 4", "3.0",
        "3e1",   "0x10", "3,4", "1_0",  "٣",   "99999999999999999999999",
        "-3",    "--3",  "+",   "true", "3;",  "-99999999999999999999999",
        "\"3\"",
    };
    for (size_t i = 0; i < LENGTH(bad); i++)
        assert_bad_value("pool_max", bad[i]);
}

static void test_durations(void **state) {
    (void) state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"5", 5000},       {"5s", 5000},    {"5 s", 5000},    {"5S", 5000},     {" 5s ", 5000},
        {"1500ms", 1500},  {"1.5", 1500},   {"1.5s", 1500},   {".5s", 500},     {"5.s", 5000},
        {"0.001", 1},      {"0.0015s", 2},  {"1.25ms", 1},    {"2min", 120000}, {"2MIN", 120000},
        {"0.5min", 30000}, {"1h", 3600000}, {"0.1h", 360000}, {"1d", 86400000}, {"0.5d", 43200000},
        {"24h", 86400000}, {"007s", 7000},
    };
    for (size_t i = 0; i < LENGTH(good); i++)
        assert_value("pool_block_timeout", good[i].text, good[i].ms);
    assert_value("max_lifetime", "0", 0);
    assert_value("max_lifetime", "0ms", 0);
    assert_value("max_lifetime", "0.0d", 0);
    static const char *const bad[] = {
        "",
        " ",
        "s",
        "ms",
        "5x",
        "5sec",
        "5 m",
        "5m",
        "5s s",
        "5s5",
        "5 5",
        "-5",
        "-5s",
        "+5s",
        "1e3",
        "1e3s",
        "0x10",
        "0x1p3s",
        "inf",
        "nan",
        "1.2.3s",
        "1,5s",
        ".",
        ".s",
        "1.s.",
        "5 ms;",
        "25h",
        "1e400s",
        "0.4ms",
        "0.0001",
        "0.000001min",
        "forever",
        "99999999999999999999999s",
        "1.1d",
    };
    for (size_t i = 0; i < LENGTH(bad); i++)
        assert_bad_value("pool_block_timeout", bad[i]);
}

static void test_a_duration_that_is_not_zero_is_not_taken_for_no_limit(void **state) {
    (void) state;
    assert_bad_value("max_lifetime", "0.4ms");
    assert_bad_value("max_lifetime", "0.0001s");
    assert_value("max_lifetime", "0.6ms", 1);
}

static void test_booleans(void **state) {
    (void) state;
    static const char *const on[] = {"on", "true", "yes", "1", "ON", "True", " yes", "on\n"};
    static const char *const off[] = {"off", "false", "no", "0", "OFF", "False", " no "};
    static const char *const bad[] = {"", " ", "2", "o", "onn", "of", "-1", "on off", "enabled"};
    for (size_t i = 0; i < LENGTH(on); i++)
        assert_value("log_parameters", on[i], 1);
    for (size_t i = 0; i < LENGTH(off); i++)
        assert_value("prepare", off[i], 0);
    for (size_t i = 0; i < LENGTH(bad); i++)
        assert_bad_value("prepare", bad[i]);
}

static void test_choices(void **state) {
    (void) state;
    assert_value("keys", "auto", HVI_KEYS_AUTO);
    assert_value("keys", " Strict ", HVI_KEYS_STRICT);
    assert_value("keys", "portable", HVI_KEYS_PORTABLE);
    static const char *const bad[] = {"",      " ",        ",",           "auto,", "auto, strict",
                                      "stric", "strictly", "auto strict", "0",     "1"};
    for (size_t i = 0; i < LENGTH(bad); i++)
        assert_bad_value("keys", bad[i]);
}

static void test_an_unknown_option_is_reported_with_the_nearest(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    assert_int_equal(hv_options_set(options, "pool_maxx", "1", &error), HV_BAD_CONFIG);
    assert_string_equal(hv_error_hint(error), "Did you mean \"pool_max\"?");
    assert_error(&error, HV_BAD_CONFIG, "unknown option \"pool_maxx\"");
    assert_int_equal(hv_options_set(options, "zzzzzzzzz", "1", &error), HV_BAD_CONFIG);
    assert_string_equal(hv_error_hint(error), "See `hv help options` for the options there are.");
    assert_error(&error, HV_BAD_CONFIG, "unknown option \"zzzzzzzzz\"");
    assert_int_equal(hv_options_set(options, "", "1", &error), HV_BAD_CONFIG);
    assert_error(&error, HV_BAD_CONFIG, "unknown option \"\"");
    assert_null(hv_options_get(options, "pool_maxx"));
    hv_options_free(options);
    hv_options_free(NULL);
}

static void test_the_last_value_counts(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_options_set(options, "pool_max", "3", NULL);
    hv_options_set(options, "pool_max", "7", NULL);
    assert_int_equal(hv_options_set(options, "pool_max", "none", NULL), HV_BAD_CONFIG);
    assert_string_equal(hv_options_get(options, "pool_max"), "7");
    assert_int_equal(options->values[HVI_POOL_MAX], 7);
    hv_options_free(options);
}

/* ---- servers ---- */

static void set_server(hv_options *options, const char *server, const char *parameter,
                       const char *value) {
    hv_error *error = NULL;
    if (hv_options_set_server(options, server, parameter, value, &error) != HV_OK)
        fail_msg("%s.%s = \"%s\": %s", server, parameter, value, hv_error_message(error));
}

static void assert_parameter(const hv_options *options, int server, const char *name,
                             const char *value) {
    const char *found = hvi_server_parameter(&options->servers[server], name);
    if (value == NULL)
        assert_null(found);
    else
        assert_string_equal(found, value);
}

static void test_servers_are_numbered_as_they_are_named(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    set_server(options, "b", "host", "one");
    set_server(options, "a", "shards", "5");
    set_server(options, "b", "shards", "1-5,9");
    set_server(options, "b", "shards", "12");
    assert_int_equal(options->server_count, 2);
    assert_int_equal(hvi_options_server(options, "b"), 0);
    assert_int_equal(hvi_options_server(options, "a"), 1);
    assert_int_equal(hvi_options_server(options, "c"), -1);
    assert_int_equal(hvi_options_validate(options, NULL), HV_OK);
    assert_int_equal(hvi_shard_map_count(&options->map, 0), 6);
    assert_int_equal(hvi_shard_map_server(&options->map, 12), 0);
    hv_options_free(options);
}

static void test_every_parameter_of_libpq_is_taken_as_it_is(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    set_server(options, "s", "database", "first");
    assert_parameter(options, 0, "dbname", "first");
    assert_parameter(options, 0, "database", NULL);
    set_server(options, "s", "dbname", "first");
    set_server(options, "s", "dbname", "second");
    assert_parameter(options, 0, "dbname", "second");
    set_server(options, "s", "password", " it's = a \\ \"secret\" ");
    assert_parameter(options, 0, "password", " it's = a \\ \"secret\" ");
    set_server(options, "s", "sslmode", "require");
    set_server(options, "s", "application_name", "");
    set_server(options, "s", "port", "5432,,65535");
    assert_int_equal(options->servers[0].count, 5);
    for (size_t i = 0; i < options->servers[0].count; i++)
        assert_non_null(options->servers[0].keywords[i]);
    assert_null(options->servers[0].keywords[options->servers[0].count]);
    assert_null(options->servers[0].values[options->servers[0].count]);
    hv_options_free(options);
}

static void test_a_database_under_both_its_names_is_refused(void **state) {
    (void) state;
    for (int i = 0; i < 2; i++) {
        hv_options *options = hv_options_new();
        hv_error *error = NULL;
        set_server(options, "s", i == 0 ? "database" : "dbname", "one");
        assert_int_equal(
            hv_options_set_server(options, "s", i == 0 ? "dbname" : "database", "two", &error),
            HV_BAD_CONFIG);
        assert_error(&error, HV_BAD_CONFIG,
                     "server \"s\": \"dbname\" and \"database\" have different values");
        assert_parameter(options, 0, "dbname", "one");
        hv_options_free(options);
    }
}

static void test_two_servers_of_one_name_are_refused(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    assert_int_equal(hv_options_add_server(options, "one", NULL), HV_OK);
    set_server(options, "one", "host", "a");
    assert_int_equal(hv_options_add_server(options, "two", NULL), HV_OK);
    assert_int_equal(hv_options_add_server(options, "one", &error), HV_BAD_CONFIG);
    assert_string_equal(hv_error_server(error), "one");
    assert_error(&error, HV_BAD_CONFIG, "servers 1 and 3 are both named \"one\"");
    assert_int_equal(hv_options_add_server(options, "", NULL), HV_BAD_CONFIG);
    assert_int_equal(options->server_count, 2);
    assert_parameter(options, 0, "host", "a");
    hv_options_free(options);
}

static void assert_bad_server(const char *server, const char *parameter, const char *value,
                              const char *message, const char *hint) {
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    assert_int_equal(hv_options_set_server(options, server, parameter, value, &error),
                     HV_BAD_CONFIG);
    if (hint != NULL)
        assert_string_equal(hv_error_hint(error), hint);
    assert_error(&error, HV_BAD_CONFIG, message);
    hv_options_free(options);
}

static void test_parameters_that_libpq_does_not_know_are_refused(void **state) {
    (void) state;
    assert_bad_server("s", "hots", "x", "server \"s\": unknown parameter \"hots\"",
                      "Did you mean \"host\"?");
    assert_bad_server("s", "pasword", "secret", "server \"s\": unknown parameter \"pasword\"",
                      "Did you mean \"password\"?");
    assert_bad_server("s", "shard", "1", "server \"s\": unknown parameter \"shard\"",
                      "Did you mean \"shards\"?");
    assert_bad_server("s", "databse", "x", "server \"s\": unknown parameter \"databse\"",
                      "Did you mean \"database\"?");
    assert_bad_server("s", "Host", "x", "server \"s\": unknown parameter \"Host\"",
                      "Did you mean \"host\"?");
    assert_bad_server("s", "", "x", "server \"s\": unknown parameter \"\"", NULL);
    assert_bad_server("s", "zzzzzzzzzzzz", "x", "server \"s\": unknown parameter \"zzzzzzzzzzzz\"",
                      "A server takes libpq's connection parameters, \"shards\" and settings for "
                      "moves (\"move_host\" and the like).");
    assert_bad_server("", "host", "x", "a server's name must not be empty", NULL);
}

static void test_values_that_hold_settings_are_refused(void **state) {
    (void) state;
    const char *hint = "Give each setting separately: host, port, user, password, dbname, …";
    assert_bad_server("s", "dbname", "postgresql://user:secret@host/name",
                      "the value of \"dbname\" contains other settings", hint);
    assert_bad_server("s", "database", "host=x PASSWORD = secret",
                      "the value of \"database\" contains other settings", hint);
    assert_bad_server("s", "shards", "1-9, password: secret",
                      "the value of \"shards\" contains other settings", hint);
    assert_bad_server("s password=secret", "host", "x", "a server's name must not contain settings",
                      NULL);
    /* A password may be any text. */
    hv_options *options = hv_options_new();
    set_server(options, "s", "password", "password=postgres://");
    set_server(options, "s", "application_name", "the password of postgres: none");
    hv_options_free(options);
}

static void test_ports_are_numbers(void **state) {
    (void) state;
    static const char *const bad[] = {
        "0", "65536", "-1", "x", "5432x", "54 3", "5432,x", "1,0", "99999999999999999999"};
    for (size_t i = 0; i < LENGTH(bad); i++) {
        char message[100];
        snprintf(message, sizeof message, "server \"s\": invalid port");
        assert_bad_server("s", "port", bad[i], message, "A port is a number from 1 to 65535.");
    }
}

static void test_a_shard_has_one_server(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    set_server(options, "one", "shards", "1-9");
    assert_int_equal(hv_options_set_server(options, "two", "shards", "8-12", &error),
                     HV_BAD_CONFIG);
    assert_contains(hv_error_message(error), "one");
    assert_contains(hv_error_message(error), "8");
    hv_error_free(error);
    hv_options_free(options);
}

static void test_a_store_needs_servers_and_servers_need_shards(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    hv_store *store = NULL;
    assert_int_equal(hv_open(options, &store, &error), HV_BAD_CONFIG);
    assert_error(&error, HV_BAD_CONFIG, "no server is configured");
    set_server(options, "one", "host", "x");
    assert_int_equal(hv_open(options, &store, &error), HV_BAD_CONFIG);
    assert_contains(hv_error_hint(error), "[server one]");
    assert_error(&error, HV_BAD_CONFIG, "server \"one\" has no shards");
    assert_null(store);
    hv_options_free(options);
}

static void ignore_event(void *context, const hv_log_event *event) {
    (void) context;
    (void) event;
}

static void test_shards(void **state) {
    (void) state;
    assert_value("spread", "0-16", 16);
    assert_value("spread", " 7, 1 - 3 ", 3);
    assert_value("spread", "0-8192", HV_SHARDS);
    assert_value("spread", "5", 1);
    assert_value("spread", "", 0);
    assert_value("spread", " \t", 0);
    static const struct {
        const char *text;
        const char *message;
    } bad[] = {
        {"1-9,5", "shard 5 is given twice in the option \"spread\""},
        {"9-1", "reversed range: \"9-1\" in the option \"spread\""},
        {"0-8193", "shard out of range: \"0-8193\" in the option \"spread\""},
        {"1,,2", "empty item: \"1,,2\" in the option \"spread\""},
        {"all", "not a shard or a range of shards, at character 1 of the option \"spread\""},
    };
    hv_options *options = hv_options_new();
    hv_options_set(options, "spread", "3-5", NULL);
    for (size_t i = 0; i < LENGTH(bad); i++) {
        hv_error *error = NULL;
        assert_int_equal(hv_options_set(options, "spread", bad[i].text, &error), HV_BAD_CONFIG);
        assert_non_null(hv_error_hint(error));
        assert_error(&error, HV_BAD_CONFIG, bad[i].message);
        assert_string_equal(hv_options_get(options, "spread"), "3-5");
        assert_int_equal(options->values[HVI_SPREAD], 2);
    }
    hv_options_free(options);
}

static void test_every_shard_that_values_are_spread_over_needs_a_server(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    set_server(options, "one", "shards", "0-8,12");
    hv_options_set(options, "spread", "0-8,12", NULL);
    assert_int_equal(hvi_options_validate(options, NULL), HV_OK);
    hv_options_set(options, "spread", "3", NULL);
    assert_int_equal(hvi_options_validate(options, NULL), HV_OK);
    hv_options_set(options, "spread", "0-16", NULL);
    assert_int_equal(hvi_options_validate(options, &error), HV_BAD_CONFIG);
    assert_contains(hv_error_hint(error), "the server that has them");
    assert_error(&error, HV_BAD_CONFIG,
                 "no server holds the shards 8-12,13-16, which \"spread\" names");
    set_server(options, "two", "shards", "8-12,13-20");
    assert_int_equal(hvi_options_validate(options, NULL), HV_OK);
    hv_options *copy = hvi_options_copy(options);
    hvi_spread spread;
    hvi_options_spread(copy, &spread);
    assert_int_equal(spread.count, 16);
    hv_options_free(copy);
    hv_options_free(options);
}

static void test_servers_may_be_asked_for_their_shards(void **state) {
    (void) state;
    static const char both[] = "server \"one\": \"shards\" are both \"auto\" and ranges";
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    set_server(options, "one", "shards", " Auto\t");
    set_server(options, "one", "shards", "auto");
    set_server(options, "two", "shards", "1-9");
    hv_options_set(options, "spread", "0-16", NULL);
    assert_true(hvi_options_auto(options));
    assert_int_equal(hvi_options_validate(options, NULL), HV_OK);
    hv_options_set_server(options, "one", "shards", "20", &error);
    assert_error(&error, HV_BAD_CONFIG, both);
    hv_options *copy = hvi_options_copy(options);
    assert_true(copy->servers[0].is_auto);
    assert_false(copy->servers[1].is_auto);
    hv_options_free(copy);
    hv_options_free(options);
    options = hv_options_new();
    set_server(options, "one", "shards", "1");
    assert_false(hvi_options_auto(options));
    hv_options_set_server(options, "one", "shards", "auto", &error);
    assert_error(&error, HV_BAD_CONFIG, both);
    assert_int_equal(hv_options_set_server(options, "two", "shards", "automatic", NULL),
                     HV_BAD_CONFIG);
    hv_options_free(options);
}

static void test_a_copy_is_ones_own(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_connector connector = {.context = options};
    set_server(options, "one", "shards", "1-9");
    set_server(options, "one", "password", "secret");
    hv_options_set(options, "pool_max", "3", NULL);
    hv_options_set_log(options, ignore_event, options);
    hv_options_set_connector(options, &connector);
    hv_options *copy = hvi_options_copy(options);
    hv_options_set(options, "pool_max", "4", NULL);
    set_server(options, "one", "password", "other");
    set_server(options, "two", "shards", "10");
    assert_string_equal(hv_options_get(copy, "pool_max"), "3");
    assert_int_equal(copy->values[HVI_POOL_MAX], 3);
    assert_int_equal(copy->server_count, 1);
    assert_parameter(copy, 0, "password", "secret");
    assert_int_equal(hvi_shard_map_server(&copy->map, 8), 0);
    assert_int_equal(hvi_shard_map_server(&copy->map, 10), -1);
    assert_ptr_equal(copy->log, ignore_event);
    assert_ptr_equal(copy->connector.context, options);
    hv_options_set_connector(options, NULL);
    assert_false(options->has_connector);
    hv_options_free(options);
    hv_options_free(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table_describes_itself),
        cmocka_unit_test(test_every_option_has_its_default),
        cmocka_unit_test(test_every_range_ends_where_it_says),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_a_duration_that_is_not_zero_is_not_taken_for_no_limit),
        cmocka_unit_test(test_booleans),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_every_shard_that_values_are_spread_over_needs_a_server),
        cmocka_unit_test(test_an_unknown_option_is_reported_with_the_nearest),
        cmocka_unit_test(test_the_last_value_counts),
        cmocka_unit_test(test_servers_are_numbered_as_they_are_named),
        cmocka_unit_test(test_every_parameter_of_libpq_is_taken_as_it_is),
        cmocka_unit_test(test_a_database_under_both_its_names_is_refused),
        cmocka_unit_test(test_two_servers_of_one_name_are_refused),
        cmocka_unit_test(test_parameters_that_libpq_does_not_know_are_refused),
        cmocka_unit_test(test_values_that_hold_settings_are_refused),
        cmocka_unit_test(test_ports_are_numbers),
        cmocka_unit_test(test_a_shard_has_one_server),
        cmocka_unit_test(test_a_store_needs_servers_and_servers_need_shards),
        cmocka_unit_test(test_servers_may_be_asked_for_their_shards),
        cmocka_unit_test(test_a_copy_is_ones_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
