/*
 * import_lanes: threads that store rows, each in transactions of its own, retry what can be
 * retried, and count what became of each row.
 *
 * A lane is a load (hv_load) on one server, with some of its shards: every row has one lane, which
 * its shard decides; malformed rows are the first lane's. Rows are given in the order of their
 * numbers, and each lane decides its own in that order. A lane's position is the number of the last
 * row that it has decided, committed with the rows: so an import that ended in whatever way is gone
 * on with by giving it all rows again, of which each lane passes over those it has decided.
 *
 * A row is rejected in this order: it is written to the rejects file, then the transaction is
 * committed that moves the position past it.
 */
#ifndef IMPORT_LANES_H
#define IMPORT_LANES_H

#include "import/import.h"

typedef struct import_lanes import_lanes;

/* Open the loads. NULL after saying why. */
import_lanes *import_lanes_open(const import_settings *settings);

/* Up to which row is everything decided that concerns a shard (-1: malformed rows)? */
int64_t import_lanes_position(const import_lanes *lanes, int shard);

/* Are all lanes at the end, in an earlier run? */
bool import_lanes_complete(const import_lanes *lanes);

/* Have earlier runs decided anything? */
bool import_lanes_resumed(const import_lanes *lanes);

/* Does what earlier runs have recorded agree with the rows up to this number having this digest? */
bool import_lanes_agree(const import_lanes *lanes, int64_t number, uint64_t digest);

/* The number of the last row that earlier runs have decided. */
int64_t import_lanes_farthest(const import_lanes *lanes);

/* Start the threads. False, with errno set, if one cannot be. */
bool import_lanes_start(import_lanes *lanes);

/* Give a row, to be stored or, if it has a fault, rejected. It is freed in any case. Waits for
 * room; false: the import has ended early, and the row is left undecided. */
bool import_lanes_give(import_lanes *lanes, import_item *given);

/* Has the import ended early? Also looks whether it was interrupted. */
bool import_lanes_stopped(import_lanes *lanes);

/* End early, for a reason that the caller has told; decide the rows that were given, or no more. */
void import_lanes_abandon(import_lanes *lanes, bool decide_given);

/* Wait until all rows are decided or, after an early end, those under way; `digest` is that of all
 * rows. Then free. */
void import_lanes_finish(import_lanes *lanes, uint64_t digest, import_totals *totals);

/* Free lanes that were not started. NULL is allowed. */
void import_lanes_free(import_lanes *lanes);

#endif
