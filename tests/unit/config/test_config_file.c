/*
 * Tests of the configuration file: reading it, and the errors for invalid ones.
 */
#include "config/config_file.h"
#include "config/options.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/hv-config-XXXXXX";
static char path[sizeof folder + sizeof "/hypervault.conf"];

static int set_up(void **state) {
    (void) state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/hypervault.conf", folder);
    return 0;
}

static int tear_down(void **state) {
    (void) state;
    unlink(path);
    return rmdir(folder);
}

static void write_file(const char *name, const char *text, size_t len) {
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_int_equal(fchmod(fileno(file), 0600), 0);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* The options in this text, which must be valid. */
static hv_options *read_bytes(const char *text, size_t len) {
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    write_file(path, text, len);
    if (hvi_config_file_read(options, path, true, &error) != HV_OK)
        fail_msg("\"%s\": %s", text, hv_error_message(error));
    return options;
}

static hv_options *read_text(const char *text) {
    return read_bytes(text, strlen(text));
}

static const char *parameter(const hv_options *options, const char *server, const char *name) {
    int number = hvi_options_server(options, server);
    if (number < 0)
        fail_msg("there is no server \"%s\"", server);
    return hvi_server_parameter(&options->servers[number], name);
}

/* The text is refused with this message for this line. The hint contains `hint`, or there is none
 * if that is NULL. */
static void assert_bad_bytes(const char *text, size_t len, int line, const char *message,
                             const char *hint) {
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    char expected[400];
    snprintf(expected, sizeof expected, "%s:%d: %s", path, line, message);
    write_file(path, text, len);
    if (hvi_config_file_read(options, path, true, &error) != HV_BAD_CONFIG)
        fail_msg("accepted: \"%s\"", text);
    if (hint != NULL)
        assert_contains(hv_error_hint(error), hint);
    else
        assert_null(hv_error_hint(error));
    assert_error(&error, HV_BAD_CONFIG, expected);
    hv_options_free(options);
}

static void assert_bad(const char *text, int line, const char *message, const char *hint) {
    assert_bad_bytes(text, strlen(text), line, message, hint);
}

/* ---- what is read ---- */

static void test_options_and_servers_are_read(void **state) {
    (void) state;
    hv_options *options = read_text("# a comment\n"
                                    "; another\n"
                                    "\n"
                                    "[hypervault]\n"
                                    "pool_max = 3\n"
                                    "pool_block_timeout=2s ; in words: two seconds\n"
                                    "prepare: off\n"
                                    "\n"
                                    "[server one]\n"
                                    "host = /run/postgresql\n"
                                    "user=somebody\n"
                                    "database =  orders  \n"
                                    "shards = 1-5,9\n"
                                    "[server the other]\n"
                                    "shards = 5-9\n"
                                    "shards = 10\n"
                                    "password = a=b:c#d;e\n");
    assert_int_equal(options->values[HVI_POOL_MAX], 3);
    assert_int_equal(options->values[HVI_POOL_BLOCK_TIMEOUT], 2000);
    assert_int_equal(options->values[HVI_PREPARE], 0);
    assert_int_equal(options->server_count, 2);
    assert_string_equal(parameter(options, "one", "host"), "/run/postgresql");
    assert_string_equal(parameter(options, "one", "user"), "somebody");
    assert_string_equal(parameter(options, "one", "dbname"), "orders");
    assert_string_equal(parameter(options, "the other", "password"), "a=b:c#d;e");
    assert_int_equal(hvi_shard_map_count(&options->map, 0), 5);
    assert_int_equal(hvi_shard_map_count(&options->map, 1), 5);
    hv_options_free(options);
}

static void test_line_ends_marks_and_indents_of_other_systems_are_read(void **state) {
    (void) state;
    hv_options *options = read_text("\xEF\xBB\xBF[hypervault]\r\n"
                                    "pool_max = 3\r\n"
                                    "\r\n"
                                    "[server one]\r\n"
                                    "host = x\r\n"
                                    "shards = 1-5\r\n"
                                    "   6\r\n"
                                    "shards = 9");
    assert_int_equal(options->values[HVI_POOL_MAX], 3);
    assert_string_equal(parameter(options, "one", "host"), "x");
    assert_int_equal(hvi_shard_map_count(&options->map, 0), 6);
    hv_options_free(options);
}

static void test_a_servers_name_has_no_blanks_around_it(void **state) {
    (void) state;
    hv_options *options = read_text("[server   one ]\nshards = 1\n");
    assert_int_equal(options->server_count, 1);
    assert_string_equal(options->servers[0].name, "one");
    hv_options_free(options);
}

static void test_an_empty_file_sets_nothing(void **state) {
    (void) state;
    static const char *const texts[] = {"", "\n", "# only this\n", "[hypervault]\n",
                                        "\xEF\xBB\xBF"};
    for (size_t i = 0; i < LENGTH(texts); i++) {
        hv_options *options = read_text(texts[i]);
        assert_int_equal(options->server_count, 0);
        hv_options_free(options);
    }
}

static void test_values_may_be_empty(void **state) {
    (void) state;
    hv_options *options = read_text("[server one]\npassword =\nhost=\n");
    assert_string_equal(parameter(options, "one", "password"), "");
    assert_string_equal(parameter(options, "one", "host"), "");
    hv_options_free(options);
}

static void test_a_file_adds_to_what_is_set(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_options_set(options, "pool_max", "7", NULL);
    hv_options_set(options, "prepared_max", "7", NULL);
    write_file(path, "[hypervault]\npool_max=8\n", strlen("[hypervault]\npool_max=8\n"));
    assert_int_equal(hvi_config_file_read(options, path, true, NULL), HV_OK);
    assert_string_equal(hv_options_get(options, "pool_max"), "8");
    assert_string_equal(hv_options_get(options, "prepared_max"), "7");
    hv_options_free(options);
}

/* ---- what is refused ---- */

static void test_what_is_unknown_is_reported_with_the_nearest(void **state) {
    (void) state;
    assert_bad("[hypervault]\npool_maks = 3\n", 2, "unknown option \"pool_maks\"",
               "Did you mean \"pool_max\"?");
    assert_bad("[server one]\n\nhots = x\n", 3, "server \"one\": unknown parameter \"hots\"",
               "Did you mean \"host\"?");
    assert_bad("[hypervalut]\npool_max = 3\n", 2, "unknown section [hypervalut]",
               "Did you mean [hypervault]?");
    assert_bad("[zzz]\npool_max = 3\n", 2, "unknown section [zzz]", "[server NAME]");
    assert_bad("[servers one]\nhost = x\n", 2, "unknown section [servers one]", "[server NAME]");
    assert_bad("[server]\nhost = x\n", 2, "unknown section [server]", "[server NAME]");
    assert_bad("[server ]\nhost = x\n", 2, "unknown section [server ]", "[server NAME]");
    assert_bad("[]\nhost = x\n", 2, "a setting before the first section", "[server NAME]");
    assert_bad("pool_max = 3\n", 1, "a setting before the first section", "[hypervault]");
    assert_bad("[Server one]\nhost = x\n", 2, "unknown section [Server one]", "[server NAME]");
}

static void test_values_that_are_wrong_are_reported_with_their_line(void **state) {
    (void) state;
    assert_bad("[hypervault]\n\n\npool_max = none\n", 4, "invalid value for option \"pool_max\"",
               NULL);
    assert_bad("[hypervault]\npool_block_timeout = 5 weeks\n", 2,
               "invalid value for option \"pool_block_timeout\"", "ms, s, min, h, d");
    assert_bad("[hypervault]\npool_max =\n", 2, "invalid value for option \"pool_max\"", NULL);
    assert_bad("[server one]\nport = x\n", 2, "server \"one\": invalid port", "1 to 65535");
}

static void test_shards_that_are_wrong_are_reported_with_their_line(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    const char *text = "[server one]\nshards = 1-9\n[server two]\nshards = 8-12\n";
    write_file(path, text, strlen(text));
    assert_int_equal(hvi_config_file_read(options, path, true, &error), HV_BAD_CONFIG);
    assert_contains(hv_error_message(error), ":4: ");
    assert_string_equal(hv_error_server(error), "two");
    hv_error_free(error);
    hv_options_free(options);
}

static void test_the_same_setting_twice_is_refused(void **state) {
    (void) state;
    assert_bad("[hypervault]\npool_max = 3\nprepare = on\npool_max = 3\n", 4,
               "\"pool_max\" is given twice in [hypervault]", NULL);
    assert_bad("[server one]\nhost = a\nhost = b\n", 3, "\"host\" is given twice in [server one]",
               NULL);
    assert_bad("[server one]\ndatabase = a\ndbname = b\n", 3,
               "\"dbname\" is given twice in [server one]", NULL);
    assert_bad("[server one]\nhost = a\n  b\n", 3, "\"host\" is given twice in [server one]", NULL);
}

static void test_two_servers_of_one_name_are_refused(void **state) {
    (void) state;
    const char *hint = "Give each server a name of its own, and put all settings of one server in "
                       "one place.";
    assert_bad("[server one]\nhost = a\n[server two]\nhost = a\n[server one]\nshards = 1\n", 5,
               "servers 1 and 3 are both named \"one\"", hint);
    assert_bad("[server one]\nshards = 1\n[server  one ]\nshards = 2\n", 3,
               "servers 1 and 2 are both named \"one\"", hint);
    assert_bad("[server one]\n  [server one]\n", 2, "servers 1 and 2 are both named \"one\"", hint);
    assert_bad("[server a]\nshards = 1\n[hypervault]\n[server a]\n", 4,
               "servers 1 and 2 are both named \"a\"", hint);
}

static void test_lines_that_are_no_settings_are_refused(void **state) {
    (void) state;
    const char *hint = "Comments start with # or ;.";
    const char *message = "neither a [section] nor a \"name = value\" line";
    assert_bad("[hypervault]\npool_max\n", 2, message, hint);
    assert_bad("[hypervault\npool_max = 3\n", 1, message, hint);
    assert_bad("hello\n", 1, message, hint);
    assert_bad("<xml/>\n", 1, message, hint);
    assert_bad("[hypervault]\n{\"pool_max\"\n", 2, message, hint);
}

static void test_the_first_error_counts(void **state) {
    (void) state;
    assert_bad("[hypervault]\npool_maks = 3\nhello\npool_max = none\n", 2,
               "unknown option \"pool_maks\"", "Did you mean");
    assert_bad("[hypervault]\nhello\npool_maks = 3\n", 2,
               "neither a [section] nor a \"name = value\" line", "Comments");
}

static void test_what_would_be_cut_off_is_refused(void **state) {
    (void) state;
    char text[2000];
    char padding[1000];
    memset(padding, 'x', sizeof padding - 1);
    padding[sizeof padding - 1] = '\0';
    snprintf(text, sizeof text, "[server one]\nshards = %s\n", padding);
    assert_bad(text, 2, "the line is too long", "several \"shards\" lines");
    static const char *const names[] = {"host", "password", "sslpassword", "shardss"};
    for (size_t i = 0; i < LENGTH(names); i++) {
        snprintf(text, sizeof text, "[server one]\n%s = %s\n", names[i], padding);
        assert_bad(text, 2, "the line is too long", "Put a long value into double quotes.");
    }
    snprintf(text, sizeof text, "[server one]\nhost = %s", padding); /* the last line */
    assert_bad(text, 2, "the line is too long", "Put a long value into double quotes.");
    snprintf(text, sizeof text, "[server one]\n%.60s = y\n", padding);
    assert_bad(text, 2, "a name is longer than 49 characters", NULL);
    snprintf(text, sizeof text, "[server %.60s]\nhost = y\n", padding);
    assert_bad(text, 1, "a name is longer than 49 characters", NULL);
    /* Comments may be long. */
    snprintf(text, sizeof text, "# %.900s\n ; %.900s\n[server one]\nhost = y\n", padding, padding);
    hv_options_free(read_text(text));
}

static void test_the_longest_line_that_fits_is_read_whole(void **state) {
    (void) state;
    char text[400], host[300];
    size_t longest = 0;
    for (size_t len = 1; len < sizeof host; len++) {
        hv_options *options = hv_options_new();
        memset(host, 'x', len);
        host[len] = '\0';
        snprintf(text, sizeof text, "[server one]\nhost=%s\nuser=y\n", host);
        write_file(path, text, strlen(text));
        hv_error *error = NULL;
        if (hvi_config_file_read(options, path, true, &error) == HV_OK) {
            assert_string_equal(parameter(options, "one", "host"), host);
            assert_string_equal(parameter(options, "one", "user"), "y");
            assert_int_equal(len, longest + 1); /* no gap */
            longest = len;
        } else {
            assert_contains(hv_error_message(error), ":2: the line is too long");
        }
        hv_error_free(error);
        hv_options_free(options);
    }
    assert_true(longest > 150);
}

static void test_a_password_that_would_lose_its_end_is_refused(void **state) {
    (void) state;
    const char *hint = "Put the password into double quotes, or into a .pgpass file.";
    const char *message = "a password with \" ;\" must be in quotes";
    assert_bad("[server one]\npassword = abc ;def\n", 2, message, hint);
    assert_bad("[server one]\n password = abc ;def\n", 2, message, hint);
    assert_bad("[server one]\npassword=abc\t;def\n", 2, message, hint);
    assert_bad("[server one]\npassword: abc ; def\n", 2, message, hint);
    assert_bad("[server one]\npassword = ;def\n", 2, message, hint);
    assert_bad("[server one]\nsslpassword = abc ;def\n", 2, message, hint);
    assert_bad("[server one]\nsslpassword:abc\t;def\n", 2, message, hint);
    hv_options *options = read_text("[server one]\npassword = abc;def\n");
    assert_string_equal(parameter(options, "one", "password"), "abc;def");
    hv_options_free(options);
}

static void test_a_value_in_quotes_is_read_as_it_is(void **state) {
    (void) state;
    static const struct {
        const char *written, *read;
    } values[] = {
        {"\"abc\"", "abc"},
        {"\"\"", ""},
        {"\" a b \"", " a b "},
        {"\"\tabc\t\"\r", "\tabc\t"},
        {"\"a ;b\"", "a ;b"},
        {"\" ; \" ; a comment", " ; "},
        {"\"a#b=c:d[e]\"\t; \"a comment\"", "a#b=c:d[e]"},
        {"\"a\\\"b\\\\c\\\\\"", "a\"b\\c\\"},
        {"\"'\"", "'"},
        {"\"é€😀\"", "é€😀"},
        /* No quotes but those around the whole. */
        {"'abc'", "'abc'"},
        {"a\"b\"", "a\"b\""},
        {"a\\b", "a\\b"},
        {"  abc  ", "abc"},
    };
    static const char *const names[] = {
        "password = ", "password=", "sslpassword : ", " application_name\t="};
    for (size_t i = 0; i < LENGTH(values); i++) {
        for (size_t j = 0; j < LENGTH(names); j++) {
            char text[200], name[30];
            snprintf(text, sizeof text, "[server one]\n%s%s\nhost = x\n", names[j],
                     values[i].written);
            hv_options *options = read_text(text);
            size_t skipped = strspn(names[j], " ");
            snprintf(name, sizeof name, "%.*s", (int) strcspn(names[j] + skipped, " \t=:"),
                     names[j] + skipped);
            assert_string_equal(parameter(options, "one", name), values[i].read);
            assert_string_equal(parameter(options, "one", "host"), "x");
            hv_options_free(options);
        }
    }
    hv_options *options = read_text("[hypervault]\npool_max = \"3\" ; few\n"
                                    "[server one]\nshards = \"1-5\"\n  6\nhost = \"x\"");
    assert_int_equal(options->values[HVI_POOL_MAX], 3);
    assert_int_equal(hvi_shard_map_count(&options->map, 0), 5);
    assert_string_equal(parameter(options, "one", "host"), "x");
    hv_options_free(options);
}

static void test_a_long_value_in_quotes_is_read_whole(void **state) {
    (void) state;
    static char text[66000], password[65000];
    for (size_t len = 180; len < sizeof password; len = len < 210 ? len + 1 : len * 3) {
        memset(password, 'x', len);
        password[len] = '\0';
        snprintf(text, sizeof text, "[server one]\npassword = \"%s\"\nuser = y\n", password);
        hv_options *options = read_text(text);
        assert_string_equal(parameter(options, "one", "password"), password);
        assert_string_equal(parameter(options, "one", "user"), "y");
        hv_options_free(options);
    }
}

static void test_quotes_that_are_wrong_are_refused(void **state) {
    (void) state;
    const char *hint = "In quotes write \\\\ for a backslash and \\\" for a quote.";
    assert_bad("[server one]\npassword = \"tops3cret\n", 2, "a closing quote is missing", NULL);
    assert_bad("[server one]\npassword = \"\n", 2, "a closing quote is missing", NULL);
    assert_bad("[server one]\npassword = \"tops3cret\\\"\n", 2, "a closing quote is missing", NULL);
    assert_bad("[server one]\npassword = \"tops3cret\\", 2, "a closing quote is missing", NULL);
    assert_bad("[server one]\nhost = \"a\"b\"\n", 2, "unexpected text after the closing quote",
               hint);
    assert_bad("[server one]\nhost = \"a\";b\n", 2, "unexpected text after the closing quote",
               hint);
    assert_bad("[server one]\nhost = \"a\" # b\n", 2, "unexpected text after the closing quote",
               hint);
    assert_bad("[server one]\npassword = \"tops\\3cret\"\n", 2,
               "invalid backslash escape in quotes", hint);
    assert_bad("[server one]\nhots = \"x\"\n", 2, "server \"one\": unknown parameter \"hots\"",
               "Did you mean \"host\"?");
    assert_bad("[server one]\n= \"x\"\n", 2, "the text before \"=\" or \":\" is not a name",
               "name = value");
    assert_bad("[server one]\nhost = \"x\"\nhost = \"x\"\n", 3,
               "\"host\" is given twice in [server one]", NULL);
    assert_bad("[server one]\na-name-that-is-longer-than-forty-nine-characters-here = \"x\"\n", 2,
               "a name is longer than 49 characters", NULL);
}

static void test_no_error_shows_a_password(void **state) {
    (void) state;
    static const char *const texts[] = {
        "[server one]\npasswrod = tops3cret\n",
        "[server one]\npassword = tops3cret ; x\n",
        "[server one]\npassword = a\npassword = tops3cret\n",
        "[server one]\npassword = a\n  tops3cret\n",
        "[servr one]\npassword = tops3cret\n",
        "password = tops3cret\n",
        "[server one]\npassword tops3cret\n",
        "[hypervault]\npassword = tops3cret\n",
        "[server one]\nsslpassword = a\nsslpassword = tops3cret\n",
        "[server one]\npassword = \"tops3cret\n",
        "[server one]\npassword = \"tops3cret\\\"\n",
        "[server one]\npassword = \"tops\\n3cret\"\n",
        "[server one]\npassword = \"\" tops3cret\n",
        "[server one]\npassword = \"tops3cret\" tops3cret\n",
        "[server one]\npassword \"tops3cret\"\n",
        "[server one]\nhost = \"x password=tops3cret\"\n",
        "[server one]\nport = \"tops3cret\"\n",
        /* Without the equals sign after the name, but with one in the password. */
        "[server one]\npassword tops3cret==\n",
        "[server one]\npassword\ttops3cret:x\n",
        "[server one]\ntops3cret==\n",
        "[server one]\npassword tops3cret-and-so-on-until-it-is-too-long-for-a-name=\n",
        /* On the line of another setting, or of one that is continued. */
        "[server one]\nport = 5432 password=tops3cret\n",
        "[server one]\nshards = 1-9 password=tops3cret\n",
        "[server one]\nshards = 1-9\n  password = tops3cret\n",
        "[server one]\nshards = 1-9\n\tpassword: tops3cret\n",
        "[server one]\nport = 5432\n password = tops3cret\n",
        "[server one]\nsslmode = require Password = tops3cret\n",
        "[hypervault]\npool_max = 10 password=tops3cret\n",
        "[server one password=tops3cret]\nhost = x\n",
        "[password=tops3cret]\nhost = x\n",
        /* Connection strings. */
        "[server one]\nhost = x password=tops3cret\n",
        "[server one]\ndbname = host=x password = tops3cret\n",
        "[server one]\ndatabase = postgresql://user:tops3cret@host/name\n",
        "[server one]\nhost = postgres://user:tops3cret@host/name\n",
        "[server one]\nurl = postgres://user:tops3cret@host/name\n",
        "[server one]\npostgres://user:tops3cret@host/name\n",
        "[server postgres://user:tops3cret@host]\nhost = x\n",
    };
    for (size_t i = 0; i < LENGTH(texts); i++) {
        hv_options *options = hv_options_new();
        hv_error *error = NULL;
        write_file(path, texts[i], strlen(texts[i]));
        if (hvi_config_file_read(options, path, true, &error) != HV_BAD_CONFIG)
            fail_msg("accepted: %s", texts[i]);
        const char *const said[] = {hv_error_message(error), hv_error_detail(error),
                                    hv_error_hint(error)};
        for (size_t j = 0; j < LENGTH(said); j++)
            if (said[j] != NULL && strstr(said[j], "tops3cret") != NULL)
                fail_msg("shown: %s", said[j]);
        hv_error_free(error);
        hv_options_free(options);
    }
}

static void test_a_nul_byte_is_refused(void **state) {
    (void) state;
    static const char text[] = "[server one]\npassword = abc\0def\nhost = x\n";
    assert_bad_bytes(text, sizeof text - 1, 2, "a NUL byte in the line", NULL);
    static const char end[] = "[server one]\nhost = x\n\0";
    assert_bad_bytes(end, sizeof end - 1, 3, "a NUL byte in the line", NULL);
}

static void test_what_is_no_file_is_reported(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    char message[400];
    unlink(path);
    assert_int_equal(hvi_config_file_read(options, path, true, &error), HV_BAD_CONFIG);
    snprintf(message, sizeof message, "could not open configuration file \"%s\": %s", path,
             strerror(ENOENT));
    assert_error(&error, HV_BAD_CONFIG, message);
    assert_int_equal(hvi_config_file_read(options, folder, true, &error), HV_BAD_CONFIG);
    snprintf(message, sizeof message, "could not read configuration file \"%s\": %s", folder,
             strerror(EISDIR));
    assert_error(&error, HV_BAD_CONFIG, message);
    hv_options_free(options);
}

/* ---- finding the file ---- */

static void load_and_expect(const char *expected) {
    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    char *found = NULL;
    if (hv_options_load(options, NULL, &found, &error) != HV_OK)
        fail_msg("%s", hv_error_message(error));
    assert_string_equal(found, expected);
    free(found);
    hv_options_free(options);
}

static void test_the_first_place_that_has_a_file_counts(void **state) {
    (void) state;
    char home[200], config[250], deep[300], file[350], named[250], here[400];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(home, sizeof home, "%s/home", folder);
    snprintf(config, sizeof config, "%s/.config", home);
    snprintf(deep, sizeof deep, "%s/hypervault", config);
    snprintf(file, sizeof file, "%s/hypervault.conf", deep);
    snprintf(named, sizeof named, "%s/named", folder);
    mkdir(home, 0700);
    mkdir(config, 0700);
    mkdir(deep, 0700);
    unsetenv("HYPERVAULT_CONFIG");
    unsetenv("XDG_CONFIG_HOME");
    setenv("HOME", home, 1);
    assert_int_equal(chdir(home), 0);

    hv_options *options = hv_options_new();
    hv_error *error = NULL;
    char *found = (char *) 1;
    if (access("/etc/hypervault/hypervault.conf", F_OK) != 0) {
        assert_int_equal(hv_options_load(options, NULL, &found, &error), HV_BAD_CONFIG);
        assert_null(found);
        assert_contains(hv_error_detail(error), file);
        assert_contains(hv_error_detail(error), "./hypervault.conf");
        assert_error(&error, HV_BAD_CONFIG, "no configuration file found");
    }

    write_file(file, "", 0);
    load_and_expect(file);
    setenv("XDG_CONFIG_HOME", config, 1);
    setenv("HOME", "/nonexistent", 1);
    load_and_expect(file);
    setenv("XDG_CONFIG_HOME", "relative", 1); /* the specification says: ignore it */
    setenv("HOME", home, 1);
    load_and_expect(file);
    write_file("hypervault.conf", "", 0);
    load_and_expect("./hypervault.conf");
    write_file(named, "", 0);
    setenv("HYPERVAULT_CONFIG", named, 1);
    load_and_expect(named);
    setenv("HYPERVAULT_CONFIG", "", 1);
    load_and_expect("./hypervault.conf");

    /* A named file that is missing is an error, whatever else is there; the path is returned. */
    setenv("HYPERVAULT_CONFIG", "/nonexistent/file", 1);
    assert_int_equal(hv_options_load(options, NULL, &found, &error), HV_BAD_CONFIG);
    assert_string_equal(found, "/nonexistent/file");
    assert_contains(hv_error_message(error), "/nonexistent/file");
    hv_error_free(error);
    free(found);
    unsetenv("HYPERVAULT_CONFIG");

    assert_int_equal(chdir(here), 0);
    snprintf(here, sizeof here, "%s/hypervault.conf", home);
    unlink(here);
    unlink(named);
    unlink(file);
    rmdir(deep);
    rmdir(config);
    rmdir(home);
    hv_options_free(options);
}

static void assert_directory(const char *line, const char *expected) {
    char text[200];
    snprintf(text, sizeof text, "[hypervault]\nmigrations = %s\n[server a]\nshards = 0-1\n", line);
    hv_options *options = read_bytes(text, strlen(text));
    assert_string_equal(hv_options_get(options, "migrations"), expected);
    hv_options_free(options);
}

static void test_a_directory_is_relative_to_the_file(void **state) {
    (void) state;
    char expected[sizeof folder + sizeof "/sql/of it"];
    snprintf(expected, sizeof expected, "%s/sql/of it", folder);
    assert_directory("sql/of it", expected);
    assert_directory("/sql", "/sql");
    assert_directory("", "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_directory_is_relative_to_the_file),
        cmocka_unit_test(test_options_and_servers_are_read),
        cmocka_unit_test(test_line_ends_marks_and_indents_of_other_systems_are_read),
        cmocka_unit_test(test_a_servers_name_has_no_blanks_around_it),
        cmocka_unit_test(test_an_empty_file_sets_nothing),
        cmocka_unit_test(test_values_may_be_empty),
        cmocka_unit_test(test_a_file_adds_to_what_is_set),
        cmocka_unit_test(test_what_is_unknown_is_reported_with_the_nearest),
        cmocka_unit_test(test_values_that_are_wrong_are_reported_with_their_line),
        cmocka_unit_test(test_shards_that_are_wrong_are_reported_with_their_line),
        cmocka_unit_test(test_the_same_setting_twice_is_refused),
        cmocka_unit_test(test_two_servers_of_one_name_are_refused),
        cmocka_unit_test(test_lines_that_are_no_settings_are_refused),
        cmocka_unit_test(test_the_first_error_counts),
        cmocka_unit_test(test_what_would_be_cut_off_is_refused),
        cmocka_unit_test(test_the_longest_line_that_fits_is_read_whole),
        cmocka_unit_test(test_a_password_that_would_lose_its_end_is_refused),
        cmocka_unit_test(test_a_value_in_quotes_is_read_as_it_is),
        cmocka_unit_test(test_a_long_value_in_quotes_is_read_whole),
        cmocka_unit_test(test_quotes_that_are_wrong_are_refused),
        cmocka_unit_test(test_no_error_shows_a_password),
        cmocka_unit_test(test_a_nul_byte_is_refused),
        cmocka_unit_test(test_what_is_no_file_is_reported),
        cmocka_unit_test(test_the_first_place_that_has_a_file_counts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
