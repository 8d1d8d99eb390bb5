/*
 * rollout_watch: what people see while work on all shards goes on.
 */
#include "rollout_watch.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/shard_ranges.h"
#include "servers/servers.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* A shard that waits for so long is named where there is no terminal. */
#define LONG_WAIT_US 2000000

/* The lines below the bars change no more often. */
#define REMARKS_US 200000

/* A shard, or a server as a whole, whose work has begun and not ended. */
typedef struct active {
    int server;
    int shard; /* -1: the server as a whole */
    double share;
    char *step;         /* owned; NULL: none to be shown */
    char *waits_for;    /* owned; NULL: it does not wait */
    int64_t waiting_us; /* when it was first met waiting; 0: it was not */
    bool is_told;
} active;

struct rollout_watch {
    const hv_store *store;
    ui_progress *progress;
    int *lines; /* of the bars, by server; -1: none */
    int *totals;
    int *ended;
    bool *failed;
    active *all;
    size_t count;
    int64_t remarks_us; /* when the lines below the bars were made */
};

/* ---- How much there is to do ----------------------------------------------------------------- */

/* Is the shard in the list? A wrong one is the library's to report. */
static bool is_listed(const char *list, int shard) {
    hvi_shard_range range;
    hvi_shard_reader reader = hvi_shard_reader_of(list, "option", "--shards");
    do {
        if (hvi_shard_reader_next(&reader, &range, NULL) != HV_OK)
            return false;
        if (shard >= range.begin && shard < range.end)
            return true;
    } while (hvi_shard_reader_goes_on(&reader));
    return false;
}

static int count_work(const hv_store *store, int server, const rollout_scope *scope) {
    int count = 0;
    const char *shards = scope->shards;
    for (size_t i = 0; i < scope->skipped_count; i++)
        if (strcmp(scope->skipped[i], hv_server_name(store, server)) == 0)
            return 0;
    if (shards == NULL)
        count = count_shards(store, server);
    for (int shard = -1; shards != NULL && (shard = hv_next_shard(store, server, shard)) >= 0;)
        count += is_listed(shards, shard);
    return scope->per_server && count > 0 ? 1 : count;
}

rollout_watch *rollout_watch_new(const hv_store *store, const rollout_scope *scope) {
    int servers = hv_server_count(store), bars = 0;
    rollout_watch *watch = new_memory(sizeof *watch);
    watch->store = store;
    watch->lines = new_memory((size_t) servers * sizeof *watch->lines);
    watch->totals = new_memory((size_t) servers * sizeof *watch->totals);
    watch->ended = new_memory((size_t) servers * sizeof *watch->ended);
    watch->failed = new_memory((size_t) servers * sizeof *watch->failed);
    const char **labels = new_memory((size_t) servers * sizeof *labels);
    for (int i = 0; i < servers; i++) {
        watch->totals[i] = count_work(store, i, scope);
        watch->lines[i] = watch->totals[i] > 0 ? bars : -1;
        if (watch->totals[i] > 0)
            labels[bars++] = hv_server_name(store, i);
    }
    watch->progress = ui_progress_new(bars, labels, scope->per_server ? "servers" : "shards");
    for (int i = 0; i < servers; i++)
        if (watch->lines[i] >= 0)
            ui_progress_total(watch->progress, watch->lines[i], watch->totals[i]);
    free(labels);
    return watch;
}

static void forget(active *of) {
    free(of->step);
    free(of->waits_for);
}

void rollout_watch_free(rollout_watch *watch) {
    if (watch == NULL)
        return;
    ui_progress_free(watch->progress, false);
    for (size_t i = 0; i < watch->count; i++)
        forget(&watch->all[i]);
    free(watch->all);
    free(watch->lines);
    free(watch->totals);
    free(watch->ended);
    free(watch->failed);
    free(watch);
}

/* ---- Events ---------------------------------------------------------------------------------- */

/* The work on this shard, which has begun now if it is not known yet. */
static active *find(rollout_watch *watch, int server, int shard) {
    for (size_t i = 0; i < watch->count; i++)
        if (watch->all[i].server == server && watch->all[i].shard == shard)
            return &watch->all[i];
    watch->all = resize_memory(watch->all, (watch->count + 1) * sizeof *watch->all);
    watch->all[watch->count] = (active){.server = server, .shard = shard};
    return &watch->all[watch->count++];
}

static void end(rollout_watch *watch, active *of, bool failed) {
    int server = of->server, line = watch->lines[server];
    forget(of);
    *of = watch->all[--watch->count];
    watch->ended[server]++;
    watch->failed[server] = watch->failed[server] || failed;
    if (line < 0)
        return;
    ui_progress_add(watch->progress, line, 1);
    if (watch->ended[server] == watch->totals[server])
        ui_progress_end(watch->progress, line, watch->failed[server] ? UI_FAILED : UI_DONE);
}

static void note(active *of, const hv_rollout_event *event) {
    forget(of);
    bool waits = event->work == HV_WORK_WAITING;
    of->step = event->step != NULL ? copy_text(event->step) : NULL;
    of->waits_for =
        waits ? copy_text(event->waits_for != NULL ? event->waits_for : "not known") : NULL;
    of->share = event->share;
    if (waits && of->waiting_us == 0)
        of->waiting_us = hvi_clock_us();
}

/* How much of what a server is doing is done already. */
static void add_up_parts(const rollout_watch *watch, int server) {
    double part = 0;
    for (size_t i = 0; i < watch->count; i++)
        if (watch->all[i].server == server && watch->all[i].share > 0)
            part += watch->all[i].share;
    if (watch->lines[server] >= 0)
        ui_progress_part(watch->progress, watch->lines[server], part);
}

/* "shard 12", or the name of the server: free() it. */
static char *name_of(const rollout_watch *watch, const active *of) {
    return of->shard >= 0 ? format_text("shard %d", of->shard)
                          : format_text("server \"%s\"", hv_server_name(watch->store, of->server));
}

static void remark(const rollout_watch *watch, int index, const active *of) {
    char *name = name_of(watch, of), *text;
    if (of->waits_for != NULL)
        text = format_text("%s waits: %s", name, of->waits_for);
    else if (of->share >= 0)
        text = format_text("%s: %s, %.0f %%", name, of->step, of->share * 100);
    else
        text = format_text("%s: %s", name, of->step);
    ui_progress_remark(watch->progress, index, of->waits_for != NULL ? UI_WARN : UI_DIM, text);
    free(text);
    free(name);
}

/* Shards that wait are shown first, those that have waited longest first, then long steps. */
static int by_interest(const void *left, const void *right) {
    const active *one = *(const active *const *) left, *other = *(const active *const *) right;
    if ((one->waits_for != NULL) != (other->waits_for != NULL))
        return one->waits_for != NULL ? -1 : 1;
    if (one->waits_for != NULL && one->waiting_us != other->waiting_us)
        return one->waiting_us < other->waiting_us ? -1 : 1;
    return one->shard - other->shard;
}

/* `at_once`: what is shown may be over. */
static void show_remarks(rollout_watch *watch, bool at_once) {
    int64_t now = hvi_clock_us();
    if (!ui_progress_is_shown(watch->progress) ||
        (!at_once && now - watch->remarks_us < REMARKS_US))
        return;
    watch->remarks_us = now;
    const active **shown = new_memory((watch->count + 1) * sizeof(active *));
    size_t count = 0;
    for (size_t i = 0; i < watch->count; i++) {
        const active *of = &watch->all[i];
        if (of->waits_for != NULL || (of->step != NULL && of->share >= 0))
            shown[count++] = of;
    }
    qsort(shown, count, sizeof(active *), by_interest);
    size_t room = count > UI_REMARKS ? UI_REMARKS - 1 : UI_REMARKS;
    for (size_t i = 0; i < UI_REMARKS; i++) {
        if (i < room && i < count) {
            remark(watch, (int) i, shown[i]);
        } else if (i < count) {
            char *text = format_text("and %zu more", count - room);
            ui_progress_remark(watch->progress, (int) i, UI_DIM, text);
            free(text);
        } else {
            ui_progress_remark(watch->progress, (int) i, UI_PLAIN, NULL);
        }
    }
    free(shown);
}

/* Where there are no bars, say once that it waits. */
static void note_wait(const rollout_watch *watch, active *of) {
    if (of->waits_for == NULL || of->is_told || ui_progress_is_shown(watch->progress) ||
        hvi_clock_us() - of->waiting_us < LONG_WAIT_US)
        return;
    of->is_told = true;
    char *name = name_of(watch, of);
    ui_note("%s waits: %s", name, of->waits_for);
    free(name);
}

void rollout_watch_event(void *context, const hv_rollout_event *event) {
    rollout_watch *watch = context;
    active *of = find(watch, event->server, event->shard);
    bool was_shown = of->waits_for != NULL || (of->step != NULL && of->share >= 0);
    bool has_ended = false;
    if (event->work == HV_WORK_RUNNING || event->work == HV_WORK_WAITING) {
        note(of, event);
        note_wait(watch, of);
    } else {
        end(watch, of, event->work == HV_WORK_FAILED);
        has_ended = true;
    }
    add_up_parts(watch, event->server);
    show_remarks(watch, has_ended && was_shown);
}
