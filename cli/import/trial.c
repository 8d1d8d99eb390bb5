/*
 * trial: were the keys of an export rounded on its way here?
 */
#include "import/trial.h"

#include <inttypes.h>
#include <stdlib.h>

#include "ui/memory.h"
#include "ui/ui.h"

import_verdict import_trial_add(import_trial *trial, const import_item *item, exported_key shows) {
    if (trial->held == NULL)
        trial->held = new_memory(IMPORT_TRIAL_KEYS * sizeof *trial->held);
    trial->held[trial->count++] = *item;
    trial->bytes += item->row->text_len;
    if (trial->passed)
        return IMPORT_GIVE;
    if (shows == EXPORTED_KEY_FRACTION)
        return IMPORT_ROUNDED;
    if (shows == EXPORTED_KEY_WHOLE) {
        trial->passed = true;
        return IMPORT_GIVE;
    }
    if (shows == EXPORTED_KEY_DOUBLE && trial->doubles++ == 0) {
        trial->double_key = item->key;
        trial->double_line = item->row->line;
    }
    bool full = trial->count == IMPORT_TRIAL_KEYS || trial->bytes >= IMPORT_TRIAL_BYTES;
    return full ? import_trial_end(trial) : IMPORT_HOLD;
}

import_verdict import_trial_end(const import_trial *trial) {
    return trial->doubles > 0 ? IMPORT_ROUNDED : IMPORT_GIVE;
}

void import_trial_explain(const import_trial *trial, const char *name) {
    static const char hint[] = "Export again with this version, which writes keys as strings. If "
                               "the keys are right as they are, put them into quotes.";
    const row *last = trial->count > 0 ? trial->held[trial->count - 1].row : NULL;
    if (last != NULL && last->fault != NULL) {
        char text[ROW_FAULT_SIZE];
        ui_fail("The file went through a program that keeps numbers as doubles, as jq before 1.7 "
                "and JavaScript do: the last digits of its keys are lost.",
                hint, "%s, %s", name, row_fault_text(text, last->fault));
        return;
    }
    char *detail = format_text(
        "All keys above 2^53 in the first rows, %zu of %zu, end as doubles are printed. So the "
        "file went through a program that keeps numbers as doubles, as jq before 1.7 and "
        "JavaScript do, and the last digits of its keys are lost.",
        trial->doubles, trial->count);
    ui_fail(detail, hint, "%s, line %" PRId64 ": the key %" PRId64 " was rounded", name,
            trial->double_line, trial->double_key);
    free(detail);
}

void import_trial_fini(import_trial *trial) {
    for (size_t i = 0; i < trial->count; i++)
        import_item_free(&trial->held[i]);
    free(trial->held);
    *trial = (import_trial){0};
}
