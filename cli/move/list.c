/*
 * list: which moves are under way, or can be undone, wherever they were begun.
 */
#include "move/list.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/output.h"
#include "ui/ui.h"

static const ui_column columns[] = {
    {"shard", true}, {"from", false},  {"to", false},    {"kind", false},
    {"step", false}, {"state", false}, {"since", false}, {"last error", false},
};

static bool is_kept(const hv_move_info *move) {
    return strcmp(move->step, "kept") == 0;
}

/* "is worked on", "nobody works on it", "can be undone until 2026-11-28T07:00:00.000Z". */
static void add_state(ui_table *table, const hv_move_info *move) {
    char time[UI_NUMBER_SIZE];
    if (is_kept(move) && move->keep_until <= hvi_clock_unix_us()) /* the next move drops it */
        ui_cell(table, UI_WARN, "could be undone until %s", ui_time(time, move->keep_until / 1000));
    else if (is_kept(move))
        ui_cell(table, UI_PLAIN, "can be undone until %s", ui_time(time, move->keep_until / 1000));
    else if (move->running)
        ui_cell(table, UI_GOOD, "is worked on");
    else
        ui_cell(table, UI_WARN, "nobody works on it");
}

static void add_row(ui_table *table, const hv_move_info *move) {
    char time[UI_NUMBER_SIZE];
    ui_cell(table, UI_PLAIN, "%d", move->shard);
    ui_cell(table, UI_NAME, "%s", move->source);
    ui_cell(table, UI_NAME, "%s", move->target);
    ui_cell(table, UI_PLAIN, "%s", move->kind);
    ui_cell(table, UI_PLAIN, "%s", move->step);
    add_state(table, move);
    ui_cell(table, UI_PLAIN, "%s", ui_time(time, move->begun / 1000));
    ui_cell(table, UI_BAD, "%s", move->error != NULL ? move->error : "");
}

static json_t *move_json(const hv_move_info *move) {
    char time[UI_NUMBER_SIZE];
    json_t *object = json_pack("{s:i, s:o, s:o, s:s, s:s, s:b, s:b, s:b, s:s}", "shard",
                               move->shard, "source", ui_json_text(move->source), "target",
                               ui_json_text(move->target), "kind", move->kind, "step", move->step,
                               "running", move->running, "on_source", move->on_source, "on_target",
                               move->on_target, "begun", ui_time(time, move->begun / 1000));
    json_object_set_new(object, "changed", json_string(ui_time(time, move->changed / 1000)));
    if (is_kept(move))
        json_object_set_new(object, "keep_until",
                            json_string(ui_time(time, move->keep_until / 1000)));
    if (move->error != NULL)
        json_object_set_new(object, "error", ui_json_text(move->error));
    return object;
}

/* Servers that have not answered: their errors. */
static void say_missing(const hv_moves *moves) {
    const hv_error *error;
    for (size_t i = 0; (error = hv_moves_missing(moves, i)) != NULL; i++)
        ui_error(error);
}

static bool is_complete(const hv_moves *moves) {
    return hv_moves_missing(moves, 0) == NULL;
}

static void print_list_json(const hv_moves *moves) {
    json_t *list = json_array(), *missing = json_array();
    for (size_t i = 0; i < hv_moves_count(moves); i++)
        json_array_append_new(list, move_json(hv_moves_at(moves, i)));
    const hv_error *error;
    for (size_t i = 0; (error = hv_moves_missing(moves, i)) != NULL; i++)
        json_array_append_new(missing, ui_error_json(error));
    print_json(json_pack("{s:o, s:o}", "moves", list, "missing", missing));
}

static void print_list(const hv_moves *moves) {
    ui_table *table = ui_table_new(columns, (int) (sizeof columns / sizeof columns[0]));
    size_t orphans = 0;
    for (size_t i = 0; i < hv_moves_count(moves); i++) {
        const hv_move_info *move = hv_moves_at(moves, i);
        add_row(table, move);
        orphans += !is_kept(move) && !move->running;
    }
    ui_table_cut(table, 7);
    if (hv_moves_count(moves) > 0)
        ui_table_print(table);
    else
        ui_note("no shard is being moved");
    ui_table_free(table);
    output_flush();
    if (orphans > 0)
        ui_note("Go on with `hv move --resume`, or take moves back with `hv move --abort`.");
    say_missing(moves);
}

static hv_status read_moves(hv_store *store, hv_moves **moves) {
    hv_error *error = NULL;
    hv_status status = hv_moves_list(store, moves, &error);
    if (status != HV_OK)
        ui_error(error);
    hv_error_free(error);
    return status;
}

int list_moves(hv_store *store) {
    hv_moves *moves = NULL;
    if (read_moves(store, &moves) != HV_OK)
        return EXIT_FAILED;
    if (ui_is_json())
        print_list_json(moves);
    else
        print_list(moves);
    int code = is_complete(moves) ? EXIT_DONE : EXIT_FAILED;
    hv_moves_free(moves);
    return code;
}

int shards_of_moves(hv_store *store, bool kept, int **shards, int *count) {
    hv_moves *moves = NULL;
    *shards = NULL;
    *count = 0;
    if (read_moves(store, &moves) != HV_OK)
        return EXIT_FAILED;
    say_missing(moves);
    *shards = new_memory((hv_moves_count(moves) + 1) * sizeof **shards);
    for (size_t i = 0; i < hv_moves_count(moves); i++) {
        const hv_move_info *move = hv_moves_at(moves, i);
        bool wanted = kept ? is_kept(move) : !is_kept(move) && !move->running;
        bool known = *count > 0 && (*shards)[*count - 1] == move->shard;
        if (wanted && !known)
            (*shards)[(*count)++] = move->shard;
    }
    int code = is_complete(moves) ? EXIT_DONE : EXIT_PARTLY;
    hv_moves_free(moves);
    return code;
}
