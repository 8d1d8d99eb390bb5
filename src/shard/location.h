/*
 * location: what a server records about where its shards are.
 *
 * A shard is on the server that has its schema under the live name, "shard0012"; other copies have
 * other names. The table hypervault.shard_locations says where a shard went that was here, and that
 * one is about to arrive. The generation of a shard grows by 1 with each switch, over all servers:
 * of two servers, the one with the higher generation knows better. A shard without a row is here if
 * its schema is, with the generation 0.
 *
 * Everybody may read the table. hypervault.publish_shard() completes a switch: everybody may call
 * it that may use the shard's entities, after having read on the old server that the shard is gone.
 * Rows are written by those that may write the table: its owner, as a rule.
 */
#ifndef HVI_LOCATION_H
#define HVI_LOCATION_H

#include "base/buffer.h"
#include "wire/session.h"
#include "pool/router.h"

typedef enum hvi_location_state {
    HVI_LOCATION_NONE,     /* no row, or no table */
    HVI_LOCATION_HERE,     /* published here */
    HVI_LOCATION_GONE,     /* to another server; the row stays until the shard comes back */
    HVI_LOCATION_ARRIVING, /* here as soon as it is published, with this generation */
} hvi_location_state;

/* The states' texts in the table: "here"; "" for none. */
const char *hvi_location_state_name(hvi_location_state state);
hvi_location_state hvi_location_state_of(const char *name);

#define HVI_LOCATION_SERVER_LEN 256

typedef struct hvi_location {
    int shard;
    hvi_location_state state;
    int64_t generation;
    /* gone: where to; arriving: where from. A name as in hypervault.layout; else "" */
    char server[HVI_LOCATION_SERVER_LEN];
    int64_t age; /* ms since the row was changed, by the server's clock */
} hvi_location;

/*
 * Make the schema hypervault, the table and the function where they are missing, with the rights of
 * all to use them. Errors: HV_REFUSED (with a hint, if a right is lacking) and those of
 * hvi_session_script().
 */
hv_status hvi_location_prepare(hvi_session *session, int64_t deadline, hv_error **error);

/* ---- reading ---- */

/* The row of a shard. HVI_LOCATION_NONE also if there is no table, or none that may be read. */
hv_status hvi_location_read(hvi_session *session, int shard, int64_t deadline,
                            hvi_location *location, hv_error **error);

/* Is the shard's schema here, under the live name? */
hv_status hvi_location_has_schema(hvi_session *session, int shard, int64_t deadline, bool *has,
                                  hv_error **error);

/* All rows, in the order of the shards: free() *locations. */
hv_status hvi_location_read_all(hvi_session *session, int64_t deadline, hvi_location **locations,
                                size_t *count, hv_error **error);

/* The row of a shard among them, or NULL. */
const hvi_location *hvi_location_find(const hvi_location *locations, size_t count, int shard);

/* Let the router know what a server's rows say: where shards have gone, and which are here. */
void hvi_location_apply(const hvi_location *locations, size_t count, hvi_router *router,
                        int server);

/* ---- writing ---- */

/* Append a statement, ending with a semicolon, that writes the row of a shard. `publish`: for
 * HVI_LOCATION_ARRIVING, the SQL that publishes; else "". */
void hvi_location_write(hvi_buffer *sql, int shard, hvi_location_state state, int64_t generation,
                        const char *server, const char *publish);

/* The same for a shard that is gone, for the transaction that renames the schema: it fails if the
 * row has this generation already, or a higher one. */
void hvi_location_gone(hvi_buffer *sql, int shard, int64_t generation, const char *to);

/* A shard is about to arrive from another server; `publish`: the SQL that publishes it. */
hv_status hvi_location_arriving(hvi_session *session, int shard, int64_t generation,
                                const char *from, const char *publish, int64_t deadline,
                                hv_error **error);

/* It will not arrive: give back the row that was there before, or none. Nothing is changed if the
 * row does not say that it arrives. */
hv_status hvi_location_restore(hvi_session *session, const hvi_location *before, int64_t deadline,
                               hv_error **error);

/*
 * Publish a shard that arrives with this generation. *state: what it is now; HERE also if it has
 * been published already. Only after having read that it is gone from the other server with this
 * generation. Errors: HV_REFUSED, 42501 if the role may not.
 */
hv_status hvi_location_publish(hvi_session *session, int shard, int64_t generation,
                               int64_t deadline, hvi_location_state *state, hv_error **error);

/* Does this refusal mean that the server has no such table, or none that the role may read? */
bool hvi_location_is_unknown(const hv_error *refusal);

#endif
