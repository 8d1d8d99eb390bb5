/*
 * change: change or delete an entity that is there.
 *
 * The statement that makes a change also says why it did not: there is no entity, the condition
 * does not hold, or the value is no number. So a change is one statement, whose answer is final:
 * later operations on the same key may be in the same batch. Only if nothing was in the way is it
 * sent again, with the statement that locks the row first: whether an entity is there is read from
 * the table as it was when the statement began, and it may have been deleted since then. If a row
 * that was locked is not changed, a trigger or a rule has kept it as it was. If there is a row that
 * can never be locked, a policy has.
 *
 * A change is not repeated after a lost connection if others on its key were in the same batch:
 * they may have been made, too, and would come before it then.
 *
 * A change with a condition that was repeated after a lost connection, and then finds that the
 * condition does not hold, may have made that so itself: its outcome is unknown.
 */
#include "entity/change.h"

#include <inttypes.h>
#include <string.h>

#include "base/decimal.h"
#include "base/utf8.h"
#include "value/limits.h"
#include "entity/get.h"
#include "entity/group.h"

/* How often a change is tried that deadlocks or cannot be serialized. */
#define CONFLICT_TRIES 20
#define CONFLICT_MS    5

/* How often an entity is looked for that is there, but cannot be locked. */
#define HIDDEN_TRIES 20

/* The longest number that is added to, or added, or made so. verbs.c knows it, too. */
#define NUMBER_MAX 100

/* ---- setting up ---- */

static hv_status check_key_of_version(const hv_condition *condition, int64_t key,
                                      hv_error **error) {
    if (!condition->has_version || condition->version.key == key)
        return HV_OK;
    hvi_fail(error, HV_INVALID, "the version is not one of the entity %" PRId64, key);
    hvi_error_detail(error, "It is of the entity %" PRId64 ".", condition->version.key);
    return HV_INVALID;
}

/* The parts 2 to 4. */
static hv_status add_condition(hvi_operation *op, const hv_condition *condition, hv_error **error) {
    char version[HVI_ROW_VERSION_LEN] = "";
    bool has_version = condition != NULL && condition->has_version;
    hv_status status = HV_OK;
    if (condition != NULL)
        status = check_key_of_version(condition, op->item.key, error);
    if (has_version)
        hvi_version_print_row(&condition->version, version);
    op->item.if_kind = condition != NULL ? condition->kind : HVI_ANY_KIND;
    if (status == HV_OK)
        status = hvi_operation_add_part(op, condition != NULL ? condition->has : NULL, error);
    if (status == HV_OK)
        status = hvi_operation_add_part(op, condition != NULL ? condition->lacks : NULL, error);
    if (status == HV_OK)
        status = hvi_operation_add_text(op, version, error);
    return status;
}

static hv_status check_merge(const hv_dict *set, const hv_dict *remove, hv_error **error) {
    const char *name;
    size_t len;
    if ((set == NULL || hv_dict_count(set) == 0) && hv_dict_count(remove) == 0) {
        hvi_fail(error, HV_INVALID, "the merge is empty");
        hvi_error_hint(error, "Name attributes to be set or removed.");
        return HV_INVALID;
    }
    for (size_t i = 0; set != NULL && hv_dict_at(remove, i, &name, &len, NULL, NULL); i++)
        if (hv_dict_get(set, name, len, &(const char *){NULL}, NULL))
            return hvi_fail(error, HV_INVALID, "attribute \"%s\" is to be both set and removed",
                            hvi_utf8_excerpt(name, len).text);
    return HV_OK;
}

static hv_status add_merge(hvi_operation *op, const hv_change *change, hv_error **error) {
    hv_dict *remove = NULL;
    hv_status status = hvi_dict_of_names(change->remove, &remove, error);
    if (status == HV_OK)
        status = check_merge(change->dict, remove, error);
    if (status == HV_OK)
        status = hvi_operation_add_part(op, change->dict, error);
    if (status == HV_OK)
        status = hvi_operation_add_part(op, remove, error);
    hv_dict_free(remove);
    return status;
}

static hv_status check_amount(const char *amount, hv_error **error) {
    if (amount == NULL || !hvi_is_decimal(amount)) {
        hvi_fail(error, HV_INVALID, "\"%s\" is not a number that can be added",
                 amount != NULL ? hvi_utf8_excerpt(amount, strlen(amount)).text : "");
        hvi_error_hint(error, "Integers and decimal numbers can, such as 1 and -0.25.");
        return HV_INVALID;
    }
    if (strlen(amount) > NUMBER_MAX)
        return hvi_fail(error, HV_INVALID,
                        "the number to be added has %zu characters; there is room for %d",
                        strlen(amount), NUMBER_MAX);
    return HV_OK;
}

static hv_status add_increment(hvi_operation *op, const hv_change *change, hv_error **error) {
    hv_dict *name = NULL;
    hv_status status = check_amount(change->amount, error);
    if (status == HV_OK && change->attribute == NULL)
        status = hvi_fail(error, HV_INVALID, "the attribute to be incremented has no name");
    if (status == HV_OK) /* checks the name's text */
        status = hvi_dict_of_names((const char *const[]){change->attribute, NULL}, &name, error);
    hv_dict_free(name);
    if (status == HV_OK)
        status = hvi_operation_add_text(op, change->attribute, error);
    if (status == HV_OK)
        status = hvi_operation_add_text(op, change->amount, error);
    return status;
}

/* The parts 0 and 1. */
static hv_status add_content(hvi_operation *op, const hv_change *change, hv_error **error) {
    hv_status status = HV_OK;
    switch (change->type) {
    case HV_MERGE:
        return add_merge(op, change, error);
    case HV_INCREMENT:
        return add_increment(op, change, error);
    case HV_REPLACE:
        op->item.kind = change->kind;
        status = hvi_check_kind(change->kind, error);
        if (status == HV_OK)
            status = hvi_operation_add_part(op, change->dict, error);
        break;
    default:
        status = hvi_operation_add_text(op, "", error);
    }
    return status == HV_OK ? hvi_operation_add_text(op, "", error) : status;
}

static const hvi_verb *verb_of(hv_change_type type, bool is_conditional) {
    switch (type) {
    case HV_REPLACE:
        return is_conditional ? &hvi_replace_if : &hvi_replace;
    case HV_MERGE:
        return is_conditional ? &hvi_merge_if : &hvi_merge;
    case HV_INCREMENT:
        return &hvi_increment;
    case HV_DELETE:
        return is_conditional ? &hvi_delete_if : &hvi_delete;
    }
    return NULL;
}

/* An increment that happens twice is wrong, unless the first one makes the second impossible. */
static hvi_repeat repeat_of(const hv_change *change, bool persists) {
    bool has_version = change->condition != NULL && change->condition->has_version;
    if (change->type == HV_INCREMENT && !has_version)
        return HVI_REPEAT_NEVER;
    return persists ? HVI_REPEAT_UNTIL_DONE : HVI_REPEAT_ONCE;
}

hv_status hvi_change_init(hvi_operation *op, hvi_router *router, const hv_change *change,
                          bool persists, hv_error **error) {
    const hvi_verb *verb = verb_of(change->type, change->condition != NULL);
    if (verb == NULL) {
        *op = (hvi_operation){0};
        return hvi_fail(error, HV_INVALID, "%d is not a type of change", (int) change->type);
    }
    hv_status status = hvi_operation_init_key(op, verb, router, change->key, error);
    op->repeat = repeat_of(change, persists);
    if (status == HV_OK)
        status = add_content(op, change, error);
    if (status == HV_OK)
        status = add_condition(op, change->condition, error);
    return status;
}

/* ---- answers ---- */

/* The item with this key; NULL if there is none. Items of a change have different keys. */
static hvi_item *item_of(hvi_item *const *items, size_t count, int64_t key) {
    size_t at = hvi_items_find(items, count, key);
    return at < count && items[at]->key == key ? items[at] : NULL;
}

/* The answer: the key of the entity, if there is one, and whether it was changed. */
bool hvi_change_read(hvi_item *const *items, size_t count, const PGresult *result) {
    if (PQntuples(result) == 0)
        return true;
    hvi_item *item = item_of(items, count, hvi_integer_at(result, 0, 0));
    if (item == NULL)
        return false;
    item->is_there = item->holds = true;
    item->answered = hvi_bool_at(result, 0, 1);
    return true;
}

/* The answer: the keys of the entities that were changed, and of those that were there; NULL: all.
 */
bool hvi_change_read_many(hvi_item *const *items, size_t count, const PGresult *result) {
    for (int column = 1; column >= 0; column--) {
        bool all = PQgetisnull(result, 0, column);
        size_t found = count;
        if (!all && !hvi_array_check(result, column, &found))
            return false;
        for (size_t i = 0; i < found; i++) {
            hvi_item *item =
                all ? items[i] : item_of(items, count, hvi_array_at(result, column, i));
            if (item == NULL)
                return false;
            item->is_there = item->holds = true;
            item->answered = column == 0;
        }
    }
    return true;
}

/* The answer: rows as a get has them, whether the condition holds, and whether it was changed; or
 * no row. */
bool hvi_change_read_if(hvi_item *const *items, size_t count, const PGresult *result) {
    for (int row = 0; row < PQntuples(result); row++) {
        hvi_item *item = item_of(items, count, hvi_integer_at(result, row, 0));
        if (item == NULL)
            return false;
        if (item->answered)
            continue; /* the other row says only that it was there */
        bool is_locked = !PQgetisnull(result, row, 5);
        item->is_there = true;
        item->holds = !is_locked || hvi_bool_at(result, row, 5);
        item->answered = hvi_bool_at(result, row, 6);
        item->swallowed = is_locked && item->holds && !item->answered;
        item->result = result;
        item->row = row;
    }
    return true;
}

/* ---- what is next ---- */

static hvi_next end_not_found(hvi_operation *op) {
    if (!op->unknown)
        return hvi_operation_done(op, HV_NOT_FOUND);
    if (op->verb == &hvi_delete)
        return hvi_operation_done(op, HV_OK); /* its first try, or others, have deleted it */
    return op->verb->is_conditional ? hvi_operation_fail_unknown(op)
                                    : hvi_operation_done(op, HV_NOT_FOUND);
}

static hvi_next end_changed(hvi_operation *op) {
    if (op->unknown)
        return hvi_operation_fail_unknown(op);
    hv_status status = hvi_get_take(op, &op->entity, &op->error);
    return hvi_operation_done(op, status == HV_OK ? HV_CHANGED : status);
}

static void copy_attribute(const hvi_operation *op, hvi_excerpt *name) {
    *name = hvi_utf8_excerpt(op->item.body, op->item.ends[0]);
}

/* The number in the answer: the sum, or the value or sum that is none or too long. */
static const char *number_of(const hvi_operation *op) {
    return hvi_text_at(op->item.result, op->item.row, 7);
}

/* Without memory for the result, a caller must not take the increment for one that was not made. */
static hvi_next end_incremented(hvi_operation *op) {
    hv_status status = hvi_get_take_attribute(op, op->item.body, op->item.ends[0], number_of(op),
                                              &op->entity, &op->error);
    return status == HV_NO_MEMORY && !op->in_transaction ? hvi_operation_fail_unknown(op)
                                                         : hvi_operation_done(op, status);
}

static hvi_next fail_number(hvi_operation *op) {
    hv_error **error = &op->error;
    const char *number = number_of(op);
    hvi_excerpt name;
    copy_attribute(op, &name);
    if (hvi_is_decimal(number)) {
        hvi_fail(error, HV_INVALID,
                 "attribute \"%s\" of the entity %" PRId64 " is too large a number", name.text,
                 op->item.key);
        hvi_error_detail(error, "%s has more than %d characters.",
                         hvi_utf8_excerpt(number, strlen(number)).text, NUMBER_MAX);
    } else {
        hvi_fail(error, HV_INVALID, "attribute \"%s\" of the entity %" PRId64 " is not a number",
                 name.text, op->item.key);
        hvi_error_detail(error, "Its value is \"%s\".",
                         hvi_utf8_excerpt(number, strlen(number)).text);
    }
    hvi_error_where(error, op->target.server->name, op->target.shard);
    return hvi_operation_done(op, HV_INVALID);
}

/* Nothing was in the way of the change. */
static hvi_next end_unchanged(hvi_operation *op) {
    hv_error *cause = NULL;
    const hvi_verb *locking = op->verb->locking != NULL ? op->verb->locking : op->verb;
    bool is_last = op->item.swallowed || ++op->unchanged >= HIDDEN_TRIES;
    if (!is_last && op->item.verb != locking)
        return hvi_operation_again(op, locking, true);
    if (!is_last)
        return hvi_operation_pause(op, locking, true, CONFLICT_MS, NULL);
    hvi_target_fail_not_stored(&op->target, NULL, &cause);
    hvi_next next = hvi_operation_fail(op, &cause);
    hv_error_free(cause);
    return next;
}

hvi_next hvi_change_answered(hvi_operation *op) {
    const hvi_item *item = &op->item;
    bool is_increment = op->verb == &hvi_increment;
    if (item->answered)
        return is_increment ? end_incremented(op) : hvi_operation_done(op, HV_OK);
    if (!item->is_there)
        return end_not_found(op);
    if (!item->holds)
        return end_changed(op);
    return is_increment && number_of(op) != NULL ? fail_number(op) : end_unchanged(op);
}

/* Nothing has happened, and a deadlock or a serialization failure passes. */
hvi_next hvi_change_refused(hvi_operation *op, hv_error **cause) {
    const char *sqlstate = hv_error_sqlstate(*cause);
    bool passes = sqlstate != NULL && strncmp(sqlstate, "40", 2) == 0;
    if (op->in_transaction || !passes || ++op->conflicts >= CONFLICT_TRIES)
        return hvi_operation_fail(op, cause);
    return hvi_operation_pause(op, op->item.verb, true, CONFLICT_MS, cause);
}
