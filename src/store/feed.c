/*
 * feed: everything that is put, in the order of keys: the function hv_feed() of hypervault.h. A
 * reader whose reach grows, up to where nothing can be put any more.
 *
 * The feed polls each server for how far what was put there can be seen (entity/bound). The reach
 * is the last key below the smallest of these ceilings. The answer to a poll is always there before
 * the reach is raised, and the pages up to it are asked for later, so they show everything.
 *
 *     poll is due ──► asked ──► answered ──► ceiling ──► reach, once all servers have one
 *        ▲              │          │
 *        │              ▼          │ after a pause
 *        └─────────── failed ◄─────┘
 *
 * Without `follow` the reach ends at the target: just above the time that the servers' clocks
 * showed when they were first asked.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "value/key.h"
#include "value/selection.h"
#include "value/shard_map.h"
#include "wire/parameters.h"
#include "entity/bound.h"
#include "entity/locate.h"
#include "entity/question.h"
#include "store/reader.h"

#define DELAY_MS 1000

/*
 * The pause between a poll's answer and the next poll. Each one lets the feed read a little
 * further, which costs a statement for each portion; the longer the delay, the less a shorter pause
 * would gain.
 */
#define PAUSE_MS        50
#define PAUSE_PER_DELAY 10 /* and a tenth of the delay, up to … */
#define PAUSE_MAX_MS    1000

/* The pause after a failure, as long as a pool waits between attempts to connect. */
#define RETRY_US INT64_C(200000)

/* What holds the feed for less than this is not worth a message. */
#define LONG_MS INT64_C(1000)

/* A server of the feed. */
typedef struct feed_server {
    hvi_server *server;
    hvi_bound bound;
    hvi_buffer sql;   /* the poll's statement; owned, as all here */
    const char *name; /* to keep it prepared under; NULL: not */
    int64_t ask_at;   /* when the next poll is due */
    bool is_lost;     /* a partial feed goes on without it */
    int shard_count;  /* of those that it is asked about; 0: it is not asked */
    bool is_changed;  /* they are others than those in the statement */

    /* The poll that was asked for. */
    bool is_asked;
    bool takes_last;  /* a connection that the caller may want */
    bool is_obsolete; /* its shards are others now: the answer does not count */
    int64_t asked_at;
    hvi_holder asked_about; /* a prepared one; its id 0: none */
    bool has_come;          /* it is done, which is not yet handled, with this result: */
    hv_status status;
    PGresult *answer;
    hv_error *error;

    hv_error *failure;      /* of the last poll; NULL: none */
    hv_error *page_failure; /* of a page, while the position was still at … */
    int64_t failed_at;      /* … this rank */

    /* A shard was missing, and it is asked where that is now, in place of the next poll. */
    bool is_locating;
    int missing;
    int found; /* the number of the server that has it */

    /* What is known of the prepared holder that was asked about. */
    hvi_holder known;
    int64_t prepared_at; /* hvi_clock_us() */
    char *gid;
} feed_server;

typedef struct feed_state {
    bool follow;
    int64_t delay;
    int64_t pause;        /* µs */
    int64_t target;       /* a time; HVI_BOUND_UNKNOWN: not known yet, or never needed */
    int64_t first;        /* the first key that is wanted */
    bool is_known;        /* there has been a ceiling */
    bool has_news;        /* a poll is done */
    int64_t wake;         /* when it has something to do by itself */
    hv_error *error;      /* of a page, to be returned; owned */
    feed_server *servers; /* owned */
    size_t server_count;
    hv_error *holder; /* the last one that was returned; owned */
    int16_t *places;  /* of each shard: the number of the server that is asked about it, or … */
    bool *nowhere;    /* -1: not wanted; and is it known not to exist? Both owned */
} feed_state;

static void free_server(feed_server *server) {
    hvi_bound_fini(&server->bound);
    hvi_buffer_fini(&server->sql);
    PQclear(server->answer);
    hv_error_free(server->error);
    hv_error_free(server->failure);
    hv_error_free(server->page_failure);
    free(server->gid);
}

static void free_feed(feed_state *feed) {
    if (feed == NULL)
        return;
    for (size_t i = 0; i < feed->server_count; i++)
        free_server(&feed->servers[i]);
    free(feed->servers);
    free(feed->places);
    free(feed->nowhere);
    hv_error_free(feed->holder);
    hv_error_free(feed->error);
    free(feed);
}

/* Replace an error that is owned. Takes *cause. */
static void replace(hv_error **error, hv_error **cause) {
    hv_error_free(*error);
    *error = *cause;
    *cause = NULL;
}

static feed_server *find_server(const hv_reader *reader, const hvi_server *server) {
    const feed_state *feed = reader->feed;
    for (size_t i = 0; i < feed->server_count; i++)
        if (feed->servers[i].server == server)
            return &feed->servers[i];
    return NULL;
}

/* ---- the statement ---- */

/* It asks about the shards that are on the server, as far as the feed knows. */
static hv_status write_statement(const hv_reader *reader, feed_server *server, hv_error **error) {
    const feed_state *feed = reader->feed;
    hvi_buffer schemas = HVI_BUFFER_EMPTY;
    for (int shard = 0; shard < HV_SHARDS; shard++) {
        char schema[HVI_SCHEMA_NAME_LEN];
        if (feed->places[shard] != server->server->number)
            continue;
        hvi_schema_name(shard, schema);
        hvi_buffer_append_text(&schemas, schemas.len > 0 ? "," : "");
        hvi_buffer_append_text(&schemas, schema);
    }
    hvi_buffer_reset(&server->sql);
    if (hvi_buffer_ok(&schemas))
        hvi_bound_sql(&server->sql, schemas.data);
    bool is_ok = hvi_buffer_ok(&schemas) && hvi_buffer_ok(&server->sql);
    hvi_buffer_fini(&schemas);
    if (!is_ok)
        return hvi_no_memory(error);
    server->name =
        hvi_statement_texts_name(&reader->store->texts, "bound", server->sql.data, server->sql.len);
    server->is_changed = false;
    return HV_OK;
}

/* ---- polls ---- */

typedef struct feed_poll {
    hvi_ask ask;
    const feed_server *of;
    hvi_parameters parameters;
} feed_poll;

static bool query_poll(hvi_ask *ask, const hvi_session *session, hvi_query *query) {
    feed_poll *asked = (feed_poll *) ask; /* its first member */
    const feed_server *server = asked->of;
    const hvi_holder *about = &server->asked_about;
    char id[HVI_HOLDER_ID_LEN] = "";
    if (about->id != 0)
        hvi_holder_id(about, id);
    hvi_parameters_reset(&asked->parameters);
    asked->parameters.log = session->config->log.parameters;
    hvi_parameters_text(&asked->parameters, id, strlen(id));
    *query = (hvi_query){
        .sql = server->sql.data,
        .shard = -1,
        .id = {server->name, 0},
        .binary_result = true,
    };
    return hvi_parameters_bind(&asked->parameters, query);
}

static void free_poll(hvi_ask *ask) {
    hvi_parameters_fini(&((feed_poll *) ask)->parameters);
    free(ask);
}

/* The holder of which more is to be known: the one that the ceiling waits for, if it is prepared.
 */
static hvi_holder choose_holder(const feed_server *server) {
    const hvi_holder *first = hvi_bound_holder(&server->bound);
    return first != NULL && first->pid == 0 ? *first : (hvi_holder){0};
}

static hv_status send(hv_reader *reader, feed_server *server, hvi_operation *op, bool has_spare,
                      int64_t now, hv_error **error) {
    int64_t deadline = hvi_router_operation_deadline(&reader->store->router);
    hv_status status = hvi_queue_add_until(reader->queue, op, deadline, server, error);
    if (status != HV_OK)
        return status;
    server->is_asked = true;
    server->takes_last = !has_spare;
    server->asked_at = now;
    return HV_OK;
}

static hv_status ask(hv_reader *reader, feed_server *server, bool has_spare, int64_t now,
                     hv_error **error) {
    hvi_operation op;
    hvi_router *router = &reader->store->router;
    hv_status status = HV_OK;
    if (server->is_locating) {
        status = hvi_where_init(&op, router, server->missing, error);
        return status == HV_OK ? send(reader, server, &op, has_spare, now, error) : status;
    }
    if (server->is_changed)
        status = write_statement(reader, server, error);
    if (status != HV_OK)
        return status;
    feed_poll *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    *made = (feed_poll){
        .ask = {.answer = &hvi_bound_form,
                .query = query_poll,
                .is_misplaced = hvi_bound_is_standby,
                .free = free_poll},
        .of = server,
    };
    server->asked_about = choose_holder(server);
    hvi_question_init(&op, &made->ask, router, server->server, -1, &server->answer);
    return send(reader, server, &op, has_spare, now, error);
}

static void done(hv_reader *reader, void *tag, hv_status status, int64_t key, hv_error *error) {
    feed_server *server = tag;
    server->is_asked = false;
    server->has_come = true;
    server->status = status;
    server->found = (int) key;
    replace(&server->error, &error);
    ((feed_state *) reader->feed)->has_news = true;
}

/* ---- answers ---- */

static hv_status fail_standby(const feed_server *server, hv_error **error) {
    hvi_fail(error, HV_INVALID, "server \"%s\" is a standby, which a feed cannot follow",
             server->server->name);
    hvi_error_where(error, server->server->name, -1);
    hvi_error_detail(error, "It does not know which transactions are open on its primary.");
    hvi_error_hint(error, "Give the store the primary, or target_session_attrs=read-write.");
    return HV_INVALID;
}

/* The first key of a time, 0 before the epoch, INT64_MAX after the last one that a key can hold. */
static int64_t first_key(const hv_reader *reader, int64_t time) {
    int64_t key;
    return hvi_key_bound(time - reader->store->epoch, &key) ? key : INT64_MAX;
}

static hv_status fail_clock(const hv_reader *reader, const feed_server *server, int64_t stepped,
                            hv_error **error) {
    hvi_fail(error, HV_MISMATCH, "the clock of server \"%s\" has stepped back",
             server->server->name);
    hvi_error_where(error, server->server->name, -1);
    hvi_error_detail(error,
                     "The feed has been where the clock is now: what was put there since then, with"
                     " keys from %" PRId64 " on, may have been missed.",
                     first_key(reader, stepped));
    hvi_error_hint(error,
                   "Find the entities from that key on, and keep the clock from stepping back by "
                   "more than the feed's delay.");
    return HV_MISMATCH;
}

/* ---- shards that move ---- */

/* The first shard that is not there though it may be elsewhere, or -1. */
static int find_missing(feed_state *feed, const char *missing) {
    int shard, len, first = -1;
    bool is_missing[HV_SHARDS] = {false};
    while (missing != NULL && sscanf(missing, "shard%4d%n", &shard, &len) == 1 && shard >= 0 &&
           shard < HV_SHARDS) {
        is_missing[shard] = true;
        if (!feed->nowhere[shard] && first < 0)
            first = shard;
        missing = missing[len] == ',' ? missing + len + 1 : NULL;
    }
    for (shard = 0; shard < HV_SHARDS; shard++)
        feed->nowhere[shard] = feed->nowhere[shard] && is_missing[shard];
    return first;
}

/* A server is asked about other shards from now on. What earlier polls have shown does not hold for
 * one that has come: they did not look for transactions that write to it. */
static void change(feed_server *server, int more, int64_t delay) {
    server->shard_count += more;
    server->is_changed = true;
    server->is_obsolete = (server->is_asked || server->has_come) && !server->is_locating;
    server->ask_at = 0;
    if (more < 0)
        return;
    hvi_bound_fini(&server->bound);
    hvi_bound_init(&server->bound, delay, HVI_BOUND_UNKNOWN);
}

/* The shard is on another server now, which is asked about it. */
static hv_status take_place(hv_reader *reader, feed_server *server) {
    feed_state *feed = reader->feed;
    hvi_server *now_at = &reader->store->router.servers[server->found];
    int shard = server->missing;
    feed_server *to = find_server(reader, now_at);
    if (to == server) /* it has come back, or was about to come */
        return HV_OK;
    if (to == NULL) {
        to = &feed->servers[feed->server_count++]; /* there is room for all */
        *to = (feed_server){.server = now_at};
        hvi_bound_init(&to->bound, feed->delay, HVI_BOUND_UNKNOWN);
    }
    change(server, -1, feed->delay);
    feed->places[shard] = -1;
    if (to->is_lost) /* the shard's pages will say so, too */
        return HV_OK;
    feed->places[shard] = (int16_t) now_at->number;
    change(to, 1, feed->delay);
    return HV_OK;
}

/* The answer to where the missing shard is has come. If it is nowhere, its pages will say so. */
static hv_status handle_place(hv_reader *reader, feed_server *server, hv_error **cause) {
    feed_state *feed = reader->feed;
    server->is_locating = false;
    if (server->status == HV_OK)
        return take_place(reader, server);
    if (server->status != HV_NOT_INITIALIZED)
        return server->status;
    feed->nowhere[server->missing] = true;
    hv_error_free(*cause);
    *cause = NULL;
    return HV_OK;
}

/* ---- the answers of polls ---- */

/* The answer says more about the holder that it was asked about. */
static void learn(feed_server *server, const hvi_bound_answer *answer, int64_t now) {
    if (answer->gid == NULL)
        return;
    free(server->gid);
    server->gid = strdup(answer->gid);
    server->known = server->asked_about;
    server->prepared_at = now - answer->age * 1000;
}

static hv_status handle_answer(hv_reader *reader, feed_server *server, int64_t now,
                               hv_error **error) {
    hvi_bound_answer answer;
    int64_t stepped;
    hvi_bound_read(server->answer, &answer);
    if (answer.is_standby)
        return fail_standby(server, error);
    server->missing = find_missing(reader->feed, answer.missing);
    server->is_locating = server->missing >= 0;
    if (server->is_locating) /* a bound of the others would not be one of this shard */
        return HV_OK;
    hv_status status = hvi_bound_take(&server->bound, &answer, now, &stepped, error);
    if (status == HV_CORRUPT)
        hvi_error_where(error, server->server->name, -1);
    if (status != HV_OK)
        return status;
    learn(server, &answer, now);
    return stepped == HVI_BOUND_UNKNOWN ? HV_OK : fail_clock(reader, server, stepped, error);
}

/* A poll is done. Without an error, if the feed waits for the server. */
static hv_status handle(hv_reader *reader, feed_server *server, int64_t now, hv_error **error) {
    feed_state *feed = reader->feed;
    hv_error *cause = server->error;
    hv_status status = server->status;
    server->has_come = false;
    server->error = NULL;
    bool is_obsolete = server->is_obsolete, was_locating = server->is_locating;
    server->is_obsolete = false;
    if (was_locating)
        status = handle_place(reader, server, &cause);
    else if (status == HV_OK && !is_obsolete)
        status = handle_answer(reader, server, now, &cause);
    PQclear(server->answer);
    server->answer = NULL;
    bool at_once = was_locating || is_obsolete || server->is_locating;
    server->ask_at = now + (status != HV_OK ? RETRY_US : at_once ? 0 : feed->pause);
    if (status != HV_OK && !feed->follow && reader->selection->partial &&
        hvi_missing_allows(status)) {
        server->is_lost = true;
        return hvi_reader_lose_server(reader, server->server, &cause, error);
    }
    if (status != HV_OK && !(feed->follow && hv_error_retriable(cause)))
        return hvi_error_move(error, &cause);
    replace(&server->failure, &cause);
    return HV_OK;
}

/* ---- the reach ---- */

/* Does the feed wait for its ceiling? */
static bool is_asked_about(const feed_server *server) {
    return !server->is_lost && server->shard_count > 0;
}

/* The smallest ceiling of all servers. */
static int64_t common_ceiling(const feed_state *feed) {
    int64_t ceiling = INT64_MAX;
    for (size_t i = 0; i < feed->server_count; i++)
        if (is_asked_about(&feed->servers[i]) && feed->servers[i].bound.ceiling < ceiling)
            ceiling = feed->servers[i].bound.ceiling;
    return ceiling;
}

/* Just above the greatest time of all servers; HVI_BOUND_UNKNOWN until all have answered. */
static int64_t find_target(const feed_state *feed) {
    int64_t target = HVI_BOUND_UNKNOWN;
    for (size_t i = 0; i < feed->server_count; i++) {
        int64_t time = feed->servers[i].bound.time;
        if (!is_asked_about(&feed->servers[i]))
            continue;
        if (time == HVI_BOUND_UNKNOWN)
            return time;
        if (time + 1 > target)
            target = time + 1;
    }
    return target;
}

/* The last key that the feed is to reach. */
static int64_t last_key(const hv_reader *reader) {
    const feed_state *feed = reader->feed;
    int64_t last = feed->follow                        ? INT64_MAX
                   : feed->target == HVI_BOUND_UNKNOWN ? reader->end
                                                       : first_key(reader, feed->target) - 1;
    return last < reader->end ? last : reader->end;
}

static void raise_reach(hv_reader *reader) {
    feed_state *feed = reader->feed;
    int64_t ceiling = common_ceiling(feed), last = last_key(reader);
    if (ceiling == HVI_BOUND_UNKNOWN)
        return;
    feed->is_known = true;
    int64_t key = first_key(reader, ceiling) - 1;
    if (key > last)
        key = last;
    if (key > reader->reach)
        reader->reach = key;
}

static bool goes_on(const hv_reader *reader) {
    const feed_state *feed = reader->feed;
    return feed->server_count > 0 && reader->reach < last_key(reader);
}

/* ---- hooks ---- */

/*
 * Ask the servers that are due. The caller may use the store between two entities, and the feed
 * gets its answers only when it is called: so while it has entities at hand it asks only if there
 * are connections enough, and otherwise returns none before the answer.
 */
static hv_status ask_all(hv_reader *reader, int64_t now, hv_error **error) {
    feed_state *feed = reader->feed;
    hv_status status = HV_OK;
    for (size_t i = 0; i < feed->server_count && status == HV_OK; i++) {
        feed_server *server = &feed->servers[i];
        bool is_due = is_asked_about(server) || server->is_locating;
        if (!is_due || server->is_asked || server->has_come || server->ask_at > now)
            continue;
        bool has_spare = hvi_reader_has_spare(server->server);
        if (has_spare || !hvi_reader_has_row(reader))
            status = ask(reader, server, has_spare, now, error);
    }
    return status;
}

static bool is_in_the_way(const hv_reader *reader) {
    const feed_state *feed = reader->feed;
    for (size_t i = 0; i < feed->server_count; i++)
        if (feed->servers[i].is_asked && feed->servers[i].takes_last)
            return true;
    return false;
}

/* When there will be something to do: a poll, or a page once more. */
static int64_t next_moment(const hv_reader *reader, int64_t now) {
    const feed_state *feed = reader->feed;
    int64_t moment = HVI_NEVER;
    for (size_t i = 0; i < feed->server_count && goes_on(reader); i++) {
        const feed_server *server = &feed->servers[i];
        if (is_asked_about(server) && !server->is_asked && server->ask_at < moment)
            moment = server->ask_at;
    }
    for (size_t i = 0; i < reader->source_count; i++) {
        const hvi_source *source = reader->sources[i];
        if (!source->is_asked && source->retry_at > now && source->retry_at < moment)
            moment = source->retry_at;
    }
    return feed->has_news ? now : moment;
}

static void set_wake(hv_reader *reader, int64_t moment) {
    ((feed_state *) reader->feed)->wake = moment;
    hvi_queue_wake_at(reader->queue, moment);
}

/* Handle all that has come, until there is an error to be returned. */
static hv_status handle_all(hv_reader *reader, int64_t now, hv_error **error) {
    feed_state *feed = reader->feed;
    hv_status status = HV_OK;
    feed->has_news = false;
    if (feed->error != NULL)
        status = hvi_error_move(error, &feed->error);
    for (size_t i = 0; i < feed->server_count; i++) {
        feed_server *server = &feed->servers[i];
        if (server->has_come && status == HV_OK)
            status = handle(reader, server, now, error);
        feed->has_news = feed->has_news || server->has_come;
    }
    return status;
}

static hv_status pump(hv_reader *reader, hv_error **error) {
    feed_state *feed = reader->feed;
    int64_t now = hvi_clock_us();
    if (!feed->has_news && now < feed->wake)
        return HV_OK;
    hv_status status = handle_all(reader, now, error);
    if (!feed->follow && feed->target == HVI_BOUND_UNKNOWN)
        feed->target = find_target(feed);
    raise_reach(reader);
    if (status == HV_OK && goes_on(reader))
        status = ask_all(reader, now, error);
    set_wake(reader, next_moment(reader, now));
    return status;
}

/*
 * A feed that follows waits for servers that cannot be reached. Another error is returned once, and
 * the page is asked for again, so that nothing is left out if the feed goes on.
 */
static bool failed(hv_reader *reader, hvi_source *source, hv_error **cause) {
    feed_state *feed = reader->feed;
    feed_server *server = find_server(reader, source->portion.server);
    bool waits = feed->follow && hv_error_retriable(*cause);
    if (!waits && reader->selection->partial)
        return false;
    if (waits && server == NULL) { /* a shard has gone there, which no poll has shown yet */
        hv_error_free(*cause);
        *cause = NULL;
    } else if (waits) {
        replace(&server->page_failure, cause);
        server->failed_at = hvi_reader_front(reader);
    } else {
        replace(&feed->error, cause);
        feed->has_news = true;
    }
    source->retry_at = hvi_clock_us() + RETRY_US;
    set_wake(reader, 0);
    return true;
}

static int64_t position(const hv_reader *reader) {
    const feed_state *feed = reader->feed;
    if (!feed->is_known)
        return 0;
    int64_t front = hvi_reader_front(reader);
    int64_t most = reader->reach < INT64_MAX ? reader->reach + 1 : INT64_MAX;
    int64_t key = front < most ? front : most;
    if (key < feed->first)
        key = feed->first;
    /* Another source's front may be the key that was just returned. */
    return reader->returned > 0 && key <= reader->key ? reader->key + 1 : key;
}

/* ---- holders ---- */

/* The present, as the servers' clocks go on since their last answers; HVI_BOUND_UNKNOWN: no server
 * has answered. */
static int64_t present(const feed_state *feed, int64_t now) {
    int64_t latest = HVI_BOUND_UNKNOWN;
    for (size_t i = 0; i < feed->server_count; i++) {
        const hvi_bound *bound = &feed->servers[i].bound;
        if (bound->time == HVI_BOUND_UNKNOWN)
            continue;
        int64_t time = bound->time + (now - bound->answered_at) / 1000;
        if (time > latest)
            latest = time;
    }
    return latest;
}

static int64_t find_behind(const hv_reader *reader, int64_t now) {
    int64_t time = present(reader->feed, now), key = position(reader);
    if (key == 0 || time == HVI_BOUND_UNKNOWN)
        return -1;
    int64_t behind = time - reader->store->epoch - (key >> HVI_KEY_TIME_SHIFT);
    return behind > 0 ? behind : 0;
}

/* HV_BUSY: a transaction that is open for long. The message is always the same for the same one. */
static void fail_busy(const feed_server *server, const hvi_holder *holder, int64_t age,
                      const char *at_least, hv_error **error) {
    const char *name = server->server->name;
    char id[HVI_HOLDER_ID_LEN];
    if (holder->pid != 0)
        hvi_fail(error, HV_BUSY, "a transaction of process %d on server \"%s\" is open",
                 holder->pid, name);
    else if (server->gid != NULL && server->known.id == holder->id)
        hvi_fail(error, HV_BUSY, "the transaction \"%s\" on server \"%s\" is prepared", server->gid,
                 name);
    else
        hvi_fail(error, HV_BUSY, "the transaction %s on server \"%s\" is prepared",
                 hvi_holder_id(holder, id), name);
    hvi_error_where(error, name, -1);
    hvi_error_detail(error, "For %s%" PRId64 ".%" PRId64 " s, and it may have put entities.",
                     at_least, age / 1000, age % 1000 / 100);
    if (holder->pid != 0)
        hvi_error_hint(error, "End it, or its session: SELECT pg_terminate_backend(%d).",
                       holder->pid);
    else
        hvi_error_hint(error, "COMMIT PREPARED or ROLLBACK PREPARED end it; the view "
                              "pg_prepared_xacts shows it.");
}

/* The transaction that the server's ceiling waits for, if it is open for long. */
static hv_error *find_transaction(const feed_server *server, int64_t now) {
    const hvi_bound *bound = &server->bound;
    const hvi_holder *holder = hvi_bound_holder(bound);
    hv_error *error = NULL;
    if (holder == NULL)
        return NULL;
    bool has_start = holder->start != HVI_BOUND_UNKNOWN;
    bool is_known = holder->pid == 0 && server->known.id == holder->id;
    int64_t age = has_start  ? bound->time - holder->start + (now - bound->answered_at) / 1000
                  : is_known ? (now - server->prepared_at) / 1000
                             : (now - holder->seen_at) / 1000;
    if (age >= LONG_MS)
        fail_busy(server, holder, age, has_start || is_known ? "" : "at least ", &error);
    return error;
}

/* The reason why this server's ceiling does not rise, or NULL. */
static hv_error *find_holder(const hv_reader *reader, const feed_server *server, int64_t now) {
    const hvi_bound *bound = &server->bound;
    const char *name = server->server->name;
    hv_error *error = NULL;
    if (server->failure != NULL)
        return hvi_error_copy(server->failure);
    if (server->page_failure != NULL && hvi_reader_front(reader) <= server->failed_at)
        return hvi_error_copy(server->page_failure);
    if (server->is_asked && now - server->asked_at > LONG_MS * 1000) {
        hvi_fail(&error, HV_TIMEOUT, "server \"%s\" does not answer the feed", name);
        hvi_error_where(&error, name, -1);
        hvi_error_detail(&error, "It was asked %" PRId64 " s ago.",
                         (now - server->asked_at) / 1000000);
    } else if (bound->time != HVI_BOUND_UNKNOWN && bound->time < bound->ceiling) {
        hvi_fail(&error, HV_MISMATCH, "the clock of server \"%s\" is behind the feed", name);
        hvi_error_where(&error, name, -1);
        hvi_error_detail(&error, "By %" PRId64 " ms.", bound->ceiling - bound->time);
    } else {
        error = find_transaction(server, now);
    }
    return error;
}

/* The servers that have failed first, then the one with the smallest ceiling. */
static hv_error *find_any_holder(const hv_reader *reader, int64_t now) {
    const feed_state *feed = reader->feed;
    const feed_server *first = NULL;
    for (size_t i = 0; i < feed->server_count; i++) {
        const feed_server *server = &feed->servers[i];
        if (server->failure != NULL || server->page_failure != NULL) {
            hv_error *error = find_holder(reader, server, now);
            if (error != NULL)
                return error;
        }
        if (is_asked_about(server) &&
            (first == NULL || server->bound.ceiling < first->bound.ceiling))
            first = server;
    }
    return first != NULL ? find_holder(reader, first, now) : NULL;
}

static const hv_error *holder(const hv_reader *reader, int64_t *behind) {
    feed_state *feed = reader->feed;
    int64_t now = hvi_clock_us();
    hv_error *found = find_any_holder(reader, now);
    replace(&feed->holder, &found);
    if (behind != NULL)
        *behind = find_behind(reader, now);
    return feed->holder;
}

static void fini(hv_reader *reader) {
    free_feed(reader->feed);
    reader->feed = NULL;
}

static const hvi_feed_hooks hooks = {
    .pump = pump,
    .is_in_the_way = is_in_the_way,
    .done = done,
    .failed = failed,
    .goes_on = goes_on,
    .position = position,
    .holder = holder,
    .fini = fini,
};

/* ---- setting up ---- */

/* The time up to which the feed has been, if it goes on after a key or from a position. */
static int64_t resumed_at(const hv_reader *reader) {
    const hv_selection *selection = reader->selection;
    int64_t key = selection->after > selection->from ? selection->after : selection->from;
    return key > 0 ? (key >> HVI_KEY_TIME_SHIFT) + reader->store->epoch : HVI_BOUND_UNKNOWN;
}

/* Where the shards are that are wanted. */
static hv_status note_places(const hv_reader *reader, feed_state *feed, hv_error **error) {
    const hvi_portions *portions = &reader->portions;
    feed->places = malloc(HV_SHARDS * sizeof *feed->places);
    feed->nowhere = calloc(HV_SHARDS, sizeof *feed->nowhere);
    if (feed->places == NULL || feed->nowhere == NULL)
        return hvi_no_memory(error);
    for (int shard = 0; shard < HV_SHARDS; shard++)
        feed->places[shard] = -1;
    for (size_t i = 0; i < portions->count; i++)
        for (int j = 0; j < portions->items[i].count; j++)
            feed->places[portions->items[i].shards[j]] =
                (int16_t) portions->items[i].server->number;
    return HV_OK;
}

static hv_status make_servers(hv_reader *reader, feed_state *feed, hv_error **error) {
    const hvi_portions *portions = &reader->portions;
    hvi_key_range range;
    hv_status status = hvi_selection_bounds(reader->selection, reader->store->epoch, &range, error);
    if (status == HV_OK)
        status = note_places(reader, feed, error);
    if (status != HV_OK)
        return status;
    feed->first = range.first;
    feed->servers = calloc((size_t) reader->store->router.server_count, sizeof *feed->servers);
    if (feed->servers == NULL)
        return hvi_no_memory(error);
    for (size_t i = 0; i < portions->count; i++) {
        feed_server *server = find_server(reader, portions->items[i].server);
        if (server == NULL) {
            server = &feed->servers[feed->server_count++];
            server->server = portions->items[i].server;
            server->is_changed = true;
            hvi_bound_init(&server->bound, feed->delay, resumed_at(reader));
        }
        server->shard_count += portions->items[i].count;
    }
    return HV_OK;
}

static hv_status check(const hv_selection *selection, int64_t delay, hv_error **error) {
    if (selection != NULL && selection->newest) {
        hvi_fail(error, HV_INVALID, "a feed cannot begin with the newest entity");
        hvi_error_hint(error, "Select the oldest first, which is the default.");
        return HV_INVALID;
    }
    if (delay < -1) {
        hvi_fail(error, HV_INVALID, "%" PRId64 " is no delay", delay);
        hvi_error_hint(error, "Give milliseconds, or -1 for the default, %d.", DELAY_MS);
        return HV_INVALID;
    }
    return HV_OK;
}

hv_status hv_feed(hv_store *store, const hv_selection *selection, bool follow, int64_t delay,
                  hv_reader **reader, hv_error **error) {
    hv_reader *made = NULL;
    hv_status status = check(selection, delay, error);
    if (status != HV_OK)
        return status;
    feed_state *feed = calloc(1, sizeof *feed);
    if (feed == NULL)
        return hvi_no_memory(error);
    status = hvi_reader_new(store, selection, &hooks, &made, error);
    if (status != HV_OK) {
        free_feed(feed);
        return status;
    }
    made->feed = feed;
    made->reach = 0;
    feed->follow = follow;
    feed->delay = delay >= 0 ? delay : DELAY_MS;
    int64_t pause = PAUSE_MS + feed->delay / PAUSE_PER_DELAY;
    feed->pause = (pause < PAUSE_MAX_MS ? pause : PAUSE_MAX_MS) * 1000;
    feed->target = HVI_BOUND_UNKNOWN;
    status = make_servers(made, feed, error);
    if (status != HV_OK) {
        hv_reader_close(made);
        return status;
    }
    hvi_reader_begin(made);
    *reader = made;
    return HV_OK;
}
