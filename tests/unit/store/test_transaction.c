/*
 * Tests of what transactions refuse without asking a server, and of operations as parts of one:
 * none is repeated.
 */
#include "base/error.h"
#include "entity/change.h"
#include "entity/put.h"
#include "store/store.h"
#include "unit.h"

#define KEY (1 << 23 | 3 << 10) /* of shard 3 */

static hv_store *store;

/* A store whose server cannot be reached. */
static int start(void **state) {
    (void) state;
    hv_options *options = hv_options_new();
    bool ok = hv_options_set_server(options, "nowhere", "host", "/nonexistent", NULL) == HV_OK &&
              hv_options_set_server(options, "nowhere", "shards", "0-9", NULL) == HV_OK &&
              hv_open(options, &store, NULL) == HV_OK;
    hv_options_free(options);
    return ok ? 0 : -1;
}

static int stop(void **state) {
    (void) state;
    return hv_close(store, 0, NULL) == HV_OK ? 0 : -1;
}

static hv_status count_call(hv_tx *tx, void *context, hv_error **error) {
    (void) tx;
    (void) error;
    ++*(int *) context;
    return HV_OK;
}

static hv_status run(int shard, int isolation, int64_t timeout, hv_error **error) {
    int calls = 0;
    hv_tx *tx = NULL;
    hv_status status =
        hv_transaction(store, shard, (hv_isolation) isolation, timeout, count_call, &calls, error);
    assert_int_equal(calls, 0);
    assert_int_equal(hv_begin(store, shard, (hv_isolation) isolation, timeout, &tx, NULL), status);
    assert_null(tx);
    return status;
}

static void test_what_cannot_begin_is_refused_without_a_call(void **state) {
    (void) state;
    hv_error *error = NULL;
    assert_int_equal(run(9, 0, 0, NULL), HV_NO_SERVER);
    assert_int_equal(run(-1, 0, 0, NULL), HV_INVALID);
    assert_int_equal(run(3, 0, -1, NULL), HV_INVALID);
    assert_int_equal(run(3, 3, 0, &error), HV_INVALID);
    assert_error(&error, HV_INVALID, "3 is not an isolation level");
    assert_int_equal(run(3, -1, 0, NULL), HV_INVALID);
    assert_int_equal(hv_pool_stat(store, 0, HV_STAT_FAILED), 0);
    assert_int_equal(run(3, 0, 0, NULL), HV_UNAVAILABLE);
    assert_true(hv_pool_stat(store, 0, HV_STAT_FAILED) > 0);
    hv_rollback(NULL);
}

/* ---- an operation in a transaction ---- */

static const hv_change merge = {
    .type = HV_MERGE, .key = KEY, .remove = (const char *const[]){"a", NULL}};

static void prepare(hvi_operation *op, hvi_fate fate, hv_error *cause) {
    op->in_transaction = true;
    op->deadline = INT64_MAX;
    hvi_operation_prepare(op);
    op->item.fate = fate;
    op->item.error = cause;
}

/* It has this fate, with *cause, which is freed: it is done, and has failed like this. */
static void assert_fails(hvi_operation *op, hvi_fate fate, hv_error **cause, hv_status status) {
    prepare(op, fate, *cause);
    assert_int_equal(hvi_operation_take(op), HVI_DONE);
    assert_int_equal(op->status, status);
    assert_int_equal(hv_error_status(op->error), status);
    assert_string_equal(hv_error_message(op->error), hv_error_message(*cause));
    hvi_operation_fini(op);
    hv_error_free(*cause);
    *cause = NULL;
}

static hv_error *refusal(const char *sqlstate, hvi_refusal kind, const char *constraint) {
    hv_error *error = NULL;
    hvi_fail(&error, HV_REFUSED, "refused");
    hvi_error_sqlstate(&error, sqlstate);
    hvi_error_refusal(&error, kind);
    hvi_error_constraint(&error, constraint);
    return error;
}

static void test_what_is_repeated_alone_is_not_repeated_in_a_transaction(void **state) {
    (void) state;
    static const struct {
        const char *sqlstate;
        hvi_refusal kind;
        const char *constraint;
    } refusals[] = {
        {"40001", HVI_REFUSAL_OTHER, NULL},    {"40P01", HVI_REFUSAL_OTHER, NULL},
        {"57P01", HVI_REFUSAL_OTHER, NULL},    {"XX000", HVI_REFUSAL_TYPES, NULL},
        {"0A000", HVI_REFUSAL_RESULT, NULL},   {"26000", HVI_REFUSAL_STATEMENTS, NULL},
        {"23505", HVI_REFUSAL_OTHER, "other"},
    };
    hvi_operation op;
    for (size_t i = 0; i < LENGTH(refusals); i++)
        for (int persists = 0; persists < 2; persists++) {
            hv_error *cause =
                refusal(refusals[i].sqlstate, refusals[i].kind, refusals[i].constraint);
            hv_error *copy = hvi_error_copy(cause);
            assert_int_equal(hvi_change_init(&op, &store->router, &merge, persists, NULL), HV_OK);
            assert_fails(&op, HVI_FATE_REFUSED, &cause, HV_REFUSED);
            assert_int_equal(hvi_put_init(&op, &store->router, NULL, 3, 1, NULL, NULL), HV_OK);
            assert_fails(&op, HVI_FATE_REFUSED, &copy, HV_REFUSED);
        }
    hv_error *taken = refusal("23505", HVI_REFUSAL_OTHER, "entities_pkey");
    assert_int_equal(hvi_put_init(&op, &store->router, NULL, 3, 1, NULL, NULL), HV_OK);
    assert_fails(&op, HVI_FATE_REFUSED, &taken, HV_REFUSED);
}

static void test_after_a_lost_connection_nothing_is_unknown(void **state) {
    (void) state;
    hvi_operation op;
    hv_status lost[] = {HV_UNAVAILABLE, HV_TIMEOUT, HV_NO_MEMORY, HV_CORRUPT};
    for (size_t i = 0; i < LENGTH(lost); i++) {
        hv_error *cause = NULL;
        hvi_fail(&cause, lost[i], "lost");
        assert_int_equal(hvi_change_init(&op, &store->router, &merge, true, NULL), HV_OK);
        assert_fails(&op, HVI_FATE_LOST, &cause, lost[i]);
        assert_false(op.unknown);
    }
}

static void test_a_put_under_a_key_that_is_taken_compares_and_then_finds_out(void **state) {
    (void) state;
    hvi_operation op;
    assert_int_equal(hvi_put_key_init(&op, &store->router, KEY, 1, NULL, NULL), HV_OK);
    prepare(&op, HVI_FATE_ANSWERED, NULL); /* not stored */
    assert_int_equal(hvi_operation_take(&op), HVI_AGAIN);
    assert_ptr_equal(op.item.verb, &hvi_get);
    prepare(&op, HVI_FATE_ANSWERED, NULL); /* nothing found */
    assert_int_equal(hvi_operation_take(&op), HVI_AGAIN);
    assert_ptr_equal(op.item.verb, &hvi_put_key);
    assert_true(op.apart);
    hv_error *cause = refusal("23505", HVI_REFUSAL_OTHER, "entities_pkey");
    prepare(&op, HVI_FATE_REFUSED, cause); /* and yet it is taken */
    assert_int_equal(hvi_operation_take(&op), HVI_DONE);
    assert_int_equal(op.status, HV_CONFLICT);
    assert_contains(hv_error_message(op.error), "an entity that cannot be read");
    hvi_operation_fini(&op);
    hv_error_free(cause);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_cannot_begin_is_refused_without_a_call),
        cmocka_unit_test(test_what_is_repeated_alone_is_not_repeated_in_a_transaction),
        cmocka_unit_test(test_after_a_lost_connection_nothing_is_unknown),
        cmocka_unit_test(test_a_put_under_a_key_that_is_taken_compares_and_then_finds_out),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
