/*
 * statement_texts: the texts of statements that are made while the program runs, each with a name,
 * so that connections can keep them prepared.
 *
 * A text that was seen is kept as long as the table: the lists of prepared statements refer to its
 * name. So there is room for a limited number, and texts that come later are not kept prepared.
 * Their bytes are limited because of the servers: the plan of a statement takes about a hundred
 * times as many, in each process that keeps it. Thread-safe; a forked child keeps the table.
 */
#ifndef HVI_STATEMENT_TEXTS_H
#define HVI_STATEMENT_TEXTS_H

#include <pthread.h>

#include "base/error.h"
#include "base/fork.h"

#define HVI_STATEMENT_TEXTS_MAX       1024
#define HVI_STATEMENT_TEXTS_MAX_BYTES ((size_t) 2 << 20)
#define HVI_STATEMENT_TEXT_BUCKETS    256

typedef struct hvi_statement_texts {
    hvi_fork_member fork;
    pthread_mutex_t lock; /* guards the rest */
    size_t count;
    size_t bytes;
    struct hvi_statement_text *buckets[HVI_STATEMENT_TEXT_BUCKETS]; /* chains; owned */
} hvi_statement_texts;

hv_status hvi_statement_texts_init(hvi_statement_texts *texts, hv_error **error);
void hvi_statement_texts_fini(hvi_statement_texts *texts);

/*
 * The name of the statement with this text, such as "page_17", for hvi_statement_id.verb; the same
 * pointer for the same text. `what` is its first part, of up to eight letters. NULL: there is no
 * room or no memory to keep it.
 */
const char *hvi_statement_texts_name(hvi_statement_texts *texts, const char *what, const char *text,
                                     size_t len);

#endif
