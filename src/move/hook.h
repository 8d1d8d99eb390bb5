/*
 * hook: for tests, which kill and stop things at every step of a move.
 */
#ifndef HVI_MOVE_HOOK_H
#define HVI_MOVE_HOOK_H

/* Called with the name of each place that a move comes to. NULL: none. For one thread. */
typedef void (*hvi_move_hook)(void *context, const char *where);
void hvi_move_set_hook(hvi_move_hook hook, void *context);

/* A move is at this place: "copying", "fence: locked". */
void hvi_move_reach(const char *where);

#endif
