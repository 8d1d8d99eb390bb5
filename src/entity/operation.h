/*
 * operation: one operation on an entity, and what each answer or failure means for it: the only
 * place that decides when something is tried again.
 *
 * An operation may need several statements: a put under a key that has an entity fetches that to
 * compare, one that must happen exactly once reserves a key first. So its item's verb changes on
 * the way. The parts that all verbs share are here, those of one verb are in its file.
 *
 *                 hvi_operation_prepare()            hvi_operation_take()
 *     (set up) ──────────────────────────► travels ──────────────────────────► HVI_DONE
 *                  ▲                          │                                    ▲
 *                  └── HVI_AGAIN, HVI_PAUSE ◄─┘     hvi_operation_late() ──────────┘
 *
 * If the shard is missing on the server, it asks there where the shard has gone, and goes on where
 * it is; its target's server is then another one. In a transaction it does not:
 *
 *     travels ──► the shard is missing ──► hvi_locate travels ──► hvi_operation_follow() ──►
 * travels └─ the router knows where it is: hvi_operation_follow()        (locate.c has more)
 *
 * Its carrier (the lanes, a queue) gives it a deadline, sends its item in a batch and does what the
 * operation returns as next. It may be on the stack.
 */
#ifndef HVI_OPERATION_H
#define HVI_OPERATION_H

#include "base/buffer.h"
#include "value/dict.h"
#include "entity/key_cache.h"
#include "entity/target.h"
#include "entity/verb.h"

/* Is a write repeated whose connection was lost, so that it may have happened already? */
typedef enum hvi_repeat {
    HVI_REPEAT_NEVER,
    HVI_REPEAT_ONCE,
    HVI_REPEAT_UNTIL_DONE, /* until it is confirmed, or late; other obstacles are waited out, too */
} hvi_repeat;

/* The way of an operation to a shard that has moved; see locate.c. */
typedef struct hvi_way {
    const hvi_verb *stopped; /* what it was to send, and goes on with; NULL: it does not ask */
    bool apart;              /* … and how */
    bool is_detour;          /* the server is the one from which the shard will move */
    unsigned repeats;        /* times that the server said that the shard is there after all */
    unsigned hops;           /* from one server to another */
    unsigned pauses;         /* while the shard is not published where it is now */
    hv_error *refusal;       /* why it has stopped; owned */
    /* While it asks all servers which has the shard, as the name of the server that has it means
     * nothing here: since which generation; else 0. */
    int64_t searched;
    hvi_server *asker; /* the server that gave that name */
} hvi_way;

struct hvi_operation {
    const hvi_verb *verb;
    hvi_repeat repeat;
    hvi_target target;
    hvi_item item;    /* what it sends now */
    hvi_buffer body;  /* the item's, if it has one; owned */
    int part_count;   /* of the body */
    int64_t deadline; /* hvi_clock_us() */
    bool apart;       /* it goes in a transaction of its own */
    int pause_ms;     /* after HVI_PAUSE */
    /* It is a part of a transaction that is open: after a failure it has had no effect, and is not
     * repeated, since the transaction has failed with it. */
    bool in_transaction;

    /* The course of its tries so far. */
    bool swallowed;      /* the put was swallowed, together with others */
    bool unknown;        /* an earlier try may have succeeded */
    unsigned lost;       /* connections that broke under it */
    unsigned stale;      /* … or that had cached something that no longer exists */
    unsigned collisions; /* made keys that had an entity */
    unsigned hidden;     /* times that its key had an entity that could not be found */
    unsigned unchanged;  /* times that a change did not happen though nothing was in the way */
    unsigned conflicts;  /* deadlocks and the like that a change was in */
    hv_error *refusal;   /* while it is looked into: why a put under a key stored nothing; owned */
    hv_error *cause;     /* the last obstacle that it waits out; owned */

    /* Its shard is missing where it should be, and it asks where that is. */
    hvi_way way;

    /* Of put_once: keys reserved with earlier puts, and when the next one was asked for. */
    hvi_key_cache *reserved;
    int64_t asked_at;

    /* The operation's results, once it is done. */
    hv_status status;
    int64_t key;       /* the one that was given, or made; 0: none */
    int64_t *keys;     /* of reserve: where they go; not owned */
    hv_entity *entity; /* owned, until it is taken, like the error */
    PGresult **answer; /* of a question: where it goes; not owned */
    hv_error *error;
};

/* Set up an operation for a shard, or for the shard of a key. Its target is settled before it is
 * run, or by its queue. Errors: as hvi_target_init_later(). */
hv_status hvi_operation_init(hvi_operation *operation, const hvi_verb *verb, hvi_router *router,
                             int shard, hv_error **error);
hv_status hvi_operation_init_key(hvi_operation *operation, const hvi_verb *verb, hvi_router *router,
                                 int64_t key, hv_error **error);

/*
 * Append a part to the body of the item. Errors: HV_INVALID if the body grows too large for one
 * message, HV_NO_MEMORY.
 */
hv_status hvi_operation_add_part(hvi_operation *operation, const hv_dict *dict, hv_error **error);
hv_status hvi_operation_add_text(hvi_operation *operation, const char *text, hv_error **error);

/* Frees what was not taken. */
void hvi_operation_fini(hvi_operation *operation);

/* Prepare its item, before it travels (again). */
void hvi_operation_prepare(hvi_operation *operation);

/* Its item has come back and has its fate: returns what is next. */
hvi_next hvi_operation_take(hvi_operation *operation);

/* Its shard is on this server: what it has stopped to send goes there. HV_MISMATCH if it has been
 * sent around. */
hvi_next hvi_operation_follow(hvi_operation *operation, hvi_server *server);

/* After HVI_PAUSE: pause. False if there is no time for that; then it is done. */
bool hvi_operation_wait(hvi_operation *operation);

/* Its deadline has passed; `is_sent`: while its statement was running. Always HVI_DONE. */
hvi_next hvi_operation_late(hvi_operation *operation, bool is_sent);

/* ---- for the verbs ---- */

/* The ends. */
hvi_next hvi_operation_done(hvi_operation *operation, hv_status status);
/* Fail for good. Takes *cause. If an earlier try may have succeeded, the error says so. */
hvi_next hvi_operation_fail(hvi_operation *operation, hv_error **cause);

/* Fail because an earlier try may have succeeded, and what was found since then does not say. */
hvi_next hvi_operation_fail_unknown(hvi_operation *operation);

/* Go again, with this verb's statement. */
hvi_next hvi_operation_again(hvi_operation *operation, const hvi_verb *sends, bool apart);

/* The same after a pause, because of *cause, which is taken; NULL: for the earlier reason. */
hvi_next hvi_operation_pause(hvi_operation *operation, const hvi_verb *sends, bool apart, int ms,
                             hv_error **cause);

#endif
