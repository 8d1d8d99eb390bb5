/*
 * result: read binary columns of a result.
 */
#include "result.h"

#include <endian.h>
#include <string.h>

bool hvi_read_int8(const PGresult *result, int row, int column, int64_t *value) {
    uint64_t wire;
    if (PQgetisnull(result, row, column) || PQgetlength(result, row, column) != sizeof wire)
        return false;
    memcpy(&wire, PQgetvalue(result, row, column), sizeof wire);
    *value = (int64_t) be64toh(wire);
    return true;
}

bool hvi_read_int2(const PGresult *result, int row, int column, int *value) {
    uint16_t wire;
    if (PQgetisnull(result, row, column) || PQgetlength(result, row, column) != sizeof wire)
        return false;
    memcpy(&wire, PQgetvalue(result, row, column), sizeof wire);
    *value = (int16_t) be16toh(wire);
    return true;
}
