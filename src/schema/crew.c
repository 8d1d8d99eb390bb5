/*
 * crew: jobs on many shards, some of each server's at a time, in the caller's thread.
 *
 * Here is the waiting, for all connections at once. What may begin is decided in crew_jobs, and
 * what is done with the connections in crew_steps.
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
#include "schema/crew_steps.h"

#define MAX_EVENTS 64

#define DEFAULT_PARALLEL 4

/* How long to wait for answers that are of no interest. */
#define SETTLE_MS 1000

/* A pool with no more connections than this has none for a companion. */
#define FEW 4

/* ---- life ---- */

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

/* Setting a session up takes a round trip, which an operation may take; but several statements. */
static int64_t setting_timeout(const hvi_crew *crew) {
    int64_t timeout = crew->router->options->values[HVI_OPERATION_TIMEOUT];
    return timeout > 1000 ? timeout : 1000;
}

static bool make_team(hvi_crew *crew, hvi_server *server) {
    hvi_team *t = &crew->teams[server->number];
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
        hvi_worker_init(&t->workers[i], server, setting_timeout(crew), crew->epoll, crew->event);
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
        made->interrupted = true; /* nothing is to be ended */
        hvi_crew_free(made);
        return status;
    }
    *crew = made;
    return HV_OK;
}

bool hvi_crew_is_foreign(const hvi_crew *crew) {
    return crew->generation != hvi_fork_generation();
}

void hvi_crew_add(hvi_crew *crew, hvi_job *job) {
    hvi_crew_add_job(crew, job);
}

bool hvi_crew_is_busy(const hvi_crew *crew, int server) {
    return hvi_team_is_busy(crew, &crew->teams[server]);
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

/* ---- waiting ---- */

static void keep_earlier(int64_t *moment, int64_t other) {
    if (other < *moment)
        *moment = other;
}

static int64_t next_moment(hvi_crew *crew) {
    int64_t moment = HVI_NEVER;
    for (int i = 0; i < crew->router->server_count; i++) {
        hvi_team *t = &crew->teams[i];
        for (int j = 0; j <= t->worker_count; j++) {
            const hvi_worker *worker = &t->workers[j];
            keep_earlier(&moment, hvi_worker_next(worker));
            if (hvi_worker_has_job(worker) && worker->pause_end > 0)
                keep_earlier(&moment, worker->pause_end);
        }
        keep_earlier(&moment, hvi_team_next_borrow(crew, t));
    }
    return moment;
}

/* Is there nothing more to wait for? */
static bool is_over(hvi_crew *crew) {
    for (int i = 0; i < crew->router->server_count; i++)
        if (hvi_crew_next_job(crew, &crew->teams[i]) != NULL)
            return false;
    return hvi_crew_busy(crew) == 0;
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
        const hvi_team *t = &crew->teams[i];
        if (hvi_worker_has_job(&t->workers[t->worker_count]))
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
        hvi_crew_pump(crew);
    }
}

/* End what has no statement running, cancel what has one, and wait until it has ended. */
static void interrupt(hvi_crew *crew) {
    int64_t now = hvi_clock_us();
    crew->stopped = crew->interrupted = true;
    for (int i = 0; i < crew->router->server_count; i++) {
        hvi_team *t = &crew->teams[i];
        for (int j = 0; j <= t->worker_count; j++) {
            hvi_worker *worker = &t->workers[j];
            if (worker->state == HVI_WORKER_ANSWERED)
                continue;
            if (worker->state == HVI_WORKER_RUNNING) {
                hvi_crew_cancel(crew, worker, now);
                continue;
            }
            if (worker->state != HVI_WORKER_SETTING)
                hvi_worker_release(worker);
            if (hvi_worker_has_job(worker))
                hvi_crew_fail_interrupted(crew, hvi_worker_take_job(t, worker));
        }
        hvi_jobs_free(&t->companions);
    }
    hvi_crew_pump(crew);
    while (!is_over(crew) || has_companion(crew)) {
        wait_and_handle(crew, next_moment(crew));
        hvi_crew_pump(crew);
    }
    settle(crew);
}

/* ---- the whole ---- */

static void end_companions(hvi_crew *crew) {
    for (int i = 0; i < crew->router->server_count; i++) {
        hvi_team *t = &crew->teams[i];
        hvi_worker *worker = &t->workers[t->worker_count];
        hvi_worker_release(worker);
        if (hvi_worker_has_job(worker))
            hvi_job_free(hvi_worker_take_job(t, worker));
        hvi_jobs_free(&t->companions);
    }
}

static hv_status fail_interrupted_crew(hv_error **error) {
    return hvi_fail(error, HV_TIMEOUT, "interrupted before all shards were done");
}

hv_status hvi_crew_next(hvi_crew *crew, hvi_job **job, hv_error **error) {
    if (crew->returned != NULL)
        hvi_job_free(crew->returned);
    crew->returned = NULL;
    *job = NULL;
    if (crew->no_memory)
        return hvi_no_memory(error);
    if (!crew->interrupted)
        hvi_crew_pump(crew);
    while (hvi_list_empty(&crew->finished) && !is_over(crew)) {
        wait_and_handle(crew, next_moment(crew));
        if (hvi_interrupted()) {
            interrupt(crew);
            return fail_interrupted_crew(error);
        }
        hvi_crew_pump(crew);
    }
    hvi_list *node = hvi_list_pop_front(&crew->finished);
    if (node != NULL) {
        crew->returned = *job = hvi_job_of(node);
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
        hvi_team *t = &crew->teams[i];
        for (int j = 0; j <= t->worker_count; j++) {
            hvi_worker *worker = &t->workers[j];
            if (is_foreign && hvi_worker_has_job(worker))
                hvi_job_free(worker->job);
            if (is_foreign)
                hvi_worker_forget(worker);
            else
                hvi_worker_end(worker);
        }
        hvi_jobs_free(&t->waiting);
        hvi_jobs_free(&t->companions);
        free(t->workers);
    }
    hvi_jobs_free(&crew->finished);
    if (crew->returned != NULL)
        hvi_job_free(crew->returned);
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
