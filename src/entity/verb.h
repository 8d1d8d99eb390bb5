/*
 * verb: what can be done with entities: a row of data and functions for each verb.
 *
 * The table is verbs.c; the functions of a row are in the file of its verb. The modules that send
 * operations and bring answers back (group, batch, lane, and the queues of a store) know no verb by
 * name.
 */
#ifndef HVI_VERB_H
#define HVI_VERB_H

#include "wire/result.h"
#include "entity/ask.h"

typedef struct hvi_verb hvi_verb;
typedef struct hvi_operation hvi_operation;

/* The most parts of a body. */
#define HVI_PARTS_MAX 5

/* How a statement ended. */
typedef enum hvi_fate {
    HVI_FATE_ANSWERED,
    HVI_FATE_REFUSED, /* by the server: nothing of it has happened */
    HVI_FATE_LOST,    /* the connection was lost, time ran out, or memory is short */
    HVI_FATE_UNSENT,  /* no connection was available for it */
    HVI_FATE_BEHIND,  /* not sent: it comes after another one on its key, which may not be done */
} hvi_fate;

/* One operation's part of a statement: its parameters, and what the statement gave it. */
typedef struct hvi_item {
    const hvi_verb *verb; /* whose statement it is */
    int shard;
    int64_t key;
    int kind;
    int count;          /* how many keys are to be reserved */
    int if_kind;        /* of a condition: or HVI_ANY_KIND */
    int64_t generation; /* of the shard that is to be published */
    hvi_ask *ask;       /* of a question: its statement; its operation's. Else NULL */
    const char *body;   /* its parts, one after the other; not owned */
    size_t body_len;
    size_t ends[HVI_PARTS_MAX]; /* where each part ends; a put has one, the attributes */

    unsigned place; /* in its batch: items with one key keep their order; the next is private … */
    unsigned turn;  /* … to hvi_groups_make() */
    bool shares_key; /* another item of the batch has the same key, and one of them writes */

    hvi_fate fate;
    const hv_error *error;  /* NULL if answered, unless in another form; owned by the batch */
    bool answered;          /* found, stored, changed, or reserved */
    bool swallowed;         /* not stored or changed, without an error, and for no known reason */
    bool is_there;          /* of a change: there is an entity … */
    bool holds;             /* … and the condition holds */
    int64_t new_key;        /* the key that was made, or the first or next one that was reserved */
    const PGresult *result; /* what was found; its batch's, in … */
    int row;                /* … this row */
} hvi_item;

/* A parameter: for many items, an array of these. Names are an hstore, with NULL as the values. */
typedef enum hvi_parameter {
    HVI_NO_PARAMETER,
    HVI_KEY,        /* bigint */
    HVI_KIND,       /* smallint */
    HVI_COUNT,      /* integer; for many items their sum, not an array */
    HVI_IF_KIND,    /* integer */
    HVI_BODY,       /* part 0: hstore, attributes to be stored or set */
    HVI_NAMES,      /* part 0: hstore, names of attributes to be read */
    HVI_ATTRIBUTE,  /* part 0: text */
    HVI_REMOVE,     /* part 1: hstore, names */
    HVI_AMOUNT,     /* part 1: text */
    HVI_HAS,        /* part 2: hstore, of a condition, like the rest */
    HVI_LACKS,      /* part 3: hstore, names */
    HVI_VERSION,    /* part 4: text; or empty */
    HVI_SHARD,      /* integer; never an array, like the next, as all items have the same shard */
    HVI_GENERATION, /* bigint; that of the first item */
    HVI_PARAMETERS
} hvi_parameter;

#define HVI_PARAMETERS_MAX 7

/* The statement that a verb sends: for one item, or for many of one shard. */
typedef struct hvi_verb_statement {
    const char *name; /* "put_many": the log and pg_prepared_statements show hv_put_many_0012 */
    /* %s is the shard's schema, %h that of hstore, %b the column body as it is to be read: see
     * hvi_body_column(). */
    const char *sql;
    hvi_form answer;
    /* Fill in what an answer of that form gave each item; the items are sorted by key. False if it
     * is an answer to something else. */
    bool (*read)(hvi_item *const *items, size_t count, const PGresult *result);
} hvi_verb_statement;

/* The next step of an operation. */
typedef enum hvi_next {
    HVI_DONE,
    HVI_AGAIN, /* its item travels (again); if it is to go `apart`, in a transaction of its own */
    HVI_PAUSE, /* the same, after its pause */
} hvi_next;

struct hvi_verb {
    /* Does it store something, so that it must not be repeated when it may have happened? */
    bool is_write;
    bool is_change; /* of an entity that is there, whose row it locks */
    bool is_conditional;
    /* Does its answer settle it, so that later operations on its key may be in the same batch? */
    bool is_settled;
    /* Is `one` refused if the key has an entity, which would undo everything else in its
     * transaction? Then `many` is used even for one item that shares a transaction, or is a part of
     * one that is open. */
    bool refuses_taken_keys;
    /* Of a write under a key, for the error if nothing is known of its outcome: what was done, such
     * as "a put under the key", and the hint. */
    const char *deed;
    const char *if_unknown;
    /* Of a change: the verb that does the same to an entity that it has locked; NULL: this one. */
    const hvi_verb *locking;
    uint8_t parameters[HVI_PARAMETERS_MAX]; /* hvi_parameter */
    hvi_verb_statement one;
    hvi_verb_statement many; /* without a name: `one` serves for many, too */

    /* ---- its part of an operation's state machine: see operation.h ---- */

    /* Called before it travels; may be NULL. */
    void (*prepare)(hvi_operation *operation);
    /* The item that it sent, of this verb or of another, has been answered. */
    hvi_next (*answered)(hvi_operation *operation);
    /* The server refused it. Takes *cause. May be hvi_operation_fail(). */
    hvi_next (*refused)(hvi_operation *operation, hv_error **cause);
};

extern const hvi_verb hvi_get;
extern const hvi_verb hvi_get_versioned;
extern const hvi_verb hvi_get_only; /* chosen attributes; versioned, too */
extern const hvi_verb hvi_exists;
extern const hvi_verb hvi_put;      /* under a new key */
extern const hvi_verb hvi_put_key;  /* under a given one, unless it has an entity */
extern const hvi_verb hvi_put_once; /* under a reserved one, and reserve a key for the next */
extern const hvi_verb hvi_reserve;  /* unused keys */
extern const hvi_verb hvi_replace;
extern const hvi_verb hvi_merge;
extern const hvi_verb hvi_delete;
extern const hvi_verb hvi_replace_if; /* with a condition, like the next */
extern const hvi_verb hvi_merge_if;
extern const hvi_verb hvi_delete_if;
extern const hvi_verb hvi_increment; /* with or without */
extern const hvi_verb hvi_question;  /* see question.h; its statement is its ask's */
extern const hvi_verb hvi_where;     /* is the shard there? */

/* What any operation sends whose shard has moved: see locate.h. */
extern const hvi_verb hvi_locate;
extern const hvi_verb hvi_publish;

/* Not a verb of an operation: locks the rows of changes, before changes of several verbs. */
extern const hvi_verb hvi_lock_rows;

/* The statement that the item sends, if it is its question's and no verb's. */
static inline hvi_ask *hvi_item_ask(const hvi_item *item) {
    return item->verb == &hvi_question ? item->ask : NULL;
}

/* The column body, binary or, `as_text`, in hstore's text form: see hvi_session.reads_text. */
static inline const char *hvi_body_column(bool as_text) {
    return as_text ? "body::pg_catalog.text" : "body";
}

#endif
