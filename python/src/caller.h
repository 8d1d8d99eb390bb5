/*
 * caller: the owner of a transaction: a thread, and in an event loop one of its tasks.
 */
#ifndef HVPY_CALLER_H
#define HVPY_CALLER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

typedef struct hvpy_caller {
    uint64_t thread; /* not its ident, which a later thread may have */
    PyObject *task;  /* a weak reference to an asyncio task, or None; NULL: no caller */
} hvpy_caller;

/* The one that is running, for hvpy_caller_clear(). Returns false with an exception. */
bool hvpy_caller_get(hvpy_caller *caller);
hvpy_caller hvpy_caller_copy(const hvpy_caller *caller);
void hvpy_caller_clear(hvpy_caller *caller);

bool hvpy_caller_is_same(const hvpy_caller *one, const hvpy_caller *other);

#endif
