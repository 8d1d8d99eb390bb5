/*
 * failing_memory: make the Nth allocation fail, and count blocks that are not freed.
 *
 * failing_memory.c is for programs linked with -Wl,--wrap for malloc, calloc, realloc, strdup and
 * free. It sees the calls of our own code, not those inside the C library.
 * tests/failure/failing_process.c replaces malloc() and the related functions in the whole process.
 */
#ifndef HV_TEST_FAILING_MEMORY_H
#define HV_TEST_FAILING_MEMORY_H

#include <stdbool.h>

/* From now on, `successes` allocations succeed and all later ones fail. */
void failing_memory_after(int successes);

/* The same, but only one fails: later ones succeed again. */
void failing_memory_once(int successes);

/* From now on no allocation fails. Returns true if one had failed. */
bool failing_memory_stop(void);

/* The number of blocks that are allocated and not freed. */
int failing_memory_blocks(void);

#endif
