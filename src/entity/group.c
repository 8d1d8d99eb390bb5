/*
 * group: items of one verb and shard as one statement.
 */
#include "entity/group.h"

#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "value/hstore.h"
#include "value/hstore_text.h"
#include "value/shard_map.h"

/* pg_type.dat */
#define INT2_OID       21
#define INT8_OID       20
#define INT2_ARRAY_OID 1005
#define INT8_ARRAY_OID 1016

/* ---- groups ---- */

static int compare_items(const void *left, const void *right) {
    const hvi_item *a = *(hvi_item *const *) left;
    const hvi_item *b = *(hvi_item *const *) right;
    if (a->verb != b->verb)
        return (uintptr_t) a->verb < (uintptr_t) b->verb ? -1 : 1;
    if (a->shard != b->shard)
        return a->shard < b->shard ? -1 : 1;
    return a->key < b->key ? -1 : a->key > b->key;
}

/* Not all of it is cleared: the statement's text, the larger part, is written later. */
static void start_group(hvi_group *group, hvi_item **items) {
    group->items = items;
    group->count = 1;
    group->error = NULL;
    group->bytes = (hvi_buffer) HVI_BUFFER_EMPTY;
}

size_t hvi_groups_make(hvi_item **items, size_t count, bool apart, hvi_group *groups) {
    size_t made = 0;
    if (!apart && count > 1)
        qsort(items, count, sizeof *items, compare_items);
    for (size_t i = 0; i < count; i++) {
        const hvi_item *last = i > 0 ? items[i - 1] : NULL;
        if (apart || last == NULL || last->verb != items[i]->verb || last->shard != items[i]->shard)
            start_group(&groups[made++], &items[i]);
        else
            groups[made - 1].count++;
    }
    for (size_t i = 0; i < made; i++)
        groups[i].plain = groups[i].count == 1 &&
                          (apart || count == 1 || !groups[i].items[0]->verb->refuses_taken_keys);
    return made;
}

void hvi_group_forget_parameters(hvi_group *group) {
    hvi_buffer_fini(&group->bytes);
}

void hvi_group_fini(hvi_group *group) {
    hvi_buffer_fini(&group->bytes);
    hv_error_free(group->error);
    group->error = NULL;
}

size_t hvi_items_find(hvi_item *const *items, size_t count, int64_t key) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (items[middle]->key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- statements ---- */

static const hvi_verb_statement *statement_of(const hvi_group *group) {
    const hvi_verb *verb = group->items[0]->verb;
    return group->plain || verb->many.name == NULL ? &verb->one : &verb->many;
}

/* Replace %s by the schema and %b by the column. Quick, as each operation needs it. */
static void write_sql(const char *pattern, const char *schema, bool as_text, char *to) {
    const char *place;
    for (; (place = strchr(pattern, '%')) != NULL; pattern = place + 2) {
        memcpy(to, pattern, (size_t) (place - pattern));
        to = stpcpy(to + (place - pattern), place[1] == 'b' ? hvi_body_column(as_text) : schema);
    }
    stpcpy(to, pattern);
}

/* ---- parameters ---- */

/* A number in network byte order. Returns its length. */
static int write_number(char *to, hvi_parameter parameter, const hvi_item *item) {
    const uint64_t key = htobe64((uint64_t) item->key);
    const uint16_t kind = htobe16((uint16_t) item->kind);
    if (parameter == HVI_KEY)
        memcpy(to, &key, sizeof key);
    else
        memcpy(to, &kind, sizeof kind);
    return parameter == HVI_KEY ? sizeof key : sizeof kind;
}

static uint32_t total_count(const hvi_group *group) {
    uint32_t total = 0;
    for (size_t i = 0; i < group->count; i++)
        total += (uint32_t) group->items[i]->count;
    return total;
}

/* Set a parameter that is not an array. */
static void set_single(hvi_group *group, int number, hvi_parameter parameter) {
    const hvi_item *item = group->items[0];
    const uint32_t count = htobe32(total_count(group));
    group->values[number] = group->numbers[number];
    if (parameter == HVI_BODY) {
        group->values[number] = item->body;
        group->lengths[number] = (int) item->body_len;
    } else if (parameter == HVI_COUNT) {
        memcpy(group->numbers[number], &count, sizeof count);
        group->lengths[number] = sizeof count;
    } else {
        group->lengths[number] = write_number(group->numbers[number], parameter, item);
    }
}

/* The type of a parameter's array, or of its elements. */
static uint32_t array_type(hvi_parameter parameter, bool element, const hvi_session *session) {
    if (parameter == HVI_KEY)
        return element ? INT8_OID : INT8_ARRAY_OID;
    if (parameter == HVI_KIND)
        return element ? INT2_OID : INT2_ARRAY_OID;
    return element ? session->hstore_type : session->hstore_array_type;
}

/* A one-dimensional array in binary form (array_send in arrayfuncs.c). */
static void append_array(hvi_group *group, hvi_parameter parameter, const hvi_session *session) {
    hvi_buffer *to = &group->bytes;
    bool is_body = parameter == HVI_BODY;
    size_t size = 64;
    for (size_t i = 0; i < group->count; i++)
        size += 4 + (is_body ? group->items[i]->body_len : sizeof(int64_t));
    hvi_buffer_reserve(to, size);
    hvi_buffer_append_be32(to, 1); /* dimensions */
    hvi_buffer_append_be32(to, 0); /* no NULLs */
    hvi_buffer_append_be32(to, array_type(parameter, true, session));
    hvi_buffer_append_be32(to, (uint32_t) group->count);
    hvi_buffer_append_be32(to, 1); /* the first index */
    for (size_t i = 0; i < group->count; i++) {
        const hvi_item *item = group->items[i];
        char number[8];
        size_t len = is_body ? item->body_len : (size_t) write_number(number, parameter, item);
        hvi_buffer_append_be32(to, (uint32_t) len);
        hvi_buffer_append(to, is_body ? item->body : number, len);
    }
}

/* The arrays' addresses are known only when all are written: until then an array's length is where
 * it ends. */
static void set_arrays(hvi_group *group, int count, const hvi_session *session) {
    for (int i = 0; i < count; i++) {
        hvi_parameter parameter = (hvi_parameter) group->items[0]->verb->parameters[i];
        append_array(group, parameter, session);
        group->types[i] = array_type(parameter, false, session);
        group->lengths[i] = (int) group->bytes.len;
    }
    for (int i = 0, start = 0; i < count && hvi_buffer_ok(&group->bytes); i++) {
        int end = group->lengths[i];
        group->values[i] = group->bytes.data + start;
        group->lengths[i] = end - start;
        start = end;
    }
}

/* ---- for the log ---- */

static void append_body_text(hvi_buffer *to, const hvi_item *item) {
    hv_dict *dict = NULL;
    if (hvi_hstore_decode(item->body, item->body_len, &dict, NULL) == HV_OK)
        hvi_hstore_print(dict, to);
    hv_dict_free(dict);
}

/* Write the parameters of a plain group in readable form, one text after the other. */
static void write_log_values(hvi_group *group, int count) {
    const hvi_item *item = group->items[0];
    hvi_buffer *to = &group->bytes;
    size_t starts[HVI_PARAMETERS_MAX];
    for (int i = 0; i < count; i++) {
        starts[i] = to->len;
        switch (item->verb->parameters[i]) {
        case HVI_KEY:
            hvi_buffer_append_format(to, "%" PRId64, item->key);
            break;
        case HVI_BODY:
            append_body_text(to, item);
            break;
        default:
            hvi_buffer_append_format(
                to, "%d", item->verb->parameters[i] == HVI_KIND ? item->kind : item->count);
        }
        hvi_buffer_append(to, "", 1);
    }
    for (int i = 0; i < count && hvi_buffer_ok(to); i++)
        group->log_values[i] = to->data + starts[i];
}

/* ---- queries ---- */

static int parameter_count(const hvi_verb *verb) {
    int count = 0;
    while (count < HVI_PARAMETERS_MAX && verb->parameters[count] != HVI_NO_PARAMETER)
        count++;
    return count;
}

bool hvi_group_query(hvi_group *group, const hvi_session *session, bool log, hvi_query *query) {
    static const int binary_formats[HVI_PARAMETERS_MAX] = {1, 1, 1};
    const hvi_item *first = group->items[0];
    const hvi_verb_statement *statement = statement_of(group);
    bool is_array = statement == &first->verb->many;
    int count = parameter_count(first->verb);
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(first->shard, schema);
    write_sql(statement->sql, schema, session->reads_text, group->sql);
    for (int i = 0; i < count && !is_array; i++)
        set_single(group, i, (hvi_parameter) first->verb->parameters[i]);
    if (is_array)
        set_arrays(group, count, session);
    else if (log)
        write_log_values(group, count);
    *query = (hvi_query){
        .sql = group->sql,
        .shard = first->shard,
        .is_write = first->verb->is_write,
        .id = {statement->name, first->shard},
        .parameter_count = count,
        .values = group->values,
        .lengths = group->lengths,
        .formats = binary_formats,
        .types = is_array ? group->types : NULL,
        .binary_result = true,
        .log_values = log && !is_array ? group->log_values : NULL,
    };
    return hvi_buffer_ok(&group->bytes);
}

/* ---- answers ---- */

void hvi_group_answer(hvi_group *group, const PGresult *result, const char *server) {
    const hvi_verb_statement *statement = statement_of(group);
    int shard = group->items[0]->shard;
    hv_status status = hvi_result_check(result, &statement->answer, server, shard, &group->error);
    if (status == HV_OK && !statement->read(group->items, group->count, result))
        status =
            hvi_fail_answer(server, shard, statement->answer.asked, &group->error, "sent others");
    for (size_t i = 0; i < group->count; i++) {
        hvi_item *item = group->items[i];
        item->fate = HVI_FATE_ANSWERED;
        item->error = group->error;
        item->answered = item->answered && status == HV_OK;
    }
}
