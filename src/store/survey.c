/*
 * survey: ask all servers something about their shards.
 *
 *     hvi_survey_run() ──► asked ──► answered
 *                            │ refused: its shards are asked, each by itself
 *                            └─────► failed: the survey ends, or it is missing
 */
#include "store/survey.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "entity/question.h"
#include "store/queue.h"

/* A statement that is under way, or has ended. */
typedef struct task {
    struct task *next;
    hvi_portion portion;
    bool is_part;      /* of a portion that was asked in vain */
    PGresult *result;  /* owned */
    hv_error *failure; /* owned */
} task;

typedef struct run {
    const hvi_survey *survey;
    hv_queue *queue;
    task *first, **last; /* all tasks, those of one server and portion in order; owned */
    hv_status status;    /* not HV_OK: it ends, with this … */
    hv_error *error;     /* … error; owned */
} run;

static void end_with(run *r, hv_error **cause) {
    if (r->status == HV_OK)
        r->status = hvi_error_move(&r->error, cause);
    hv_error_free(*cause);
    *cause = NULL;
}

static void end_without_memory(run *r) {
    hv_error *cause = NULL;
    hvi_no_memory(&cause);
    end_with(r, &cause);
}

static int64_t deadline_of(const hvi_survey *survey) {
    int64_t timeout = survey->selection->timeout;
    return timeout == 0 ? hvi_router_operation_deadline(&survey->store->router)
                        : hvi_deadline_after(timeout);
}

static void ask(run *r, hvi_portion portion, bool is_part) {
    const hvi_survey *survey = r->survey;
    hv_error *cause = NULL;
    hvi_operation op;
    task *made = calloc(1, sizeof *made);
    hvi_ask *question = made != NULL ? survey->ask(survey->context, portion) : NULL;
    if (question == NULL) {
        free(made);
        end_without_memory(r);
        return;
    }
    made->portion = portion;
    made->is_part = is_part;
    *r->last = made;
    r->last = &made->next;
    hvi_question_init(&op, question, &survey->store->router, portion.server,
                      portion.count == 1 ? portion.shards[0] : -1, &made->result);
    if (hvi_queue_add_until(r->queue, &op, deadline_of(survey), made, &cause) != HV_OK)
        end_with(r, &cause);
}

/* Is it to be found out which of the shards has failed? */
static bool is_to_be_split(const task *t, const hv_error *cause) {
    return t->portion.count > 1 && hvi_missing_is_of_shard(cause);
}

static void fail(run *r, task *t, hv_error **cause) {
    const hvi_survey *survey = r->survey;
    hv_status status = hv_error_status(*cause);
    if (survey->is_final != NULL && survey->is_final(survey->context, cause)) {
        end_with(r, cause);
    } else if (is_to_be_split(t, *cause)) {
        for (int i = 0; i < t->portion.count && r->status == HV_OK; i++)
            ask(r, (hvi_portion){t->portion.server, t->portion.shards + i, 1}, true);
        hv_error_free(*cause);
        *cause = NULL;
    } else if (survey->selection->partial && hvi_missing_allows(status)) {
        t->failure = *cause;
        *cause = NULL;
    } else {
        end_with(r, cause);
    }
}

static void done(void *context, void *tag, hv_status status, int64_t key, hv_entity *entity,
                 hv_error *error) {
    run *r = context;
    task *t = tag;
    (void) key;
    (void) entity; /* a question has none */
    if (r->status == HV_OK && status == HV_OK)
        status = r->survey->answer(r->survey->context, t->portion, t->result, &error);
    PQclear(t->result);
    t->result = NULL;
    if (r->status == HV_OK && status != HV_OK)
        fail(r, t, &error);
    hv_error_free(error);
}

/* ---- what is missing ---- */

/* The portions of a server that have failed as a whole have one error, which names their shards. */
static hv_status add_server(hvi_missing *missing, task *first, hv_error **error) {
    hvi_buffer shards = HVI_BUFFER_EMPTY;
    hv_error *cause = first->failure;
    first->failure = NULL;
    hvi_portion_text(&first->portion, &shards);
    for (task *t = first->next; t != NULL; t = t->next)
        if (t->failure != NULL && !t->is_part && t->portion.server == first->portion.server) {
            hvi_portion_text(&t->portion, &shards);
            hv_error_free(t->failure);
            t->failure = NULL;
        }
    hvi_missing_name(&cause, &shards);
    hvi_buffer_fini(&shards);
    return hvi_missing_add(missing, &cause, error);
}

static hv_status add_missing(run *r, hv_error **error) {
    hvi_missing *missing = r->survey->missing;
    hv_status status = HV_OK;
    for (task *t = r->first; t != NULL && status == HV_OK; t = t->next) {
        if (t->failure == NULL)
            continue;
        status = t->is_part ? hvi_missing_add(missing, &t->failure, error)
                            : add_server(missing, t, error);
    }
    return status;
}

/* ---- all of it ---- */

static void ask_all(run *r, const hvi_portion *portions, size_t count) {
    for (size_t i = 0; i < count && r->status == HV_OK; i++)
        ask(r, portions[i], false);
    while (hv_queue_pending(r->queue) > 0 && r->status == HV_OK) {
        if (hvi_interrupted())
            hvi_queue_expire(r->queue);
        else
            hv_queue_advance(r->queue, -1);
    }
}

hv_status hvi_survey_run(const hvi_survey *survey, const hvi_portion *portions, size_t count,
                         hv_error **error) {
    run r = {.survey = survey};
    r.last = &r.first;
    hv_status status = hvi_queue_borrow(survey->store, done, &r, &r.queue, error);
    if (status != HV_OK)
        return status;
    ask_all(&r, portions, count);
    hvi_queue_return(r.queue); /* with what is pending after a failure */
    status = r.status == HV_OK ? add_missing(&r, error) : hvi_error_move(error, &r.error);
    while (r.first != NULL) {
        task *t = r.first;
        r.first = t->next;
        PQclear(t->result);
        hv_error_free(t->failure);
        free(t);
    }
    return status;
}
