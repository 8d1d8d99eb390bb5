/*
 * hypervault: the public functions on a store as a whole: its life, its connections, its shards.
 */
#include "hypervault.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/shard_ranges.h"
#include "wire/connect.h"
#include "shard/create.h"
#include "shard/inspect.h"
#include "shard/layout.h"
#include "schema/migrate.h"
#include "entity/lane.h"
#include "store/queue.h"
#include "store/store.h"

/* How often hv_close() checks whether the last user has left. */
#define CLOSE_POLL_MS 1

const char *hv_version(void) {
    return HV_VERSION;
}

/* ---- fork ---- */

/* The threads that were in the store do not exist in the child. */
static void fork_child(hvi_fork_member *member) {
    atomic_store(&hvi_list_entry(member, hv_store, fork)->users, 0);
}

/* ---- open and close ---- */

/* The option check_servers: all servers share one deadline, so that several dead servers cost no
 * more time than one. */
static hv_status check_servers(hv_store *store, hv_error **error) {
    hv_status status = HV_OK;
    int64_t deadline = hvi_router_pool_deadline(&store->router);
    hvi_interruptible operation;
    hvi_interrupt_begin(&operation, hvi_router_interrupt(&store->router));
    for (int i = 0; status == HV_OK && i < store->router.server_count; i++)
        status =
            hvi_inspect_shards_ready(&store->router, &store->router.servers[i], deadline, error);
    hvi_interrupt_end(&operation);
    return status;
}

/* The option check_servers: values would be spread over shards that nobody has. */
static hv_status check_spread(hv_store *store, hv_error **error) {
    hv_status status = HV_OK;
    for (int shard = -1; status == HV_OK && (shard = hvi_spread_next(&store->spread, shard)) >= 0;)
        status = hvi_router_settle(&store->router, shard, false, error);
    return status;
}

/* For `shards = auto`. A server that cannot be asked now is asked later. */
static hv_status locate_shards(hv_store *store, hv_error **error) {
    hv_error *cause = NULL;
    hvi_interruptible operation;
    hvi_interrupt_begin(&operation, hvi_router_interrupt(&store->router));
    int64_t deadline = hvi_router_pool_deadline(&store->router);
    hv_status status = hvi_locator_ask(&store->locator, deadline, &cause);
    bool is_over = status == HV_NO_MEMORY || hvi_interrupted();
    hvi_interrupt_end(&operation);
    if (is_over && status != HV_OK)
        return hvi_error_move(error, &cause);
    hv_error_free(cause);
    return HV_OK;
}

static void free_store(hv_store *store) {
    hvi_queue_free_spare(store);
    hvi_locator_fini(&store->locator);
    hvi_fork_leave(&store->fork);
    hvi_key_cache_fini(&store->reserved);
    hvi_statement_texts_fini(&store->texts);
    hvi_lanes_free_all(&store->router);
    hvi_router_fini(&store->router);
    free(store);
}

static hv_status open_store(const hv_options *options, hv_store **store, hv_error **error) {
    hv_store *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    made->epoch = options->values[HVI_EPOCH];
    hvi_options_spread(options, &made->spread);
    hv_status status = hvi_key_cache_init(&made->reserved, error);
    if (status != HV_OK) {
        free(made);
        return status;
    }
    status = hvi_statement_texts_init(&made->texts, error);
    if (status != HV_OK) {
        hvi_key_cache_fini(&made->reserved);
        free(made);
        return status;
    }
    made->fork.child = fork_child;
    hvi_fork_join(&made->fork);
    status = hvi_router_init(&made->router, options, hvi_layout_check, &made->epoch, error);
    if (status == HV_OK)
        status = hvi_lanes_make_all(&made->router, error);
    if (status == HV_OK)
        status = hvi_locator_init(&made->locator, &made->router, error);
    if (status == HV_OK && hvi_options_auto(options))
        status = locate_shards(made, error);
    if (status == HV_OK && options->values[HVI_CHECK_SERVERS] != 0)
        status = check_servers(made, error);
    if (status == HV_OK && options->values[HVI_CHECK_SERVERS] != 0)
        status = check_spread(made, error);
    if (status != HV_OK) {
        free_store(made);
        return status;
    }
    *store = made;
    return HV_OK;
}

hv_status hv_open(const hv_options *options, hv_store **store, hv_error **error) {
    if (options != NULL)
        return open_store(options, store, error);
    hv_options *found = hv_options_new();
    if (found == NULL)
        return hvi_no_memory(error);
    hv_status status = hv_options_load(found, NULL, NULL, error);
    if (status == HV_OK)
        status = open_store(found, store, error);
    hv_options_free(found);
    return status;
}

/*
 * How much of the closed store is still in use: lent connections and running operations. In this
 * order: a closed pool gets no new users, and a caller that returns the last connection is counted
 * in `users` before the pool stops counting it.
 */
static int in_use(hv_store *store) {
    int users = 0;
    for (int i = 0; i < store->router.server_count; i++)
        users += hvi_pool_users(&store->router.servers[i].pool);
    return users + atomic_load(&store->users);
}

void hv_stop(hv_store *store) {
    if (store == NULL)
        return;
    atomic_store(&store->closed, true);
    for (int i = 0; i < store->router.server_count; i++) {
        hvi_pool_close(&store->router.servers[i].pool);
        hvi_lanes_close(store->router.servers[i].lanes);
    }
}

/* Wait until the last user has left; returns how many have not. */
static int await_last_user(hv_store *store, int64_t deadline) {
    int users;
    hvi_interruptible operation;
    hvi_interrupt_begin(&operation, hvi_router_interrupt(&store->router));
    while ((users = in_use(store)) > 0 && !hvi_is_late(deadline))
        hvi_pause(CLOSE_POLL_MS);
    hvi_interrupt_end(&operation);
    return users;
}

hv_status hv_close(hv_store *store, int64_t timeout, hv_error **error) {
    if (store == NULL)
        return HV_OK;
    int64_t deadline = hvi_deadline_after(timeout);
    hv_stop(store);
    int users = await_last_user(store, deadline);
    if (users > 0) {
        hvi_fail(error, HV_BUSY, "the store is still in use");
        hvi_error_detail(error, "%d connections or operations are out.", users);
        hvi_error_hint(error,
                       "Return every connection and end every transaction, then close again.");
        return HV_BUSY;
    }
    free_store(store);
    return HV_OK;
}

/* See hvi_pool_disconnect(). */
static void disconnect(hv_store *store, bool anew) {
    hvi_visit visit;
    if (hvi_store_enter(&visit, store, NULL) != HV_OK)
        return;
    for (int i = 0; i < store->router.server_count; i++)
        hvi_pool_disconnect(&store->router.servers[i].pool, anew);
    hvi_queue_free_spare(store); /* its descriptors are no use while nothing is connected */
    hvi_store_leave(&visit, HV_OK);
}

void hv_disconnect(hv_store *store) {
    disconnect(store, false);
}

void hv_reinstantiate(hv_store *store) {
    disconnect(store, true);
}

hv_status hv_connect(const char *const *keywords, const char *const *values, int64_t timeout,
                     PGconn **conn, char *message, size_t message_size, char sqlstate[6]) {
    int64_t deadline = hvi_deadline_after(timeout);
    hvi_attempt attempt;
    sqlstate[0] = '\0';
    hvi_connect_start(&attempt, keywords, values, deadline);
    hvi_connect_await(&attempt, deadline);
    return hvi_connect_finish(&attempt, timeout, conn, message, message_size, sqlstate);
}

/* ---- lending ---- */

static hv_status lend(hv_store *store, hvi_server *server, PGconn **conn, hv_error **error) {
    hvi_session *session = NULL;
    PGconn *idle = hvi_pool_lend_idle(&server->pool, false);
    if (idle != NULL) {
        *conn = idle;
        return HV_OK;
    }
    hv_status status =
        hvi_pool_acquire(&server->pool, hvi_router_pool_deadline(&store->router), &session, error);
    if (status != HV_OK)
        return status;
    hvi_pool_lend(&server->pool, session);
    *conn = session->conn;
    return HV_OK;
}

hv_status hv_acquire(hv_store *store, int shard, PGconn **conn, hv_error **error) {
    hvi_server *server = NULL;
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = hvi_router_find(&store->router, shard, &server, error);
    if (status == HV_OK)
        status = lend(store, server, conn, error);
    if (status != HV_OK)
        hvi_error_where(error, NULL, shard);
    return hvi_store_leave(&visit, status);
}

hv_status hv_acquire_server(hv_store *store, int server, PGconn **conn, hv_error **error) {
    hvi_server *found = NULL;
    hvi_visit visit;
    hv_status status = hvi_store_enter_server(&visit, store, server, &found, error);
    if (status != HV_OK)
        return status;
    status = lend(store, found, conn, error);
    return hvi_store_leave(&visit, status);
}

hv_status hv_try_acquire(hv_store *store, int shard, PGconn **conn, hv_error **error) {
    hvi_server *server = NULL;
    PGconn *idle = NULL;
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    /* Which server has it may have to be asked. */
    bool is_known = hvi_router_holder(&store->router, shard) >= 0;
    if (!is_known && shard >= 0 && shard < HV_SHARDS && hvi_options_auto(store->router.options))
        return hvi_store_leave(&visit, HV_TIMEOUT);
    status = hvi_router_find(&store->router, shard, &server, error);
    if (status == HV_OK && (idle = hvi_pool_lend_idle(&server->pool, true)) == NULL)
        status = HV_TIMEOUT;
    if (status == HV_OK)
        *conn = idle;
    return hvi_store_leave(&visit, status);
}

static hv_status take_back(hv_store *store, const PGconn *conn, bool keep, hv_error **error) {
    /* Not hvi_store_enter(): a closed store takes its connections back. */
    atomic_fetch_add(&store->users, 1);
    bool is_ours = false;
    for (int i = 0; i < store->router.server_count && !is_ours; i++)
        is_ours = hvi_pool_take_back(&store->router.servers[i].pool, conn, keep);
    atomic_fetch_sub(&store->users, 1);
    if (is_ours)
        return HV_OK;
    hvi_fail(error, HV_INVALID, "this connection is not lent by this store");
    hvi_error_hint(error, "Return each connection once, to the store that lent it.");
    return HV_INVALID;
}

hv_status hv_release(hv_store *store, PGconn *conn, hv_error **error) {
    return take_back(store, conn, true, error);
}

hv_status hv_discard(hv_store *store, PGconn *conn, hv_error **error) {
    return take_back(store, conn, false, error);
}

void *hv_connection_handle(hv_store *store, PGconn *conn) {
    void *handle = NULL;
    for (int i = 0; i < store->router.server_count; i++)
        if (hvi_pool_handle(&store->router.servers[i].pool, conn, &handle))
            break;
    return handle;
}

/* ---- servers and shards ---- */

int64_t hv_epoch(const hv_store *store) {
    return store->epoch;
}

int hv_server_count(const hv_store *store) {
    return store->router.server_count;
}

const char *hv_server_name(const hv_store *store, int server) {
    if (server < 0 || server >= store->router.server_count)
        return NULL;
    return store->router.servers[server].name;
}

int hv_shard_server(const hv_store *store, int shard) {
    return hvi_router_holder(&store->router, shard);
}

int hv_next_shard(const hv_store *store, int server, int after) {
    return hvi_router_next(&store->router, server, after);
}

hv_status hv_locate_shards(hv_store *store, hv_error **error) {
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    int64_t deadline = hvi_router_pool_deadline(&store->router);
    status = hvi_locator_ask(&store->locator, deadline, error);
    return hvi_store_leave(&visit, status);
}

/* Without the option there is no set that would still be the same tomorrow. */
static hv_status fail_no_spread(const hv_store *store, hv_error **error) {
    hvi_buffer all = HVI_BUFFER_EMPTY, line = HVI_BUFFER_EMPTY;
    hvi_shard_writer writer = {.text = &all};
    for (int shard = -1; (shard = hv_next_shard(store, -1, shard)) >= 0;)
        hvi_shard_writer_add(&writer, shard);
    hvi_shard_writer_end(&writer);
    if (hvi_buffer_ok(&all))
        hvi_shard_ranges_setting(&line, "spread", all.data);
    hv_status status = HV_BAD_CONFIG;
    if (hvi_buffer_ok(&all) && hvi_buffer_ok(&line)) {
        hvi_fail(error, status, "the option \"spread\" is not set");
        hvi_error_detail(error,
                         "It names the shards that values are spread over. They must stay the "
                         "same when servers and shards are added, so they are not guessed.");
        hvi_error_hint(error, "For the present shards, write into [hypervault]: %s", line.data);
    } else {
        status = hvi_no_memory(error);
    }
    hvi_buffer_fini(&all);
    hvi_buffer_fini(&line);
    return status;
}

hv_status hv_shard_of(const hv_store *store, const char *value, size_t len, int *shard,
                      hv_error **error) {
    if (value == NULL && len != 0)
        return hvi_fail(error, HV_INVALID, "the value is a NULL pointer");
    if (store->spread.count == 0)
        return fail_no_spread(store, error);
    *shard = hvi_spread_shard(&store->spread, value, len == HV_STRLEN ? strlen(value) : len);
    return HV_OK;
}

int hv_next_spread(const hv_store *store, int after) {
    return hvi_spread_next(&store->spread, after);
}

int64_t hv_pool_stat(hv_store *store, int server, hv_stat stat) {
    if (server < 0 || server >= store->router.server_count)
        return -1;
    return hvi_pool_stat(&store->router.servers[server].pool, stat);
}

const char *hv_stat_name(hv_stat stat) {
    static const char *const names[HVI_SLOTS_STATS] = {
        [HV_STAT_OPEN] = "open",       [HV_STAT_IDLE] = "idle",         [HV_STAT_LENT] = "lent",
        [HV_STAT_WAITING] = "waiting", [HV_STAT_OPENED] = "opened",     [HV_STAT_CLOSED] = "closed",
        [HV_STAT_FAILED] = "failed",   [HV_STAT_LOANS] = "loans",       [HV_STAT_WAITS] = "waits",
        [HV_STAT_WAIT_US] = "wait_us", [HV_STAT_TIMEOUTS] = "timeouts",
    };
    return (int) stat >= 0 && stat < HVI_SLOTS_STATS ? names[stat] : NULL;
}

/* ---- making and seeing shards ---- */

hv_status hv_create_shards(hv_store *store, int server, hv_progress_fn progress, void *context,
                           int *created, hv_error **error) {
    return hv_create_shards_without(store, server, NULL, 0, progress, context, created, error);
}

/* The directory in the option `migrations` is read before anything is made. Its files run on the
 * new shards, and on those that an interrupted call has left without some. */
static hv_status create_shards(hv_store *store, hvi_server *server, hvi_without without,
                               hv_progress_fn progress, void *context, int *created,
                               hv_error **error) {
    const char *directory = hvi_options_migrations(store->router.options);
    hv_migrations *migrations = NULL;
    hv_status status = HV_OK;
    if (directory != NULL)
        status = hv_migrations_load(directory, &migrations, error);
    if (status == HV_OK)
        status =
            hvi_create_shards(&store->router, server, without, progress, context, created, error);
    if (status == HV_OK && migrations != NULL)
        status = hvi_migrate_new(&store->router, server->number, migrations, error);
    hv_migrations_free(migrations);
    return status;
}

hv_status hv_create_shards_without(hv_store *store, int server, const int *without,
                                   size_t without_count, hv_progress_fn progress, void *context,
                                   int *created, hv_error **error) {
    hvi_server *found = NULL;
    if (created != NULL)
        *created = 0;
    hvi_visit visit;
    hv_status status = hvi_store_enter_server(&visit, store, server, &found, error);
    if (status != HV_OK)
        return status;
    status = create_shards(store, found, (hvi_without){without, without_count}, progress, context,
                           created, error);
    return hvi_store_leave(&visit, status);
}

hv_status hv_inspect(hv_store *store, int server, hv_report **report, hv_error **error) {
    hvi_server *found = NULL;
    hvi_visit visit;
    hv_status status = hvi_store_enter_server(&visit, store, server, &found, error);
    if (status != HV_OK)
        return status;
    status = hvi_inspect(&store->router, found, report, error);
    return hvi_store_leave(&visit, status);
}
