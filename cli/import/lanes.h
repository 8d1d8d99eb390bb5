/*
 * lanes: threads that store rows, each in its own transactions, retry where that helps, and count
 * what became of each row.
 *
 * A lane is a load (hv_load) on one server for some of its shards. A row's shard decides its lane;
 * malformed rows go to the first one. Rows are given in the order of their numbers, and each lane
 * decides its rows in that order. A lane's position is the number of the last row that it has
 * decided, committed with the rows. So an import that has ended in any way is continued by giving
 * it all rows again: each lane skips those that it has decided.
 *
 * To reject a row, it is first written to the rejects file; then the transaction that moves the
 * position past it is committed.
 */
#ifndef IMPORT_LANES_H
#define IMPORT_LANES_H

#include "import/import.h"

typedef struct import_lanes import_lanes;

/* Open the loads. NULL after an error message. */
import_lanes *import_lanes_open(const import_settings *settings);

/* The number up to which all rows of a shard (-1: all malformed rows) are decided. */
int64_t import_lanes_position(const import_lanes *lanes, int shard);

/* Has an earlier run completed all lanes? */
bool import_lanes_complete(const import_lanes *lanes);

/* Have earlier runs decided anything? */
bool import_lanes_resumed(const import_lanes *lanes);

/* Do the records of earlier runs agree with this digest of the rows up to this number? */
bool import_lanes_agree(const import_lanes *lanes, int64_t number, uint64_t digest);

/* The number of the last row that earlier runs have decided. */
int64_t import_lanes_farthest(const import_lanes *lanes);

/* Start the threads. False, with errno set, if one cannot be. */
bool import_lanes_start(import_lanes *lanes);

/* Give a row to be stored or, if it has a fault, rejected. It is freed in any case. Waits for room.
 * False: the import has ended early, and the row is left undecided. */
bool import_lanes_give(import_lanes *lanes, import_item *given);

/* End early, for a reason that the caller has reported. The rows that were given are still decided
 * if `decide_given`. */
void import_lanes_abandon(import_lanes *lanes, bool decide_given);

/* Wait until all rows are decided or, after an early end, those in progress, and free the lanes.
 * `digest` is that of all rows. */
void import_lanes_finish(import_lanes *lanes, uint64_t digest, import_totals *totals);

/* Free lanes that were not started. NULL is allowed. */
void import_lanes_free(import_lanes *lanes);

#endif
