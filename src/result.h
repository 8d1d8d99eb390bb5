/*
 * result: read binary columns of a result.
 */
#ifndef HVI_RESULT_H
#define HVI_RESULT_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

/* A binary int8 or int2; false if it is NULL or something else. */
bool hvi_read_int8(const PGresult *result, int row, int column, int64_t *value);
bool hvi_read_int2(const PGresult *result, int row, int column, int *value);

#endif
