/*
 * crew: jobs on many shards, some of each server's at a time, in the caller's thread.
 *
 * Each server has a team: the jobs that wait for their turn there, and workers, each with one
 * connection. What is running and what may begin is decided in pump(), which looks at everything:
 * there are some hundred workers at most, and each step of theirs is a round trip to a server.
 *
 * Holds always, between two rounds of waiting: a worker that is READY or OFF, and does not pause
 * (pause_end), has no job; a job is in a team's list, with a worker, in `finished`, or `returned`.
 */
#include "schema/crew.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "schema/worker.h"
#include "wire/cancel.h"

#define MAX_EVENTS 64

#define DEFAULT_PARALLEL 4

/* How often a job begins afresh, each time after a pause of twice the length: 6.3 s altogether. */
#define MAX_TRIES      6
#define FIRST_PAUSE_MS 100

/* How long a cancelled statement may take to end. */
#define CANCEL_MS       5000
#define CANCEL_AGAIN_MS 200

/* How long to wait for answers that are of no interest. */
#define SETTLE_MS 1000

/* How long a server may take to show that it is there, before it is asked to cancel something. */
#define HEARD_MS 1000

/* How long to wait in a pool's queue, if the rollout's wait has no limit or the default. */
#define QUEUE_MS 60000

/* The pause before the next try, after no further connection was to be had. */
#define BORROW_AGAIN_MS 500

/* A pool with no more connections than this has none for a companion. */
#define FEW 4

typedef struct team {
    hvi_server *server;
    hvi_list waiting;     /* jobs */
    hvi_list companions;  /* jobs that have not begun */
    hvi_worker *workers;  /* owned; the last is for companions */
    int worker_count;     /* without that; -1: there are none */
    int64_t borrow_at;    /* no worker tries to borrow before this moment … */
    int64_t companion_at; /* … and not the companions' before this one */
    int recovering;       /* jobs that begin afresh: until they have, no other begins */
    bool is_silent;       /* the server does not answer: it is not asked to cancel … */
    bool is_heard_asked;  /* … and that was found out already */
} team;

struct hvi_crew {
    hvi_router *router;
    const hv_rollout *rollout;
    unsigned generation; /* hvi_fork_generation() when it was made */
    int epoll;
    int event;
    team *teams; /* by the server's number; owned */
    int turn;    /* the team that begins first */
    int parallel;
    bool proven;  /* there is no canary, or it has succeeded */
    bool stopped; /* nothing begins any more */
    bool interrupted;
    bool no_memory;
    int failures;
    hv_error *first_failure; /* owned */
    hvi_list finished;       /* jobs, until they are returned */
    int finished_count;
    hvi_job *returned; /* the last one; owned */

    /* What has become of each job, by its number; owned. */
    hvi_summary_entry *entries;
    size_t count;
    size_t room;
};

static hvi_job *job_of(hvi_list *node) {
    return hvi_list_entry(node, hvi_job, link);
}

/* ---- life ---- */

static void free_job(hvi_job *job) {
    hv_error_free(job->error);
    job->error = NULL;
    job->free(job);
}

static void free_jobs(hvi_list *list) {
    hvi_list *node;
    while ((node = hvi_list_pop_front(list)) != NULL)
        free_job(job_of(node));
}

static bool open_descriptors(hvi_crew *crew) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = crew};
    crew->epoll = epoll_create1(EPOLL_CLOEXEC);
    crew->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return crew->epoll >= 0 && crew->event >= 0 &&
           epoll_ctl(crew->epoll, EPOLL_CTL_ADD, crew->event, &event) == 0;
}

static hv_status fail_descriptors(hv_error **error) {
    hvi_fail(error, HV_NO_MEMORY, "no file descriptors for work on all shards");
    hvi_error_detail(error, "%s", strerror(errno));
    hvi_error_hint(error, "Close files, or raise the limit on open ones (ulimit -n).");
    return HV_NO_MEMORY;
}

/* So many at once that one connection of the pool is left, and one for a companion unless there are
 * few. */
static int limit_of(const hvi_crew *crew, const hvi_server *server) {
    int max = server->pool.config.max;
    int most = max > FEW ? max - 2 : max > 1 ? max - 1 : 1;
    return crew->parallel < most ? crew->parallel : most;
}

static bool make_team(hvi_crew *crew, hvi_server *server) {
    team *t = &crew->teams[server->number];
    hvi_list_init(&t->waiting);
    hvi_list_init(&t->companions);
    t->server = server;
    t->worker_count = -1;
    int count = limit_of(crew, server);
    t->workers = calloc((size_t) count + 1, sizeof *t->workers);
    if (t->workers == NULL)
        return false;
    t->worker_count = count;
    for (int i = 0; i <= count; i++)
        hvi_worker_init(&t->workers[i], server, crew->epoll, crew->event);
    t->workers[count].is_companion = true;
    return true;
}

hv_status hvi_crew_new(hvi_router *router, const hv_rollout *rollout, hvi_crew **crew,
                       hv_error **error) {
    hvi_crew *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    *made = (hvi_crew){.router = router, .rollout = rollout, .epoll = -1, .event = -1};
    made->generation = hvi_fork_generation();
    made->parallel = rollout->parallel > 0 ? rollout->parallel : DEFAULT_PARALLEL;
    made->proven = !rollout->canary;
    hvi_list_init(&made->finished);
    made->teams = calloc((size_t) router->server_count, sizeof *made->teams);
    if (made->teams == NULL) {
        free(made);
        return hvi_no_memory(error);
    }
    hv_status status = open_descriptors(made) ? HV_OK : fail_descriptors(error);
    for (int i = 0; i < router->server_count; i++)
        if (!make_team(made, &router->servers[i]) && status == HV_OK)
            status = hvi_no_memory(error);
    if (status != HV_OK) {
        hvi_crew_free(made);
        return status;
    }
    *crew = made;
    return HV_OK;
}

bool hvi_patience_pause(hvi_patience *patience, int64_t max_wait, hvi_request *request) {
    return hvi_patience_next(patience, max_wait, &request->pause);
}

bool hvi_crew_is_foreign(const hvi_crew *crew) {
    return crew->generation != hvi_fork_generation();
}

/* ---- the summary, and the observer ---- */

static void observe(const hvi_crew *crew, const hv_rollout_event *event) {
    if (crew->rollout->observer != NULL)
        crew->rollout->observer(crew->rollout->context, event);
}

/* The work on a job's shard has begun, or ended. */
static void observe_job(const hvi_crew *crew, const hvi_job *job, hv_work work) {
    observe(crew, &(hv_rollout_event){
                      .server = job->server,
                      .shard = job->shard,
                      .work = work,
                      .share = work == HV_WORK_RUNNING ? -1 : 1,
                      .error = work == HV_WORK_FAILED ? job->error : NULL,
                  });
}

void hvi_job_report_shard(const hvi_job *job, int shard, const char *step, const char *waits_for,
                          double share) {
    observe(job->crew, &(hv_rollout_event){
                           .server = job->server,
                           .shard = shard,
                           .work = waits_for != NULL ? HV_WORK_WAITING : HV_WORK_RUNNING,
                           .step = step,
                           .waits_for = waits_for,
                           .share = share,
                       });
}

void hvi_job_report(const hvi_job *job, const char *step, const char *waits_for, double share) {
    hvi_job_report_shard(job, job->shard, step, waits_for, share);
}

hv_status hvi_crew_summary(const hvi_crew *crew, hv_summary **summary, hv_error **error) {
    hv_summary *made = hvi_summary_new(crew->count);
    if (made == NULL)
        return hvi_no_memory(error);
    for (size_t i = 0; i < crew->count; i++) {
        made->entries[i] = crew->entries[i];
        made->entries[i].error = hvi_error_copy(crew->entries[i].error);
    }
    hvi_summary_sort(made);
    *summary = made;
    return HV_OK;
}

/* ---- jobs ---- */

/* Room for the outcome of one more job. */
static bool make_entry(hvi_crew *crew, hvi_job *job) {
    if (crew->count == crew->room) {
        size_t room = crew->room > 0 ? 2 * crew->room : 64;
        hvi_summary_entry *more = realloc(crew->entries, room * sizeof *more);
        if (more == NULL)
            return false;
        crew->entries = more;
        crew->room = room;
    }
    job->number = crew->count;
    crew->entries[crew->count++] = (hvi_summary_entry){.server = job->server, .shard = job->shard};
    return true;
}

void hvi_crew_add(hvi_crew *crew, hvi_job *job) {
    team *t = &crew->teams[job->server];
    job->crew = crew;
    job->tries = 0;
    if (job->is_companion) {
        hvi_list_push_back(&t->companions, &job->link);
    } else if (make_entry(crew, job)) {
        hvi_list_push_back(&t->waiting, &job->link);
    } else {
        crew->no_memory = true;
        free_job(job);
    }
}

static bool has_job(const hvi_worker *worker) {
    return worker->job != NULL;
}

/* The number of workers of a team that have a job. */
static int busy_workers(const team *t) {
    int count = 0;
    for (int i = 0; i < t->worker_count; i++)
        count += has_job(&t->workers[i]);
    return count;
}

static int all_busy_workers(const hvi_crew *crew) {
    int count = 0;
    for (int i = 0; i < crew->router->server_count; i++)
        count += busy_workers(&crew->teams[i]);
    return count;
}

bool hvi_crew_is_busy(const hvi_crew *crew, int server) {
    const team *t = &crew->teams[server];
    return busy_workers(t) > 0 || (!crew->stopped && !hvi_list_empty(&t->waiting));
}

/* The job that comes first of all, or NULL. */
static hvi_job *first_of_all(hvi_crew *crew) {
    hvi_job *first = NULL;
    for (int i = 0; i < crew->router->server_count; i++) {
        hvi_list *waiting = &crew->teams[i].waiting;
        if (!hvi_list_empty(waiting) &&
            (first == NULL || job_of(waiting->next)->number < first->number))
            first = job_of(waiting->next);
    }
    return first;
}

/* The job of this team that may begin now, or NULL. Answers that nobody has taken yet count as
 * jobs, so that few are held in memory. */
static hvi_job *next_job(hvi_crew *crew, team *t) {
    if (crew->stopped || t->recovering > 0 || hvi_list_empty(&t->waiting))
        return NULL;
    int busy = all_busy_workers(crew);
    hvi_job *job = job_of(t->waiting.next);
    if (!crew->proven)
        return busy == 0 && job == first_of_all(crew) ? job : NULL;
    return busy + crew->finished_count < crew->rollout->parallel_total ? job : NULL;
}

/* What the end of a job means for the others. */
static void judge(hvi_crew *crew, const hvi_job *job) {
    if (job->work == HV_WORK_FAILED) {
        if (crew->failures++ == 0)
            crew->first_failure = hvi_error_copy(job->error);
        if (!crew->proven || crew->failures > crew->rollout->max_failures)
            crew->stopped = true;
    } else if (job->work == HV_WORK_DONE) {
        crew->proven = true;
    } /* otherwise the job that comes next is the canary */
}

/* A job, in no list and without a worker, has ended. */
static void end_job(hvi_crew *crew, hvi_job *job) {
    if (job->is_companion) {
        free_job(job);
        return;
    }
    if (job->work == HV_WORK_FAILED && job->error == NULL)
        hvi_fail(&job->error, HV_NO_MEMORY, "out of memory");
    hvi_error_where(&job->error, crew->teams[job->server].server->name, job->shard);
    hvi_summary_entry *entry = &crew->entries[job->number];
    entry->work = job->work;
    entry->error = hvi_error_copy(job->error);
    judge(crew, job);
    observe_job(crew, job, job->work);
    hvi_list_push_back(&crew->finished, &job->link);
    crew->finished_count++;
}

/* Takes *cause, unless the job has an error of its own. */
static void fail_job(hvi_crew *crew, hvi_job *job, hv_error **cause) {
    job->work = HV_WORK_FAILED;
    if (job->error == NULL) {
        job->error = *cause;
        *cause = NULL;
    }
    hv_error_free(*cause);
    *cause = NULL;
    end_job(crew, job);
}

static void fail_interrupted(hvi_crew *crew, hvi_job *job) {
    hv_error *cause = NULL;
    hvi_fail(&cause, HV_TIMEOUT, "interrupted");
    fail_job(crew, job, &cause);
}

/* ---- the steps of a job ---- */

static team *team_of(hvi_crew *crew, const hvi_worker *worker) {
    return &crew->teams[worker->server];
}

static hvi_job *take_job(team *t, hvi_worker *worker) {
    hvi_job *job = worker->job;
    if (!worker->has_begun && job->tries > 0)
        t->recovering--;
    worker->job = NULL;
    worker->pause_end = 0;
    worker->has_begun = worker->is_cancelled = false;
    return job;
}

/* Do others wait for a connection of this pool? */
static bool is_wanted(const team *t) {
    int64_t waiting = hvi_pool_stat(&t->server->pool, HV_STAT_WAITING);
    for (int i = 0; i <= t->worker_count; i++)
        waiting -= t->workers[i].lease.state == HVI_LEASE_QUEUED;
    return waiting > 0;
}

/* Do more jobs wait for their turn than there are sessions for them, without this one? */
static bool lacks_sessions(const team *t, const hvi_worker *but) {
    int sessions = 0;
    for (int i = 0; i < t->worker_count; i++)
        sessions +=
            &t->workers[i] != but && !has_job(&t->workers[i]) &&
            (t->workers[i].state == HVI_WORKER_SETTING || t->workers[i].state == HVI_WORKER_READY);
    hvi_list_foreach (node, &t->waiting)
        if (sessions-- <= 0)
            return true;
    return false;
}

/* A job has ended on this worker: keep its session for the next one, or give it back. */
static void leave_session(hvi_crew *crew, hvi_worker *worker) {
    team *t = team_of(crew, worker);
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
    team *t = team_of(crew, worker);
    hvi_job *job = worker->job;
    bool was_recovering = !worker->has_begun && job->tries > 0;
    hvi_worker_release(worker);
    if (job->tries >= MAX_TRIES || job->is_companion || crew->interrupted) {
        fail_job(crew, take_job(t, worker), cause);
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

/* One step of a worker's job, with the answer that the worker has, or without. */
static void step_job(hvi_crew *crew, hvi_worker *worker) {
    hvi_job *job = worker->job;
    hvi_request request = {.timeout = -1};
    bool has_answer = worker->state == HVI_WORKER_ANSWERED;
    hv_error *lost = has_answer ? hvi_error_copy(worker->answer.error) : NULL;
    worker->is_cancelled = false;
    worker->pause_end = 0;
    hvi_job_next next =
        job->step(job, worker->lease.session, has_answer ? &worker->answer : NULL, &request);
    hvi_worker_drop_answer(worker);
    worker->state = HVI_WORKER_READY;
    if (next != HVI_JOB_END && crew->interrupted) {
        fail_interrupted(crew, take_job(team_of(crew, worker), worker));
        hvi_worker_release(worker);
    } else if (next == HVI_JOB_AFRESH || (next != HVI_JOB_END && worker->lease.session->broken)) {
        begin_afresh(crew, worker, &lost);
    } else if (next == HVI_JOB_END) {
        end_job(crew, take_job(team_of(crew, worker), worker));
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
    team *t = team_of(crew, worker);
    t->recovering -= worker->job->tries > 0;
    worker->has_begun = true;
    hvi_summary_entry *entry = worker->is_companion ? NULL : &crew->entries[worker->job->number];
    if (entry != NULL && entry->work == HV_WORK_NOT_BEGUN) {
        entry->work = HV_WORK_RUNNING;
        observe_job(crew, worker->job, HV_WORK_RUNNING);
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
static bool has_session(const team *t) {
    for (int i = 0; i < t->worker_count; i++)
        if (t->workers[i].lease.state == HVI_LEASE_LENT)
            return true;
    return false;
}

/* A worker without a job, in this state, or NULL. */
static hvi_worker *find_free(team *t, hvi_worker_state state) {
    for (int i = 0; i < t->worker_count; i++)
        if (t->workers[i].state == state && !has_job(&t->workers[i]))
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
    team *t = team_of(crew, worker);
    hv_error *cause = worker->error;
    bool was_lent = worker->was_lent;
    worker->error = NULL;
    hvi_worker_release(worker);
    hvi_job *job = worker->is_companion || has_job(worker) ? NULL : next_job(crew, t);
    if (job != NULL && was_lent) {
        give_job(worker, job);
    } else if (!has_job(worker)) {
        t->borrow_at = hvi_deadline_after(BORROW_AGAIN_MS);
        if (job != NULL && !has_session(t)) {
            t->borrow_at = 0;
            hvi_list_remove(&job->link);
            fail_job(crew, job, &cause);
        }
    }
    if (has_job(worker))
        begin_afresh(crew, worker, &cause);
    hv_error_free(cause);
}

/* ---- cancelling ---- */

/* Ask the server to end a worker's statement, which then has a few seconds to do so. It is asked
 * again meanwhile: a request that overtakes the statement has no effect. */
static void cancel(hvi_crew *crew, hvi_worker *worker, int64_t now) {
    team *t = team_of(crew, worker);
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
        answer->status = hvi_fail_late(team_of(crew, worker)->server->name, worker->job->shard,
                                       false, &answer->error);
}

/* ---- everything that can go on ---- */

/* Take a worker as far as it can go now. */
static void tend(hvi_crew *crew, hvi_worker *worker, int64_t now) {
    if (worker->lease.is_polled || hvi_lease_next(&worker->lease) <= now)
        hvi_worker_advance(worker);
    for (;;) {
        bool is_due = has_job(worker) && worker->pause_end > 0 && worker->pause_end <= now;
        if (worker->state == HVI_WORKER_FAILED) {
            handle_failed(crew, worker);
        } else if (worker->state == HVI_WORKER_ANSWERED) {
            explain_cancelled(crew, worker);
            step_job(crew, worker);
        } else if (worker->state == HVI_WORKER_READY && has_job(worker) && !worker->has_begun) {
            begin_job(crew, worker);
        } else if (worker->state == HVI_WORKER_READY && is_due) {
            step_job(crew, worker);
        } else if (worker->state == HVI_WORKER_OFF && is_due) {
            worker->pause_end = 0;
            borrow(crew, worker, true);
        } else if (worker->state == HVI_WORKER_RUNNING && worker->deadline <= now &&
                   !(worker->is_cancelled && worker->give_up_at <= now)) {
            cancel(crew, worker, now);
            return;
        } else if (hvi_worker_is_late(worker, now)) {
            hvi_worker_give_up(worker);
        } else {
            return;
        }
    }
}

/* Let jobs of a team begin. One session at a time is borrowed for them. */
static void begin_jobs(hvi_crew *crew, team *t, int64_t now) {
    hvi_job *job;
    while ((job = next_job(crew, t)) != NULL) {
        hvi_worker *worker = find_free(t, HVI_WORKER_READY);
        if (worker != NULL) {
            give_job(worker, job);
            begin_job(crew, worker);
            tend(crew, worker, now);
            continue;
        }
        worker = find_free(t, HVI_WORKER_OFF);
        if (worker == NULL || now < t->borrow_at || find_free(t, HVI_WORKER_BORROWING) != NULL ||
            find_free(t, HVI_WORKER_SETTING) != NULL)
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

/* Would a companion leave a connection for others? */
static bool has_room(const team *t) {
    return t->server->pool.config.max > t->worker_count + 1;
}

/* Let a companion run beside the team's jobs, if there is a connection. */
static void begin_companion(hvi_crew *crew, team *t, int64_t now) {
    hvi_worker *worker = &t->workers[t->worker_count];
    if (!hvi_crew_is_busy(crew, t->server->number))
        free_jobs(&t->companions);
    if (hvi_list_empty(&t->companions) || has_job(worker) || busy_workers(t) == 0 || !has_room(t))
        return;
    if (worker->state == HVI_WORKER_OFF && t->companion_at <= now) {
        t->companion_at = hvi_deadline_after(BORROW_AGAIN_MS);
        borrow(crew, worker, false);
    }
    if (worker->state == HVI_WORKER_READY) {
        give_job(worker, job_of(t->companions.next));
        begin_job(crew, worker);
    }
}

static void pump(hvi_crew *crew) {
    int64_t now = hvi_clock_us();
    int count = crew->router->server_count;
    for (int i = 0; i < count; i++) {
        team *t = &crew->teams[i];
        for (int j = 0; j <= t->worker_count; j++)
            tend(crew, &t->workers[j], now);
    }
    for (int i = 0; i < count; i++)
        begin_jobs(crew, &crew->teams[(crew->turn + i) % count], now);
    crew->turn = (crew->turn + 1) % count;
    for (int i = 0; i < count; i++)
        begin_companion(crew, &crew->teams[i], now);
}

/* ---- waiting ---- */

static void keep_earlier(int64_t *moment, int64_t other) {
    if (other < *moment)
        *moment = other;
}

static int64_t next_moment(hvi_crew *crew) {
    int64_t moment = HVI_NEVER;
    for (int i = 0; i < crew->router->server_count; i++) {
        team *t = &crew->teams[i];
        for (int j = 0; j <= t->worker_count; j++) {
            const hvi_worker *worker = &t->workers[j];
            keep_earlier(&moment, hvi_worker_next(worker));
            if (has_job(worker) && worker->pause_end > 0)
                keep_earlier(&moment, worker->pause_end);
        }
        if (t->borrow_at > 0 && next_job(crew, t) != NULL)
            keep_earlier(&moment, t->borrow_at);
        if (!hvi_list_empty(&t->companions) && has_room(t))
            keep_earlier(&moment, t->companion_at);
    }
    return moment;
}

/* Is there nothing more to wait for? */
static bool is_over(hvi_crew *crew) {
    for (int i = 0; i < crew->router->server_count; i++)
        if (next_job(crew, &crew->teams[i]) != NULL)
            return false;
    return all_busy_workers(crew) == 0;
}

static void handle(hvi_crew *crew, void *what) {
    if (what != crew) {
        hvi_worker_advance(what);
        return;
    }
    eventfd_t count;
    eventfd_read(crew->event, &count);
    for (int i = 0; i < crew->router->server_count; i++)
        for (int j = 0; j <= crew->teams[i].worker_count; j++)
            if (crew->teams[i].workers[j].lease.state == HVI_LEASE_QUEUED)
                hvi_worker_advance(&crew->teams[i].workers[j]);
}

/* Wait until something can be done. */
static void wait_and_handle(hvi_crew *crew, int64_t until) {
    struct epoll_event events[MAX_EVENTS];
    int64_t wake_up = crew->interrupted ? until : hvi_interrupt_before(until);
    int count = epoll_wait(crew->epoll, events, MAX_EVENTS, hvi_deadline_poll_ms(wake_up));
    if (count < 0 && !crew->interrupted)
        hvi_interrupt_signalled();
    for (int i = 0; i < count; i++)
        handle(crew, events[i].data.ptr);
}

static bool has_companion(const hvi_crew *crew) {
    for (int i = 0; i < crew->router->server_count; i++) {
        const team *t = &crew->teams[i];
        if (has_job(&t->workers[t->worker_count]))
            return true;
    }
    return false;
}

/* Is an answer expected on any connection? */
static bool is_settled(const hvi_crew *crew) {
    for (int i = 0; i < crew->router->server_count; i++)
        for (int j = 0; j <= crew->teams[i].worker_count; j++) {
            hvi_worker_state state = crew->teams[i].workers[j].state;
            if (state == HVI_WORKER_SETTING || state == HVI_WORKER_RUNNING)
                return false;
        }
    return true;
}

/* At the end: wait a moment for answers that are of no interest any more, because a server that
 * sends one to a connection that is closed writes that into its log. */
static void settle(hvi_crew *crew) {
    int64_t deadline = hvi_deadline_after(SETTLE_MS);
    while (!is_settled(crew) && hvi_clock_us() < deadline) {
        int64_t moment = next_moment(crew);
        wait_and_handle(crew, moment < deadline ? moment : deadline);
        pump(crew);
    }
}

/* End what has no statement running, cancel what has one, and wait until it has ended. */
static void interrupt(hvi_crew *crew) {
    int64_t now = hvi_clock_us();
    crew->stopped = crew->interrupted = true;
    for (int i = 0; i < crew->router->server_count; i++) {
        team *t = &crew->teams[i];
        for (int j = 0; j <= t->worker_count; j++) {
            hvi_worker *worker = &t->workers[j];
            if (worker->state == HVI_WORKER_ANSWERED)
                continue;
            if (worker->state == HVI_WORKER_RUNNING) {
                cancel(crew, worker, now);
                continue;
            }
            if (worker->state != HVI_WORKER_SETTING)
                hvi_worker_release(worker);
            if (has_job(worker))
                fail_interrupted(crew, take_job(t, worker));
        }
        free_jobs(&t->companions);
    }
    pump(crew);
    while (!is_over(crew) || has_companion(crew)) {
        wait_and_handle(crew, next_moment(crew));
        pump(crew);
    }
    settle(crew);
}

/* ---- the whole ---- */

static void end_companions(hvi_crew *crew) {
    for (int i = 0; i < crew->router->server_count; i++) {
        team *t = &crew->teams[i];
        hvi_worker *worker = &t->workers[t->worker_count];
        hvi_worker_release(worker);
        if (has_job(worker))
            free_job(take_job(t, worker));
        free_jobs(&t->companions);
    }
}

static hv_status fail_interrupted_crew(hv_error **error) {
    return hvi_fail(error, HV_TIMEOUT, "interrupted before all shards were done");
}

hv_status hvi_crew_next(hvi_crew *crew, hvi_job **job, hv_error **error) {
    if (crew->returned != NULL)
        free_job(crew->returned);
    crew->returned = NULL;
    *job = NULL;
    if (crew->no_memory)
        return hvi_no_memory(error);
    if (!crew->interrupted)
        pump(crew);
    while (hvi_list_empty(&crew->finished) && !is_over(crew)) {
        wait_and_handle(crew, next_moment(crew));
        if (hvi_interrupted()) {
            interrupt(crew);
            return fail_interrupted_crew(error);
        }
        pump(crew);
    }
    hvi_list *node = hvi_list_pop_front(&crew->finished);
    if (node != NULL) {
        crew->returned = *job = job_of(node);
        crew->finished_count--;
        return HV_OK;
    }
    settle(crew);
    end_companions(crew);
    return crew->interrupted ? fail_interrupted_crew(error) : HV_OK;
}

hv_status hvi_crew_run(hvi_crew *crew, void (*each)(void *context, hvi_job *job), void *context,
                       hv_error **error) {
    hvi_job *job;
    hv_status status;
    while ((status = hvi_crew_next(crew, &job, error)) == HV_OK && job != NULL)
        if (each != NULL)
            each(context, job);
    if (status != HV_OK || crew->failures == 0)
        return status;
    hv_error *first = hvi_error_copy(crew->first_failure);
    return hvi_error_move(error, &first);
}

void hvi_crew_free(hvi_crew *crew) {
    if (crew == NULL)
        return;
    bool is_foreign = hvi_crew_is_foreign(crew);
    if (!is_foreign && !crew->interrupted)
        interrupt(crew);
    for (int i = 0; i < crew->router->server_count; i++) {
        team *t = &crew->teams[i];
        for (int j = 0; j <= t->worker_count; j++) {
            hvi_worker *worker = &t->workers[j];
            if (is_foreign && has_job(worker))
                free_job(worker->job);
            if (is_foreign)
                hvi_worker_forget(worker);
            else
                hvi_worker_end(worker);
        }
        free_jobs(&t->waiting);
        free_jobs(&t->companions);
        free(t->workers);
    }
    free_jobs(&crew->finished);
    if (crew->returned != NULL)
        free_job(crew->returned);
    for (size_t i = 0; i < crew->count; i++)
        hv_error_free(crew->entries[i].error);
    free(crew->entries);
    hv_error_free(crew->first_failure);
    free(crew->teams);
    if (crew->epoll >= 0)
        close(crew->epoll);
    if (crew->event >= 0)
        close(crew->event);
    free(crew);
}
