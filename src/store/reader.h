/*
 * reader: the entities of a selection over all shards and servers, merged by key: the functions
 * hv_find() and hv_reader_…() of hypervault.h; and what a feed adds to them.
 *
 * A reader has a source for each portion of shards (up to 64 of one server), of which it keeps one
 * page in memory and asks for the next one ahead. The pages travel as questions of a queue that is
 * the reader's own. Keys are compared as ranks: the key itself or, with the newest first, what
 * sorts the other way round.
 *
 * A source knows a rank that is `covered`: all its rows below are in memory or returned. So the
 * least row in memory can be returned once each source without one has covered its rank.
 */
#ifndef HVI_READER_H
#define HVI_READER_H

#include "entity/missing.h"
#include "entity/page.h"
#include "entity/portion.h"
#include "store/fronts.h"
#include "store/queue.h"
#include "store/store.h"

/* A portion's part of the answer. */
typedef struct hvi_source {
    hvi_front front; /* the next row at hand, or `covered` */
    hvi_portion portion;
    int16_t *shards;  /* the portion's, if they are its own; owned */
    int64_t covered;  /* a rank */
    bool is_complete; /* there are no more rows than those at hand */

    PGresult *page; /* its rows from `row` on are at hand; NULL: none; owned */
    int row;
    int row_count;
    int ask_at; /* when this row is at hand, the next page is asked for ahead */

    /* The page that was asked for. */
    bool is_asked;
    int64_t asked_last; /* the rank up to which, included … */
    int asked_rows;     /* … and how many rows at most */
    hvi_page_care asked_care;
    unsigned asked_in; /* that of the reader's absences */
    PGresult *arrived; /* it is there, and becomes the page next; owned */
    hv_error *failure; /* or it has failed, which is not yet handled; owned */
    int64_t retry_at;  /* of a feed that waits for its server: not before; else 0 */

    int rows_wanted; /* in the next page, if nothing else limits it */
    bool has_large;  /* large rows have come last, so the next page is measured */
} hvi_source;

/* What a feed adds. */
typedef struct hvi_feed_hooks {
    /*
     * Called before each look at the merge, in hv_reader_next() and once at the beginning: see
     * what has come, ask the servers, raise `reach`, and set with hvi_queue_wake_at() when it wants
     * to be called again. Not HV_OK: returned to the caller, with the error; the reader goes on at
     * the next call.
     */
    hv_status (*pump)(hv_reader *reader, hv_error **error);
    /* Has a question of the feed taken a connection that the caller may want? Then no row is
     * returned before its answer has come. */
    bool (*is_in_the_way)(const hv_reader *reader);
    /* An operation that it has added to reader->queue with this tag, which is not a hvi_source, is
     * done. The error is the feed's. */
    void (*done)(hv_reader *reader, void *tag, hv_status status, int64_t key, hv_error *error);
    /* A page of a source has failed. True: the feed waits for it, has set source->retry_at and
     * taken *cause; false: it is handled as in a find. */
    bool (*failed)(hv_reader *reader, hvi_source *source, hv_error **cause);
    /* Everything up to `reach` has been returned. True: more will come; false: that is the end. */
    bool (*goes_on)(const hv_reader *reader);
    int64_t (*position)(const hv_reader *reader);
    const hv_error *(*holder)(const hv_reader *reader, int64_t *behind);
    void (*fini)(hv_reader *reader); /* called after the queue is freed; frees `feed` */
} hvi_feed_hooks;

struct hv_reader {
    hv_store *store;
    hv_selection *selection; /* owned */
    unsigned generation;     /* hvi_fork_generation() when it was made */
    hv_queue *queue;         /* owned */

    hvi_portions portions;
    hvi_source **sources; /* owned, as each of them; given up or not */
    size_t source_count;
    size_t source_room;
    hvi_fronts fronts; /* of the sources that have more to come */
    int64_t reach;     /* the rank up to which pages may be asked for, included */
    int64_t end;       /* that of the last key of the selection's range */
    int64_t returned;
    int pump_in;       /* so many entities later, the queue is advanced */
    int64_t left_at;   /* when the caller got an entity while pages were on their way; else 0 */
    unsigned absences; /* how often its caller has stayed away for long meanwhile */

    hv_status status; /* HV_OK: it goes on. HV_NOT_FOUND: it has ended. Else by this … */
    hv_error *error;  /* … error; owned */
    hvi_missing missing;

    int64_t key; /* the current entity */
    int kind;
    hv_dict *dict; /* owned; NULL: none */

    const hvi_feed_hooks *hooks; /* NULL: a find */
    void *feed;                  /* the feed's own; owned by the hooks */
};

/*
 * Make a reader for hv_find(), or, with hooks, for a feed, which sets `feed` and `reach` and then
 * calls hvi_reader_begin(). On failure the caller still owns what `feed` is to be. Errors: as
 * hv_find().
 */
hv_status hvi_reader_new(hv_store *store, const hv_selection *selection,
                         const hvi_feed_hooks *hooks, hv_reader **reader, hv_error **error);

/* Ask for the first pages, if there are connections for that. */
void hvi_reader_begin(hv_reader *reader);

/* Go on without a server: nothing more is asked of it, what is at hand is still returned, and the
 * cause, which is taken, says what is missing. Errors: HV_NO_MEMORY. */
hv_status hvi_reader_lose_server(hv_reader *reader, const hvi_server *server, hv_error **cause,
                                 hv_error **error);

/* The rank of a key, and the key of a rank. */
static inline int64_t hvi_reader_rank(const hv_reader *reader, int64_t key) {
    return reader->selection->newest ? ~key : key;
}

/* Will the next entity be returned at once? */
static inline bool hvi_reader_has_row(const hv_reader *reader) {
    const hvi_front *front = hvi_fronts_first(&reader->fronts);
    return front != NULL && front->is_row;
}

/* May a connection be borrowed for something that is not needed yet? At most half of them, so that
 * what the caller does meanwhile finds one. */
bool hvi_reader_has_spare(hvi_server *server);

/* Everything below this rank has been returned, up to `reach` + 1; INT64_MAX: all. */
int64_t hvi_reader_front(const hv_reader *reader);

#endif
