/*
 * Tests of the lanes: each way in which a batch's state changes. Callers are threads; instead of a
 * session there is a script, which keeps a batch until the test lets it go and then answers each
 * operation with twice its key. The tests see in the lanes, under their lock, that a caller waits.
 *
 * A caller that runs alone is in the script, too, and leaves its lane with it; so the lanes that a
 * test takes are those of callers that it keeps there.
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
    hvi_operation operation;
    int64_t given; /* the operation's key */
    hvi_next next;
    atomic_bool alone; /* it is in the script alone, until it is … */
    atomic_bool freed;
    atomic_bool back;
} caller;

/* The script: batches that are shared are kept while `kept`, and counted when they begin. */
static atomic_bool kept;
static atomic_int begun;
static atomic_int last_count;
static _Thread_local caller *self;

static void run_script(hvi_lanes *lanes, hvi_batch *batch, bool apart, int64_t deadline) {
    (void) lanes;
    (void) deadline;
    assert_false(apart);
    if (batch->count == 1) {
        atomic_store(&self->alone, true);
        while (!atomic_load(&self->freed))
            sched_yield();
    } else {
        atomic_store(&last_count, (int) batch->count);
        atomic_fetch_add(&begun, 1);
        while (atomic_load(&kept))
            sched_yield();
    }
    for (size_t i = 0; i < batch->count; i++) {
        hvi_item *item = batch->items[i];
        item->fate = HVI_FATE_ANSWERED;
        item->new_key = 2 * item->key;
        if (item->key == 7) {
            item->fate = HVI_FATE_REFUSED;
            if (batch->error == NULL)
                hvi_fail(&batch->error, HV_REFUSED, "no sevens");
            item->error = batch->error;
        }
    }
}

/* A verb that keeps what it was answered. */
static hvi_next keep_answer(hvi_operation *operation) {
    operation->key = operation->item.new_key;
    return hvi_operation_done(operation, HV_OK);
}

static const hvi_verb reading = {.answered = keep_answer, .refused = hvi_operation_fail};
static const hvi_verb writing = {
    .is_write = true, .answered = keep_answer, .refused = hvi_operation_fail};

typedef struct fixture {
    hvi_server server; /* its pool was never opened: only its name and size are looked at */
    hvi_lanes lanes;
    caller callers[CALLERS];
    int count;
    caller *taken[CALLERS]; /* callers that are kept alone in a lane, the oldest first */
    int first_taken, taken_count;
} fixture;

static fixture *make(int lanes, int connections) {
    fixture *f = calloc(1, sizeof *f);
    f->server.name = "one";
    f->server.pool.config.max = connections;
    f->server.pool.config.session.server = "one";
    assert_int_equal(hvi_lanes_init(&f->lanes, &f->server.pool, lanes, AMPLE_MS, NULL), HV_OK);
    f->lanes.run = run_script;
    atomic_store(&kept, false);
    atomic_store(&begun, 0);
    return f;
}

static void *call(void *argument) {
    self = argument;
    self->next = hvi_lanes_send(self->lanes, &self->operation);
    atomic_store(&self->back, true);
    return NULL;
}

static size_t waiting(fixture *f) {
    size_t count = 0;
    pthread_mutex_lock(&f->lanes.lock);
    hvi_list_foreach (node, &f->lanes.waiting)
        count += hvi_list_entry(node, hvi_shared, link)->count;
    pthread_mutex_unlock(&f->lanes.lock);
    return count;
}

static int busy(fixture *f) {
    pthread_mutex_lock(&f->lanes.lock);
    int lanes = f->lanes.busy;
    pthread_mutex_unlock(&f->lanes.lock);
    return lanes;
}

static void await_waiting(fixture *f, size_t count) {
    while (waiting(f) != count)
        sched_yield();
}

static void await_begun(int count) {
    while (atomic_load(&begun) != count)
        sched_yield();
}

static caller *begin_with(fixture *f, const hvi_verb *verb, int64_t key, size_t body_len,
                          int64_t ms) {
    static char body[LARGE_LEN + 1];
    caller *made = &f->callers[f->count++];
    made->lanes = &f->lanes;
    made->given = key;
    made->operation = (hvi_operation){
        .verb = verb,
        .target = {.server = &f->server, .shard = 3},
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
        const hvi_shared *shared = hvi_list_entry(node, hvi_shared, link);
        for (size_t i = 0; i < shared->count; i++)
            found = found || shared->items[i]->key == who->given;
    }
    pthread_mutex_unlock(&f->lanes.lock);
    return found;
}

/* Begin an operation that finds no free lane, and return when it is in a waiting batch. On a busy
 * machine it may have given up before we see that. */
static caller *queue(fixture *f, const hvi_verb *verb, int64_t key, int64_t ms) {
    caller *made = begin_with(f, verb, key, 0, ms);
    while (!is_waiting(f, made) && !atomic_load(&made->back))
        sched_yield();
    return made;
}

static void join_caller(caller *of) {
    assert_int_equal(pthread_join(of->thread, NULL), 0);
    assert_int_equal(of->next, HVI_DONE);
}

/* It got the script's answer to its operation. */
static void assert_done(caller *of) {
    join_caller(of);
    assert_int_equal(of->operation.status, HV_OK);
    assert_int_equal(of->operation.key, 2 * of->given);
    assert_null(of->operation.error);
}

static void assert_failed(caller *of, hv_status status, const char *message) {
    join_caller(of);
    assert_int_equal(of->operation.status, status);
    assert_error(&of->operation.error, status, message);
}

static void await_alone(const caller *of) {
    while (!atomic_load(&of->alone))
        sched_yield();
}

/* It runs alone; let it go, and leave its lane. */
static void assert_runs_alone(caller *of) {
    await_alone(of);
    atomic_store(&of->freed, true);
    assert_done(of);
}

/* A caller takes a free lane and stays in it. */
static void take_lane(fixture *f) {
    caller *made = begin_with(f, &writing, 1000 + f->count, 0, AMPLE_MS);
    await_alone(made);
    f->taken[f->taken_count++] = made;
}

/* The caller that has been in a lane longest leaves it. */
static void leave_lane(fixture *f) {
    assert_runs_alone(f->taken[f->first_taken++]);
}

static void finish(fixture *f) {
    assert_int_equal(f->first_taken, f->taken_count);
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
    assert_int_equal(busy(f), 2);
    leave_lane(f);
    leave_lane(f);
    assert_int_equal(atomic_load(&begun), 0);
    finish(f);
}

static void there_are_no_more_lanes_than_connections(void **state) {
    (void) state;
    fixture *f = make(5, 1);
    take_lane(f);
    caller *one = queue(f, &reading, 1, AMPLE_MS);
    leave_lane(f);
    assert_runs_alone(one);
    finish(f);
}

static void what_is_large_or_turned_off_has_no_lane(void **state) {
    (void) state;
    fixture *f = make(0, 1);
    caller *one = begin_with(f, &reading, 1, 0, AMPLE_MS);
    await_alone(one);
    assert_int_equal(busy(f), 0);
    assert_runs_alone(one);
    finish(f);
    f = make(1, 1);
    one = begin_with(f, &writing, 1, LARGE_LEN + 1, AMPLE_MS);
    await_alone(one);
    assert_int_equal(busy(f), 0);
    assert_runs_alone(one);
    finish(f);
}

static void those_who_wait_share_a_batch_and_each_has_his_own_answer(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    caller *callers[10];
    take_lane(f);
    for (int i = 0; i < 10; i++)
        callers[i] = queue(f, i % 2 == 0 ? &writing : &reading, i, AMPLE_MS);
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
    caller *one = queue(f, &writing, 1, AMPLE_MS);
    leave_lane(f);
    assert_runs_alone(one);
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
        callers[i] = begin_with(f, &writing, 10 + i, LARGE_LEN, AMPLE_MS);
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
    caller *leader = queue(f, &writing, 1, SOON_MS);
    caller *follower = queue(f, &writing, 2, SOON_MS);
    caller *callers[3];
    for (int i = 0; i < 3; i++)
        callers[i] = queue(f, &writing, 3 + i, AMPLE_MS);
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
    caller *one = queue(f, &writing, 1, SOON_MS);
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
    caller *one = queue(f, &writing, 1, AMPLE_MS);
    assert_failed(one, HV_TIMEOUT, "no lane to server \"one\" came free in time");
    leave_lane(f);
    finish(f);
}

static void whose_deadline_passes_in_a_running_batch_leaves_it(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    take_lane(f);
    caller *leader = queue(f, &writing, 1, AMPLE_MS);
    caller *put = queue(f, &writing, 2, LATER_MS);
    caller *get = queue(f, &reading, 3, LATER_MS);
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
    caller *hasty = queue(f, &reading, 1, LATER_MS);
    caller *others[2] = {queue(f, &writing, 2, AMPLE_MS), queue(f, &writing, 3, AMPLE_MS)};
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
    take_lane(f);
    caller *one = begin_with(f, &writing, 1, 0, AMPLE_MS);
    await_alone(one); /* though no caller has left the lane */
    assert_int_equal(busy(f), 2);
    caller *two = queue(f, &writing, 2, 5 * SOON_MS); /* there is no third connection */
    assert_failed(two, HV_TIMEOUT, "no lane to server \"one\" came free in time");
    /* The extra lane is passed on until the one that was held up comes back. */
    caller *three = begin_with(f, &writing, 3, 0, AMPLE_MS);
    await_waiting(f, 1);
    pthread_mutex_lock(&f->lanes.lock);
    f->lanes.most = 1; /* no batch is to take another by itself */
    pthread_mutex_unlock(&f->lanes.lock);
    caller *four = begin_with(f, &writing, 4, 0, AMPLE_MS);
    await_waiting(f, 2);
    leave_lane(f); /* this one was held up */
    assert_int_equal(busy(f), 1);
    assert_int_equal(waiting(f), 2);
    assert_runs_alone(one); /* so was this one, but it is no longer one too many */
    assert_done(three);
    assert_done(four);
    finish(f);
}

static void after_a_batch_who_comes_alone_runs_alone(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    take_lane(f);
    caller *callers[2] = {queue(f, &writing, 1, AMPLE_MS), queue(f, &writing, 2, AMPLE_MS)};
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
        callers[i] = queue(f, &writing, i, AMPLE_MS);
    hvi_lanes_close(&f->lanes);
    for (int i = 0; i < 5; i++)
        assert_failed(callers[i], HV_CLOSED, "the store is closed");
    take_lane(f); /* the pool reports that it is closed */
    leave_lane(f);
    leave_lane(f);
    finish(f);
}

static void a_child_finds_all_lanes_free(void **state) {
    (void) state;
    fixture *f = make(1, 1);
    take_lane(f);
    caller *one = queue(f, &writing, 1, AMPLE_MS);
    pid_t child = fork();
    if (child == 0)
        _exit(f->lanes.busy == 0 && hvi_list_empty(&f->lanes.waiting) ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    leave_lane(f);
    assert_runs_alone(one);
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
