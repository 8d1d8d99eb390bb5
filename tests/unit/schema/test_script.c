/*
 * Tests of texts of SQL: where statements end, what is refused, and the schema's name.
 */
#include "schema/script.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

static void read_text(hvi_sql *sql, const char *text) {
    hv_error *error = NULL;
    if (hvi_sql_read(sql, "f.sql", text, strlen(text), &error) != HV_OK)
        fail_msg("%s: %s", text, hv_error_message(error));
}

/* The statements of `text`, joined with "|", are `expected`. */
static void assert_cut(const char *text, const char *expected) {
    hvi_sql sql;
    hvi_buffer joined = HVI_BUFFER_EMPTY;
    read_text(&sql, text);
    hvi_buffer_append_text(&joined, "");
    for (size_t i = 0; i < sql.count; i++) {
        const hvi_sql_statement *statement = &sql.statements[i];
        hvi_buffer_append_text(&joined, i > 0 ? "|" : "");
        hvi_buffer_append(&joined, sql.text + statement->begin, statement->end - statement->begin);
    }
    char *made = hvi_buffer_take(&joined);
    assert_string_equal(made, expected);
    free(made);
    hvi_sql_fini(&sql);
}

static void test_statements_end_with_semicolons(void **state) {
    (void) state;
    assert_cut("", "");
    assert_cut(" \n-- nothing\n/* at all */ ;;", "");
    assert_cut("a", "a");
    assert_cut("a b ; c -- d;\n;", "a b|c");
    assert_cut("a /* ; /* ; */ ; */ b; c", "a /* ; /* ; */ ; */ b|c");
    assert_cut("a -- end without a newline", "a");
    assert_cut("\xef\xbb\xbf"
               "a;\r\nb;\r\n",
               "a|b");
}

static void test_semicolons_in_quotes_are_text(void **state) {
    (void) state;
    assert_cut("a ';' ''';' ; b", "a ';' ''';'|b");
    assert_cut("a '\\'; b", "a '\\'|b");
    assert_cut("a E'\\';' ; b", "a E'\\';'|b");
    assert_cut("a e'x\\\\'; b", "a e'x\\\\'|b");
    assert_cut("a E'x'\n  '\\';'; b", "a E'x'\n  '\\';'|b");
    assert_cut("a E'x' -- c\n '\\';'; b", "a E'x' -- c\n '\\';'|b");
    assert_cut("a E'x' '\\'; b", "a E'x' '\\'|b");
    assert_cut("a some'\\'; b", "a some'\\'|b");
    assert_cut("a U&'\\'; U&\"; \"\"\"; b", "a U&'\\'|U&\"; \"\"\"|b");
    assert_cut("a \";\"\"\" ; b", "a \";\"\"\"|b");
    assert_cut("a $$;$$ ; b $x$; $$ $y$ ; $x$; c", "a $$;$$|b $x$; $$ $y$ ; $x$|c");
    assert_cut("a x$$; b$$; $1; c", "a x$$|b$$|$1|c");
    assert_cut("a $1$$;$$; b", "a $1$$;$$|b");
    assert_cut("a $\xc3\xa4$;$\xc3\xa4$; b", "a $\xc3\xa4$;$\xc3\xa4$|b");
}

static void test_semicolons_inside_a_statement_do_not_end_it(void **state) {
    (void) state;
    assert_cut("create rule r as on insert to t do (a; b); c",
               "create rule r as on insert to t do (a; b)|c");
    assert_cut("CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC a; SELECT CASE WHEN b "
               "THEN 1 END; END; c",
               "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC a; SELECT CASE WHEN b "
               "THEN 1 END; END|c");
    assert_cut("create function f(atomic int) returns int return 1; c",
               "create function f(atomic int) returns int return 1|c");
    assert_cut("create table function (a int); select 1", "create table function (a int)|select 1");
}

static void test_each_statement_has_its_line(void **state) {
    (void) state;
    hvi_sql sql;
    read_text(&sql, "-- one\r\na\r\n  b;\rc; d\n\n'\n\n'; /*\n*/e");
    static const int lines[] = {2, 4, 4, 9};
    assert_int_equal(sql.count, LENGTH(lines));
    for (size_t i = 0; i < sql.count; i++) {
        assert_int_equal(sql.statements[i].line, lines[i]);
        assert_int_equal(hvi_sql_line(&sql, sql.statements[i].begin), lines[i]);
    }
    hvi_sql_fini(&sql);
}

static void assert_refused(const char *text, const char *message) {
    hvi_sql sql;
    hv_error *error = NULL;
    assert_int_equal(hvi_sql_read(&sql, "f.sql", text, strlen(text), &error), HV_INVALID);
    assert_error(&error, HV_INVALID, message);
    hvi_sql_fini(&sql);
}

static void test_what_ends_the_transaction_is_refused(void **state) {
    (void) state;
    static const char *const words[] = {"commit",
                                        "COMMIT WORK",
                                        "end",
                                        "abort",
                                        "begin",
                                        "BEGIN TRANSACTION",
                                        "rollback",
                                        "rollback work",
                                        "rollback and chain",
                                        "commit prepared 'x'",
                                        "rollback prepared 'x'",
                                        "start transaction",
                                        "prepare transaction 'x'"};
    for (size_t i = 0; i < LENGTH(words); i++) {
        char text[100];
        snprintf(text, sizeof text, "a;\n /* b */ %s;c", words[i]);
        assert_refused(text, "f.sql:2: a statement that begins or ends a transaction");
        snprintf(text, sizeof text, "a; %s", words[i]);
        assert_refused(text, "f.sql:1: a statement that begins or ends a transaction");
    }
    assert_cut("savepoint a; rollback to a; rollback work to savepoint a; release a; "
               "prepare p as select 1; do 'begin commit; end'; comment on x is 'y'",
               "savepoint a|rollback to a|rollback work to savepoint a|release a|"
               "prepare p as select 1|do 'begin commit; end'|comment on x is 'y'");
}

static void test_what_cannot_be_read_is_refused(void **state) {
    (void) state;
    assert_refused("a\n'b\nc", "f.sql:2: a string does not end");
    assert_refused("a\n\nE'\\'", "f.sql:3: a string does not end");
    assert_refused("a $x$ $y$", "f.sql:1: a string does not end");
    assert_refused("\"b\nc", "f.sql:1: a name in quotes does not end");
    assert_refused("a;\n/* /* */ b", "f.sql:2: a comment does not end");
    assert_refused("a;\n\\d b", "f.sql:2: a backslash outside quotes");
    assert_refused("a;\n\xff", "f.sql:2: the text is not valid UTF-8");
    assert_refused("copy t from stdin", "f.sql:1: COPY from or to the client");
    assert_refused("copy (select 1)\nto stdout", "f.sql:2: COPY from or to the client");
    assert_refused("set local standard_conforming_strings to off",
                   "f.sql:1: standard_conforming_strings cannot be changed here");
    hvi_sql sql;
    hv_error *error = NULL;
    assert_int_equal(hvi_sql_read(&sql, NULL, "a\n\0b", 4, &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "line 2: a NUL byte in the text");
    hvi_sql_fini(&sql);
}

static void test_orders(void **state) {
    (void) state;
    hvi_sql sql;
    read_text(&sql, "/* x */\n--hv:no-transaction \r\nvacuum");
    assert_true(sql.no_transaction);
    hvi_sql_fini(&sql);
    read_text(&sql, "-- hv no-transaction\n--\nvacuum");
    assert_false(sql.no_transaction);
    hvi_sql_fini(&sql);
    assert_refused("-- hv: no-transactions\nvacuum", "f.sql:1: unknown \"-- hv: no-transactions\"");
    assert_refused("a\n-- hv: no-transaction\n;", "f.sql:2: a line \"-- hv:\" after the first "
                                                  "statement");
    assert_refused("a;\n-- hv: no-transaction", "f.sql:2: a line \"-- hv:\" after the first "
                                                "statement");
    /* It is for files. */
    assert_int_equal(hvi_sql_read(&sql, NULL, "-- hv: x\na", 10, NULL), HV_OK);
    hvi_sql_fini(&sql);
}

static void assert_replaced(const char *text, const char *expected) {
    hvi_sql sql;
    hvi_buffer made = HVI_BUFFER_EMPTY;
    read_text(&sql, text);
    hvi_sql_append(&sql, 0, sql.len, "shard0012", &made);
    assert_string_equal(made.data, expected);
    hvi_buffer_fini(&made);
    hvi_sql_fini(&sql);
}

static void test_the_schema_takes_the_place_of_the_mark(void **state) {
    (void) state;
    assert_replaced("@shard", "shard0012");
    assert_replaced("@shard.a, '@shard.b' \"@shard\" $$@shard$$ -- @shard",
                    "shard0012.a, 'shard0012.b' \"shard0012\" $$shard0012$$ -- shard0012");
    assert_replaced("(@shard)@shard", "(shard0012)shard0012");
    assert_replaced("@shards a@shard 1@shard \xc3\xa4@shard @shard\xc3\xa4 @shard1 @shard_",
                    "@shards a@shard 1@shard \xc3\xa4@shard @shard\xc3\xa4 @shard1 @shard_");
    assert_replaced("a @@shard b <@shard c=@shard @shar", "a @@shard b <@shard c=@shard @shar");
}

static void test_a_position_is_found_in_the_text(void **state) {
    (void) state;
    static const char text[] = "a @shard.b '\xc3\xa4\xe2\x82\xac' @shard x";
    hvi_sql sql;
    hvi_buffer made = HVI_BUFFER_EMPTY;
    read_text(&sql, text);
    hvi_sql_append(&sql, 0, sql.len, "shard0012", &made);
    int position = 1;
    for (const char *at = made.data; *at != '\0'; at++) {
        if ((*at & 0xc0) == 0x80)
            continue;
        size_t found = hvi_sql_offset(&sql, 0, sql.len, "shard0012", position++);
        /* the same character, unless it is of the schema's name */
        if (*at != text[found])
            assert_int_equal(text[found], '@');
        if (*at == 'x')
            assert_int_equal(found, strlen(text) - 1);
    }
    assert_int_equal(hvi_sql_offset(&sql, 0, sql.len, "shard0012", 1000), sql.len);
    hvi_buffer_fini(&made);
    hvi_sql_fini(&sql);
}

static void assert_excerpt(const char *text, size_t max, const char *expected) {
    hvi_sql sql;
    hvi_buffer made = HVI_BUFFER_EMPTY;
    read_text(&sql, text);
    hvi_sql_excerpt(&sql, 0, max, &made);
    assert_string_equal(made.data, expected);
    hvi_buffer_fini(&made);
    hvi_sql_fini(&sql);
}

static void test_looking_at_a_statement(void **state) {
    (void) state;
    hvi_sql sql;
    read_text(&sql, "x; Create /* y */ INDEX\nconcurrently z");
    assert_true(hvi_sql_begins(&sql, 1, "create index concurrently"));
    assert_true(hvi_sql_begins(&sql, 1, "create"));
    assert_false(hvi_sql_begins(&sql, 1, "create unique"));
    assert_false(hvi_sql_begins(&sql, 0, "x y"));
    hvi_sql_fini(&sql);
    assert_excerpt("a\n  b /* c */ (d,\t-- e\n 'f  \n g');", 60, "a b (d, 'f g')");
    assert_excerpt("alter table entities", 12, "alter tab...");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statements_end_with_semicolons),
        cmocka_unit_test(test_semicolons_in_quotes_are_text),
        cmocka_unit_test(test_semicolons_inside_a_statement_do_not_end_it),
        cmocka_unit_test(test_each_statement_has_its_line),
        cmocka_unit_test(test_what_ends_the_transaction_is_refused),
        cmocka_unit_test(test_what_cannot_be_read_is_refused),
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_the_schema_takes_the_place_of_the_mark),
        cmocka_unit_test(test_a_position_is_found_in_the_text),
        cmocka_unit_test(test_looking_at_a_statement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
