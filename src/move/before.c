/*
 * before: what a new move looks at before it makes anything on either server.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "move/doctor.h"
#include "move/state.h"
#include "shard/layout.h"
#include "shard/placement.h"

#define CHECK_MS 30000

/* Nothing is made in a database that is not a store's. */
static hv_status check_is_made(hvi_move *move, hv_error **error) {
    hvi_layout layout;
    hv_status status = hvi_layout_read(move->to.session, hvi_link_deadline(), &layout, error);
    bool is_made = status == HV_OK && layout.version > 0;
    if (status == HV_OK)
        hvi_layout_fini(&layout);
    if (status == HV_OK && !is_made) {
        hvi_fail(error, HV_NOT_INITIALIZED, "server \"%s\" is not initialised",
                 move->to.server->name);
        hvi_error_where(error, move->to.server->name, move->shard);
        hvi_error_hint(error, "Run `hv init` first.");
        status = HV_NOT_INITIALIZED;
    }
    return status;
}

hv_status hvi_move_check_same(hvi_move *move, hv_status status, hv_error **error) {
    char *one = NULL, *other = NULL;
    int64_t deadline = hvi_link_deadline();
    bool is_same = hvi_link_is_open(&move->from) && hvi_link_is_open(&move->to) &&
                   hvi_placement_identity(move->from.session, deadline, &one, NULL) == HV_OK &&
                   hvi_placement_identity(move->to.session, deadline, &other, NULL) == HV_OK &&
                   strcmp(one, other) == 0;
    free(one);
    free(other);
    if (!is_same)
        return status;
    if (error != NULL) {
        hv_error_free(*error);
        *error = NULL;
    }
    hvi_fail(error, HV_INVALID, "it is the same database as server \"%s\"",
             move->from.server->name);
    hvi_error_where(error, move->to.server->name, move->shard);
    hvi_error_hint(error, "Look at host, port and dbname of both in the configuration.");
    return HV_INVALID;
}

hv_status hvi_move_check_before(hvi_move *move, hv_error **error) {
    const hvi_doctor_scope scope = {
        .shard = move->shard,
        .is_offline = move->row.kind == HVI_MOVE_OFFLINE,
        .only_errors = true,
    };
    hv_status status = check_is_made(move, error);
    if (status == HV_OK)
        status = hvi_doctor_check(move->router, &move->from, &move->to, &scope,
                                  move->row.keep_ms > 0, hvi_deadline_after(CHECK_MS), error);
    return status;
}
