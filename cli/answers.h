/*
 * answers: the rows that SQL returns on several shards, as one table, CSV or NDJSON.
 *
 * The first answer with rows decides on the columns; all others must have the same. Before them is
 * the column "shard", or "server". Two columns of one name become "name" and "name_2". What a
 * statement without rows did ("UPDATE 5") is counted over all shards.
 *
 * In NDJSON, NULL is null, booleans are true and false, numbers of up to 15 digits are numbers, and
 * everything else is a string. In CSV, NULL is an empty field, and an empty text is "".
 */
#ifndef ANSWERS_H
#define ANSWERS_H

#include "hypervault.h"
#include "rows/format.h"

typedef struct answers answers;

/* `format` NULL: a table. `per_server`: an answer is a server's. */
answers *answers_new(const hv_store *store, const row_format *format, bool per_server);
void answers_free(answers *all);

/* Add one; it is shown a little later at the latest. False: its columns are not those of the
 * others, and it was left out. */
bool answers_add(answers *all, const hv_shard_answer *answer);

/* Show what was added some time ago; called again and again while the next answer is awaited. */
void answers_show_old(answers *all);

/* Show all of it, and what statements without rows did. */
void answers_end(answers *all);

/* Report the shards whose columns were different. False: there were none. */
bool answers_say_different(answers *all);
size_t answers_different(const answers *all);

#endif
