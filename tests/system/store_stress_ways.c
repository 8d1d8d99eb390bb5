/*
 * store_stress_ways: the ways in which a thread of store_stress puts entities.
 *
 *     put    hv_put(), one at a time
 *     key    hv_reserve(), then hv_put_key(), again under the same key while its outcome is unknown
 *     many   hv_put_many(), some new keys and some reserved ones
 *     queue  an hv_queue that is never empty
 *     load   an hv_load, whose transactions are repeated until they are committed
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store_stress.h"

#define BATCH       50
#define IN_QUEUE    64
#define LOAD_ROWS   200
#define PATIENCE_MS 60000 /* for operations that are running when the test ends */

static void pause_ms(int ms) {
    poll(NULL, 0, ms);
}

/* ---- one at a time ---- */

static void put_one(worker *self) {
    put *this = stress_begin(self, -1);
    hv_dict *body = stress_body(this);
    hv_error *error = NULL;
    int64_t key = 0, began = stress_now_ms();
    hv_status status = hv_put(stress_store, this->shard, stress_kind(this), body, &key, &error);
    stress_note_time(self, began);
    stress_end(this, status, key, error);
    hv_dict_free(body);
}

static void put_one_key(worker *self) {
    put *this = stress_begin(self, -1);
    hv_dict *body = stress_body(this);
    hv_error *error = NULL;
    int64_t key = 0, began = stress_now_ms();
    hv_status status = hv_reserve(stress_store, this->shard, 1, &key, &error);
    bool is_reserved = status == HV_OK, is_unknown = false;
    stress_note_time(self, began);
    if (status == HV_OUTCOME_UNKNOWN) { /* of the reservation: no entity was involved */
        hv_error_free(error);
        error = NULL;
        status = HV_UNAVAILABLE;
    }
    for (int try = 0; is_reserved && try < 5; try++) {
        hv_error_free(error);
        error = NULL;
        began = stress_now_ms();
        status = hv_put_key(stress_store, key, stress_kind(this), body, &error);
        stress_note_time(self, began);
        is_unknown = is_unknown || status == HV_OUTCOME_UNKNOWN;
        if (status == HV_OK || !is_unknown)
            break;
    }
    if (is_unknown && status != HV_OK && status != HV_OUTCOME_UNKNOWN) {
        hv_error_free(error); /* the last try certainly failed, an earlier one perhaps did not */
        this->status = HV_OUTCOME_UNKNOWN;
        this->ended = stress_now_ms();
    } else {
        stress_end(this, status, key, error);
    }
    hv_dict_free(body);
}

/* ---- many ---- */

static void put_many(worker *self) {
    hv_new_entity entities[BATCH];
    hv_dict *bodies[BATCH];
    put *puts[BATCH];
    int64_t keys[BATCH];
    hv_status statuses[BATCH];
    hv_error *errors[BATCH];
    for (int i = 0; i < BATCH; i++) {
        puts[i] = stress_begin(self, -1);
        bodies[i] = stress_body(puts[i]);
        entities[i] = (hv_new_entity){
            .shard = puts[i]->shard, .kind = stress_kind(puts[i]), .dict = bodies[i]};
        if (i % 5 == 4) /* if there is none, a new key will do */
            hv_reserve(stress_store, puts[i]->shard, 1, &entities[i].key, NULL);
    }
    hv_put_many(stress_store, entities, BATCH, keys, statuses, errors, NULL);
    for (int i = 0; i < BATCH; i++) {
        stress_end(puts[i], statuses[i], keys[i], errors[i]);
        hv_dict_free(bodies[i]);
    }
}

/* ---- a queue ---- */

static void queue_done(void *context, void *tag, hv_status status, int64_t key, hv_entity *entity,
                       hv_error *error) {
    (void) context;
    hv_entity_free(entity);
    stress_end(tag, status, key, error);
}

static void put_through_queue(worker *self) {
    hv_error *error = NULL;
    if (self->queue == NULL &&
        hv_queue_new(stress_store, queue_done, self, &self->queue, &error) != HV_OK) {
        fprintf(stderr, "%s\n", hv_error_message(error));
        exit(2);
    }
    while (hv_queue_pending(self->queue) < IN_QUEUE) {
        put *this = stress_begin(self, -1);
        hv_dict *body = stress_body(this);
        hv_new_entity entity = {.shard = this->shard, .kind = stress_kind(this), .dict = body};
        if (hv_queue_put(self->queue, &entity, this, &error) != HV_OK)
            stress_die("the queue takes nothing", this, error);
        hv_dict_free(body);
    }
    hv_queue_advance(self->queue, 1000);
}

static void end_queue(worker *self) {
    int64_t until = stress_now_ms() + PATIENCE_MS;
    while (hv_queue_pending(self->queue) > 0 && stress_now_ms() < until)
        hv_queue_advance(self->queue, 100);
    if (hv_queue_pending(self->queue) > 0) {
        printf("a queue does not come to its end\n");
        fflush(stdout);
        _exit(1);
    }
    hv_queue_free(self->queue);
}

/* ---- a load ---- */

static bool open_load(worker *self) {
    char name[64];
    snprintf(name, sizeof name, "stress/%d/%d", (int) getpid(), self->writer);
    return self->load != NULL ||
           hv_load_open(stress_store, self->load_server, name, &self->load, NULL) == HV_OK;
}

/* Store the rows that were added. *unknown is set if a commit was not answered. */
static bool try_load(worker *self, put **puts, bool *unknown) {
    hv_error *error = NULL;
    size_t blocked;
    hv_status status = hv_load_send(self->load, LOAD_ROWS, &blocked, &error);
    for (size_t i = 0; status == HV_OK && i < LOAD_ROWS; i++)
        puts[i]->status = hv_load_row(self->load, i, NULL, NULL);
    if (status == HV_OK)
        status = hv_load_commit(self->load, hv_load_position(self->load) + LOAD_ROWS, NULL, &error);
    *unknown = *unknown || status == HV_OUTCOME_UNKNOWN;
    hv_error_free(error);
    return status == HV_OK;
}

static void put_by_load(worker *self) {
    put *puts[LOAD_ROWS];
    if (!open_load(self)) {
        pause_ms(20);
        return;
    }
    for (int i = 0; i < LOAD_ROWS; i++) {
        hv_error *error = NULL;
        puts[i] = stress_begin(self, self->load_server);
        hv_dict *body = stress_body(puts[i]);
        if (hv_load_add(self->load, 0, puts[i]->shard, stress_kind(puts[i]), body, &error) != HV_OK)
            stress_die("the load takes nothing", puts[i], error);
        hv_dict_free(body);
    }
    bool done, unknown = false;
    int64_t ended = 0;
    while (!(done = try_load(self, puts, &unknown))) {
        if (ended == 0 && atomic_load(&stress_ended))
            ended = stress_now_ms();
        if (ended != 0 && stress_now_ms() > ended + PATIENCE_MS)
            break;
        pause_ms(20);
    }
    for (int i = 0; i < LOAD_ROWS; i++) {
        if (!done)
            puts[i]->status = unknown ? HV_OUTCOME_UNKNOWN : HV_UNAVAILABLE;
        puts[i]->ended = stress_now_ms();
    }
    if (!done) {
        hv_load_free(self->load);
        self->load = NULL;
    }
}

/* ---- all ways ---- */

way_fn stress_way(const char *name) {
    static const struct {
        const char *name;
        way_fn way;
    } ways[] = {
        {"put", put_one},      {"key", put_one_key},
        {"many", put_many},    {"queue", put_through_queue},
        {"load", put_by_load},
    };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        if (strcmp(ways[i].name, name) == 0)
            return ways[i].way;
    return NULL;
}

void stress_way_fini(worker *self) {
    if (self->queue != NULL)
        end_queue(self);
    hv_load_free(self->load);
}
