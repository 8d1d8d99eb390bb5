/*
 * ui_internal: what the ui_*.c files share.
 */
#ifndef UI_INTERNAL_H
#define UI_INTERNAL_H

#include <stdbool.h>

/* True if stderr is a terminal whose cursor can be moved, and ui_json() was not called. */
bool ui_can_draw(void);

#endif
