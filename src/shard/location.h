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

typedef struct hvi_location {
    int shard;
    hvi_location_state state;
    int64_t generation;
    char
        *server; /* gone: where to; arriving: where from. As in hypervault.layout; else "". Owned */
} hvi_location;

/*
 * Make the schema hypervault, the table and the function where they are missing, with the rights of
 * all to use them. Errors: HV_REFUSED (with a hint, if a right is lacking) and those of
 * hvi_session_script().
 */
hv_status hvi_location_create(hvi_session *session, int64_t deadline, hv_error **error);

/* The row of a shard. HVI_LOCATION_NONE also if there is no table, or none that may be read.
 * hvi_location_fini() it. */
hv_status hvi_location_read(hvi_session *session, int shard, int64_t deadline,
                            hvi_location *location, hv_error **error);
void hvi_location_fini(hvi_location *location);

/* All rows, in the order of the shards, likewise: hvi_locations_free() them. */
hv_status hvi_locations_read(hvi_session *session, int64_t deadline, hvi_location **locations,
                             size_t *count, hv_error **error);
void hvi_locations_free(hvi_location *locations, size_t count);

/* The row of a shard among them, or NULL. */
const hvi_location *hvi_location_find(const hvi_location *locations, size_t count, int shard);

/* Let the router know what a server's rows say: where shards have gone, and which are here. */
void hvi_locations_apply(const hvi_location *locations, size_t count, hvi_router *router,
                         int server);

/* Append a statement, ending with a semicolon, that writes the row of a shard. `publish`: for
 * HVI_LOCATION_ARRIVING, the SQL that publishes; else "". */
void hvi_location_write(hvi_buffer *sql, int shard, hvi_location_state state, int64_t generation,
                        const char *server, const char *publish);

/* … that removes it, if it has this state and generation. */
void hvi_location_remove(hvi_buffer *sql, int shard, hvi_location_state state, int64_t generation);

/*
 * Publish a shard that arrives with this generation. *is_here: it is here now. Only after having
 * read that it is gone from the other server with this generation. Errors: HV_REFUSED, 42501 if the
 * role may not.
 */
hv_status hvi_location_publish(hvi_session *session, int shard, int64_t generation,
                               int64_t deadline, bool *is_here, hv_error **error);

/* Does this refusal mean that the server has no such table, or none that the role may read? */
bool hvi_location_is_unknown(const hv_error *refusal);

#endif
