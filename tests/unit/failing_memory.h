/*
 * failing_memory: make the Nth allocation fail, and count what is not freed.
 *
 * failing_memory.c is for programs linked with -Wl,--wrap for malloc, calloc, realloc, strdup and
 * free. It sees the calls of our own code, not those inside the C library.
 * tests/failure/failing_process.c stands in for malloc() and its kin in the whole process.
 */
#ifndef HV_TEST_FAILING_MEMORY_H
#define HV_TEST_FAILING_MEMORY_H

#include <stdbool.h>

/* From now on, the allocation after `successes` further ones fails, and all behind it. */
void failing_memory_after(int successes);

/* The same, but the allocations behind it succeed again. */
void failing_memory_once(int successes);

/* From now on none fails. Returns true if one had. */
bool failing_memory_stop(void);

/* How many blocks are allocated and not freed. */
int failing_memory_blocks(void);

#endif
