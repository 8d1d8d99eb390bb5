/*
 * Tests of the reserved keys that are not used yet.
 */
#include "entity/key_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

#define SHARD 12
#define FRESH HVI_KEY_FRESH_US

static hvi_key_cache cache;

static int start(void **state) {
    (void) state;
    return hvi_key_cache_init(&cache, NULL) == HV_OK ? 0 : -1;
}

static int stop(void **state) {
    (void) state;
    hvi_key_cache_fini(&cache);
    return 0;
}

/* The key that is taken at this moment; 0 if there is none. */
static int64_t take(int shard, int64_t now) {
    int64_t key = 0;
    return hvi_key_cache_take(&cache, shard, now, &key) ? key : 0;
}

static void test_there_are_no_keys_at_first(void **state) {
    (void) state;
    assert_int_equal(take(SHARD, 0), 0);
    assert_int_equal(take(0, 0), 0);
    assert_int_equal(take(HV_SHARDS - 1, 0), 0);
}

static void test_a_key_is_given_once_and_to_its_shard(void **state) {
    (void) state;
    hvi_key_cache_give(&cache, SHARD, 7, 0);
    assert_int_equal(take(SHARD + 1, 0), 0);
    assert_int_equal(take(SHARD, 0), 7);
    assert_int_equal(take(SHARD, 0), 0);
}

static void test_the_last_key_is_taken_first(void **state) {
    (void) state;
    for (int64_t key = 1; key <= 3; key++)
        hvi_key_cache_give(&cache, SHARD, key, key);
    for (int64_t key = 3; key >= 1; key--)
        assert_int_equal(take(SHARD, 4), key);
}

static void test_a_key_is_good_while_it_is_fresh(void **state) {
    (void) state;
    hvi_key_cache_give(&cache, SHARD, 7, 100);
    hvi_key_cache_give(&cache, SHARD, 8, 101);
    assert_int_equal(take(SHARD, 100 + FRESH), 8);
    assert_int_equal(take(SHARD, 100 + FRESH), 0);
    assert_int_equal(take(SHARD, 100), 0); /* it was dropped */
}

static void test_a_fresh_key_is_found_below_an_old_one(void **state) {
    (void) state;
    /* The put that brought 8 took long. */
    hvi_key_cache_give(&cache, SHARD, 7, FRESH);
    hvi_key_cache_give(&cache, SHARD, 8, 0);
    assert_int_equal(take(SHARD, FRESH), 7);
    assert_int_equal(take(SHARD, FRESH), 0);
}

static void test_keys_beyond_the_room_are_forgotten(void **state) {
    (void) state;
    for (int64_t key = 1; key <= 3000; key++)
        hvi_key_cache_give(&cache, SHARD, key, 0);
    int count = 0;
    int64_t last = INT64_MAX, key;
    for (; (key = take(SHARD, 1)) != 0; count++) {
        assert_true(key < last);
        last = key;
    }
    assert_in_range(count, 8, 2999);
    hvi_key_cache_give(&cache, SHARD, 3001, 0);
    assert_int_equal(take(SHARD, 1), 3001);
}

#define THREADS 8
#define ROUNDS  20000

static atomic_uchar taken[THREADS * ROUNDS + 1]; /* how often, by key */

static void *give_and_take(void *context) {
    const int *number = context;
    for (int i = 1; i <= ROUNDS; i++) {
        hvi_key_cache_give(&cache, SHARD, *number * ROUNDS + i, 0);
        int64_t key = take(SHARD, 1);
        if (key != 0)
            atomic_fetch_add(&taken[key], 1);
    }
    return NULL;
}

static void test_no_two_threads_take_the_same_key(void **state) {
    (void) state;
    pthread_t threads[THREADS];
    int numbers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, give_and_take, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    int count = 0;
    for (size_t key = 0; key < LENGTH(taken); key++) {
        assert_in_range(taken[key], 0, 1);
        count += taken[key];
    }
    /* Each thread gives before it takes: it finds one, if only its own. */
    assert_int_equal(count, THREADS * ROUNDS);
}

static void test_a_forked_child_has_no_keys_of_its_parent(void **state) {
    (void) state;
    hvi_key_cache_give(&cache, SHARD, 7, 0);
    pid_t child = fork();
    if (child == 0) {
        bool right = take(SHARD, 1) == 0;
        hvi_key_cache_give(&cache, SHARD, 8, 0);
        right = right && take(SHARD, 1) == 8 && take(SHARD, 1) == 0;
        _exit(right ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(take(SHARD, 1), 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_there_are_no_keys_at_first, start, stop),
        cmocka_unit_test_setup_teardown(test_a_key_is_given_once_and_to_its_shard, start, stop),
        cmocka_unit_test_setup_teardown(test_the_last_key_is_taken_first, start, stop),
        cmocka_unit_test_setup_teardown(test_a_key_is_good_while_it_is_fresh, start, stop),
        cmocka_unit_test_setup_teardown(test_a_fresh_key_is_found_below_an_old_one, start, stop),
        cmocka_unit_test_setup_teardown(test_keys_beyond_the_room_are_forgotten, start, stop),
        cmocka_unit_test_setup_teardown(test_no_two_threads_take_the_same_key, start, stop),
        cmocka_unit_test_setup_teardown(test_a_forked_child_has_no_keys_of_its_parent, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
