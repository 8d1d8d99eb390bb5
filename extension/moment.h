/*
 * moment: PostgreSQL's timestamps and milliseconds since 1970.
 */
#ifndef HVI_MOMENT_H
#define HVI_MOMENT_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Milliseconds from 1970-01-01 to 2000-01-01, where PostgreSQL's timestamps begin. */
#define HVI_POSTGRES_EPOCH INT64CONST(946684800000)

/* Milliseconds since 1970, rounded down. */
static inline int64 hvi_moment_floor(TimestampTz timestamp) {
    int64 milliseconds = timestamp / 1000;
    if (timestamp % 1000 < 0)
        milliseconds--;
    return milliseconds + HVI_POSTGRES_EPOCH;
}

/* The same rounded up. */
static inline int64 hvi_moment_ceiling(TimestampTz timestamp) {
    return hvi_moment_floor(timestamp) + (timestamp % 1000 != 0);
}

#endif
