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
#define INT4_OID       23
#define INT8_OID       20
#define TEXT_OID       25
#define INT2_ARRAY_OID 1005
#define INT4_ARRAY_OID 1007
#define INT8_ARRAY_OID 1016
#define TEXT_ARRAY_OID 1009

/* The parameters: numbers have a size, the others are a part of the item's body. */
static const struct {
    uint32_t type; /* 0: hstore */
    uint32_t array_type;
    uint8_t size;
    uint8_t part;
} parameters[HVI_PARAMETERS] = {
    [HVI_KEY] = {INT8_OID, INT8_ARRAY_OID, .size = 8},
    [HVI_KIND] = {INT2_OID, INT2_ARRAY_OID, .size = 2},
    [HVI_COUNT] = {INT4_OID, .size = 4},
    [HVI_IF_KIND] = {INT4_OID, INT4_ARRAY_OID, .size = 4},
    [HVI_ATTRIBUTE] = {TEXT_OID, TEXT_ARRAY_OID, .part = 0},
    [HVI_AMOUNT] = {TEXT_OID, TEXT_ARRAY_OID, .part = 1},
    [HVI_REMOVE] = {.part = 1},
    [HVI_HAS] = {.part = 2},
    [HVI_LACKS] = {.part = 3},
    [HVI_VERSION] = {TEXT_OID, TEXT_ARRAY_OID, .part = 4},
    [HVI_SHARD] = {INT4_OID, .size = 4},
    [HVI_GENERATION] = {INT8_OID, .size = 8},
};

/* ---- groups ---- */

static int compare_numbers(uint64_t a, uint64_t b) {
    return a < b ? -1 : a > b;
}

/* The order of the groups, and of the items in them. */
static int compare_items(const void *left, const void *right) {
    const hvi_item *a = *(hvi_item *const *) left;
    const hvi_item *b = *(hvi_item *const *) right;
    if (a->turn != b->turn)
        return compare_numbers(a->turn, b->turn);
    if (a->verb != b->verb)
        return compare_numbers((uintptr_t) a->verb, (uintptr_t) b->verb);
    if (a->shard != b->shard)
        return a->shard < b->shard ? -1 : 1;
    return a->key < b->key ? -1 : a->key > b->key;
}

static bool share_group(const hvi_item *a, const hvi_item *b) {
    return a->turn == b->turn && a->verb == b->verb && a->shard == b->shard &&
           hvi_item_ask(a) == NULL;
}

static int compare_keys(const void *left, const void *right) {
    const hvi_item *a = *(hvi_item *const *) left;
    const hvi_item *b = *(hvi_item *const *) right;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return compare_numbers(a->place, b->place);
}

/* Does it write under a key that others may have, too? */
static bool writes_key(const hvi_item *item) {
    return item->verb->is_write && item->key != 0;
}

/* Items with the same key take turns, unless all of them only read. */
static void take_turns(hvi_item **items, size_t count) {
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        items[i]->place = (unsigned) i;
        items[i]->turn = 0;
        any = any || writes_key(items[i]);
    }
    if (!any)
        return;
    qsort(items, count, sizeof *items, compare_keys);
    for (size_t i = 1; i < count; i++) {
        hvi_item *item = items[i], *last = items[i - 1];
        if (item->key == 0 || item->key != last->key)
            continue;
        bool is_write = last->verb->is_write || item->verb->is_write;
        item->turn = last->turn + is_write;
        if (is_write)
            item->shares_key = last->shares_key = true;
    }
}

static int compare_places(const void *left, const void *right) {
    const hvi_item *a = *(hvi_item *const *) left;
    const hvi_item *b = *(hvi_item *const *) right;
    if ((a->turn == 0) != (b->turn == 0))
        return a->turn == 0 ? -1 : 1;
    return compare_numbers(a->place, b->place);
}

size_t hvi_items_first(hvi_item **items, size_t count) {
    size_t first = 0;
    take_turns(items, count);
    qsort(items, count, sizeof *items, compare_places);
    while (first < count && items[first]->turn == 0)
        first++;
    return first;
}

/* Not all of it is cleared: the statement's text, the larger part, is written later. */
static void start_group(hvi_group *group, const hvi_verb *verb, hvi_item **items) {
    group->verb = verb;
    group->items = items;
    group->count = 1;
    group->error = NULL;
    group->bytes = (hvi_buffer) HVI_BUFFER_EMPTY;
}

static int compare_rows(const void *left, const void *right) {
    const hvi_item *a = *(hvi_item *const *) left;
    const hvi_item *b = *(hvi_item *const *) right;
    if (a->shard != b->shard)
        return a->shard < b->shard ? -1 : 1;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return compare_numbers(a->turn, b->turn);
}

/* Are all of one verb and in the first turn, so that the statements, one for a shard, lock the rows
 * in order? Mostly they are, and need not be sorted. */
static bool share_statement(hvi_item *const *changes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (changes[i]->verb != changes[0]->verb || changes[i]->turn > 0)
            return false;
    return true;
}

/* Do changes, sorted by their rows, lock these in that order anyway? They do if all are of one
 * verb and each row is changed in the first turn. */
static bool lock_in_order(hvi_item *const *changes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (changes[i]->verb != changes[0]->verb ||
            (changes[i]->turn > 0 && (i == 0 || changes[i]->key != changes[i - 1]->key)))
            return false;
    return true;
}

/* Make the groups that lock rows, if they are needed; `changes` has room for all items. */
static size_t make_locks(hvi_item *const *items, size_t count, hvi_item **changes,
                         hvi_group *groups) {
    size_t found = 0, made = 0;
    for (size_t i = 0; i < count; i++)
        if (items[i]->verb->is_change)
            changes[found++] = items[i];
    if (share_statement(changes, found))
        return 0;
    qsort(changes, found, sizeof *changes, compare_rows);
    if (lock_in_order(changes, found))
        return 0;
    for (size_t i = 0; i < found; i++)
        if (i == 0 || changes[i]->shard != changes[i - 1]->shard)
            start_group(&groups[made++], &hvi_lock_rows, &changes[i]);
        else
            groups[made - 1].count++;
    return made;
}

size_t hvi_groups_make(hvi_item **items, size_t count, bool apart, hvi_group *groups) {
    size_t made = 0;
    if (!apart && count > 1) {
        take_turns(items, count);
        qsort(items, count, sizeof *items, compare_items);
        made = make_locks(items, count, items + count, groups);
    }
    for (size_t i = 0; i < count; i++) {
        const hvi_item *last = i > 0 ? items[i - 1] : NULL;
        if (apart || last == NULL || !share_group(last, items[i]))
            start_group(&groups[made++], items[i]->verb, &items[i]);
        else
            groups[made - 1].count++;
    }
    for (size_t i = 0; i < made; i++)
        groups[i].plain = groups[i].count == 1 && groups[i].verb != &hvi_lock_rows &&
                          (apart || count == 1 || !groups[i].verb->refuses_taken_keys);
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
    const hvi_verb *verb = group->verb;
    return group->plain || verb->many.name == NULL ? &verb->one : &verb->many;
}

/* Replace %s, %h and %b; see verb.h. Quick, as each operation needs it. */
static void write_sql(const char *pattern, const char *schema, const hvi_session *session,
                      char *to) {
    const char *place;
    for (; (place = strchr(pattern, '%')) != NULL; pattern = place + 2) {
        memcpy(to, pattern, (size_t) (place - pattern));
        to = stpcpy(to + (place - pattern), place[1] == 's' ? schema
                                            : place[1] == 'h'
                                                ? session->hstore_schema
                                                : hvi_body_column(session->reads_text));
    }
    stpcpy(to, pattern);
}

/* ---- parameters ---- */

static const char *part_of(const hvi_item *item, int part, size_t *len) {
    size_t start = part > 0 ? item->ends[part - 1] : 0;
    *len = item->ends[part] - start;
    return item->body + start;
}

static uint32_t total_count(const hvi_group *group) {
    uint32_t total = 0;
    for (size_t i = 0; i < group->count; i++)
        total += (uint32_t) group->items[i]->count;
    return total;
}

/* A number in network byte order. */
static void write_number(char to[8], hvi_parameter parameter, const hvi_item *item,
                         uint32_t count) {
    const uint64_t key =
        htobe64((uint64_t) (parameter == HVI_GENERATION ? item->generation : item->key));
    const uint16_t kind = htobe16((uint16_t) item->kind);
    const uint32_t number = htobe32(parameter == HVI_COUNT   ? count
                                    : parameter == HVI_SHARD ? (uint32_t) item->shard
                                                             : (uint32_t) item->if_kind);
    if (parameter == HVI_KEY || parameter == HVI_GENERATION)
        memcpy(to, &key, sizeof key);
    else if (parameter == HVI_KIND)
        memcpy(to, &kind, sizeof kind);
    else
        memcpy(to, &number, sizeof number);
}

/* Set a parameter that is not an array. */
static void set_single(hvi_group *group, int number, hvi_parameter parameter) {
    const hvi_item *item = group->items[0];
    size_t len = parameters[parameter].size;
    group->values[number] = group->numbers[number];
    if (len > 0)
        write_number(group->numbers[number], parameter, item, total_count(group));
    else
        group->values[number] = part_of(item, parameters[parameter].part, &len);
    group->lengths[number] = (int) len;
}

/* A one-dimensional array in binary form (array_send in arrayfuncs.c). */
static void append_array(hvi_group *group, hvi_parameter parameter, const hvi_session *session) {
    uint32_t type = parameters[parameter].type;
    hvi_buffer *to = &group->bytes;
    size_t size = 64, len = parameters[parameter].size;
    bool is_number = len > 0;
    for (size_t i = 0; i < group->count; i++) {
        if (!is_number)
            part_of(group->items[i], parameters[parameter].part, &len);
        size += 4 + len;
    }
    hvi_buffer_reserve(to, size);
    hvi_buffer_append_be32(to, 1); /* dimensions */
    hvi_buffer_append_be32(to, 0); /* no NULLs */
    hvi_buffer_append_be32(to, type != 0 ? type : session->hstore_type);
    hvi_buffer_append_be32(to, (uint32_t) group->count);
    hvi_buffer_append_be32(to, 1); /* the first index */
    for (size_t i = 0; i < group->count; i++) {
        const hvi_item *item = group->items[i];
        char number[8];
        const char *bytes = number;
        if (is_number)
            write_number(number, parameter, item, 0);
        else
            bytes = part_of(item, parameters[parameter].part, &len);
        hvi_buffer_append_be32(to, (uint32_t) len);
        hvi_buffer_append(to, bytes, len);
    }
}

/* The arrays' addresses are known only when all are written: until then an array's length is where
 * it ends. */
static void set_arrays(hvi_group *group, int count, const hvi_session *session) {
    for (int i = 0; i < count; i++) {
        hvi_parameter parameter = (hvi_parameter) group->verb->parameters[i];
        uint32_t type = parameters[parameter].array_type;
        append_array(group, parameter, session);
        group->types[i] = type != 0 ? type : session->hstore_array_type;
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

static void append_hstore_text(hvi_buffer *to, const char *bytes, size_t len) {
    hv_dict *dict = NULL;
    if (hvi_hstore_decode(bytes, len, &dict, NULL) == HV_OK)
        hvi_hstore_print(dict, to);
    hv_dict_free(dict);
}

static void append_text(hvi_buffer *to, const hvi_item *item, hvi_parameter parameter) {
    size_t len;
    const char *bytes;
    switch (parameter) {
    case HVI_KEY:
    case HVI_GENERATION:
        hvi_buffer_append_format(to, "%" PRId64,
                                 parameter == HVI_KEY ? item->key : item->generation);
        break;
    case HVI_KIND:
    case HVI_COUNT:
    case HVI_IF_KIND:
    case HVI_SHARD:
        hvi_buffer_append_format(to, "%d",
                                 parameter == HVI_KIND    ? item->kind
                                 : parameter == HVI_COUNT ? item->count
                                 : parameter == HVI_SHARD ? item->shard
                                                          : item->if_kind);
        break;
    default:
        bytes = part_of(item, parameters[parameter].part, &len);
        if (parameters[parameter].type == TEXT_OID)
            hvi_buffer_append(to, bytes, len);
        else
            append_hstore_text(to, bytes, len);
    }
}

/* Write the parameters of a plain group in readable form, one text after the other. */
static void write_log_values(hvi_group *group, int count) {
    const hvi_item *item = group->items[0];
    hvi_buffer *to = &group->bytes;
    size_t starts[HVI_PARAMETERS_MAX];
    for (int i = 0; i < count; i++) {
        starts[i] = to->len;
        append_text(to, item, (hvi_parameter) item->verb->parameters[i]);
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

/* A question writes its statement itself. */
static bool query_of_ask(hvi_ask *ask, int shard, const hvi_session *session, hvi_query *query) {
    *query = (hvi_query){.shard = shard, .binary_result = true};
    return ask->query(ask, session, query);
}

bool hvi_group_query(hvi_group *group, const hvi_session *session, bool log, hvi_query *query) {
    static const int binary_formats[HVI_PARAMETERS_MAX] = {1, 1, 1, 1, 1, 1, 1};
    const hvi_item *first = group->items[0];
    hvi_ask *ask = hvi_item_ask(first);
    if (ask != NULL)
        return query_of_ask(ask, first->shard, session, query);
    const hvi_verb_statement *statement = statement_of(group);
    bool is_array = statement == &group->verb->many;
    int count = parameter_count(group->verb);
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(first->shard, schema);
    write_sql(statement->sql, schema, session, group->sql);
    for (int i = 0; i < count && !is_array; i++)
        set_single(group, i, (hvi_parameter) group->verb->parameters[i]);
    if (is_array)
        set_arrays(group, count, session);
    else if (log)
        write_log_values(group, count);
    *query = (hvi_query){
        .sql = group->sql,
        .shard = first->shard,
        .is_write = group->verb->is_write,
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
    const hvi_ask *ask = hvi_item_ask(group->items[0]);
    const hvi_form *form = ask != NULL ? ask->answer : &statement->answer;
    int shard = group->items[0]->shard;
    if (group->verb == &hvi_lock_rows)
        return;
    hv_status status = hvi_result_check(result, form, server, shard, &group->error);
    if (status == HV_OK && ask == NULL && !statement->read(group->items, group->count, result))
        status = hvi_fail_answer(server, shard, form->asked, &group->error, "sent others");
    for (size_t i = 0; i < group->count; i++) {
        hvi_item *item = group->items[i];
        item->fate = HVI_FATE_ANSWERED;
        item->error = group->error;
        item->answered = item->answered && status == HV_OK;
    }
}
