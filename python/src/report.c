/*
 * report: the store's methods that report on servers, shards and pools, and that make shards.
 */
#include "report.h"

#include <hypervault.h>
#include <string.h>

#include "arguments.h"
#include "error.h"
#include "store.h"
#include "threads.h"

/* So many servers are named in an error. */
#define MOST_NAMED 8

static hvpy_store *store_of(PyObject *object) {
    return (hvpy_store *) object;
}

/* ---- servers and shards ---- */

PyObject *hvpy_report_servers(PyObject *object, void *closure) {
    (void) closure;
    hvpy_store *self = store_of(object);
    if (!hvpy_store_enter(self))
        return NULL;
    int count = hv_server_count(self->store);
    PyObject *names = PyTuple_New(count);
    for (int i = 0; names != NULL && i < count; i++) {
        PyObject *name = hvpy_text(hv_server_name(self->store, i));
        if (name == NULL)
            Py_CLEAR(names);
        else
            PyTuple_SET_ITEM(names, i, name);
    }
    hvpy_store_leave(self);
    return names;
}

PyObject *hvpy_report_server_of(PyObject *object, PyObject *argument) {
    hvpy_store *self = store_of(object);
    int shard = hvpy_int_from(argument);
    if ((shard == -1 && PyErr_Occurred()) || !hvpy_store_enter(self))
        return NULL;
    PyObject *name = hvpy_text(hv_server_name(self->store, hv_shard_server(self->store, shard)));
    hvpy_store_leave(self);
    return name;
}

PyObject *hvpy_report_where(PyObject *object, PyObject *argument) {
    hvpy_store *self = store_of(object);
    int shard = hvpy_int_from(argument), server = -1;
    if ((shard == -1 && PyErr_Occurred()) || !hvpy_store_enter(self))
        return NULL;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_where(self->store, shard, &server, &error);
    HVPY_END_LIBRARY
    PyObject *name = status == HV_OK ? hvpy_text(hv_server_name(self->store, server))
                                     : hvpy_raise(status, error);
    hvpy_store_leave(self);
    if (name != NULL && PyErr_Occurred()) /* Ctrl-C came too late to stop it */
        Py_CLEAR(name);
    return name;
}

/* The bytes of a value: of a str as UTF-8, which the str keeps, or those of an object like bytes,
 * which the view keeps: release it in any case. Returns NULL with an exception. */
static const char *value_from(PyObject *value, Py_buffer *view, Py_ssize_t *len) {
    *view = (Py_buffer){0};
    if (PyUnicode_Check(value)) {
        const char *text = PyUnicode_AsUTF8AndSize(value, len);
        if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            hvpy_raise_from(HV_INVALID, "the value %A is not text that UTF-8 can encode", value);
        return text;
    }
    if (!PyObject_CheckBuffer(value)) {
        PyErr_Format(PyExc_TypeError, "a value must be str or bytes, not %.200s",
                     Py_TYPE(value)->tp_name);
        return NULL;
    }
    if (PyObject_GetBuffer(value, view, PyBUF_SIMPLE) < 0)
        return NULL;
    *len = view->len;
    return view->buf != NULL ? view->buf : "";
}

PyObject *hvpy_report_shard_of(PyObject *object, PyObject *argument) {
    hvpy_store *self = store_of(object);
    Py_buffer view;
    Py_ssize_t len = 0;
    PyObject *result = NULL;
    const char *value = value_from(argument, &view, &len);
    if (value != NULL && hvpy_store_enter(self)) {
        int shard;
        hv_error *error = NULL;
        hv_status status = hv_shard_of(self->store, value, (size_t) len, &shard, &error);
        result = status == HV_OK ? PyLong_FromLong(shard) : hvpy_raise(status, error);
        hvpy_store_leave(self);
    }
    PyBuffer_Release(&view);
    return result;
}

PyObject *hvpy_report_spread(PyObject *object, void *closure) {
    (void) closure;
    hvpy_store *self = store_of(object);
    if (!hvpy_store_enter(self))
        return NULL;
    PyObject *shards = PyList_New(0);
    for (int shard = -1; shards != NULL && (shard = hv_next_spread(self->store, shard)) >= 0;) {
        PyObject *number = PyLong_FromLong(shard);
        if (number == NULL || PyList_Append(shards, number) < 0)
            Py_CLEAR(shards);
        Py_XDECREF(number);
    }
    hvpy_store_leave(self);
    return shards;
}

/* "'one', 'two' and 'three'", or some of them if there are many. NULL with an exception. */
static PyObject *list_servers(const hvpy_store *self) {
    int count = hv_server_count(self->store);
    int most = count > MOST_NAMED ? MOST_NAMED : count;
    PyObject *list = PyUnicode_FromString("");
    for (int i = 0; list != NULL && i < most; i++) {
        PyObject *name = hvpy_text(hv_server_name(self->store, i));
        const char *before = i == 0 ? "" : i == count - 1 ? " and " : ", ";
        Py_SETREF(list, name == NULL ? NULL : PyUnicode_FromFormat("%U%s%R", list, before, name));
        Py_XDECREF(name);
    }
    if (list != NULL && count > most)
        Py_SETREF(list, PyUnicode_FromFormat("%U and %d more", list, count - most));
    return list;
}

static void raise_no_server(const hvpy_store *self, PyObject *name) {
    PyObject *list = list_servers(self);
    PyObject *message = list == NULL ? NULL : PyUnicode_FromFormat("there is no server %R", name);
    PyObject *hint = message == NULL ? NULL : PyUnicode_FromFormat("The servers are %U.", list);
    const char *text = hint == NULL ? NULL : PyUnicode_AsUTF8(message);
    const char *hint_text = text == NULL ? NULL : PyUnicode_AsUTF8(hint);
    if (hint_text != NULL)
        hvpy_raise_hint(HV_INVALID, text, hint_text);
    Py_XDECREF(list);
    Py_XDECREF(message);
    Py_XDECREF(hint);
}

bool hvpy_report_servers_from(hvpy_store *self, PyObject *name, int *first, int *end) {
    if (!hvpy_store_enter(self))
        return false;
    int count = hv_server_count(self->store);
    *first = 0;
    *end = count;
    if (name == NULL || name == Py_None)
        return true;
    const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    for (int i = 0; text != NULL && i < count; i++) {
        if (strcmp(hv_server_name(self->store, i), text) == 0) {
            *first = i;
            *end = i + 1;
            return true;
        }
    }
    if (!PyErr_Occurred())
        raise_no_server(self, name);
    hvpy_store_leave(self);
    return false;
}

PyObject *hvpy_report_shards(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"server", NULL};
    hvpy_store *self = store_of(object);
    PyObject *name = NULL;
    int first, end;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:shards", names, &name) ||
        !hvpy_report_servers_from(self, name, &first, &end))
        return NULL;
    bool all = name == NULL || name == Py_None;
    PyObject *shards = PyList_New(0);
    for (int shard = -1; shards != NULL;) {
        shard = hv_next_shard(self->store, all ? -1 : first, shard);
        if (shard < 0)
            break;
        PyObject *number = PyLong_FromLong(shard);
        if (number == NULL || PyList_Append(shards, number) < 0)
            Py_CLEAR(shards);
        Py_XDECREF(number);
    }
    hvpy_store_leave(self);
    return shards;
}

/* ---- pools ---- */

PyObject *hvpy_report_pool_stats(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"server", NULL};
    hvpy_store *self = store_of(object);
    PyObject *name = NULL;
    int first, end;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:pool_stats", names, &name) ||
        !hvpy_report_servers_from(self, name, &first, &end))
        return NULL;
    PyObject *stats = PyDict_New();
    for (int stat = 0; stats != NULL && hv_stat_name((hv_stat) stat) != NULL; stat++) {
        long long sum = 0;
        for (int server = first; server < end; server++)
            sum += hv_pool_stat(self->store, server, (hv_stat) stat);
        PyObject *number = PyLong_FromLongLong(sum);
        if (number == NULL || PyDict_SetItemString(stats, hv_stat_name((hv_stat) stat), number) < 0)
            Py_CLEAR(stats);
        Py_XDECREF(number);
    }
    hvpy_store_leave(self);
    return stats;
}

/* ---- making shards ---- */

typedef struct progress_target {
    hvpy_store *self;
    PyObject *progress;
} progress_target;

/* Called without the GIL. What the function raises comes out when the server is done. */
static void on_progress(void *context, int server, int done, int total) {
    const progress_target *to = context;
    HVPY_TAKE_GIL;
    if (!PyErr_Occurred()) {
        PyObject *result = PyObject_CallFunction(
            to->progress, "sii", hv_server_name(to->self->store, server), done, total);
        Py_XDECREF(result);
    }
    HVPY_LEAVE_GIL;
}

/* Get the numbers of servers from an iterable of their names, or from None. Free with
 * PyMem_Free(). */
static bool numbers_from(hvpy_store *self, PyObject *names, int **numbers, size_t *count) {
    if (names == Py_None)
        return true;
    PyObject *list = PySequence_Fast(names, "without must be names of servers");
    if (list == NULL)
        return false;
    Py_ssize_t size = PySequence_Fast_GET_SIZE(list);
    *numbers = PyMem_Calloc((size_t) size + 1, sizeof **numbers);
    bool ok = *numbers != NULL;
    if (!ok)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; ok && i < size; i++) {
        int end;
        PyObject *name = PySequence_Fast_GET_ITEM(list, i);
        if (!PyUnicode_Check(name)) {
            PyErr_SetString(PyExc_TypeError, "without must be names of servers");
            ok = false;
        } else if ((ok = hvpy_report_servers_from(self, name, &(*numbers)[i], &end))) {
            hvpy_store_leave(self);
        }
    }
    Py_DECREF(list);
    *count = (size_t) size;
    if (!ok) {
        PyMem_Free(*numbers);
        *numbers = NULL;
    }
    return ok;
}

static bool is_among(int number, const int *numbers, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (numbers[i] == number)
            return true;
    return false;
}

/* The reports of all servers. */
typedef struct looked {
    int count;
    hv_report **reports; /* NULL if errors[i] says why */
    hv_error **errors;
    hv_status *statuses;
} looked;

static void looked_free(looked *all) {
    for (int i = 0; i < all->count; i++) {
        hv_report_free(all->reports[i]);
        hv_error_free(all->errors[i]);
    }
    PyMem_Free(all->reports);
    PyMem_Free(all->errors);
    PyMem_Free(all->statuses);
}

/* Inspect all servers. Call looked_free() whatever it returns. */
static bool look_at_all(hvpy_store *self, looked *all) {
    size_t count = (size_t) hv_server_count(self->store);
    *all = (looked){
        .reports = PyMem_Calloc(count, sizeof(hv_report *)),
        .errors = PyMem_Calloc(count, sizeof(hv_error *)),
        .statuses = PyMem_Calloc(count, sizeof(hv_status)),
    };
    if (all->reports == NULL || all->errors == NULL || all->statuses == NULL)
        return PyErr_NoMemory() != NULL;
    all->count = (int) count;
    HVPY_BEGIN_LIBRARY
    for (int i = 0; i < all->count; i++)
        all->statuses[i] = hv_inspect(self->store, i, &all->reports[i], &all->errors[i]);
    HVPY_END_LIBRARY
    return !PyErr_Occurred();
}

/* Before shards are made on several servers: may each server have them? As `hv init` checks. */
static bool check_all(hvpy_store *self, const int *without, size_t without_count) {
    looked all;
    bool ok = look_at_all(self, &all);
    for (int i = 0; ok && i < all.count; i++) {
        hv_status status = all.statuses[i];
        bool is_away = status == HV_UNAVAILABLE || status == HV_TIMEOUT;
        hv_error *error = NULL;
        if (is_among(i, without, without_count) && (status == HV_OK || is_away))
            continue;
        if (status == HV_OK)
            status = hv_check_reports(all.reports, (size_t) all.count, (size_t) i, &error);
        else {
            error = all.errors[i];
            all.errors[i] = NULL;
        }
        ok = status == HV_OK;
        if (!ok)
            hvpy_raise(status, error);
    }
    looked_free(&all);
    return ok;
}

PyObject *hvpy_report_create_shards(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"server", "progress", "without", NULL};
    hvpy_store *self = store_of(object);
    PyObject *name = NULL, *progress = Py_None, *left_out = Py_None;
    int first, end, *without = NULL;
    size_t without_count = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO:create_shards", names, &name, &progress,
                                     &left_out) ||
        !numbers_from(self, left_out, &without, &without_count))
        return NULL;
    if (!hvpy_report_servers_from(self, name, &first, &end)) {
        PyMem_Free(without);
        return NULL;
    }
    progress_target to = {.self = self, .progress = progress};
    long sum = 0;
    bool failed = end - first > 1 && !check_all(self, without, without_count);
    for (int server = first; server < end && !failed; server++) {
        int created = 0;
        if (end - first > 1 && is_among(server, without, without_count))
            continue;
        hv_error *error = NULL;
        hv_status status;
        HVPY_BEGIN_LIBRARY
        status = hv_create_shards_without(self->store, server, without, without_count,
                                          progress == Py_None ? NULL : on_progress, &to, &created,
                                          &error);
        HVPY_END_LIBRARY
        sum += created;
        if (status != HV_OK)
            hvpy_raise(status, error);
        failed = PyErr_Occurred() != NULL;
    }
    hvpy_store_leave(self);
    PyMem_Free(without);
    return failed ? NULL : PyLong_FromLong(sum);
}

/* ---- inspecting servers ---- */

static PyObject *shard_at(const hv_report *report, size_t index) {
    static const char *const states[] = {"ready",    "missing",   "incomplete",
                                         "unmapped", "elsewhere", "twice"};
    static const char *const keys[] = {NULL, "original", "portable", "strict"};
    int shard;
    hv_shard_state state;
    int64_t entities, bytes;
    bool exact;
    hv_report_shard(report, index, &shard, &state, &entities, &exact, &bytes);
    return Py_BuildValue(
        "{s:i,s:s,s:L,s:O,s:L,s:s,s:s,s:s}", "shard", shard, "state", states[state], "entities",
        (long long) entities, "exact", exact ? Py_True : Py_False, "bytes", (long long) bytes,
        "keys", keys[hv_report_shard_keys(report, index)], "detail",
        hv_report_shard_detail(report, index), "hint", hv_report_shard_hint(report, index));
}

static PyObject *shards_of(const hv_report *report) {
    size_t count = hv_report_shard_count(report);
    PyObject *shards = PyList_New((Py_ssize_t) count);
    for (size_t i = 0; shards != NULL && i < count; i++) {
        PyObject *shard = shard_at(report, i);
        if (shard == NULL)
            Py_CLEAR(shards);
        else
            PyList_SET_ITEM(shards, (Py_ssize_t) i, shard);
    }
    return shards;
}

static PyObject *report_as_dict(const hv_report *report, const char *server) {
    return Py_BuildValue("{s:N,s:s,s:s,s:i,s:s,s:i,s:i,s:N}", "server", hvpy_text(server),
                         "postgres_version", hv_report_postgres_version(report), "database",
                         hv_report_database(report), "layout", hv_report_layout(report),
                         "extension", hv_report_extension(report), "connections",
                         hv_report_connections(report), "max_connections",
                         hv_report_max_connections(report), "shards", shards_of(report));
}

PyObject *hvpy_report_inspect(PyObject *object, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"server", NULL};
    hvpy_store *self = store_of(object);
    PyObject *name;
    int server, end;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U:inspect", names, &name) ||
        !hvpy_report_servers_from(self, name, &server, &end))
        return NULL;
    hv_report *report = NULL;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_inspect(self->store, server, &report, &error);
    HVPY_END_LIBRARY
    PyObject *result = NULL;
    if (status != HV_OK)
        hvpy_raise(status, error);
    else if (!PyErr_Occurred())
        result = report_as_dict(report, hv_server_name(self->store, server));
    hvpy_store_leave(self);
    hv_report_free(report);
    return result;
}

PyObject *hvpy_report_inspect_all(PyObject *object, PyObject *unused) {
    (void) unused;
    hvpy_store *self = store_of(object);
    if (!hvpy_store_enter(self))
        return NULL;
    looked all;
    hv_error *error = NULL;
    hv_status status = HV_OK;
    bool ok = look_at_all(self, &all);
    if (ok)
        status = hv_compare_reports(all.reports, (size_t) all.count, &error);
    if (status != HV_OK)
        hvpy_raise(status, error);
    PyObject *list = ok && status == HV_OK ? PyList_New(all.count) : NULL;
    for (int i = 0; list != NULL && i < all.count; i++) {
        PyObject *item = all.statuses[i] == HV_OK
                             ? report_as_dict(all.reports[i], hv_server_name(self->store, i))
                             : hvpy_error_from(all.statuses[i], all.errors[i]);
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    looked_free(&all);
    hvpy_store_leave(self);
    return list;
}
