/*
 * rollout_summary: what has become of each shard, for people and as JSON.
 */
#ifndef ROLLOUT_SUMMARY_H
#define ROLLOUT_SUMMARY_H

#include "hypervault.h"

struct json_t;

/* ---- Errors of several shards ---------------------------------------------------------------- */

/* Failures of shards. Those that are the same, but for the shard and the process that they name,
 * are reported once. */
typedef struct failures failures;
failures *failures_new(void);
void failures_free(failures *all);

/* In ascending order of shards. `shard` -1: of a server as a whole. The error is borrowed. */
void failures_add(failures *all, int shard, const hv_error *error);

/* Report them on stderr. */
void failures_say(failures *all);

/* [{"shards": "1-9", "count": 8, "error": {…}}]: a new reference. */
struct json_t *failures_json(failures *all);

/* ---- Summaries ------------------------------------------------------------------------------- */

/* The exit code: all of it is done, none, or a part. */
int summary_code(const hv_summary *summary);

/* A table with a row for each server. */
void summary_print(const hv_store *store, const hv_summary *summary);

/* Its failures; the summary must outlive them. */
failures *summary_failures(const hv_summary *summary);

/* All of it: a new reference. */
struct json_t *summary_json(const hv_store *store, const hv_summary *summary);

/* Shards in this state, "1-9,12": free() it. "" if there are none. */
char *summary_shards(const hv_summary *summary, hv_work work);

/* The same of those on which it has not happened, failed or not begun; and of those that failed
 * with an unknown outcome, on which it may have. */
char *summary_shards_not_done(const hv_summary *summary);
char *summary_shards_unknown(const hv_summary *summary);

#endif
