/*
 * ledger_status: the struct hv_ledger: the ledgers of all shards, compared with a directory.
 */
#include "schema/ledger_status.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "schema/ledger.h"

typedef struct ledger_shard {
    int server;
    int shard;
    hv_error *error;            /* owned; NULL: it was read */
    hvi_ledger_rows rows;       /* owned */
    hv_migration_state *states; /* of each file; owned */
} ledger_shard;

typedef struct ledger_file {
    int64_t number;
    char *name; /* owned */
} ledger_file;

struct hv_ledger {
    ledger_shard *shards; /* owned; in ascending order */
    size_t shard_count;
    ledger_file *files; /* owned; likewise */
    size_t file_count;
};

/* ---- reading one shard ---- */

typedef struct status_job {
    hvi_job job;
    bool is_reading; /* there is a ledger, and its rows come next */
    hvi_buffer sql;
    hvi_ledger_rows rows;
} status_job;

static hvi_job_next end(status_job *s, hv_status status) {
    s->job.work = status == HV_OK ? HV_WORK_DONE : HV_WORK_FAILED;
    return HVI_JOB_END;
}

static hvi_job_next ask(status_job *s, bool is_reading, hvi_request *request) {
    s->is_reading = is_reading;
    hvi_buffer_reset(&s->sql);
    hvi_buffer_append_format(&s->sql, "SET lock_timeout TO %d;", HVI_LEDGER_LOCK_TIMEOUT);
    if (is_reading)
        hvi_ledger_read(&s->sql, s->job.shard);
    else
        hvi_ledger_ask(&s->sql, s->job.shard);
    if (!hvi_buffer_ok(&s->sql))
        return end(s, hvi_no_memory(&s->job.error));
    request->sql = s->sql.data;
    return HVI_JOB_RUN;
}

static hvi_job_next step(hvi_job *job, hvi_session *session, hvi_answer *answer,
                         hvi_request *request) {
    status_job *s = (status_job *) job;
    const char *server = session->config->server;
    bool is_there = false;
    if (answer == NULL)
        return ask(s, false, request);
    if (answer->status == HV_UNAVAILABLE)
        return HVI_JOB_AFRESH;
    if (answer->status != HV_OK)
        return end(s, hvi_error_move(&job->error, &answer->error));
    if (s->is_reading)
        return end(s, hvi_ledger_take(answer->result, server, job->shard, &s->rows, &job->error));
    hv_status status = hvi_ledger_asked(answer->result, server, job->shard, &is_there, &job->error);
    return status == HV_OK && is_there ? ask(s, true, request) : end(s, status);
}

static void free_job(hvi_job *job) {
    status_job *s = (status_job *) job;
    hvi_ledger_rows_fini(&s->rows);
    hvi_buffer_fini(&s->sql);
    free(s);
}

/* ---- all shards ---- */

static int compare_shards(const void *a, const void *b) {
    const ledger_shard *x = a, *y = b;
    return (x->shard > y->shard) - (x->shard < y->shard);
}

static int compare_files(const void *a, const void *b) {
    const ledger_file *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

/* Take what a job has read. There is room. */
static void collect(void *context, hvi_job *job) {
    hv_ledger *ledger = context;
    status_job *s = (status_job *) job;
    ledger_shard *shard = &ledger->shards[ledger->shard_count++];
    *shard = (ledger_shard){.server = job->server, .shard = job->shard, .rows = s->rows};
    shard->error = hvi_error_copy(job->error);
    s->rows = (hvi_ledger_rows){0};
}

static hv_status read_shards(hvi_router *router, const hv_rollout *rollout, hv_ledger *ledger,
                             hv_error **error) {
    hvi_crew *crew = NULL;
    int *shards = NULL, count = 0;
    hv_status status = hvi_rollout_shards(rollout, router, &shards, &count, error);
    if (status == HV_OK)
        status = hvi_crew_new(router, rollout, &crew, error);
    ledger->shards = status == HV_OK ? calloc((size_t) count + 1, sizeof *ledger->shards) : NULL;
    if (status == HV_OK && ledger->shards == NULL)
        status = hvi_no_memory(error);
    for (int i = 0; status == HV_OK && i < count; i++) {
        status_job *s = calloc(1, sizeof *s);
        if (s == NULL) {
            status = hvi_no_memory(error);
            break;
        }
        s->job = (hvi_job){
            .server = hvi_router_holder(router, shards[i]),
            .shard = shards[i],
            .is_reading = true,
            .step = step,
            .free = free_job,
        };
        hvi_crew_add(crew, &s->job);
    }
    hv_error *cause = NULL;
    if (status == HV_OK)
        status = hvi_crew_run(crew, collect, ledger, &cause);
    /* A shard that could not be read is in the table, with its error: if all have ended, that is
     * the answer. */
    if (cause != NULL && ledger->shard_count == (size_t) count)
        status = HV_OK;
    else if (cause != NULL)
        hvi_error_move(error, &cause);
    hv_error_free(cause);
    hvi_crew_free(crew);
    free(shards);
    return status;
}

/* ---- the files ---- */

static bool add_file(hv_ledger *ledger, size_t *room, int64_t number, const char *name) {
    if (ledger->file_count == *room) {
        size_t more = *room > 0 ? 2 * *room : 16;
        void *grown = realloc(ledger->files, more * sizeof *ledger->files);
        if (grown == NULL)
            return false;
        ledger->files = grown;
        *room = more;
    }
    char *copy = strdup(name);
    if (copy == NULL)
        return false;
    ledger->files[ledger->file_count++] = (ledger_file){.number = number, .name = copy};
    return true;
}

static bool has_file(const hv_ledger *ledger, int64_t number) {
    return ledger->file_count > 0 &&
           bsearch(&(ledger_file){.number = number}, ledger->files, ledger->file_count,
                   sizeof *ledger->files, compare_files) != NULL;
}

/* Those of the directory, and those that the ledgers name and it lacks. */
static hv_status collect_files(hv_ledger *ledger, const hv_migrations *migrations,
                               hv_error **error) {
    size_t room = 0;
    bool ok = true;
    for (size_t i = 0; ok && migrations != NULL && i < migrations->count; i++)
        ok = add_file(ledger, &room, migrations->files[i].number, migrations->files[i].sql.name);
    for (size_t i = 0; ok && i < ledger->shard_count; i++) {
        const hvi_ledger_rows *rows = &ledger->shards[i].rows;
        for (size_t j = 0; ok && j < rows->count; j++) {
            if (has_file(ledger, rows->rows[j].number))
                continue;
            ok = add_file(ledger, &room, rows->rows[j].number, rows->rows[j].name);
            qsort(ledger->files, ledger->file_count, sizeof *ledger->files, compare_files);
        }
    }
    return ok ? HV_OK : hvi_no_memory(error);
}

/* Without a directory, what was done is just done. */
static hv_migration_state state_alone(const hvi_ledger_row *row) {
    if (row == NULL)
        return HV_MIGRATION_PENDING;
    return row->finished ? HV_MIGRATION_DONE : HV_MIGRATION_INTERRUPTED;
}

static hv_status compare(hv_ledger *ledger, const hv_migrations *migrations, hv_error **error) {
    hv_status status = HV_OK;
    for (size_t i = 0; status == HV_OK && i < ledger->shard_count; i++) {
        ledger_shard *shard = &ledger->shards[i];
        shard->states = calloc(ledger->file_count + 1, sizeof *shard->states);
        if (shard->states == NULL)
            status = HV_NO_MEMORY;
        for (size_t j = 0; status == HV_OK && j < ledger->file_count; j++) {
            int64_t number = ledger->files[j].number;
            const hvi_ledger_row *row = hvi_ledger_rows_find(&shard->rows, number);
            if (migrations == NULL)
                shard->states[j] = state_alone(row);
            else
                status = hvi_ledger_compare(row, hvi_migrations_find(migrations, number),
                                            &shard->states[j]);
        }
    }
    return status == HV_OK ? HV_OK : hvi_no_memory(error);
}

static hv_status read_all(hvi_router *router, const hv_migrations *migrations,
                          const hv_rollout *rollout, hv_ledger *ledger, hv_error **error) {
    hv_status status = read_shards(router, rollout, ledger, error);
    if (status != HV_OK)
        return status;
    qsort(ledger->shards, ledger->shard_count, sizeof *ledger->shards, compare_shards);
    status = collect_files(ledger, migrations, error);
    return status == HV_OK ? compare(ledger, migrations, error) : status;
}

hv_status hvi_migrate_status(hvi_router *router, const hv_migrations *migrations,
                             const hv_rollout *rollout, hv_ledger **ledger, hv_error **error) {
    hv_rollout *copy = hvi_rollout_copy(rollout);
    *ledger = calloc(1, sizeof **ledger);
    hv_status status = copy != NULL && *ledger != NULL ? HV_OK : hvi_no_memory(error);
    if (status == HV_OK)
        status = hvi_rollout_refuse_each(copy, error);
    if (status == HV_OK) {
        copy->canary = false; /* it changes nothing */
        copy->max_failures = INT_MAX;
        status = read_all(router, migrations, copy, *ledger, error);
    }
    hv_rollout_free(copy);
    if (status != HV_OK) {
        hv_ledger_free(*ledger);
        *ledger = NULL;
    }
    return status;
}

/* ---- the table ---- */

void hv_ledger_free(hv_ledger *ledger) {
    if (ledger == NULL)
        return;
    for (size_t i = 0; i < ledger->shard_count; i++) {
        hv_error_free(ledger->shards[i].error);
        hvi_ledger_rows_fini(&ledger->shards[i].rows);
        free(ledger->shards[i].states);
    }
    for (size_t i = 0; i < ledger->file_count; i++)
        free(ledger->files[i].name);
    free(ledger->shards);
    free(ledger->files);
    free(ledger);
}

size_t hv_ledger_files(const hv_ledger *ledger) {
    return ledger->file_count;
}

const char *hv_ledger_file(const hv_ledger *ledger, size_t file) {
    return file < ledger->file_count ? ledger->files[file].name : NULL;
}

bool hv_ledger_shard(const hv_ledger *ledger, size_t index, int *server, int *shard,
                     const hv_error **error) {
    if (index >= ledger->shard_count)
        return false;
    const ledger_shard *found = &ledger->shards[index];
    if (server != NULL)
        *server = found->server;
    if (shard != NULL)
        *shard = found->shard;
    if (error != NULL)
        *error = found->error;
    return true;
}

hv_migration_state hv_ledger_state(const hv_ledger *ledger, size_t index, size_t file,
                                   const char **digest, int64_t *applied_at) {
    bool is_there = index < ledger->shard_count && file < ledger->file_count;
    const hvi_ledger_row *row =
        is_there ? hvi_ledger_rows_find(&ledger->shards[index].rows, ledger->files[file].number)
                 : NULL;
    if (digest != NULL)
        *digest = row != NULL ? row->digest : NULL;
    if (applied_at != NULL)
        *applied_at = row != NULL ? row->applied_at : 0;
    return is_there ? ledger->shards[index].states[file] : HV_MIGRATION_PENDING;
}
