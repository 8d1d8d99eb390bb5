/*
 * verify_sides: what is compared, and by which stream the two sides are connected.
 */
#ifndef HVI_VERIFY_SIDES_H
#define HVI_VERIFY_SIDES_H

#include "wire/session.h"

/* The stream between the two servers. `mark` sends a marker after all that the source has committed
 * and sets *number; `arrived` asks whether the target has it. Neither waits for the stream. */
typedef struct hvi_verify_marker {
    hv_status (*mark)(void *context, int64_t deadline, int64_t *number, hv_error **error);
    hv_status (*arrived)(void *context, int64_t number, int64_t deadline, bool *arrived,
                         hv_error **error);
    void *context;
} hvi_verify_marker;

/* What is compared. All is borrowed, and must stay until hvi_verify_free(). */
typedef struct hvi_verify_sides {
    int shard;
    hvi_session *source, *target; /* at rest, and for nobody else, between the calls of steps */
    const char *source_name, *target_name; /* of the servers, for errors */
    const char *source_schema;             /* the live one: "shard0012" */
    const char *target_schema;             /* that of the copy */
    hvi_verify_marker marker;
} hvi_verify_sides;

typedef struct hvi_verify hvi_verify;

#endif
