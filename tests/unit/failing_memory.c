/*
 * failing_memory: make the Nth allocation fail, and count blocks that are not freed.
 */
#include "failing_memory.h"

#include <limits.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *block);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *block);

static int left = INT_MAX; /* allocations until they fail */
static bool once;
static bool failed;
static int blocks;

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
    return blocks;
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
    return true;
}

static void *counted(void *block) {
    blocks += block != NULL ? 1 : 0;
    return block;
}

void *__wrap_malloc(size_t size) {
    return fails() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *old, size_t size) {
    if (fails())
        return NULL;
    void *block = __real_realloc(old, size);
    return old == NULL ? counted(block) : block;
}

char *__wrap_strdup(const char *text) {
    return fails() ? NULL : counted(__real_strdup(text));
}

void __wrap_free(void *block) {
    blocks -= block != NULL ? 1 : 0;
    __real_free(block);
}
