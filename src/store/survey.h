/*
 * survey: ask all servers something about their shards, at once, while the caller waits.
 *
 * Each portion of shards is asked with one statement. If the server refuses that, its shards are
 * asked one by one, to find out which is at fault. With a partial selection it goes on without what
 * has failed.
 */
#ifndef HVI_SURVEY_H
#define HVI_SURVEY_H

#include "entity/ask.h"
#include "entity/portion.h"
#include "store/store.h"

typedef struct hvi_survey {
    hv_store *store;
    const hv_selection *selection; /* whether it is partial, and the time for each answer */
    hvi_missing *missing;          /* what has failed, if it is partial */
    void *context;
    /* What to ask; NULL if memory is short. */
    hvi_ask *(*ask)(void *context, hvi_portion portion);
    /* The answer, of the form that was expected. Not HV_OK: it is a failure of the portion. */
    hv_status (*answer)(void *context, hvi_portion portion, const PGresult *result,
                        hv_error **error);
    /* Is this failure the caller's fault, so that it ends the survey as it is? NULL: never. */
    bool (*is_final)(void *context, hv_error **cause);
} hvi_survey;

/* Ask about these portions; the caller has entered the store. Errors: as hv_get(), and what
 * `answer` returns. */
hv_status hvi_survey_run(const hvi_survey *survey, const hvi_portion *portions, size_t count,
                         hv_error **error);

#endif
