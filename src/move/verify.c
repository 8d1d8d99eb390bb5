/*
 * verify: compare a shard with its copy on another server.
 *
 * What always holds: a row is right once it was the same on both servers, whenever each of them was
 * asked, because the target's state is one that the source had. A row is called different only if
 * it was so while the source was locked and everything before the lock had arrived.
 */
#include "move/verify.h"

#include <stdlib.h>

#include "base/interrupt.h"
#include "move/verify_looks.h"
#include "move/verify_parts.h"
#include "move/verify_sql.h"

/* The pause after a lock that did not come. */
#define LOCK_PAUSE_US 200000

/* How long to wait for the end of a transaction that has locked a table. */
#define ROLLBACK_MS 2000

/* ---- steps ---- */

static bool is_of_parts(const hvi_verify *verify) {
    return verify->state <= HVI_VERIFY_ROWS;
}

/* A lock that did not come is no failure. Takes *cause. */
static hv_status refused(hvi_verify *verify, hv_status status, hv_error **cause, hv_error **error) {
    if (status != HV_REFUSED || !hvi_error_has_sqlstate(*cause, "55P03"))
        return hvi_error_move(error, cause);
    hv_error_free(*cause);
    *cause = NULL;
    if (verify->locked && verify->state == HVI_VERIFY_LOOK_SOURCE)
        return hvi_verify_looks_refused(verify, error);
    hvi_verify_rest(verify, LOCK_PAUSE_US);
    return HV_OK;
}

/* Wait for the end of a pause. False if the deadline is first. */
static bool rest(const hvi_verify *verify, int64_t deadline) {
    int64_t now;
    while ((now = hvi_clock_us()) < verify->rest_until) {
        int64_t until = verify->rest_until < deadline ? verify->rest_until : deadline;
        if (hvi_is_late(deadline) || !hvi_pause((until - now + 999) / 1000))
            return false;
    }
    return true;
}

static hv_status step(hvi_verify *verify, int64_t deadline, bool *waits, hv_error **error) {
    hv_status status;
    *waits = false;
    if (!hvi_pair_runs(&verify->pair)) {
        *waits = !rest(verify, deadline);
        if (*waits)
            return HV_OK;
        if (verify->state == HVI_VERIFY_NEXT) {
            hvi_verify_parts_next(verify);
            return HV_OK;
        }
        return is_of_parts(verify) ? hvi_verify_parts_enter(verify, error)
                                   : hvi_verify_looks_enter(verify, deadline, error);
    }
    bool over;
    hv_error *cause = NULL;
    status = hvi_pair_advance(&verify->pair, deadline, &over, &cause);
    *waits = status == HV_OK && !over;
    if (status != HV_OK)
        return refused(verify, status, &cause, error);
    if (!over)
        return HV_OK;
    return is_of_parts(verify) ? hvi_verify_parts_answered(verify, error)
                               : hvi_verify_looks_answered(verify, error);
}

static hv_status fail_found(const hvi_verify *verify, hv_error **error) {
    const char *const servers[2] = {verify->sides.source_name, verify->sides.target_name};
    return hvi_findings_fail(&verify->found, &verify->tables, verify->sides.shard, servers, error);
}

hv_status hvi_verify_step(hvi_verify *verify, int64_t deadline, bool *done, hv_error **error) {
    hv_status status = HV_OK;
    bool waits = false;
    *done = false;
    while (status == HV_OK && verify->state != HVI_VERIFY_DONE) {
        status = step(verify, deadline, &waits, error);
        if (waits || (hvi_is_late(deadline) && verify->state != HVI_VERIFY_DONE))
            return status;
    }
    if (status != HV_OK)
        return status;
    if (verify->found.count > 0)
        return fail_found(verify, error);
    *done = true;
    return HV_OK;
}

void hvi_verify_again(hvi_verify *verify) {
    hvi_verify_parts_again(verify);
}

hv_status hvi_verify_last(hvi_verify *verify, hvi_session *source, hvi_session *target,
                          int64_t deadline, hv_error **error) {
    hv_status status = hvi_verify_looks_last(verify, source, target, deadline, error);
    return status == HV_OK && verify->found.count > 0 ? fail_found(verify, error) : status;
}

/* ---- life ---- */

hv_status hvi_verify_new(const hvi_verify_sides *sides, hvi_verify **verify, hv_error **error) {
    *verify = calloc(1, sizeof **verify);
    if (*verify == NULL)
        return hvi_no_memory(error);
    (*verify)->sides = *sides;
    (*verify)->pair = (hvi_pair){.sessions = {sides->source, sides->target}, .shard = sides->shard};
    (*verify)->tables =
        (hvi_verify_tables){.schemas = {sides->source_schema, sides->target_schema}};
    (*verify)->pass = 1;
    bool has_functions = PQserverVersion(sides->source->conn) >= 140000 &&
                         PQserverVersion(sides->target->conn) >= 140000;
    (*verify)->tables.hashing = HVI_HASH_TEXT;
    (*verify)->state = has_functions ? HVI_VERIFY_HASHING : HVI_VERIFY_TABLES;
    return HV_OK;
}

void hvi_verify_progress_of(const hvi_verify *verify, hvi_verify_progress *progress) {
    *progress = (hvi_verify_progress){
        .rows = verify->rows,
        .rows_total = verify->rows_total > verify->rows ? verify->rows_total : verify->rows,
        .ranges = verify->parts_done,
        .pass = verify->pass,
        .left = verify->left.count,
        .waits_for = verify->waits_for[0] != '\0' ? verify->waits_for : NULL};
    for (size_t i = 0; i < verify->tables.count; i++)
        progress->ranges_total += (int64_t) verify->tables.all[i].part_count;
    if (verify->state != HVI_VERIFY_DONE && verify->table < verify->tables.count)
        progress->table = hvi_verify_table_of(verify)->title;
}

void hvi_verify_stop(hvi_verify *verify) {
    hvi_pair_stop(&verify->pair);
    hvi_session *source = verify->sides.source;
    if (verify->locked && !source->broken && PQtransactionStatus(source->conn) != PQTRANS_IDLE)
        hvi_session_script(source, "ROLLBACK", verify->sides.shard, false,
                           hvi_deadline_after(ROLLBACK_MS), NULL, NULL);
    verify->locked = false;
}

void hvi_verify_free(hvi_verify *verify) {
    if (verify == NULL)
        return;
    hvi_verify_stop(verify);
    hvi_pair_fini(&verify->pair);
    hvi_doubts_fini(&verify->doubts);
    hvi_doubts_fini(&verify->left);
    hvi_findings_fini(&verify->found);
    hvi_verify_tables_fini(&verify->tables);
    free(verify->same);
    free(verify);
}
