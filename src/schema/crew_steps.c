/*
 * crew_steps: take the workers of a crew, and so its jobs, as far as they can go.
 */
#include "schema/crew_steps.h"

#include "base/clock.h"
#include "wire/cancel.h"

/* How often a job begins afresh, each time after a pause of twice the length: 6.3 s altogether. */
#define MAX_TRIES      6
#define READING_TRIES  2
#define FIRST_PAUSE_MS 100

/* How long a cancelled statement may take to end. */
#define CANCEL_MS       5000
#define CANCEL_AGAIN_MS 200

/* How long a server may take to show that it is there, before it is asked to cancel something. */
#define HEARD_MS 1000

/* How long to wait in a pool's queue, if the rollout's wait has no limit or the default. */
#define QUEUE_MS 60000

/* The pause before the next try, after no further connection was to be had. */
#define BORROW_AGAIN_MS 500

/* ---- the steps of a job ---- */

/* Do others wait for a connection of this pool? */
static bool is_wanted(const hvi_team *t) {
    int64_t waiting = hvi_pool_stat(&t->server->pool, HV_STAT_WAITING);
    for (int i = 0; i <= t->worker_count; i++)
        waiting -= t->workers[i].lease.state == HVI_LEASE_QUEUED;
    return waiting > 0;
}

/* Do more jobs wait for their turn than there are sessions for them, without this one? */
static bool lacks_sessions(const hvi_team *t, const hvi_worker *but) {
    int sessions = 0;
    for (int i = 0; i < t->worker_count; i++)
        sessions +=
            &t->workers[i] != but && !hvi_worker_has_job(&t->workers[i]) &&
            (t->workers[i].state == HVI_WORKER_SETTING || t->workers[i].state == HVI_WORKER_READY);
    hvi_list_foreach (node, &t->waiting)
        if (sessions-- <= 0)
            return true;
    return false;
}

/* A job has ended on this worker: keep its session for the next one, or give it back. */
static void leave_session(hvi_crew *crew, hvi_worker *worker) {
    hvi_team *t = hvi_team_of(crew, worker);
    hvi_session *session = worker->lease.session;
    hvi_worker_drop_answer(worker);
    if (session == NULL)
        return;
    if (session->broken || worker->is_companion || crew->stopped || !lacks_sessions(t, worker) ||
        is_wanted(t))
        hvi_worker_release(worker);
    else
        hvi_worker_clean(worker);
}

/* The connection is lost, or there is none to be had: try again in a moment, or fail. Takes
 * *cause. */
static void begin_afresh(hvi_crew *crew, hvi_worker *worker, hv_error **cause) {
    hvi_team *t = hvi_team_of(crew, worker);
    hvi_job *job = worker->job;
    bool was_recovering = !worker->has_begun && job->tries > 0;
    hvi_worker_release(worker);
    if (job->tries >= (job->is_reading ? READING_TRIES : MAX_TRIES) || job->is_companion ||
        crew->interrupted) {
        hvi_crew_fail_job(crew, hvi_worker_take_job(t, worker), cause);
        return;
    }
    t->recovering += !was_recovering;
    worker->has_begun = false;
    worker->pause_end = hvi_deadline_after((int64_t) FIRST_PAUSE_MS << job->tries++);
    hv_error_free(job->error); /* that it may have set */
    job->error = NULL;
    hv_error_free(*cause);
    *cause = NULL;
}

/* How long an answer about the catalogue may take, ms. */
static int64_t reading_timeout(const hvi_crew *crew) {
    int64_t timeout = crew->rollout->timeout;
    return timeout > 0 ? timeout : crew->router->options->values[HVI_OPERATION_TIMEOUT];
}

/* One step of a worker's job, with the answer that the worker has, or without. */
static void step_job(hvi_crew *crew, hvi_worker *worker) {
    hvi_job *job = worker->job;
    hvi_request request = {.timeout = job->is_reading ? reading_timeout(crew) : -1};
    bool has_answer = worker->state == HVI_WORKER_ANSWERED;
    hv_error *lost = has_answer ? hvi_error_copy(worker->answer.error) : NULL;
    worker->is_cancelled = false;
    worker->pause_end = 0;
    hvi_job_next next =
        job->step(job, worker->lease.session, has_answer ? &worker->answer : NULL, &request);
    hvi_worker_drop_answer(worker);
    worker->state = HVI_WORKER_READY;
    if (next != HVI_JOB_END && crew->interrupted) {
        hvi_crew_fail_interrupted(crew, hvi_worker_take_job(hvi_team_of(crew, worker), worker));
        hvi_worker_release(worker);
    } else if (next == HVI_JOB_AFRESH || (next != HVI_JOB_END && worker->lease.session->broken)) {
        begin_afresh(crew, worker, &lost);
    } else if (next == HVI_JOB_END) {
        hvi_crew_end_job(crew, hvi_worker_take_job(hvi_team_of(crew, worker), worker));
        leave_session(crew, worker);
    } else if (next == HVI_JOB_PAUSE) {
        worker->pause_end = hvi_deadline_after(request.pause);
    } else {
        hvi_worker_send(worker, job->shard, &request);
    }
    hv_error_free(lost);
}

/* The worker has a session that is as new: let its job begin on it. */
static void begin_job(hvi_crew *crew, hvi_worker *worker) {
    hvi_team *t = hvi_team_of(crew, worker);
    t->recovering -= worker->job->tries > 0;
    worker->has_begun = true;
    hvi_summary_entry *entry = worker->is_companion ? NULL : &crew->entries[worker->job->number];
    if (entry != NULL && entry->work == HV_WORK_NOT_BEGUN) {
        entry->work = HV_WORK_RUNNING;
        hvi_job_observe(worker->job, HV_WORK_RUNNING);
    }
    step_job(crew, worker);
}

/* ---- sessions ---- */

static int64_t queue_timeout(const hvi_crew *crew) {
    int64_t wait = crew->rollout->max_wait != 0 ? crew->rollout->max_wait : QUEUE_MS;
    int64_t block = crew->router->options->values[HVI_POOL_BLOCK_TIMEOUT];
    return wait < 0 ? wait : wait > block ? wait : block;
}

static void borrow(hvi_crew *crew, hvi_worker *worker, bool may_wait) {
    int64_t opening_timeout = crew->router->options->values[HVI_POOL_BLOCK_TIMEOUT];
    hvi_worker_borrow(worker, may_wait ? queue_timeout(crew) : 0, opening_timeout);
}

/* Has a worker of this team a session already? */
static bool has_session(const hvi_team *t) {
    for (int i = 0; i < t->worker_count; i++)
        if (t->workers[i].lease.state == HVI_LEASE_LENT)
            return true;
    return false;
}

/* A worker without a job, in this state, or NULL. */
static hvi_worker *find_free(hvi_team *t, hvi_worker_state state) {
    for (int i = 0; i < t->worker_count; i++)
        if (t->workers[i].state == state && !hvi_worker_has_job(&t->workers[i]))
            return &t->workers[i];
    return NULL;
}

static void give_job(hvi_worker *worker, hvi_job *job) {
    hvi_list_remove(&job->link);
    worker->job = job;
}

/* There is no session to be had. A job that waits for its turn fails at once, so that a server that
 * is down does not take long; but one whose session was lost tries again. */
static void handle_failed(hvi_crew *crew, hvi_worker *worker) {
    hvi_team *t = hvi_team_of(crew, worker);
    hv_error *cause = worker->error;
    bool was_lent = worker->was_lent;
    worker->error = NULL;
    hvi_worker_release(worker);
    hvi_job *job =
        worker->is_companion || hvi_worker_has_job(worker) ? NULL : hvi_crew_next_job(crew, t);
    if (job != NULL && was_lent) {
        give_job(worker, job);
    } else if (!hvi_worker_has_job(worker) && !worker->is_companion) {
        t->borrow_at = hvi_deadline_after(BORROW_AGAIN_MS);
        if (job != NULL && !has_session(t)) {
            t->borrow_at = 0;
            hvi_list_remove(&job->link);
            hvi_crew_fail_job(crew, job, &cause);
        }
    }
    if (hvi_worker_has_job(worker))
        begin_afresh(crew, worker, &cause);
    hv_error_free(cause);
}

/* ---- cancelling ---- */

void hvi_crew_cancel(hvi_crew *crew, hvi_worker *worker, int64_t now) {
    hvi_team *t = hvi_team_of(crew, worker);
    if (!t->is_heard_asked)
        t->is_silent = !hvi_cancel_is_heard(worker->lease.session, HEARD_MS);
    t->is_heard_asked = true;
    if (!worker->is_cancelled)
        worker->give_up_at = t->is_silent ? now : now + CANCEL_MS * INT64_C(1000);
    worker->is_cancelled = true;
    if (!t->is_silent)
        hvi_cancel(worker->lease.session);
    int64_t again = hvi_deadline_after(CANCEL_AGAIN_MS);
    worker->deadline = again < worker->give_up_at ? again : worker->give_up_at;
}

/* Let the answer of a statement that was cancelled say why. */
static void explain_cancelled(hvi_crew *crew, hvi_worker *worker) {
    hvi_answer *answer = &worker->answer;
    if (!worker->is_cancelled || !hvi_error_has_sqlstate(answer->error, "57014"))
        return;
    if (crew->interrupted)
        answer->status = hvi_fail(&answer->error, HV_TIMEOUT, "interrupted");
    else
        answer->status = hvi_fail_late(hvi_team_of(crew, worker)->server->name, worker->job->shard,
                                       false, &answer->error);
}

/* ---- everything that can go on ---- */

/* Take a worker as far as it can go now. */
static void tend(hvi_crew *crew, hvi_worker *worker, int64_t now) {
    if (worker->lease.is_polled || hvi_lease_next(&worker->lease) <= now)
        hvi_worker_advance(worker);
    for (;;) {
        bool is_due =
            hvi_worker_has_job(worker) && worker->pause_end > 0 && worker->pause_end <= now;
        if (worker->state == HVI_WORKER_FAILED) {
            handle_failed(crew, worker);
        } else if (worker->state == HVI_WORKER_ANSWERED) {
            explain_cancelled(crew, worker);
            step_job(crew, worker);
        } else if (worker->state == HVI_WORKER_READY && hvi_worker_has_job(worker) &&
                   !worker->has_begun) {
            begin_job(crew, worker);
        } else if (worker->state == HVI_WORKER_READY && is_due) {
            step_job(crew, worker);
        } else if (worker->state == HVI_WORKER_OFF && is_due) {
            worker->pause_end = 0;
            borrow(crew, worker, true);
        } else if (worker->state == HVI_WORKER_RUNNING && worker->deadline <= now &&
                   !(worker->is_cancelled && worker->give_up_at <= now)) {
            hvi_crew_cancel(crew, worker, now);
            return;
        } else if (hvi_worker_is_late(worker, now)) {
            hvi_worker_give_up(worker);
        } else {
            return;
        }
    }
}

/* The worker that is to borrow a session next, or NULL: one at a time. */
static hvi_worker *next_borrower(hvi_team *t) {
    return find_free(t, HVI_WORKER_BORROWING) == NULL && find_free(t, HVI_WORKER_SETTING) == NULL
               ? find_free(t, HVI_WORKER_OFF)
               : NULL;
}

/* Let jobs of a team begin. */
static void begin_jobs(hvi_crew *crew, hvi_team *t, int64_t now) {
    hvi_job *job;
    while ((job = hvi_crew_next_job(crew, t)) != NULL) {
        hvi_worker *worker = find_free(t, HVI_WORKER_READY);
        if (worker != NULL) {
            give_job(worker, job);
            begin_job(crew, worker);
            tend(crew, worker, now);
            continue;
        }
        worker = next_borrower(t);
        if (worker == NULL || now < t->borrow_at)
            break;
        borrow(crew, worker, true);
        if (worker->state == HVI_WORKER_FAILED)
            handle_failed(crew, worker);
    }
    bool is_over = crew->stopped || hvi_list_empty(&t->waiting);
    while (is_over &&
           (find_free(t, HVI_WORKER_READY) != NULL || find_free(t, HVI_WORKER_BORROWING) != NULL)) {
        hvi_worker *worker = find_free(t, HVI_WORKER_READY);
        hvi_worker_release(worker != NULL ? worker : find_free(t, HVI_WORKER_BORROWING));
    }
}

/* May a companion begin beside the team's jobs? It leaves a connection for others. */
static bool wants_companion(const hvi_team *t) {
    return !hvi_list_empty(&t->companions) && !hvi_worker_has_job(&t->workers[t->worker_count]) &&
           hvi_team_busy(t) > 0 && t->server->pool.config.max > t->worker_count + 1;
}

/* Let it begin, if there is a connection. */
static void begin_companion(hvi_crew *crew, hvi_team *t, int64_t now) {
    hvi_worker *worker = &t->workers[t->worker_count];
    if (!hvi_team_is_busy(crew, t))
        hvi_jobs_free(&t->companions);
    if (!wants_companion(t))
        return;
    if (worker->state == HVI_WORKER_OFF && t->companion_at <= now) {
        t->companion_at = hvi_deadline_after(BORROW_AGAIN_MS);
        borrow(crew, worker, false);
    }
    if (worker->state == HVI_WORKER_READY) {
        give_job(worker, hvi_job_of(t->companions.next));
        begin_job(crew, worker);
    }
}

int64_t hvi_team_next_borrow(hvi_crew *crew, hvi_team *t) {
    int64_t moment = HVI_NEVER;
    if (hvi_crew_next_job(crew, t) != NULL && next_borrower(t) != NULL)
        moment = t->borrow_at;
    if (wants_companion(t) && t->workers[t->worker_count].state == HVI_WORKER_OFF &&
        t->companion_at < moment)
        moment = t->companion_at;
    return moment;
}

void hvi_crew_pump(hvi_crew *crew) {
    int64_t now = hvi_clock_us();
    int count = crew->router->server_count;
    for (int i = 0; i < count; i++) {
        hvi_team *t = &crew->teams[i];
        for (int j = 0; j <= t->worker_count; j++)
            tend(crew, &t->workers[j], now);
    }
    for (int i = 0; i < count; i++)
        begin_jobs(crew, &crew->teams[(crew->turn + i) % count], now);
    crew->turn = (crew->turn + 1) % count;
    for (int i = 0; i < count; i++)
        begin_companion(crew, &crew->teams[i], now);
}
