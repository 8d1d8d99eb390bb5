/*
 * remarks: what hv_doctor() has found, for people.
 */
#include "move/remarks.h"

#include <stdlib.h>
#include <string.h>

static char *copy(const char *text, bool *ok) {
    char *made = text != NULL && *text != '\0' ? strdup(text) : NULL;
    *ok = *ok && (made != NULL || text == NULL || *text == '\0');
    return made;
}

void hvi_remarks_add(hv_findings *findings, const hv_finding *finding) {
    hv_finding *items = realloc(findings->items, (findings->count + 1) * sizeof *findings->items);
    if (items == NULL) {
        findings->is_broken = true;
        return;
    }
    bool ok = true;
    findings->items = items;
    items[findings->count++] = (hv_finding){
        .severity = finding->severity,
        .server = copy(finding->server, &ok),
        .other = copy(finding->other, &ok),
        .shard = finding->shard,
        .text = copy(finding->text, &ok),
        .detail = copy(finding->detail, &ok),
        .hint = copy(finding->hint, &ok),
    };
    findings->is_broken = findings->is_broken || !ok;
}

void hvi_remarks_add_error(hv_findings *findings, hv_severity severity, const char *server,
                           const char *other, int shard, hv_error **cause) {
    hvi_remarks_add(findings, &(hv_finding){.severity = severity,
                                            .server = server,
                                            .other = other,
                                            .shard = shard,
                                            .text = hv_error_message(*cause),
                                            .detail = hv_error_detail(*cause),
                                            .hint = hv_error_hint(*cause)});
    hv_error_free(*cause);
    *cause = NULL;
}

hv_status hvi_remarks_fail(const hv_findings *findings, hv_error **error) {
    for (size_t i = 0; i < findings->count; i++) {
        const hv_finding *found = &findings->items[i];
        if (found->severity != HV_SEVERITY_ERROR)
            continue;
        hvi_fail(error, HV_INVALID, "%s", found->text);
        if (found->detail != NULL)
            hvi_error_detail(error, "%s", found->detail);
        if (found->hint != NULL)
            hvi_error_hint(error, "%s", found->hint);
        hvi_error_where(error, found->server, found->shard);
        return HV_INVALID;
    }
    return findings->is_broken ? hvi_no_memory(error) : HV_OK;
}

/* ---- the public functions ---- */

size_t hv_findings_count(const hv_findings *findings) {
    return findings->count;
}

const hv_finding *hv_findings_at(const hv_findings *findings, size_t index) {
    return index < findings->count ? &findings->items[index] : NULL;
}

/* The list owns what its readers may only read. */
static void free_text(const char *text) {
    union {
        const char *read;
        char *owned;
    } is = {.read = text};
    free(is.owned);
}

void hvi_remarks_fini(hv_findings *findings) {
    for (size_t i = 0; i < findings->count; i++) {
        const hv_finding *found = &findings->items[i];
        const char *const texts[] = {found->server, found->other, found->text, found->detail,
                                     found->hint};
        for (size_t j = 0; j < sizeof texts / sizeof texts[0]; j++)
            free_text(texts[j]);
    }
    free(findings->items);
    *findings = (hv_findings){0};
}

void hv_findings_free(hv_findings *findings) {
    if (findings != NULL)
        hvi_remarks_fini(findings);
    free(findings);
}

const char *hv_severity_name(hv_severity severity) {
    static const char *const names[] = {"note", "warning", "error"};
    return (int) severity >= 0 && (int) severity <= HV_SEVERITY_ERROR ? names[severity] : NULL;
}
