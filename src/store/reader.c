/*
 * reader: the entities of a selection over all shards and servers, merged by key.
 *
 * A source, from page to page:
 *
 *     ask ──► is_asked ──► arrived ──► page, row by row ──► ask, from `covered` on
 *                │                        │ (or ahead, as soon as `ask_at` is at hand)
 *                └──► failure             └──► is_complete: removed from the fronts
 *
 * Only the first of the fronts is ever looked at, so a page that has arrived, or a failure, is
 * taken when the source's turn comes; a failure also when the reader would otherwise have to wait.
 */
#include "store/reader.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "value/key.h"

/* How many rows the first page of a source has at most, and how much more each later one. */
#define FIRST_ROWS 256
#define GROWTH     4

/* So many shares of a limit are asked for at first, and a few rows more. */
#define SHARES      4
#define LEAST_SHARE 16

/* The memory of one page, and of one page of each source together. */
#define PAGE_BYTES  ((size_t) 1 << 20)
#define PAGES_BYTES ((size_t) 16 << 20)

/* A caller that returns within this time, µs, has not been away. */
#define AWAY_US 1000

/* How long to wait at the end for pages that are on their way, so that their connections need not
 * be closed. */
#define GRACE_MS 10

/* After so many entities, pages that were asked for ahead are received, if they are there. */
#define PUMP_EVERY 64

/* ---- ranks ---- */

static int64_t key_of(const hv_reader *reader, int64_t rank) {
    return reader->selection->newest ? ~rank : rank;
}

/* The next greater rank; the greatest has none. */
static int64_t after(int64_t rank) {
    return rank < INT64_MAX ? rank + 1 : rank;
}

int64_t hvi_reader_front(const hv_reader *reader) {
    const hvi_front *front = hvi_fronts_first(&reader->fronts);
    return front != NULL ? front->rank : INT64_MAX;
}

/* ---- sources ---- */

static hvi_source *source_of(hvi_front *front) {
    return (hvi_source *) ((char *) front - offsetof(hvi_source, front));
}

static int rows_at_hand(const hvi_source *source) {
    return source->row_count - source->row;
}

static bool has_rows(const hvi_source *source) {
    return source->row < source->row_count;
}

static void drop_page(hvi_source *source) {
    PQclear(source->page);
    source->page = NULL;
    source->row = source->row_count = 0;
}

static int64_t rank_at(const hv_reader *reader, const hvi_source *source, int row) {
    return hvi_reader_rank(reader, hvi_page_key(source->page, row));
}

static void set_front(const hv_reader *reader, hvi_source *source) {
    source->front.is_row = has_rows(source);
    source->front.rank = has_rows(source) ? rank_at(reader, source, source->row) : source->covered;
}

static void free_source(hvi_source *source) {
    PQclear(source->page);
    PQclear(source->arrived);
    hv_error_free(source->failure);
    free(source->shards);
    free(source);
}

/* Add a source whose rows from this rank on are wanted. NULL if memory is short. */
static hvi_source *add_source(hv_reader *reader, const hvi_portion *portion, int64_t from) {
    if (reader->source_count == reader->source_room) {
        size_t room = 2 * reader->source_room + 8;
        hvi_source **sources = realloc(reader->sources, room * sizeof(hvi_source *));
        if (sources == NULL)
            return NULL;
        reader->sources = sources;
        reader->source_room = room;
    }
    hvi_source *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    *made = (hvi_source){
        .front = {from, false},
        .portion = *portion,
        .covered = from,
        .rows_wanted = FIRST_ROWS,
    };
    if (!hvi_fronts_add(&reader->fronts, &made->front)) {
        free(made);
        return NULL;
    }
    reader->sources[reader->source_count++] = made;
    return made;
}

/* No more is asked of it; what is at hand is still returned. */
static void give_up(hvi_source *source) {
    source->is_complete = true;
    hv_error_free(source->failure);
    source->failure = NULL;
    PQclear(source->arrived);
    source->arrived = NULL;
}

/* ---- asking ---- */

/* How many rows a first page should have if so many are wanted of all sources together: all of
 * them or, of many sources, several times its share. A row more costs a microsecond; a second page,
 * because the rows are distributed unevenly, a round trip. */
static int first_rows(const hv_reader *reader, int64_t wanted) {
    int64_t rows = SHARES * (wanted / (int64_t) reader->source_count) + LEAST_SHARE;
    rows = rows < wanted ? rows : wanted;
    return rows < FIRST_ROWS ? (int) rows : FIRST_ROWS;
}

/* How many rows are wanted beyond those at hand; 0: none. */
static int rows_to_ask(const hv_reader *reader, const hvi_source *source) {
    int64_t limit = reader->selection->limit;
    int64_t left = limit > 0 ? limit - reader->returned - rows_at_hand(source) : INT64_MAX;
    return left <= 0 ? 0 : left < source->rows_wanted ? (int) left : source->rows_wanted;
}

static bool may_ask(const hv_reader *reader, const hvi_source *source) {
    return !source->is_asked && source->arrived == NULL && source->failure == NULL &&
           !source->is_complete && source->covered <= reader->reach;
}

/* The deadline of a page: the time that the selection gives, or operation_timeout. */
static int64_t deadline_of(const hv_reader *reader) {
    int64_t timeout = reader->selection->timeout;
    return timeout != 0 ? hvi_deadline_after(timeout)
                        : hvi_router_operation_deadline(&reader->store->router);
}

/* May it return so many entities that the size of pages matters? */
static bool is_streaming(const hv_reader *reader) {
    return reader->selection->limit == 0 || reader->selection->limit > FIRST_ROWS;
}

/* The memory that one page may take. */
static size_t page_room(const hv_reader *reader) {
    size_t share = PAGES_BYTES / reader->source_count;
    return share < PAGE_BYTES ? share : PAGE_BYTES;
}

/* One of a shard alone goes where that is now: its errors name that server, and its pages take
 * connections there. */
static void follow_shard(const hv_reader *reader, hvi_source *source) {
    hvi_router *router = &reader->store->router;
    if (source->portion.count != 1)
        return;
    int holder = hvi_router_holder(router, source->portion.shards[0]);
    if (holder >= 0)
        source->portion.server = &router->servers[holder];
}

static void ask(hv_reader *reader, hvi_source *source) {
    follow_shard(reader, source);
    int rows = rows_to_ask(reader, source);
    int64_t first = key_of(reader, source->covered), last = key_of(reader, reader->reach);
    bool newest = reader->selection->newest;
    hvi_page page = {
        .selection = reader->selection,
        .range = {newest ? last : first, newest ? first : last},
        .portion = source->portion,
        .rows = rows,
        .care = !is_streaming(reader) ? HVI_PAGE_ANY_SIZE
                : source->has_large   ? HVI_PAGE_MEASURED
                                      : HVI_PAGE_SMALL_ROWS,
        .bytes = (int64_t) page_room(reader),
    };
    hvi_operation op;
    if (rows == 0 || (source->retry_at != 0 && hvi_clock_us() < source->retry_at))
        return;
    source->retry_at = 0;
    source->asked_last = reader->reach;
    source->asked_rows = rows;
    source->asked_care = page.care;
    source->asked_in = reader->absences;
    hv_status status = hvi_page_init(&op, &page, &reader->store->router, &reader->store->texts,
                                     &source->arrived, &source->failure);
    if (status == HV_OK)
        status =
            hvi_queue_add_until(reader->queue, &op, deadline_of(reader), source, &source->failure);
    source->is_asked = status == HV_OK;
}

bool hvi_reader_has_spare(hvi_server *server) {
    return 2 * (hvi_pool_stat(&server->pool, HV_STAT_LENT) + 1) <= server->pool.config.max;
}

/* Are the rows at hand as many as the limit leaves? Then most likely no source needs another page.
 */
static bool has_enough(const hv_reader *reader) {
    int64_t left = reader->selection->limit - reader->returned;
    if (reader->selection->limit == 0)
        return false;
    for (size_t i = 0; i < reader->source_count && left > 0; i++)
        left -= rows_at_hand(reader->sources[i]);
    return left <= 0;
}

static void ask_ahead(hv_reader *reader, hvi_source *source) {
    source->ask_at = INT_MAX;
    follow_shard(reader, source);
    if (!may_ask(reader, source) || has_enough(reader) ||
        !hvi_reader_has_spare(source->portion.server))
        return;
    ask(reader, source);
    reader->pump_in = 0; /* send it at once */
}

/* Ask for the pages without which no row can be returned. A source without rows has returned the
 * last one that it had, so no row beyond that can be returned without its next page. */
static void ask_needed(hv_reader *reader) {
    for (size_t i = 0; i < reader->source_count; i++)
        if (!has_rows(reader->sources[i]) && may_ask(reader, reader->sources[i]))
            ask(reader, reader->sources[i]);
}

static bool is_source(const hv_reader *reader, const void *tag) {
    for (size_t i = 0; i < reader->source_count; i++)
        if (reader->sources[i] == tag)
            return true;
    return false;
}

/* Is the reason that its caller was away, so that the page, or a connection for it, was not seen in
 * time? */
static bool was_away(const hv_reader *reader, const hvi_source *source, hv_status status) {
    return status == HV_TIMEOUT && source->asked_in != reader->absences && !hvi_interrupted();
}

/* Called by the queue. */
static void done(void *context, void *tag, hv_status status, int64_t key, hv_entity *entity,
                 hv_error *error) {
    hv_reader *reader = context;
    (void) entity;
    if (reader->hooks != NULL && !is_source(reader, tag)) {
        reader->hooks->done(reader, tag, status, key, error);
        return;
    }
    hvi_source *source = tag;
    source->is_asked = false;
    if (status != HV_OK && error == NULL)
        hvi_no_memory(&error);
    source->failure = error;
    if (source->is_complete) /* it was given up meanwhile */
        give_up(source);
    else if (was_away(reader, source, status)) { /* it is asked for again */
        hv_error_free(source->failure);
        source->failure = NULL;
    }
}

/* ---- pages ---- */

static hv_status fail_row(const hvi_source *source, const char *sent, int64_t key,
                          hv_error **error) {
    int shard = source->portion.count == 1 ? source->portion.shards[0] : -1;
    hvi_fail_answer(source->portion.server->name, shard, "a page of entities", error,
                    "sent the key %" PRId64 ", %s", key, sent);
    return HV_CORRUPT;
}

/* Are its rows in order, and among those that were asked for? */
static hv_status check_page(const hv_reader *reader, const hvi_source *source, int count,
                            hv_error **error) {
    int64_t least = source->covered;
    if (count > source->asked_rows)
        return hvi_fail_answer(source->portion.server->name, -1, "a page of entities", error,
                               "sent %d rows, not up to %d", count, source->asked_rows);
    for (int row = 0; row < count; row++) {
        int64_t key = hvi_page_key(source->page, row), rank = hvi_reader_rank(reader, key);
        hvi_key_fields fields;
        if (rank < least && row > 0)
            return fail_row(source, "which is out of order", key, error);
        if (rank < least || rank > source->asked_last)
            return fail_row(source, "which is out of range", key, error);
        if (!hvi_key_unpack(key, &fields) || !hvi_portion_has(&source->portion, fields.shard))
            return fail_row(source, "which belongs to another shard", key, error);
        least = after(rank);
    }
    return HV_OK;
}

/* How many rows the next page should have: as many as take about the memory that one may. */
static int next_rows(const hv_reader *reader, const hvi_source *source, int count) {
    size_t rows = page_room(reader) / (PQresultMemorySize(source->page) / (size_t) count + 1);
    size_t most = (size_t) source->rows_wanted * GROWTH;
    rows = rows < 1 ? 1 : rows;
    rows = rows > most ? most : rows;
    return rows > HVI_PAGE_MAX_ROWS ? HVI_PAGE_MAX_ROWS : (int) rows;
}

/* Has the page turned out much larger than expected, so that there should not be another one beside
 * it? */
static bool is_large(const hvi_source *source) {
    return PQresultMemorySize(source->page) > 4 * PAGE_BYTES;
}

/* All rows up to this rank are in memory or returned. */
static void cover(const hv_reader *reader, hvi_source *source, int64_t rank) {
    source->covered = after(rank);
    source->is_complete = rank >= reader->end;
}

/* The page that has arrived is the source's page from now on. */
static void take_page(hv_reader *reader, hvi_source *source) {
    drop_page(source);
    source->page = source->arrived;
    source->arrived = NULL;
    bool is_cut;
    int count = hvi_page_rows(source->page, source->asked_care, &is_cut);
    if (check_page(reader, source, PQntuples(source->page), &source->failure) != HV_OK) {
        drop_page(source);
        return;
    }
    source->row_count = count;
    source->has_large = is_cut;
    if (is_cut && source->asked_care == HVI_PAGE_SMALL_ROWS)
        source->covered = rank_at(reader, source, count);
    else
        cover(reader, source,
              is_cut || count == source->asked_rows ? rank_at(reader, source, count - 1)
                                                    : source->asked_last);
    if (count > 0)
        source->rows_wanted = next_rows(reader, source, count);
    source->ask_at = is_large(source) ? INT_MAX : count / 4;
}

/* ---- failures ---- */

/* Where the shards of a portion are, as far as the store knows: the numbers of the servers. Have
 * some of them moved? */
static bool find_places(const hv_reader *reader, const hvi_portion *portion,
                        int places[HVI_PORTION_MAX]) {
    bool have_moved = false;
    for (int i = 0; i < portion->count; i++) {
        int holder = hvi_router_holder(&reader->store->router, portion->shards[i]);
        places[i] = holder >= 0 ? holder : portion->server->number;
        have_moved = have_moved || places[i] != portion->server->number;
    }
    return have_moved;
}

/* A source for those of the shards that are on this server. */
static hv_status add_part(hv_reader *reader, const hvi_portion *portion, const int *places,
                          hvi_server *server, int64_t covered, hv_error **error) {
    int16_t *shards = malloc((size_t) portion->count * sizeof *shards);
    hvi_portion part = {.server = server, .shards = shards};
    if (shards == NULL)
        return hvi_no_memory(error);
    for (int i = 0; i < portion->count; i++)
        if (places[i] == server->number)
            shards[part.count++] = portion->shards[i];
    hvi_source *made = part.count > 0 ? add_source(reader, &part, covered) : NULL;
    if (made != NULL)
        made->shards = shards;
    else
        free(shards);
    return made != NULL || part.count == 0 ? HV_OK : hvi_no_memory(error);
}

/* Ask for each of its shards alone, to find the one at fault; or, if shards have moved, for those
 * of each server together. */
static hv_status split(hv_reader *reader, hvi_source *source, hv_error **error) {
    hvi_portion portion = source->portion;
    hvi_router *router = &reader->store->router;
    int64_t covered = source->covered;
    int places[HVI_PORTION_MAX];
    hv_status status = HV_OK;
    give_up(source);
    if (find_places(reader, &portion, places)) {
        for (int i = 0; i < router->server_count && status == HV_OK; i++)
            status = add_part(reader, &portion, places, &router->servers[i], covered, error);
        return status;
    }
    for (int i = 0; i < portion.count; i++) {
        hvi_portion one = {portion.server, portion.shards + i, 1};
        if (add_source(reader, &one, covered) == NULL)
            return hvi_no_memory(error);
    }
    return HV_OK;
}

static void name_shards(const hvi_portion *portion, hv_error **cause) {
    hvi_buffer shards = HVI_BUFFER_EMPTY;
    hvi_portion_text(portion, &shards);
    hvi_missing_name(cause, &shards);
    hvi_buffer_fini(&shards);
}

/* Give up all that is still read from this server. Marks the shards; returns their number. */
static int give_up_server(hv_reader *reader, const hvi_server *server, bool lost[HV_SHARDS]) {
    int count = 0;
    for (size_t i = 0; i < reader->source_count; i++) {
        hvi_source *source = reader->sources[i];
        if (source->portion.server != server || source->is_complete)
            continue;
        for (int j = 0; j < source->portion.count; j++, count++)
            lost[source->portion.shards[j]] = true;
        give_up(source);
    }
    return count;
}

/* Shards that have moved there since the reader began are lost, too. */
hv_status hvi_reader_lose_server(hv_reader *reader, const hvi_server *server, hv_error **cause,
                                 hv_error **error) {
    bool is_lost[HV_SHARDS] = {false};
    int16_t shards[HV_SHARDS];
    hvi_portion lost = {.shards = shards};
    if (give_up_server(reader, server, is_lost) == 0) {
        /* a page and a poll have failed for the same reason */
        hv_error_free(*cause);
        *cause = NULL;
        return HV_OK;
    }
    for (int shard = 0; shard < HV_SHARDS; shard++)
        if (is_lost[shard])
            shards[lost.count++] = (int16_t) shard;
    if (lost.count > 1)
        name_shards(&lost, cause);
    return hvi_missing_add(&reader->missing, cause, error);
}

/* Go on without the source or, if its server cannot be reached, without any source of that. */
static hv_status go_on_without(hv_reader *reader, hvi_source *source, hv_error **cause,
                               hv_error **error) {
    const char *at = hv_error_server(*cause);
    bool is_elsewhere = at != NULL && strcmp(at, source->portion.server->name) != 0;
    bool is_of_server = hv_error_status(*cause) == HV_UNAVAILABLE ||
                        hvi_error_refusal_of(*cause) == HVI_REFUSAL_OPENING;
    if (is_of_server && !is_elsewhere) /* elsewhere: its shard has moved to another one */
        return hvi_reader_lose_server(reader, source->portion.server, cause, error);
    give_up(source);
    if (source->portion.count > 1)
        name_shards(&source->portion, cause);
    return hvi_missing_add(&reader->missing, cause, error);
}

/* A source without rows has failed. Errors: the one that ends the reader. */
static hv_status handle_failure(hv_reader *reader, hvi_source *source, hv_error **error) {
    hv_error *cause = source->failure;
    bool partial = reader->selection->partial;
    source->failure = NULL;
    bool may_split = source->portion.count > 1 && hvi_missing_is_of_shard(cause);
    if (may_split && (partial || hv_error_shard(cause) < 0)) {
        hv_error_free(cause);
        return split(reader, source, error);
    }
    if (reader->hooks != NULL && reader->hooks->failed(reader, source, &cause))
        return HV_OK;
    if (partial && hvi_missing_allows(hv_error_status(cause)))
        return go_on_without(reader, source, &cause, error);
    return hvi_error_move(error, &cause);
}

/* Handle all that have failed. Sets *any if there were some. */
static hv_status handle_failures(hv_reader *reader, bool *any, hv_error **error) {
    hv_status status = HV_OK;
    *any = false;
    for (size_t i = 0; i < reader->source_count && status == HV_OK; i++) {
        hvi_source *source = reader->sources[i];
        if (source->failure == NULL || has_rows(source))
            continue;
        *any = true;
        status = handle_failure(reader, source, error);
    }
    return status;
}

/* ---- the merge ---- */

typedef enum outlook {
    HAS_ROW,  /* the first source's */
    WAITS,    /* for pages */
    AT_REACH, /* everything up to there has been returned */
    AT_END,
    FAILS,
} outlook;

static bool is_at_limit(const hv_reader *reader) {
    int64_t limit = reader->selection->limit;
    return limit > 0 && reader->returned >= limit;
}

/* What comes next? *error is that of FAILS. */
static outlook look(hv_reader *reader, hv_error **error) {
    hvi_front *front;
    while (!is_at_limit(reader) && (front = hvi_fronts_first(&reader->fronts)) != NULL) {
        hvi_source *source = source_of(front);
        bool any;
        if (has_rows(source))
            return HAS_ROW;
        if (source->arrived != NULL) {
            take_page(reader, source);
            set_front(reader, source);
            hvi_fronts_update(&reader->fronts);
        } else if (source->failure != NULL) {
            if (handle_failure(reader, source, error) != HV_OK)
                return FAILS;
        } else if (source->is_complete) {
            hvi_fronts_remove(&reader->fronts);
        } else if (!source->is_asked && source->covered > reader->reach) {
            return AT_REACH;
        } else {
            ask_needed(reader);
            if (handle_failures(reader, &any, error) != HV_OK)
                return FAILS;
            if (!any)
                return WAITS;
        }
    }
    return AT_END;
}

static bool goes_on(const hv_reader *reader) {
    return reader->hooks != NULL && reader->hooks->goes_on(reader);
}

static bool is_in_the_way(const hv_reader *reader) {
    return reader->hooks != NULL && reader->hooks->is_in_the_way(reader);
}

/* The status with which the reader has ended, and a copy of its error. */
static hv_status fail_again(const hv_reader *reader, hv_error **error) {
    hv_error *copy = hvi_error_copy(reader->error);
    if (copy != NULL)
        hvi_error_move(error, &copy);
    return reader->status;
}

/* The row at hand cannot be returned: its source is replaced by one that begins there, and has
 * failed. Takes *cause. */
static hv_status fail_at_row(hv_reader *reader, hvi_source *source, hv_error **cause,
                             hv_error **error) {
    hvi_source *other = add_source(reader, &source->portion, source->front.rank);
    if (other == NULL) {
        hv_error_free(*cause);
        return hvi_no_memory(error);
    }
    other->failure = *cause;
    hv_status status = hv_error_status(*cause);
    drop_page(source);
    give_up(source);
    return status;
}

/* Return the row of the first source. */
static hv_status take_row(hv_reader *reader, hv_error **error) {
    hvi_source *source = source_of(hvi_fronts_first(&reader->fronts));
    hv_error *cause = NULL;
    hv_status status = hvi_page_row(source->page, source->row, &source->portion, &reader->kind,
                                    &reader->dict, &cause);
    if (status == HV_NO_MEMORY) /* it is returned next time */
        return hvi_error_move(error, &cause);
    if (status != HV_OK)
        return fail_at_row(reader, source, &cause, error);
    reader->key = key_of(reader, source->front.rank);
    reader->returned++;
    source->row++;
    if (source->row >= source->ask_at)
        ask_ahead(reader, source);
    if (!has_rows(source))
        drop_page(source);
    set_front(reader, source);
    hvi_fronts_update(&reader->fronts);
    return HV_OK;
}

/* ---- the next entity ---- */

static hv_status fail_interrupted(hv_error **error) {
    return hvi_fail(error, HV_TIMEOUT, "interrupted before the next entity was read");
}

/* Let pages travel, and wait for one until the deadline. */
static void advance(hv_reader *reader, int64_t deadline) {
    reader->pump_in = PUMP_EVERY;
    hv_queue_advance(reader->queue, hvi_deadline_poll_ms(deadline));
}

/* No more is wanted: receive what is on its way, or give it up. */
static void return_connections(hv_reader *reader) {
    int64_t deadline = hvi_deadline_after(GRACE_MS);
    hvi_queue_wake_at(reader->queue, HVI_NEVER);
    while (hv_queue_pending(reader->queue) > 0 && !hvi_is_late(deadline))
        hv_queue_advance(reader->queue, hvi_deadline_poll_ms(deadline));
    while (hv_queue_pending(reader->queue) > 0)
        hvi_queue_expire(reader->queue);
}

static hv_status next(hv_reader *reader, int64_t timeout, hv_error **error) {
    int64_t deadline = 0; /* until it is needed */
    hv_error *cause = NULL;
    for (;;) {
        hv_status status = HV_OK;
        if (reader->hooks != NULL)
            status = reader->hooks->pump(reader, error);
        if (status != HV_OK)
            return status;
        outlook what = look(reader, &cause);
        if (what == HAS_ROW && !is_in_the_way(reader)) {
            status = take_row(reader, error);
            if (status != HV_CORRUPT)
                return status;
            continue; /* a failure to be handled */
        }
        if (what == FAILS)
            reader->status = hvi_error_move(&reader->error, &cause);
        else if (what == AT_END || (what == AT_REACH && !goes_on(reader)))
            reader->status = HV_NOT_FOUND;
        if (reader->status != HV_OK) {
            return_connections(reader);
            return fail_again(reader, error);
        }
        if (hvi_interrupted())
            return fail_interrupted(error);
        if (deadline == 0)
            deadline = hvi_deadline_after(timeout);
        else if (hvi_is_late(deadline))
            return HV_TIMEOUT;
        advance(reader, deadline);
    }
}

/* Time passes for a page only while its caller waits for it: however long that is busy with an
 * entity, the page is not late. But what has arrived is received, to return its connection. */
static void note_absence(hv_reader *reader, int64_t us) {
    if (us < AWAY_US)
        return;
    reader->absences++;
    reader->pump_in = 0;
    hvi_queue_postpone(reader->queue, us);
}

hv_status hv_reader_next(hv_reader *reader, int64_t timeout, hv_error **error) {
    hvi_visit visit;
    hv_dict_free(reader->dict);
    reader->dict = NULL;
    if (hvi_store_is_foreign(reader->generation))
        return hvi_fail(error, HV_INVALID, "the reader is another process's");
    if (reader->status != HV_OK)
        return fail_again(reader, error);
    hv_status status = hvi_store_enter(&visit, reader->store, error);
    if (status != HV_OK)
        return status;
    if (reader->left_at != 0)
        note_absence(reader, hvi_clock_us() - reader->left_at);
    status = next(reader, timeout, error);
    if (--reader->pump_in < 0 && hv_queue_pending(reader->queue) > 0)
        advance(reader, 0);
    reader->left_at = status == HV_OK && hv_queue_pending(reader->queue) > 0 ? hvi_clock_us() : 0;
    return hvi_store_leave(&visit, status);
}

/* ---- life ---- */

static void free_reader(hv_reader *reader) {
    if (reader->queue != NULL)
        hvi_queue_return(reader->queue); /* first: its operations point to the sources */
    if (reader->hooks != NULL && reader->feed != NULL)
        reader->hooks->fini(reader);
    for (size_t i = 0; i < reader->source_count; i++)
        free_source(reader->sources[i]);
    free(reader->sources);
    hvi_fronts_fini(&reader->fronts);
    hvi_portions_fini(&reader->portions);
    hvi_missing_fini(&reader->missing);
    hv_selection_free(reader->selection);
    hv_error_free(reader->error);
    hv_dict_free(reader->dict);
    free(reader);
}

/* Set up everything that depends on the selection. */
static hv_status set_up(hv_reader *reader, hv_error **error) {
    hvi_key_range range;
    hv_status status = hvi_selection_bounds(reader->selection, reader->store->epoch, &range, error);
    if (status == HV_OK)
        status = hvi_portions_init(&reader->portions, &reader->store->router, reader->selection,
                                   &reader->missing, error);
    if (status != HV_OK)
        return status;
    bool newest = reader->selection->newest;
    int64_t begin = hvi_reader_rank(reader, newest ? range.last : range.first);
    reader->end = hvi_reader_rank(reader, newest ? range.first : range.last);
    reader->reach = reader->end;
    for (size_t i = 0; i < reader->portions.count && !hvi_key_range_is_empty(range); i++)
        if (add_source(reader, &reader->portions.items[i], begin) == NULL)
            return hvi_no_memory(error);
    if (reader->selection->limit > 0)
        for (size_t i = 0; i < reader->source_count; i++)
            reader->sources[i]->rows_wanted = first_rows(reader, reader->selection->limit);
    return HV_OK;
}

static hv_status make_reader(hv_store *store, const hv_selection *selection,
                             const hvi_feed_hooks *hooks, hv_reader **reader, hv_error **error) {
    hv_reader *made = calloc(1, sizeof *made);
    if (made == NULL)
        return hvi_no_memory(error);
    made->store = store;
    made->hooks = hooks;
    made->generation = hvi_fork_generation();
    made->selection = hvi_selection_copy(selection);
    hv_status status = made->selection != NULL ? set_up(made, error) : hvi_no_memory(error);
    if (status == HV_OK)
        status = hvi_queue_borrow(store, done, made, &made->queue, error);
    if (status != HV_OK) {
        free_reader(made);
        return status;
    }
    *reader = made;
    return HV_OK;
}

hv_status hvi_reader_new(hv_store *store, const hv_selection *selection,
                         const hvi_feed_hooks *hooks, hv_reader **reader, hv_error **error) {
    hvi_visit visit;
    hv_status status = hvi_store_enter(&visit, store, error);
    if (status != HV_OK)
        return status;
    return hvi_store_leave(&visit, make_reader(store, selection, hooks, reader, error));
}

void hvi_reader_begin(hv_reader *reader) {
    for (size_t i = 0; i < reader->source_count; i++)
        ask_ahead(reader, reader->sources[i]);
    hv_queue_advance(reader->queue, 0);
    reader->left_at = hvi_clock_us();
}

hv_status hv_find(hv_store *store, const hv_selection *selection, hv_reader **reader,
                  hv_error **error) {
    hv_status status = hvi_reader_new(store, selection, NULL, reader, error);
    if (status == HV_OK)
        hvi_reader_begin(*reader);
    return status;
}

void hv_reader_close(hv_reader *reader) {
    if (reader == NULL)
        return;
    if (!hvi_store_is_foreign(reader->generation))
        return_connections(reader);
    free_reader(reader);
}

/* ---- the current entity, and what is known ---- */

int hv_reader_fd(const hv_reader *reader) {
    return hv_queue_fd(reader->queue);
}

int64_t hv_reader_key(const hv_reader *reader) {
    return reader->key;
}

int hv_reader_kind(const hv_reader *reader) {
    return reader->kind;
}

const hv_dict *hv_reader_dict(const hv_reader *reader) {
    return reader->dict;
}

int64_t hv_reader_position(const hv_reader *reader) {
    return reader->hooks != NULL ? reader->hooks->position(reader) : 0;
}

const hv_error *hv_reader_holder(const hv_reader *reader, int64_t *behind) {
    if (reader->hooks != NULL)
        return reader->hooks->holder(reader, behind);
    if (behind != NULL)
        *behind = -1;
    return NULL;
}

const hv_error *hv_reader_missing(const hv_reader *reader, size_t index) {
    return hvi_missing_at(&reader->missing, index);
}
