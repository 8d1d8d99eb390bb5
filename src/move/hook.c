/*
 * hook: for tests, which kill and stop things at every step of a move.
 */
#include "move/hook.h"

#include <stddef.h>

static hvi_move_hook the_hook;
static void *the_context;

void hvi_move_set_hook(hvi_move_hook hook, void *context) {
    the_hook = hook;
    the_context = context;
}

void hvi_move_reach(const char *where) {
    if (the_hook != NULL)
        the_hook(the_context, where);
}
