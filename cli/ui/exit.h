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
    EXIT_CHANGED = 4, /* the entity does not meet the condition */
    EXIT_PARTLY = 5,  /* of work on several shards: on some it was done, on others not */
};

/* The exit code that fits a status of the library. */
static inline int exit_code(hv_status status) {
    switch (status) {
    case HV_OK:
        return EXIT_DONE;
    case HV_NOT_FOUND:
        return EXIT_NOT_FOUND;
    case HV_CHANGED:
        return EXIT_CHANGED;
    case HV_INVALID:
        return EXIT_USAGE;
    default:
        return EXIT_FAILED;
    }
}

/* The same for one of the keys that a command works on: others may have been changed. */
static inline int exit_code_of_one(hv_status status) {
    int code = exit_code(status);
    return code == EXIT_USAGE ? EXIT_FAILED : code;
}

/* The exit code after these two: a failure outweighs a condition that does not hold, and this a
 * missing entity. */
static inline int worse_code(int left, int right) {
    static const int order[] = {EXIT_FAILED, EXIT_CHANGED, EXIT_NOT_FOUND};
    for (int i = 0; i < 3; i++)
        if (left == order[i] || right == order[i])
            return order[i];
    return EXIT_DONE;
}

#endif
