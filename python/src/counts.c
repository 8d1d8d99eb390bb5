/*
 * counts: the store's methods count() and explain().
 *
 * Their results are of classes of hv._results.
 */
#include "counts.h"

#include <hypervault.h>
#include <stdbool.h>

#include "arguments.h"
#include "error.h"
#include "key.h"
#include "reader.h"
#include "selection.h"
#include "store.h"
#include "threads.h"

static PyObject *count_type;  /* hv._results.Count */
static PyObject *counts_type; /* hv._results.Counts */
static PyObject *plan_type;   /* hv._results.Plan */

int hvpy_counts_init(void) {
    PyObject *module = PyImport_ImportModule("hv._results");
    if (module == NULL)
        return -1;
    count_type = PyObject_GetAttrString(module, "Count");
    counts_type = PyObject_GetAttrString(module, "Counts");
    plan_type = PyObject_GetAttrString(module, "Plan");
    Py_DECREF(module);
    return count_type == NULL || counts_type == NULL || plan_type == NULL ? -1 : 0;
}

/* ---- counting ---- */

const char hvpy_count_doc[] =
    "count($self, by=None, *, zone=None, estimate=False, shards=None, " HVPY_WHICH_DOC ")\n--\n\n"
    "Count the entities that find() would find with the same arguments, each shard at a moment of "
    "its own.\n\n"
    "by: None returns a number; 'kind', 'shard', 'server' or a unit of the time of creation "
    "('second',\n'minute', 'hour', 'day', 'week', 'month', 'quarter', 'year') return a dict. "
    "Its keys are kinds,\nshards, servers' names, or the datetimes when each unit begins: in UTC "
    "and without a time zone, or\nin the time zone that ``zone`` names.\n"
    "estimate: at once, from the servers' statistics, which may be far from the truth.\n\n"
    "The result has ``missing``, a list of what ``partial`` and ``skip`` left out.";

typedef struct count_terms {
    hv_count_by by;
    const char *unit; /* of time */
    const char *zone;
    bool estimate;
} count_terms;

static bool terms_from(PyObject *const *found, count_terms *terms) {
    static const char *const names[] = {
        [HV_COUNT_KIND] = "kind", [HV_COUNT_SHARD] = "shard", [HV_COUNT_SERVER] = "server"};
    *terms = (count_terms){.by = HV_COUNT_ALL};
    if (found[0] != NULL && found[0] != Py_None) {
        terms->by = HV_COUNT_TIME;
        terms->unit = hvpy_text_from(found[0], "by");
        if (terms->unit == NULL)
            return false;
    }
    for (hv_count_by by = HV_COUNT_KIND; terms->unit != NULL && by < HV_COUNT_TIME; by++) {
        if (PyUnicode_CompareWithASCIIString(found[0], names[by]) == 0) {
            terms->by = by;
            terms->unit = NULL;
        }
    }
    if (found[1] != NULL && found[1] != Py_None &&
        (terms->zone = hvpy_text_from(found[1], "zone")) == NULL)
        return false;
    return hvpy_bool_from(found[2], &terms->estimate);
}

static PyObject *group_of(const hvpy_store *store, hv_count_by by, int64_t group) {
    switch (by) {
    case HV_COUNT_SERVER:
        return hvpy_text(hv_server_name(store->store, (int) group));
    case HV_COUNT_TIME:
        return hvpy_datetime_of(group);
    case HV_COUNT_ALL:
    case HV_COUNT_KIND:
    case HV_COUNT_SHARD:
        break;
    }
    return PyLong_FromLongLong(group);
}

static PyObject *dict_of(const hvpy_store *store, hv_count_by by, const hv_counts *counts) {
    PyObject *dict = PyDict_New();
    int64_t group, count;
    for (size_t i = 0; dict != NULL && hv_counts_at(counts, i, &group, &count); i++) {
        PyObject *key = group_of(store, by, group);
        PyObject *value = PyLong_FromLongLong(count);
        if (key == NULL || value == NULL || PyDict_SetItem(dict, key, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

static const hv_error *missing_at(const void *counts, size_t index) {
    return hv_counts_missing(counts, index);
}

static PyObject *result_of(const hvpy_store *store, const count_terms *terms,
                           const hv_counts *counts) {
    PyObject *missing = hvpy_errors_list(missing_at, counts);
    PyObject *result = NULL;
    if (missing != NULL && terms->by == HV_COUNT_ALL)
        result =
            PyObject_CallFunction(count_type, "LO", (long long) hv_counts_total(counts), missing);
    else if (missing != NULL)
        result = PyObject_CallFunction(counts_type, "NOz", dict_of(store, terms->by, counts),
                                       missing, terms->zone);
    Py_XDECREF(missing);
    return result;
}

PyObject *hvpy_count(PyObject *object, PyObject *const *args, Py_ssize_t count,
                     PyObject *keywords) {
    static const char *const names[] = {"by", "zone", "estimate", HVPY_WHICH};
    static const hvpy_arguments expected = {
        .method = "count", .names = names, .count = 3 + HVPY_WHICH_COUNT, .positional = 1};
    hvpy_store *store = (hvpy_store *) object;
    PyObject *found[3 + HVPY_WHICH_COUNT];
    count_terms terms;
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0 ||
        !terms_from(found, &terms))
        return NULL;
    hv_selection *selection = hvpy_selection_from(found + 3, HVPY_WHICH_COUNT);
    PyObject *result = NULL;
    if (selection != NULL && hvpy_store_enter(store)) {
        hv_counts *counts = NULL;
        hv_error *error = NULL;
        hv_status status;
        HVPY_BEGIN_LIBRARY
        status = hv_count(store->store, selection, terms.by, terms.unit, terms.zone, terms.estimate,
                          &counts, &error);
        HVPY_END_LIBRARY
        if (status != HV_OK)
            hvpy_raise(status, error);
        else if (!PyErr_Occurred())
            result = result_of(store, &terms, counts);
        hv_counts_free(counts);
        hvpy_store_leave(store);
    }
    hv_selection_free(selection);
    return result;
}

/* ---- explaining ---- */

const char hvpy_explain_doc[] =
    "explain($self, shards=None, *, " HVPY_ALL_DOC ")\n--\n\n"
    "Explain how find() would find with the same arguments: a list of (shard, plan, warning), as "
    "PostgreSQL\nplans to read the first page of each shard. ``warning`` is None, or a sentence "
    "about what will be slow.";

/* Called by the library, without the GIL. After an exception the rest is left out. */
static void on_plan(void *context, int shard, const char *plan, const char *warning) {
    PyObject *list = context;
    HVPY_TAKE_GIL;
    if (!PyErr_Occurred()) {
        PyObject *one =
            PyObject_CallFunction(plan_type, "iNN", shard, hvpy_text(plan), hvpy_text(warning));
        if (one != NULL)
            PyList_Append(list, one);
        Py_XDECREF(one);
    }
    HVPY_LEAVE_GIL;
}

PyObject *hvpy_explain(PyObject *object, PyObject *const *args, Py_ssize_t count,
                       PyObject *keywords) {
    static const char *const names[] = {HVPY_ALL};
    static const hvpy_arguments expected = {
        .method = "explain", .names = names, .count = HVPY_ALL_COUNT, .positional = 1};
    hvpy_store *store = (hvpy_store *) object;
    PyObject *found[HVPY_ALL_COUNT];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    hv_selection *selection = hvpy_selection_from(found, HVPY_ALL_COUNT);
    PyObject *list = selection == NULL ? NULL : PyList_New(0);
    if (list != NULL && hvpy_store_enter(store)) {
        hv_error *error = NULL;
        hv_status status;
        HVPY_BEGIN_LIBRARY
        status = hv_explain(store->store, selection, on_plan, list, &error);
        HVPY_END_LIBRARY
        hvpy_store_leave(store);
        if (status != HV_OK)
            hvpy_raise(status, error);
    }
    if (PyErr_Occurred())
        Py_CLEAR(list);
    hv_selection_free(selection);
    return list;
}
