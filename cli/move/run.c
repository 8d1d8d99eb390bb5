/*
 * run: move several shards, some at a time, and show how they get on.
 */
#include "move/run.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "move/outcome.h"
#include "move/watch.h"
#include "ui/exit.h"
#include "ui/interrupt.h"
#include "ui/memory.h"
#include "ui/ui.h"

/* How long a thread is away with one shard, and how often what is shown changes. */
#define STEP_MS  200
#define WATCH_MS 100

/* ---- one job --------------------------------------------------------------------------------- */

static void copy_into(move_job *job, int index, const char **text) {
    free(job->texts[index]);
    job->texts[index] = *text != NULL ? copy_text(*text) : NULL;
    *text = job->texts[index];
}

/* Take how far it is. With the lock. */
static void note(move_job *job, const hv_move *move) {
    hv_move_status now;
    hv_move_progress(move, &now);
    copy_into(job, 0, &now.source);
    copy_into(job, 1, &now.target);
    copy_into(job, 2, &now.kind);
    copy_into(job, 3, &now.step);
    copy_into(job, 4, &now.waits_for);
    copy_into(job, 5, &now.left_behind);
    job->now = now;
}

static hv_status begin(const move_run *run, const move_job *job, hv_move **move, hv_error **error) {
    switch (run->order) {
    case MOVE_RESUME:
        return hv_move_resume(run->store, job->shard, run->options, move, error);
    case MOVE_ABORT:
        return hv_move_abort(run->store, job->shard, run->options, move, error);
    case MOVE_UNDO:
        return hv_move_undo(run->store, job->shard, run->options, move, error);
    case MOVE_CLEAN:
        return hv_move_clean(run->store, job->shard, run->options, move, error);
    case MOVE_START:
        break;
    }
    return hv_move_start(run->store, job->shard, job->server, run->options, move, error);
}

/* To its end, or until the user has had enough. */
static void work_on(move_run *run, move_job *job) {
    hv_move *move = NULL;
    hv_error *error = NULL;
    bool done = false;
    hv_status status = begin(run, job, &move, &error);
    while (status == HV_OK && !done && !interrupted()) {
        status = hv_move_advance(move, STEP_MS, &done, &error);
        pthread_mutex_lock(&run->lock);
        note(job, move);
        watch_phase(run, job);
        pthread_mutex_unlock(&run->lock);
    }
    hv_move_free(move);
    pthread_mutex_lock(&run->lock);
    /* One that has taken itself back is over, and has failed: its error says why. */
    bool stopped = !done && interrupted() && (status == HV_OK || status == HV_TIMEOUT);
    job->state = stopped ? MOVE_STOPPED : status == HV_OK ? MOVE_OVER : MOVE_FAILED;
    job->error = stopped ? NULL : error;
    if (stopped)
        hv_error_free(error);
    watch_end(run, job);
    pthread_mutex_unlock(&run->lock);
}

/* ---- threads --------------------------------------------------------------------------------- */

/* The next job, whose thread this is; NULL: there is none. */
static move_job *take(move_run *run) {
    pthread_mutex_lock(&run->lock);
    move_job *job = run->next < run->count && !interrupted() ? &run->jobs[run->next++] : NULL;
    if (job != NULL)
        job->state = MOVE_RUNNING;
    else
        run->running--;
    pthread_mutex_unlock(&run->lock);
    return job;
}

static void *work(void *argument) {
    move_run *run = argument;
    move_job *job;
    while ((job = take(run)) != NULL)
        work_on(run, job);
    return NULL;
}

static bool is_over(move_run *run) {
    pthread_mutex_lock(&run->lock);
    bool over = run->running == 0;
    pthread_mutex_unlock(&run->lock);
    return over;
}

int move_run_all(move_run *run) {
    size_t count = run->threads > 0 ? (size_t) run->threads : 1;
    count = count < run->count ? count : run->count;
    pthread_t *threads = new_memory((count + 1) * sizeof *threads);
    size_t started = 0;
    pthread_mutex_init(&run->lock, NULL);
    run->next = 0;
    run->running = count;
    for (size_t i = 0; i < run->count; i++)
        run->jobs[i].now.shard = run->jobs[i].shard;
    watch *seen = watch_new(run);
    while (started < count && pthread_create(&threads[started], NULL, work, run) == 0)
        started++;
    if (started < count) { /* fewer threads do it all, or this one */
        pthread_mutex_lock(&run->lock);
        run->running -= count - started;
        pthread_mutex_unlock(&run->lock);
    }
    if (started == 0) {
        run->running = 1;
        work(run);
    }
    while (!is_over(run)) {
        nanosleep(&(struct timespec){.tv_nsec = WATCH_MS * 1000000L}, NULL);
        pthread_mutex_lock(&run->lock);
        watch_update(seen, run);
        pthread_mutex_unlock(&run->lock);
    }
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    watch_free(seen);
    pthread_mutex_destroy(&run->lock);
    free(threads);
    return outcome_show(run);
}

void move_jobs_fini(move_job *jobs, size_t count) {
    for (size_t i = 0; i < count; i++) {
        for (size_t text = 0; text < sizeof jobs[i].texts / sizeof jobs[i].texts[0]; text++)
            free(jobs[i].texts[text]);
        free(jobs[i].waited_for);
        hv_error_free(jobs[i].error);
    }
}
