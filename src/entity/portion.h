/*
 * portion: the shards of a selection, by server, in portions that share a statement.
 */
#ifndef HVI_PORTION_H
#define HVI_PORTION_H

#include "pool/router.h"
#include "value/selection.h"
#include "entity/missing.h"

/* The most shards of a portion. Planning a statement takes the server some 50 µs for each. */
#define HVI_PORTION_MAX 64

/* Shards of one server, in ascending order. */
typedef struct hvi_portion {
    hvi_server *server;
    const int16_t *shards; /* its hvi_portions' */
    int count;             /* at least 1 */
} hvi_portion;

typedef struct hvi_portions {
    hvi_portion *items; /* owned */
    size_t count;       /* may be 0 */
    int16_t *shards;    /* of all of them; owned */
} hvi_portions;

/*
 * Find out which shards are meant, and divide them. What is skipped goes to `missing`. Errors:
 * HV_NO_SERVER for a shard that no server holds, HV_INVALID for a server to be skipped that does
 * not exist, HV_NO_MEMORY.
 */
hv_status hvi_portions_init(hvi_portions *portions, hvi_router *router,
                            const hv_selection *selection, hvi_missing *missing, hv_error **error);
void hvi_portions_fini(hvi_portions *portions);

/* Is this one of its shards? */
bool hvi_portion_has(const hvi_portion *portion, int shard);

/* Append its shards as the configuration writes them: "0-16,20". */
void hvi_portion_text(const hvi_portion *portion, hvi_buffer *text);

#endif
