/*
 * ledger_view: which migrations have run on which shards, on one screen.
 *
 * A row is a file. Where there are many, files that follow each other and are in the same state on
 * each shard share a row.
 */
#include "ledger_view.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "rollout_summary.h"
#include "shard_list.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

/* With more files, those that are alike share a row. */
#define MANY_FILES 20

#define STATES (HV_MIGRATION_NO_FILE + 1)

static const struct {
    const char *title;
    const char *member; /* in JSON */
    ui_style style;
} states[STATES] = {
    [HV_MIGRATION_PENDING] = {"pending", "pending", UI_WARN},
    [HV_MIGRATION_DONE] = {"done", "done", UI_GOOD},
    [HV_MIGRATION_CHANGED] = {"changed", "changed", UI_BAD},
    [HV_MIGRATION_INTERRUPTED] = {"interrupted", "interrupted", UI_BAD},
    [HV_MIGRATION_NO_FILE] = {"no file", "no_file", UI_BAD},
};

/* A file, or several that are alike. */
typedef struct file_row {
    size_t first;
    size_t count;
    size_t of[STATES]; /* how many shards are in this state */
    char *in[STATES];  /* which ones, as ranges; owned */
} file_row;

typedef struct matrix {
    const hv_ledger *ledger;
    file_row *rows;
    size_t count;
    bool has[STATES]; /* is a shard in this state? */
} matrix;

/* ---- Rows ------------------------------------------------------------------------------------ */

static bool is_read(const hv_ledger *ledger, size_t index, int *shard) {
    const hv_error *error;
    return hv_ledger_shard(ledger, index, NULL, shard, &error) && error == NULL;
}

/* Is the file one that the directory lacks? Then nothing is pending. */
static bool lacks_file(const hv_ledger *ledger, size_t file) {
    for (size_t i = 0; hv_ledger_shard(ledger, i, NULL, NULL, NULL); i++)
        if (hv_ledger_state(ledger, i, file, NULL, NULL) == HV_MIGRATION_NO_FILE)
            return true;
    return false;
}

static file_row make_row(const hv_ledger *ledger, size_t file) {
    file_row row = {.first = file, .count = 1};
    bool is_lacking = lacks_file(ledger, file);
    shard_list lists[STATES] = {0};
    int shard;
    for (size_t i = 0; hv_ledger_shard(ledger, i, NULL, &shard, NULL); i++) {
        if (!is_read(ledger, i, NULL))
            continue;
        hv_migration_state state = hv_ledger_state(ledger, i, file, NULL, NULL);
        if (is_lacking && state == HV_MIGRATION_PENDING)
            continue;
        row.of[state]++;
        shard_list_add(&lists[state], shard);
    }
    for (int state = 0; state < STATES; state++)
        row.in[state] = shard_list_take(&lists[state]);
    return row;
}

static bool is_alike(const file_row *left, const file_row *right) {
    for (int state = 0; state < STATES; state++)
        if (strcmp(left->in[state], right->in[state]) != 0)
            return false;
    return true;
}

static void free_row(file_row *row) {
    for (int state = 0; state < STATES; state++)
        free(row->in[state]);
}

static matrix make_matrix(const hv_ledger *ledger, bool together) {
    size_t files = hv_ledger_files(ledger);
    matrix all = {.ledger = ledger, .rows = new_memory((files + 1) * sizeof *all.rows)};
    for (size_t i = 0; i < files; i++) {
        file_row row = make_row(ledger, i);
        for (int state = 0; state < STATES; state++)
            all.has[state] = all.has[state] || row.of[state] > 0;
        file_row *last = all.count > 0 ? &all.rows[all.count - 1] : NULL;
        if (together && last != NULL && is_alike(last, &row)) {
            last->count++;
            free_row(&row);
        } else {
            all.rows[all.count++] = row;
        }
    }
    return all;
}

static void free_matrix(matrix *all) {
    for (size_t i = 0; i < all->count; i++)
        free_row(&all->rows[i]);
    free(all->rows);
}

/* ---- For people ------------------------------------------------------------------------------ */

/* "0001_a.sql", or "0001_a.sql to 0140_z.sql (140)" */
static char *row_name(const matrix *all, const file_row *row) {
    const char *first = hv_ledger_file(all->ledger, row->first);
    if (row->count == 1)
        return copy_text(first);
    return format_text("%s to %s (%zu)", first,
                       hv_ledger_file(all->ledger, row->first + row->count - 1), row->count);
}

/* "pending on 1-9,12; changed on 40" */
static char *row_places(const file_row *row) {
    char *text = copy_text("");
    for (int state = 0; state < STATES; state++) {
        if (state == HV_MIGRATION_DONE || row->of[state] == 0)
            continue;
        char *list = shard_list_short(row->in[state]);
        char *more = format_text("%s%s%s on %s", text, text[0] != '\0' ? "; " : "",
                                 states[state].title, list);
        free(text);
        free(list);
        text = more;
    }
    return text;
}

/* The states that have a column: done, and others that occur. */
static int choose_columns(const matrix *all, ui_column *columns, int *shown) {
    int count = 0;
    columns[count++] = (ui_column){"file", false};
    for (int i = 0; i < STATES; i++) {
        static const int order[STATES] = {HV_MIGRATION_DONE, HV_MIGRATION_PENDING,
                                          HV_MIGRATION_CHANGED, HV_MIGRATION_INTERRUPTED,
                                          HV_MIGRATION_NO_FILE};
        int state = order[i];
        if (state != HV_MIGRATION_DONE && !all->has[state])
            continue;
        shown[count] = state;
        columns[count++] = (ui_column){states[state].title, true};
    }
    columns[count++] = (ui_column){"shards", false};
    return count;
}

static void print_table(const matrix *all) {
    ui_column columns[STATES + 2];
    int shown[STATES + 2];
    char number[UI_NUMBER_SIZE];
    int count = choose_columns(all, columns, shown);
    ui_table *table = ui_table_new(columns, count);
    ui_table_cut(table, count - 1);
    for (size_t i = 0; i < all->count; i++) {
        const file_row *row = &all->rows[i];
        char *name = row_name(all, row), *places = row_places(row);
        ui_cell(table, UI_NAME, "%s", name);
        for (int j = 1; j < count - 1; j++) {
            size_t shards = row->of[shown[j]];
            ui_cell(table, shards > 0 ? states[shown[j]].style : UI_DIM, "%s",
                    ui_number(number, (int64_t) shards));
        }
        bool is_known = row->of[HV_MIGRATION_DONE] > 0; /* no shard may have been read */
        ui_cell(table, UI_PLAIN, "%s", places[0] != '\0' ? places : is_known ? "all" : "-");
        free(places);
        free(name);
    }
    ui_table_print(table);
    ui_table_free(table);
}

/* The digest that was recorded for a file where it is changed. */
static const char *recorded_digest(const matrix *all, size_t file) {
    const char *digest = NULL;
    for (size_t i = 0; hv_ledger_shard(all->ledger, i, NULL, NULL, NULL); i++)
        if (is_read(all->ledger, i, NULL) &&
            hv_ledger_state(all->ledger, i, file, &digest, NULL) == HV_MIGRATION_CHANGED)
            return digest;
    return NULL;
}

static const char *own_digest(const hv_migrations *migrations, const char *name) {
    const char *other;
    for (size_t i = 0; migrations != NULL && (other = hv_migrations_name(migrations, i)) != NULL;
         i++)
        if (strcmp(other, name) == 0)
            return hv_migrations_digest(migrations, i);
    return NULL;
}

static void print_changes(const matrix *all, const hv_migrations *migrations) {
    for (size_t i = 0; i < hv_ledger_files(all->ledger); i++) {
        const char *name = hv_ledger_file(all->ledger, i);
        const char *recorded = recorded_digest(all, i), *own = own_digest(migrations, name);
        if (recorded == NULL || own == NULL)
            continue;
        printf("%s", ui_on(stdout, UI_BAD));
        ui_text(stdout, name, strlen(name));
        printf(":%s it was changed after it ran: it ran with ", ui_off(stdout));
        ui_text(stdout, recorded, strlen(recorded));
        printf(", and is now %s\n", own);
    }
}

/* ---- For programs ---------------------------------------------------------------------------- */

static json_t *row_json(const matrix *all, const file_row *row, const hv_migrations *migrations) {
    const char *name = hv_ledger_file(all->ledger, row->first);
    const char *recorded = recorded_digest(all, row->first);
    json_t *object = json_pack("{s:o, s:s*, s:o*}", "name", ui_json_text(name), "digest",
                               own_digest(migrations, name), "recorded_digest",
                               recorded != NULL ? ui_json_text(recorded) : NULL);
    for (int state = 0; state < STATES; state++) {
        char *where = format_text("%s_in", states[state].member);
        json_object_set_new(object, states[state].member,
                            json_integer((json_int_t) row->of[state]));
        json_object_set_new(object, where, json_string(row->in[state]));
        free(where);
    }
    return object;
}

static void print_all_json(const matrix *all, const hv_migrations *migrations, failures *failed,
                           size_t shards) {
    json_t *files = json_array();
    for (size_t i = 0; i < all->count; i++)
        json_array_append_new(files, row_json(all, &all->rows[i], migrations));
    print_json(json_pack("{s:I, s:o, s:o}", "shards", (json_int_t) shards, "files", files,
                         "failures", failures_json(failed)));
}

/* ---- All of it ------------------------------------------------------------------------------- */

int ledger_show(const hv_ledger *ledger, const hv_migrations *migrations) {
    bool together = !ui_is_json() && hv_ledger_files(ledger) > MANY_FILES;
    matrix all = make_matrix(ledger, together);
    failures *failed = failures_new();
    size_t shards = 0, failed_count = 0;
    int shard;
    const hv_error *error;
    for (; hv_ledger_shard(ledger, shards, NULL, &shard, &error); shards++) {
        if (error != NULL)
            failures_add(failed, shard, error);
        failed_count += error != NULL;
    }
    if (ui_is_json()) {
        print_all_json(&all, migrations, failed, shards);
    } else {
        if (all.count > 0)
            print_table(&all);
        else if (failed_count < shards)
            puts("No migration has run on these shards.");
        print_changes(&all, migrations);
        output_flush(); /* the errors come after the table */
        failures_say(failed);
    }
    bool is_done = failed_count == 0;
    for (int state = 0; state < STATES; state++)
        is_done = is_done && (state == HV_MIGRATION_DONE || !all.has[state]);
    failures_free(failed);
    free_matrix(&all);
    return is_done ? EXIT_DONE : EXIT_FAILED;
}

void ledger_count(const hv_ledger *ledger, ledger_counts *counts) {
    matrix all = make_matrix(ledger, false);
    *counts = (ledger_counts){0};
    for (size_t i = 0; i < all.count; i++) {
        const file_row *row = &all.rows[i];
        bool is_open = false;
        for (int state = 0; state < STATES; state++) {
            bool occurs = state != HV_MIGRATION_DONE && row->of[state] > 0;
            is_open = is_open || occurs;
            counts->is_worse = counts->is_worse || (occurs && state != HV_MIGRATION_PENDING);
        }
        counts->files += is_open;
    }
    for (size_t i = 0; hv_ledger_shard(ledger, i, NULL, NULL, NULL); i++) {
        bool is_open = false;
        counts->unread += !is_read(ledger, i, NULL);
        for (size_t file = 0; is_read(ledger, i, NULL) && file < all.count; file++) {
            hv_migration_state state = hv_ledger_state(ledger, i, file, NULL, NULL);
            bool is_pending = state == HV_MIGRATION_PENDING;
            is_open = is_open || (is_pending ? all.rows[file].of[state] > 0 /* see lacks_file() */
                                             : state != HV_MIGRATION_DONE);
        }
        counts->shards += is_open;
    }
    free_matrix(&all);
}
