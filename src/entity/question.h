/*
 * question: an operation that asks a server something, with a statement of its own (see ask.h). It
 * is never joined with others into one statement. As any read it is repeated once if its connection
 * is lost.
 */
#ifndef HVI_QUESTION_H
#define HVI_QUESTION_H

#include "entity/ask.h"
#include "entity/operation.h"

/*
 * Set up an operation that asks this server; from now on it owns the ask. `shard` is the only one
 * that the question is about, or -1. Once it is done with HV_OK, *to is the answer, which has the
 * form that the ask expects; an older result there is cleared. The place must last as long as the
 * operation.
 */
void hvi_question_init(hvi_operation *operation, hvi_ask *ask, hvi_router *router,
                       hvi_server *server, int shard, PGresult **to);

/* ---- for the table of verbs ---- */

hvi_next hvi_question_answered(hvi_operation *operation);

#endif
