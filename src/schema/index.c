/*
 * index: the definition of an index on the tables entities, and its SQL.
 */
#include "schema/index.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/suggest.h"
#include "base/utf8.h"
#include "value/sql_text.h"

/* INDEX_MAX_KEYS, which PostgreSQL is hardly ever built without. */
#define COLUMNS_MAX 32

/* ---- types ---- */

/*
 * PostgreSQL's own conversions of dates and times are not immutable: they read words such as "now",
 * and their result may depend on DateStyle, TimeZone and the names of time zones that the server
 * knows. In these forms of ISO 8601 nothing does.
 */
#define DATE "[0-9]{4}-[0-9]{2}-[0-9]{2}"
#define TIME "[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?"
#define ZONE "(Z|[+-][0-9]{2}(:?[0-9]{2})?)"

#define READ_IF(PATTERN, TYPE, FORM)                                                       \
    "BEGIN\n"                                                                              \
    "    /* hypervault: made for an index */\n"                                            \
    "    IF value OPERATOR(pg_catalog.~) '^" PATTERN "$'::pg_catalog.text THEN\n"          \
    "        RETURN pg_catalog.regexp_replace(value, 'Z$', '+00')::pg_catalog." TYPE ";\n" \
    "    END IF;\n"                                                                        \
    "    RAISE EXCEPTION 'not a " TYPE " in the form of ISO 8601: \"%\"',\n"               \
    "        pg_catalog.left(value, 100)\n"                                                \
    "        USING ERRCODE = '22007', HINT = 'The form is " FORM ".';\n"                   \
    "END"

static const hvi_index_function functions[] = {
    {"iso_date", "date", READ_IF(DATE, "date", "2001-02-03")},
    {"iso_timestamp", "timestamp", READ_IF(DATE TIME, "timestamp", "2001-02-03T04:05:06.789")},
    {"iso_timestamptz", "timestamptz",
     READ_IF(DATE TIME ZONE, "timestamptz", "2001-02-03T04:05:06.789Z, or with +01:00")},
};

typedef struct hvi_index_type {
    const char *name;                   /* as the caller and PostgreSQL call it */
    const char *cast;                   /* to it, in SQL; NULL: none, or a function */
    const hvi_index_function *function; /* NULL: none */
} hvi_index_type;

static const hvi_index_type types[] = {
    {"text", NULL, NULL},
    {"smallint", "smallint", NULL},
    {"integer", "integer", NULL},
    {"bigint", "bigint", NULL},
    {"numeric", "numeric", NULL},
    {"real", "real", NULL},
    {"double precision", "double precision", NULL},
    {"boolean", "boolean", NULL},
    {"uuid", "pg_catalog.uuid", NULL},
    {"date", NULL, &functions[0]},
    {"timestamp", NULL, &functions[1]},
    {"timestamptz", NULL, &functions[2]},
};

#define TYPE_COUNT (sizeof types / sizeof *types)

/* Other names that PostgreSQL has for them. */
static const struct {
    const char *name, *type;
} aliases[] = {
    {"int2", "smallint"},
    {"int", "integer"},
    {"int4", "integer"},
    {"int8", "bigint"},
    {"decimal", "numeric"},
    {"float4", "real"},
    {"float", "double precision"},
    {"float8", "double precision"},
    {"bool", "boolean"},
    {"timestamp without time zone", "timestamp"},
    {"timestamp with time zone", "timestamptz"},
};

static const hvi_index_type *find_type(const char *name, hv_error **error) {
    hvi_suggestion nearest;
    if (name == NULL)
        return &types[0];
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcmp(aliases[i].name, name) == 0)
            return find_type(aliases[i].type, error);
    hvi_suggestion_init(&nearest, name);
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
        hvi_suggestion_offer(&nearest, types[i].name);
    }
    hvi_fail(error, HV_INVALID, "no index is made of values of type \"%s\"",
             hvi_utf8_excerpt(name, strlen(name)).text);
    hvi_error_detail(error, "The types are text, smallint, integer, bigint, numeric, real, double "
                            "precision, boolean, uuid, date, timestamp and timestamptz.");
    if (nearest.best != NULL)
        hvi_error_hint(error, "Did you mean \"%s\"?", nearest.best);
    return NULL;
}

/* ---- the definition ---- */

hv_index *hv_index_new(void) {
    return calloc(1, sizeof(hv_index));
}

void hv_index_free(hv_index *index) {
    if (index == NULL)
        return;
    for (size_t i = 0; i < index->column_count; i++)
        free(index->columns[i].name);
    free(index->columns);
    free(index->name);
    hvi_buffer_fini(&index->answers);
    free(index);
}

/* An attribute whose name and type are known to be right. */
static hv_status add_column(hv_index *index, const char *name, const hvi_index_type *type,
                            hv_error **error) {
    struct hvi_index_column *columns =
        realloc(index->columns, (index->column_count + 1) * sizeof *columns);
    if (columns == NULL)
        return hvi_no_memory(error);
    index->columns = columns;
    char *copy = strdup(name);
    if (copy == NULL)
        return hvi_no_memory(error);
    columns[index->column_count++] = (struct hvi_index_column){copy, type};
    return HV_OK;
}

hv_status hv_index_attribute(hv_index *index, const char *name, const char *type,
                             hv_error **error) {
    size_t len = strlen(name);
    if (hvi_utf8_prefix(name, len) != len)
        return hvi_fail(error, HV_INVALID, "the name of attribute \"%s\" is not valid UTF-8",
                        hvi_utf8_excerpt(name, len).text);
    const hvi_index_type *found = find_type(type, error);
    if (found == NULL)
        return HV_INVALID;
    for (size_t i = 0; i < index->column_count; i++)
        if (strcmp(index->columns[i].name, name) == 0 && index->columns[i].type == found)
            return hvi_fail(error, HV_INVALID, "the attribute \"%s\" is in the index twice",
                            hvi_utf8_excerpt(name, len).text);
    return add_column(index, name, found, error);
}

void hv_index_all(hv_index *index) {
    index->is_all = true;
}

void hv_index_kind(hv_index *index, int16_t kind) {
    index->has_kind = true;
    index->kind = kind;
}

void hv_index_unique(hv_index *index) {
    index->is_unique = true;
}

hv_status hvi_index_check_name(const char *name, hv_error **error) {
    size_t len = strlen(name);
    if (hvi_utf8_prefix(name, len) != len)
        return hvi_fail(error, HV_INVALID, "the name of the index, \"%s\", is not valid UTF-8",
                        hvi_utf8_excerpt(name, len).text);
    if (len > 0 && len < HVI_INDEX_NAME_LEN)
        return HV_OK;
    hvi_fail(error, HV_INVALID, "the name of the index, \"%s\", is too %s",
             hvi_utf8_excerpt(name, len).text, len == 0 ? "short" : "long");
    hvi_error_detail(error, "It has %zu bytes; it must have 1 to %d.", len, HVI_INDEX_NAME_LEN - 1);
    return HV_INVALID;
}

hv_status hv_index_name(hv_index *index, const char *name, hv_error **error) {
    hv_status status = hvi_index_check_name(name, error);
    if (status != HV_OK)
        return status;
    char *copy = strdup(name);
    if (copy == NULL)
        return hvi_no_memory(error);
    free(index->name);
    index->name = copy;
    return HV_OK;
}

hv_index *hvi_index_copy(const hv_index *index) {
    hv_index *copy = hv_index_new();
    hv_status status = copy != NULL ? HV_OK : HV_NO_MEMORY;
    for (size_t i = 0; status == HV_OK && i < index->column_count; i++)
        status = add_column(copy, index->columns[i].name, index->columns[i].type, NULL);
    if (status == HV_OK && index->name != NULL)
        status = hv_index_name(copy, index->name, NULL);
    if (status != HV_OK) {
        hv_index_free(copy);
        return NULL;
    }
    copy->is_all = index->is_all;
    copy->is_unique = index->is_unique;
    copy->has_kind = index->has_kind;
    copy->kind = index->kind;
    return copy;
}

hv_status hvi_index_check(const hv_index *index, hv_error **error) {
    size_t max = index->is_unique ? COLUMNS_MAX : COLUMNS_MAX - 1; /* the key is one, too */
    if (index->is_all && index->column_count > 0)
        return hvi_fail(error, HV_INVALID, "an index is on all attributes or on some, not on both");
    if (index->is_all && index->is_unique)
        return hvi_fail(error, HV_INVALID, "an index on all attributes cannot be unique");
    if (!index->is_all && index->column_count == 0)
        return hvi_fail(error, HV_INVALID, "the index is on nothing: name an attribute");
    if (index->column_count > max)
        return hvi_fail(error, HV_INVALID, "the index is on %zu attributes, more than %zu",
                        index->column_count, max);
    return HV_OK;
}

/* ---- its name ---- */

/* Append a part of the name. False if something of it is lost, so that another attribute could make
 * the same part. That "a_b" looks like "a" and "b" is left: such names are easy to read. */
static bool append_part(hvi_buffer *name, const char *text) {
    bool is_whole = *text != '\0';
    hvi_buffer_append_byte(name, '_');
    for (; *text != '\0'; text++) {
        bool is_plain =
            (*text >= 'a' && *text <= 'z') || (*text >= '0' && *text <= '9') || *text == '_';
        hvi_buffer_append_byte(name, is_plain ? *text : '_');
        is_whole = is_whole && is_plain;
    }
    return is_whole;
}

/* Append what the name says of the definition: "entities_user_bigint_of_2". False as above. */
static bool append_gist(hvi_buffer *name, const hv_index *index) {
    bool is_whole = true;
    hvi_buffer_append_text(name, "entities");
    if (index->is_all)
        append_part(name, "all");
    for (size_t i = 0; i < index->column_count; i++) {
        const struct hvi_index_column *column = &index->columns[i];
        is_whole = append_part(name, column->name) && is_whole;
        if (column->type != &types[0])
            append_part(name, column->type->name);
    }
    if (index->has_kind)
        hvi_buffer_append_format(name, "_of_%s%d", index->kind < 0 ? "minus_" : "",
                                 abs(index->kind));
    return is_whole;
}

const char *hv_index_chosen_name(hv_index *index) {
    const char *end = index->is_unique ? "_key" : "_idx";
    if (index->name != NULL)
        return index->name;
    if (!index->is_all && index->column_count == 0)
        return NULL;
    hvi_buffer gist = HVI_BUFFER_EMPTY, exact = HVI_BUFFER_EMPTY;
    bool is_whole = append_gist(&gist, index);
    hvi_index_columns_sql(&exact, index, "public");
    hvi_index_condition_sql(&exact, index);
    const char *name = NULL;
    if (hvi_buffer_ok(&gist) && hvi_buffer_ok(&exact)) {
        name = index->chosen;
        if (is_whole && gist.len + strlen(end) < sizeof index->chosen)
            snprintf(index->chosen, sizeof index->chosen, "%s%s", gist.data, end);
        else /* with a hash, since others may look like it */
            snprintf(index->chosen, sizeof index->chosen, "%.49s_%08" PRIx32 "%s", gist.data,
                     (uint32_t) hvi_hash_fnv1a(exact.data, exact.len), end);
    }
    hvi_buffer_fini(&gist);
    hvi_buffer_fini(&exact);
    return name;
}

/* ---- SQL ---- */

/* "(body OPERATOR(public.->) 'user'::pg_catalog.text)", and its type's cast or function. */
void hvi_index_column_sql(hvi_buffer *sql, const hv_index *index, size_t column,
                          const char *hstore) {
    const char *name = index->columns[column].name;
    const hvi_index_type *type = index->columns[column].type;
    if (type->function != NULL)
        hvi_buffer_append_format(sql, "hypervault.%s(", type->function->name);
    else if (type->cast != NULL)
        hvi_buffer_append_byte(sql, '(');
    hvi_buffer_append_format(sql, "(body OPERATOR(%s.->) ", hstore);
    hvi_sql_text(sql, name, strlen(name));
    hvi_buffer_append_byte(sql, ')');
    if (type->cast != NULL)
        hvi_buffer_append_format(sql, "::%s", type->cast);
    if (type->function != NULL || type->cast != NULL)
        hvi_buffer_append_byte(sql, ')');
}

void hvi_index_columns_sql(hvi_buffer *sql, const hv_index *index, const char *hstore) {
    if (index->is_all)
        hvi_buffer_append_text(sql, "body");
    for (size_t i = 0; i < index->column_count; i++) {
        hvi_buffer_append_text(sql, i > 0 ? ", " : "");
        hvi_index_column_sql(sql, index, i, hstore);
    }
}

void hvi_index_condition_sql(hvi_buffer *sql, const hv_index *index) {
    if (index->has_kind)
        hvi_buffer_append_format(sql, "type OPERATOR(pg_catalog.=) '%d'::smallint", index->kind);
    else
        hvi_buffer_append_text(sql, "true");
}

const char *hv_index_expression(hv_index *index, const char *hstore_schema) {
    hvi_buffer_reset(&index->answers);
    hvi_index_columns_sql(&index->answers, index, hstore_schema != NULL ? hstore_schema : "public");
    return hvi_buffer_ok(&index->answers) && index->answers.len > 0 ? index->answers.data : NULL;
}

void hvi_index_create_sql(hvi_buffer *sql, hv_index *index, const char *schema,
                          const char *hstore) {
    const char *name = hv_index_chosen_name(index);
    if (name == NULL) {
        hvi_buffer_break(sql);
        return;
    }
    hvi_buffer_append_format(sql, "CREATE %sINDEX CONCURRENTLY ",
                             index->is_unique ? "UNIQUE " : "");
    hvi_sql_name(sql, name);
    hvi_buffer_append_format(sql, " ON %s.entities USING %s (", schema,
                             index->is_all ? "gin" : "btree");
    hvi_index_columns_sql(sql, index, hstore);
    hvi_buffer_append_text(sql, index->is_all || index->is_unique ? ")" : ", id)");
    if (index->has_kind) {
        hvi_buffer_append_text(sql, " WHERE ");
        hvi_index_condition_sql(sql, index);
    }
}

/* ---- as the server prints it ---- */

/* "'it''s'::text": with standard_conforming_strings on, a backslash is a letter. */
static void print_literal(hvi_buffer *text, const char *value) {
    hvi_buffer_append_byte(text, '\'');
    for (; *value != '\0'; value++) {
        if (*value == '\'')
            hvi_buffer_append_byte(text, '\'');
        hvi_buffer_append_byte(text, *value);
    }
    hvi_buffer_append_text(text, "'::text");
}

static void print_column(hvi_buffer *text, const struct hvi_index_column *column,
                         const char *hstore) {
    const hvi_index_type *type = column->type;
    if (type->function != NULL)
        hvi_buffer_append_format(text, "hypervault.%s(", type->function->name);
    else
        hvi_buffer_append_text(text, type->cast != NULL ? "((" : "(");
    if (strcmp(hstore, "pg_catalog") == 0)
        hvi_buffer_append_text(text, "(body -> ");
    else
        hvi_buffer_append_format(text, "(body OPERATOR(%s.->) ", hstore);
    print_literal(text, column->name);
    hvi_buffer_append_byte(text, ')');
    if (type->cast != NULL)
        hvi_buffer_append_format(text, ")::%s", type->name);
    hvi_buffer_append_byte(text, ')');
}

void hvi_index_definition(hvi_buffer *text, const hv_index *index, const char *name,
                          const char *schema, const char *hstore) {
    hvi_buffer_append_format(text, "CREATE %sINDEX %s ON %s.entities USING %s (",
                             index->is_unique ? "UNIQUE " : "", name, schema,
                             index->is_all ? "gin" : "btree");
    if (index->is_all)
        hvi_buffer_append_text(text, "body");
    for (size_t i = 0; i < index->column_count; i++) {
        hvi_buffer_append_text(text, i > 0 ? ", " : "");
        print_column(text, &index->columns[i], hstore);
    }
    hvi_buffer_append_text(text, index->is_all || index->is_unique ? ")" : ", id)");
    if (index->has_kind)
        hvi_buffer_append_format(text, "%s(type = '%d'::smallint)", " WHERE ", index->kind);
}

/* ---- its functions ---- */

const hvi_index_function *hvi_index_function_at(const hv_index *index, size_t place) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        bool is_called = false;
        for (size_t j = 0; j < index->column_count; j++)
            is_called = is_called || index->columns[j].type->function == &functions[i];
        if (is_called && place-- == 0)
            return &functions[i];
    }
    return NULL;
}

void hvi_index_function_sql(hvi_buffer *sql, const hvi_index_function *function) {
    hvi_buffer_append_format(sql,
                             "CREATE FUNCTION hypervault.%s(value pg_catalog.text)"
                             " RETURNS pg_catalog.%s LANGUAGE plpgsql"
                             " IMMUTABLE STRICT PARALLEL SAFE"
                             " SET search_path TO pg_catalog, pg_temp"
                             " SET TimeZone TO 'UTC' SET DateStyle TO 'ISO, YMD'"
                             " AS $body$%s$body$",
                             function->name, function->returns, function->body);
}
