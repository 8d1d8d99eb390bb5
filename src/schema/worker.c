/*
 * worker: one connection of a crew.
 */
#include "schema/worker.h"

#include "base/clock.h"
#include "schema/shard_sql.h"

void hvi_worker_init(hvi_worker *worker, hvi_server *server, int64_t setting_timeout, int epoll,
                     int event) {
    *worker = (hvi_worker){.server = server->number, .deadline = HVI_NEVER};
    worker->setting_timeout = setting_timeout;
    hvi_lease_init(&worker->lease, &server->pool, epoll, event, worker);
}

void hvi_worker_drop_answer(hvi_worker *worker) {
    PQclear(worker->answer.result);
    hv_error_free(worker->answer.error);
    worker->answer = (hvi_answer){0};
}

void hvi_worker_end(hvi_worker *worker) {
    hvi_worker_release(worker);
    hvi_buffer_fini(&worker->settings);
}

static bool is_running(const hvi_worker *worker) {
    return worker->state == HVI_WORKER_SETTING || worker->state == HVI_WORKER_RUNNING;
}

void hvi_worker_forget(hvi_worker *worker) {
    if (is_running(worker) && worker->is_pipeline)
        hvi_pipeline_forget(&worker->pipeline);
    else if (is_running(worker))
        hvi_exchange_fini(&worker->script.exchange);
    hvi_worker_drop_answer(worker);
    hv_error_free(worker->error);
    hvi_buffer_fini(&worker->settings);
    hvi_lease_forget(&worker->lease);
}

/* ---- statements ---- */

static hvi_session *session_of(const hvi_worker *worker) {
    return worker->lease.session;
}

static hvi_wants advance(hvi_worker *worker) {
    return worker->is_pipeline ? hvi_pipeline_advance(&worker->pipeline)
                               : hvi_script_advance(&worker->script);
}

/* The statement is answered, or given up. */
static void finish(hvi_worker *worker) {
    hvi_answer *answer = &worker->answer;
    *answer = (hvi_answer){0};
    if (worker->is_pipeline) {
        answer->status = hvi_pipeline_finish(&worker->pipeline, &answer->result, &answer->error);
        answer->completed = answer->status == HV_OK;
    } else {
        answer->status = hvi_script_finish(&worker->script, &answer->result, &answer->error);
        answer->completed = worker->script.completed;
    }
    answer->position = hvi_error_position_of(answer->error);
    worker->deadline = HVI_NEVER;
    hvi_lease_watch(&worker->lease, HVI_WANTS_NOTHING);
}

/* A session that could not be set up is none. */
static void finish_setting(hvi_worker *worker) {
    finish(worker);
    hvi_buffer_reset(&worker->settings);
    if (worker->answer.status == HV_OK) {
        worker->state = HVI_WORKER_READY;
    } else {
        hv_error *cause = worker->answer.error;
        worker->answer.error = NULL;
        hvi_worker_release(worker);
        worker->state = HVI_WORKER_FAILED;
        worker->was_lent = true;
        worker->error = cause;
    }
    hvi_worker_drop_answer(worker);
}

static void go_on(hvi_worker *worker) {
    hvi_wants wants = advance(worker);
    if (wants != HVI_WANTS_NOTHING) {
        hvi_lease_watch(&worker->lease, wants);
    } else if (worker->state == HVI_WORKER_SETTING) {
        finish_setting(worker);
    } else {
        finish(worker);
        worker->state = HVI_WORKER_ANSWERED;
    }
}

static void send_script(hvi_worker *worker, int shard, const hvi_request *request) {
    worker->is_pipeline = false;
    hvi_script_start(&worker->script, session_of(worker), request->sql, shard, request->is_write);
    worker->script.exchange.wanted = request->wanted;
    go_on(worker);
}

void hvi_worker_send(hvi_worker *worker, int shard, const hvi_request *request) {
    worker->state = HVI_WORKER_RUNNING;
    worker->deadline = hvi_deadline_after(request->timeout);
    if (request->parameter_count == 0) {
        send_script(worker, shard, request);
        return;
    }
    worker->is_pipeline = true;
    worker->query = (hvi_query){
        .sql = request->sql,
        .shard = shard,
        .is_write = request->is_write,
        .parameter_count = request->parameter_count,
        .values = request->parameters,
    };
    hvi_pipeline_start(&worker->pipeline, session_of(worker), &worker->query, 1, false);
    go_on(worker);
}

/* ---- the session ---- */

void hvi_worker_clean(hvi_worker *worker) {
    hvi_session *session = session_of(worker);
    hvi_buffer_reset(&worker->settings);
    hvi_shard_sql_settings(&worker->settings, session);
    if (!hvi_buffer_ok(&worker->settings)) {
        hvi_worker_release(worker);
        worker->state = HVI_WORKER_FAILED;
        hvi_no_memory(&worker->error);
        return;
    }
    hvi_statements_clear(&session->statements); /* the server gives them all up */
    worker->state = HVI_WORKER_SETTING;
    worker->deadline = hvi_deadline_after(worker->setting_timeout);
    send_script(worker, -1, &(hvi_request){.sql = worker->settings.data});
}

/* See what has become of the attempt to borrow one. */
static void note_lease(hvi_worker *worker, hv_status status) {
    if (status != HV_OK) {
        worker->state = HVI_WORKER_FAILED;
    } else if (worker->lease.state == HVI_LEASE_LENT) {
        hvi_session_doubt(session_of(worker)); /* so that the pool closes it at the end */
        hvi_worker_clean(worker);
    } else {
        worker->state =
            worker->lease.state == HVI_LEASE_NONE ? HVI_WORKER_OFF : HVI_WORKER_BORROWING;
    }
}

void hvi_worker_borrow(hvi_worker *worker, int64_t queue_timeout, int64_t opening_timeout) {
    hv_error_free(worker->error);
    worker->error = NULL;
    worker->was_lent = false;
    note_lease(worker,
               hvi_lease_start(&worker->lease, queue_timeout, opening_timeout, &worker->error));
}

void hvi_worker_advance(hvi_worker *worker) {
    if (worker->state == HVI_WORKER_BORROWING)
        note_lease(worker, hvi_lease_advance(&worker->lease, &worker->error));
    else if (is_running(worker))
        go_on(worker);
}

void hvi_worker_give_up(hvi_worker *worker) {
    if (worker->state == HVI_WORKER_SETTING) {
        finish_setting(worker);
    } else if (worker->state == HVI_WORKER_RUNNING) {
        finish(worker);
        worker->state = HVI_WORKER_ANSWERED;
    }
}

bool hvi_worker_is_late(const hvi_worker *worker, int64_t now) {
    return is_running(worker) && worker->deadline <= now;
}

int64_t hvi_worker_next(const hvi_worker *worker) {
    int64_t moment = hvi_lease_next(&worker->lease);
    return is_running(worker) && worker->deadline < moment ? worker->deadline : moment;
}

void hvi_worker_release(hvi_worker *worker) {
    if (is_running(worker))
        finish(worker); /* as late: the session is broken, and is closed */
    hvi_worker_drop_answer(worker);
    hv_error_free(worker->error);
    worker->error = NULL;
    hvi_lease_end(&worker->lease);
    worker->state = HVI_WORKER_OFF;
    worker->deadline = HVI_NEVER;
}
