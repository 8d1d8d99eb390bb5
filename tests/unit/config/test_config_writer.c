/*
 * Tests of config_writer and config_rewrite: what changes in a file, and what does not.
 */
#include "config/config_writer.h"
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHANGE(name, list)                 \
    (hvi_config_change) {                  \
        .server = (name), .shards = (list) \
    }

static void assert_rewritten(const char *text, const char *expected, hvi_config_change one,
                             hvi_config_change two) {
    hvi_config_change changes[] = {one, two};
    hvi_buffer to = HVI_BUFFER_EMPTY;
    hvi_config_rewrite(text, strlen(text), changes, two.server != NULL ? 2 : 1, &to);
    hvi_buffer_append(&to, "", 0);
    assert_string_equal(to.data, expected);
    hvi_buffer_fini(&to);
}

#define NONE CHANGE(NULL, NULL)

/* ---- texts ---- */

static void test_only_the_shards_change(void **state) {
    (void) state;
    assert_rewritten("# top\n[hypervault]\npool_max = 3 ; three\n\n[server a]\n; mine\nhost=x\n"
                     "shards  =  0-8   ; eight\n\n[server b]\nshards:8-16\n# end",
                     "# top\n[hypervault]\npool_max = 3 ; three\n\n[server a]\n; mine\nhost=x\n"
                     "shards  =  0-7   ; eight\n\n[server b]\nshards: 7-16\n# end",
                     CHANGE("a", "0-7"), CHANGE("b", "7-16"));
}

static void test_other_servers_stay(void **state) {
    (void) state;
    assert_rewritten("[server a]\nshards = 1\n[ server b]\n[server  c ]\nshards=2",
                     "[server a]\nshards = 1\n[ server b]\n[server  c ]\nshards= 3",
                     CHANGE("c", "3"), NONE);
    assert_rewritten("[hypervault]\nshards = 1\n", "[hypervault]\nshards = 1\n",
                     CHANGE("hypervault", "3"), NONE);
}

static void test_lines_end_as_they_did(void **state) {
    (void) state;
    assert_rewritten("\xEF\xBB\xBF[server a]\r\nshards = 1\r\nhost = x\r\n",
                     "\xEF\xBB\xBF[server a]\r\nshards = 1-3\r\nhost = x\r\n", CHANGE("a", "1-3"),
                     NONE);
    assert_rewritten("[server a]\r\nhost = x\r\n\r\n",
                     "[server a]\r\nhost = x\r\nshards = 1-3\r\n\r\n", CHANGE("a", "1-3"), NONE);
    assert_rewritten("[server a]\nshards = 1", "[server a]\nshards = 2", CHANGE("a", "2"), NONE);
}

static void test_several_lines_become_one(void **state) {
    (void) state;
    assert_rewritten("[server a]\nshards = 1 ; one\nhost = x\nshards = 2\n  3,4 ; and more\n"
                     "shards = 5 ; five\n# six\n",
                     "[server a]\nshards = 9 ; one\nhost = x\n  ; and more\n; five\n# six\n",
                     CHANGE("a", "9"), NONE);
    assert_rewritten("[server a]\nshards =\n  1\n\n  2\nport = 1\n",
                     "[server a]\nshards = 9\n\nport = 1\n", CHANGE("a", "9"), NONE);
}

static void test_quotes_go(void **state) {
    (void) state;
    assert_rewritten("[server a]\nshards = \"1 , 2\" ; \"x\"\npassword = \" ;shards = 1\"\n",
                     "[server a]\nshards = 2 ; \"x\"\npassword = \" ;shards = 1\"\n",
                     CHANGE("a", "2"), NONE);
}

static void test_a_server_may_gain_and_lose_its_line(void **state) {
    (void) state;
    assert_rewritten("[server a]\nhost = x\n\n# about b\n[server b]\n",
                     "[server a]\nhost = x\nshards = 1\n\n# about b\n[server b]\nshards = 2\n",
                     CHANGE("a", "1"), CHANGE("b", "2"));
    assert_rewritten("[server b]", "[server b]\nshards = 2\n", CHANGE("b", "2"), NONE);
    assert_rewritten("[server b]\nshards = 1 ; x\n", "[server b]\nshards =  ; x\n", CHANGE("b", ""),
                     NONE);
    assert_rewritten("[server b]\nshards = auto\n", "[server b]\nshards = 4\n", CHANGE("b", "4"),
                     NONE);
}

static void test_many_shards_take_several_lines(void **state) {
    (void) state;
    hvi_buffer list = HVI_BUFFER_EMPTY, to = HVI_BUFFER_EMPTY;
    for (int shard = 0; shard < HV_SHARDS; shard += 2)
        hvi_buffer_append_format(&list, "%s%d", shard > 0 ? "," : "", shard);
    hvi_config_change change = CHANGE("a", list.data);
    const char *text = "[server a]\nshards = 1 ; c\nhost = x";
    hvi_config_rewrite(text, strlen(text), &change, 1, &to);
    hvi_buffer_append(&to, "", 0);
    size_t longest = 0;
    for (const char *at = to.data; *at != '\0'; at += strcspn(at, "\n"), at += *at == '\n')
        longest = strcspn(at, "\n") > longest ? strcspn(at, "\n") : longest;
    assert_true(longest <= 110);
    assert_contains(to.data, " ; c\nshards = ");
    hvi_buffer_fini(&list);
    hvi_buffer_fini(&to);
}

/* ---- files ---- */

static char folder[] = "/tmp/hv-config-writer-XXXXXX";
static char path[64];

static void write_text(const char *where, const char *text, mode_t mode) {
    FILE *file = fopen(where, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(where, mode), 0);
}

static void assert_text(const char *where, const char *expected) {
    char text[4096] = "";
    FILE *file = fopen(where, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(text, expected);
}

static int set_up(void **state) {
    (void) state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/hv.conf", folder);
    return 0;
}

static int tear_down(void **state) {
    (void) state;
    unlink(path);
    return rmdir(folder); /* nothing else was left in it */
}

static void test_the_mode_stays_and_a_link_is_followed(void **state) {
    (void) state;
    char link[sizeof path + 8];
    struct stat is;
    hvi_config_change change = CHANGE("a", "1-3");
    snprintf(link, sizeof link, "%s/link", folder);
    write_text(path, "[server a]\nshards = 1\npassword = x\n", 0600);
    assert_int_equal(symlink("hv.conf", link), 0);
    assert_int_equal(hvi_config_write(link, &change, 1, NULL), HV_OK);
    assert_text(path, "[server a]\nshards = 1-3\npassword = x\n");
    assert_int_equal(lstat(link, &is), 0);
    assert_true(S_ISLNK(is.st_mode));
    assert_int_equal(stat(path, &is), 0);
    assert_int_equal(is.st_mode & 07777, 0600);
    unlink(link);
}

static void test_what_cannot_be_done_leaves_the_file_as_it_was(void **state) {
    (void) state;
    hvi_config_change change = CHANGE("a", "1-3");
    hv_error *error = NULL;
    /* An indented section continues the setting before it, which the file has none of yet. */
    const char *odd = "[server a]\n [server b]\n shards = 7\n";
    write_text(path, odd, 0644);
    assert_int_equal(hvi_config_write(path, &change, 1, &error), HV_BAD_CONFIG);
    assert_contains(hv_error_message(error), "without changing more");
    hv_error_free(error);
    error = NULL;
    assert_text(path, odd);
    write_text(path, "[server a]\nhsot = 1\n", 0644);
    assert_int_equal(hvi_config_write(path, &change, 1, NULL), HV_BAD_CONFIG);
    assert_text(path, "[server a]\nhsot = 1\n");
    change.server = "c"; /* there is no such section */
    write_text(path, "[server a]\nshards = 1\n", 0644);
    assert_int_equal(hvi_config_write(path, &change, 1, NULL), HV_OK);
    assert_text(path, "[server a]\nshards = 1\n");
}

/* ---- random files ---- */

static const char *any(const char *const *of, size_t count) {
    return of[(size_t) rand() % count];
}

#define ANY(...)                            \
    any((const char *const[]){__VA_ARGS__}, \
        sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/* Sections in any order, settings, comments, quotes, empty lines, continuations. Each server has
 * some of its own ten shards. */
static void random_file(hvi_buffer *to, const char *end) {
    int servers[] = {0, 1, 2, 3, 4};
    for (int i = 4; i > 0; i--) {
        int j = rand() % (i + 1), swapped = servers[i];
        servers[i] = servers[j];
        servers[j] = swapped;
    }
    if (rand() % 4 == 0)
        hvi_buffer_append_text(to, "\xEF\xBB\xBF");
    for (int i = 0; i < 5; i++) {
        int server = servers[i];
        if (rand() % 2 == 0)
            hvi_buffer_append_format(to, "%s%s", ANY("# shards = 1", "  ; [server x]", "", "\t"),
                                     end);
        if (server == 0)
            hvi_buffer_append_format(to, "[hypervault]%spool_max = %d%s%s", end, 1 + rand() % 9,
                                     ANY("", " ; x"), end);
        if (server == 0)
            continue;
        hvi_buffer_append_format(to, "[server%ss%d%s]%s%s", ANY(" ", "  "), server, ANY("", " "),
                                 ANY("", " ; shards = 2"), end);
        hvi_buffer_append_format(to, "%sdbname = %s%s", ANY("", " "),
                                 ANY("x", "\"a \\\" ; shards = 3\"", "shards"), end);
        for (int shard = 0; shard < 10; shard += 1 + rand() % 3) {
            const char *quote = ANY("", "\"");
            hvi_buffer_append_format(to, "shards%s%s%d%s%s%s", ANY("=", " = ", ": "), quote,
                                     10 * server + shard, quote, ANY("", " ;c", "\t; [x]"), end);
            if (rand() % 4 == 0)
                hvi_buffer_append_format(to, "%s%s", ANY("#x", "", "  # y", "password = \" ;p\""),
                                         end);
            if (rand() % 100 == 0)
                break;
        }
        if (rand() % 3 == 0)
            hvi_buffer_append_format(to, "port = 5%s", end);
    }
    if (rand() % 3 == 0)
        to->len -= strlen(end); /* no end of the last line */
}

/* Any comment is still there. */
static size_t count_of(const char *text, size_t len, const char *word) {
    size_t count = 0;
    for (size_t i = 0; i + strlen(word) <= len; i++)
        count += memcmp(text + i, word, strlen(word)) == 0;
    return count;
}

static void test_random_files_keep_all_the_rest(void **state) {
    (void) state;
    for (unsigned seed = 0; seed < 300; seed++) {
        static const char *const lists[] = {"", "10-20", "11", "500-600,700"};
        hvi_buffer text = HVI_BUFFER_EMPTY;
        char name[] = "s1";
        srand(seed);
        random_file(&text, ANY("\n", "\r\n"));
        bool is_given_twice = count_of(text.data, text.len, "password") > 0;
        hvi_config_change change = CHANGE(name, any(lists, LENGTH(lists)));
        FILE *file = fopen(path, "w");
        fwrite(text.data, 1, text.len, file);
        fclose(file);
        chmod(path, 0600);
        hv_error *error = NULL;
        hv_status status = hvi_config_write(path, &change, 1, &error);
        if (status != HV_OK &&
            !(is_given_twice && strstr(hv_error_message(error), "twice") != NULL))
            fail_msg("seed %u: %s\n%.*s", seed, hv_error_message(error), (int) text.len, text.data);
        hv_error_free(error);
        if (status == HV_OK) {
            char now[65536];
            file = fopen(path, "r");
            size_t len = fread(now, 1, sizeof now, file);
            fclose(file);
            for (const char *const *word =
                     (const char *const[]){";c", "; [x]", "#x", "# y", "[server", "pool_max",
                                           "dbname", "port", NULL};
                 *word != NULL; word++)
                if (count_of(now, len, *word) != count_of(text.data, text.len, *word))
                    fail_msg("seed %u: \"%s\" in\n%.*s", seed, *word, (int) len, now);
        }
        hvi_buffer_fini(&text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_shards_change),
        cmocka_unit_test(test_other_servers_stay),
        cmocka_unit_test(test_lines_end_as_they_did),
        cmocka_unit_test(test_several_lines_become_one),
        cmocka_unit_test(test_quotes_go),
        cmocka_unit_test(test_a_server_may_gain_and_lose_its_line),
        cmocka_unit_test(test_many_shards_take_several_lines),
        cmocka_unit_test(test_the_mode_stays_and_a_link_is_followed),
        cmocka_unit_test(test_what_cannot_be_done_leaves_the_file_as_it_was),
        cmocka_unit_test(test_random_files_keep_all_the_rest),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
