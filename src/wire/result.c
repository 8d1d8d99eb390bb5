/*
 * result: check a server's answer, and read its values.
 */
#include "wire/result.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "value/generator.h"
#include "value/hstore.h"
#include "value/hstore_text.h"
#include "value/shard_map.h"

/* pg_type.dat */
#define BOOL_OID 16
#define INT8_OID 20
#define INT2_OID 21
#define INT4_OID 23
#define TEXT_OID 25
#define OID_OID  26

/* The range of a numeric column, and the type of its binary form. */
typedef struct hvi_range {
    const char *name;
    int64_t least;
    int64_t greatest;
    Oid type;
} hvi_range;

static const hvi_range ranges[] = {
    [HVI_IS_INT2] = {"a smallint", INT16_MIN, INT16_MAX, INT2_OID},
    [HVI_IS_INT4] = {"an integer", INT32_MIN, INT32_MAX, INT4_OID},
    [HVI_IS_INT8] = {"a bigint", INT64_MIN, INT64_MAX, INT8_OID},
    [HVI_IS_COUNT] = {"a count", 0, INT64_MAX, INT8_OID},
    [HVI_IS_SHARD] = {"the number of a shard", 0, HV_SHARDS - 1, INT4_OID},
    [HVI_IS_OID] = {"an OID", 0, UINT32_MAX, OID_OID},
    [HVI_IS_KEYS] = {"a kind of keys", HVI_GENERATOR_NONE, HVI_GENERATOR_STRICT, INT4_OID},
};

/* ---- the error ---- */

hv_status hvi_fail_answer(const char *server, int shard, const char *asked, hv_error **error,
                          const char *sent, ...) {
    char what[256];
    va_list arguments;
    va_start(arguments, sent);
    vsnprintf(what, sizeof what, sent, arguments);
    va_end(arguments);
    hvi_fail(error, HV_CORRUPT, "unexpected answer from server \"%s\"", server);
    hvi_error_detail(error, "Asked for %s, it %s.", asked, what);
    hvi_error_hint(error, "Check that the server is PostgreSQL, that its tables are as `hv init` "
                          "makes them, and that no proxy in between mixes up answers.");
    hvi_error_where(error, server, shard);
    return HV_CORRUPT;
}

/* ---- reading ---- */

static int64_t read_binary(const char *bytes, int len, Oid type) {
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (len) {
    case sizeof two:
        memcpy(&two, bytes, sizeof two);
        return (int16_t) be16toh(two);
    case sizeof four:
        memcpy(&four, bytes, sizeof four);
        four = be32toh(four);
        return type == OID_OID ? (int64_t) four : (int32_t) four;
    case sizeof eight:
        memcpy(&eight, bytes, sizeof eight);
        return (int64_t) be64toh(eight);
    default:
        return 0;
    }
}

/* Read a whole number as the server writes it. False if there is anything else. */
static bool read_text(const char *text, int len, int64_t *value) {
    char *end;
    size_t digits = text[0] == '-' ? 1 : 0;
    if (text[digits] < '0' || text[digits] > '9')
        return false;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return errno == 0 && end == text + len;
}

int64_t hvi_integer_at(const PGresult *result, int row, int column) {
    int64_t value = 0;
    if (PQgetisnull(result, row, column))
        return 0;
    const char *bytes = PQgetvalue(result, row, column);
    int len = PQgetlength(result, row, column);
    if (PQfformat(result, column) == 1)
        return read_binary(bytes, len, PQftype(result, column));
    return read_text(bytes, len, &value) ? value : 0;
}

bool hvi_bool_at(const PGresult *result, int row, int column) {
    if (PQgetisnull(result, row, column))
        return false;
    char is = PQgetvalue(result, row, column)[0];
    return is == (PQfformat(result, column) == 1 ? '\1' : 't');
}

hv_status hvi_body_at(const PGresult *result, int row, int column, hv_dict **dict,
                      hv_error **error) {
    const char *bytes = PQgetvalue(result, row, column);
    size_t len = (size_t) PQgetlength(result, row, column);
    /* If the query asked for the text form, the column belongs to no table. */
    bool as_text = PQftype(result, column) == TEXT_OID && PQftable(result, column) == InvalidOid;
    return as_text ? hvi_hstore_decode_text(bytes, len, dict, error)
                   : hvi_hstore_decode(bytes, len, dict, error);
}

const char *hvi_text_at(const PGresult *result, int row, int column) {
    return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

/* ---- checking ---- */

/* Does a value, which is not NULL, fit the column? */
static bool fits(const PGresult *result, int row, int column, int as) {
    if (as == HVI_IS_BYTES)
        return true;
    const char *bytes = PQgetvalue(result, row, column);
    int len = PQgetlength(result, row, column);
    bool binary = PQfformat(result, column) == 1;
    int64_t value = 0;
    if (as == HVI_IS_BOOL)
        return len == 1 && (binary ? bytes[0] == 0 || bytes[0] == 1 : strchr("tf", bytes[0]) != 0);
    if (binary) {
        Oid type = ranges[as].type;
        int needed = type == INT8_OID ? 8 : type == INT2_OID ? 2 : 4;
        if (len != needed)
            return false;
        value = read_binary(bytes, len, type);
    } else if (!read_text(bytes, len, &value)) {
        return false;
    }
    return value >= ranges[as].least && value <= ranges[as].greatest;
}

static const char *name_of(int as) {
    return as == HVI_IS_BYTES ? "a value" : as == HVI_IS_BOOL ? "a boolean" : ranges[as].name;
}

/* Check a value; if it does not fit, `sent` is set to a clause for the error. */
static bool check_value(const PGresult *result, int row, int column, int as, char *sent,
                        size_t size) {
    int what = as & ~HVI_OR_NULL;
    if (PQgetisnull(result, row, column)) {
        if ((as & HVI_OR_NULL) != 0)
            return true;
        snprintf(sent, size, "sent NULL in column %d, not %s", column + 1, name_of(what));
        return false;
    }
    if (fits(result, row, column, what))
        return true;
    const char *bytes = PQgetvalue(result, row, column);
    int len = PQgetlength(result, row, column);
    if (PQfformat(result, column) == 1)
        snprintf(sent, size, "sent %d bytes in column %d that are not %s", len, column + 1,
                 name_of(what));
    else
        snprintf(sent, size, "sent \"%s\" in column %d, not %s",
                 hvi_utf8_excerpt(bytes, (size_t) len).text, column + 1, name_of(what));
    return false;
}

/* Has the column the right format and, in binary form, the right type? */
static bool check_column(const PGresult *result, const hvi_form *form, int column, char *sent,
                         size_t size) {
    int what = form->columns[column] & ~HVI_OR_NULL;
    Oid type = what == HVI_IS_BOOL ? BOOL_OID : what == HVI_IS_BYTES ? 0 : ranges[what].type;
    if (PQfformat(result, column) != form->binary) {
        snprintf(sent, size, "sent column %d in %s form", column + 1,
                 form->binary ? "text" : "binary");
        return false;
    }
    if (form->binary && type != 0 && PQftype(result, column) != type) {
        snprintf(sent, size, "sent the type with OID %u in column %d, not %s",
                 PQftype(result, column), column + 1, name_of(what));
        return false;
    }
    return true;
}

static bool check(const PGresult *result, const hvi_form *form, char *sent, size_t size) {
    int count = (int) strnlen((const char *) form->columns, HVI_COLUMNS_MAX);
    int rows = PQntuples(result);
    bool is_good = true;
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        snprintf(sent, size, "sent no rows: %s", PQresStatus(PQresultStatus(result)));
        return false;
    }
    if (PQnfields(result) != count) {
        snprintf(sent, size, "sent %d columns, not %d", PQnfields(result), count);
        return false;
    }
    if ((form->rows == HVI_ONE_ROW && rows != 1) || (form->rows != HVI_ANY_ROWS && rows > 1)) {
        snprintf(sent, size, "sent %d rows, not %s1", rows,
                 form->rows == HVI_ONE_ROW ? "" : "0 or ");
        return false;
    }
    for (int column = 0; is_good && column < count; column++)
        is_good = check_column(result, form, column, sent, size);
    for (int row = 0; is_good && row < rows; row++)
        for (int column = 0; is_good && column < count; column++)
            is_good = check_value(result, row, column, form->columns[column], sent, size);
    return is_good;
}

hv_status hvi_result_check_command(PGresult *result, const char *asked, const char *server,
                                   int shard, int64_t *affected, hv_error **error) {
    int64_t count = -1;
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        return hvi_fail_answer(server, shard, asked, error, "sent %s",
                               PQresStatus(PQresultStatus(result)));
    const char *text = PQcmdTuples(result);
    if (text[0] != '\0' && (!read_text(text, (int) strlen(text), &count) || count < 0))
        return hvi_fail_answer(server, shard, asked, error, "sent a count of rows that is none");
    if (affected != NULL)
        *affected = count;
    return HV_OK;
}

hv_status hvi_result_check(const PGresult *result, const hvi_form *form, const char *server,
                           int shard, hv_error **error) {
    char sent[256];
    if (check(result, form, sent, sizeof sent))
        return HV_OK;
    return hvi_fail_answer(server, shard, form->asked, error, "%s", sent);
}

/* ---- arrays (array_send in arrayfuncs.c) ---- */

#define ARRAY_HEADER  20
#define ARRAY_EMPTY   12 /* no dimensions */
#define ARRAY_ELEMENT (4 + sizeof(int64_t))

static uint32_t read_be32(const char *bytes) {
    uint32_t wire;
    memcpy(&wire, bytes, sizeof wire);
    return be32toh(wire);
}

bool hvi_array_check(const PGresult *result, int column, size_t *count) {
    const char *bytes = PQgetvalue(result, 0, column);
    size_t len = (size_t) PQgetlength(result, 0, column);
    *count = 0;
    if (len < ARRAY_EMPTY || read_be32(bytes + 4) != 0 || read_be32(bytes + 8) != INT8_OID)
        return false;
    if (read_be32(bytes) == 0)
        return len == ARRAY_EMPTY;
    if (len < ARRAY_HEADER || read_be32(bytes) != 1)
        return false;
    *count = read_be32(bytes + 12);
    if (len != ARRAY_HEADER + *count * ARRAY_ELEMENT)
        return false;
    for (size_t i = 0; i < *count; i++)
        if (read_be32(bytes + ARRAY_HEADER + i * ARRAY_ELEMENT) != sizeof(int64_t))
            return false;
    return true;
}

int64_t hvi_array_at(const PGresult *result, int column, size_t place) {
    uint64_t wire;
    memcpy(&wire, PQgetvalue(result, 0, column) + ARRAY_HEADER + place * ARRAY_ELEMENT + 4,
           sizeof wire);
    return (int64_t) be64toh(wire);
}
