/*
 * balancing: the public functions that plan how shards are distributed over servers.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/suggest.h"
#include "base/utf8.h"
#include "move/balance.h"
#include "move/shard_sizes.h"
#include "store/store.h"

/* How long the writing of WAL is watched. */
#define WATCH_MS 1000

/* How fast a shard is copied, indexed and compared, and how long its move takes besides. Measured
 * with bench/move on two cores; faster machines are faster. */
#define BYTES_A_SECOND (INT64_C(60) << 20)
#define SECONDS_A_MOVE 2

typedef enum measure { BY_SIZE, BY_ROWS, BY_WRITES, BY_COUNT } measure;
static const char *const measures[] = {"size", "rows", "writes", "count"};

/* What is said of one server. */
typedef struct wish {
    char *server; /* owned */
    double weight;
    bool has_weight;
    bool drained;
} wish;

struct hv_balance_options {
    measure by;
    size_t max_moves;
    wish *wishes; /* owned */
    size_t wish_count;
};

struct hv_balance {
    hv_balance_move *moves;     /* owned */
    hv_balance_server *servers; /* owned */
    size_t move_count, server_count;
};

/* ---- options ---- */

hv_balance_options *hv_balance_options_new(void) {
    hv_balance_options *options = calloc(1, sizeof *options);
    if (options != NULL)
        options->max_moves = HV_SHARDS;
    return options;
}

void hv_balance_options_free(hv_balance_options *options) {
    if (options == NULL)
        return;
    for (size_t i = 0; i < options->wish_count; i++)
        free(options->wishes[i].server);
    free(options->wishes);
    free(options);
}

static hv_status refuse(const char *name, const char *value, const char *allowed,
                        hv_error **error) {
    hvi_fail(error, HV_INVALID, "invalid value of the option \"%s\": \"%s\"", name,
             hvi_utf8_excerpt(value, strlen(value)).text);
    hvi_error_hint(error, "Allowed: %s.", allowed);
    return HV_INVALID;
}

/* The wish about a server, a new one if need be; NULL if memory is short. */
static wish *wish_of(hv_balance_options *options, const char *server, size_t len) {
    for (size_t i = 0; i < options->wish_count; i++)
        if (strlen(options->wishes[i].server) == len &&
            memcmp(options->wishes[i].server, server, len) == 0)
            return &options->wishes[i];
    wish *grown = realloc(options->wishes, (options->wish_count + 1) * sizeof *grown);
    if (grown == NULL)
        return NULL;
    options->wishes = grown;
    char *name = strndup(server, len);
    if (name == NULL)
        return NULL;
    wish *made = &options->wishes[options->wish_count++];
    *made = (wish){.server = name};
    return made;
}

static hv_status set_by(hv_balance_options *options, const char *value, hv_error **error) {
    for (size_t i = 0; i < sizeof measures / sizeof measures[0]; i++)
        if (strcmp(measures[i], value) == 0) {
            options->by = (measure) i;
            return HV_OK;
        }
    return refuse("by", value, "size, rows, writes or count", error);
}

static hv_status set_weight(hv_balance_options *options, const char *value, hv_error **error) {
    static const char allowed[] = "a server's name, an equals sign and a number from 0 to 1000000";
    const char *equals = strrchr(value, '=');
    char *end;
    if (equals == NULL || equals == value || equals[1] == '\0')
        return refuse("weight", value, allowed, error);
    double weight = strtod(equals + 1, &end);
    if (*end != '\0' || !isfinite(weight) || weight < 0 || weight > 1e6)
        return refuse("weight", value, allowed, error);
    wish *of = wish_of(options, value, (size_t) (equals - value));
    if (of == NULL)
        return hvi_no_memory(error);
    of->weight = weight;
    of->has_weight = true;
    return HV_OK;
}

static hv_status set_drain(hv_balance_options *options, const char *value, hv_error **error) {
    if (value[0] == '\0')
        return refuse("drain", value, "a server's name", error);
    wish *of = wish_of(options, value, strlen(value));
    if (of == NULL)
        return hvi_no_memory(error);
    of->drained = true;
    return HV_OK;
}

static hv_status set_max_moves(hv_balance_options *options, const char *value, hv_error **error) {
    char *end;
    if (value[0] < '0' || value[0] > '9')
        return refuse("max_moves", value, "0 to 8192", error);
    unsigned long number = strtoul(value, &end, 10);
    if (*end != '\0' || number > HV_SHARDS)
        return refuse("max_moves", value, "0 to 8192", error);
    options->max_moves = number;
    return HV_OK;
}

hv_status hv_balance_options_set(hv_balance_options *options, const char *name, const char *value,
                                 hv_error **error) {
    static const struct {
        const char *name;
        hv_status (*set)(hv_balance_options *options, const char *value, hv_error **error);
    } table[] = {
        {"by", set_by},
        {"weight", set_weight},
        {"drain", set_drain},
        {"max_moves", set_max_moves},
    };
    hvi_suggestion near;
    if (name == NULL || value == NULL)
        return hvi_fail(error, HV_INVALID, "an option of a plan has a name and a value");
    hvi_suggestion_init(&near, name);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(table[i].name, name) == 0)
            return table[i].set(options, value, error);
        hvi_suggestion_offer(&near, table[i].name);
    }
    hvi_fail(error, HV_INVALID, "a plan has no option \"%s\"",
             hvi_utf8_excerpt(name, strlen(name)).text);
    if (near.best != NULL)
        hvi_error_hint(error, "Perhaps \"%s\" is meant.", near.best);
    return HV_INVALID;
}

/* ---- asking ---- */

/* What is known of the servers while a plan is made. */
typedef struct planning {
    hvi_router *router;
    const hv_balance_options *options;
    int server_count;
    hvi_link *links;                /* owned, as all arrays here; by server */
    hvi_shard_size **sizes;         /* owned, as each */
    size_t *counts;                 /* of sizes */
    int64_t *wal, *wal_since;       /* the log's position, and when it was read, hvi_clock_us() */
    hvi_balance_target *targets;    /* by server */
    hvi_balance_shard *shards;      /* of all servers */
    const hvi_shard_size **size_of; /* of each shard in `shards` */
    size_t shard_count;
    size_t *order; /* of the moves */
} planning;

static void planning_fini(planning *p) {
    for (int i = 0; i < p->server_count; i++) {
        if (p->links != NULL)
            hvi_link_close(&p->links[i]);
        if (p->sizes != NULL)
            free(p->sizes[i]);
    }
    free(p->links);
    free(p->sizes);
    free(p->counts);
    free(p->wal);
    free(p->wal_since);
    free(p->targets);
    free(p->shards);
    free(p->size_of);
    free(p->order);
}

static hv_status planning_init(planning *p, hvi_router *router, const hv_balance_options *options,
                               hv_error **error) {
    size_t servers = (size_t) router->server_count;
    *p = (planning){.router = router, .options = options, .server_count = router->server_count};
    p->links = calloc(servers, sizeof *p->links);
    p->sizes = calloc(servers, sizeof *p->sizes);
    p->counts = calloc(servers, sizeof *p->counts);
    p->wal = calloc(servers, sizeof *p->wal);
    p->wal_since = calloc(servers, sizeof *p->wal_since);
    p->targets = calloc(servers, sizeof *p->targets);
    bool ok = p->links != NULL && p->sizes != NULL && p->counts != NULL && p->wal != NULL &&
              p->wal_since != NULL && p->targets != NULL;
    return ok ? HV_OK : hvi_no_memory(error);
}

static hv_status fail_no_server(const hvi_router *router, const char *name, hv_error **error) {
    hvi_suggestion near;
    hvi_suggestion_init(&near, name);
    for (int i = 0; i < router->server_count; i++)
        hvi_suggestion_offer(&near, router->servers[i].name);
    hvi_fail(error, HV_INVALID, "the configuration has no server \"%s\"",
             hvi_utf8_excerpt(name, strlen(name)).text);
    if (near.best != NULL)
        hvi_error_hint(error, "Perhaps \"%s\" is meant.", near.best);
    return HV_INVALID;
}

/* What is wished of the servers. */
static hv_status set_targets(planning *p, hv_error **error) {
    bool has_taker = false;
    for (int i = 0; i < p->server_count; i++)
        p->targets[i].weight = 1;
    for (size_t i = 0; p->options != NULL && i < p->options->wish_count; i++) {
        const wish *of = &p->options->wishes[i];
        int number = hvi_options_server(p->router->options, of->server);
        if (number < 0)
            return fail_no_server(p->router, of->server, error);
        if (of->has_weight)
            p->targets[number].weight = of->weight;
        p->targets[number].drained = of->drained;
    }
    for (int i = 0; i < p->server_count; i++)
        has_taker = has_taker || (p->targets[i].weight > 0 && !p->targets[i].drained);
    if (has_taker)
        return HV_OK;
    hvi_fail(error, HV_INVALID, "no server is left to have shards");
    hvi_error_detail(error, "Each is to be drained, or has the weight 0.");
    return HV_INVALID;
}

/* What the servers hold, and how far their logs are. */
static hv_status ask(planning *p, hv_error **error) {
    hv_status status = HV_OK;
    for (int i = 0; status == HV_OK && i < p->server_count; i++) {
        hvi_link *link = &p->links[i];
        status =
            hvi_link_open(link, &p->router->servers[i], hvi_router_pool_deadline(p->router), error);
        p->wal_since[i] = hvi_clock_us();
        if (status == HV_OK)
            status = hvi_shard_sizes_wal(link, hvi_link_deadline(), &p->wal[i], error);
        if (status == HV_OK)
            status =
                hvi_shard_sizes_read(link, hvi_link_deadline(), &p->sizes[i], &p->counts[i], error);
        p->shard_count += status == HV_OK ? p->counts[i] : 0;
    }
    return status;
}

/* Bytes of WAL a second, of each server, into `wal`. */
static hv_status watch_wal(planning *p, hv_error **error) {
    hv_status status = HV_OK;
    int64_t until = p->wal_since[0] + INT64_C(1000) * WATCH_MS, now = hvi_clock_us();
    if (until > now && !hvi_pause((int) ((until - now) / 1000) + 1))
        return hvi_fail(error, HV_TIMEOUT, "interrupted");
    for (int i = 0; status == HV_OK && i < p->server_count; i++) {
        int64_t position = 0;
        status = hvi_shard_sizes_wal(&p->links[i], hvi_link_deadline(), &position, error);
        double seconds = (double) (hvi_clock_us() - p->wal_since[i]) / 1e6;
        int64_t written = position - p->wal[i];
        p->wal[i] = written > 0 && seconds > 0 ? (int64_t) ((double) written / seconds) : 0;
    }
    return status;
}

/* ---- planning ---- */

static int64_t load_of(const hvi_shard_size *size, measure by) {
    switch (by) {
    case BY_SIZE:
        return size->bytes;
    case BY_ROWS:
        return size->rows;
    case BY_WRITES:
        return size->writes;
    default:
        return 1;
    }
}

static hv_status list_shards(planning *p, hv_error **error) {
    measure by = p->options != NULL ? p->options->by : BY_SIZE;
    size_t at = 0;
    p->shards = calloc(p->shard_count + 1, sizeof *p->shards);
    p->size_of = calloc(p->shard_count + 1, sizeof *p->size_of);
    p->order = calloc(p->shard_count + 1, sizeof *p->order);
    if (p->shards == NULL || p->size_of == NULL || p->order == NULL)
        return hvi_no_memory(error);
    for (int i = 0; i < p->server_count; i++)
        for (size_t j = 0; j < p->counts[i]; j++) {
            const hvi_shard_size *size = &p->sizes[i][j];
            p->size_of[at] = size;
            p->shards[at++] =
                (hvi_balance_shard){.shard = size->shard, .server = i, .load = load_of(size, by)};
        }
    return HV_OK;
}

/* The servers as they stand, before or after the plan. */
static void note_servers(const planning *p, hv_balance *balance, bool after) {
    for (size_t i = 0; i < p->shard_count; i++) {
        hv_balance_server *server = &balance->servers[p->shards[i].server];
        *(after ? &server->shards_after : &server->shards_before) += 1;
        *(after ? &server->bytes_after : &server->bytes_before) += p->size_of[i]->bytes;
        *(after ? &server->load_after : &server->load_before) += p->shards[i].load;
    }
}

static hv_balance_move make_move(const planning *p, size_t shard, int source) {
    const hvi_shard_size *size = p->size_of[shard];
    int64_t seconds = SECONDS_A_MOVE + size->bytes / BYTES_A_SECOND;
    return (hv_balance_move){
        .shard = size->shard,
        .source = source,
        .target = p->shards[shard].server,
        .bytes = size->bytes,
        .rows = size->rows,
        .seconds = seconds,
        .wal_bytes = seconds * p->wal[source],
    };
}

static hv_status make_plan(planning *p, hv_balance *balance, hv_error **error) {
    size_t most = p->options != NULL ? p->options->max_moves : HV_SHARDS;
    int *sources = malloc((p->shard_count + 1) * sizeof *sources);
    balance->servers = calloc((size_t) p->server_count, sizeof *balance->servers);
    if (sources == NULL || balance->servers == NULL) {
        free(sources);
        return hvi_no_memory(error);
    }
    balance->server_count = (size_t) p->server_count;
    for (int i = 0; i < p->server_count; i++)
        balance->servers[i] = (hv_balance_server){
            .server = i, .is_drained = p->targets[i].drained, .weight = p->targets[i].weight};
    for (size_t i = 0; i < p->shard_count; i++)
        sources[i] = p->shards[i].server;
    note_servers(p, balance, false);
    size_t count = hvi_balance(p->shards, p->shard_count, p->targets, p->server_count,
                               most < p->shard_count ? most : p->shard_count, p->order);
    note_servers(p, balance, true);
    balance->moves = calloc(count + 1, sizeof *balance->moves);
    if (balance->moves != NULL) {
        balance->move_count = count;
        for (size_t i = 0; i < count; i++)
            balance->moves[i] = make_move(p, p->order[i], sources[p->order[i]]);
    }
    free(sources);
    return balance->moves != NULL ? HV_OK : hvi_no_memory(error);
}

hv_status hv_balance_plan(hv_store *store, const hv_balance_options *options, hv_balance **balance,
                          hv_error **error) {
    hvi_visit visit;
    planning p = {0};
    hv_balance *made = NULL;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    status = planning_init(&p, &store->router, options, error);
    if (status == HV_OK)
        status = set_targets(&p, error);
    if (status == HV_OK)
        status = ask(&p, error);
    if (status == HV_OK)
        status = watch_wal(&p, error);
    if (status == HV_OK)
        status = list_shards(&p, error);
    if (status == HV_OK && (made = calloc(1, sizeof *made)) == NULL)
        status = hvi_no_memory(error);
    if (status == HV_OK)
        status = make_plan(&p, made, error);
    planning_fini(&p);
    if (status == HV_OK)
        *balance = made;
    else
        hv_balance_free(made);
    return hvi_store_leave(&visit, status);
}

void hv_balance_free(hv_balance *balance) {
    if (balance == NULL)
        return;
    free(balance->moves);
    free(balance->servers);
    free(balance);
}

size_t hv_balance_count(const hv_balance *balance) {
    return balance->move_count;
}

const hv_balance_move *hv_balance_at(const hv_balance *balance, size_t index) {
    return index < balance->move_count ? &balance->moves[index] : NULL;
}

const hv_balance_server *hv_balance_server_at(const hv_balance *balance, size_t index) {
    return index < balance->server_count ? &balance->servers[index] : NULL;
}
