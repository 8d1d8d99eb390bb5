/*
 * rollout_summary: what has become of each shard, for people and as JSON.
 */
#include "rollout_summary.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "shard_list.h"
#include "ui/exit.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* ---- Errors of several shards ---------------------------------------------------------------- */

typedef struct failure_group {
    const hv_error *first;
    size_t count;
    shard_list shards;
    char *ranges; /* … as a text, once they are complete; owned; NULL: they are not */
} failure_group;

struct failures {
    failure_group *groups;
    size_t count;
};

failures *failures_new(void) {
    return new_memory(sizeof(failures));
}

void failures_free(failures *all) {
    for (size_t i = 0; i < all->count; i++) {
        free(all->groups[i].ranges);
        free(shard_list_take(&all->groups[i].shards));
    }
    free(all->groups);
    free(all);
}

/* Does a number stand here that may differ: "shard0012", "shard 12", "process 4711"? */
static bool is_particular(const char *text, const char *at) {
    static const char *const words[] = {"shard", "shard ", "process "};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t len = strlen(words[i]);
        if ((size_t) (at - text) >= len && strncmp(at - len, words[i], len) == 0)
            return true;
    }
    return false;
}

/* Are they the same but for such numbers? */
static bool is_alike(const char *left, const char *right) {
    static const char digits[] = "0123456789";
    const char *one = left, *other = right;
    while (*one == *other || (*one != '\0' && strchr(digits, *one) != NULL)) {
        if (*one != '\0' && strchr(digits, *one) != NULL && is_particular(left, one) &&
            strchr(digits, *other) != NULL && *other != '\0') {
            one += strspn(one, digits);
            other += strspn(other, digits);
            continue;
        }
        if (*one != *other)
            return false;
        if (*one == '\0')
            return true;
        one++;
        other++;
    }
    return false;
}

static failure_group *group_of(failures *all, int shard, const hv_error *error) {
    for (size_t i = 0; shard >= 0 && i < all->count; i++) {
        const hv_error *first = all->groups[i].first;
        if (all->groups[i].shards.count > 0 && hv_error_status(first) == hv_error_status(error) &&
            is_alike(hv_error_message(first), hv_error_message(error)))
            return &all->groups[i];
    }
    all->groups = resize_memory(all->groups, (all->count + 1) * sizeof *all->groups);
    all->groups[all->count] = (failure_group){.first = error};
    return &all->groups[all->count++];
}

void failures_add(failures *all, int shard, const hv_error *error) {
    failure_group *group = group_of(all, shard, error);
    group->count++;
    if (shard >= 0)
        shard_list_add(&group->shards, shard);
}

static const char *ranges_of(failure_group *group) {
    if (group->ranges == NULL)
        group->ranges = shard_list_take(&group->shards);
    return group->ranges;
}

void failures_say(failures *all) {
    for (size_t i = 0; i < all->count; i++) {
        failure_group *group = &all->groups[i];
        if (group->count == 1) {
            ui_error(group->first);
            continue;
        }
        char *ranges =
            ui_is_json() ? copy_text(ranges_of(group)) : shard_list_short(ranges_of(group));
        ui_shards_error(group->first, ranges);
        free(ranges);
    }
}

json_t *failures_json(failures *all) {
    json_t *list = json_array();
    for (size_t i = 0; i < all->count; i++) {
        failure_group *group = &all->groups[i];
        json_array_append_new(list, json_pack("{s:s, s:I, s:o}", "shards", ranges_of(group),
                                              "count", (json_int_t) group->count, "error",
                                              ui_error_json(group->first)));
    }
    return list;
}

/* ---- Summaries ------------------------------------------------------------------------------- */

static size_t count_good(const hv_summary *summary) {
    return hv_summary_count(summary, HV_WORK_DONE) + hv_summary_count(summary, HV_WORK_UNCHANGED);
}

int summary_code(const hv_summary *summary) {
    size_t good = count_good(summary);
    return good == hv_summary_shards(summary) ? EXIT_DONE : good > 0 ? EXIT_PARTLY : EXIT_FAILED;
}

failures *summary_failures(const hv_summary *summary) {
    failures *all = failures_new();
    int shard;
    hv_work work;
    const hv_error *error;
    for (size_t i = 0; hv_summary_at(summary, i, NULL, &shard, &work, &error); i++)
        if (work == HV_WORK_FAILED && error != NULL)
            failures_add(all, shard, error);
    return all;
}

char *summary_shards(const hv_summary *summary, hv_work work) {
    shard_list list = {0};
    int shard;
    hv_work is;
    for (size_t i = 0; hv_summary_at(summary, i, NULL, &shard, &is, NULL); i++)
        if (is == work && shard >= 0)
            shard_list_add(&list, shard);
    return shard_list_take(&list);
}

/* Those that are not done, with an unknown outcome or without. */
static char *shards_not_done(const hv_summary *summary, bool is_unknown) {
    shard_list list = {0};
    int shard;
    hv_work work;
    const hv_error *error;
    for (size_t i = 0; hv_summary_at(summary, i, NULL, &shard, &work, &error); i++)
        if (work != HV_WORK_DONE && work != HV_WORK_UNCHANGED && shard >= 0 &&
            (error != NULL && hv_error_outcome_unknown(error)) == is_unknown)
            shard_list_add(&list, shard);
    return shard_list_take(&list);
}

char *summary_shards_not_done(const hv_summary *summary) {
    return shards_not_done(summary, false);
}

char *summary_shards_unknown(const hv_summary *summary) {
    return shards_not_done(summary, true);
}

/* How many of a server's shards are in each state. */
typedef struct server_sum {
    size_t all;
    size_t of[HV_WORK_FAILED + 1];
} server_sum;

static server_sum *add_up(const hv_store *store, const hv_summary *summary) {
    server_sum *sums = new_memory((size_t) hv_server_count(store) * sizeof *sums);
    int server;
    hv_work work;
    for (size_t i = 0; hv_summary_at(summary, i, &server, NULL, &work, NULL); i++) {
        sums[server].all++;
        sums[server].of[work]++;
    }
    return sums;
}

static void add_count(ui_table *table, ui_style style, size_t count) {
    char number[UI_NUMBER_SIZE];
    ui_cell(table, count > 0 ? style : UI_DIM, "%s", ui_number(number, (int64_t) count));
}

void summary_print(const hv_store *store, const hv_summary *summary) {
    static const ui_column columns[] = {{"server", false},   {"shards", true}, {"done", true},
                                        {"unchanged", true}, {"failed", true}, {"not begun", true}};
    ui_table *table = ui_table_new(columns, 6);
    server_sum *sums = add_up(store, summary);
    for (int i = 0; i < hv_server_count(store); i++) {
        if (sums[i].all == 0)
            continue;
        ui_cell(table, UI_NAME, "%s", hv_server_name(store, i));
        add_count(table, UI_PLAIN, sums[i].all);
        add_count(table, UI_GOOD, sums[i].of[HV_WORK_DONE]);
        add_count(table, UI_PLAIN, sums[i].of[HV_WORK_UNCHANGED]);
        add_count(table, UI_BAD, sums[i].of[HV_WORK_FAILED]);
        add_count(table, UI_WARN, sums[i].of[HV_WORK_NOT_BEGUN]);
    }
    ui_table_print(table);
    ui_table_free(table);
    free(sums);
}

static json_t *counts_json(const server_sum *sum) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "shards", (json_int_t) sum->all, "done",
                     (json_int_t) sum->of[HV_WORK_DONE], "unchanged",
                     (json_int_t) sum->of[HV_WORK_UNCHANGED], "failed",
                     (json_int_t) sum->of[HV_WORK_FAILED], "not_begun",
                     (json_int_t) sum->of[HV_WORK_NOT_BEGUN]);
}

json_t *summary_json(const hv_store *store, const hv_summary *summary) {
    server_sum *sums = add_up(store, summary), whole = {0};
    json_t *servers = json_array();
    for (int i = 0; i < hv_server_count(store); i++) {
        if (sums[i].all == 0)
            continue;
        whole.all += sums[i].all;
        for (int work = 0; work <= HV_WORK_FAILED; work++)
            whole.of[work] += sums[i].of[work];
        json_t *server = counts_json(&sums[i]);
        json_object_set_new(server, "server", ui_json_text(hv_server_name(store, i)));
        json_array_append_new(servers, server);
    }
    free(sums);
    failures *all = summary_failures(summary);
    char *waiting = summary_shards(summary, HV_WORK_NOT_BEGUN);
    json_t *object = counts_json(&whole);
    json_object_set_new(object, "servers", servers);
    json_object_set_new(object, "failures", failures_json(all));
    json_object_set_new(object, "shards_not_begun", json_string(waiting));
    failures_free(all);
    free(waiting);
    return object;
}
