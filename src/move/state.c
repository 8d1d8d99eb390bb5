/*
 * state: what the steps of a move share: what they say, its rows in the journals, and its streams.
 */
#include <stdio.h>

#include "base/clock.h"
#include "move/hook.h"
#include "move/state.h"

#define LOCK_MS 50 /* at first */

void hvi_move_say(hvi_move *move, const char *step) {
    snprintf(move->step_text, sizeof move->step_text, "%s", step);
}

void hvi_move_stay(hvi_move *move, int64_t ms) {
    move->wake_at = hvi_clock_us() + ms * 1000;
}

static hv_status write_on(hvi_move *move, hvi_link *link, bool given_up, hv_error **error) {
    if (given_up)
        return HV_OK;
    if (!hvi_link_is_open(link))
        return hvi_link_run(link, "", hvi_link_deadline(), NULL, error);
    return hvi_journal_write(link->session, &move->row, link->server == move->source,
                             hvi_link_deadline(), error);
}

hv_status hvi_move_write(hvi_move *move, hv_error **error) {
    /* Not by `from`, which may have a transaction open. */
    hvi_link *source = move->is_back ? &move->to : &move->witness;
    hvi_link *target = move->is_back ? &move->witness : &move->to;
    bool no_source = move->is_back ? move->to_given_up : move->from_given_up;
    bool no_target = move->is_back ? move->from_given_up : move->to_given_up;
    hv_status status = write_on(move, target, no_target, error);
    hvi_move_reach("between the rows");
    return status == HV_OK ? write_on(move, source, no_source, error) : status;
}

/* Transactions that are all longer than a lock is waited for never let it in; those that begin
 * later wait behind it. So the wait grows with the tries, up to what callers may be stopped for. */
static int lock_ms_of(const hvi_move *move) {
    int64_t wait = LOCK_MS;
    for (int i = 0; i < move->patience.tries && wait < move->options.max_pause; i++)
        wait *= 2;
    int64_t most = move->options.max_pause > LOCK_MS ? move->options.max_pause : LOCK_MS;
    return (int) (wait < most ? wait : most);
}

hvi_stream hvi_move_stream(hvi_move *move) {
    return (hvi_stream){
        .publisher = move->from_given_up ? NULL : &move->witness,
        .subscriber = move->to_given_up ? NULL : &move->to,
        .shard = move->shard,
        .name = move->names.stream,
        .lock_ms = lock_ms_of(move),
        .tables = move->names.live,
        .publisher_options = &move->router->options->servers[move->is_back ? move->target->number
                                                                           : move->source->number],
    };
}

hvi_stream hvi_move_stream_back(hvi_move *move) {
    return (hvi_stream){
        .publisher = move->to_given_up ? NULL : &move->to,
        .subscriber = move->from_given_up ? NULL : &move->witness,
        .shard = move->shard,
        .name = move->names.retired,
        .lock_ms = lock_ms_of(move),
        .tables = move->names.stream,
        .publisher_options = &move->router->options->servers[move->is_back ? move->source->number
                                                                           : move->target->number],
    };
}
