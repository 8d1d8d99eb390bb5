/*
 * pair: SQL on two servers at the same time.
 */
#include "move/pair.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "wire/cancel.h"

/* Two sockets are watched by looking at each in turn: so long at one of them, at most. */
#define TURN_US 1000

/* How long to wait for the end of what was cancelled. */
#define SETTLE_MS 1000

hv_status hvi_pair_send(hvi_pair *pair, hvi_side side, hvi_buffer *sql, hv_error **error) {
    pair->sql[side] = hvi_buffer_take(sql);
    if (pair->sql[side] == NULL)
        return hvi_no_memory(error);
    pair->over[side] = false;
    pair->started = hvi_clock_us();
    /* Not marked as a write: nothing that is sent here changes more than the session. */
    hvi_script_start(&pair->scripts[side], pair->sessions[side], pair->sql[side], pair->shard,
                     false);
    return HV_OK;
}

static bool is_under_way(const hvi_pair *pair, int side) {
    return pair->sql[side] != NULL && !pair->over[side];
}

bool hvi_pair_runs(const hvi_pair *pair) {
    return pair->sql[HVI_SOURCE] != NULL || pair->sql[HVI_TARGET] != NULL;
}

/* Make progress on both sides. Sets what the one to be waited for wants; -1: none is left. */
static int advance_both(hvi_pair *pair, hvi_wants *wants) {
    int waits = -1;
    for (int side = 0; side < 2; side++) {
        if (!is_under_way(pair, side))
            continue;
        hvi_wants its = hvi_script_advance(&pair->scripts[side]);
        if (its == HVI_WANTS_NOTHING)
            pair->over[side] = true;
        else if (waits < 0) {
            waits = side;
            *wants = its;
        }
    }
    return waits;
}

/* Take the answers of all that was sent, or give it up. */
static hv_status finish_all(hvi_pair *pair, hv_error **error) {
    hv_status status = HV_OK;
    for (int side = 0; side < 2; side++) {
        if (pair->sql[side] == NULL)
            continue;
        PQclear(pair->results[side]);
        pair->results[side] = NULL;
        hv_status its = hvi_script_finish(&pair->scripts[side], &pair->results[side],
                                          status == HV_OK ? error : NULL);
        status = status != HV_OK ? status : its;
        free(pair->sql[side]);
        pair->sql[side] = NULL;
    }
    return status;
}

hv_status hvi_pair_advance(hvi_pair *pair, int64_t deadline, bool *over, hv_error **error) {
    hvi_wants wants = HVI_WANTS_NOTHING;
    int waits;
    *over = false;
    while ((waits = advance_both(pair, &wants)) >= 0) {
        bool both = is_under_way(pair, HVI_SOURCE) && is_under_way(pair, HVI_TARGET);
        int64_t until = both ? hvi_clock_us() + TURN_US : deadline;
        if (!hvi_wait_fd_until(PQsocket(pair->sessions[waits]->conn), wants, until, deadline))
            return HV_OK;
    }
    *over = true;
    return finish_all(pair, error);
}

void hvi_pair_stop(hvi_pair *pair) {
    if (!hvi_pair_runs(pair))
        return;
    for (int side = 0; side < 2; side++)
        if (is_under_way(pair, side) && hvi_cancel_is_heard(pair->sessions[side], SETTLE_MS))
            hvi_cancel(pair->sessions[side]);
    bool over;
    hvi_pair_advance(pair, hvi_deadline_after(SETTLE_MS), &over, NULL);
    if (!over)
        finish_all(pair, NULL);
}

void hvi_pair_fini(hvi_pair *pair) {
    hvi_pair_stop(pair);
    PQclear(pair->results[HVI_SOURCE]);
    PQclear(pair->results[HVI_TARGET]);
    pair->results[HVI_SOURCE] = pair->results[HVI_TARGET] = NULL;
}
