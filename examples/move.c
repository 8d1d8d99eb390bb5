/*
 * move: move a shard to another server while it is used, and show how far it is.
 *
 *     cc move.c $(pkg-config --cflags --libs hypervault) -o move && ./move 12 two
 *
 * It can be killed at any moment, and run again: then it goes on. `hv move --abort 12` takes the
 * move back if it is not over yet.
 */
#include <hypervault.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int find_server(const hv_store *store, const char *name) {
    for (int i = 0; i < hv_server_count(store); i++)
        if (strcmp(hv_server_name(store, i), name) == 0)
            return i;
    return -1;
}

/* Show the phase when it is another one, and how far the copy is. */
static void show(const hv_move *move, hv_move_phase *shown) {
    hv_move_status now;
    hv_move_progress(move, &now);
    if (now.phase != *shown)
        printf("%s\n", hv_move_phase_name(now.phase));
    if (now.phase == HV_MOVE_COPYING && now.rows_total > 0)
        printf("%" PRId64 " of %" PRId64 " rows\n", now.rows, now.rows_total);
    if (now.waits_for != NULL)
        printf("waits for %s\n", now.waits_for);
    *shown = now.phase;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: move SHARD SERVER\n");
        return 2;
    }
    hv_store *store = NULL;
    hv_move *move = NULL;
    hv_move_options *options = hv_move_options_new();
    hv_error *error = NULL;
    hv_move_phase shown = HV_MOVE_DONE;
    bool done = false;

    hv_status status = options != NULL ? hv_open(NULL, &store, &error) : HV_NO_MEMORY;
    if (status == HV_OK)
        status = hv_move_options_set(options, "max_wait", "1min", &error);
    if (status == HV_OK)
        status = hv_move_start(store, atoi(argv[1]), find_server(store, argv[2]), options, &move,
                               &error);
    while (status == HV_OK && !done) {
        status = hv_move_advance(move, 200, &done, &error); /* for 200 ms, or a little longer */
        show(move, &shown);
    }
    if (status == HV_OK) {
        hv_move_status end;
        hv_move_progress(move, &end);
        printf("shard %d is on server %s; its callers were stopped for %.1f ms\n", end.shard,
               end.target, end.pause_ms);
    } else {
        fprintf(stderr, "move: %s\n",
                error != NULL ? hv_error_message(error) : hv_status_name(status));
    }
    hv_error_free(error);
    hv_move_free(move);
    hv_move_options_free(options);
    hv_close(store, -1, NULL);
    return status == HV_OK ? 0 : 1;
}
