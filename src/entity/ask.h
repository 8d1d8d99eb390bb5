/*
 * ask: a statement that only reads, and that no row of the table of verbs holds, because it depends
 * on what is asked: a page of many shards, a count. Its operation is a question: see question.h.
 *
 * The code that asks embeds a hvi_ask in a struct of its own.
 */
#ifndef HVI_ASK_H
#define HVI_ASK_H

#include "wire/result.h"
#include "wire/session.h"

typedef struct hvi_ask hvi_ask;

struct hvi_ask {
    const hvi_form *answer; /* what is expected; its columns are binary */
    /* Set the query's text, its parameters and, if it is to be kept prepared, its id. They must
     * last as long as the ask, or until this is called again. False if memory is short. */
    bool (*query)(hvi_ask *ask, const hvi_session *session, hvi_query *query);
    /* Does this answer, of that form, show that the session should not be used again? NULL: no. */
    bool (*is_misplaced)(const PGresult *result);
    void (*free)(hvi_ask *ask);
    PGresult *result; /* the last answer, of whatever form; owned, until it is taken */
};

/* It has this answer. Takes *result. */
void hvi_ask_give(hvi_ask *ask, PGresult **result);

/* Frees it; NULL is allowed. */
void hvi_ask_free(hvi_ask *ask);

#endif
