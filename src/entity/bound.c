/*
 * bound: up to which moment everything that was put on a server can be seen.
 */
#include "entity/bound.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/error.h"

void hvi_bound_init(hvi_bound *bound, int64_t delay, int64_t ceiling) {
    *bound = (hvi_bound){.delay = delay, .ceiling = ceiling, .time = HVI_BOUND_UNKNOWN};
}

void hvi_bound_fini(hvi_bound *bound) {
    free(bound->holders);
    bound->holders = NULL;
    bound->holder_count = 0;
}

/* ---- holders ---- */

/* Two numbers as one: "4/91" is the 91st transaction of the server's backend 4. */
static int64_t make_id(int backend, uint32_t number) {
    return (int64_t) backend * (INT64_C(1) << 32) + number;
}

const char *hvi_holder_id(const hvi_holder *holder, char text[HVI_HOLDER_ID_LEN]) {
    uint32_t number = (uint32_t) holder->id;
    snprintf(text, HVI_HOLDER_ID_LEN, "%" PRId64 "/%" PRIu32,
             (holder->id - number) / (INT64_C(1) << 32), number);
    return text;
}

static int compare_holders(const void *left, const void *right) {
    const hvi_holder *a = left, *b = right;
    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    return a->pid < b->pid ? -1 : a->pid > b->pid;
}

/* Read a blank and a number, which may be missing; false if there is something else. */
static bool read_number(const char **text, int64_t *number) {
    char *end;
    if (*(*text)++ != ' ')
        return false;
    if (**text < '0' || **text > '9')
        return true;
    *number = strtoll(*text, &end, 10);
    *text = end;
    return true;
}

/* Read one holder and go on to the next; false if there is something else. */
static bool read_holder(const char **text, hvi_holder *holder) {
    int backend, len = 0;
    uint32_t number;
    int64_t pid = 0, start = HVI_BOUND_UNKNOWN;
    if (sscanf(*text, "%d/%" SCNu32 "%n", &backend, &number, &len) != 2)
        return false;
    *text += len;
    if (!read_number(text, &pid) || !read_number(text, &start))
        return false;
    *holder = (hvi_holder){.id = make_id(backend, number), .pid = (int) pid, .start = start};
    if (**text == '\0')
        return true;
    return *(*text)++ == ',' && **text != '\0';
}

/* The holders of an answer, in order. */
static hv_status read_holders(const char *text, hvi_holder **holders, size_t *count,
                              hv_error **error) {
    size_t most = 1;
    for (const char *c = text; c != NULL && *c != '\0'; c++)
        most += *c == ',';
    *count = 0;
    *holders = malloc(most * sizeof **holders);
    if (*holders == NULL)
        return hvi_no_memory(error);
    while (text != NULL && *text != '\0')
        if (*count == most || !read_holder(&text, &(*holders)[(*count)++]))
            return hvi_fail(error, HV_CORRUPT, "the server's list of locks cannot be read");
    qsort(*holders, *count, sizeof **holders, compare_holders);
    return HV_OK;
}

/*
 * The holder `one` of a poll among the `others` of an earlier poll (or, with `later`, of a later
 * one), or NULL. A transaction keeps its number when it is prepared, and loses its process. After a
 * server's crash numbers are given again, to other processes.
 */
static hvi_holder *find(hvi_holder *others, size_t count, const hvi_holder *one, bool later) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (others[middle].id < one->id)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < count && others[low].id == one->id; low++)
        if (others[low].pid == one->pid || (later ? others[low].pid : one->pid) == 0)
            return &others[low];
    return NULL;
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* "-1/1234", the number of a prepared transaction in versions of PostgreSQL before 2021, and in all
 * after a restart of the server. */
static bool is_renamed(const hvi_holder *holder) {
    return holder->id < 0;
}

/*
 * Set what is known of the new holders. A prepared transaction that has got another number may be
 * any of those that are no longer there.
 */
static void take_over(hvi_bound *bound, hvi_holder *holders, size_t count, int64_t time,
                      int64_t now) {
    int64_t clear = bound->time, ended = bound->time;
    for (size_t i = 0; i < bound->holder_count; i++) {
        const hvi_holder *old = &bound->holders[i];
        if (!is_renamed(old) && find(holders, count, old, true) == NULL)
            ended = smaller(ended, old->clear);
    }
    for (size_t i = 0; i < count; i++) {
        hvi_holder *holder = &holders[i];
        const hvi_holder *old = find(bound->holders, bound->holder_count, holder, false);
        holder->seen_at = old != NULL ? old->seen_at : now;
        if (holder->start >= time) /* see hvi_bound_sql() */
            holder->start = HVI_BOUND_UNKNOWN;
        if (old != NULL && holder->start == HVI_BOUND_UNKNOWN)
            holder->start = old->start;
        holder->clear = old != NULL          ? old->clear
                        : is_renamed(holder) ? ended
                                             : larger(clear, holder->start);
        holder->clear = smaller(holder->clear, time); /* if the clock has stepped back */
    }
}

const hvi_holder *hvi_bound_holder(const hvi_bound *bound) {
    const hvi_holder *first = NULL;
    for (size_t i = 0; i < bound->holder_count; i++)
        if (first == NULL || bound->holders[i].clear < first->clear ||
            (bound->holders[i].clear == first->clear && bound->holders[i].seen_at < first->seen_at))
            first = &bound->holders[i];
    return first;
}

/* ---- the clock ---- */

/*
 * Has the clock stepped back so far that keys may have been made below the ceiling? Since the last
 * poll it has gone on, so it may have been further back than it is now; but not if that poll was so
 * long ago that it proves nothing. Only a time before that of the last poll is a step: a clock that
 * was slow, or a server that was suspended, harms nothing.
 */
static int64_t look_at_clock(const hvi_bound *bound, int64_t time, int64_t now) {
    if (bound->ceiling == HVI_BOUND_UNKNOWN)
        return HVI_BOUND_UNKNOWN;
    if (bound->time == HVI_BOUND_UNKNOWN)
        return time < bound->ceiling ? time : HVI_BOUND_UNKNOWN;
    int64_t passed = (now - bound->answered_at) / 1000 + 1;
    bool is_step = time < bound->time && time < bound->ceiling + smaller(passed, bound->delay);
    return is_step ? time - passed : HVI_BOUND_UNKNOWN;
}

hv_status hvi_bound_take(hvi_bound *bound, const hvi_bound_answer *answer, int64_t now,
                         int64_t *stepped, hv_error **error) {
    hvi_holder *holders = NULL;
    size_t count = 0;
    *stepped = HVI_BOUND_UNKNOWN;
    hv_status status = read_holders(answer->holders, &holders, &count, error);
    if (status != HV_OK) {
        free(holders);
        return status;
    }
    *stepped = look_at_clock(bound, answer->time, now);
    take_over(bound, holders, count, answer->time, now);
    free(bound->holders);
    bound->holders = holders;
    bound->holder_count = count;
    bound->time = answer->time;
    bound->answered_at = now;
    const hvi_holder *first = hvi_bound_holder(bound);
    int64_t passed = first != NULL ? first->clear : bound->time;
    if (passed != HVI_BOUND_UNKNOWN && passed - bound->delay > bound->ceiling)
        bound->ceiling = passed - bound->delay;
    return HV_OK;
}

/* ---- the statement ---- */

/*
 * The time is that of the statement's arrival, so it is before the locks are read, whatever the
 * plan. It is made a number exactly as next_id() makes one, so that rounding cannot put a later key
 * before it.
 *
 * ROW EXCLUSIVE is the lock that an INSERT takes in any case, also if it has a stronger one
 * already. A transaction that only waits for it will make later keys. It is looked for among all
 * locks first, and only for those that remain in the catalogue: a sub-select, unlike a join, cannot
 * be turned round to read the whole catalogue.
 *
 * When a holder began is looked up after the locks were read. If it has ended or was prepared in
 * between, that is when the next transaction of the process began: not before the statement's time,
 * by which it is known.
 *
 * Whether a table is there is looked up as it is at that moment, by to_regclass(): the statement's
 * snapshot may be a moment older than its time. Where the role may not look, the pages will say so.
 */
void hvi_bound_sql(hvi_buffer *sql, const char *schemas) {
    hvi_buffer_append_format(
        sql,
        "SELECT pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.statement_timestamp())"
        " OPERATOR(pg_catalog.*) 1000)::bigint, pg_catalog.pg_is_in_recovery(),"
        " (SELECT pg_catalog.string_agg(DISTINCT pg_catalog.concat(l.virtualtransaction,"
        " ' ', l.pid, ' ', (SELECT"
        " pg_catalog.floor(pg_catalog.date_part('epoch', a.xact_start) OPERATOR(pg_catalog.*) 1000)"
        "::bigint FROM pg_catalog.pg_stat_get_activity(l.pid) AS a"
        " WHERE l.pid IS NOT NULL)), ',')"
        " FROM pg_catalog.pg_locks AS l"
        " WHERE l.locktype OPERATOR(pg_catalog.=) 'relation'"
        " AND l.mode OPERATOR(pg_catalog.=) 'RowExclusiveLock' AND l.granted"
        " AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database AS d"
        " WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())"
        " AND (SELECT (SELECT n.nspname::pg_catalog.text OPERATOR(pg_catalog.=)"
        " ANY ('{%s}'::pg_catalog.text[]) FROM pg_catalog.pg_namespace AS n"
        " WHERE n.oid OPERATOR(pg_catalog.=) c.relnamespace)"
        " FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) l.relation"
        " AND c.relname OPERATOR(pg_catalog.=) 'entities')),"
        " p.gid, pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.statement_timestamp()"
        " OPERATOR(pg_catalog.-) p.prepared) OPERATOR(pg_catalog.*) 1000)::bigint,"
        " (SELECT pg_catalog.string_agg(s.name, ',')"
        " FROM pg_catalog.unnest('{%s}'::pg_catalog.text[]) AS s (name)"
        " LEFT JOIN pg_catalog.pg_namespace AS n"
        " ON n.nspname::pg_catalog.text OPERATOR(pg_catalog.=) s.name"
        " WHERE CASE WHEN n.oid IS NULL THEN true"
        " WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN false"
        " ELSE pg_catalog.to_regclass(pg_catalog.concat(s.name, '.entities')) IS NULL END)"
        " FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_prepared_xacts AS p"
        " ON $1::pg_catalog.text OPERATOR(pg_catalog.<>) ''"
        " AND p.transaction OPERATOR(pg_catalog.=)"
        " ANY (SELECT l.transactionid FROM pg_catalog.pg_locks AS l"
        " WHERE l.locktype OPERATOR(pg_catalog.=) 'transactionid' AND l.pid IS NULL"
        " AND l.virtualtransaction OPERATOR(pg_catalog.=) $1::pg_catalog.text) LIMIT 1",
        schemas, schemas);
}

const hvi_form hvi_bound_form = {
    .asked = "its time and the transactions that write",
    .rows = HVI_ONE_ROW,
    .binary = true,
    .columns = {HVI_IS_INT8, HVI_IS_BOOL, HVI_IS_BYTES | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL,
                HVI_IS_INT8 | HVI_OR_NULL, HVI_IS_BYTES | HVI_OR_NULL},
};

bool hvi_bound_is_standby(const PGresult *result) {
    return hvi_bool_at(result, 0, 1);
}

void hvi_bound_read(const PGresult *result, hvi_bound_answer *answer) {
    *answer = (hvi_bound_answer){
        .time = hvi_integer_at(result, 0, 0),
        .is_standby = hvi_bound_is_standby(result),
        .holders = hvi_text_at(result, 0, 2),
        .gid = hvi_text_at(result, 0, 3),
        .age = hvi_integer_at(result, 0, 4),
        .missing = hvi_text_at(result, 0, 5),
    };
}
