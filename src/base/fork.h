/*
 * fork: keep objects with locks right across fork().
 *
 * A member's locks are taken before the fork, so that the child finds its memory consistent, and
 * released after it in the parent. In the child, where only the forking thread goes on, `child`
 * makes the locks anew and forgets what belongs to the parent. Uses pthread_atfork(3).
 */
#ifndef HVI_FORK_H
#define HVI_FORK_H

#include "base/list.h"

typedef struct hvi_fork_member {
    hvi_list link;
    void (*prepare)(struct hvi_fork_member *);
    void (*parent)(struct hvi_fork_member *);
    void (*child)(struct hvi_fork_member *);
} hvi_fork_member;

/* The functions are set by the caller. Thread-safe. Do not hold a member's lock. */
void hvi_fork_join(hvi_fork_member *member);
void hvi_fork_leave(hvi_fork_member *member);

/* A number that a child does not share with its parent, once there was a member: what was made
 * under another one is an ancestor's. */
unsigned hvi_fork_generation(void);

#endif
