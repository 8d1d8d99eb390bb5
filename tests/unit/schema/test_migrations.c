/*
 * Tests of directories of migrations, and of statements that run concurrently.
 */
#include "schema/migrations.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[sizeof "/tmp/hv-migrations-XXXXXX"];
static char paths[16][128];
static size_t path_count;

static int set_up(void **state) {
    (void) state;
    strcpy(folder, "/tmp/hv-migrations-XXXXXX");
    path_count = 0;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int tear_down(void **state) {
    (void) state;
    for (size_t i = 0; i < path_count; i++)
        remove(paths[i]);
    return rmdir(folder);
}

static const char *path_of(const char *name) {
    assert_true(path_count < LENGTH(paths));
    snprintf(paths[path_count], sizeof *paths, "%s/%s", folder, name);
    return paths[path_count++];
}

static void write_file(const char *name, const char *text) {
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void assert_refused(hv_status status, const char *message) {
    hv_error *error = NULL;
    hv_migrations *migrations = (hv_migrations *) folder; /* is overwritten */
    assert_int_equal(hv_migrations_load(folder, &migrations, &error), status);
    assert_null(migrations);
    assert_contains(hv_error_message(error), message);
    hv_error_free(error);
}

static void test_files_are_in_the_order_of_their_numbers(void **state) {
    (void) state;
    write_file("10_ten.sql", "a;");
    write_file("9_nine.sql", "-- hv: no-transaction\nb");
    write_file("0002_two.sql", "");
    write_file("README", "c");
    write_file(".1_hidden.sql", "\\");
    write_file("3_x.sql~", "\\");
    hv_migrations *migrations;
    assert_int_equal(hv_migrations_load(folder, &migrations, NULL), HV_OK);
    assert_int_equal(hv_migrations_count(migrations), 3);
    assert_string_equal(hv_migrations_name(migrations, 0), "0002_two.sql");
    assert_string_equal(hv_migrations_name(migrations, 1), "9_nine.sql");
    assert_string_equal(hv_migrations_name(migrations, 2), "10_ten.sql");
    assert_null(hv_migrations_name(migrations, 3));
    assert_string_equal(hv_migrations_digest(migrations, 0),
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_null(hv_migrations_digest(migrations, 3));
    assert_true(hv_migrations_in_transaction(migrations, 0));
    assert_false(hv_migrations_in_transaction(migrations, 1));
    assert_ptr_equal(hvi_migrations_find(migrations, 2), &migrations->files[0]);
    assert_ptr_equal(hvi_migrations_find(migrations, 10), &migrations->files[2]);
    assert_null(hvi_migrations_find(migrations, 3));
    hv_migrations_free(migrations);
    hv_migrations_free(NULL);
}

static void test_a_directory_without_migrations_is_refused(void **state) {
    (void) state;
    assert_refused(HV_INVALID, "there are no migrations in the directory \"/tmp/hv-migrations-");
    write_file("README", "a");
    assert_refused(HV_INVALID, "there are no migrations in the directory \"/tmp/hv-migrations-");
}

static void test_a_directory_that_cannot_be_read(void **state) {
    (void) state;
    hv_error *error = NULL;
    hv_migrations *migrations;
    assert_int_equal(hv_migrations_load("/nowhere/at/all", &migrations, &error), HV_BAD_CONFIG);
    assert_error(&error, HV_BAD_CONFIG,
                 "could not read the directory \"/nowhere/at/all\": No such file or directory");
}

static void test_names_that_are_none(void **state) {
    (void) state;
    static const char *const names[] = {"a.sql",
                                        "_a.sql",
                                        "1.sql",
                                        "1a.sql",
                                        "0_a.sql",
                                        "1_.sql",
                                        "1234567890123456789_a.sql",
                                        "-1_a.sql",
                                        "1_\xff.sql"};
    for (size_t i = 0; i < LENGTH(names); i++) {
        write_file(names[i], "a");
        assert_refused(HV_INVALID, "is not the name of a migration");
        remove(paths[--path_count]);
    }
}

static void test_two_files_with_one_number(void **state) {
    (void) state;
    write_file("7_b.sql", "a");
    write_file("0007_a.sql", "a");
    write_file("0008_a.sql", "a");
    assert_refused(HV_INVALID, "\"0007_a.sql\" and \"7_b.sql\" have the same number");
}

static void test_an_error_in_a_file_has_its_name_and_line(void **state) {
    (void) state;
    write_file("1_a.sql", "a;\nb;\ncommit;");
    assert_refused(HV_INVALID, "1_a.sql:3: a statement that begins or ends a transaction");
}

static void test_what_is_no_regular_file(void **state) {
    (void) state;
    assert_int_equal(mkfifo(path_of("1_a.sql"), 0600), 0);
    assert_refused(HV_INVALID, "\"1_a.sql\" is not a regular file");
}

static void test_an_index_that_could_not_be_found_again(void **state) {
    (void) state;
    write_file("1_a.sql", "-- hv: no-transaction\nselect 1;\ncreate index concurrently on t (a)");
    assert_refused(HV_INVALID, "1_a.sql:3: CREATE INDEX CONCURRENTLY without a name");
}

static void test_another_role_needs_a_transaction(void **state) {
    (void) state;
    write_file("1_a.sql", "-- hv: no-transaction\nselect 1;\nset role x");
    assert_refused(HV_INVALID, "1_a.sql:3: another role in a file without a transaction");
}

static void test_settings_are_kept_without_a_transaction(void **state) {
    (void) state;
    write_file("1_a.sql", "-- hv: no-transaction\nreset work_mem;\ndiscard all");
    assert_refused(HV_INVALID, "1_a.sql:3: the settings of the session cannot be discarded");
}

static void assert_concurrent(const char *statement, hvi_concurrent what, const char *index,
                              const char *table) {
    hvi_concurrently said = hvi_concurrently_read(statement, strlen(statement));
    assert_int_equal(said.what, what);
    assert_int_equal(said.index_len, strlen(index));
    assert_memory_equal(said.index_len > 0 ? said.index : "", index, said.index_len);
    assert_int_equal(said.table_len, strlen(table));
    assert_memory_equal(said.table_len > 0 ? said.table : "", table, said.table_len);
}

static void test_statements_that_run_concurrently(void **state) {
    (void) state;
    assert_concurrent("select 1", HVI_CONCURRENT_NOT, "", "");
    assert_concurrent("create index a on b (c)", HVI_CONCURRENT_NOT, "", "");
    assert_concurrent("CREATE UNIQUE INDEX CONCURRENTLY a ON s . b (c)", HVI_CONCURRENT_CREATE, "a",
                      "s . b");
    assert_concurrent("create index concurrently if not exists \"a.\"\"b\" on only \"s\".b",
                      HVI_CONCURRENT_CREATE, "\"a.\"\"b\"", "\"s\".b");
    assert_concurrent("create index concurrently on b", HVI_CONCURRENT_CREATE, "", "b");
    assert_concurrent("drop index concurrently if exists s.a cascade", HVI_CONCURRENT_DROP, "s.a",
                      "");
    assert_concurrent("drop index a", HVI_CONCURRENT_NOT, "", "");
    assert_concurrent("reindex index concurrently a", HVI_CONCURRENT_REINDEX, "a", "");
    assert_concurrent("reindex (verbose, concurrently) table s.t", HVI_CONCURRENT_REINDEX, "s.t",
                      "");
    assert_concurrent("reindex table t", HVI_CONCURRENT_NOT, "", "");
    assert_concurrent("reindex", HVI_CONCURRENT_NOT, "", "");
}

#define in_a_folder(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        in_a_folder(test_files_are_in_the_order_of_their_numbers),
        in_a_folder(test_a_directory_without_migrations_is_refused),
        in_a_folder(test_a_directory_that_cannot_be_read),
        in_a_folder(test_names_that_are_none),
        in_a_folder(test_two_files_with_one_number),
        in_a_folder(test_an_error_in_a_file_has_its_name_and_line),
        in_a_folder(test_what_is_no_regular_file),
        in_a_folder(test_an_index_that_could_not_be_found_again),
        in_a_folder(test_another_role_needs_a_transaction),
        in_a_folder(test_settings_are_kept_without_a_transaction),
        cmocka_unit_test(test_statements_that_run_concurrently),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
