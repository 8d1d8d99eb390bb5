/*
 * remains: remove what a move has made, whatever of it is there.
 *
 * Of a stream, the subscription goes first, or it would take the slot again; then the slot, then
 * the roots. Copies go last: only then is nothing attached to them.
 */
#include "move/remains.h"

#include "base/clock.h"
#include "move/hook.h"
#include "move/schema_copy.h"

#define DROP_MS 300000

static hv_status remove_stream(hvi_move *move, const hvi_stream *stream, hv_error **error) {
    hv_status status = HV_OK;
    if (stream->subscriber != NULL)
        status = hvi_stream_unsubscribe(stream, hvi_link_deadline(), error);
    hvi_move_reach("remains: unsubscribed");
    if (status == HV_OK && stream->publisher != NULL)
        status = hvi_stream_drop_slot(stream, hvi_link_deadline(), error);
    /* Nobody else can say which slots of tables were a subscription's that cannot be asked. */
    if (status == HV_OK && stream->publisher != NULL && stream->subscriber == NULL &&
        move->row.system[0] != '\0')
        status = hvi_stream_drop_table_slots(stream, move->row.system, hvi_link_deadline(), error);
    hvi_move_reach("remains: no slot");
    if (status == HV_OK && stream->publisher != NULL)
        status = hvi_stream_unpublish(stream, hvi_link_deadline(), error);
    return status;
}

/* The two streams as they were begun, whichever way is being gone. */
static void both_streams(hvi_move *move, hvi_stream *there, hvi_stream *back) {
    hvi_stream one = hvi_move_stream(move), other = hvi_move_stream_back(move);
    *there = move->is_back ? other : one;
    *back = move->is_back ? one : other;
}

hv_status hvi_remains_remove_stream(hvi_move *move, hv_error **error) {
    hvi_stream stream = hvi_move_stream(move);
    return remove_stream(move, &stream, error);
}

hv_status hvi_remains_remove(hvi_move *move, hv_error **error) {
    hvi_stream there, back;
    both_streams(move, &there, &back);
    hv_status status = remove_stream(move, &back, error);
    if (status == HV_OK)
        status = remove_stream(move, &there, error);
    hvi_move_reach("remains: no streams");
    /* On the subscriber of each, the schema of its name is the copy, unless that has been
     * published, when it is not there any more. */
    if (status == HV_OK && there.subscriber != NULL)
        status =
            hvi_schema_copy_drop(there.subscriber, there.name, hvi_deadline_after(DROP_MS), error);
    if (status == HV_OK && back.subscriber != NULL)
        status =
            hvi_schema_copy_drop(back.subscriber, back.name, hvi_deadline_after(DROP_MS), error);
    return status;
}
