/*
 * fork: keep objects with locks consistent across fork().
 *
 * A member's lock is taken before the fork, so that the child finds its memory consistent, and
 * released after it in the parent. In the child, which has only the forking thread, it is
 * initialized again, and `child` forgets what belongs to the parent. Uses pthread_atfork(3).
 */
#ifndef HVI_FORK_H
#define HVI_FORK_H

#include <pthread.h>

#include "base/list.h"

typedef struct hvi_fork_member {
    hvi_list link;
    pthread_mutex_t *lock; /* NULL: none */
    void (*child)(struct hvi_fork_member *);
} hvi_fork_member;

/* The caller has set lock and function, and holds no member's lock. Thread-safe. */
void hvi_fork_join(hvi_fork_member *member);
void hvi_fork_leave(hvi_fork_member *member);

/* A number that differs between a child and its parent, once there was a member: an object that was
 * made under another number belongs to an ancestor. */
unsigned hvi_fork_generation(void);

#endif
