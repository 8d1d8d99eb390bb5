/*
 * failing_process: failing_memory for the whole process, including the C library and libpq: defines
 * malloc() and the related functions. Not for builds with a sanitizer, which defines them too.
 *
 * Holds always: every block comes from the C library, so any code may free it.
 */
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>

#include "failing_memory.h"

/* The C library's functions, under the names that they keep when malloc() is replaced. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

void *memalign(size_t alignment, size_t size);

static _Thread_local int left = INT_MAX; /* allocations of this thread until they fail */
static _Thread_local bool once;
static _Thread_local bool failed;
static int blocks; /* of all threads */

static void start(int successes, bool only_one) {
    left = successes;
    once = only_one;
    failed = false;
}

void failing_memory_after(int successes) {
    start(successes, false);
}

void failing_memory_once(int successes) {
    start(successes, true);
}

bool failing_memory_stop(void) {
    left = INT_MAX;
    return failed;
}

int failing_memory_blocks(void) {
    return __atomic_load_n(&blocks, __ATOMIC_RELAXED);
}

/* Is this the allocation that fails? */
static bool fails(void) {
    if (left == INT_MAX)
        return false;
    if (left > 0) {
        left--;
        return false;
    }
    failed = true;
    if (once)
        left = INT_MAX;
    errno = ENOMEM;
    return true;
}

static void *counted(void *block) {
    if (block != NULL)
        __atomic_add_fetch(&blocks, 1, __ATOMIC_RELAXED);
    return block;
}

void *malloc(size_t size) {
    return fails() ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size) {
    return fails() ? NULL : counted(__libc_calloc(count, size));
}

void *realloc(void *old, size_t size) {
    if (old == NULL)
        return malloc(size);
    if (size == 0) { /* as the C library does */
        free(old);
        return NULL;
    }
    return fails() ? NULL : __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
    return fails() ? NULL : counted(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    void *made = memalign(alignment, size);
    if (made == NULL)
        return ENOMEM;
    *block = made;
    return 0;
}

void free(void *block) {
    if (block != NULL)
        __atomic_sub_fetch(&blocks, 1, __ATOMIC_RELAXED);
    __libc_free(block);
}
