/*
 * alloc_failure_work: the operations of alloc_failure that work on all shards.
 */
#include "alloc_failure.h"

#include <stdio.h>

#include "base/error.h"

static int answers;

static void before(void) {
    answers = 0;
    open_store();
}

static hv_status set_write(hv_rollout *rollout, hv_error **error) {
    char name[32];
    snprintf(name, sizeof name, "run %d", label);
    hv_status status = hv_rollout_set(rollout, "write", "on", error);
    if (status == HV_OK)
        status = hv_rollout_set(rollout, "once", name, error);
    return status;
}

/* All answers; the first failure of a shard is the operation's. */
static hv_status take_answers(hv_each *each, hv_error **error) {
    hv_shard_answer answer;
    hv_status status;
    hv_error *first = NULL;
    while ((status = hv_each_next(each, &answer, error)) == HV_OK) {
        answers += answer.work != HV_WORK_FAILED;
        if (answer.work == HV_WORK_FAILED && first == NULL)
            first = hvi_error_copy(answer.error);
    }
    if (status == HV_NOT_FOUND)
        return first != NULL ? hvi_error_move(error, &first) : HV_OK;
    hv_error_free(first);
    return status;
}

static hv_status run(bool write, hv_error **error) {
    char sql[160];
    hv_each *each = NULL;
    hv_rollout *rollout = hv_rollout_new();
    if (rollout == NULL)
        return HV_NO_MEMORY;
    snprintf(sql, sizeof sql,
             write ? "CREATE TABLE IF NOT EXISTS notes (a int); INSERT INTO notes VALUES (%d)"
                   : "SELECT count(*), %d FROM entities",
             label);
    hv_status status = write ? set_write(rollout, error) : HV_OK;
    if (status == HV_OK)
        status = hv_rollout_set(rollout, "shards", "2", error);
    if (status == HV_OK)
        status = hv_rollout_set(rollout, "max_failures", "all", error);
    if (status == HV_OK)
        status = hv_each_shard(store, sql, 0, NULL, rollout, &each, error);
    hv_rollout_free(rollout);
    if (status == HV_OK)
        status = take_answers(each, error);
    hv_each_close(each);
    return status;
}

static hv_status act_read(hv_error **error) {
    return run(false, error);
}

static void after_read(hv_status status) {
    if (status == HV_OK && answers != 1)
        fail("%d shards have answered", answers);
    if (status == HV_OUTCOME_UNKNOWN)
        fail("a read has a known outcome");
}

static hv_status act_once(hv_error **error) {
    return run(true, error);
}

/* Repeated, it is complete, and nothing was done twice. */
static void after_once(hv_status status) {
    hv_error *error = NULL;
    char sql[160];
    if (status != HV_OK) {
        answers = 0;
        must(act_once(&error), &error, "repeat it");
    }
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM shard0002.notes WHERE a OPERATOR(pg_catalog.=) %d", label);
    if (answers != 1 || observe(sql) != 1)
        fail("%d shards have answered, %d notes are there", answers, (int) observe(sql));
}

const operation_of work_operations[] = {
    {"each", before, act_read, after_read, false},
    {"each_once", before, act_once, after_once, false},
    {NULL, NULL, NULL, NULL, false},
};
