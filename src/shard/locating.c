/*
 * locating: ask the servers which shards they hold, and let the router know.
 *
 * The states of a server, and the functions that change them:
 *
 *     BORROWING ──► LOOKING ──► READING ──► ANSWERED
 *         │  ▲         │           │
 *         │  └─────────┼───────────┘ again(): an idle connection was dead
 *         └────────────┴──────────► FAILED
 *
 * LOOKING asks for the identity of the database and whether it has a table of locations, READING
 * for the shards. The latter is one statement, so that schemas and rows are of the same moment.
 */
#include "shard/locating.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "pool/lease.h"
#include "wire/result.h"
#include "shard/layout.h"
#include "shard/location.h"

#define MAX_EVENTS 16

/* What a server says about a shard. */
typedef struct claim {
    int shard;
    hvi_location_state state;
    int64_t generation;
    int other; /* the number of the server that it has gone to, or -1 */
} claim;

typedef struct asked {
    hvi_lease lease;
    enum { BORROWING, LOOKING, READING, ANSWERED, FAILED } state;
    hvi_script script; /* while LOOKING and READING */
    bool has_retried;
    hv_error *error; /* owned, in the state FAILED */
    char *identity;  /* owned, as the next */
    claim *claims;
    size_t claim_count;
} asked;

struct hvi_locating {
    hvi_router *router;
    int64_t deadline;
    int epoll;
    int event;
    bool is_over;
    int server_count;
    asked *servers; /* by number; owned */
    int lost;       /* a shard that has gone to a server that is not known, or -1 */
};

/* ---- the statements ---- */

static const char look_sql[] =
    "SELECT pg_catalog.encode(pg_catalog.timestamptz_send("
    "   pg_catalog.pg_postmaster_start_time()), 'hex'::pg_catalog.text)"
    " OPERATOR(pg_catalog.||) '/'::pg_catalog.text OPERATOR(pg_catalog.||)"
    " d.oid::pg_catalog.text,"
    " EXISTS (SELECT FROM pg_catalog.pg_class c, pg_catalog.pg_namespace n"
    "  WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid"
    "  AND n.nspname OPERATOR(pg_catalog.=) 'hypervault'"
    "  AND c.relname OPERATOR(pg_catalog.=) 'shard_locations'"
    "  AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))"
    " FROM pg_catalog.pg_database d"
    " WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()";

static const hvi_form look_form = {
    .asked = "the database's identity",
    .rows = HVI_ONE_ROW,
    .columns = {HVI_IS_BYTES, HVI_IS_BOOL},
};

/* The shards whose schema is there. */
#define SCHEMAS                                                                  \
    "SELECT pg_catalog.substr(n.nspname::pg_catalog.text, 6)::integer AS shard"  \
    " FROM pg_catalog.pg_namespace n, pg_catalog.pg_class t"                     \
    " WHERE n.nspname OPERATOR(pg_catalog.~) '^shard[0-9]{4}$'::pg_catalog.text" \
    " AND t.relnamespace OPERATOR(pg_catalog.=) n.oid"                           \
    " AND t.relname OPERATOR(pg_catalog.=) 'entities'"                           \
    " AND t.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p']::pg_catalog.\"char\"[])"

static const char schemas_sql[] = "SELECT s.shard, 'here'::pg_catalog.text, 0::bigint,"
                                  " ''::pg_catalog.text FROM (" SCHEMAS ") s";

/* A row says that a shard is here also when its schema was dropped since then, and then it is not.
 * A schema without a row, or with one that says so, is. */
static const char rows_sql[] =
    "SELECT s.shard, 'here'::pg_catalog.text, COALESCE(l.generation, 0::bigint),"
    " ''::pg_catalog.text FROM (" SCHEMAS ") s"
    " LEFT JOIN ONLY hypervault.shard_locations l ON l.shard OPERATOR(pg_catalog.=) s.shard"
    " WHERE COALESCE(l.state, 'here'::pg_catalog.text) OPERATOR(pg_catalog.=)"
    "  'here'::pg_catalog.text"
    " UNION ALL"
    " SELECT l.shard, l.state, l.generation, l.server FROM ONLY hypervault.shard_locations l"
    " WHERE l.state OPERATOR(pg_catalog.<>) 'here'::pg_catalog.text";

static const hvi_form claims_form = {
    .asked = "the shards that it holds",
    .rows = HVI_ANY_ROWS,
    .columns = {HVI_IS_INT4, HVI_IS_BYTES, HVI_IS_COUNT, HVI_IS_BYTES},
};

/* ---- one server ---- */

static int number_of(const hvi_locating *locating, const asked *server) {
    return (int) (server - locating->servers);
}

static const char *name_of(const hvi_locating *locating, const asked *server) {
    return locating->router->servers[number_of(locating, server)].name;
}

/* It is settled. Takes *cause; NULL: it has answered. */
static void settle(asked *server, hv_error **cause) {
    hvi_lease_end(&server->lease);
    server->state = ANSWERED;
    if (cause != NULL) {
        server->state = FAILED;
        server->error = *cause;
        *cause = NULL;
    }
}

static void go_on(hvi_locating *locating, asked *server);

static void send(hvi_locating *locating, asked *server, const char *sql, int state) {
    server->state = state;
    hvi_script_start(&server->script, server->lease.session, sql, -1, false);
    go_on(locating, server);
}

/* See what has become of the attempt to borrow a connection. */
static void note_lease(hvi_locating *locating, asked *server, hv_status status, hv_error **cause) {
    if (status != HV_OK) {
        settle(server, cause);
    } else if (server->lease.state == HVI_LEASE_LENT) {
        send(locating, server, look_sql, LOOKING);
    } else if (server->lease.state == HVI_LEASE_NONE) { /* there was no time left */
        hvi_fail_waiting(name_of(locating, server), "connection", cause);
        settle(server, cause);
    }
}

static void borrow(hvi_locating *locating, asked *server) {
    hv_error *cause = NULL;
    int64_t ms = hvi_deadline_poll_ms(locating->deadline);
    server->state = BORROWING;
    hv_status status = hvi_lease_start(&server->lease, ms, ms, &cause);
    note_lease(locating, server, status, &cause);
    hv_error_free(cause);
}

/* Keep what a server says. False if memory is short. */
static bool take_claims(hvi_locating *locating, asked *server, const PGresult *result) {
    const hv_options *options = locating->router->options;
    int count = PQntuples(result);
    server->claims = calloc((size_t) count + 1, sizeof *server->claims);
    if (server->claims == NULL)
        return false;
    for (int i = 0; i < count; i++) {
        const char *other = hvi_text_at(result, i, 3);
        claim read = {
            .shard = (int) hvi_integer_at(result, i, 0),
            .state = hvi_location_state_of(hvi_text_at(result, i, 1)),
            .generation = hvi_integer_at(result, i, 2),
            .other = hvi_layout_is_numbered(other) ? -1 : hvi_options_server(options, other),
        };
        if (read.shard >= 0 && read.shard < HV_SHARDS)
            server->claims[server->claim_count++] = read;
    }
    return true;
}

static hv_status take_answer(hvi_locating *locating, asked *server, const PGresult *result,
                             hv_error **error) {
    const char *name = name_of(locating, server);
    bool looks = server->state == LOOKING;
    hv_status status = hvi_result_check(result, looks ? &look_form : &claims_form, name, -1, error);
    if (status != HV_OK)
        return status;
    if (!looks)
        return take_claims(locating, server, result) ? HV_OK : hvi_no_memory(error);
    free(server->identity);
    server->identity = strdup(hvi_text_at(result, 0, 0));
    return server->identity != NULL ? HV_OK : hvi_no_memory(error);
}

/* A statement is answered, or given up as late. */
static void finish(hvi_locating *locating, asked *server) {
    PGresult *result = NULL;
    hv_error *cause = NULL;
    bool looks = server->state == LOOKING;
    hv_status status = hvi_script_finish(&server->script, &result, &cause);
    if (status == HV_OK)
        status = take_answer(locating, server, result, &cause);
    if (status == HV_OK && looks) {
        send(locating, server, hvi_bool_at(result, 0, 1) ? rows_sql : schemas_sql, READING);
    } else if (status == HV_UNAVAILABLE && !server->has_retried) {
        server->has_retried = true; /* it was idle, and the server has closed it */
        hvi_lease_end(&server->lease);
        borrow(locating, server);
    } else {
        settle(server, status == HV_OK ? NULL : &cause);
    }
    PQclear(result);
    hv_error_free(cause);
}

static bool is_running(const asked *server) {
    return server->state == LOOKING || server->state == READING;
}

/* Its socket is ready, its pool has news, or its moment has come. */
static void go_on(hvi_locating *locating, asked *server) {
    hv_error *cause = NULL;
    if (server->state == BORROWING) {
        hv_status status = hvi_lease_advance(&server->lease, &cause);
        note_lease(locating, server, status, &cause);
    } else if (is_running(server)) {
        hvi_wants wants = hvi_script_advance(&server->script);
        if (wants == HVI_WANTS_NOTHING)
            finish(locating, server);
        else
            hvi_lease_watch(&server->lease, wants);
    }
    hv_error_free(cause);
}

/* ---- what the answers mean ---- */

/* The best claim of a shard. */
typedef struct finding {
    int64_t generation; /* -1: none */
    int server;
    int rival;       /* -1: none */
    int source;      /* a server that it has gone from, to one that is not known; -1: none */
    bool by_schema;  /* the schema is there, it is not only said to be */
    bool is_holders; /* the present holder is one of those that claim it */
} finding;

static bool is_same_database(const hvi_locating *locating, int one, int other) {
    const char *its = locating->servers[one].identity;
    const char *others = locating->servers[other].identity;
    return its != NULL && others != NULL && strcmp(its, others) == 0;
}

static bool has_earlier_name(const hvi_locating *locating, int number) {
    for (int i = 0; i < number; i++)
        if (is_same_database(locating, i, number))
            return true;
    return false;
}

/* The schema is there. */
static void take_here(finding *found, const claim *said, int server, int holder) {
    if (said->generation < found->generation)
        return;
    if (said->generation > found->generation) {
        *found = (finding){.generation = said->generation,
                           .server = server,
                           .rival = -1,
                           .source = -1,
                           .by_schema = true,
                           .is_holders = server == holder};
    } else if (server == holder) {
        found->rival = found->server;
        found->server = server;
        found->is_holders = true;
    } else if (found->rival < 0) {
        found->rival = server;
    }
}

/* The server that has it arriving with this generation, or -1. */
static int arriving_at(const hvi_locating *locating, int shard, int64_t generation) {
    for (int i = 0; i < locating->server_count; i++) {
        const asked *server = &locating->servers[i];
        for (size_t j = 0; server->state == ANSWERED && j < server->claim_count; j++)
            if (server->claims[j].shard == shard && server->claims[j].generation == generation &&
                server->claims[j].state == HVI_LOCATION_ARRIVING)
                return i;
    }
    return -1;
}

/* It has gone: to a server that may be down, or that has not published it yet. */
static void take_gone(const hvi_locating *locating, finding *found, const claim *said, int server) {
    if (said->generation <= found->generation)
        return;
    int to = said->other >= 0 ? said->other : arriving_at(locating, said->shard, said->generation);
    *found = (finding){
        .generation = said->generation, .server = to, .rival = -1, .source = to < 0 ? server : -1};
}

static void find(const hvi_locating *locating, finding *findings) {
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < locating->server_count; i++) {
            const asked *server = &locating->servers[i];
            if (server->state != ANSWERED || has_earlier_name(locating, i))
                continue;
            for (size_t j = 0; j < server->claim_count; j++) {
                const claim *said = &server->claims[j];
                int holder = hvi_router_holder(locating->router, said->shard);
                if (pass == 0 && said->state == HVI_LOCATION_HERE)
                    take_here(&findings[said->shard], said, i, holder);
                else if (pass == 1 && said->state == HVI_LOCATION_GONE)
                    take_gone(locating, &findings[said->shard], said, i);
            }
        }
    }
}

/* Is the dispute over, as far as can be seen? Not if its other server could not be asked. */
static bool is_settled(const hvi_locating *locating, int shard) {
    int rival = hvi_router_rival(locating->router, shard);
    int holder = hvi_router_holder(locating->router, shard);
    return rival >= 0 && locating->servers[rival].state == ANSWERED &&
           (holder < 0 || locating->servers[holder].state == ANSWERED);
}

/* Another server with the same generation may not take the place of one that cannot answer. */
static bool may_answer_later(const hvi_locating *locating, int shard, const finding *found) {
    const hvi_router *router = locating->router;
    int holder = hvi_router_holder(router, shard);
    return holder >= 0 && holder != found->server && locating->servers[holder].state != ANSWERED &&
           found->generation <= hvi_router_generation(router, shard);
}

static void learn(hvi_locating *locating, int shard, const finding *found) {
    if (found->server >= 0) {
        hvi_router_learn(locating->router, shard, found->server, found->generation);
    } else if (found->source >= 0) { /* which answers each use with the other server's name */
        hvi_router_learn(locating->router, shard, found->source, 0);
        if (locating->lost < 0)
            locating->lost = shard;
    }
}

/* A shard that the configuration gives to no server, where none has `shards = auto`: it is another
 * store's. */
static bool is_strange(const hvi_router *router, int shard) {
    return hvi_shard_map_server(&router->options->map, shard) < 0 &&
           !hvi_options_auto(router->options);
}

static void apply_one(hvi_locating *locating, int shard, const finding *found) {
    hvi_router *router = locating->router;
    int given = hvi_shard_map_server(&router->options->map, shard);
    bool is_disputed = found->rival >= 0;
    if (is_strange(router, shard) || may_answer_later(locating, shard, found))
        return;
    if (found->generation == 0 && given >= 0 && !found->is_holders)
        is_disputed = false; /* the configuration overrules them */
    else
        learn(locating, shard, found);
    if (is_disputed && hvi_router_generation(router, shard) == found->generation)
        hvi_router_dispute(router, shard, found->rival);
    else if (!is_disputed && is_settled(locating, shard))
        hvi_router_dispute(router, shard, -1);
}

static void apply(hvi_locating *locating) {
    finding *findings = malloc(HV_SHARDS * sizeof *findings);
    if (findings == NULL)
        return; /* as if nobody had answered: it will be asked again */
    for (int shard = 0; shard < HV_SHARDS; shard++)
        findings[shard] = (finding){.generation = -1, .server = -1, .rival = -1, .source = -1};
    find(locating, findings);
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (findings[shard].generation >= 0 || hvi_router_rival(locating->router, shard) >= 0)
            apply_one(locating, shard, &findings[shard]);
    free(findings);
}

/* ---- all servers ---- */

hv_status hvi_locating_new(hvi_router *router, int64_t deadline, hvi_locating **locating,
                           hv_error **error) {
    hvi_locating *made = calloc(1, sizeof *made);
    asked *servers = calloc((size_t) router->server_count, sizeof *servers);
    if (made == NULL || servers == NULL) {
        free(made);
        free(servers);
        return hvi_no_memory(error);
    }
    *made = (hvi_locating){.router = router,
                           .deadline = deadline,
                           .server_count = router->server_count,
                           .servers = servers,
                           .lost = -1};
    made->epoll = epoll_create1(EPOLL_CLOEXEC);
    made->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event news = {.events = EPOLLIN};
    for (int i = 0; i < router->server_count; i++)
        hvi_lease_init(&servers[i].lease, &router->servers[i].pool, made->epoll, made->event,
                       &servers[i]);
    if (made->epoll < 0 || made->event < 0 ||
        epoll_ctl(made->epoll, EPOLL_CTL_ADD, made->event, &news) != 0) {
        hvi_locating_free(made);
        return hvi_fail(error, HV_NO_MEMORY, "no file descriptors to ask the servers with");
    }
    for (int i = 0; i < router->server_count; i++)
        borrow(made, &servers[i]);
    *locating = made;
    return HV_OK;
}

int hvi_locating_fd(const hvi_locating *locating) {
    return locating->epoll;
}

int64_t hvi_locating_next(const hvi_locating *locating) {
    int64_t moment = locating->is_over ? 0 : locating->deadline;
    for (int i = 0; i < locating->server_count; i++) {
        int64_t next = hvi_lease_next(&locating->servers[i].lease);
        if (next < moment)
            moment = next;
    }
    return moment;
}

static void step(hvi_locating *locating, void *what) {
    if (what != NULL) {
        go_on(locating, what);
        return;
    }
    eventfd_t count;
    eventfd_read(locating->event, &count);
    for (int i = 0; i < locating->server_count; i++)
        if (locating->servers[i].lease.state == HVI_LEASE_QUEUED)
            go_on(locating, &locating->servers[i]);
}

/* Time is over. */
static void give_up(hvi_locating *locating, asked *server) {
    hv_error *cause = NULL;
    if (is_running(server)) {
        server->has_retried = true;
        finish(locating, server);
    }
    if (server->state == BORROWING && !hvi_interrupted())
        go_on(locating, server); /* the lease is late too, and says with what */
    if (server->state == BORROWING) {
        hvi_fail_waiting(name_of(locating, server), "connection", &cause);
        settle(server, &cause);
    }
    hv_error_free(cause);
}

/* Those whose moment has come. */
static void keep_time(hvi_locating *locating) {
    int64_t now = hvi_clock_us();
    for (int i = 0; i < locating->server_count; i++) {
        asked *server = &locating->servers[i];
        if (server->state >= ANSWERED)
            continue;
        if (hvi_is_late(locating->deadline))
            give_up(locating, server);
        else if (hvi_lease_next(&server->lease) <= now || server->lease.is_polled)
            go_on(locating, server);
    }
}

bool hvi_locating_advance(hvi_locating *locating) {
    struct epoll_event events[MAX_EVENTS];
    int count = locating->is_over ? 0 : epoll_wait(locating->epoll, events, MAX_EVENTS, 0);
    for (int i = 0; i < count; i++)
        step(locating, events[i].data.ptr);
    keep_time(locating);
    bool is_over = true;
    for (int i = 0; i < locating->server_count; i++)
        is_over = is_over && locating->servers[i].state >= ANSWERED;
    if (is_over && !locating->is_over)
        apply(locating);
    locating->is_over = is_over;
    return is_over;
}

void hvi_locating_await(hvi_locating *locating) {
    while (!hvi_locating_advance(locating)) {
        struct epoll_event event;
        int64_t until = hvi_interrupt_before(hvi_locating_next(locating));
        if (epoll_wait(locating->epoll, &event, 1, hvi_deadline_poll_ms(until)) < 0)
            hvi_interrupt_signalled();
    }
}

const hv_error *hvi_locating_failure(const hvi_locating *locating, int server) {
    return locating->servers[server].error;
}

int hvi_locating_lost(const hvi_locating *locating) {
    return locating->lost;
}

static void free_all(hvi_locating *locating) {
    for (int i = 0; i < locating->server_count; i++) {
        hv_error_free(locating->servers[i].error);
        free(locating->servers[i].identity);
        free(locating->servers[i].claims);
    }
    if (locating->epoll >= 0)
        close(locating->epoll);
    if (locating->event >= 0)
        close(locating->event);
    free(locating->servers);
    free(locating);
}

void hvi_locating_free(hvi_locating *locating) {
    if (locating == NULL)
        return;
    for (int i = 0; i < locating->server_count; i++) {
        asked *server = &locating->servers[i];
        hv_error *cause = NULL;
        if (is_running(server)) /* as late: the session is broken, and is closed */
            hvi_script_finish(&server->script, NULL, &cause);
        hv_error_free(cause);
        hvi_lease_end(&server->lease);
    }
    free_all(locating);
}

void hvi_locating_forget(hvi_locating *locating) {
    if (locating == NULL)
        return;
    for (int i = 0; i < locating->server_count; i++)
        hvi_lease_forget(&locating->servers[i].lease);
    free_all(locating);
}
