/*
 * alloc_failure: run one operation of the library with its first allocation failing, then with its
 * second, and so on until a run meets no failure; after each run, compare the operation's outcome
 * with what is on the server.
 *
 * usage: alloc_failure OPERATION once|forever KEYWORD=VALUE...
 *
 * The store is that of $HYPERVAULT_CONFIG: one server with the shards 1 and 2, and a pool of two
 * connections. The arguments are libpq's parameters for a connection of our own to the same server.
 *
 * After each run:
 *  - the operation has succeeded with HV_OK and done all that it should, or failed with the right
 *    error: an entity is on the server if and only if the status says so, and only
 *    HV_OUTCOME_UNKNOWN leaves that open;
 *  - the same store still works, with both connections of its pool;
 *  - once it is closed, no block of memory is left that was not there before.
 */
#include "alloc_failure.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "failing_memory.h"

#define SHARDS    2
#define POOL_MAX  2
#define MAX_RUNS  100000
#define PATIENCE  10000 /* milliseconds */
#define MAX_PARAM 32

static const char *operation;
static const char *mode;
static int run; /* the allocation that fails; 0: none */
static PGconn *observer;

static int met[HV_CHANGED + 1]; /* how many runs ended with each status */

hv_store *store;
int label;
int64_t known_key;
static int64_t new_key; /* what put returned */
static int logged;      /* events */

/* An attribute's value that is larger than any buffer of libpq at its start; "" for none. */
#define FILLER_LEN 100000
static char filler[FILLER_LEN + 1];

/* ---- messages -------------------------------------------------------------------------------- */

void fail(const char *format, ...) {
    va_list values;
    fprintf(stderr, "%s, %s, allocation %d: ", operation, mode, run);
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
    exit(1);
}

void must(hv_status status, hv_error **error, const char *step) {
    if (status != HV_OK)
        fail("%s: %s: %s", step, hv_status_name(status),
             *error != NULL ? hv_error_message(*error) : "no error object");
}

/* ---- the server's view ----------------------------------------------------------------------- */

int64_t observe(const char *sql) {
    PGresult *result = PQexec(observer, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        fail("%s: %s", sql, PQerrorMessage(observer));
    int64_t value = PQntuples(result) > 0 ? strtoll(PQgetvalue(result, 0, 0), NULL, 10) : 0;
    PQclear(result);
    return value;
}

static int64_t store_connections(void) {
    return observe("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                   " AND backend_type = 'client backend' AND pid <> pg_backend_pid()");
}

/* Wait until the server has ended the session of every connection that the store gave up: their
 * statements are done then, or never will be. */
static void settle(int64_t open) {
    for (int waited = 0; store_connections() != open; waited++) {
        if (waited == PATIENCE)
            fail("the server has %" PRId64 " connections, the store %" PRId64, store_connections(),
                 open);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

int64_t stored_in_this_run(void) {
    char sql[128];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM shard%04d.entities WHERE body -> '" NAME "' = '%d'", SHARD,
             label);
    return observe(sql);
}

/* ---- the store's view ------------------------------------------------------------------------ */

static void log_event(void *context, const hv_log_event *event) {
    (void) context;
    if (hv_log_statement(event) == NULL || hv_log_server(event) == NULL)
        fail("an event without a statement or server");
    logged++;
}

static hv_status load(hv_store **loaded, hv_error **error) {
    hv_options *options = hv_options_new();
    if (options == NULL)
        return HV_NO_MEMORY;
    hv_status status = hv_options_load(options, NULL, NULL, error);
    if (status == HV_OK) {
        hv_options_set_log(options, log_event, NULL);
        status = hv_open(options, loaded, error);
    }
    hv_options_free(options);
    return status;
}

hv_status make_dict(int wanted, hv_dict **dict, hv_error **error) {
    char text[32];
    *dict = hv_dict_new();
    if (*dict == NULL)
        return HV_NO_MEMORY;
    snprintf(text, sizeof text, "%d", wanted);
    hv_status status = hv_dict_set(*dict, NAME, text, error);
    if (status == HV_OK)
        status = hv_dict_set(*dict, "nothing", NULL, error);
    if (status == HV_OK)
        status = hv_dict_set(*dict, "filler", filler, error);
    return status;
}

static hv_status put(hv_error **error) {
    hv_dict *dict;
    hv_status status = make_dict(label, &dict, error);
    if (status == HV_OK)
        status = hv_put(store, SHARD, KIND, dict, &new_key, error);
    hv_dict_free(dict);
    return status;
}

bool is_dict(const hv_dict *dict, int wanted) {
    const char *value = NULL;
    char text[32];
    snprintf(text, sizeof text, "%d", wanted);
    return hv_dict_count(dict) == 3 && hv_dict_get(dict, NAME, HV_STRLEN, &value, NULL) &&
           value != NULL && strcmp(value, text) == 0 &&
           hv_dict_get(dict, "filler", HV_STRLEN, &value, NULL) && value != NULL &&
           strcmp(value, filler) == 0 && hv_dict_get(dict, "nothing", HV_STRLEN, &value, NULL) &&
           value == NULL;
}

/* Is this the entity that was put with a label? */
static bool is_entity(const hv_entity *entity, int64_t key, int wanted) {
    return hv_entity_key(entity) == key && hv_entity_kind(entity) == KIND &&
           is_dict(hv_entity_dict(entity), wanted);
}

static void require_entity(int64_t key, int wanted) {
    hv_error *error = NULL;
    hv_entity *entity = NULL;
    must(hv_get(store, key, &entity, &error), &error, "get");
    if (!is_entity(entity, key, wanted))
        fail("the entity %" PRId64 " is not what was put", key);
    hv_entity_free(entity);
}

/* Both connections of the pool can still be lent at once, and work. */
static void require_pool(void) {
    hv_error *error = NULL;
    PGconn *lent[POOL_MAX];
    for (int i = 0; i < POOL_MAX; i++) {
        must(hv_acquire(store, SHARD, &lent[i], &error), &error, "acquire");
        PGresult *result = PQexec(lent[i], "SELECT 1");
        if (PQresultStatus(result) != PGRES_TUPLES_OK)
            fail("a lent connection is of no use: %s", PQerrorMessage(lent[i]));
        PQclear(result);
    }
    for (int i = 0; i < POOL_MAX; i++)
        must(hv_release(store, lent[i], &error), &error, "release");
}

void open_store(void) {
    hv_error *error = NULL;
    must(load(&store, &error), &error, "open");
}

void open_and_use(void) {
    hv_error *error = NULL;
    open_store();
    must(put(&error), &error, "put");
    require_entity(new_key, label);
    char sql[64];
    snprintf(sql, sizeof sql, "DELETE FROM shard%04d.entities WHERE id = %" PRId64, SHARD, new_key);
    observe(sql);
}

static void make_shards(void) {
    hv_error *error = NULL;
    must(hv_create_shards(store, 0, NULL, NULL, NULL, &error), &error, "create");
}

/* ---- operations ------------------------------------------------------------------------------ */

static hv_status act_open(hv_error **error) {
    return load(&store, error);
}

static void after_open(hv_status status) {
    if ((status == HV_OK) != (store != NULL))
        fail("%s, but %s store", hv_status_name(status), store != NULL ? "a" : "no");
    if (store == NULL)
        open_store();
    if (hv_server_count(store) != 1 || hv_next_shard(store, 0, -1) != 1 ||
        hv_next_shard(store, 0, SHARDS) != -1)
        fail("the store is not as configured");
}

static void after_put(hv_status status) {
    int64_t stored = stored_in_this_run();
    if (stored > 1 || (stored != (status == HV_OK) && status != HV_OUTCOME_UNKNOWN))
        fail("%s, but %" PRId64 " entities stored", hv_status_name(status), stored);
    if (status == HV_OK)
        require_entity(new_key, label);
}

static hv_entity *entity;

static hv_status act_get(hv_error **error) {
    return hv_get(store, known_key, &entity, error);
}

static void after_get(hv_status status) {
    if ((status == HV_OK) != (entity != NULL))
        fail("%s, but %s entity", hv_status_name(status), entity != NULL ? "an" : "no");
    if (status == HV_OUTCOME_UNKNOWN)
        fail("a read has a known outcome");
    if (entity != NULL && !is_entity(entity, known_key, KNOWN_LABEL))
        fail("the entity is not what was put");
    hv_entity_free(entity);
    entity = NULL;
}

#define MANY 6
static hv_status many_statuses[MANY];
static hv_error *many_errors[MANY];
static hv_entity *many_entities[MANY];

/* Check that each item's error fits its status, as for a single operation; free the errors. */
static void take_many_errors(void) {
    for (int i = 0; i < MANY; i++) {
        hv_status status = many_statuses[i];
        if ((many_errors[i] != NULL) != (status != HV_OK && status != HV_NOT_FOUND) ||
            (many_errors[i] != NULL && hv_error_status(many_errors[i]) != status))
            fail("item %d: %s and another error", i, hv_status_name(status));
        hv_error_free(many_errors[i]);
        many_errors[i] = NULL;
    }
}

static hv_status act_put_many(hv_error **error) {
    hv_new_entity entities[MANY];
    int64_t keys[MANY];
    hv_dict *dict;
    hv_status status = make_dict(label, &dict, error);
    for (int i = 0; i < MANY; i++) {
        entities[i] = (hv_new_entity){.shard = SHARD, .kind = KIND, .dict = dict};
        many_statuses[i] = HV_NO_MEMORY;
    }
    if (status == HV_OK) {
        status = hv_put_many(store, entities, MANY, keys, many_statuses, many_errors, error);
        take_many_errors();
    }
    hv_dict_free(dict);
    return status;
}

static void after_put_many(hv_status status) {
    int64_t stored = stored_in_this_run();
    int done = 0, unknown = 0;
    for (int i = 0; i < MANY; i++) {
        done += many_statuses[i] == HV_OK;
        unknown += many_statuses[i] == HV_OUTCOME_UNKNOWN;
    }
    if (stored < done || stored > done + unknown || (status == HV_OK) != (done == MANY))
        fail("%s, %d reported and %d unknown, but %" PRId64 " entities stored",
             hv_status_name(status), done, unknown, stored);
}

/* Every second key has no entity. */
static hv_status act_get_many(hv_error **error) {
    int64_t keys[MANY];
    for (int i = 0; i < MANY; i++)
        keys[i] = i % 2 == 0 ? known_key : known_key + ((int64_t) i << 23);
    hv_status status =
        hv_get_many(store, keys, MANY, many_entities, many_statuses, many_errors, error);
    take_many_errors();
    return status;
}

static void after_get_many(hv_status status) {
    for (int i = 0; i < MANY; i++) {
        bool found = many_entities[i] != NULL;
        if (found != (many_statuses[i] == HV_OK) || (status == HV_OK && found != (i % 2 == 0)) ||
            many_statuses[i] == HV_OUTCOME_UNKNOWN)
            fail("item %d: %s", i, hv_status_name(many_statuses[i]));
        if (found && !is_entity(many_entities[i], known_key, KNOWN_LABEL))
            fail("the entity is not what was put");
        hv_entity_free(many_entities[i]);
        many_entities[i] = NULL;
    }
}

/* The borrower leaves a transaction open, which the release has to roll back. */
static hv_status act_lend(hv_error **error) {
    PGconn *lent = NULL;
    hv_status status = hv_acquire(store, SHARD, &lent, error);
    if (status != HV_OK)
        return status;
    PQclear(PQexec(lent, "BEGIN"));
    status = hv_release(store, lent, error);
    if (status != HV_OK)
        fail("release: %s", hv_status_name(status));
    return status;
}

static void before_create(void) {
    observe("SET client_min_messages TO warning; DROP SCHEMA IF EXISTS hypervault, shard0001,"
            " shard0002 CASCADE; DROP EXTENSION IF EXISTS hstore");
    open_store();
}

static int created;
static int progress;

static void count_progress(void *context, int server, int done, int total) {
    (void) context;
    if (server != 0 || total != SHARDS || done != ++progress)
        fail("progress: %d of %d after %d", done, total, progress - 1);
}

static hv_status act_create(hv_error **error) {
    created = -1;
    progress = 0;
    return hv_create_shards(store, 0, count_progress, NULL, &created, error);
}

/* The function that was dropped with its shard. */
static void restore_known_entity(void) {
    char sql[160];
    snprintf(sql, sizeof sql,
             "INSERT INTO shard%04d.entities VALUES (%" PRId64 ", %d, '" NAME
             " => %d, nothing => NULL, filler => \"\"')",
             SHARD, known_key, KIND, KNOWN_LABEL);
    observe(sql);
}

static hv_report *inspect(void) {
    hv_error *error = NULL;
    hv_report *report = NULL;
    must(hv_inspect(store, 0, &report, &error), &error, "inspect");
    return report;
}

static void after_create(hv_status status) {
    int ready = 0;
    hv_shard_state state;
    hv_report *report = inspect();
    for (size_t i = 0; hv_report_shard(report, i, NULL, &state, NULL, NULL, NULL); i++) {
        if (state != HV_SHARD_READY && state != HV_SHARD_MISSING)
            fail("a shard is in state %d", (int) state);
        ready += state == HV_SHARD_READY;
    }
    /* A shard may have been made although its answer was lost, but not the other way round. */
    if (created > ready || progress > ready || ready > created + 1 ||
        (status == HV_OK && created != SHARDS))
        fail("%s: %d shards created, %d reported, %d there", hv_status_name(status), created,
             progress, ready);
    hv_report_free(report);
    make_shards();
    restore_known_entity();
}

static hv_report *report;

static hv_status act_inspect(hv_error **error) {
    return hv_inspect(store, 0, &report, error);
}

static void after_inspect(hv_status status) {
    if ((status == HV_OK) != (report != NULL))
        fail("%s, but %s report", hv_status_name(status), report != NULL ? "a" : "no");
    if (report == NULL)
        return;
    int64_t entities;
    bool exact;
    hv_shard_state state;
    if (hv_report_shard_count(report) != SHARDS || hv_report_layout(report) != 1 ||
        strcmp(hv_report_database(report), PQdb(observer)) != 0 ||
        !hv_report_shard(report, SHARD - 1, NULL, &state, &entities, &exact, NULL) ||
        state != HV_SHARD_READY || !exact || entities != 1)
        fail("the report is wrong");
    hv_report_free(report);
    report = NULL;
}

/* Closing needs no memory. */
static hv_status act_close(hv_error **error) {
    hv_status status = hv_close(store, 0, error);
    if (status != HV_OK)
        fail("close: %s", hv_status_name(status));
    store = NULL;
    return status;
}

static void after_close(hv_status status) {
    (void) status;
    open_store();
}

static void nothing(hv_status status) {
    (void) status;
}

static void no_store(void) {
}

static const operation_of operations[] = {
    {"open", no_store, act_open, after_open},
    {"put_first", open_store, put, after_put},
    {"put", open_and_use, put, after_put},
    {"put_large", open_store, put, after_put, true},
    {"get_first", open_store, act_get, after_get},
    {"get", open_and_use, act_get, after_get},
    {"get_large", open_store, act_get, after_get, true},
    {"put_many_first", open_store, act_put_many, after_put_many},
    {"put_many", open_and_use, act_put_many, after_put_many},
    {"get_many", open_and_use, act_get_many, after_get_many},
    {"lend_first", open_store, act_lend, nothing},
    {"lend", open_and_use, act_lend, nothing},
    {"create", before_create, act_create, after_create},
    {"inspect", open_store, act_inspect, after_inspect},
    {"close", open_and_use, act_close, after_close},
    {NULL, NULL, NULL, NULL, false},
};

/* NULL if there is none of this name. */
static const operation_of *find(const operation_of *from, const char *name) {
    while (from->name != NULL && strcmp(from->name, name) != 0)
        from++;
    return from->name != NULL ? from : NULL;
}

/* ---- runs ------------------------------------------------------------------------------------ */

static void require_true_error(hv_status status, const hv_error *error) {
    if (status == HV_OK && error != NULL)
        fail("an error with HV_OK: %s", hv_error_message(error));
    if (status == HV_OK || (error == NULL && status == HV_NO_MEMORY))
        return; /* hv_dict_new() and hv_options_new() have no error object */
    if (error == NULL)
        fail("%s without an error", hv_status_name(status));
    if (hv_error_status(error) != status)
        fail("%s, but the error says %s", hv_status_name(status),
             hv_status_name(hv_error_status(error)));
    if (hv_error_message(error)[0] == '\0')
        fail("%s without a message", hv_status_name(status));
    if (hv_error_outcome_unknown(error) != (status == HV_OUTCOME_UNKNOWN) ||
        (hv_error_outcome_unknown(error) && hv_error_retriable(error)))
        fail("%s, but the error is unsure", hv_status_name(status));
}

/* One run. Returns whether an allocation failed in it; *leaked is the number of blocks that were
 * not freed. */
static bool run_once(const operation_of *of, int *leaked) {
    hv_error *error = NULL;
    int blocks = failing_memory_blocks();
    store = NULL;
    label++;
    of->before();
    if (strcmp(mode, "forever") == 0)
        failing_memory_after(run - 1);
    else
        failing_memory_once(run - 1);
    hv_status status = of->act(&error);
    met[status]++;
    bool failed = failing_memory_stop();
    require_true_error(status, error);
    if (!failed && status != HV_OK)
        fail("%s with all the memory there is: %s", hv_status_name(status),
             hv_error_message(error));
    hv_error_free(error);
    error = NULL;
    settle(store != NULL ? hv_pool_stat(store, 0, HV_STAT_OPEN) : 0);
    if (status == HV_UNAVAILABLE)
        hv_reinstantiate(store); /* or the pool would not try the server for a while */
    of->after(status);
    require_pool();
    require_entity(known_key, KNOWN_LABEL);
    must(hv_close(store, 0, &error), &error, "close");
    *leaked = failing_memory_blocks() - blocks;
    return failed;
}

static void run_all(const operation_of *of) {
    bool failed;
    int leaked;
    for (run = 1; run < MAX_RUNS; run++) {
        failed = run_once(of, &leaked);
        /* The C library keeps some blocks for the next time, but only once. */
        if (leaked != 0)
            run_once(of, &leaked);
        if (leaked != 0)
            fail("%d blocks leaked", leaked);
        if (!failed)
            return;
    }
    fail("no end");
}

static void put_known_entity(void) {
    hv_error *error = NULL;
    open_store();
    make_shards();
    must(put(&error), &error, "put");
    known_key = new_key;
    must(hv_close(store, 0, &error), &error, "close");
}

static void connect_observer(int count, char **params) {
    const char *keywords[MAX_PARAM + 1] = {NULL};
    const char *values[MAX_PARAM + 1] = {NULL};
    for (int i = 0; i < count && i < MAX_PARAM; i++) {
        keywords[i] = strsep(&params[i], "=");
        values[i] = params[i];
    }
    observer = PQconnectdbParams(keywords, values, 0);
    if (PQstatus(observer) != CONNECTION_OK)
        fail("%s", PQerrorMessage(observer));
}

int main(int argc, char **argv) {
    operation = argc > 1 ? argv[1] : "";
    mode = argc > 2 ? argv[2] : "";
    const operation_of *of = find(operations, operation);
    if (of == NULL)
        of = find(bulk_operations, operation);
    if (of == NULL)
        of = find(change_operations, operation);
    if (of == NULL)
        of = find(work_operations, operation);
    if (of == NULL)
        fail("no such operation");
    connect_observer(argc - 3, argv + 3);

    if (of->is_large)
        memset(filler, 'x', FILLER_LEN);
    put_known_entity();
    run_all(of);
    printf("%d", run - 1);
    for (int status = 0; status <= HV_CHANGED; status++)
        if (met[status] > 0)
            printf(" %s=%d", hv_status_name((hv_status) status), met[status]);
    putchar('\n');
    PQfinish(observer);
    return 0;
}
