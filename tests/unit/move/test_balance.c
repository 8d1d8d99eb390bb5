/*
 * Tests of balance: plans keep their promises, for made-up servers and shards of all kinds.
 */
#include <stdlib.h>
#include <string.h>

#include "move/balance.h"
#include "unit.h"

#define MOST_SERVERS 8
#define MOST_SHARDS  1000

typedef struct world {
    hvi_balance_shard shards[MOST_SHARDS], before[MOST_SHARDS];
    hvi_balance_target servers[MOST_SERVERS];
    size_t order[MOST_SHARDS];
    size_t count, moves;
    int server_count;
} world;

static void plan(world *w, size_t most) {
    memcpy(w->before, w->shards, sizeof w->before);
    w->moves = hvi_balance(w->shards, w->count, w->servers, w->server_count, most, w->order);
}

static world *make(int servers, size_t shards, int64_t load) {
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->server_count = servers;
    w->count = shards;
    for (int i = 0; i < servers; i++)
        w->servers[i].weight = 1;
    for (size_t i = 0; i < shards; i++)
        w->shards[i] = (hvi_balance_shard){.shard = (int) i, .load = load};
    return w;
}

static int on(const world *w, int server) {
    int count = 0;
    for (size_t i = 0; i < w->count; i++)
        count += w->shards[i].server == server;
    return count;
}

static void test_a_new_server_gets_its_share(void **state) {
    (void) state;
    world *w = make(4, 64, 10);
    for (size_t i = 0; i < 64; i++)
        w->shards[i].server = (int) (i % 3);
    plan(w, MOST_SHARDS);
    assert_int_equal(w->moves, 16);
    for (int i = 0; i < 4; i++)
        assert_int_equal(on(w, i), 16);
    free(w);
}

static void test_few_moves_have_most_of_the_effect(void **state) {
    (void) state;
    world *w = make(2, 10, 1);
    w->shards[3].load = 100;
    w->shards[7].load = 100;
    plan(w, MOST_SHARDS);
    assert_true(w->moves <= 6);
    assert_int_equal(w->shards[w->order[0]].load, 100);
    assert_true(w->servers[0].load - w->servers[1].load < 11);
    free(w);
}

static void test_what_is_even_stays(void **state) {
    (void) state;
    world *w = make(3, 30, 7);
    for (size_t i = 0; i < 30; i++)
        w->shards[i].server = (int) (i % 3);
    plan(w, MOST_SHARDS);
    assert_int_equal(w->moves, 0);
    free(w);
}

static void test_nothing_to_distribute(void **state) {
    (void) state;
    world *w = make(2, 0, 0);
    plan(w, MOST_SHARDS);
    assert_int_equal(w->moves, 0);
    w->count = 5; /* empty ones */
    plan(w, MOST_SHARDS);
    assert_int_equal(w->moves, 0);
    w->servers[0].drained = true;
    plan(w, MOST_SHARDS);
    assert_int_equal(w->moves, 5);
    free(w);
}

static void test_a_weight_of_nothing_keeps_what_is_there(void **state) {
    (void) state;
    world *w = make(3, 60, 10);
    for (size_t i = 0; i < 60; i++)
        w->shards[i].server = i < 20 ? 0 : 1;
    w->servers[1].weight = 0;
    plan(w, MOST_SHARDS);
    assert_int_equal(on(w, 0), 10);
    assert_int_equal(on(w, 1), 40);
    assert_int_equal(on(w, 2), 10);
    free(w);
}

static void test_weights(void **state) {
    (void) state;
    world *w = make(3, 60, 5);
    w->servers[1].weight = 2;
    w->servers[2].weight = 0;
    plan(w, MOST_SHARDS);
    /* Within a twentieth of a share. */
    assert_in_range(on(w, 0), 19, 21);
    assert_in_range(on(w, 1), 39, 41);
    assert_int_equal(on(w, 2), 0);
    free(w);
}

/* Half the sum of the squared deviations from the shares of servers that are not drained. */
static double unevenness(const world *w, const hvi_balance_shard *shards) {
    double total = 0, weights = 0, sum = 0, load[MOST_SERVERS] = {0};
    for (size_t i = 0; i < w->count; i++) {
        const hvi_balance_target *on = &w->servers[shards[i].server];
        if (on->weight <= 0 && !on->drained)
            continue; /* it keeps what it has */
        total += (double) shards[i].load;
        load[shards[i].server] += (double) shards[i].load;
    }
    for (int i = 0; i < w->server_count; i++)
        weights += w->servers[i].drained ? 0 : w->servers[i].weight;
    for (int i = 0; i < w->server_count; i++) {
        double share = w->servers[i].drained ? 0 : total * w->servers[i].weight / weights;
        sum += (load[i] - share) * (load[i] - share);
    }
    return sum / 2;
}

static void check(const world *w, size_t most) {
    assert_true(w->moves <= most);
    bool seen[MOST_SHARDS] = {false};
    for (size_t i = 0; i < w->moves; i++) {
        size_t at = w->order[i];
        assert_true(at < w->count);
        assert_false(seen[at]);
        seen[at] = true;
        const hvi_balance_target *to = &w->servers[w->shards[at].server];
        assert_int_not_equal(w->shards[at].server, w->before[at].server);
        assert_true(to->weight > 0 && !to->drained);
    }
    bool drains = false;
    for (size_t i = 0; i < w->count; i++) {
        const hvi_balance_target *from = &w->servers[w->before[i].server];
        assert_false(seen[i] && from->weight <= 0 && !from->drained);
        if (!seen[i])
            assert_int_equal(w->shards[i].server, w->before[i].server);
        drains = drains || w->servers[w->before[i].server].drained;
        if (w->moves < most)
            assert_false(w->servers[w->shards[i].server].drained);
    }
    if (!drains)
        assert_true(unevenness(w, w->shards) <= unevenness(w, w->before) * (1 + 1e-9));
}

static void test_any_plan_keeps_its_promises(void **state) {
    (void) state;
    srand(20);
    for (int round = 0; round < 3000; round++) {
        world *w = make(1 + rand() % MOST_SERVERS, (size_t) (rand() % 60), 0);
        for (int i = 0; i < w->server_count; i++) {
            w->servers[i].weight = rand() % 4;
            w->servers[i].drained = rand() % 5 == 0;
        }
        w->servers[rand() % w->server_count] = (hvi_balance_target){.weight = 1};
        for (size_t i = 0; i < w->count; i++) {
            w->shards[i].server = rand() % w->server_count;
            w->shards[i].load = rand() % 3 == 0 ? 0 : rand() % (rand() % 2 == 0 ? 10 : 100000);
        }
        size_t most = rand() % 2 == 0 ? MOST_SHARDS : (size_t) (rand() % 10);
        plan(w, most);
        check(w, most);
        free(w);
    }
}

static void test_a_thousand_shards(void **state) {
    (void) state;
    srand(21);
    world *w = make(MOST_SERVERS, MOST_SHARDS, 0);
    for (size_t i = 0; i < w->count; i++)
        w->shards[i].load = 1 + rand() % 1000;
    plan(w, MOST_SHARDS);
    check(w, MOST_SHARDS);
    double least = w->servers[0].load, most = least;
    for (int i = 0; i < MOST_SERVERS; i++) {
        least = w->servers[i].load < least ? w->servers[i].load : least;
        most = w->servers[i].load > most ? w->servers[i].load : most;
    }
    assert_true(most < least * 1.11);
    free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_server_gets_its_share),
        cmocka_unit_test(test_few_moves_have_most_of_the_effect),
        cmocka_unit_test(test_what_is_even_stays),
        cmocka_unit_test(test_nothing_to_distribute),
        cmocka_unit_test(test_a_weight_of_nothing_keeps_what_is_there),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_any_plan_keeps_its_promises),
        cmocka_unit_test(test_a_thousand_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
