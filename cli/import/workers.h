/*
 * workers: threads that store rows, each in its own transactions, retry where that helps, and count
 * what became of each row.
 *
 * A worker is a load (hv_load) on one server for some of its shards. A row's shard decides its
 * worker; malformed rows go to the first one. Rows are given in the order of their numbers, and
 * each worker decides its rows in that order. A worker's position is the number of the last row
 * that it has decided, committed with the rows. So an import that has ended in any way is continued
 * by giving it all rows again: those are skipped that are decided. Of shards that have moved
 * meanwhile, other workers have decided some: see import/resume.h.
 *
 * To reject a row, it is first written to the rejects file; then the transaction that moves the
 * position past it is committed.
 */
#ifndef IMPORT_WORKERS_H
#define IMPORT_WORKERS_H

#include "import/import.h"

typedef struct import_workers import_workers;

/* Open the loads. NULL after an error message. */
import_workers *import_workers_open(const import_settings *settings);

/* The number up to which all rows of a shard (-1: all malformed rows) are decided. */
int64_t import_workers_position(const import_workers *workers, int shard);

/* Has an earlier run completed all workers? */
bool import_workers_complete(const import_workers *workers);

/* Have earlier runs decided anything? */
bool import_workers_resumed(const import_workers *workers);

/* Do the records of earlier runs agree with this digest of the rows up to this number? */
bool import_workers_agree(const import_workers *workers, int64_t number, uint64_t digest);

/* The number of the last row that earlier runs have decided. */
int64_t import_workers_farthest(const import_workers *workers);

/* Start the threads. False, with errno set, if one cannot be. */
bool import_workers_start(import_workers *workers);

/* Give a row to be stored or, if it has a fault, rejected. It is freed in any case. Waits for room.
 * False: the import has ended early, and the row is left undecided. */
bool import_workers_give(import_workers *workers, import_item *given);

/* End early, for a reason that the caller has reported. The rows that were given are still decided
 * if `decide_given`. */
void import_workers_abandon(import_workers *workers, bool decide_given);

/* Wait until all rows are decided or, after an early end, those in progress, and free the workers.
 * `digest` is that of all rows. */
void import_workers_finish(import_workers *workers, uint64_t digest, import_totals *totals);

/* Free workers that were not started. NULL is allowed. */
void import_workers_free(import_workers *workers);

#endif
