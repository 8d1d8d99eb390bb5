/*
 * moves: what the journals of all servers have, and the removal of what is over.
 */
#include "move/moves.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "move/journal.h"
#include "move/link.h"
#include "move/move.h"

#define ASK_MS   5000
#define SWEEP_MS 60000

/* What one server says. */
typedef struct said {
    const char *server;
    hvi_journal_entry *entries; /* owned */
    size_t count;
    hv_error *error; /* owned; NULL: it has answered */
} said;

static void free_said(said *all, int count) {
    for (int i = 0; i < count; i++) {
        free(all[i].entries);
        hv_error_free(all[i].error);
    }
    free(all);
}

static void ask(hvi_server *server, said *to) {
    hvi_link link = {0};
    to->server = server->name;
    hv_status status = hvi_link_open(&link, server, hvi_deadline_after(ASK_MS), &to->error);
    if (status == HV_OK)
        status = hvi_journal_all(link.session, hvi_link_deadline(), &to->entries, &to->count,
                                 &to->error);
    hvi_link_close(&link);
}

static said *ask_all(hvi_router *router) {
    said *all = calloc((size_t) router->server_count, sizeof *all);
    for (int i = 0; all != NULL && i < router->server_count; i++)
        ask(&router->servers[i], &all[i]);
    return all;
}

/* ---- listing ---- */

/* One move, with the texts that its info points to. */
typedef struct item {
    hvi_journal_row row;
    hv_move_info info;
} item;

struct hv_moves {
    item **items; /* owned, as each */
    size_t count;
    hv_error **missing; /* owned, as each */
    size_t missing_count;
};

static item *find_item(const hv_moves *moves, const hvi_journal_row *row) {
    for (size_t i = 0; i < moves->count; i++)
        if (moves->items[i]->row.id == row->id && moves->items[i]->row.shard == row->shard)
            return moves->items[i];
    return NULL;
}

static bool add(hv_moves *moves, const hvi_journal_entry *entry) {
    item *at = find_item(moves, &entry->row);
    if (at == NULL) {
        at = calloc(1, sizeof *at);
        if (at == NULL)
            return false;
        at->row = entry->row;
        moves->items[moves->count++] = at;
    }
    /* The target's row is written first: the source's is what has been begun on both. */
    if (entry->is_source)
        at->row = entry->row;
    hv_move_info *info = &at->info;
    info->running = info->running || entry->is_running;
    info->on_source = info->on_source || entry->is_source;
    info->on_target = info->on_target || !entry->is_source;
    return true;
}

static void finish_item(item *at) {
    hv_move_info *info = &at->info;
    info->shard = at->row.shard;
    info->source = at->row.source;
    info->target = at->row.target;
    info->kind = hvi_journal_kind_name(at->row.kind);
    info->step = hvi_journal_step_name(at->row.step);
    info->begun = at->row.begun;
    info->changed = at->row.changed;
    info->keep_until = at->row.keep_until;
    info->error = at->row.error[0] != '\0' ? at->row.error : NULL;
}

static int by_shard(const void *left, const void *right) {
    const item *const *a = left, *const *b = right;
    return ((*a)->row.shard > (*b)->row.shard) - ((*a)->row.shard < (*b)->row.shard);
}

hv_status hvi_moves_list(hvi_router *router, hv_moves **moves, hv_error **error) {
    size_t most = 0;
    hv_moves *made = calloc(1, sizeof *made);
    said *all = ask_all(router);
    bool ok = made != NULL && all != NULL;
    for (int i = 0; ok && i < router->server_count; i++)
        most += all[i].count;
    if (ok) {
        made->items = calloc(most + 1, sizeof(item *));
        made->missing = calloc((size_t) router->server_count + 1, sizeof(hv_error *));
        ok = made->items != NULL && made->missing != NULL;
    }
    for (int i = 0; ok && i < router->server_count; i++) {
        for (size_t j = 0; ok && j < all[i].count; j++)
            ok = add(made, &all[i].entries[j]);
        if (all[i].error != NULL) {
            made->missing[made->missing_count++] = all[i].error;
            all[i].error = NULL;
        }
    }
    if (all != NULL)
        free_said(all, router->server_count);
    if (!ok) {
        hv_moves_free(made);
        return hvi_no_memory(error);
    }
    for (size_t i = 0; i < made->count; i++)
        finish_item(made->items[i]);
    if (made->count > 0)
        qsort(made->items, made->count, sizeof(item *), by_shard);
    *moves = made;
    return HV_OK;
}

void hv_moves_free(hv_moves *moves) {
    if (moves == NULL)
        return;
    for (size_t i = 0; i < moves->count; i++)
        free(moves->items[i]);
    for (size_t i = 0; i < moves->missing_count; i++)
        hv_error_free(moves->missing[i]);
    free(moves->items);
    free(moves->missing);
    free(moves);
}

size_t hv_moves_count(const hv_moves *moves) {
    return moves->count;
}

const hv_move_info *hv_moves_at(const hv_moves *moves, size_t index) {
    return index < moves->count ? &moves->items[index]->info : NULL;
}

const hv_error *hv_moves_missing(const hv_moves *moves, size_t index) {
    return index < moves->missing_count ? moves->missing[index] : NULL;
}

/* ---- sweeping ---- */

/* What another server says about a move: *answered is false if it was not to be had. */
static const hvi_journal_entry *find_other(const said *all, int count, const char *server,
                                           const hvi_journal_row *row, bool *answered) {
    *answered = false;
    for (int i = 0; i < count; i++) {
        if (strcmp(all[i].server, server) != 0)
            continue;
        *answered = all[i].error == NULL;
        for (size_t j = 0; j < all[i].count; j++)
            if (all[i].entries[j].row.id == row->id)
                return &all[i].entries[j];
    }
    return NULL;
}

/*
 * What is to be done about a row that nobody works on. One whose other row is missing is the end of
 * a move that was brought to its end, or taken back, while this server was away: taking it back
 * does what is left to do, whichever it was. An interrupted move is left to its owner.
 */
static bool is_to_be_swept(const said *all, int count, const hvi_journal_entry *entry,
                           hvi_move_order *order) {
    bool answered;
    const char *other = entry->is_source ? entry->row.target : entry->row.source;
    const hvi_journal_entry *twin = find_other(all, count, other, &entry->row, &answered);
    if (entry->is_running || !answered || (twin != NULL && twin->is_running))
        return false;
    if (twin == NULL) {
        *order = HVI_ORDER_ABORT;
        return true;
    }
    *order = HVI_ORDER_CLEAN;
    /* An undo that is only in the target's journal has not begun. */
    return entry->is_over && entry->is_source &&
           (twin->row.step == HVI_STEP_KEPT || twin->row.kind == HVI_MOVE_UNDO);
}

static bool sweep(hvi_router *router, hvi_move_order order, const hvi_journal_row *row) {
    struct hv_move_options options;
    hvi_move *move = NULL;
    bool done = false;
    hv_error *ignored = NULL;
    hvi_move_options_init(&options);
    options.max_wait = ASK_MS;
    if (hvi_move_new(router, order, row->shard, -1, &options, &move, &ignored) == HV_OK) {
        hvi_move_only(move, row->id);
        hvi_move_advance(move, SWEEP_MS, &done, &ignored);
    }
    hvi_move_free(move);
    hv_error_free(ignored);
    return done;
}

hv_status hvi_moves_sweep(hvi_router *router, size_t *removed, hv_error **error) {
    size_t swept = 0;
    said *all = ask_all(router);
    if (all == NULL)
        return hvi_no_memory(error);
    for (int i = 0; i < router->server_count; i++)
        for (size_t j = 0; j < all[i].count; j++) {
            hvi_move_order order;
            if (is_to_be_swept(all, router->server_count, &all[i].entries[j], &order))
                swept += sweep(router, order, &all[i].entries[j].row) ? 1 : 0;
        }
    free_said(all, router->server_count);
    if (removed != NULL)
        *removed = swept;
    return HV_OK;
}
