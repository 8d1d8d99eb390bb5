/*
 * interrupt: end in order when the user presses Ctrl-C.
 */
#ifndef INTERRUPT_H
#define INTERRUPT_H

#include <stdbool.h>

/*
 * Catch SIGINT and SIGTERM from now on: the first one only makes interrupted() true, so that the
 * command can finish its present step and report how far it got; the second one kills. After run()
 * has returned, hv.c lets the process die of the signal. Without this call both kill at once, which
 * is right for every command that leaves nothing half done.
 */
void interrupt_catch(void);
bool interrupted(void);
int interrupt_signal(void); /* the signal, or 0 */

#endif
