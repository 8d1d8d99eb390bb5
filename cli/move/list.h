/*
 * list: which moves are under way, or can be undone, wherever they were begun.
 */
#ifndef MOVE_LIST_H
#define MOVE_LIST_H

#include <stdbool.h>

#include "hypervault.h"

/* hv move --list. Returns the exit code. */
int list_moves(hv_store *store);

/* The shards of moves that are kept, or of those that are not over and that nobody works on:
 * free() *shards. Returns an exit code, after error messages unless it is EXIT_DONE; EXIT_PARTLY:
 * some servers have not answered, and these are the shards of the others. */
int shards_of_moves(hv_store *store, bool kept, int **shards, int *count);

#endif
