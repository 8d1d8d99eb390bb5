/*
 * where: a selection as SQL.
 */
#include "entity/where.h"

#include "value/sql_text.h"

/* ---- text ---- */

/* "(body OPERATOR(public.->) 'user'::text)" */
static void append_operation(hvi_buffer *sql, const char *schema, const char *operation,
                             const char *name, size_t len) {
    hvi_buffer_append_format(sql, "(body OPERATOR(%s.%s) ", schema, operation);
    hvi_sql_text(sql, name, len);
    hvi_buffer_append_byte(sql, ')');
}

static void append_choice(hvi_buffer *sql, const hvi_choice *choice, const char *schema,
                          int *parameter) {
    size_t len, count = hv_dict_count(choice->values);
    const char *name = hvi_choice_name(choice, &len);
    hvi_buffer_append_text(sql, count > 0 && choice->or_null ? " AND (" : " AND ");
    if (count > 0) {
        append_operation(sql, schema, "->", name, len);
        hvi_buffer_append_format(sql,
                                 count > 1 ? " OPERATOR(pg_catalog.=) ANY ($%d::pg_catalog.text[])"
                                           : " OPERATOR(pg_catalog.=) $%d::pg_catalog.text",
                                 ++*parameter);
    }
    if (!choice->or_null)
        return;
    hvi_buffer_append_text(sql, count > 0 ? " OR " : "");
    append_operation(sql, schema, "?", name, len);
    hvi_buffer_append_text(sql, " AND ");
    append_operation(sql, schema, "->", name, len);
    hvi_buffer_append_text(sql, count > 0 ? " IS NULL)" : " IS NULL");
}

static bool has_lower(hvi_key_range range) {
    return range.first > 1;
}

static bool has_upper(hvi_key_range range) {
    return range.last < INT64_MAX;
}

/* Is the kind in the text? */
static bool has_literal_kind(const hv_selection *selection) {
    return selection->kind_count == 1 && hvi_selection_has_attributes(selection);
}

static bool has_kind_parameter(const hv_selection *selection) {
    return selection->kind_count > 0 && !has_literal_kind(selection);
}

void hvi_where_kinds_sql(hvi_buffer *sql, const hv_selection *selection, const char *column,
                         int parameter) {
    hvi_buffer_append_format(sql,
                             selection->kind_count > 1
                                 ? "%s OPERATOR(pg_catalog.=) ANY ($%d::smallint[])"
                                 : "%s OPERATOR(pg_catalog.=) $%d::smallint",
                             column, parameter);
}

void hvi_where_sql(hvi_buffer *sql, const hv_selection *selection, hvi_key_range range,
                   const char *hstore_schema) {
    int parameter = 0;
    const char *name;
    size_t len;
    hvi_buffer_append_text(sql, "true");
    if (has_lower(range))
        hvi_buffer_append_format(sql, " AND id OPERATOR(pg_catalog.>=) $%d::bigint", ++parameter);
    if (has_upper(range))
        hvi_buffer_append_format(sql, " AND id OPERATOR(pg_catalog.<=) $%d::bigint", ++parameter);
    if (has_literal_kind(selection)) {
        hvi_buffer_append_format(sql, " AND type OPERATOR(pg_catalog.=) '%d'::smallint",
                                 selection->kinds[0]);
    } else if (has_kind_parameter(selection)) {
        hvi_buffer_append_text(sql, " AND ");
        hvi_where_kinds_sql(sql, selection, "type", ++parameter);
    }
    for (size_t i = 0; i < selection->choice_count; i++)
        append_choice(sql, &selection->choices[i], hstore_schema, &parameter);
    if (hv_dict_count(selection->has) > 0)
        hvi_buffer_append_format(sql, " AND body OPERATOR(%s.@>) $%d::%s.hstore", hstore_schema,
                                 ++parameter, hstore_schema);
    for (size_t i = 0; hv_dict_at(selection->exists, i, &name, &len, NULL, NULL); i++) {
        hvi_buffer_append_text(sql, " AND ");
        append_operation(sql, hstore_schema, "?", name, len);
    }
    /* A body that is NULL, in a table that allows it, has no attributes. */
    for (size_t i = 0; hv_dict_at(selection->lacks, i, &name, &len, NULL, NULL); i++) {
        hvi_buffer_append_text(sql, " AND ");
        append_operation(sql, hstore_schema, "?", name, len);
        hvi_buffer_append_text(sql, " IS NOT TRUE");
    }
}

/* ---- parameters ---- */

int hvi_where_parameter_count(const hv_selection *selection, hvi_key_range range) {
    int count = has_lower(range) + has_upper(range) + has_kind_parameter(selection) +
                (hv_dict_count(selection->has) > 0);
    for (size_t i = 0; i < selection->choice_count; i++)
        count += hv_dict_count(selection->choices[i].values) > 0;
    return count;
}

void hvi_where_parameters(hvi_parameters *parameters, const hv_selection *selection,
                          hvi_key_range range) {
    if (has_lower(range))
        hvi_parameters_int8(parameters, range.first);
    if (has_upper(range))
        hvi_parameters_int8(parameters, range.last);
    if (has_kind_parameter(selection) && selection->kind_count > 1)
        hvi_parameters_int2_array(parameters, selection->kinds, selection->kind_count);
    else if (has_kind_parameter(selection))
        hvi_parameters_int2(parameters, selection->kinds[0]);
    for (size_t i = 0; i < selection->choice_count; i++) {
        const hv_dict *values = selection->choices[i].values;
        const char *value;
        size_t len;
        if (hv_dict_count(values) > 1)
            hvi_parameters_text_array(parameters, values);
        else if (hv_dict_at(values, 0, &value, &len, NULL, NULL))
            hvi_parameters_text(parameters, value, len);
    }
    if (hv_dict_count(selection->has) > 0)
        hvi_parameters_hstore(parameters, selection->has);
}
