/*
 * verify_looks: looking at the rows that are in doubt, until they agree, are left for the fence, or
 * are found to be different.
 */
#include "move/verify_looks.h"

#include <stdio.h>
#include <stdlib.h>

#include "move/verify_sql.h"

/* Pauses between looks, in ms. */
#define LOOK_FIRST_MS   10
#define LOOK_LONGEST_MS 200

/* A row that the source has not changed in so many looks and so long should have agreed. */
#define STUCK_LOOKS 3
#define STUCK_US    300000

/* A row that has differed in so many looks is left for the fence. */
#define LEFT_LOOKS 8
#define LEFT_MAX   10000

/* Under the lock: how long writers wait at most, how often it is tried, the pause between. */
#define LOCKED_US     500000
#define LOCK_TRIES    20
#define LOCK_PAUSE_US 200000

/* For what takes no time by itself, when the step's deadline is near. */
#define LEAST_MS 2000

static void write_look(hvi_buffer *sql, const hvi_verify *verify, hvi_side side) {
    const char **keys = hvi_doubts_keys(&verify->doubts);
    if (keys == NULL) {
        hvi_buffer_break(sql);
        return;
    }
    if (verify->locked && side == HVI_SOURCE)
        hvi_verify_lock(sql, &verify->tables, hvi_verify_table_of(verify));
    hvi_verify_look(sql, &verify->tables, hvi_verify_table_of(verify), side, keys,
                    verify->doubts.count);
    free(keys);
}

static void write_unlock(hvi_buffer *sql, const hvi_verify *verify, hvi_side side) {
    (void) verify, (void) side;
    hvi_buffer_append_text(sql, "ROLLBACK");
}

/* ---- rows in doubt ---- */

static hv_status take_look_at_source(hvi_verify *verify, hv_error **error) {
    hvi_verify_list list;
    hv_status status = hvi_verify_list_read(&list, verify->pair.results[HVI_SOURCE],
                                            hvi_verify_server_of(verify, HVI_SOURCE), error);
    for (size_t i = 0; i < verify->doubts.count && status == HV_OK; i++) {
        hvi_doubt *doubt = &verify->doubts.all[i];
        const hvi_verify_row *row = hvi_verify_list_find(&list, doubt->key);
        bool is_there = row != NULL;
        uint64_t hash = is_there ? row->hash : 0;
        bool same = doubt->looks > 0 && is_there == doubt->is_there && hash == doubt->hash;
        doubt->same = same ? doubt->same + 1 : 0;
        doubt->is_there = is_there;
        doubt->hash = hash;
        doubt->looks++;
    }
    hvi_verify_list_fini(&list);
    verify->locked_at = hvi_clock_us();
    hvi_verify_go(verify, HVI_VERIFY_MARK);
    return status;
}

static bool is_stuck(const hvi_doubt *doubt) {
    return doubt->same >= STUCK_LOOKS && hvi_clock_us() - doubt->since >= STUCK_US;
}

/* Move to those that are left for the fence. */
static hv_status leave(hvi_verify *verify, size_t index, hv_error **error) {
    if (verify->left.count >= LEFT_MAX) {
        hvi_fail(error, HV_TIMEOUT, "shard %d is changed faster than it can be compared",
                 verify->sides.shard);
        hvi_error_detail(error, "More than %d rows of it have never been the same on both servers.",
                         LEFT_MAX);
        hvi_error_hint(error, HVI_VERIFY_TOO_FAST_HINT);
        return HV_TIMEOUT;
    }
    return hvi_doubts_move(&verify->doubts, index, &verify->left) ? HV_OK : hvi_no_memory(error);
}

/* After a look: what is next for the rows that are still in doubt? */
static hv_status decide(hvi_verify *verify, hv_error **error) {
    hv_status status = HV_OK;
    bool all_stuck = true;
    for (size_t i = verify->doubts.count; i-- > 0 && status == HV_OK;) {
        const hvi_doubt *doubt = &verify->doubts.all[i];
        bool stuck = is_stuck(doubt);
        if (!stuck && doubt->looks >= LEFT_LOOKS && doubt->same < STUCK_LOOKS)
            status = leave(verify, i, error);
        else
            all_stuck = all_stuck && stuck;
    }
    if (status != HV_OK)
        return status;
    if (verify->doubts.count == 0) {
        hvi_verify_go(verify, HVI_VERIFY_NEXT);
        return HV_OK;
    }
    verify->locked = all_stuck;
    int64_t pause = LOOK_FIRST_MS;
    for (int i = 0; i < verify->looks && pause < LOOK_LONGEST_MS; i++)
        pause *= 2;
    verify->looks++;
    if (!verify->locked)
        verify->rest_until =
            hvi_clock_us() + 1000 * (pause < LOOK_LONGEST_MS ? pause : LOOK_LONGEST_MS);
    hvi_verify_go(verify, HVI_VERIFY_LOOK_SOURCE);
    return HV_OK;
}

static hv_status take_look_at_target(hvi_verify *verify, hv_error **error) {
    hvi_verify_list list;
    hv_status status = hvi_verify_list_read(&list, verify->pair.results[HVI_TARGET],
                                            hvi_verify_server_of(verify, HVI_TARGET), error);
    for (size_t i = verify->doubts.count; i-- > 0 && status == HV_OK;) {
        const hvi_doubt *doubt = &verify->doubts.all[i];
        const hvi_verify_row *row = hvi_verify_list_find(&list, doubt->key);
        bool is_there = row != NULL;
        bool agrees = is_there == doubt->is_there && (!is_there || row->hash == doubt->hash);
        char what = !is_there ? '+' : doubt->is_there ? '!' : '-';
        if (!agrees && verify->locked && !hvi_findings_add(&verify->found, doubt, what))
            status = hvi_no_memory(error);
        if (agrees || verify->locked)
            hvi_doubts_drop(&verify->doubts, i);
    }
    hvi_verify_list_fini(&list);
    if (status != HV_OK)
        return status;
    if (!verify->locked)
        return decide(verify, error);
    hvi_verify_go(verify, HVI_VERIFY_UNLOCK);
    return HV_OK;
}

/* The lock was not to be had, or is held for too long: after many tries, the fence decides. */
hv_status hvi_verify_looks_refused(hvi_verify *verify, hv_error **error) {
    hv_status status = HV_OK;
    if (++verify->lock_tries >= LOCK_TRIES)
        while (verify->doubts.count > 0 && status == HV_OK)
            status = leave(verify, verify->doubts.count - 1, error);
    hvi_verify_go(verify, HVI_VERIFY_UNLOCK);
    return status;
}

static void take_unlock(hvi_verify *verify) {
    verify->locked = false;
    if (verify->doubts.count > 0) {
        hvi_verify_rest(verify, LOCK_PAUSE_US);
        verify->locked = true; /* once more */
        hvi_verify_go(verify, HVI_VERIFY_LOOK_SOURCE);
        snprintf(verify->waits_for, sizeof verify->waits_for, "a lock on %s.%s",
                 verify->tables.schemas[HVI_SOURCE], hvi_verify_table_of(verify)->name);
    } else {
        hvi_verify_go(verify, HVI_VERIFY_NEXT);
    }
}

/* ---- the marker ---- */

static int64_t least(int64_t deadline) {
    int64_t other = hvi_deadline_after(LEAST_MS);
    return deadline > other ? deadline : other;
}

static hv_status mark(hvi_verify *verify, int64_t deadline, hv_error **error) {
    const hvi_verify_marker *marker = &verify->sides.marker;
    hv_status status = marker->mark(marker->context, least(deadline), &verify->marker, error);
    verify->wait_ms = 1;
    if (status == HV_OK)
        hvi_verify_go(verify, HVI_VERIFY_WAIT);
    return status;
}

static hv_status wait_for_marker(hvi_verify *verify, int64_t deadline, hv_error **error) {
    const hvi_verify_marker *marker = &verify->sides.marker;
    bool arrived = false;
    hv_status status =
        marker->arrived(marker->context, verify->marker, least(deadline), &arrived, error);
    if (status != HV_OK)
        return status;
    if (arrived) {
        hvi_verify_go(verify, HVI_VERIFY_LOOK_TARGET);
        return HV_OK;
    }
    if (verify->locked && hvi_clock_us() - verify->locked_at > LOCKED_US)
        return hvi_verify_looks_refused(verify, error);
    snprintf(verify->waits_for, sizeof verify->waits_for, "the stream to server \"%.80s\"",
             hvi_verify_server_of(verify, HVI_TARGET));
    hvi_verify_rest(verify, verify->wait_ms * 1000);
    verify->wait_ms = verify->wait_ms < 16 ? 2 * verify->wait_ms : 16;
    return HV_OK;
}

/* ---- steps ---- */

void hvi_verify_looks_begin(hvi_verify *verify) {
    verify->looks = 0;
    verify->lock_tries = 0;
    hvi_doubts_unite(&verify->doubts); /* one may have been left in an earlier pass */
    hvi_verify_go(verify, HVI_VERIFY_LOOK_SOURCE);
}

hv_status hvi_verify_looks_enter(hvi_verify *verify, int64_t deadline, hv_error **error) {
    switch (verify->state) {
    case HVI_VERIFY_LOOK_SOURCE:
        return hvi_verify_send(verify, HVI_SOURCE, write_look, error);
    case HVI_VERIFY_MARK:
        return mark(verify, deadline, error);
    case HVI_VERIFY_WAIT:
        return wait_for_marker(verify, deadline, error);
    case HVI_VERIFY_LOOK_TARGET:
        return hvi_verify_send(verify, HVI_TARGET, write_look, error);
    default:
        return hvi_verify_send(verify, HVI_SOURCE, write_unlock, error);
    }
}

hv_status hvi_verify_looks_answered(hvi_verify *verify, hv_error **error) {
    switch (verify->state) {
    case HVI_VERIFY_LOOK_SOURCE:
        return take_look_at_source(verify, error);
    case HVI_VERIFY_LOOK_TARGET:
        return take_look_at_target(verify, error);
    default:
        take_unlock(verify);
        return HV_OK;
    }
}

/* ---- the last look ---- */

/* Look at the rows of one table that are left, on both sides at once; take those that agree out of
 * them. */
static hv_status look_last(hvi_verify *verify, hvi_pair *pair, const hvi_doubts *of, size_t table,
                           int64_t deadline, hv_error **error) {
    const char **keys = hvi_doubts_keys(of);
    hvi_verify_list lists[2] = {{NULL, 0}, {NULL, 0}};
    hv_status status = keys == NULL ? hvi_no_memory(error) : HV_OK;
    bool over = false;
    for (int side = 1; side >= 0 && status == HV_OK; side--) {
        hvi_buffer sql = HVI_BUFFER_EMPTY;
        hvi_verify_look(&sql, &verify->tables, &verify->tables.all[table], (hvi_side) side, keys,
                        of->count);
        status = hvi_pair_send(pair, (hvi_side) side, &sql, error);
    }
    if (status == HV_OK)
        status = hvi_pair_advance(pair, deadline, &over, error);
    if (status == HV_OK && !over) {
        hvi_pair_stop(pair);
        status = hvi_fail_late(verify->sides.source_name, verify->sides.shard, false, error);
    }
    for (int side = 0; side < 2 && status == HV_OK; side++)
        status = hvi_verify_list_read(&lists[side], pair->results[side],
                                      hvi_verify_server_of(verify, side), error);
    for (size_t i = 0; i < of->count && status == HV_OK; i++) {
        const hvi_verify_row *ours = hvi_verify_list_find(&lists[HVI_SOURCE], keys[i]);
        const hvi_verify_row *theirs = hvi_verify_list_find(&lists[HVI_TARGET], keys[i]);
        bool agrees = ours == NULL || theirs == NULL ? ours == theirs : ours->hash == theirs->hash;
        char what = theirs == NULL ? '+' : ours != NULL ? '!' : '-';
        if (!agrees && !hvi_findings_add(&verify->found, &of->all[i], what))
            status = hvi_no_memory(error);
    }
    hvi_verify_list_fini(&lists[HVI_SOURCE]);
    hvi_verify_list_fini(&lists[HVI_TARGET]);
    free(keys);
    return status;
}

hv_status hvi_verify_looks_last(hvi_verify *verify, hvi_session *source, hvi_session *target,
                                int64_t deadline, hv_error **error) {
    hvi_pair pair = {.sessions = {source, target}, .shard = verify->sides.shard};
    hv_status status = HV_OK;
    for (size_t table = 0; table < verify->tables.count && status == HV_OK; table++) {
        hvi_doubts of = {NULL, 0, 0};
        for (size_t i = 0; i < verify->left.count && status == HV_OK; i++) {
            const hvi_doubt *doubt = &verify->left.all[i];
            if (doubt->table == table && !hvi_doubts_add(&of, table, doubt->part, doubt->key))
                status = hvi_no_memory(error);
        }
        if (status == HV_OK && of.count > 0)
            status = look_last(verify, &pair, &of, table, deadline, error);
        hvi_doubts_fini(&of);
    }
    hvi_pair_fini(&pair);
    return status;
}
