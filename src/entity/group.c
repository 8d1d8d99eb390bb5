/*
 * group: operations on entities of one shard as one statement.
 *
 * A group of one is the plain prepared statement; a larger one is one statement with arrays.
 */
#include "entity/group.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

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
        return a->verb < b->verb ? -1 : 1;
    if (a->shard != b->shard)
        return a->shard < b->shard ? -1 : 1;
    return a->key < b->key ? -1 : a->key > b->key;
}

/* Not all of it is cleared: the statement's text, the larger part, is written later. */
static void start_group(hvi_group *group, hvi_item **items) {
    group->items = items;
    group->count = 0;
    group->apart = false;
    group->bytes = (hvi_buffer) HVI_BUFFER_EMPTY;
    group->error = NULL;
}

size_t hvi_groups_make(hvi_item **items, size_t count, hvi_group *groups) {
    size_t made = 0;
    qsort(items, count, sizeof *items, compare_items);
    for (size_t i = 0; i < count; i++) {
        const hvi_item *last = i > 0 ? items[i - 1] : NULL;
        if (last == NULL || last->verb != items[i]->verb || last->shard != items[i]->shard)
            start_group(&groups[made++], &items[i]);
        groups[made - 1].count++;
    }
    return made;
}

void hvi_groups_make_apart(hvi_item **items, size_t count, hvi_group *groups) {
    for (size_t i = 0; i < count; i++) {
        start_group(&groups[i], &items[i]);
        groups[i].count = 1;
        groups[i].apart = true;
    }
}

void hvi_group_forget_parameters(hvi_group *group) {
    hvi_buffer_fini(&group->bytes);
}

void hvi_group_fini(hvi_group *group) {
    hvi_buffer_fini(&group->bytes);
    hv_error_free(group->error);
    group->error = NULL;
}

/* ---- statements ---- */

/* Arrays serve a group of one too where the plain statement is refused if the key has an entity:
 * that would take the other groups with it. */
static bool is_plain(const hvi_group *group) {
    hvi_verb verb = group->items[0]->verb;
    return group->apart || (group->count == 1 && verb != HVI_PUT_KEY && verb != HVI_PUT_ONCE);
}

static hvi_statement_verb statement_verb(const hvi_group *group) {
    switch (group->items[0]->verb) {
    case HVI_GET:
        return is_plain(group) ? HVI_STATEMENT_GET : HVI_STATEMENT_GET_MANY;
    case HVI_PUT:
        return is_plain(group) ? HVI_STATEMENT_PUT : HVI_STATEMENT_PUT_MANY;
    case HVI_PUT_KEY:
        return is_plain(group) ? HVI_STATEMENT_PUT_KEY : HVI_STATEMENT_PUT_KEY_MANY;
    case HVI_PUT_ONCE:
        return is_plain(group) ? HVI_STATEMENT_PUT_ONCE : HVI_STATEMENT_PUT_ONCE_MANY;
    default:
        return HVI_STATEMENT_RESERVE;
    }
}

/* ---- parameters ---- */

static void append_int8(hvi_buffer *to, int64_t value) {
    uint64_t wire = htobe64((uint64_t) value);
    hvi_buffer_append(to, &wire, sizeof wire);
}

static void append_int2(hvi_buffer *to, int value) {
    uint16_t wire = htobe16((uint16_t) value);
    hvi_buffer_append(to, &wire, sizeof wire);
}

/* The header of a one-dimensional array in binary form (array_send in arrayfuncs.c). */
static void append_array(hvi_buffer *to, uint32_t element_type, size_t count) {
    hvi_buffer_append_be32(to, 1); /* dimensions */
    hvi_buffer_append_be32(to, 0); /* no NULLs */
    hvi_buffer_append_be32(to, element_type);
    hvi_buffer_append_be32(to, (uint32_t) count);
    hvi_buffer_append_be32(to, 1); /* the first index */
}

static void append_keys(hvi_group *group) {
    append_array(&group->bytes, INT8_OID, group->count);
    for (size_t i = 0; i < group->count; i++) {
        hvi_buffer_append_be32(&group->bytes, 8);
        append_int8(&group->bytes, group->items[i]->key);
    }
}

static void append_kinds(hvi_group *group) {
    append_array(&group->bytes, INT2_OID, group->count);
    for (size_t i = 0; i < group->count; i++) {
        hvi_buffer_append_be32(&group->bytes, 2);
        append_int2(&group->bytes, group->items[i]->kind);
    }
}

static void append_bodies(hvi_group *group, uint32_t hstore) {
    size_t size = 0;
    for (size_t i = 0; i < group->count; i++)
        size += group->items[i]->body_len + 4;
    hvi_buffer_reserve(&group->bytes, size + 64);
    append_array(&group->bytes, hstore, group->count);
    for (size_t i = 0; i < group->count; i++) {
        const hvi_item *item = group->items[i];
        hvi_buffer_append_be32(&group->bytes, (uint32_t) item->body_len);
        hvi_buffer_append(&group->bytes, item->body, item->body_len);
    }
}

/* The parameters, one after the other; ends[i] is the end of one. Returns their number. */
static int append_parameters(hvi_group *group, uint32_t hstore, size_t *ends) {
    const hvi_item *first = group->items[0];
    hvi_buffer *bytes = &group->bytes;
    int count = 0;
    switch (statement_verb(group)) {
    case HVI_STATEMENT_GET:
        append_int8(bytes, first->key);
        break;
    case HVI_STATEMENT_GET_MANY:
        append_keys(group);
        break;
    case HVI_STATEMENT_PUT:
    case HVI_STATEMENT_PUT_KEY:
    case HVI_STATEMENT_PUT_ONCE:
        append_int2(bytes, first->kind);
        ends[count++] = bytes->len;
        hvi_buffer_append(bytes, first->body, first->body_len);
        if (first->verb != HVI_PUT) {
            ends[count++] = bytes->len;
            append_int8(bytes, first->key);
        }
        break;
    case HVI_STATEMENT_PUT_MANY:
    case HVI_STATEMENT_PUT_KEY_MANY:
    case HVI_STATEMENT_PUT_ONCE_MANY:
        append_kinds(group);
        ends[count++] = bytes->len;
        append_bodies(group, hstore);
        if (first->verb != HVI_PUT) {
            ends[count++] = bytes->len;
            append_keys(group);
        }
        break;
    default: /* reserve */
        hvi_buffer_append_be32(bytes, (uint32_t) group->count);
    }
    ends[count++] = bytes->len;
    return count;
}

bool hvi_group_query(hvi_group *group, const hvi_session *session, hvi_query *query) {
    static const int binary_formats[3] = {1, 1, 1};
    const hvi_item *first = group->items[0];
    bool has_arrays = !is_plain(group) && first->verb != HVI_RESERVE;
    size_t ends[3], start = 0;
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(first->shard, schema);
    hvi_entity_sql(statement_verb(group), schema, session->reads_text, group->sql);
    int count = append_parameters(group, session->hstore_type, ends);
    if (!hvi_buffer_ok(&group->bytes))
        return false;
    for (int i = 0; i < count; i++) {
        group->values[i] = group->bytes.data + start;
        group->lengths[i] = (int) (ends[i] - start);
        start = ends[i];
    }
    group->types[0] = first->verb == HVI_GET ? INT8_ARRAY_OID : INT2_ARRAY_OID;
    group->types[1] = session->hstore_array_type;
    group->types[2] = INT8_ARRAY_OID;
    *query = (hvi_query){
        .sql = group->sql,
        .shard = first->shard,
        .is_write = hvi_verb_is_write(first->verb),
        .id = hvi_statement_id(statement_verb(group), first->shard),
        .parameter_count = count,
        .values = group->values,
        .lengths = group->lengths,
        .formats = binary_formats,
        .types = has_arrays ? group->types : NULL,
        .binary_result = true,
    };
    return true;
}

/* ---- answers ---- */

#define ENTITY "an entity: id bigint, type smallint, body hstore"
#define KEYS   "keys"

static const hvi_form forms[] = {
    [HVI_STATEMENT_GET] = {ENTITY,
                           HVI_AT_MOST_ONE_ROW,
                           true,
                           {HVI_IS_INT8, HVI_IS_INT2 | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL}},
    [HVI_STATEMENT_GET_MANY] = {ENTITY,
                                HVI_ANY_ROWS,
                                true,
                                {HVI_IS_INT8, HVI_IS_INT2 | HVI_OR_NULL,
                                 HVI_IS_BYTES | HVI_OR_NULL}},
    [HVI_STATEMENT_PUT] = {KEYS, HVI_AT_MOST_ONE_ROW, true, {HVI_IS_INT8}},
    [HVI_STATEMENT_PUT_MANY] = {KEYS,
                                HVI_ONE_ROW,
                                true,
                                {HVI_IS_BYTES, HVI_IS_BYTES | HVI_OR_NULL}},
    [HVI_STATEMENT_PUT_KEY] = {KEYS, HVI_AT_MOST_ONE_ROW, true, {HVI_IS_INT8}},
    [HVI_STATEMENT_PUT_KEY_MANY] = {KEYS, HVI_ONE_ROW, true, {HVI_IS_BYTES | HVI_OR_NULL}},
    [HVI_STATEMENT_PUT_ONCE] = {KEYS, HVI_AT_MOST_ONE_ROW, true, {HVI_IS_INT8 | HVI_OR_NULL}},
    [HVI_STATEMENT_PUT_ONCE_MANY] = {KEYS,
                                     HVI_ANY_ROWS,
                                     true,
                                     {HVI_IS_INT8, HVI_IS_INT8 | HVI_OR_NULL, HVI_IS_BOOL}},
    [HVI_STATEMENT_RESERVE] = {KEYS, HVI_ANY_ROWS, true, {HVI_IS_INT8}},
};

const hvi_form *hvi_answer_form(hvi_statement_verb verb) {
    return &forms[verb];
}

/* The first of the group's items, which are sorted by key, that has this one, or the place where it
 * would be. */
static size_t find_key(const hvi_group *group, int64_t key) {
    size_t low = 0, high = group->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (group->items[middle]->key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool has_key(const hvi_group *group, size_t at, int64_t key) {
    return at < group->count && group->items[at]->key == key;
}

/* A row of another key than was asked for is another statement's answer. */
static bool answer_gets(const hvi_group *group, const PGresult *result) {
    for (int row = 0; row < PQntuples(result); row++) {
        int64_t key = hvi_integer_at(result, row, 0);
        size_t at = find_key(group, key);
        if (!has_key(group, at, key))
            return false;
        for (; has_key(group, at, key); at++) {
            hvi_item *item = group->items[at];
            item->answered = true;
            item->result = result;
            item->row = row;
        }
    }
    return true;
}

static void answer_new_key(hvi_item *item, int64_t key) {
    item->answered = true;
    item->new_key = key;
}

/* Of the plain statements: the key that was stored; of PUT_ONCE the next one. No row: nothing was
 * stored. */
static bool answer_plain_put(hvi_item *item, const PGresult *result) {
    item->swallowed = PQntuples(result) == 0;
    if (item->swallowed)
        return true;
    int64_t key = hvi_integer_at(result, 0, 0);
    if (item->verb == HVI_PUT_KEY)
        item->answered = key == item->key;
    else
        answer_new_key(item, key);
    return item->answered;
}

/* ---- arrays of keys, as append_keys() makes them ---- */

#define ARRAY_HEADER  20
#define ARRAY_EMPTY   12 /* no dimensions */
#define ARRAY_ELEMENT (4 + sizeof(int64_t))

static uint32_t read_be32(const char *bytes) {
    uint32_t wire;
    memcpy(&wire, bytes, sizeof wire);
    return be32toh(wire);
}

/* The array in this column of the only row, if it is one of keys: how many it has. */
static bool read_array(const PGresult *result, int column, size_t *count) {
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

static int64_t key_at(const PGresult *result, int column, size_t place) {
    uint64_t wire;
    memcpy(&wire, PQgetvalue(result, 0, column) + ARRAY_HEADER + place * ARRAY_ELEMENT + 4,
           sizeof wire);
    return (int64_t) be64toh(wire);
}

/* Is this key in the array? Answers mostly come in the order of what was asked: *next is where the
 * search begins, and then behind what was found. */
static bool has_stored(const PGresult *result, int column, size_t count, int64_t key,
                       size_t *next) {
    for (size_t i = 0; i < count; i++) {
        size_t place = *next + i < count ? *next + i : *next + i - count;
        if (key_at(result, column, place) == key) {
            *next = place + 1 < count ? place + 1 : 0;
            return true;
        }
    }
    return false;
}

/* The keys that were made for the items in their order, and those of them that were stored; NULL:
 * all. Needs no memory: what is stored has to be reported as that. */
static bool answer_puts(const hvi_group *group, const PGresult *result) {
    size_t made, count = 0, next = 0, found = 0;
    bool all = PQgetisnull(result, 0, 1);
    if (!read_array(result, 0, &made) || made != group->count ||
        (!all && !read_array(result, 1, &count)))
        return false;
    for (size_t i = 0; i < group->count; i++) {
        int64_t key = key_at(result, 0, i);
        if (all || has_stored(result, 1, count, key, &next)) {
            answer_new_key(group->items[i], key);
            found++;
        } else {
            group->items[i]->swallowed = true;
        }
    }
    return all || found == count;
}

/* It is stored under this key; of two items that put under it, which one is not known. False if no
 * item does. */
static bool answer_key(const hvi_group *group, int64_t key, int64_t next) {
    size_t at = find_key(group, key);
    if (!has_key(group, at, key))
        return false;
    if (!has_key(group, at + 1, key)) {
        group->items[at]->answered = true;
        group->items[at]->new_key = next;
    }
    return true;
}

/* The keys that were stored; NULL: all. */
static bool answer_puts_under_keys(const hvi_group *group, const PGresult *result) {
    size_t count = 0;
    bool all = PQgetisnull(result, 0, 0);
    if (!all && !read_array(result, 0, &count))
        return false;
    for (size_t i = 0; i < (all ? group->count : count); i++)
        if (!answer_key(group, all ? group->items[i]->key : key_at(result, 0, i), 0))
            return false;
    return true;
}

/* A row for each that was stored: its key, and the next one. */
static bool answer_puts_once(const hvi_group *group, const PGresult *result) {
    for (int row = 0; row < PQntuples(result); row++)
        if (!answer_key(group, hvi_integer_at(result, row, 0), hvi_integer_at(result, row, 1)))
            return false;
    return true;
}

/* One key a row: any of them for any item. */
static bool answer_rows(const hvi_group *group, const PGresult *result) {
    if ((size_t) PQntuples(result) > group->count)
        return false;
    for (int row = 0; row < PQntuples(result); row++)
        answer_new_key(group->items[row], hvi_integer_at(result, row, 0));
    return true;
}

static bool answer_items(const hvi_group *group, const PGresult *result) {
    switch (statement_verb(group)) {
    case HVI_STATEMENT_GET:
    case HVI_STATEMENT_GET_MANY:
        return answer_gets(group, result);
    case HVI_STATEMENT_PUT:
    case HVI_STATEMENT_PUT_KEY:
    case HVI_STATEMENT_PUT_ONCE:
        return answer_plain_put(group->items[0], result);
    case HVI_STATEMENT_PUT_MANY:
        return answer_puts(group, result);
    case HVI_STATEMENT_PUT_KEY_MANY:
        return answer_puts_under_keys(group, result);
    case HVI_STATEMENT_PUT_ONCE_MANY:
        return answer_puts_once(group, result);
    default:
        return answer_rows(group, result);
    }
}

void hvi_group_answer(hvi_group *group, const PGresult *result, const char *server) {
    const hvi_form *form = hvi_answer_form(statement_verb(group));
    int shard = group->items[0]->shard;
    hv_status status = hvi_result_check(result, form, server, shard, &group->error);
    if (status == HV_OK && !answer_items(group, result))
        status = hvi_fail_answer(server, shard, form->asked, &group->error, "sent others");
    for (size_t i = 0; status != HV_OK && i < group->count; i++) {
        group->items[i]->answered = false;
        group->items[i]->error = group->error;
    }
}
