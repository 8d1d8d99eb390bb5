/*
 * stream: a shard's rows and changes on their way from one server to another, by PostgreSQL's
 * logical replication.
 *
 * PostgreSQL applies changes to the table of the name that was published. But the copy must not
 * have the name that the live tables have, or somebody would write to it. So the publisher has a
 * schema with the stream's name, and in it a partitioned table, a root, for each live table, which
 * is its only partition. The publication publishes the roots; the subscriber has plain tables of
 * the same names in a schema of that name. A table "marker" on both sides is written to, to see how
 * far the stream has come.
 *
 *     publisher                                   subscriber
 *     shard0012.entities ── partition of ──►
 *     hypervault_0012_1a2b3c4d.entities ──────►   hypervault_0012_1a2b3c4d.entities
 *     hypervault.hypervault_0012_1a2b3c4d ────►   hypervault.hypervault_0012_1a2b3c4d
 *
 * DANGER: dropping a root drops its partition, which is the live table. So no function here drops a
 * root that has one, nor anything with CASCADE that may hold roots.
 */
#ifndef HVI_STREAM_H
#define HVI_STREAM_H

#include "move/link.h"
#include "move/names.h"

typedef struct hvi_stream {
    hvi_link *publisher, *subscriber; /* open, or NULL: cannot be reached, where that is allowed */
    int shard;
    const char *name;   /* of all of its objects; the schema of the copy */
    const char *tables; /* the schema of the publisher's tables: "shard0012" */
    const hvi_server_options *publisher_options; /* how the subscriber reaches it */
    int lock_ms; /* how long a lock that stops the callers is waited for */
} hvi_stream;

/* SQL: has the type of the column `a` a default operator class for this access method? So the
 * server asks when a table is to be partitioned by it, or two rows are to be compared. */
#define HVI_STREAM_HAS_CLASS(method)                                                            \
    "EXISTS (SELECT FROM pg_catalog.pg_type AS y JOIN pg_catalog.pg_type AS b"                  \
    " ON b.oid OPERATOR(pg_catalog.=) CASE WHEN y.typtype OPERATOR(pg_catalog.=) 'd'"           \
    " THEN y.typbasetype ELSE y.oid END"                                                        \
    " JOIN pg_catalog.pg_opclass AS o ON o.opcdefault JOIN pg_catalog.pg_am AS m"               \
    " ON m.oid OPERATOR(pg_catalog.=) o.opcmethod AND " method                                  \
    " WHERE y.oid OPERATOR(pg_catalog.=) a.atttypid"                                            \
    " AND (o.opcintype OPERATOR(pg_catalog.=) b.oid"                                            \
    " OR o.opcintype OPERATOR(pg_catalog.=) CASE"                                               \
    " WHEN b.typtype OPERATOR(pg_catalog.=) 'e' THEN 'pg_catalog.anyenum'::pg_catalog.regtype"  \
    " WHEN b.typtype OPERATOR(pg_catalog.=) 'r' THEN 'pg_catalog.anyrange'::pg_catalog.regtype" \
    " WHEN b.typtype OPERATOR(pg_catalog.=) 'm'"                                                \
    " THEN pg_catalog.to_regtype('pg_catalog.anymultirange')"                                   \
    " WHEN b.typtype OPERATOR(pg_catalog.=) 'c' THEN 'pg_catalog.record'::pg_catalog.regtype"   \
    " WHEN b.typcategory OPERATOR(pg_catalog.=) 'A'"                                            \
    " THEN 'pg_catalog.anyarray'::pg_catalog.regtype END"                                       \
    " OR EXISTS (SELECT FROM pg_catalog.pg_cast AS k"                                           \
    " WHERE k.castsource OPERATOR(pg_catalog.=) b.oid"                                          \
    " AND k.casttarget OPERATOR(pg_catalog.=) o.opcintype"                                      \
    " AND k.castmethod OPERATOR(pg_catalog.=) 'b'"                                              \
    " AND k.castcontext OPERATOR(pg_catalog.=) 'i')))"

#define HVI_STREAM_IS_ORDERED HVI_STREAM_HAS_CLASS("m.amname OPERATOR(pg_catalog.=) 'btree'")
#define HVI_STREAM_IS_COMPARED                                      \
    HVI_STREAM_HAS_CLASS("(m.amname OPERATOR(pg_catalog.=) 'btree'" \
                         " OR m.amname OPERATOR(pg_catalog.=) 'hash')")

/* ---- on the publisher ---- */

/*
 * Make the schema, the roots and the publication, in place of what an interrupted try has left.
 * Attaching the roots stops the callers for a moment: it is one transaction, which gives up with
 * HVI_SQLSTATE_LOCK after lock_ms. `is_empty`: the publication has no tables yet, see
 * hvi_stream_add_sql().
 */
hv_status hvi_stream_publish(const hvi_stream *stream, bool is_empty, int64_t deadline,
                             hv_error **error);
#define HVI_SQLSTATE_LOCK "55P03" /* lock_not_available */

/* Append the statement that adds the roots to an empty publication. */
hv_status hvi_stream_add_sql(const hvi_stream *stream, hvi_buffer *sql, int64_t deadline,
                             hv_error **error);

/* Begin to make the slot; an old one must have been dropped. It waits for all transactions that are
 * running now, so this only starts it on the publisher's link: go on with hvi_link_advance(). */
hv_status hvi_stream_slot_start(const hvi_stream *stream, hv_error **error);

/* A statement that raises HVI_SQLSTATE_REWRITTEN if a live table was truncated since its root was
 * attached, which the stream does not carry; for the caller's transaction with the tables' locks.
 */
void hvi_stream_whole_sql(const hvi_stream *stream, hvi_buffer *sql);
#define HVI_SQLSTATE_REWRITTEN "55000" /* object_not_in_prerequisite_state */

/* Statements that detach the roots and drop them, for a transaction of the caller's that has the
 * live tables' locks; they raise an error if a root would take its table along. */
void hvi_stream_detach_sql(const hvi_stream *stream, hvi_buffer *sql);

/* Remove publication, roots and schema, as far as they are there. As hvi_stream_publish() it may be
 * refused with HVI_SQLSTATE_LOCK. */
hv_status hvi_stream_unpublish(const hvi_stream *stream, int64_t deadline, hv_error **error);

/* Remove the slot, if it is there; what is connected to it is ended. Errors: HV_REFUSED with
 * HVI_SQLSTATE_IN_USE: it has not ended yet. */
hv_status hvi_stream_drop_slot(const hvi_stream *stream, int64_t deadline, hv_error **error);
#define HVI_SQLSTATE_IN_USE "55006" /* object_in_use */

/* Of a subscriber that is gone for good, whose system identifier this is: remove the slots with
 * which it copied tables, as far as nothing is connected to them. */
hv_status hvi_stream_drop_table_slots(const hvi_stream *stream, const char *system,
                                      int64_t deadline, hv_error **error);

/* ---- on the subscriber ---- */

/* Subscribe. The tables must be there. `copy`: they must be empty, and it is in place of an old
 * subscription; otherwise one that is there goes on. */
hv_status hvi_stream_subscribe(const hvi_stream *stream, bool copy, int64_t deadline,
                               hv_error **error);

/* Would it be possible? Makes a subscription, and takes it back. The publication must be there. */
hv_status hvi_stream_try_subscribing(const hvi_stream *stream, int64_t deadline, hv_error **error);

/* Remove the subscription, if it is there, and the slots with which it was copying tables; not the
 * stream's own slot. The publisher may be NULL: cannot be reached. */
hv_status hvi_stream_unsubscribe(const hvi_stream *stream, int64_t deadline, hv_error **error);

/* ---- how far it is ---- */

typedef struct hvi_stream_state {
    int tables, ready;        /* of the subscription; how many have been copied and follow */
    int64_t rows, rows_total; /* copied; the total is an estimate */
    int64_t bytes, bytes_total;
    int64_t lag_bytes;      /* of WAL that the subscriber has not confirmed; -1: unknown */
    int64_t retained_bytes; /* of WAL that the slot keeps; -1: unknown */
    bool is_lost;           /* the publisher has removed WAL that the slot needs, or the slot */
    bool is_rewritten;      /* a table was truncated or so, see hvi_stream_whole_sql() */
    bool is_working;        /* the subscription's worker runs */
    int64_t failures;       /* how often the subscription's workers have failed */
} hvi_stream_state;

hv_status hvi_stream_look(const hvi_stream *stream, int64_t deadline, hvi_stream_state *state,
                          hv_error **error);

/* Only what the publisher knows, while the subscriber's link is busy. */
hv_status hvi_stream_look_at_publisher(const hvi_stream *stream, int64_t deadline,
                                       hvi_stream_state *state, hv_error **error);

/* Only retained_bytes and is_lost, as any session of the publisher can see them. */
hv_status hvi_stream_look_at_slot(const hvi_stream *stream, hvi_link *link, int64_t deadline,
                                  hvi_stream_state *state, hv_error **error);

/* Write the next marker; after all that is committed on the publisher now. */
hv_status hvi_stream_mark(const hvi_stream *stream, int64_t deadline, int64_t *number,
                          hv_error **error);

/* Has the subscriber applied it, and so all before it? */
hv_status hvi_stream_arrived(const hvi_stream *stream, int64_t number, int64_t deadline,
                             bool *arrived, hv_error **error);

#endif
