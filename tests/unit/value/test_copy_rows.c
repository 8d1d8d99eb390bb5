/*
 * Tests of the binary form of COPY, both ways: rows in pieces of any size, and malformed streams.
 */
#include "value/copy_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "value/hstore.h"
#include "unit.h"

static hv_dict *make_dict(const char *text) {
    hv_dict *dict = NULL;
    assert_int_equal(hv_dict_parse(text, HV_STRLEN, &dict, NULL), HV_OK);
    return dict;
}

/* A whole stream of entities with the keys 1 to `count`, kind -key and the attribute n = key. */
static hvi_buffer make_stream(int count) {
    hvi_buffer stream = HVI_BUFFER_EMPTY;
    hvi_buffer_append(&stream, hvi_copy_header, HVI_COPY_HEADER_LEN);
    for (int i = 1; i <= count; i++) {
        char text[32];
        snprintf(text, sizeof text, "n=>%d, null=>NULL", i);
        hv_dict *dict = make_dict(text);
        hvi_copy_append_row(&stream, i, -i, dict);
        hv_dict_free(dict);
    }
    hvi_buffer_append(&stream, hvi_copy_trailer, HVI_COPY_TRAILER_LEN);
    assert_true(hvi_buffer_ok(&stream));
    return stream;
}

static void check_row(const hvi_copy_row *row, int number) {
    hv_dict *dict = NULL;
    const char *value;
    assert_int_equal(row->key, number);
    assert_int_equal(row->kind, -number);
    assert_int_equal(hvi_hstore_decode(row->body, row->body_len, &dict, NULL), HV_OK);
    assert_true(hv_dict_get(dict, "n", HV_STRLEN, &value, NULL));
    assert_int_equal(atoi(value), number);
    assert_true(hv_dict_get(dict, "null", HV_STRLEN, &value, NULL));
    assert_null(value);
    hv_dict_free(dict);
}

static void test_rows_come_out_of_pieces_of_any_size(void **state) {
    (void) state;
    hvi_buffer stream = make_stream(20);
    for (size_t size = 1; size <= stream.len; size++) {
        hvi_copy_reader reader;
        hvi_copy_reader_init(&reader);
        int rows = 0;
        for (size_t at = 0; at < stream.len; at += size) {
            size_t left = stream.len - at;
            hvi_copy_row row;
            assert_true(hvi_copy_feed(&reader, stream.data + at, left < size ? left : size));
            while (hvi_copy_read(&reader, &row, NULL) == HV_OK)
                check_row(&row, ++rows);
        }
        assert_int_equal(rows, 20);
        assert_true(reader.ended);
        hvi_copy_reader_fini(&reader);
    }
    hvi_buffer_fini(&stream);
}

static void test_a_stream_without_rows_ends(void **state) {
    (void) state;
    hvi_buffer stream = make_stream(0);
    hvi_copy_reader reader;
    hvi_copy_row row;
    hvi_copy_reader_init(&reader);
    assert_true(hvi_copy_feed(&reader, stream.data, stream.len));
    assert_int_equal(hvi_copy_read(&reader, &row, NULL), HV_NOT_FOUND);
    assert_true(reader.ended);
    hvi_copy_reader_fini(&reader);
    hvi_buffer_fini(&stream);
}

/* Read a stream that is changed at one place: the status of its first row. */
static hv_status read_changed(size_t at, char byte) {
    hvi_buffer stream = make_stream(1);
    hvi_copy_reader reader;
    hvi_copy_row row;
    hv_error *error = NULL;
    stream.data[at] = byte;
    hvi_copy_reader_init(&reader);
    assert_true(hvi_copy_feed(&reader, stream.data, stream.len));
    hv_status status = hvi_copy_read(&reader, &row, &error);
    assert_int_equal(status == HV_CORRUPT, error != NULL);
    hv_error_free(error);
    hvi_copy_reader_fini(&reader);
    hvi_buffer_fini(&stream);
    return status;
}

static void test_what_is_no_such_stream_is_reported(void **state) {
    (void) state;
    assert_int_equal(read_changed(0, 'Q'), HV_CORRUPT);     /* the signature */
    assert_int_equal(read_changed(11, 1), HV_CORRUPT);      /* a flag that changes the rows */
    assert_int_equal(read_changed(20, 2), HV_CORRUPT);      /* two columns */
    assert_int_equal(read_changed(24, 7), HV_CORRUPT);      /* an id of seven bytes */
    assert_int_equal(read_changed(36, 4), HV_CORRUPT);      /* a type of four */
    assert_int_equal(read_changed(39, '\xff'), HV_CORRUPT); /* a body that is NULL, or huge */
    assert_int_equal(read_changed(14, 1), HV_OK);           /* a flag that does not matter */
}

static void test_every_change_of_a_byte_is_survived(void **state) {
    (void) state;
    hvi_buffer stream = make_stream(1);
    for (size_t at = 0; at < stream.len; at++)
        for (int byte = 0; byte < 256; byte += 5)
            read_changed(at, (char) byte);
    hvi_buffer_fini(&stream);
}

static void test_a_row_without_a_key_has_two_columns(void **state) {
    (void) state;
    hvi_buffer out = HVI_BUFFER_EMPTY;
    hvi_copy_append_row(&out, 0, 258, NULL);
    static const char expected[] = "\0\2\0\0\0\2\1\2\0\0\0\4\0\0\0\0";
    assert_int_equal(out.len, sizeof expected - 1);
    assert_memory_equal(out.data, expected, out.len);
    hvi_buffer_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_come_out_of_pieces_of_any_size),
        cmocka_unit_test(test_a_stream_without_rows_ends),
        cmocka_unit_test(test_what_is_no_such_stream_is_reported),
        cmocka_unit_test(test_every_change_of_a_byte_is_survived),
        cmocka_unit_test(test_a_row_without_a_key_has_two_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
