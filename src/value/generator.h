/*
 * generator: the functions in a shard that make its keys.
 *
 * A shard has next_id(), which is the default of entities.id, and reserve_ids(n). There are three
 * generators:
 *
 *  - strict: the extension `hypervault` keeps the last key in the shard's sequence table_id_seq.
 *    Keys are unique and increase, whatever the clock and the load do.
 *  - portable: plain SQL, for servers where no extension can be installed. next_id() combines the
 *    clock with nextval() modulo 896. It may make a key twice when the clock steps back or a shard
 *    makes more than 896 keys in a millisecond; the primary key then refuses the second entity, and
 *    hv_put() takes another key. reserve_ids() has the other 128 values of added_id for itself and
 *    a sequence of its own, which it advances under a lock: it never returns a key twice, nor one
 *    that next_id() makes.
 *  - original: any other next_id(), such as the one in "Sharding & IDs at Instagram" (2012); no
 *    reserve_ids().
 */
#ifndef HVI_GENERATOR_H
#define HVI_GENERATOR_H

#include "base/buffer.h"

typedef enum hvi_generator {
    HVI_GENERATOR_NONE, /* no next_id() */
    HVI_GENERATOR_ORIGINAL,
    HVI_GENERATOR_PORTABLE,
    HVI_GENERATOR_STRICT,
} hvi_generator;

/* The oldest version of the extension that will do. */
#define HVI_EXTENSION_VERSION "1.0"

/* The hint where strict keys cannot be made because the extension is missing or does not work. */
extern const char hvi_generator_extension_hint[];

/* Is that what a server's error is about? */
bool hvi_generator_lacks_extension(const char *sqlstate, const char *message);

/* The most keys that one call of reserve_ids() returns. */
#define HVI_RESERVE_MAX 100000

/* An SQL expression for the hvi_generator, as an integer, of a row `f` of pg_proc, which may be all
 * NULL. */
#define HVI_GENERATOR_OF_FUNCTION                                                               \
    "CASE WHEN f.oid IS NULL THEN 0"                                                            \
    " WHEN pg_catalog.strpos(f.prosrc, 'hypervault.next_id(') OPERATOR(pg_catalog.>) 0 THEN 3"  \
    " WHEN pg_catalog.strpos(f.prosrc, 'hypervault: portable') OPERATOR(pg_catalog.>) 0 THEN 2" \
    " ELSE 1 END"

/*
 * Append a statement of PL/pgSQL that fails (SQLSTATE 2200H) unless keys of this epoch can hold the
 * server's current time.
 */
void hvi_generator_require_epoch(hvi_buffer *sql, int64_t epoch);

/*
 * An SQL expression: was the next_id() of that row made by an earlier version of hypervault, whose
 * operators or types are looked up by the caller's search_path? A boolean; NULL without a function.
 * False for a function that hypervault did not make: it is taken as it is.
 */
#define HVI_GENERATOR_IS_OLD                                                              \
    "(pg_catalog.strpos(f.prosrc, 'hypervault: portable') OPERATOR(pg_catalog.>) 0"       \
    "   AND pg_catalog.strpos(f.prosrc, 'OPERATOR(pg_catalog.') OPERATOR(pg_catalog.=) 0" \
    " OR f.prosrc OPERATOR(pg_catalog.~) '^[[:space:]]*SELECT hypervault[.]next_id[(]"    \
    "''shard[0-9]{4}[.]table_id_seq''::regclass, [0-9]+, -?[0-9]+[)][[:space:]]*$')"

/*
 * Did an earlier version of hypervault make the reserve_ids() of a row `r` of pg_proc, and may the
 * session's user replace it? NULL without a function. It returns the same keys more slowly, because
 * it plans a query over generate_series() at each call; a shard that has it is ready.
 */
#define HVI_GENERATOR_IS_SLOW                                                         \
    "(pg_catalog.strpos(r.prosrc, 'hypervault: portable') OPERATOR(pg_catalog.>) 0"   \
    "   AND pg_catalog.strpos(r.prosrc, 'generate_series(') OPERATOR(pg_catalog.>) 0" \
    "   AND pg_catalog.pg_has_role(r.proowner, 'USAGE'))"

/* Append the statement that gives a shard with portable keys the reserve_ids() of this version.
 * The shard may be in use: both versions take the same lock and count with the same sequence. */
void hvi_generator_renew(hvi_buffer *sql, int shard, int64_t epoch);

/* Append the statements that create these functions in a new shard, whose schema and sequence
 * table_id_seq are there. The statements may also stand inside a block of PL/pgSQL. */
void hvi_generator_create(hvi_buffer *sql, hvi_generator generator, int shard, int64_t epoch);

/*
 * Append the statements that replace the functions of a shard in use, as one transaction: writers
 * of the shard wait, and every later key is greater than every earlier one, except keys that were
 * reserved before, or taken with next_id() without an INSERT.
 *
 * The transaction fails with HVI_GENERATOR_LATER, and can be repeated, if the shard's keys are a
 * little ahead of the clock, and with HVI_GENERATOR_HOPELESS if they are far ahead. PostgreSQL and
 * the extension have no errors with these codes.
 */
#define HVI_GENERATOR_LATER    "KEY01"
#define HVI_GENERATOR_HOPELESS "KEY02"
void hvi_generator_change(hvi_buffer *sql, hvi_generator to, int shard, int64_t epoch);

/*
 * A shard goes on on another server, whose clock may be behind. Append the query of the first
 * millisecond, since 1970, that next_id() of this schema does not use while nobody calls it, and
 * the statement that lets the keys of a schema, which is a copy whose sequences are set, go on with
 * it at least. A next_id() that is neither strict nor portable depends on the clock: for it the
 * statement fails with HVI_GENERATOR_LATER while the clock is more than some milliseconds behind.
 */
void hvi_generator_time(hvi_buffer *sql, const char *schema);
void hvi_generator_go_on(hvi_buffer *sql, const char *schema, int64_t time);

/*
 * Append the definition of such a function with "@number" in place of the shard's number, and of
 * what is made of it, wherever the functions above, those of earlier versions and the original one
 * have it. So the functions of two shards are the same text if they do the same. In the text, the
 * schema's name is "@shard" already. Where keys are ahead of the clock after a move, it is left
 * out.
 */
void hvi_generator_generalize(hvi_buffer *to, const char *text, int shard);

#endif
