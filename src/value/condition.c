/*
 * condition: what must hold of an entity for a change to be made.
 */
#include "value/condition.h"

#include <stdlib.h>

#include "base/utf8.h"
#include "value/limits.h"

hv_condition *hv_condition_new(void) {
    hv_condition *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    made->has = hv_dict_new();
    made->lacks = hv_dict_new();
    made->kind = HVI_ANY_KIND;
    if (made->has != NULL && made->lacks != NULL)
        return made;
    hv_condition_free(made);
    return NULL;
}

void hv_condition_free(hv_condition *condition) {
    if (condition == NULL)
        return;
    hv_dict_free(condition->has);
    hv_dict_free(condition->lacks);
    free(condition);
}

/* ---- contradictions ---- */

static hv_status fail_attribute(const char *name, size_t len, const char *detail,
                                hv_error **error) {
    hvi_fail(error, HV_INVALID, "the condition contradicts itself: attribute \"%s\"",
             hvi_utf8_excerpt(name, len).text);
    hvi_error_detail(error, "%s", detail);
    return HV_INVALID;
}

/* No entity could have this attribute as well as the others of the condition. */
static hv_status check_attribute(const hv_condition *condition, const char *name, size_t len,
                                 const char *value, size_t value_len, hv_error **error) {
    const char *other;
    size_t other_len;
    if (hv_dict_get(condition->lacks, name, len, &other, NULL))
        return fail_attribute(name, len, "It is to have a value and to be absent.", error);
    if (!hv_dict_get(condition->has, name, len, &other, &other_len))
        return HV_OK;
    bool both = value != NULL && other != NULL;
    if (both ? value_len == other_len && memcmp(value, other, value_len) == 0 : value == other)
        return HV_OK;
    return fail_attribute(name, len, "It is to have two values.", error);
}

/* ---- adding to it ---- */

hv_status hv_condition_has(hv_condition *condition, const hv_dict *attributes, hv_error **error) {
    if (attributes == NULL) /* none, as everywhere */
        return HV_OK;
    hv_dict *all = hv_dict_new();
    hv_status status = all != NULL ? HV_OK : hvi_no_memory(error);
    const hv_dict *const from[] = {condition->has, attributes};
    const char *name, *value;
    size_t len, value_len;
    for (size_t i = 0;
         status == HV_OK && hv_dict_at(attributes, i, &name, &len, &value, &value_len); i++)
        status = check_attribute(condition, name, len, value, value_len, error);
    for (int part = 0; part < 2; part++)
        for (size_t i = 0;
             status == HV_OK && hv_dict_at(from[part], i, &name, &len, &value, &value_len); i++)
            status = hv_dict_set_bytes(all, name, len, value, value_len, error);
    if (status != HV_OK) {
        hv_dict_free(all);
        return status;
    }
    hv_dict_free(condition->has);
    condition->has = all;
    return HV_OK;
}

hv_status hv_condition_lacks(hv_condition *condition, const char *name, size_t name_len,
                             hv_error **error) {
    size_t len = name != NULL && name_len == HV_STRLEN ? strlen(name) : name_len;
    if (hv_dict_get(condition->has, name, len, &(const char *){NULL}, NULL))
        return fail_attribute(name, len, "It is to have a value and to be absent.", error);
    return hv_dict_set_bytes(condition->lacks, name, len, NULL, 0, error);
}

hv_status hv_condition_kind(hv_condition *condition, int kind, hv_error **error) {
    hv_status status = hvi_check_kind(kind, error);
    if (status == HV_OK && condition->kind != HVI_ANY_KIND && condition->kind != kind)
        status =
            hvi_fail(error, HV_INVALID, "the condition contradicts itself: kind %d and kind %d",
                     condition->kind, kind);
    if (status == HV_OK)
        condition->kind = kind;
    return status;
}

hv_status hv_condition_version(hv_condition *condition, const char *version, hv_error **error) {
    hvi_version read;
    char before[HVI_VERSION_LEN];
    if (version == NULL || !hvi_version_parse(version, &read)) {
        const char *shown = version != NULL ? version : "";
        hvi_fail(error, HV_INVALID, "\"%s\" is not a version of an entity",
                 hvi_utf8_excerpt(shown, strlen(shown)).text);
        hvi_error_hint(error, "Use the version that came with the entity, as it is.");
        return HV_INVALID;
    }
    hvi_version_print(&condition->version, before);
    if (condition->has_version && strcmp(before, version) != 0)
        return hvi_fail(error, HV_INVALID,
                        "the condition contradicts itself: version %s and version %s", before,
                        version);
    condition->has_version = true;
    condition->version = read;
    return HV_OK;
}
