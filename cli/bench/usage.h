/*
 * usage: the cost of a run: connections, and CPU time of this process and of the servers.
 *
 * A server's CPU time is that of all its processes, and is known only for a server on this machine.
 */
#ifndef BENCH_USAGE_H
#define BENCH_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "hypervault.h"

#define BENCH_STATS 32 /* more than there are */

typedef struct bench_server_usage {
    int64_t stats[BENCH_STATS]; /* by hv_stat */
    int64_t cpu_us;             /* -1: not known */
} bench_server_usage;

/* At one time, or between two. */
typedef struct bench_usage {
    int64_t client_us;  /* CPU time of this process */
    int64_t servers_us; /* of all the run's servers; -1: not known for all */
    int server_count;
    bench_server_usage *servers; /* owned */
} bench_usage;

/*
 * The main process of the server that a session belongs to, or 0 if it cannot be seen from here: it
 * is on another machine, in a container, or of another user. The session's process is found by its
 * id; it is the right one if it is as old as the session and a child of a PostgreSQL process.
 */
int bench_usage_find_server(int session_pid, int64_t session_age_ms);

/* Read the present usage. `postmasters` are the servers' main processes; 0: not known, -1: the run
 * does not use this server. */
void bench_usage_take(bench_usage *usage, hv_store *store, const int *postmasters);

/* Make `usage`, the later one, that of the time since `before`; counts of the present state
 * remain. */
void bench_usage_since(bench_usage *usage, const bench_usage *before);

void bench_usage_fini(bench_usage *usage);

#endif
