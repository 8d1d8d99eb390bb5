/*
 * handler: distinguishes exceptions that a signal's handler raises from those of the code that it
 * interrupted.
 */
#ifndef HVPY_HANDLER_H
#define HVPY_HANDLER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

int hvpy_handler_init(void);

/*
 * Is the raised exception meant for the caller, rather than a failure of a callback that was
 * running? It is if it is not derived from Exception (KeyboardInterrupt), or if a function that is
 * the handler of a signal raised it or let it pass.
 */
bool hvpy_comes_from_handler(void);

#endif
