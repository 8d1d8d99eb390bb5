/*
 * selection: which entities are meant, in which order and how many.
 *
 * Holds always: no attribute is to be there and absent, or to have values that exclude each other;
 * a change that fails leaves the selection as it was.
 */
#include "value/selection.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/shard_ranges.h"
#include "base/utf8.h"
#include "value/limits.h"

hv_selection *hv_selection_new(void) {
    hv_selection *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    made->skip = hv_dict_new();
    made->exists = hv_dict_new();
    made->lacks = hv_dict_new();
    made->has = hv_dict_new();
    if (made->skip != NULL && made->exists != NULL && made->lacks != NULL && made->has != NULL)
        return made;
    hv_selection_free(made);
    return NULL;
}

static void free_choice(hvi_choice *choice) {
    hv_dict_free(choice->name);
    hv_dict_free(choice->values);
}

void hv_selection_free(hv_selection *selection) {
    if (selection == NULL)
        return;
    for (size_t i = 0; i < selection->choice_count; i++)
        free_choice(&selection->choices[i]);
    free(selection->choices);
    free(selection->kinds);
    hv_dict_free(selection->skip);
    hv_dict_free(selection->exists);
    hv_dict_free(selection->lacks);
    hv_dict_free(selection->has);
    hv_dict_free(selection->only);
    free(selection);
}

/* ---- copies ---- */

/* Add the attributes of one dict to another. */
static hv_status add_all(hv_dict *to, const hv_dict *from, hv_error **error) {
    hv_status status = HV_OK;
    const char *name, *value;
    size_t len, value_len;
    for (size_t i = 0; status == HV_OK && hv_dict_at(from, i, &name, &len, &value, &value_len); i++)
        status = hv_dict_set_bytes(to, name, len, value, value_len, error);
    return status;
}

static bool copy_choices(hv_selection *to, const hv_selection *from) {
    to->choices = calloc(from->choice_count + 1, sizeof *to->choices);
    if (to->choices == NULL)
        return false;
    for (; to->choice_count < from->choice_count; to->choice_count++) {
        const hvi_choice *choice = &from->choices[to->choice_count];
        hvi_choice copy = {hv_dict_new(), hv_dict_new(), choice->or_null};
        if (copy.name == NULL || copy.values == NULL ||
            add_all(copy.name, choice->name, NULL) != HV_OK ||
            add_all(copy.values, choice->values, NULL) != HV_OK) {
            free_choice(&copy);
            return false;
        }
        to->choices[to->choice_count] = copy;
    }
    return true;
}

static bool copy_kinds(hv_selection *to, const hv_selection *from) {
    to->kinds = malloc((from->kind_count + 1) * sizeof *to->kinds);
    if (to->kinds == NULL)
        return false;
    for (size_t i = 0; i < from->kind_count; i++)
        to->kinds[i] = from->kinds[i];
    to->kind_count = from->kind_count;
    return true;
}

hv_selection *hvi_selection_copy(const hv_selection *selection) {
    hv_selection *made = hv_selection_new();
    if (made == NULL || selection == NULL)
        return made;
    hv_selection fresh = *made; /* what it owns */
    *made = *selection;
    made->skip = fresh.skip;
    made->exists = fresh.exists;
    made->lacks = fresh.lacks;
    made->has = fresh.has;
    made->only = selection->only != NULL ? hv_dict_new() : NULL;
    made->kinds = NULL;
    made->kind_count = 0;
    made->choices = NULL;
    made->choice_count = 0;
    if (copy_kinds(made, selection) && copy_choices(made, selection) &&
        add_all(made->skip, selection->skip, NULL) == HV_OK &&
        add_all(made->exists, selection->exists, NULL) == HV_OK &&
        add_all(made->lacks, selection->lacks, NULL) == HV_OK &&
        add_all(made->has, selection->has, NULL) == HV_OK &&
        (selection->only == NULL ||
         (made->only != NULL && add_all(made->only, selection->only, NULL) == HV_OK)))
        return made;
    hv_selection_free(made);
    return NULL;
}

/* ---- shards, servers, kinds ---- */

hv_status hv_selection_shards(hv_selection *selection, const char *shards, hv_error **error) {
    if (shards == NULL || hvi_shard_ranges_blank(shards)) {
        hvi_fail(error, HV_INVALID, "no shards are given");
        hvi_error_hint(error, "%s", hvi_shard_ranges_syntax);
        return HV_INVALID;
    }
    uint64_t found[HV_SHARDS / 64] = {0};
    hvi_shard_reader reader = hvi_shard_reader_of(shards, "selection's", "shards");
    reader.status = HV_INVALID;
    do {
        hvi_shard_range range;
        hv_status status = hvi_shard_reader_next(&reader, &range, error);
        if (status != HV_OK)
            return status;
        for (int shard = range.begin; shard < range.end; shard++)
            found[shard / 64] |= UINT64_C(1) << shard % 64;
    } while (hvi_shard_reader_goes_on(&reader));
    for (size_t i = 0; i < HV_SHARDS / 64; i++)
        selection->shards[i] |= found[i];
    selection->has_shards = true;
    return HV_OK;
}

bool hvi_selection_has_shard(const hv_selection *selection, int shard) {
    return shard >= 0 && shard < HV_SHARDS &&
           (!selection->has_shards || (selection->shards[shard / 64] >> shard % 64 & 1) != 0);
}

hv_status hv_selection_skip(hv_selection *selection, const char *server, hv_error **error) {
    if (server == NULL || server[0] == '\0')
        return hvi_fail(error, HV_INVALID, "no server to skip is given");
    return hv_dict_set(selection->skip, server, NULL, error);
}

hv_status hv_selection_kind(hv_selection *selection, int kind, hv_error **error) {
    hv_status status = hvi_check_kind(kind, error);
    if (status != HV_OK)
        return status;
    size_t place = 0, count = selection->kind_count;
    while (place < count && selection->kinds[place] < kind)
        place++;
    if (place < count && selection->kinds[place] == kind)
        return HV_OK;
    int16_t *kinds = realloc(selection->kinds, (count + 1) * sizeof *kinds);
    if (kinds == NULL)
        return hvi_no_memory(error);
    memmove(kinds + place + 1, kinds + place, (count - place) * sizeof *kinds);
    kinds[place] = (int16_t) kind;
    selection->kinds = kinds;
    selection->kind_count = count + 1;
    return HV_OK;
}

/* ---- bounds ---- */

hv_status hv_selection_from(hv_selection *selection, int64_t key, hv_error **error) {
    hv_status status = hvi_check_key(key, &(hvi_key_fields){0}, error);
    if (status == HV_OK && key > selection->from)
        selection->from = key;
    return status;
}

hv_status hv_selection_until(hv_selection *selection, int64_t key, hv_error **error) {
    hv_status status = hvi_check_key(key, &(hvi_key_fields){0}, error);
    if (status == HV_OK && (selection->until == 0 || key < selection->until))
        selection->until = key;
    return status;
}

hv_status hv_selection_since(hv_selection *selection, int64_t moment, hv_error **error) {
    (void) error; /* whether it fits depends on the store's epoch */
    if (!selection->has_since || moment > selection->since)
        selection->since = moment;
    selection->has_since = true;
    return HV_OK;
}

hv_status hv_selection_before(hv_selection *selection, int64_t moment, hv_error **error) {
    (void) error;
    if (!selection->has_before || moment < selection->before)
        selection->before = moment;
    selection->has_before = true;
    return HV_OK;
}

hv_status hv_selection_after(hv_selection *selection, int64_t key, hv_error **error) {
    hv_status status = hvi_check_key(key, &(hvi_key_fields){0}, error);
    if (status == HV_OK)
        selection->after = key;
    return status;
}

hv_status hvi_selection_bounds(const hv_selection *selection, int64_t epoch, hvi_key_range *range,
                               hv_error **error) {
    int64_t lower = selection->from, upper = selection->until, bound;
    bool has_upper = upper > 0;
    hv_status status = HV_OK;
    if (selection->has_since)
        status = hv_key_bound(selection->since, epoch, &bound, error);
    if (status == HV_OK && selection->has_since && bound > lower)
        lower = bound;
    if (status == HV_OK && selection->has_before)
        status = hv_key_bound(selection->before, epoch, &bound, error);
    if (status == HV_OK && selection->has_before && (!has_upper || bound < upper)) {
        has_upper = true;
        upper = bound;
    }
    if (status == HV_OK && has_upper && lower > upper) {
        hvi_fail(error, HV_INVALID, "the selection's lower bound is above its upper bound");
        hvi_error_detail(error, "Keys from %" PRId64 " on, below %" PRId64 ".", lower, upper);
        return HV_INVALID;
    }
    if (status != HV_OK)
        return status;

    /* From here on both ends are included, so that there is an end above the last key. */
    int64_t first = lower > 0 ? lower : 1, last = has_upper ? upper - 1 : INT64_MAX;
    int64_t after = selection->after;
    if (after > 0 && selection->newest && after <= last)
        last = after - 1;
    else if (after > 0 && !selection->newest && after >= first) {
        first = after < INT64_MAX ? after + 1 : after;
        last = after < INT64_MAX ? last : 0;
    }
    *range = (hvi_key_range){first, last};
    return HV_OK;
}

/* ---- attributes ---- */

static hv_status fail_attribute(const char *name, size_t len, const char *detail,
                                hv_error **error) {
    hvi_fail(error, HV_INVALID, "the selection contradicts itself: attribute \"%s\"",
             hvi_utf8_excerpt(name, len).text);
    hvi_error_detail(error, "%s", detail);
    return HV_INVALID;
}

static const char is_absent[] = "It is to be there and to be absent.";
static const char has_two_values[] = "It is to have two values.";

static bool is_in(const hv_dict *dict, const char *name, size_t len) {
    return hv_dict_get(dict, name, len, NULL, NULL);
}

static size_t text_len(const char *text, size_t len) {
    return text != NULL && len == HV_STRLEN ? strlen(text) : len;
}

const char *hvi_choice_name(const hvi_choice *choice, size_t *len) {
    const char *name = NULL;
    *len = 0;
    hv_dict_at(choice->name, 0, &name, len, NULL, NULL);
    return name;
}

bool hvi_selection_has_attributes(const hv_selection *selection) {
    return selection->choice_count + hv_dict_count(selection->exists) +
               hv_dict_count(selection->lacks) + hv_dict_count(selection->has) >
           0;
}

/* Is there room for conditions on so many more attributes? */
static hv_status check_room(const hv_selection *selection, size_t more, hv_error **error) {
    size_t count = selection->choice_count + hv_dict_count(selection->exists) +
                   hv_dict_count(selection->lacks);
    if (count + more <= HVI_SELECTION_ATTRIBUTES_MAX)
        return HV_OK;
    return hvi_fail(error, HV_INVALID, "conditions on more than %d attributes",
                    HVI_SELECTION_ATTRIBUTES_MAX);
}

/* The choice of this attribute, or one past the last. */
static size_t find_choice(const hv_selection *selection, const char *name, size_t len) {
    size_t i = 0;
    while (i < selection->choice_count && !is_in(selection->choices[i].name, name, len))
        i++;
    return i;
}

static bool allows(const hvi_choice *choice, const char *value, size_t value_len) {
    return value == NULL ? choice->or_null : is_in(choice->values, value, value_len);
}

/* Leave in the first choice what the second one allows, too. Errors: HV_INVALID if nothing is left,
 * HV_NO_MEMORY; both are then as they were. */
static hv_status narrow(hvi_choice *choice, const hvi_choice *by, hv_error **error) {
    hv_dict *both = hv_dict_new();
    hv_status status = both != NULL ? HV_OK : hvi_no_memory(error);
    const char *value;
    size_t len;
    for (size_t i = 0; status == HV_OK && hv_dict_at(choice->values, i, &value, &len, NULL, NULL);
         i++)
        if (is_in(by->values, value, len))
            status = hv_dict_set_bytes(both, value, len, NULL, 0, error);
    bool or_null = choice->or_null && by->or_null;
    if (status == HV_OK && !or_null && hv_dict_count(both) == 0) {
        const char *name = hvi_choice_name(choice, &len);
        status = fail_attribute(name, len, has_two_values, error);
    }
    if (status != HV_OK) {
        hv_dict_free(both);
        return status;
    }
    hv_dict_free(choice->values);
    choice->values = both;
    choice->or_null = or_null;
    return HV_OK;
}

/* Add a choice to the selection, which takes what it owns if that succeeds. */
static hv_status add_choice(hv_selection *selection, hvi_choice *choice, hv_error **error) {
    const char *value;
    size_t len, value_len;
    const char *name = hvi_choice_name(choice, &len);
    if (is_in(selection->lacks, name, len))
        return fail_attribute(name, len, is_absent, error);
    if (hv_dict_get(selection->has, name, len, &value, &value_len) &&
        !allows(choice, value, value_len))
        return fail_attribute(name, len, has_two_values, error);
    size_t place = find_choice(selection, name, len), count = selection->choice_count;
    if (place < count) {
        hv_status status = narrow(&selection->choices[place], choice, error);
        if (status == HV_OK)
            free_choice(choice);
        return status;
    }
    hv_status status = check_room(selection, 1, error);
    if (status != HV_OK)
        return status;
    hvi_choice *choices = realloc(selection->choices, (count + 1) * sizeof *choices);
    if (choices == NULL)
        return hvi_no_memory(error);
    choices[count] = *choice;
    selection->choices = choices;
    selection->choice_count = count + 1;
    return HV_OK;
}

hv_status hv_selection_one_of(hv_selection *selection, const char *name, size_t name_len,
                              const char *const *values, const size_t *lengths, size_t count,
                              hv_error **error) {
    if (count == 0)
        return hvi_fail(error, HV_INVALID, "no values for attribute \"%s\"",
                        name != NULL ? hvi_utf8_excerpt(name, text_len(name, name_len)).text : "");
    hvi_choice choice = {hv_dict_new(), hv_dict_new(), false};
    hv_status status = choice.name != NULL && choice.values != NULL ? HV_OK : hvi_no_memory(error);
    if (status == HV_OK)
        status = hv_dict_set_bytes(choice.name, name, text_len(name, name_len), NULL, 0, error);
    for (size_t i = 0; status == HV_OK && i < count; i++) {
        if (values[i] == NULL)
            choice.or_null = true;
        else
            status = hv_dict_set_bytes(
                choice.values, values[i],
                text_len(values[i], lengths != NULL ? lengths[i] : HV_STRLEN), NULL, 0, error);
    }
    if (status == HV_OK)
        status = add_choice(selection, &choice, error);
    if (status != HV_OK)
        free_choice(&choice);
    return status;
}

hv_status hv_selection_equal(hv_selection *selection, const char *name, size_t name_len,
                             const char *value, size_t value_len, hv_error **error) {
    return hv_selection_one_of(selection, name, name_len, &value, &value_len, 1, error);
}

hv_status hv_selection_exists(hv_selection *selection, const char *name, size_t name_len,
                              hv_error **error) {
    size_t len = text_len(name, name_len);
    if (name != NULL && is_in(selection->lacks, name, len))
        return fail_attribute(name, len, is_absent, error);
    hv_status status = check_room(selection, 1, error);
    return status == HV_OK ? hv_dict_set_bytes(selection->exists, name, len, NULL, 0, error)
                           : status;
}

hv_status hv_selection_lacks(hv_selection *selection, const char *name, size_t name_len,
                             hv_error **error) {
    size_t len = text_len(name, name_len);
    if (name != NULL && (is_in(selection->exists, name, len) || is_in(selection->has, name, len) ||
                         find_choice(selection, name, len) < selection->choice_count))
        return fail_attribute(name, len, is_absent, error);
    hv_status status = check_room(selection, 1, error);
    return status == HV_OK ? hv_dict_set_bytes(selection->lacks, name, len, NULL, 0, error)
                           : status;
}

/* Could an entity have this attribute as well as the rest of the selection? */
static hv_status check_attribute(const hv_selection *selection, const char *name, size_t len,
                                 const char *value, size_t value_len, hv_error **error) {
    const char *other;
    size_t other_len;
    if (is_in(selection->lacks, name, len))
        return fail_attribute(name, len, is_absent, error);
    size_t place = find_choice(selection, name, len);
    bool fits =
        place == selection->choice_count || allows(&selection->choices[place], value, value_len);
    if (fits && hv_dict_get(selection->has, name, len, &other, &other_len))
        fits = value != NULL && other != NULL
                   ? value_len == other_len && memcmp(value, other, value_len) == 0
                   : value == other;
    return fits ? HV_OK : fail_attribute(name, len, has_two_values, error);
}

hv_status hv_selection_has(hv_selection *selection, const hv_dict *attributes, hv_error **error) {
    if (attributes == NULL || hv_dict_count(attributes) == 0)
        return hvi_fail(error, HV_INVALID, "no attributes to have are given");
    hv_status status = HV_OK;
    const char *name, *value;
    size_t len, value_len;
    for (size_t i = 0;
         status == HV_OK && hv_dict_at(attributes, i, &name, &len, &value, &value_len); i++)
        status = check_attribute(selection, name, len, value, value_len, error);
    if (status != HV_OK)
        return status;
    hv_dict *all = hv_dict_new();
    status = all != NULL ? add_all(all, selection->has, error) : hvi_no_memory(error);
    if (status == HV_OK)
        status = add_all(all, attributes, error);
    if (status != HV_OK) {
        hv_dict_free(all);
        return status;
    }
    hv_dict_free(selection->has);
    selection->has = all;
    return HV_OK;
}

/* ---- order, number, form ---- */

void hv_selection_newest(hv_selection *selection, bool newest) {
    selection->newest = newest;
}

hv_status hv_selection_limit(hv_selection *selection, int64_t limit, hv_error **error) {
    if (limit <= 0)
        return hvi_fail(error, HV_INVALID, "limit %" PRId64 " is not positive", limit);
    selection->limit = limit;
    return HV_OK;
}

hv_status hv_selection_only(hv_selection *selection, const char *const *names, hv_error **error) {
    hv_dict *only = NULL;
    hv_status status = names != NULL ? hvi_dict_of_names(names, &only, error) : HV_OK;
    if (status != HV_OK)
        return status;
    hv_dict_free(selection->only);
    selection->only = only;
    return HV_OK;
}

hv_status hv_selection_timeout(hv_selection *selection, int64_t timeout, hv_error **error) {
    if (timeout < -1)
        return hvi_fail(error, HV_INVALID, "timeout %" PRId64 " is less than -1", timeout);
    selection->timeout = timeout;
    return HV_OK;
}

void hv_selection_partial(hv_selection *selection, bool partial) {
    selection->partial = partial;
}
