/*
 * exit: the exit codes of `hv`.
 */
#ifndef EXIT_H
#define EXIT_H

#include "hypervault.h"

/* After an interrupt it dies of the signal instead, as shells expect. */
enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
};

/* The exit code that fits a status of the library. */
static inline int exit_code(hv_status status) {
    switch (status) {
    case HV_OK:
        return EXIT_DONE;
    case HV_NOT_FOUND:
        return EXIT_NOT_FOUND;
    case HV_INVALID:
        return EXIT_USAGE;
    default:
        return EXIT_FAILED;
    }
}

#endif
