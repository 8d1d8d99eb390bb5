/*
 * count: how many entities a selection means; hv_count() and the functions of its result.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "entity/count.h"
#include "store/store.h"
#include "store/survey.h"

typedef struct group {
    int64_t group;
    int64_t count;
} group;

struct hv_counts {
    group *groups; /* in ascending order, once it is complete; owned */
    size_t count;
    size_t room;
    hvi_missing missing;
};

/* A count that is under way. */
typedef struct counter {
    hvi_counting counting;
    hv_counts *counts;
    /* Of an estimate: the shards that the planner is asked about, each a portion. */
    hvi_portion *planned; /* owned */
    size_t planned_count;
    size_t planned_room;
} counter;

void hv_counts_free(hv_counts *counts) {
    if (counts == NULL)
        return;
    hvi_missing_fini(&counts->missing);
    free(counts->groups);
    free(counts);
}

/* ---- groups ---- */

static bool add(hv_counts *counts, int64_t number, int64_t count) {
    if (counts->count == counts->room) {
        size_t room = 2 * counts->room + 16;
        group *groups = realloc(counts->groups, room * sizeof *groups);
        if (groups == NULL)
            return false;
        counts->groups = groups;
        counts->room = room;
    }
    counts->groups[counts->count++] = (group){number, count};
    return true;
}

static int compare(const void *left, const void *right) {
    const group *a = left, *b = right;
    return a->group < b->group ? -1 : a->group > b->group;
}

/* Sort the groups, and make those that several servers or shards have counted one. */
static void merge(hv_counts *counts) {
    size_t kept = 0;
    if (counts->count > 0)
        qsort(counts->groups, counts->count, sizeof *counts->groups, compare);
    for (size_t i = 0; i < counts->count; i++) {
        const group *next = &counts->groups[i];
        if (kept > 0 && counts->groups[kept - 1].group == next->group)
            counts->groups[kept - 1].count += next->count;
        else
            counts->groups[kept++] = *next;
    }
    counts->count = kept;
}

/* The group of a row of an answer. */
static int64_t group_of(const counter *c, const hvi_portion *portion, int64_t number) {
    switch (c->counting.by) {
    case HV_COUNT_ALL:
        return 0;
    case HV_COUNT_SERVER:
        return portion->server->number;
    default:
        return number;
    }
}

/* ---- asking ---- */

static hvi_ask *ask(void *context, hvi_portion portion) {
    const counter *c = context;
    return hvi_count_new(&c->counting, portion);
}

static hvi_ask *ask_plan(void *context, hvi_portion portion) {
    const counter *c = context;
    return hvi_count_new_planned(&c->counting, portion);
}

static hv_status fail_unknown(const hvi_portion *portion, int shard, hv_error **error) {
    hvi_fail(error, HV_REFUSED, "the server has no statistics of the kinds in shard %d", shard);
    hvi_error_hint(error, "Run ANALYZE on its table, or count without an estimate.");
    hvi_error_where(error, portion->server->name, shard);
    return HV_REFUSED;
}

/* There are entities without a type; in which shard is known when that is asked alone. */
static hv_status fail_null(const hvi_portion *portion, hv_error **error) {
    int shard = portion->shards[0];
    char schema[HVI_SCHEMA_NAME_LEN];
    hvi_schema_name(shard, schema);
    hvi_fail(error, HV_CORRUPT, "an entity of shard %d has no type", shard);
    hvi_error_detail(error, "The column type of %s.entities is NULL there, which the table allows.",
                     schema);
    hvi_error_hint(error,
                   "Give it one or remove it; then ALTER TABLE %s.entities ALTER COLUMN type SET "
                   "NOT NULL.",
                   schema);
    hvi_error_where(error, portion->server->name, shard);
    return HV_CORRUPT;
}

/* The shard has to be estimated by the planner. */
static bool plan(counter *c, const hvi_portion *portion, int64_t shard) {
    if (c->planned_count == c->planned_room) {
        size_t room = 2 * c->planned_room + 16;
        hvi_portion *planned = realloc(c->planned, room * sizeof *planned);
        if (planned == NULL)
            return false;
        c->planned = planned;
        c->planned_room = room;
    }
    for (int i = 0; i < portion->count; i++)
        if (portion->shards[i] == shard)
            c->planned[c->planned_count++] = (hvi_portion){portion->server, portion->shards + i, 1};
    return true;
}

/* Nothing is added of a portion that fails, since its shards are then asked again, one by one. */
static hv_status check_answer(const counter *c, const hvi_portion *portion, const PGresult *result,
                              hv_error **error) {
    for (int row = 0; row < PQntuples(result); row++) {
        if (PQgetisnull(result, row, 0))
            return fail_null(portion, error);
        if (PQgetisnull(result, row, 1) && c->counting.by == HV_COUNT_KIND)
            return fail_unknown(portion, (int) hvi_integer_at(result, row, 0), error);
    }
    return HV_OK;
}

static hv_status answer(void *context, hvi_portion portion, const PGresult *result,
                        hv_error **error) {
    counter *c = context;
    hv_status status = check_answer(c, &portion, result, error);
    bool ok = true;
    if (status != HV_OK)
        return status;
    for (int row = 0; ok && row < PQntuples(result); row++) {
        int64_t number = hvi_integer_at(result, row, 0);
        if (!PQgetisnull(result, row, 1))
            ok = add(c->counts, group_of(c, &portion, number), hvi_integer_at(result, row, 1));
        else
            ok = plan(c, &portion, number);
    }
    return ok ? HV_OK : hvi_no_memory(error);
}

static hv_status answer_plan(void *context, hvi_portion portion, const PGresult *result,
                             hv_error **error) {
    counter *c = context;
    int64_t rows = hvi_count_planned(PQgetvalue(result, 0, 0));
    if (rows < 0)
        return hvi_fail_answer(portion.server->name, portion.shards[0], "a plan", error,
                               "sent something else");
    return add(c->counts, group_of(c, &portion, portion.shards[0]), rows) ? HV_OK
                                                                          : hvi_no_memory(error);
}

/* The server does not know the time zone. */
static bool is_unknown_zone(void *context, hv_error **cause) {
    const counter *c = context;
    if (c->counting.by != HV_COUNT_TIME || !hvi_error_has_sqlstate(*cause, "22023"))
        return false;
    hv_error *error = NULL;
    hvi_fail(&error, HV_INVALID, "time zone \"%s\" is not known",
             hvi_utf8_excerpt(c->counting.zone, strlen(c->counting.zone)).text);
    hvi_error_hint(&error, "Names are as in PostgreSQL's pg_timezone_names: \"Europe/Berlin\".");
    hvi_error_where(&error, hv_error_server(*cause), -1);
    hvi_error_move(cause, &error);
    return true;
}

/* ---- the call ---- */

static hv_status check_selection(const hv_selection *selection, hv_error **error) {
    const char *what = selection->newest         ? "order"
                       : selection->limit > 0    ? "limit"
                       : selection->after > 0    ? "key to go on after"
                       : selection->only != NULL ? "choice of attributes"
                                                 : NULL;
    return what == NULL ? HV_OK : hvi_fail(error, HV_INVALID, "counting takes no %s", what);
}

static hv_status check_time(const hvi_counting *counting, hv_error **error) {
    if (counting->by != HV_COUNT_TIME) {
        if (counting->unit != NULL || counting->zone != NULL)
            return hvi_fail(error, HV_INVALID,
                            "units and time zones are for counting by time only");
        return HV_OK;
    }
    if (counting->unit == NULL || !hvi_count_is_unit(counting->unit)) {
        const char *unit = counting->unit != NULL ? counting->unit : "";
        hvi_fail(error, HV_INVALID, "\"%s\" is not a unit of time",
                 hvi_utf8_excerpt(unit, strlen(unit)).text);
        hvi_error_hint(error, "second, minute, hour, day, week, month, quarter or year");
        return HV_INVALID;
    }
    if (counting->zone != NULL &&
        hvi_utf8_prefix(counting->zone, strlen(counting->zone)) < strlen(counting->zone))
        return hvi_fail(error, HV_INVALID, "the name of the time zone is not UTF-8");
    return HV_OK;
}

static hv_status check(const hvi_counting *counting, hv_error **error) {
    hv_status status = check_selection(counting->selection, error);
    if (status == HV_OK && (counting->by < HV_COUNT_ALL || counting->by > HV_COUNT_TIME))
        status = hvi_fail(error, HV_INVALID, "%d is nothing to count by", (int) counting->by);
    if (status == HV_OK)
        status = check_time(counting, error);
    if (status != HV_OK || !counting->estimate)
        return status;
    if (counting->by == HV_COUNT_TIME)
        return hvi_fail(error, HV_INVALID, "there is no estimate by time");
    if (counting->by == HV_COUNT_KIND && hvi_count_needs_plan(counting))
        return hvi_fail(error, HV_INVALID,
                        "there is no estimate by kind with conditions on attributes or keys");
    return HV_OK;
}

static hv_status count(hv_store *store, counter *c, hv_error **error) {
    hv_counts *counts = c->counts;
    const hvi_counting *counting = &c->counting;
    hvi_portions portions = {0};
    hv_status status =
        hvi_portions_init(&portions, &store->router, counting->selection, &counts->missing, error);
    hvi_survey survey = {
        .store = store,
        .selection = counting->selection,
        .missing = &counts->missing,
        .context = c,
        .ask = ask,
        .answer = answer,
        .is_final = is_unknown_zone,
    };
    if (status == HV_OK)
        status = hvi_survey_run(&survey, portions.items, portions.count, error);
    survey.ask = ask_plan;
    survey.answer = answer_plan;
    if (status == HV_OK && c->planned_count > 0)
        status = hvi_survey_run(&survey, c->planned, c->planned_count, error);
    if (status == HV_OK && counting->by == HV_COUNT_ALL && !add(counts, 0, 0))
        status = hvi_no_memory(error);
    merge(counts);
    hvi_portions_fini(&portions);
    return status;
}

hv_status hv_count(hv_store *store, const hv_selection *selection, hv_count_by by, const char *unit,
                   const char *zone, bool estimate, hv_counts **counts, hv_error **error) {
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    hv_selection *copy = hvi_selection_copy(selection);
    counter c = {
        .counting = {.selection = copy,
                     .by = by,
                     .unit = unit,
                     .zone = zone,
                     .epoch = store->epoch,
                     .estimate = estimate},
        .counts = calloc(1, sizeof *c.counts),
    };
    status = copy != NULL && c.counts != NULL ? HV_OK : hvi_no_memory(error);
    if (status == HV_OK)
        status = hvi_selection_bounds(copy, store->epoch, &c.counting.range, error);
    if (status == HV_OK)
        status = check(&c.counting, error);
    if (by == HV_COUNT_TIME && zone == NULL)
        c.counting.zone = "UTC";
    if (status == HV_OK)
        status = count(store, &c, error);
    if (status == HV_OK)
        *counts = c.counts;
    else
        hv_counts_free(c.counts);
    free(c.planned);
    hv_selection_free(copy);
    return hvi_store_leave(&visit, status);
}

bool hv_counts_at(const hv_counts *counts, size_t index, int64_t *number, int64_t *count) {
    if (index >= counts->count)
        return false;
    if (number != NULL)
        *number = counts->groups[index].group;
    if (count != NULL)
        *count = counts->groups[index].count;
    return true;
}

int64_t hv_counts_total(const hv_counts *counts) {
    int64_t total = 0;
    for (size_t i = 0; i < counts->count; i++)
        total += counts->groups[i].count;
    return total;
}

const hv_error *hv_counts_missing(const hv_counts *counts, size_t index) {
    return hvi_missing_at(&counts->missing, index);
}
