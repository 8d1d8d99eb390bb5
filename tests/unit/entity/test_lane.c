/*
 * Tests of the lanes: each way in which a batch's state changes. Callers are threads; in the place
 * of a session there is a script, which keeps a batch until the test lets it go and then answers
 * each operation with twice its key. That somebody waits is seen in the lanes, under their lock.
 */
#include "entity/lane.h"
#include "unit.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define SOON_MS   200  /* a deadline that is meant to pass … */
#define LATER_MS  3000 /* … when something else has happened before */
#define AMPLE_MS  60000
#define CALLERS   40
#define LARGE_LEN HVI_LANE_MAX_BODY

typedef struct caller {
    pthread_t thread;
    hvi_lanes *lanes;
    hvi_lane_request request;
    atomic_bool back;
    hvi_lane_outcome outcome;
    hvi_lane_answer answer;
    hv_error *error;
} caller;

/* The script: batches are kept while `kept`, and counted when they begin. */
static atomic_bool kept;
static atomic_int begun;
static atomic_int last_count;

static void run_script(hvi_batch *batch, hvi_pool *pool, int64_t wait_ms) {
    (void) pool;
    (void) wait_ms;
    atomic_store(&last_count, (int) batch->count);
    atomic_fetch_add(&begun, 1);
    while (atomic_load(&kept))
        sched_yield();
    for (size_t i = 0; i < batch->count; i++) {
        hvi_lane_operation *operation = batch->operations[i];
        operation->answer.key = 2 * operation->request.item.key;
        if (operation->request.item.key == 7)
            operation->answer.status = hvi_fail(&operation->error, HV_REFUSED, "no sevens");
    }
}

typedef struct fixture {
    hvi_pool pool; /* never opened: only its name and size are looked at */
    hvi_lanes lanes;
    caller callers[CALLERS];
    int count;
} fixture;

static fixture *make(int lanes, int connections) {
    fixture *f = calloc(1, sizeof *f);
    f->pool.config.max = connections;
    f->pool.config.session.server = "one";
    assert_int_equal(hvi_lanes_init(&f->lanes, &f->pool, lanes, AMPLE_MS, NULL), HV_OK);
    f->lanes.run = run_script;
    atomic_store(&kept, false);
    atomic_store(&begun, 0);
    return f;
}

static void *call(void *argument) {
    caller *self = argument;
    self->outcome = hvi_lane_run(self->lanes, &self->request, &self->answer, &self->error);
    atomic_store(&self->back, true);
    return NULL;
}

static size_t waiting(fixture *f) {
    size_t count = 0;
    pthread_mutex_lock(&f->lanes.lock);
    hvi_list_foreach (node, &f->lanes.waiting)
        count += hvi_list_entry(node, hvi_batch, link)->count;
    pthread_mutex_unlock(&f->lanes.lock);
    return count;
}

static void await_waiting(fixture *f, size_t count) {
    while (waiting(f) != count)
        sched_yield();
}

static void await_begun(int count) {
    while (atomic_load(&begun) != count)
        sched_yield();
}

static caller *begin_with(fixture *f, hvi_verb verb, int64_t key, size_t body_len, int64_t ms) {
    static char body[LARGE_LEN + 1];
    caller *made = &f->callers[f->count++];
    made->lanes = &f->lanes;
    made->request = (hvi_lane_request){
        .item = {.verb = verb, .shard = 3, .key = key, .body = body, .body_len = body_len},
        .deadline = hvi_deadline_after(ms)};
    pthread_create(&made->thread, NULL, call, made);
    return made;
}

/* Is the operation with this caller's key in a batch that waits? */
static bool is_waiting(fixture *f, const caller *who) {
    bool found = false;
    pthread_mutex_lock(&f->lanes.lock);
    hvi_list_foreach (node, &f->lanes.waiting) {
        const hvi_batch *batch = hvi_list_entry(node, hvi_batch, link);
        for (size_t i = 0; i < batch->count; i++)
            found = found || batch->operations[i]->request.item.key == who->request.item.key;
    }
    pthread_mutex_unlock(&f->lanes.lock);
    return found;
}

/* Begin an operation that finds no lane free, and wait until it waits. On a busy machine it may
 * have given up before we see that. */
static caller *queue(fixture *f, hvi_verb verb, int64_t key, int64_t ms) {
    caller *made = begin_with(f, verb, key, 0, ms);
    while (!is_waiting(f, made) && !atomic_load(&made->back))
        sched_yield();
    return made;
}

static void join_caller(caller *of) {
    assert_int_equal(pthread_join(of->thread, NULL), 0);
}

/* It ran in a batch, and got the script's answer to it. */
static void assert_done(caller *of) {
    join_caller(of);
    assert_int_equal(of->outcome, HVI_LANE_DONE);
    assert_int_equal(of->answer.status, HV_OK);
    assert_int_equal(of->answer.key, 2 * of->request.item.key);
    assert_null(of->error);
    hvi_lane_answer_fini(&of->answer);
}

static void assert_failed(caller *of, hv_status status, const char *message) {
    join_caller(of);
    assert_int_equal(of->outcome, HVI_LANE_DONE);
    assert_int_equal(of->answer.status, status);
    assert_error(&of->error, status, message);
    hvi_lane_answer_fini(&of->answer);
}

/* The test's own thread takes a free lane. */
static void take_lane(fixture *f) {
    hvi_lane_request request = {.deadline = hvi_deadline_after(AMPLE_MS)};
    hvi_lane_answer answer;
    assert_int_equal(hvi_lane_run(&f->lanes, &request, &answer, NULL), HVI_LANE_ALONE);
}

static void leave_lane_taken(fixture *f, int64_t since) {
    hvi_lane_answer answer = {.since = since};
    hvi_lane_leave(&f->lanes, &answer);
}

static void leave_lane(fixture *f) {
    leave_lane_taken(f, hvi_clock_us());
}

static void finish(fixture *f) {
    assert_int_equal(f->lanes.busy, 0);
    assert_true(hvi_list_empty(&f->lanes.waiting));
    hvi_lanes_fini(&f->lanes);
    free(f);
}

static void who_finds_a_lane_free_runs_alone(void **state) {
    (void) state;
    fixture *f = make(2, 10);
    take_lane(f);
    take_lane(f);
    assert_int_equal(f->lanes.busy, 2);
    leave_lane(f);
    leave_lane(f);
    assert_int_equal(atomic_load(&begun), 0);
    finish(f);
}

static void there_are_no_more_lanes_than_connections(void **state) {
    (void) state;
    fixture *f = make(5, 1);
    take_lane(f);
    caller *one = queue(f, HVI_GET, 1, AMPLE_MS);
    leave_lane(f);
    join_caller(one);
    assert_int_equal(one->outcome, HVI_LANE_ALONE);
    leave_lane(f);
    finish(f);
}

static void what_is_large_or_turned_off_has_no_lane(void **state) {
    (void) state;
    fixture *f = make(0, 1);
    caller *one = begin_with(f, HVI_GET, 1, 0, AMPLE_MS);
    join_caller(one);
    assert_int_equal(one->outcome, HVI_LANE_NONE);
    finish(f);
    f = make(1, 1);
    one = begin_with(f, HVI_PUT, 0, LARGE_LEN + 1, AMPLE_MS);
    join_caller(one);
    assert_int_equal(one->outcome, HVI_LANE_NONE);
    finish(f);
}

static void those_who_wait_share_a_batch_and_each_has_his_own_answer(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    caller *callers[10];
    take_lane(f);
    for (int i = 0; i < 10; i++)
        callers[i] = queue(f, i % 2 == 0 ? HVI_PUT : HVI_GET, i, AMPLE_MS);
    leave_lane(f);
    for (int i = 0; i < 10; i++)
        if (i == 7)
            assert_failed(callers[i], HV_REFUSED, "no sevens");
        else
            assert_done(callers[i]);
    assert_int_equal(atomic_load(&begun), 1);
    finish(f);
}

static void who_has_waited_alone_runs_alone(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    take_lane(f);
    caller *one = queue(f, HVI_PUT, 1, AMPLE_MS);
    leave_lane(f);
    join_caller(one);
    assert_int_equal(one->outcome, HVI_LANE_ALONE);
    leave_lane(f);
    assert_int_equal(atomic_load(&begun), 0);
    finish(f);
}

/* 17 bodies of 64 kB are more than a batch takes. */
static void what_has_no_room_waits_in_the_next_batch(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    caller *callers[20];
    take_lane(f);
    for (int i = 0; i < 20; i++) {
        callers[i] = begin_with(f, HVI_PUT, 10 + i, LARGE_LEN, AMPLE_MS);
        await_waiting(f, (size_t) i + 1);
    }
    atomic_store(&kept, true);
    leave_lane(f);
    await_begun(1);
    assert_int_equal(atomic_load(&last_count), 16);
    assert_int_equal(waiting(f), 4);
    for (int i = 16; i < 20; i++) /* the oldest come first */
        assert_false(atomic_load(&callers[i]->back));
    atomic_store(&kept, false);
    for (int i = 0; i < 20; i++)
        assert_done(callers[i]);
    assert_int_equal(atomic_load(&begun), 2);
    finish(f);
}

static void who_gives_up_waiting_has_done_nothing_and_others_lead(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    take_lane(f);
    caller *leader = queue(f, HVI_PUT, 1, SOON_MS);
    caller *follower = queue(f, HVI_PUT, 2, SOON_MS);
    caller *callers[3];
    for (int i = 0; i < 3; i++)
        callers[i] = queue(f, HVI_PUT, 3 + i, AMPLE_MS);
    assert_failed(leader, HV_TIMEOUT, "no lane to server \"one\" came free in time");
    assert_failed(follower, HV_TIMEOUT, "no lane to server \"one\" came free in time");
    assert_int_equal(waiting(f), 3);
    leave_lane(f);
    for (int i = 0; i < 3; i++)
        assert_done(callers[i]);
    assert_int_equal(atomic_load(&last_count), 3);
    finish(f);
}

static void the_last_to_give_up_takes_the_batch_along(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    take_lane(f);
    caller *one = queue(f, HVI_PUT, 1, SOON_MS);
    assert_failed(one, HV_TIMEOUT, "no lane to server \"one\" came free in time");
    assert_true(hvi_list_empty(&f->lanes.waiting));
    leave_lane(f);
    finish(f);
}

static void the_wait_for_a_lane_has_its_own_end(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    f->lanes.wait_ms = SOON_MS;
    take_lane(f);
    caller *one = queue(f, HVI_PUT, 1, AMPLE_MS);
    assert_failed(one, HV_TIMEOUT, "no lane to server \"one\" came free in time");
    leave_lane(f);
    finish(f);
}

static void whose_deadline_passes_in_a_running_batch_leaves_it(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    take_lane(f);
    caller *leader = queue(f, HVI_PUT, 1, AMPLE_MS);
    caller *put = queue(f, HVI_PUT, 2, LATER_MS);
    caller *get = queue(f, HVI_GET, 3, LATER_MS);
    atomic_store(&kept, true);
    leave_lane(f);
    await_begun(1);
    assert_failed(put, HV_OUTCOME_UNKNOWN, "no answer from server \"one\" to a write in time");
    assert_failed(get, HV_TIMEOUT, "no answer from server \"one\" in time");
    assert_false(atomic_load(&leader->back));
    atomic_store(&kept, false);
    assert_done(leader);
    finish(f);
}

static void who_has_less_time_than_others_does_not_lead_them(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    take_lane(f);
    caller *hasty = queue(f, HVI_GET, 1, LATER_MS);
    caller *others[2] = {queue(f, HVI_PUT, 2, AMPLE_MS), queue(f, HVI_PUT, 3, AMPLE_MS)};
    atomic_store(&kept, true);
    leave_lane(f);
    await_begun(1);
    assert_failed(hasty, HV_TIMEOUT, "no answer from server \"one\" in time");
    atomic_store(&kept, false);
    assert_done(others[0]);
    assert_done(others[1]);
    finish(f);
}

static void a_batch_that_has_waited_long_takes_another_connection(void **state) {
    (void) state;
    fixture *f = make(1, 2);
    int64_t begin = hvi_clock_us();
    take_lane(f);
    caller *one = begin_with(f, HVI_PUT, 1, 0, AMPLE_MS);
    join_caller(one); /* though nobody has left the lane */
    assert_int_equal(one->outcome, HVI_LANE_ALONE);
    assert_int_equal(f->lanes.busy, 2);
    caller *two = queue(f, HVI_PUT, 2, 5 * SOON_MS); /* there is no third connection */
    assert_failed(two, HV_TIMEOUT, "no lane to server \"one\" came free in time");
    /* The extra lane is passed on until the one that was held up comes back. */
    caller *three = begin_with(f, HVI_PUT, 3, 0, AMPLE_MS);
    await_waiting(f, 1);
    leave_lane(f);
    join_caller(three);
    assert_int_equal(three->outcome, HVI_LANE_ALONE);
    f->lanes.most = 1; /* the next one is not to take another by himself */
    caller *four = begin_with(f, HVI_PUT, 4, 0, AMPLE_MS);
    await_waiting(f, 1);
    leave_lane_taken(f, begin);
    assert_int_equal(f->lanes.busy, 1);
    assert_false(atomic_load(&four->back));
    leave_lane(f);
    join_caller(four);
    leave_lane(f);
    finish(f);
}

static void after_a_batch_who_comes_alone_runs_alone(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    take_lane(f);
    caller *callers[2] = {queue(f, HVI_PUT, 1, AMPLE_MS), queue(f, HVI_PUT, 2, AMPLE_MS)};
    leave_lane(f);
    assert_done(callers[0]);
    assert_done(callers[1]);
    take_lane(f);
    leave_lane(f);
    finish(f);
}

static void who_waits_is_sent_away_when_the_lanes_are_closed(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    caller *callers[5];
    take_lane(f);
    for (int i = 0; i < 5; i++)
        callers[i] = queue(f, HVI_PUT, i, AMPLE_MS);
    hvi_lanes_close(&f->lanes);
    for (int i = 0; i < 5; i++)
        assert_failed(callers[i], HV_CLOSED, "the store is closed");
    take_lane(f); /* the pool says that it is closed */
    leave_lane(f);
    leave_lane(f);
    finish(f);
}

static void a_child_finds_all_lanes_free(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    take_lane(f);
    caller *one = queue(f, HVI_PUT, 1, AMPLE_MS);
    pid_t child = fork();
    if (child == 0)
        _exit(f->lanes.busy == 0 && hvi_list_empty(&f->lanes.waiting) ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    leave_lane(f);
    join_caller(one);
    assert_int_equal(one->outcome, HVI_LANE_ALONE);
    leave_lane(f);
    finish(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_finds_a_lane_free_runs_alone),
        cmocka_unit_test(there_are_no_more_lanes_than_connections),
        cmocka_unit_test(what_is_large_or_turned_off_has_no_lane),
        cmocka_unit_test(those_who_wait_share_a_batch_and_each_has_his_own_answer),
        cmocka_unit_test(who_has_waited_alone_runs_alone),
        cmocka_unit_test(what_has_no_room_waits_in_the_next_batch),
        cmocka_unit_test(who_gives_up_waiting_has_done_nothing_and_others_lead),
        cmocka_unit_test(the_last_to_give_up_takes_the_batch_along),
        cmocka_unit_test(the_wait_for_a_lane_has_its_own_end),
        cmocka_unit_test(whose_deadline_passes_in_a_running_batch_leaves_it),
        cmocka_unit_test(who_has_less_time_than_others_does_not_lead_them),
        cmocka_unit_test(a_batch_that_has_waited_long_takes_another_connection),
        cmocka_unit_test(after_a_batch_who_comes_alone_runs_alone),
        cmocka_unit_test(who_waits_is_sent_away_when_the_lanes_are_closed),
        cmocka_unit_test(a_child_finds_all_lanes_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
