/*
 * report: print the outcome of an import.
 */
#include "import/report.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "ui/output.h"
#include "ui/ui.h"

bool import_is_complete(const import_totals *totals) {
    return totals->stop == IMPORT_COMPLETE;
}

void import_report_stop(const import_outcome *outcome) {
    const import_totals *totals = outcome->totals;
    if (totals->stop == IMPORT_FAILED)
        ui_error(totals->error);
    if (totals->stop == IMPORT_NO_REJECTS)
        ui_fail(NULL, "Make room, or choose another place with --rejects FILE.",
                "could not write to \"%s\": %s", import_rejects_wanted(outcome->rejects),
                strerror(totals->write_errno));
    if (totals->stop == IMPORT_HOPELESS)
        ui_fail(totals->reason, "If the rows after them are better, import them with --skip.",
                "none of the first %d rows could be stored", IMPORT_TRIAL_ROWS);
}

static void print_json_report(const import_outcome *outcome) {
    const import_totals *totals = outcome->totals;
    const char *path = import_rejects_path(outcome->rejects);
    print_json(json_pack(
        "{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:s, s:s*, s:o, s:f}", "complete",
        import_is_complete(totals), "rows", (json_int_t) (totals->stored + totals->rejected),
        "stored", (json_int_t) totals->stored, "there_before", (json_int_t) totals->known,
        "rejected", (json_int_t) totals->rejected, "outcome_unknown", (json_int_t) totals->unknown,
        "earlier_rows", (json_int_t) totals->passed, "rejects",
        path != NULL ? ui_json_text(path) : json_null(), "last_row", (json_int_t) totals->last_row,
        "last_line", (json_int_t) totals->last_line, "import", outcome->id, "spread",
        outcome->spread, "columns_left_out", left_out_columns_json(outcome->left_out), "seconds",
        (double) outcome->duration / 1e6));
}

static void print_report(const import_outcome *outcome) {
    const import_totals *totals = outcome->totals;
    const char *path = import_rejects_path(outcome->rejects);
    int64_t rows = totals->stored + totals->rejected;
    int64_t rate = outcome->duration > 0 ? rows * 1000000 / outcome->duration : 0;
    char number[UI_NUMBER_SIZE];
    if (!import_is_complete(totals) && rows == 0) {
        printf("nothing was imported\n");
    } else {
        printf("%s rows: ", ui_number(number, rows));
        printf("%s stored, ", ui_number(number, totals->stored));
        printf("%s rejected", ui_number(number, totals->rejected));
        printf("; %s", ui_duration(number, outcome->duration));
        printf(", %s rows/s\n", ui_number(number, rate));
    }
    if (totals->known > 0)
        printf("%s of the stored ones existed before, the same under the same key\n",
               ui_number(number, totals->known));
    if (totals->passed > 0)
        printf("%s rows were skipped: an earlier run has decided them\n",
               ui_number(number, totals->passed));
    if (path != NULL) {
        printf("rejected rows are in ");
        ui_text(stdout, path, strlen(path));
        putchar('\n');
    }
    if (totals->unknown > 0)
        printf("it is not known whether %s more rows are stored; --resume finds out\n",
               ui_number(number, totals->unknown));
    if (import_is_complete(totals) || (rows == 0 && totals->unknown == 0 && totals->passed == 0))
        return;
    printf("ended early, after row %" PRId64 " (line %" PRId64 ")%s; to continue: --resume\n",
           totals->last_row, totals->last_line, totals->ahead ? ", and some rows after it" : "");
}

void import_report(const import_outcome *outcome) {
    if (ui_is_json())
        print_json_report(outcome);
    else
        print_report(outcome);
}

void import_report_done_before(const import_outcome *outcome) {
    if (ui_is_json())
        print_json_report(outcome);
    else
        printf("this input was imported completely before: nothing to do\n");
}
