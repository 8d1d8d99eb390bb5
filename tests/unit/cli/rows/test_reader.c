/*
 * Tests of cli/row_*: every format's rows, and what is wrong with bad ones, line and column.
 *
 * Each input is read in pieces of several sizes down to one byte, and must always give the same.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rows/reader.h"
#include "ui/memory.h"

void out_of_memory(void) {
    abort();
}

/* ---- Reading a text, and writing down what came ---------------------------------------------- */

typedef struct source {
    const char *text;
    size_t len;
    size_t at;
    size_t piece;
    int error; /* errno once the text is over; 0: the end */
} source;

static ssize_t give(void *context, char *data, size_t size) {
    source *from = context;
    size_t len = from->len - from->at;
    len = len < size ? len : size;
    len = len < from->piece ? len : from->piece;
    if (len == 0 && from->error != 0) {
        errno = from->error;
        return -1;
    }
    memcpy(data, from->text + from->at, len);
    from->at += len;
    return (ssize_t) len;
}

static void print_fault(FILE *out, const row_fault *fault) {
    char text[ROW_FAULT_SIZE];
    fprintf(out, "%s\n", row_fault_text(text, fault));
}

/* A line for each row, "number@line attributes" or "number@line ! fault", and one for the end. */
static char *describe(const row_format *format, source *from, size_t max_bytes) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    row_reader *reader = row_reader_new(format, max_bytes, give, from);
    assert_non_null(reader);
    row_fault fault = {0};
    row_result result;
    row *next = NULL;
    int64_t bytes = 0;
    while ((result = row_reader_next(reader, &next, &fault)) == ROW_READ) {
        fprintf(out, "%d@%d ", (int) next->number, (int) next->line);
        assert_true((next->dict == NULL) == (next->fault != NULL));
        if (next->dict != NULL) {
            char *dict = NULL;
            assert_int_equal(hv_dict_text(next->dict, &dict, NULL), HV_OK);
            fprintf(out, "%s\n", dict);
            free(dict);
        } else {
            fprintf(out, next->truncated ? "!! " : "! ");
            print_fault(out, next->fault);
        }
        bytes += next->bytes;
        row_free(next);
    }
    if (result == ROW_END) {
        assert_true(bytes <= (int64_t) from->len);
        fprintf(out, "end\n");
    } else if (result == ROW_CANCELED) {
        fprintf(out, "canceled\n");
    } else {
        fprintf(out, "failed: ");
        print_fault(out, &fault);
    }
    assert_int_equal(row_reader_next(reader, &next, &fault), ROW_END);
    row_reader_free(reader);
    fclose(out);
    return text;
}

static void check_bytes(const row_format *format, const char *input, size_t len, size_t max_bytes,
                        const char *expected) {
    static const size_t pieces[] = {1, 2, 3, 5, 64, 1 << 20};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        source from = {.text = input, .len = len, .piece = pieces[i]};
        char *got = describe(format, &from, max_bytes);
        assert_string_equal(got, expected);
        free(got);
    }
}

static void check(const row_format *format, const char *input, const char *expected) {
    check_bytes(format, input, strlen(input), ROW_MAX_BYTES, expected);
}

/* ---- NDJSON ---------------------------------------------------------------------------------- */

static void ndjson_values_become_text_exactly(void **state) {
    (void) state;
    check(&row_ndjson,
          "{\"s\":\"text\",\"n\":null,\"t\":true,\"f\":false}\n"
          "{ \"i\" : 12345678901234567890 , \"d\": 1.10, \"e\": -1E+400, \"z\": -0.0 }\n"
          "{}",
          "1@1 \"f\"=>\"false\", \"n\"=>NULL, \"s\"=>\"text\", \"t\"=>\"true\"\n"
          "2@2 \"d\"=>\"1.10\", \"e\"=>\"-1E+400\", \"i\"=>\"12345678901234567890\", "
          "\"z\"=>\"-0.0\"\n"
          "3@3 \n"
          "end\n");
}

static void ndjson_nested_values_become_compact_json(void **state) {
    (void) state;
    check(&row_ndjson,
          "{\"a\": [1, 2.50 , \"x y\", {\"b c\" : null} ], \"o\": { }, \"e\":[ ]}\n"
          "{\"q\": [\"\\u0000\\n\\ud83d\\ude00\\\"\"]}\n",
          "1@1 \"a\"=>\"[1,2.50,\\\"x y\\\",{\\\"b c\\\":null}]\", \"e\"=>\"[]\", \"o\"=>\"{}\"\n"
          "2@2 \"q\"=>\"[\\\"\\\\u0000\\\\n\\\\ud83d\\\\ude00\\\\\\\"\\\"]\"\n"
          "end\n");
}

static void ndjson_escapes_are_resolved(void **state) {
    (void) state;
    check(&row_ndjson,
          "{\"\\u0061\\n\":\"\\u00e9\\u20AC\\ud83d\\ude00\\t\\r\\b\\f\\/\\\"\\\\\",\"\":\"\"}",
          "1@1 \"\"=>\"\", \"a\n\"=>\"é€😀\t\r\b\f/\\\"\\\\\"\nend\n");
}

static void ndjson_of_a_duplicate_name_the_last_value_wins(void **state) {
    (void) state;
    check(&row_ndjson, "{\"a\":1,\"b\":2,\"a\":3,\"\\u0061\":null}\n",
          "1@1 \"a\"=>NULL, \"b\"=>\"2\"\nend\n");
}

static void ndjson_empty_lines_and_crlf_are_no_rows(void **state) {
    (void) state;
    check(&row_ndjson, "\n \t\r\n{\"a\":1}\r\n\n\n{\"a\":2}\r\n\n",
          "1@3 \"a\"=>\"1\"\n2@6 \"a\"=>\"2\"\nend\n");
}

static void ndjson_faults_name_line_and_column(void **state) {
    (void) state;
    static const struct {
        const char *line;
        const char *fault;
    } cases[] = {
        {"{\"a\":1", "column 7: expected a comma or }, but the line ends"},
        {"{\"a\"", "column 5: expected a colon, but the line ends"},
        {"{", "column 2: expected a name in quotes, but the line ends"},
        {"{\"a\":}", "column 6: expected a value, found \"}\""},
        {"{\"a\":1,}", "column 8: expected a name in quotes, found \"}\""},
        {"{a:1}", "column 2: expected a name in quotes, found \"a:1}\""},
        {"{\"a\":nul}", "column 6: expected a value, found \"nul}\""},
        {"{\"a\":NaN}", "column 6: expected a value, found \"NaN}\""},
        {"{\"a\":01}", "column 7: a number must not have leading zeros"},
        {"{\"a\":1.}", "column 8: expected a digit, found \"}\""},
        {"{\"a\":+1}", "column 6: expected a value, found \"+1}\""},
        {"{\"a\":1e}", "column 8: expected a digit, found \"}\""},
        {"{\"a\":-}", "column 7: expected a digit, found \"}\""},
        {"{\"a\":\"x}", "column 6: the string that starts here is not closed"},
        {"{\"a\":\"\t\"}", "column 7: a control character must be written as an escape"},
        {"{\"a\":\"\\x\"}", "column 7: a backslash must be followed by one of \"\\/bfnrtu"},
        {"{\"a\":\"\\u12g4\"}", "column 7: \\u must be followed by four hexadecimal digits"},
        {"{\"a\":\"\\ud83d\"}", "column 7: half of a surrogate pair is not a character"},
        {"{\"a\":\"\\ud83d\\u0041\"}", "column 7: half of a surrogate pair is not a character"},
        {"{\"a\":[\"\\ude00\"]}", "column 8: half of a surrogate pair is not a character"},
        {"{\"a\":\"\\u0000\"}", "column 7: PostgreSQL's text cannot hold the character \\u0000"},
        {"{\"a\":[1,]}", "column 9: expected a value, found \"]}\""},
        {"{\"a\":[1 2]}", "column 9: expected a comma or ], found \"2]}\""},
        {"{\"a\":{\"b\":1]}", "column 12: expected a comma or }, found \"]}\""},
        {"{\"a\":1} {\"b\":2}", "column 9: expected the end of the line, found \"{\"b\":2}\""},
        {"[1]", "column 1: expected an object, found \"[1]\""},
        {"\"äöü\" x", "column 1: expected an object, found \"\"äöü\"\""},
        {"{\"äöü\":}", "column 8: expected a value, found \"}\""},
        {"\xef\xbb\xbf{}", "column 1: expected an object, found \"\xef\xbb\xbf{}\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char input[100];
        char expected[200];
        snprintf(input, sizeof input, "{}\n\n%s\n{}\n", cases[i].line);
        snprintf(expected, sizeof expected, "1@1 \n2@3 ! line 3, %s\n3@4 \nend\n", cases[i].fault);
        check(&row_ndjson, input, expected);
    }
}

static void ndjson_nested_without_end_is_refused(void **state) {
    (void) state;
    enum { DEPTH = 100000 };
    char *input = malloc(DEPTH + 10);
    assert_non_null(input);
    size_t len = (size_t) sprintf(input, "{}\n{\"a\":");
    memset(input + len, '[', DEPTH - 10);
    len += DEPTH - 10;
    source from = {.text = input, .len = len, .piece = 1 << 20};
    char *got = describe(&row_ndjson, &from, ROW_MAX_BYTES);
    assert_string_equal(got, "1@1 \n2@2 ! line 2, column 1005: nested too deeply\nend\n");
    free(got);
    free(input);
}

static void ndjson_with_bad_first_rows_goes_on(void **state) {
    (void) state;
    check(&row_ndjson, "{\"a\":NaN}\n{\"a\":1}\n",
          "1@1 ! line 1, column 6: expected a value, found \"NaN}\"\n2@2 \"a\"=>\"1\"\nend\n");
    check(&row_ndjson, "NaN\n{\"a\":\"x\n{\"a\":\xff}\n{\"a\":1}\nnull\n",
          "1@1 ! line 1, column 1: expected an object, found \"NaN\"\n"
          "2@2 ! line 2, column 6: the string that starts here is not closed\n"
          "3@3 ! line 3, column 6: the byte 0xff is not UTF-8\n"
          "4@4 \"a\"=>\"1\"\n"
          "5@5 ! line 5, column 1: expected an object, found \"null\"\n"
          "end\n");
    check(&row_ndjson, "{\"a\":NaN}\n",
          "1@1 ! line 1, column 6: expected a value, found \"NaN}\"\nend\n");
}

static void ndjson_that_is_other_json_fails(void **state) {
    (void) state;
    check(&row_ndjson, "[\n{\"a\":1}\n]\n",
          "failed: line 1, column 1: expected an object, found \"[\"\n");
    check(&row_ndjson, "\n[{\"a\":1},\n{\"a\":2}]\n",
          "failed: line 2, column 1: expected an object, found \"[{\"a\":1},\"\n");
    check(&row_ndjson, "a,b\n1,2\n",
          "failed: line 1, column 1: expected an object, found \"a,b\"\n");
    check(&row_ndjson, "{\n  \"a\": 1\n}\n",
          "failed: line 1, column 2: expected a name in quotes, but the line ends\n");
}

/* ---- Lists of keys --------------------------------------------------------------------------- */

static void keys_stand_alone_in_quotes_or_in_objects(void **state) {
    (void) state;
    check(&row_key_lines,
          "5\n\n 307821103844175873 \r\n\"7\"\n"
          "{\"id\": \"307821103844175873\", \"kind\": 1}\n{\"id\":9}",
          "1@1 \"id\"=>\"5\"\n"
          "2@3 \"id\"=>\"307821103844175873\"\n"
          "3@4 \"id\"=>\"7\"\n"
          "4@5 \"id\"=>\"307821103844175873\", \"kind\"=>\"1\"\n"
          "5@6 \"id\"=>\"9\"\n"
          "end\n");
}

static void lines_that_are_no_keys_are_refused_by_themselves(void **state) {
    (void) state;
    static const struct {
        const char *line;
        const char *fault;
    } cases[] = {
        {"x", ", column 1: \"x\" is not a key"},
        {" 5 6", ", column 2: \"5 6\" is not a key"},
        {"0", ", column 1: \"0\" is not a key"},
        {"-5", ", column 1: \"-5\" is not a key"},
        {"\"5", ", column 1: \"\"5\" is not a key"},
        {"\"", ", column 1: \"\"\" is not a key"},
        {"9223372036854775808", ", column 1: \"9223372036854775808\" is not a key"},
        {"10000000000000000000000", ", column 1: \"10000000000000000000000\" is not a key"},
        {"[5]", ", column 1: \"[5]\" is not a key"},
        {"{}", ": no \"id\" with a key"},
        {"{\"id\": null}", ": no \"id\" with a key"},
        {"{\"id\": true}", ": \"true\" is not a key"},
        {"{\"id\": \"5.0\"}", ": \"5.0\" is not a key"},
        {"{\"id\": 5.0}", ": the key 5.0 may have been rounded on its way"},
        {"{\"id\": 3439329500000000000}",
         ": the key 3439329500000000000 may have been rounded on its way"},
        {"{\"id\": 5", ", column 9: expected a comma or }, but the line ends"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char input[100];
        char expected[200];
        snprintf(input, sizeof input, "1\n%s\n2\n", cases[i].line);
        snprintf(expected, sizeof expected,
                 "1@1 \"id\"=>\"1\"\n2@2 ! line 2%s\n3@3 \"id\"=>\"2\"\nend\n", cases[i].fault);
        check(&row_key_lines, input, expected);
    }
}

/* ---- CSV ------------------------------------------------------------------------------------- */

static void csv_fields_are_read_as_in_rfc_4180(void **state) {
    (void) state;
    check(&row_csv, "a,\"b,\"\"\"\r\n1,\"x, \"\"y\"\"\"\r\n\"two\nlines\r\n\", z \n3,4",
          "1@2 \"a\"=>\"1\", \"b,\\\"\"=>\"x, \\\"y\\\"\"\n"
          "2@3 \"a\"=>\"two\nlines\r\n\", \"b,\\\"\"=>\" z \"\n"
          "3@6 \"a\"=>\"3\", \"b,\\\"\"=>\"4\"\n"
          "end\n");
}

static void csv_an_empty_field_is_null_and_a_quoted_one_empty(void **state) {
    (void) state;
    check(&row_csv, "a,b\n,\"\"\n\"\",\n",
          "1@2 \"a\"=>NULL, \"b\"=>\"\"\n2@3 \"a\"=>\"\", \"b\"=>NULL\nend\n");
}

static void csv_an_empty_line_is_a_row_only_under_one_name(void **state) {
    (void) state;
    check(&row_csv, "a\n\nx\n\"\"\n", "1@2 \"a\"=>NULL\n2@3 \"a\"=>\"x\"\n3@4 \"a\"=>\"\"\nend\n");
    check(&row_csv, "a,b\n\n1,2\n\r\n", "1@3 \"a\"=>\"1\", \"b\"=>\"2\"\nend\n");
}

static void csv_ragged_rows_are_refused(void **state) {
    (void) state;
    check(&row_csv, "a,b\n1\n1,2\n1,2,3\n",
          "1@2 ! line 2: 1 field, but the header names 2\n"
          "2@3 \"a\"=>\"1\", \"b\"=>\"2\"\n"
          "3@4 ! line 4: 3 fields, but the header names 2\n"
          "end\n");
}

static void csv_after_a_misplaced_quote_reading_goes_on_at_the_next_line(void **state) {
    (void) state;
    check(&row_csv, "a,b\n5\",x\n1,2\n\"x\" ,y\n3,4\n\"u\nv\"w,\"\n5,6\n\"a\"\rb,c\n7,8\n",
          "1@2 ! line 2, column 2: a quote in a field without quotes around it\n"
          "2@3 \"a\"=>\"1\", \"b\"=>\"2\"\n"
          "3@4 ! line 4, column 4: text after a closing quote\n"
          "4@5 \"a\"=>\"3\", \"b\"=>\"4\"\n"
          "5@6 ! line 6, column 1: the quote that opens here is closed only in line 7, where more "
          "text follows\n"
          "6@7 ! line 7, column 2: a quote in a field without quotes around it\n"
          "7@8 \"a\"=>\"5\", \"b\"=>\"6\"\n"
          "8@9 ! line 9, column 4: text after a closing quote\n"
          "9@10 \"a\"=>\"7\", \"b\"=>\"8\"\n"
          "end\n");
}

/* Its line alone is rejected, and those that it would swallow are rows like any others. */
static void csv_a_quote_that_is_never_closed_costs_one_line(void **state) {
    (void) state;
    check(&row_csv, "a,b\n1,2\n3,\"4\n5,6\n7,\"8\"\n\"9\n9\",0\n",
          "1@2 \"a\"=>\"1\", \"b\"=>\"2\"\n"
          "2@3 ! line 3, column 3: the quote that opens here is closed only in line 5, where more "
          "text follows\n"
          "3@4 \"a\"=>\"5\", \"b\"=>\"6\"\n"
          "4@5 \"a\"=>\"7\", \"b\"=>\"8\"\n"
          "5@6 \"a\"=>\"9\n9\", \"b\"=>\"0\"\n"
          "end\n");
    /* What stands before it in the same row belongs to it. */
    check(&row_csv, "a,b\n1,2\n\"3\n3\",\"4\n5,6\n",
          "1@2 \"a\"=>\"1\", \"b\"=>\"2\"\n"
          "2@3 ! line 4, column 4: the quote that opens here is never closed\n"
          "3@5 \"a\"=>\"5\", \"b\"=>\"6\"\n"
          "end\n");
    /* Beyond the longest row it is not looked for. */
    static const char long_field[] = "a,b\n1,2\n3,\"4\n5,6\n7,8\n9,0\n1,\"2\"\n3,4\n";
    check_bytes(&row_csv, long_field, sizeof long_field - 1, 12,
                "1@2 \"a\"=>\"1\", \"b\"=>\"2\"\n"
                "2@3 ! line 3, column 3: the quote that opens here is not closed within 12 bytes\n"
                "3@4 \"a\"=>\"5\", \"b\"=>\"6\"\n"
                "4@5 \"a\"=>\"7\", \"b\"=>\"8\"\n"
                "5@6 \"a\"=>\"9\", \"b\"=>\"0\"\n"
                "6@7 \"a\"=>\"1\", \"b\"=>\"2\"\n"
                "7@8 \"a\"=>\"3\", \"b\"=>\"4\"\n"
                "end\n");
    /* Nor does a line that is itself too long open anything. */
    static const char long_line[] = "a,b\n1,2\n3,\"45678901234567890\n5,6\n7,8\n";
    check_bytes(&row_csv, long_line, sizeof long_line - 1, 12,
                "1@2 \"a\"=>\"1\", \"b\"=>\"2\"\n"
                "2@3 !! line 3: the row is longer than 12 bytes\n"
                "3@4 \"a\"=>\"5\", \"b\"=>\"6\"\n"
                "4@5 \"a\"=>\"7\", \"b\"=>\"8\"\n"
                "end\n");
}

static void csv_a_quote_that_is_never_closed_is_said_where_it_opens(void **state) {
    (void) state;
    check(&row_csv, "a,b\n1,2\n3,\"4\n5,6\n",
          "1@2 \"a\"=>\"1\", \"b\"=>\"2\"\n"
          "2@3 ! line 3, column 3: the quote that opens here is never closed\n"
          "3@4 \"a\"=>\"5\", \"b\"=>\"6\"\n"
          "end\n");
}

static void csv_old_line_ends_are_refused(void **state) {
    (void) state;
    check(&row_csv, "a,b\r1,2\r", "failed: line 1, column 4: a carriage return outside quotes\n");
}

static void headers_that_are_no_good_fail(void **state) {
    (void) state;
    check(&row_csv, "a,,b\n", "failed: line 1, column 3: column 2 has no name\n");
    check(&row_csv, "a,\"\"\n", "failed: line 1, column 3: column 2 has no name\n");
    check(&row_csv, "\na,b\n", "failed: line 1: the header is empty\n");
    check(&row_csv, "ä,b,\"ä\"\n", "failed: line 1, column 5: the header names \"ä\" twice\n");
    check(&row_csv, "a,b\"\n",
          "failed: line 1, column 4: a quote in a field without quotes around it\n");
    check(&row_csv, "a;b\n1;2\n", "failed: line 1, column 1: the header has one name, \"a;b\"\n");
    check(&row_csv, "\"a;b\"\n1\n", "1@2 \"a;b\"=>\"1\"\nend\n");
    check(&row_tsv, "a\t\tb\n", "failed: line 1, column 3: column 2 has no name\n");
    check(&row_tsv, "a\tb\ta\n", "failed: line 1, column 5: the header names \"a\" twice\n");
    check(&row_tsv, "a,b\n1,2\n", "failed: line 1, column 1: the header has one name, \"a,b\"\n");
    check(&row_tsv, "a\\,b\n1\n", "1@2 \"a,b\"=>\"1\"\nend\n");
}

/* ---- TSV ------------------------------------------------------------------------------------- */

static void tsv_fields_are_read_as_copy_writes_them(void **state) {
    (void) state;
    check(&row_tsv,
          "a\tb\\tc\n"
          "\\N\t\n"
          "x\\ty\\nz\\\\\\r\\b\\f\\v\t\"q\",\\\\N\\N\n"
          "\\x41\\x4a\\x7g\\xg\t\\101\\60\\0611\\q\r\n"
          "\\xc3\\xa4\t\\N \n",
          "1@2 \"a\"=>NULL, \"b\tc\"=>\"\"\n"
          "2@3 \"a\"=>\"x\ty\nz\\\\\r\b\f\v\", \"b\tc\"=>\"\\\"q\\\",\\\\NN\"\n"
          "3@4 \"a\"=>\"AJ\x07gxg\", \"b\tc\"=>\"A011q\"\n"
          "4@5 \"a\"=>\"ä\", \"b\tc\"=>\"N \"\n"
          "end\n");
}

static void tsv_the_mark_of_the_end_and_empty_lines_are_no_rows(void **state) {
    (void) state;
    check(&row_tsv, "a\tb\n\n1\t2\n\\.\n", "1@3 \"a\"=>\"1\", \"b\"=>\"2\"\nend\n");
    check(&row_tsv, "a\n\n\\.\n", "1@2 \"a\"=>\"\"\nend\n");
}

static void tsv_faults_name_line_and_column(void **state) {
    (void) state;
    check(&row_tsv, "a\tb\nä\\\tx\n1\n1\t2\\\n\\xff\ty\n3\t\\000\n1\t2\n",
          "1@2 ! line 2, column 2: a backslash at the end of the field; write it twice\n"
          "2@3 ! line 3: 1 field, but the header names 2\n"
          "3@4 ! line 4, column 4: a backslash at the end of the field; write it twice\n"
          "4@5 ! line 5, column 1: value of attribute \"a\" is not valid UTF-8\n"
          "5@6 ! line 6, column 3: value of attribute \"b\" contains a NUL byte\n"
          "6@7 \"a\"=>\"1\", \"b\"=>\"2\"\n"
          "end\n");
}

/* ---- All formats ----------------------------------------------------------------------------- */

static void an_empty_input_has_no_rows(void **state) {
    (void) state;
    const row_format *formats[] = {&row_ndjson, &row_csv, &row_tsv, NULL};
    for (size_t i = 0; i < 4; i++) {
        check(formats[i], "", "end\n");
        check(formats[i], "\xef\xbb\xbf", "end\n");
    }
    check(&row_csv, "a,b", "end\n");
    check(&row_tsv, "a\tb\n", "end\n");
    check(&row_ndjson, "\n\n", "end\n");
}

static void a_byte_order_mark_is_skipped(void **state) {
    (void) state;
    check(&row_csv, "\xef\xbb\xbf\"a\"\n1\n", "1@2 \"a\"=>\"1\"\nend\n");
    check(&row_ndjson, "\xef\xbb\xbf{\"a\":1}", "1@1 \"a\"=>\"1\"\nend\n");
}

static void the_format_is_guessed_only_for_a_brace(void **state) {
    (void) state;
    check(NULL, "{\"a\":1}\n", "1@1 \"a\"=>\"1\"\nend\n");
    check(NULL, "\xef\xbb\xbf{}\n", "1@1 \nend\n");
    check(NULL, "a,b\n", "failed: line 0: the format is not known\n");
    assert_ptr_equal(row_format_of_file("x/people.CSV"), &row_csv);
    assert_ptr_equal(row_format_of_file("people.jsonl"), &row_ndjson);
    assert_ptr_equal(row_format_of_file("people.tsv"), &row_tsv);
    assert_null(row_format_of_file("people"));
    assert_null(row_format_of_file(".csv"));
    assert_ptr_equal(row_format_named("ndjson"), &row_ndjson);
    assert_null(row_format_named("xml"));
}

static void bytes_that_are_no_text_are_refused_row_by_row(void **state) {
    (void) state;
    static const char ndjson[] =
        "{}\n{\"a\":\"x\xff\"}\n{\"a\":\"\0\"}\n{\"\xc3\xa4\":\"\xc0\x80\"}\n"
        "{\"a\":\"\xed\xa0\x80\"}\n{}";
    check_bytes(&row_ndjson, ndjson, sizeof ndjson - 1, ROW_MAX_BYTES,
                "1@1 \n"
                "2@2 ! line 2, column 8: the byte 0xff is not UTF-8\n"
                "3@3 ! line 3, column 7: a NUL byte\n"
                "4@4 ! line 4, column 7: the byte 0xc0 is not UTF-8\n"
                "5@5 ! line 5, column 7: the byte 0xed is not UTF-8\n"
                "6@6 \n"
                "end\n");
    static const char csv[] = "a,b\n1,\"x\n\xff\"\n1,\0\n1,2\n";
    check_bytes(&row_csv, csv, sizeof csv - 1, ROW_MAX_BYTES,
                "1@2 ! line 3, column 1: the byte 0xff is not UTF-8\n"
                "2@4 ! line 4, column 3: a NUL byte\n"
                "3@5 \"a\"=>\"1\", \"b\"=>\"2\"\n"
                "end\n");
}

static void binary_files_fail_at_once(void **state) {
    (void) state;
    static const char png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    check_bytes(&row_ndjson, png, sizeof png - 1, ROW_MAX_BYTES,
                "failed: line 1, column 1: the byte 0x89 is not UTF-8\n");
    check_bytes(&row_csv, png, sizeof png - 1, ROW_MAX_BYTES,
                "failed: line 1, column 1: the byte 0x89 is not UTF-8\n");
    static const char elf[] = "\x7f"
                              "ELF\2\1\1\0\0\0";
    check_bytes(&row_tsv, elf, sizeof elf - 1, ROW_MAX_BYTES,
                "failed: line 1, column 8: a NUL byte\n");
    check(&row_csv, "\x1f\x8b\x08 something",
          "failed: line 1, column 1: the input is gzip, not text\n");
    check(&row_csv,
          "\xff\xfe"
          "a",
          "failed: line 1, column 1: the input is UTF-16, not text\n");
}

static void rows_that_are_too_long_are_skipped(void **state) {
    (void) state;
    static const char ndjson[] = "{\"a\":\"0123456789012345678901234567890\"}\n{\"a\":1}\n";
    check_bytes(&row_ndjson, ndjson, sizeof ndjson - 1, 20,
                "1@1 !! line 1: the row is longer than 20 bytes\n2@2 \"a\"=>\"1\"\nend\n");
    static const char csv[] = "a,b\n1,\"012345678\n0123456789,\n\"\"\nx\"\n1,\"2\n\"\n";
    check_bytes(&row_csv, csv, sizeof csv - 1, 20,
                "1@2 ! line 2, column 3: the quote that opens here is not closed within 20 bytes\n"
                "2@3 \"a\"=>\"0123456789\", \"b\"=>NULL\n"
                "3@4 ! line 4: 1 field, but the header names 2\n"
                "4@5 ! line 5, column 2: a quote in a field without quotes around it\n"
                "5@6 \"a\"=>\"1\", \"b\"=>\"2\n\"\n"
                "end\n");
    check_bytes(&row_csv, csv, sizeof csv - 1, 2,
                "failed: line 1: the header is longer than 2 bytes\n");
    /* What is kept of it ends with a whole character. */
    static const char umlauts[] = "{}\n{ääääääääääääääääää}\n";
    check_bytes(&row_ndjson, umlauts, sizeof umlauts - 1, 20,
                "1@1 \n2@2 !! line 2: the row is longer than 20 bytes\nend\n");
    /* The longest row that is allowed. */
    check_bytes(&row_ndjson, "{\"a\":\"012345678901\"}\n", 21, 20,
                "1@1 \"a\"=>\"012345678901\"\nend\n");
}

static void a_format_that_no_row_has_fails_soon(void **state) {
    (void) state;
    char input[1000] = "a,b\n";
    for (int i = 0; i < 30; i++)
        strcat(input, "1,2,3\n");
    source from = {.text = input, .len = strlen(input), .piece = 1 << 20};
    char *got = describe(&row_csv, &from, ROW_MAX_BYTES);
    assert_string_equal(got, "failed: line 2: 3 fields, but the header names 2\n");
    free(got);
    /* One good row among the first shows that the format is right. */
    memcpy(input + strlen("a,b\n1,2,3\n"), "1,\"3\"\n", 6);
    from.at = 0;
    got = describe(&row_csv, &from, ROW_MAX_BYTES);
    assert_non_null(strstr(got, "30@31 ! line 31: 3 fields, but the header names 2\nend\n"));
    free(got);
}

static void errors_of_the_input_end_the_reading(void **state) {
    (void) state;
    source from = {.text = "{\"a\":1}\n{\"a\"", .len = 12, .piece = 5, .error = EIO};
    char *got = describe(&row_ndjson, &from, ROW_MAX_BYTES);
    assert_string_equal(got, "1@1 \"a\"=>\"1\"\nfailed: line 0: Input/output error\n");
    free(got);
    from.at = 0;
    from.error = ECANCELED;
    got = describe(&row_ndjson, &from, ROW_MAX_BYTES);
    assert_string_equal(got, "1@1 \"a\"=>\"1\"\ncanceled\n");
    free(got);
}

static void skipped_rows_are_counted_like_others(void **state) {
    (void) state;
    const char *input = "a,b\n\"x\ny\",1\n\nbad\n3,4\n5,6\n";
    source from = {.text = input, .len = strlen(input), .piece = 3};
    row_reader *reader = row_reader_new(&row_csv, ROW_MAX_BYTES, give, &from);
    row_fault fault;
    row *next = NULL;
    int64_t skipped = -1;
    assert_int_equal(row_reader_skip(reader, 2, &skipped, &fault), ROW_READ);
    assert_int_equal(skipped, 2);
    assert_int_equal(row_reader_next(reader, &next, &fault), ROW_READ);
    assert_int_equal(next->number, 3);
    assert_int_equal(next->line, 6);
    assert_non_null(next->dict);
    row_free(next);
    assert_int_equal(row_reader_skip(reader, 5, &skipped, &fault), ROW_END);
    assert_int_equal(skipped, 1);
    row_reader_free(reader);
}

static void a_rows_text_is_kept_as_it_was(void **state) {
    (void) state;
    const char *input = "\xef\xbb\xbf"
                        "a,b\r\n\"x\r\ny\",1\r\n";
    source from = {.text = input, .len = strlen(input), .piece = 4};
    row_reader *reader = row_reader_new(&row_csv, ROW_MAX_BYTES, give, &from);
    row_fault fault;
    row *next = NULL;
    assert_int_equal(row_reader_next(reader, &next, &fault), ROW_READ);
    assert_int_equal(next->text_len, 8);
    assert_memory_equal(next->text, "\"x\r\ny\",1", 8);
    assert_int_equal(next->bytes, strlen(input));
    row_free(next);
    row_reader_free(reader);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ndjson_values_become_text_exactly),
        cmocka_unit_test(ndjson_nested_values_become_compact_json),
        cmocka_unit_test(ndjson_escapes_are_resolved),
        cmocka_unit_test(ndjson_of_a_duplicate_name_the_last_value_wins),
        cmocka_unit_test(ndjson_empty_lines_and_crlf_are_no_rows),
        cmocka_unit_test(ndjson_faults_name_line_and_column),
        cmocka_unit_test(ndjson_nested_without_end_is_refused),
        cmocka_unit_test(ndjson_with_bad_first_rows_goes_on),
        cmocka_unit_test(ndjson_that_is_other_json_fails),
        cmocka_unit_test(keys_stand_alone_in_quotes_or_in_objects),
        cmocka_unit_test(lines_that_are_no_keys_are_refused_by_themselves),
        cmocka_unit_test(csv_fields_are_read_as_in_rfc_4180),
        cmocka_unit_test(csv_an_empty_field_is_null_and_a_quoted_one_empty),
        cmocka_unit_test(csv_an_empty_line_is_a_row_only_under_one_name),
        cmocka_unit_test(csv_ragged_rows_are_refused),
        cmocka_unit_test(csv_after_a_misplaced_quote_reading_goes_on_at_the_next_line),
        cmocka_unit_test(csv_a_quote_that_is_never_closed_is_said_where_it_opens),
        cmocka_unit_test(csv_a_quote_that_is_never_closed_costs_one_line),
        cmocka_unit_test(csv_old_line_ends_are_refused),
        cmocka_unit_test(headers_that_are_no_good_fail),
        cmocka_unit_test(tsv_fields_are_read_as_copy_writes_them),
        cmocka_unit_test(tsv_the_mark_of_the_end_and_empty_lines_are_no_rows),
        cmocka_unit_test(tsv_faults_name_line_and_column),
        cmocka_unit_test(an_empty_input_has_no_rows),
        cmocka_unit_test(a_byte_order_mark_is_skipped),
        cmocka_unit_test(the_format_is_guessed_only_for_a_brace),
        cmocka_unit_test(bytes_that_are_no_text_are_refused_row_by_row),
        cmocka_unit_test(binary_files_fail_at_once),
        cmocka_unit_test(rows_that_are_too_long_are_skipped),
        cmocka_unit_test(a_format_that_no_row_has_fails_soon),
        cmocka_unit_test(errors_of_the_input_end_the_reading),
        cmocka_unit_test(skipped_rows_are_counted_like_others),
        cmocka_unit_test(a_rows_text_is_kept_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
