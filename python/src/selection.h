/*
 * selection: which entities are meant, from the keyword arguments of find(), count(), feed() and
 * explain().
 */
#ifndef HVPY_SELECTION_H
#define HVPY_SELECTION_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <hypervault.h>

/*
 * The names of the arguments, in their order: which entities, how many and what of them, and in
 * which order. A method takes the first of these, the first two, or all.
 */
#define HVPY_WHICH                                                                     \
    "shards", "skip", "kind", "where", "one_of", "has", "exists", "lacks", "from_key", \
        "until_key", "since", "before", "partial", "timeout"
#define HVPY_WHICH_COUNT 14
#define HVPY_MOST        HVPY_WHICH, "limit", "only"
#define HVPY_MOST_COUNT  (HVPY_WHICH_COUNT + 2)
#define HVPY_ALL         HVPY_MOST, "newest", "after"
#define HVPY_ALL_COUNT   (HVPY_MOST_COUNT + 2)

/* The same for the signatures of methods, after `shards`. */
#define HVPY_WHICH_DOC                                                                   \
    "skip=None, kind=None, where=None, one_of=None, has=None, exists=None, lacks=None, " \
    "from_key=None, until_key=None, since=None, before=None, partial=False, timeout=None"
#define HVPY_MOST_DOC HVPY_WHICH_DOC ", limit=None, only=None"
#define HVPY_ALL_DOC  HVPY_MOST_DOC ", newest=False, after=None"

/*
 * Make a selection of the first `count` of these arguments; NULL and None mean that one was not
 * given. It belongs to the caller. Returns NULL with an exception.
 */
hv_selection *hvpy_selection_from(PyObject *const *found, int count);

/* Bound a selection by the argument `start` of a feed: from a datetime on, or after a key. Returns
 * false with an exception. */
bool hvpy_selection_start(hv_selection *selection, PyObject *start);

#endif
