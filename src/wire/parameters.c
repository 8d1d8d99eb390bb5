/*
 * parameters: any number of parameters of a statement, in binary form.
 */
#include "wire/parameters.h"

#include <endian.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "value/hstore.h"
#include "value/hstore_text.h"

/* pg_type.dat */
#define INT2_OID 21
#define TEXT_OID 25

/* What the protocol allows in a statement. */
#define COUNT_MAX 65535

typedef struct end {
    size_t bytes;
    size_t texts;
} end;

void hvi_parameters_fini(hvi_parameters *parameters) {
    hvi_buffer_fini(&parameters->bytes);
    hvi_buffer_fini(&parameters->texts);
    hvi_buffer_fini(&parameters->ends);
    hvi_buffer_fini(&parameters->bound);
    parameters->count = 0;
}

void hvi_parameters_reset(hvi_parameters *parameters) {
    hvi_buffer_reset(&parameters->bytes);
    hvi_buffer_reset(&parameters->texts);
    hvi_buffer_reset(&parameters->ends);
    hvi_buffer_reset(&parameters->bound);
    parameters->count = 0;
}

/* After its value and its readable form were appended. */
static void end_one(hvi_parameters *parameters) {
    if (parameters->log)
        hvi_buffer_append_byte(&parameters->texts, '\0');
    const end ends = {parameters->bytes.len, parameters->texts.len};
    hvi_buffer_append(&parameters->ends, &ends, sizeof ends);
    if (parameters->count < INT_MAX)
        parameters->count++;
}

/* ---- numbers ---- */

void hvi_parameters_int8(hvi_parameters *parameters, int64_t value) {
    const uint64_t wire = htobe64((uint64_t) value);
    hvi_buffer_append(&parameters->bytes, &wire, sizeof wire);
    if (parameters->log)
        hvi_buffer_append_format(&parameters->texts, "%" PRId64, value);
    end_one(parameters);
}

static void append_int2(hvi_buffer *to, int16_t value) {
    const uint16_t wire = htobe16((uint16_t) value);
    hvi_buffer_append(to, &wire, sizeof wire);
}

void hvi_parameters_int2(hvi_parameters *parameters, int16_t value) {
    append_int2(&parameters->bytes, value);
    if (parameters->log)
        hvi_buffer_append_format(&parameters->texts, "%d", value);
    end_one(parameters);
}

/* The head of a one-dimensional array without NULLs (array_recv in arrayfuncs.c). */
static void begin_array(hvi_buffer *to, uint32_t type, size_t count) {
    hvi_buffer_append_be32(to, count > 0); /* dimensions */
    hvi_buffer_append_be32(to, 0);         /* no NULLs */
    hvi_buffer_append_be32(to, type);
    if (count == 0)
        return;
    hvi_buffer_append_be32(to, (uint32_t) count);
    hvi_buffer_append_be32(to, 1); /* the first index */
}

void hvi_parameters_int2_array(hvi_parameters *parameters, const int16_t *values, size_t count) {
    begin_array(&parameters->bytes, INT2_OID, count);
    for (size_t i = 0; i < count; i++) {
        hvi_buffer_append_be32(&parameters->bytes, sizeof values[i]);
        append_int2(&parameters->bytes, values[i]);
        if (parameters->log)
            hvi_buffer_append_format(&parameters->texts, "%s%d", i == 0 ? "{" : ",", values[i]);
    }
    if (parameters->log)
        hvi_buffer_append_text(&parameters->texts, count > 0 ? "}" : "{}");
    end_one(parameters);
}

/* ---- texts ---- */

void hvi_parameters_text(hvi_parameters *parameters, const char *text, size_t len) {
    hvi_buffer_append(&parameters->bytes, text, len);
    if (parameters->log)
        hvi_buffer_append(&parameters->texts, text, len);
    end_one(parameters);
}

/* An element of an array as array_out() quotes it. */
static void append_quoted(hvi_buffer *to, const char *text, size_t len) {
    hvi_buffer_append_byte(to, '"');
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"' || text[i] == '\\')
            hvi_buffer_append_byte(to, '\\');
        hvi_buffer_append_byte(to, text[i]);
    }
    hvi_buffer_append_byte(to, '"');
}

void hvi_parameters_text_array(hvi_parameters *parameters, const hv_dict *names) {
    const char *name;
    size_t len;
    begin_array(&parameters->bytes, TEXT_OID, hv_dict_count(names));
    if (parameters->log)
        hvi_buffer_append_byte(&parameters->texts, '{');
    for (size_t i = 0; hv_dict_at(names, i, &name, &len, NULL, NULL); i++) {
        hvi_buffer_append_be32(&parameters->bytes, (uint32_t) len);
        hvi_buffer_append(&parameters->bytes, name, len);
        if (parameters->log && i > 0)
            hvi_buffer_append_byte(&parameters->texts, ',');
        if (parameters->log)
            append_quoted(&parameters->texts, name, len);
    }
    if (parameters->log)
        hvi_buffer_append_byte(&parameters->texts, '}');
    end_one(parameters);
}

void hvi_parameters_hstore(hvi_parameters *parameters, const hv_dict *dict) {
    hvi_hstore_encode(dict, &parameters->bytes);
    if (parameters->log)
        hvi_hstore_print(dict, &parameters->texts);
    end_one(parameters);
}

/* ---- use ---- */

/* The query's arrays, one after the other; pointers first, so that all are aligned. */
bool hvi_parameters_bind(hvi_parameters *parameters, hvi_query *query) {
    size_t count = (size_t) parameters->count;
    size_t pointers = count * sizeof(const char *), numbers = count * sizeof(int);
    if (!hvi_buffer_ok(&parameters->bytes) || !hvi_buffer_ok(&parameters->texts) ||
        !hvi_buffer_ok(&parameters->ends) || count > COUNT_MAX || parameters->bytes.len > INT_MAX)
        return false;
    hvi_buffer_reset(&parameters->bound);
    if (!hvi_buffer_reserve(&parameters->bound, 2 * (pointers + numbers) + 1))
        return false;
    char *at = parameters->bound.data;
    const char **values = (const char **) (void *) at;
    const char **texts = (const char **) (void *) (at + pointers);
    int *lengths = (int *) (void *) (at + 2 * pointers);
    int *formats = (int *) (void *) (at + 2 * pointers + numbers);
    end begin = {0, 0};
    for (size_t i = 0; i < count; i++) {
        end ends;
        memcpy(&ends, parameters->ends.data + i * sizeof ends, sizeof ends);
        /* An empty value is not NULL. */
        values[i] = ends.bytes > begin.bytes ? parameters->bytes.data + begin.bytes : "";
        lengths[i] = (int) (ends.bytes - begin.bytes);
        formats[i] = 1;
        texts[i] = parameters->log ? parameters->texts.data + begin.texts : NULL;
        begin = ends;
    }
    query->parameter_count = parameters->count;
    query->types = NULL;
    query->values = values;
    query->lengths = lengths;
    query->formats = formats;
    query->log_values = parameters->log ? texts : NULL;
    return true;
}
