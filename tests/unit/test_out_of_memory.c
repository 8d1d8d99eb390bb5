/*
 * Tests of running out of memory: each allocation that an operation makes fails once; the operation
 * reports that, nothing has changed, and nothing is leaked.
 */
#include "config/options.h"
#include "value/dict.h"
#include "failing_memory.h"
#include "generator.h"
#include "value/hstore.h"
#include "value/hstore_text.h"
#include "value/shard_map.h"
#include "entity/where.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* For every allocation in turn: `prepare` a subject, let `operation` fail on it, `check` that it is
 * as before, run `operation` again with memory, and `finish` the subject. The failed operation
 * returns HV_NO_MEMORY with an error, which needs no memory. */
typedef struct scene {
    void *(*prepare)(void);
    hv_status (*operation)(void *subject, hv_error **error);
    void (*check)(const void *subject);
    void (*finish)(void *subject);
} scene;

/* Returns how many allocations the operation makes. */
static int play(const scene *s) {
    int blocks_before = failing_memory_blocks();
    for (int successes = 0;; successes++) {
        void *subject = s->prepare();
        hv_error *error = NULL;
        failing_memory_after(successes);
        hv_status status = s->operation(subject, &error);
        bool failed = failing_memory_stop();
        if (failed) {
            assert_error(&error, HV_NO_MEMORY, "out of memory");
            assert_int_equal(status, HV_NO_MEMORY);
            s->check(subject);
            assert_int_equal(s->operation(subject, NULL), HV_OK); /* memory is there again */
        } else {
            assert_null(error);
            assert_int_equal(status, HV_OK);
        }
        s->finish(subject);
        assert_int_equal(failing_memory_blocks(), blocks_before);
        if (!failed)
            return successes;
    }
}

/* ---- Setting attributes ---------------------------------------------------------------------- */

static int items_before; /* how full the dict is when the operation starts */

static void *prepare_dict(void) {
    hv_dict *dict = hv_dict_new();
    assert_non_null(dict);
    /* Not in hstore's order, or there would be no hash table to grow. */
    for (int i = items_before - 1; i >= 0; i--) {
        char text[20];
        snprintf(text, sizeof text, "%d", i);
        assert_int_equal(hv_dict_set(dict, text, "replaced", NULL), HV_OK);
        assert_int_equal(hv_dict_set(dict, text, i % 2 == 0 ? text : NULL, NULL), HV_OK);
    }
    return dict;
}

static void check_dict(const void *subject) {
    const hv_dict *dict = subject;
    assert_int_equal(hv_dict_count(dict), items_before);
    for (int i = 0; i < items_before; i++) {
        char text[20];
        const char *value;
        snprintf(text, sizeof text, "%d", i);
        assert_true(hv_dict_get(dict, text, HV_STRLEN, &value, NULL));
        if (i % 2 == 0)
            assert_string_equal(value, text);
        else
            assert_null(value);
    }
}

static void finish_dict(void *subject) {
    hv_dict_free(subject);
}

static char long_text[3001];

static hv_status set_a_long_value(void *subject, hv_error **error) {
    return hv_dict_set(subject, "new", long_text, error);
}

static hv_status replace_by_a_long_value(void *subject, hv_error **error) {
    return hv_dict_set(subject, "0", long_text, error);
}

static void test_a_dict_is_as_it_was_when_memory_runs_out(void **state) {
    (void) state;
    memset(long_text, 'x', sizeof long_text - 1);
    int most = 0;
    for (items_before = 1; items_before < 70; items_before++) {
        int new_allocations =
            play(&(scene){prepare_dict, set_a_long_value, check_dict, finish_dict});
        assert_true(new_allocations >= 1);
        most = new_allocations > most ? new_allocations : most;
        assert_int_equal(
            play(&(scene){prepare_dict, replace_by_a_long_value, check_dict, finish_dict}), 1);
    }
    assert_int_equal(most, 3); /* items, slots and bytes all had to grow */
}

static void test_changes_that_failed_leave_no_trace_in_later_ones(void **state) {
    (void) state;
    generator g = {10};
    for (int round = 0; round < 300; round++) {
        hv_dict *dict = hvi_dict_new(generate_below(&g, 20), generate_below(&g, 200));
        int values[100] = {0}; /* of the keys "0" to "99"; 0 is none */
        size_t count = 0;
        for (int step = 1; step < 200; step++) {
            /* Many of the keys come in order, as those of a dict that was read do. */
            size_t k = generate_below(&g, 3) == 0 ? generate_below(&g, 100) : (size_t) step / 2;
            char key[24], value[24];
            snprintf(key, sizeof key, "%zu", k);
            snprintf(value, sizeof value, "%d", step);
            failing_memory_after((int) generate_below(&g, 3));
            hv_status status = hv_dict_set(dict, key, value, NULL);
            failing_memory_stop();
            if (status == HV_OK) {
                count += values[k] == 0 ? 1 : 0;
                values[k] = step;
            } else {
                assert_int_equal(status, HV_NO_MEMORY);
            }
        }
        assert_int_equal(hv_dict_count(dict), count);
        for (size_t k = 0; k < LENGTH(values); k++) {
            char key[24];
            const char *value;
            snprintf(key, sizeof key, "%zu", k);
            assert_int_equal(hv_dict_get(dict, key, HV_STRLEN, &value, NULL), values[k] != 0);
            if (values[k] != 0)
                assert_int_equal(atoi(value), values[k]);
        }
        hv_dict_free(dict);
    }
}

static void test_no_dict_is_made_when_memory_runs_out(void **state) {
    (void) state;
    failing_memory_after(0);
    hv_dict *dict = hv_dict_new();
    assert_true(failing_memory_stop());
    assert_null(dict);
}

static void test_a_dict_of_impossible_size_is_not_made(void **state) {
    (void) state;
    assert_null(hvi_dict_new(SIZE_MAX, 0));
    assert_null(hvi_dict_new(0, SIZE_MAX));
    assert_null(hvi_dict_new(HVI_DICT_MAX_COUNT + 1, 0));
}

/* ---- hstore ---------------------------------------------------------------------------------- */

static hv_dict *sample(size_t count) {
    hv_dict *dict = hv_dict_new();
    for (size_t i = 0; i < count; i++) {
        char key[24];
        snprintf(key, sizeof key, "%zu", i);
        assert_int_equal(hv_dict_set(dict, key, "value", NULL), HV_OK);
    }
    return dict;
}

static size_t sample_count;
static hv_dict *const untouched = (hv_dict *) (uintptr_t) 0x5a5a;

static void *prepare_binary(void) {
    hv_dict *dict = sample(sample_count);
    hvi_buffer *bytes = malloc(sizeof *bytes);
    *bytes = (hvi_buffer) HVI_BUFFER_EMPTY;
    hvi_hstore_encode(dict, bytes);
    assert_true(hvi_buffer_ok(bytes));
    hv_dict_free(dict);
    return bytes;
}

static void *prepare_text(void) {
    hv_dict *dict = sample(sample_count);
    hvi_buffer *text = malloc(sizeof *text);
    *text = (hvi_buffer) HVI_BUFFER_EMPTY;
    hvi_hstore_print(dict, text);
    assert_true(hvi_buffer_ok(text));
    hv_dict_free(dict);
    return text;
}

static void check_nothing(const void *subject) {
    (void) subject;
}

static void finish_buffer(void *subject) {
    hvi_buffer_fini(subject);
    free(subject);
}

static hv_status decode(void *subject, hv_error **error) {
    const hvi_buffer *bytes = subject;
    hv_dict *dict = untouched;
    hv_status status = hvi_hstore_decode(bytes->data, bytes->len, &dict, error);
    if (status == HV_OK)
        hv_dict_free(dict);
    else
        assert_ptr_equal(dict, untouched);
    return status;
}

static hv_status parse(void *subject, hv_error **error) {
    const hvi_buffer *text = subject;
    hv_dict *dict = untouched;
    hv_status status = hv_dict_parse(text->len > 0 ? text->data : "", text->len, &dict, error);
    if (status == HV_OK)
        hv_dict_free(dict);
    else
        assert_ptr_equal(dict, untouched);
    return status;
}

static void *prepare_sample(void) {
    return sample(sample_count);
}

static hv_status encode(void *subject, hv_error **error) {
    hvi_buffer out = HVI_BUFFER_EMPTY;
    hvi_hstore_encode(subject, &out);
    if (!hvi_buffer_ok(&out))
        return hvi_no_memory(error);
    hvi_buffer_fini(&out);
    return HV_OK;
}

static hv_status write_binary(void *subject, hv_error **error) {
    char *bytes = NULL;
    size_t len = 0;
    hv_status status = hv_dict_binary(subject, &bytes, &len, error);
    assert_int_equal(bytes != NULL, status == HV_OK);
    free(bytes);
    return status;
}

static hv_status print(void *subject, hv_error **error) {
    char *untouched_text = (char *) (uintptr_t) 0x5a5a, *text = untouched_text;
    hv_status status = hv_dict_text(subject, &text, error);
    if (status == HV_OK)
        free(text);
    else
        assert_ptr_equal(text, untouched_text);
    return status;
}

static void test_reading_hstore_reports_when_memory_runs_out(void **state) {
    (void) state;
    for (sample_count = 0; sample_count < 60; sample_count++) {
        /* A dict of any size is read into one block. */
        assert_int_equal(play(&(scene){prepare_binary, decode, check_nothing, finish_buffer}), 1);
        assert_true(play(&(scene){prepare_text, parse, check_nothing, finish_buffer}) >= 2);
    }
}

static void test_writing_hstore_reports_when_memory_runs_out(void **state) {
    (void) state;
    for (sample_count = 0; sample_count < 60; sample_count++) {
        assert_int_equal(play(&(scene){prepare_sample, encode, check_nothing, finish_dict}), 1);
        assert_int_equal(play(&(scene){prepare_sample, write_binary, check_nothing, finish_dict}),
                         1);
        assert_true(play(&(scene){prepare_sample, print, check_nothing, finish_dict}) >= 1);
    }
}

static void test_an_impossible_count_allocates_no_memory(void **state) {
    (void) state;
    hv_dict *dict;
    failing_memory_after(0);
    hv_status status = hvi_hstore_decode("\x7f\xff\xff\xff\0\0\0\0\0\0\0\0", 12, &dict, NULL);
    assert_false(failing_memory_stop());
    assert_int_equal(status, HV_CORRUPT);
}

/* ---- Errors ---------------------------------------------------------------------------------- */

static void test_an_error_without_memory_keeps_its_status(void **state) {
    (void) state;
    for (hv_status status = HV_INVALID; status <= HV_CONFLICT; status++) {
        int blocks = failing_memory_blocks();
        for (int successes = 0; successes < 2; successes++) {
            hv_error *error = NULL;
            failing_memory_after(successes);
            hv_status returned = hvi_fail(&error, status, "message");
            assert_true(failing_memory_stop());
            assert_int_equal(returned, status);
            assert_non_null(error);
            assert_int_equal(hv_error_status(error), status);
            assert_non_null(strstr(hv_error_message(error), "out of memory"));
            assert_int_equal(hv_error_outcome_unknown(error), status == HV_OUTCOME_UNKNOWN);
            assert_int_equal(hv_error_retriable(error),
                             status == HV_TIMEOUT || status == HV_UNAVAILABLE);
            assert_int_equal(hv_error_shard(error), -1);
            hv_error_free(error);
            assert_int_equal(failing_memory_blocks(), blocks);
        }
    }
}

static void test_an_error_without_memory_for_its_details_is_still_an_error(void **state) {
    (void) state;
    hv_error *error = NULL;
    hvi_fail(&error, HV_REFUSED, "message");
    hvi_error_detail(&error, "lost");
    failing_memory_after(0);
    hvi_error_detail(&error, "detail");
    hvi_error_hint(&error, "hint");
    hvi_error_where(&error, "server", 5);
    assert_true(failing_memory_stop());
    assert_null(hv_error_detail(error));
    assert_null(hv_error_hint(error));
    assert_null(hv_error_server(error));
    assert_int_equal(hv_error_shard(error), 5);
    assert_error(&error, HV_REFUSED, "message");
}

static void test_a_copy_without_memory_keeps_the_status(void **state) {
    (void) state;
    hv_error *error = NULL;
    hvi_fail(&error, HV_OUTCOME_UNKNOWN, "message");
    hvi_error_detail(&error, "detail");
    int blocks = failing_memory_blocks();
    for (int successes = 0; successes < 3; successes++) {
        failing_memory_after(successes);
        hv_error *copy = hvi_error_copy(error);
        assert_true(failing_memory_stop());
        assert_true(hv_error_outcome_unknown(copy));
        hv_error_free(copy);
        assert_int_equal(failing_memory_blocks(), blocks);
    }
    hv_error_free(error);
}

static void test_a_shard_map_needs_no_memory(void **state) {
    (void) state;
    static const char *const names[] = {"left"};
    hvi_shard_map map;
    failing_memory_after(0);
    hvi_shard_map_init(&map);
    hv_status good = hvi_shard_map_add(&map, "1-9", 0, names, NULL);
    hv_status bad = hvi_shard_map_add(&map, "x", 0, names, NULL);
    assert_false(failing_memory_stop());
    assert_int_equal(good, HV_OK);
    assert_int_equal(bad, HV_BAD_CONFIG);
}

/* Either the error or that there was no memory for it; with memory it is the error, whole. */
static void assert_fails_or_lacks_memory(hv_status (*operation)(void *subject, hv_error **error),
                                         void *subject) {
    int blocks_before = failing_memory_blocks();
    for (int successes = 0;; successes++) {
        hv_error *error = NULL;
        failing_memory_after(successes);
        hv_status status = operation(subject, &error);
        bool failed = failing_memory_stop();
        assert_true(status == HV_BAD_CONFIG || (failed && status == HV_NO_MEMORY));
        assert_int_equal(hv_error_status(error), status);
        if (!failed)
            assert_non_null(hv_error_hint(error));
        hv_error_free(error);
        assert_int_equal(failing_memory_blocks(), blocks_before);
        if (!failed)
            return;
        assert_true(successes < 100);
    }
}

static hv_status ask_for_a_shard(void *subject, hv_error **error) {
    int shard = 7;
    hv_status status = hv_shard_of(subject, "a", 1, &shard, error);
    assert_int_equal(shard, 7);
    return status;
}

static hv_status validate(void *subject, hv_error **error) {
    return hvi_options_validate(subject, error);
}

static void test_without_memory_for_its_shards_an_error_about_a_spread_is_still_one(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    hv_store *store = NULL;
    assert_int_equal(hv_options_set_server(options, "one", "shards", "0-8,9,11", NULL), HV_OK);
    assert_int_equal(hv_open(options, &store, NULL), HV_OK);
    assert_fails_or_lacks_memory(ask_for_a_shard, store);
    assert_int_equal(hv_close(store, 0, NULL), HV_OK);
    assert_int_equal(hv_options_set(options, "spread", "0-16", NULL), HV_OK);
    assert_fails_or_lacks_memory(validate, options);
    hv_options_free(options);
}

/* ---- Selections -------------------------------------------------------------------------------
 */

static hv_dict *dict_of(const char *name, const char *value) {
    hv_dict *dict = hv_dict_new();
    assert_int_equal(hv_dict_set(dict, name, value, NULL), HV_OK);
    return dict;
}

static void *prepare_selection(void) {
    hv_selection *s = hv_selection_new();
    hv_dict *has = dict_of("has", "1");
    static const char *const values[] = {"1", "2", NULL};
    assert_non_null(s);
    hv_selection_kind(s, 3, NULL);
    hv_selection_one_of(s, "one_of", HV_STRLEN, values, NULL, 3, NULL);
    hv_selection_exists(s, "exists", HV_STRLEN, NULL);
    hv_selection_lacks(s, "lacks", HV_STRLEN, NULL);
    hv_selection_has(s, has, NULL);
    hv_selection_skip(s, "left", NULL);
    hv_selection_only(s, (const char *[]){"only", NULL}, NULL);
    hv_dict_free(has);
    return s;
}

/* What it means, as text, to be freed. */
static char *meaning_of(const hv_selection *s) {
    hvi_buffer text = HVI_BUFFER_EMPTY;
    hvi_parameters parameters = {.log = true};
    hvi_query query = {0};
    hvi_where_sql(&text, s, (hvi_key_range){1, INT64_MAX}, "h");
    hvi_where_parameters(&parameters, s, (hvi_key_range){1, INT64_MAX});
    assert_true(hvi_parameters_bind(&parameters, &query));
    for (int i = 0; i < query.parameter_count; i++)
        hvi_buffer_append_format(&text, "; %s", query.log_values[i]);
    hvi_buffer_append_text(&text, "; ");
    hvi_hstore_print(s->skip, &text);
    hvi_hstore_print(s->only, &text);
    hvi_parameters_fini(&parameters);
    char *taken = hvi_buffer_take(&text);
    assert_non_null(taken);
    return taken;
}

static void check_selection(const void *subject) {
    hv_selection *fresh = prepare_selection();
    char *expected = meaning_of(fresh), *found = meaning_of(subject);
    assert_string_equal(found, expected);
    free(expected);
    free(found);
    hv_selection_free(fresh);
}

static void finish_selection(void *subject) {
    hv_selection_free(subject);
}

static hv_status add_a_kind(void *subject, hv_error **error) {
    return hv_selection_kind(subject, 4, error);
}

static hv_status add_a_choice(void *subject, hv_error **error) {
    static const char *const values[] = {"1", NULL, long_text};
    return hv_selection_one_of(subject, "another", HV_STRLEN, values, NULL, 3, error);
}

static hv_status narrow_a_choice(void *subject, hv_error **error) {
    return hv_selection_equal(subject, "one_of", HV_STRLEN, "2", 1, error);
}

static hv_status add_a_long_name(void *subject, hv_error **error) {
    return hv_selection_exists(subject, long_text, HV_STRLEN, error);
}

static hv_dict *more; /* attributes to have */

static hv_status have_more(void *subject, hv_error **error) {
    return hv_selection_has(subject, more, error);
}

static hv_status choose_others(void *subject, hv_error **error) {
    return hv_selection_only(subject, (const char *[]){long_text, NULL}, error);
}

static void test_a_selection_is_as_it_was_when_memory_runs_out(void **state) {
    (void) state;
    static hv_status (*const operations[])(void *, hv_error **) = {
        add_a_kind, add_a_choice, narrow_a_choice, add_a_long_name, have_more, choose_others,
    };
    memset(long_text, 'x', sizeof long_text - 1);
    more = dict_of("more", long_text);
    for (size_t i = 0; i < LENGTH(operations); i++)
        assert_true(play(&(scene){prepare_selection, operations[i], check_selection,
                                  finish_selection}) > 0);
    hv_dict_free(more);
}

static void test_no_selection_is_copied_when_memory_runs_out(void **state) {
    (void) state;
    hv_selection *s = prepare_selection();
    hv_selection *copy = NULL;
    int blocks = failing_memory_blocks();
    for (int successes = 0; copy == NULL; successes++) {
        assert_int_equal(failing_memory_blocks(), blocks);
        failing_memory_after(successes);
        copy = hvi_selection_copy(s);
        assert_true(failing_memory_stop() == (copy == NULL));
    }
    check_selection(copy);
    hv_selection_free(copy);
    hv_selection_free(s);
}

/* ---- Reading migrations ---------------------------------------------------------------------- */

static char directory[] = "/tmp/hv-memory-XXXXXX";

static void *prepare_nothing(void) {
    return NULL;
}

static hv_status load_migrations(void *subject, hv_error **error) {
    (void) subject;
    hv_migrations *migrations;
    hv_status status = hv_migrations_load(directory, &migrations, error);
    assert_true((status == HV_OK) == (migrations != NULL));
    hv_migrations_free(migrations);
    return status;
}

static void finish_nothing(void *subject) {
    (void) subject;
}

static void test_migrations_are_read_or_not(void **state) {
    (void) state;
    char path[sizeof directory + sizeof "/1_a.sql"];
    assert_non_null(mkdtemp(directory));
    for (int number = 1; number <= 2; number++) {
        snprintf(path, sizeof path, "%s/%d_a.sql", directory, number);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        assert_true(fputs("-- hv: no-transaction\na;b;c;d;e;f;g;h;i;j", file) >= 0);
        assert_int_equal(fclose(file), 0);
    }
    assert_true(play(&(scene){prepare_nothing, load_migrations, check_nothing, finish_nothing}) >
                10);
    for (int number = 1; number <= 2; number++) {
        snprintf(path, sizeof path, "%s/%d_a.sql", directory, number);
        assert_int_equal(remove(path), 0);
    }
    assert_int_equal(rmdir(directory), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_migrations_are_read_or_not),
        cmocka_unit_test(test_a_dict_is_as_it_was_when_memory_runs_out),
        cmocka_unit_test(test_changes_that_failed_leave_no_trace_in_later_ones),
        cmocka_unit_test(test_no_dict_is_made_when_memory_runs_out),
        cmocka_unit_test(test_a_dict_of_impossible_size_is_not_made),
        cmocka_unit_test(test_reading_hstore_reports_when_memory_runs_out),
        cmocka_unit_test(test_writing_hstore_reports_when_memory_runs_out),
        cmocka_unit_test(test_an_impossible_count_allocates_no_memory),
        cmocka_unit_test(test_an_error_without_memory_keeps_its_status),
        cmocka_unit_test(test_an_error_without_memory_for_its_details_is_still_an_error),
        cmocka_unit_test(test_a_copy_without_memory_keeps_the_status),
        cmocka_unit_test(test_a_selection_is_as_it_was_when_memory_runs_out),
        cmocka_unit_test(test_no_selection_is_copied_when_memory_runs_out),
        cmocka_unit_test(test_a_shard_map_needs_no_memory),
        cmocka_unit_test(test_without_memory_for_its_shards_an_error_about_a_spread_is_still_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
