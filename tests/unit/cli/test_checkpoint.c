/*
 * Tests of cli/checkpoint: what is read is what was written, no other file is taken for one, and a
 * write that fails leaves the old one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint.h"

static char folder[64];

static const char *path_of(const char *name) {
    static char path[2][400];
    static int next;
    next = !next;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static int make_folder(void **state) {
    (void) state;
    snprintf(folder, sizeof folder, "/tmp/hv_checkpoint_XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    (void) state;
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL)
        unlink(path_of(entry->d_name));
    closedir(dir);
    return rmdir(folder);
}

/* How many files there are. */
static int count_files(void) {
    int count = 0;
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void put_file(const char *name, const char *text, size_t len) {
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(fd >= 0 && write(fd, text, len) == (ssize_t) len);
    close(fd);
}

static size_t get_file(const char *name, char *text, size_t size) {
    int fd = open(path_of(name), O_RDONLY);
    ssize_t len = fd >= 0 ? read(fd, text, size) : -1;
    assert_true(len >= 0);
    close(fd);
    return (size_t) len;
}

static void write_one(const char *name, int64_t position) {
    const char *why = NULL;
    checkpoint made = {.position = position,
                       .epoch = 1379365531352,
                       .selection = 0xC0FFEE,
                       .output_size = 12,
                       .output_inode = UINT64_MAX};
    checkpoint_add_database(&made, "7450123456789012345/16384");
    checkpoint_add_database(&made, "7450123456789012346/5");
    checkpoint_add_skip(&made, "tw\"o \xc3\xa9", 17);
    assert_true(checkpoint_write(path_of(name), &made, &why));
    checkpoint_fini(&made);
}

/* It is refused, for a reason that contains the text. */
static void assert_unusable(const char *name, const char *reason) {
    const char *why = NULL;
    checkpoint found;
    assert_int_equal(checkpoint_read(path_of(name), &found, &why), CHECKPOINT_UNUSABLE);
    assert_non_null(why);
    if (strstr(why, reason) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", reason, why);
}

static void assert_position(const char *name, int64_t position) {
    const char *why = NULL;
    checkpoint found;
    assert_int_equal(checkpoint_read(path_of(name), &found, &why), CHECKPOINT_READ);
    assert_true(found.position == position);
    checkpoint_fini(&found);
}

static void test_what_was_written_is_read(void **state) {
    (void) state;
    const char *why = NULL;
    checkpoint found;
    write_one("c", INT64_MAX);
    assert_int_equal(checkpoint_read(path_of("c"), &found, &why), CHECKPOINT_READ);
    assert_true(found.position == INT64_MAX && found.epoch == 1379365531352);
    assert_true(found.selection == 0xC0FFEE);
    assert_true(found.output_size == 12 && found.output_inode == UINT64_MAX);
    assert_int_equal(found.database_count, 2);
    assert_string_equal(found.databases[0], "7450123456789012345/16384");
    assert_string_equal(found.databases[1], "7450123456789012346/5");
    assert_int_equal(found.skip_count, 1);
    assert_string_equal(found.skips[0].server, "tw\"o \xc3\xa9");
    assert_true(found.skips[0].from == 17);
    checkpoint_fini(&found);
    write_one("c", 5); /* it is replaced, and nothing else stays */
    assert_position("c", 5);
    assert_int_equal(count_files(), 1);
}

static void test_no_file_is_no_checkpoint(void **state) {
    (void) state;
    const char *why = NULL;
    checkpoint found;
    assert_int_equal(checkpoint_read(path_of("c"), &found, &why), CHECKPOINT_NONE);
    assert_int_equal(checkpoint_read(path_of("none/c"), &found, &why), CHECKPOINT_NONE);
}

static void test_a_torn_file_is_refused_wherever_it_ends(void **state) {
    (void) state;
    char text[1000];
    write_one("c", 7);
    size_t len = get_file("c", text, sizeof text);
    put_file("torn", "", 0);
    assert_unusable("torn", "empty");
    for (size_t cut = 1; cut + 1 < len; cut++) { /* all that follows the last brace is its end */
        put_file("torn", text, cut);
        assert_unusable("torn", "end is missing");
    }
    put_file("torn", text, len - 1);
    assert_position("torn", 7);
}

static void test_a_changed_file_is_refused_whichever_byte_it_is(void **state) {
    (void) state;
    char text[1000];
    write_one("c", 7);
    size_t len = get_file("c", text, sizeof text);
    for (size_t at = 0; at < len; at++) {
        const char *why = NULL;
        checkpoint found;
        if (text[at] == ' ' || text[at] == '\n')
            continue; /* space between the parts has no meaning */
        char before = text[at];
        text[at] = before == '1' ? '2' : '1';
        put_file("changed", text, len);
        if (checkpoint_read(path_of("changed"), &found, &why) != CHECKPOINT_UNUSABLE)
            fail_msg("byte %zu of %.*s", at, (int) len, text);
        text[at] = before;
    }
}

static void test_other_files_are_refused(void **state) {
    (void) state;
    static const char newer[] = "{\"hypervault_feed\": 2, \"where\": \"elsewhere\"}";
    static const char *const foreign[] = {"precious",
                                          "{}",
                                          "[]",
                                          "null",
                                          "{\"id\": \"1\"}",
                                          "{\"hypervault_feed\": \"1\"}",
                                          "\xff\xfe",
                                          "[server one]\n"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        put_file("c", foreign[i], strlen(foreign[i]));
        assert_unusable("c", "not a checkpoint");
    }
    put_file("c", "\0\0\0", 3);
    assert_unusable("c", "not a checkpoint");
    put_file("c", newer, strlen(newer));
    assert_unusable("c", "newer version");
    put_file("c", "{\"hypervault_feed\": 1}", 22);
    assert_unusable("c", "changed or damaged");
    char *large = calloc(1, 2 << 20);
    assert_non_null(large);
    put_file("c", large, 2 << 20);
    free(large);
    assert_unusable("c", "not a checkpoint");
}

static void test_only_a_file_of_its_own_is_used(void **state) {
    (void) state;
    write_one("c", 7);
    assert_int_equal(symlink(path_of("c"), path_of("link")), 0);
    assert_unusable("link", "symbolic link");
    assert_int_equal(link(path_of("c"), path_of("hard")), 0);
    assert_unusable("hard", "hard link");
    assert_unusable("", "not a regular file");
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    assert_unusable("fifo", "not a regular file");
}

/* Another user may have put a link where the new file is going to be. */
static void test_no_link_is_followed_when_it_is_written(void **state) {
    (void) state;
    char text[16];
    put_file("precious", "precious", 8);
    assert_int_equal(symlink(path_of("precious"), path_of("c.new")), 0);
    write_one("c", 7);
    assert_position("c", 7);
    assert_int_equal(get_file("precious", text, sizeof text), 8);
    put_file("c.new", "what a kill has left", 20);
    write_one("c", 8);
    assert_position("c", 8);
    assert_int_equal(count_files(), 2);
}

static void assert_not_written(const char *path, const char *reason) {
    const char *why = NULL;
    checkpoint made = {.position = 9};
    assert_false(checkpoint_write(path, &made, &why));
    assert_string_equal(why, reason);
}

static void test_a_full_disk_leaves_the_old_one(void **state) {
    (void) state;
    struct rlimit unlimited, small;
    write_one("c", 7);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &unlimited);
    for (rlim_t size = 0; size < 100; size += 33) {
        small = (struct rlimit){.rlim_cur = size, .rlim_max = unlimited.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        const char *why = NULL;
        checkpoint made = {.position = 9};
        bool written = checkpoint_write(path_of("c"), &made, &why);
        setrlimit(RLIMIT_FSIZE, &unlimited);
        assert_false(written);
        assert_string_equal(why, strerror(EFBIG));
        assert_position("c", 7);
        assert_int_equal(count_files(), 1);
    }
}

static void test_a_folder_that_is_not_there_is_reported(void **state) {
    (void) state;
    assert_not_written(path_of("none/c"), strerror(ENOENT));
    put_file("file", "", 0);
    assert_not_written(path_of("file/c"), strerror(ENOTDIR));
    assert_int_equal(mkdir(path_of("d"), 0777), 0);
    assert_not_written(path_of("d"), strerror(EISDIR));
    rmdir(path_of("d"));
    assert_int_equal(count_files(), 1);
}

static void test_missing_rights_are_reported(void **state) {
    (void) state;
    bool is_root = geteuid() == 0;
    write_one("c", 7);
    chmod(path_of("c"), 0);
    chmod(folder, 0555);
    if (is_root && seteuid(65534) != 0)
        skip();
    assert_not_written(path_of("c"), strerror(EACCES));
    const char *why = NULL;
    checkpoint found;
    assert_int_equal(checkpoint_read(path_of("c"), &found, &why), CHECKPOINT_UNUSABLE);
    assert_string_equal(why, strerror(EACCES));
    if (is_root)
        assert_int_equal(seteuid(0), 0);
    chmod(folder, 0755);
    chmod(path_of("c"), 0600);
    assert_position("c", 7);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_what_was_written_is_read),
        TEST(test_no_file_is_no_checkpoint),
        TEST(test_a_torn_file_is_refused_wherever_it_ends),
        TEST(test_a_changed_file_is_refused_whichever_byte_it_is),
        TEST(test_other_files_are_refused),
        TEST(test_only_a_file_of_its_own_is_used),
        TEST(test_no_link_is_followed_when_it_is_written),
        TEST(test_a_full_disk_leaves_the_old_one),
        TEST(test_a_folder_that_is_not_there_is_reported),
        TEST(test_missing_rights_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
