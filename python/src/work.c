/*
 * work: the store's methods that change and compare the schemas of all shards: migrations, indexes,
 * drift.
 *
 * Each has the same course: begin(), the library's function without the GIL, the result as objects
 * of hv._work's classes, finish().
 */
#include "work.h"

#include <hypervault.h>
#include <stdbool.h>

#include "arguments.h"
#include "error.h"
#include "key.h"
#include "rollout.h"
#include "store.h"
#include "threads.h"

static PyObject *state_type;      /* hv._work.MigrationState */
static PyObject *migrations_type; /* hv._work.ShardMigrations */
static PyObject *status_type;     /* hv._work.MigrationStatus */
static PyObject *step_type;       /* hv._work.MigrationStep */
static PyObject *index_type;      /* hv._work.Index */
static PyObject *group_type;      /* hv._work.SchemaGroup */
static PyObject *report_type;     /* hv._work.SchemaReport */

int hvpy_work_init(void) {
    const struct {
        const char *name;
        PyObject **type;
    } classes[] = {
        {"MigrationState", &state_type},
        {"ShardMigrations", &migrations_type},
        {"MigrationStatus", &status_type},
        {"MigrationStep", &step_type},
        {"Index", &index_type},
        {"SchemaGroup", &group_type},
        {"SchemaReport", &report_type},
    };
    PyObject *module = PyImport_ImportModule("hv._work");
    bool ok = module != NULL;
    for (size_t i = 0; ok && i < sizeof classes / sizeof classes[0]; i++) {
        *classes[i].type = PyObject_GetAttrString(module, classes[i].name);
        ok = *classes[i].type != NULL;
    }
    Py_XDECREF(module);
    return ok ? 0 : -1;
}

/* ---- one call ---- */

typedef struct work {
    hvpy_store *store;
    hvpy_watch watch;
    hv_rollout *rollout;
} work;

/* Read the rollout's arguments, and enter the store. Call finish() unless it returns false, with an
 * exception. */
static bool begin(work *self, PyObject *store, PyObject *const *found) {
    self->store = (hvpy_store *) store;
    self->rollout = hvpy_rollout_from(self->store, found, HVPY_ROLLOUT_COUNT, &self->watch);
    if (self->rollout == NULL)
        return false;
    if (hvpy_store_enter(self->store))
        return true;
    hv_rollout_free(self->rollout);
    return false;
}

/* What comes out: `result`, whose reference is stolen and which may be NULL with an exception. */
static PyObject *finish(work *self, PyObject *result) {
    hv_rollout_free(self->rollout);
    hvpy_store_leave(self->store);
    if (PyErr_Occurred())
        Py_CLEAR(result);
    return result;
}

/* The library has returned: is there a result? Raises the error. */
static bool is_good(hv_status status, hv_error *error) {
    if (status != HV_OK)
        hvpy_raise(status, error);
    return !PyErr_Occurred();
}

/* The same for a function with a summary, which is the result, or else in the error. It is
 * freed. */
static PyObject *summary_from(const work *self, hv_status status, hv_error *error,
                              hv_summary *summary) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *result = hvpy_summary_of(self->store, summary);
    hv_summary_free(summary);
    if (type != NULL)
        PyErr_Restore(type, value, traceback); /* MemoryError gives way to it */
    if (status != HV_OK)
        hvpy_raise_summary(status, error, result);
    return result;
}

/* A tuple of what make(object, 0), make(object, 1) and so on return until that is NULL; NULL if
 * there is an exception then. */
static PyObject *tuple_of(PyObject *(*make)(const void *object, size_t index), const void *object) {
    PyObject *list = PyList_New(0), *item = NULL;
    for (size_t i = 0; list != NULL && (item = make(object, i)) != NULL; i++) {
        if (PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_DECREF(item);
    }
    PyObject *tuple = PyErr_Occurred() ? NULL : PyList_AsTuple(list);
    Py_XDECREF(list);
    return tuple;
}

/* ---- migrations ---- */

/* Read the directory of an argument, or that of the store's option; *migrations becomes NULL if
 * there is neither. Returns false with an exception. */
static bool load(const hvpy_store *store, PyObject *given, hv_migrations **migrations) {
    PyObject *path = NULL;
    *migrations = NULL;
    if (given != NULL && given != Py_None) {
        if (!PyUnicode_FSConverter(given, &path))
            return false;
    } else if (store->migrations != NULL) {
        path = store->migrations;
        Py_INCREF(path);
    } else {
        return true;
    }
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_migrations_load(PyBytes_AS_STRING(path), migrations, &error);
    HVPY_END_LIBRARY
    Py_DECREF(path);
    if (status != HV_OK)
        hvpy_raise(status, error);
    return !PyErr_Occurred();
}

/* The same, where there must be one. */
static bool load_some(const hvpy_store *store, PyObject *given, hv_migrations **migrations) {
    if (!load(store, given, migrations))
        return false;
    if (*migrations == NULL)
        hvpy_raise_hint(HV_INVALID, "there is no directory with migrations",
                        "Name it, or set the option migrations.");
    return *migrations != NULL;
}

static const char *const directory_names[] = {"directory", HVPY_ROLLOUT};
#define DIRECTORY_COUNT (1 + HVPY_ROLLOUT_COUNT)
#define DIRECTORY(name) \
    { .method = (name), .names = directory_names, .count = DIRECTORY_COUNT, .positional = 1 }

const char hvpy_migrate_doc[] =
    "migrate($self, directory=None, *, " HVPY_ROLLOUT_DOC ")\n--\n\n"
    "Run on each shard the SQL files of a directory that it does not have, in their order; by "
    "default that\nof the option ``migrations``. Return a Summary. If a shard fails, the first "
    "error is raised, with the\nsummary as its ``summary``. It can be ended at any point and "
    "repeated: nothing is done twice.\n\n"
    "shards: only these, as for find(). skip: leave out a server, or several.\n"
    "parallel: at most so many shards of a server at once, 4 by default. "
    "parallel_total: of\nall servers.\n"
    "canary: one shard goes first, and the others only if it succeeds.\n"
    "max_failures: go on until more shards than this have failed; 'all': in any case.\n"
    "lock_timeout: how many seconds a statement waits for a lock, while others queue behind it; "
    "then it\ngives way, and is tried again.\n"
    "max_wait: how many seconds one shard may wait altogether, math.inf for any number; 60 by "
    "default,\nfor CONCURRENTLY an hour.\n"
    "timeout: how many seconds one statement may run; no limit by default.\n"
    "observer: it is called with a RolloutEvent when the work on a shard begins, has news, and "
    "ends. If it\nraises an exception, all work ends, and the exception comes out.";

PyObject *hvpy_migrate(PyObject *store, PyObject *const *args, Py_ssize_t count,
                       PyObject *keywords) {
    static const hvpy_arguments expected = DIRECTORY("migrate");
    PyObject *found[DIRECTORY_COUNT];
    work self;
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0 ||
        !begin(&self, store, found + 1))
        return NULL;
    hv_migrations *migrations;
    PyObject *result = NULL;
    if (load_some(self.store, found[0], &migrations)) {
        hv_summary *summary = NULL;
        hv_error *error = NULL;
        hv_status status;
        HVPY_BEGIN_LIBRARY
        status = hv_migrate(self.store->store, migrations, self.rollout, &summary, &error);
        HVPY_END_LIBRARY
        result = summary_from(&self, status, error, summary);
    }
    hv_migrations_free(migrations);
    return finish(&self, result);
}

/* What is read of the ledgers. */
typedef struct ledger_view {
    const hvpy_store *store;
    const hv_ledger *ledger;
    PyObject *files; /* their names: a tuple */
} ledger_view;

static PyObject *file_at(const void *object, size_t index) {
    const char *name = hv_ledger_file(object, index);
    return name == NULL ? NULL : hvpy_text(name);
}

static PyObject *state_of(const hv_ledger *ledger, size_t index, size_t file) {
    static const char *const names[] = {[HV_MIGRATION_PENDING] = "pending",
                                        [HV_MIGRATION_DONE] = "done",
                                        [HV_MIGRATION_CHANGED] = "changed",
                                        [HV_MIGRATION_INTERRUPTED] = "interrupted",
                                        [HV_MIGRATION_NO_FILE] = "no file"};
    const char *digest;
    int64_t applied_at;
    hv_migration_state state = hv_ledger_state(ledger, index, file, &digest, &applied_at);
    PyObject *moment = Py_None;
    if (applied_at != 0)
        moment = hvpy_datetime_of(applied_at);
    else
        Py_INCREF(moment);
    return PyObject_CallFunction(state_type, "szN", names[state], digest, moment);
}

static PyObject *states_of(const ledger_view *view, size_t index) {
    PyObject *states = PyDict_New();
    for (size_t i = 0; states != NULL && i < hv_ledger_files(view->ledger); i++) {
        PyObject *state = state_of(view->ledger, index, i);
        if (state == NULL ||
            PyDict_SetItem(states, PyTuple_GET_ITEM(view->files, (Py_ssize_t) i), state) < 0)
            Py_CLEAR(states);
        Py_XDECREF(state);
    }
    return states;
}

static PyObject *shard_at(const void *object, size_t index) {
    const ledger_view *view = object;
    int server, shard;
    const hv_error *error;
    if (!hv_ledger_shard(view->ledger, index, &server, &shard, &error))
        return NULL;
    return PyObject_CallFunction(migrations_type, "NiNN", hvpy_server_name(view->store, server),
                                 shard, error == NULL ? states_of(view, index) : PyDict_New(),
                                 hvpy_shard_error(view->store, server, shard, error));
}

static PyObject *status_of(const hvpy_store *store, const hv_ledger *ledger) {
    ledger_view view = {.store = store, .ledger = ledger, .files = tuple_of(file_at, ledger)};
    PyObject *result = NULL;
    if (view.files != NULL)
        result = PyObject_CallFunction(status_type, "ON", view.files, tuple_of(shard_at, &view));
    Py_XDECREF(view.files);
    return result;
}

const char hvpy_migrate_status_doc[] =
    "migrate_status($self, directory=None, *, " HVPY_ROLLOUT_DOC ")\n--\n\n"
    "Compare what all shards have with the files of a directory, by default that of the option\n"
    "``migrations``; without any, the files are those that the shards have. Return a "
    "MigrationStatus.";

PyObject *hvpy_migrate_status(PyObject *store, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords) {
    static const hvpy_arguments expected = DIRECTORY("migrate_status");
    PyObject *found[DIRECTORY_COUNT];
    work self;
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0 ||
        !begin(&self, store, found + 1))
        return NULL;
    hv_migrations *migrations;
    PyObject *result = NULL;
    if (load(self.store, found[0], &migrations)) {
        hv_ledger *ledger = NULL;
        hv_error *error = NULL;
        hv_status status;
        HVPY_BEGIN_LIBRARY
        status = hv_migrate_status(self.store->store, migrations, self.rollout, &ledger, &error);
        HVPY_END_LIBRARY
        if (is_good(status, error))
            result = status_of(self.store, ledger);
        hv_ledger_free(ledger);
    }
    hv_migrations_free(migrations);
    return finish(&self, result);
}

/* What is read of a plan. */
typedef struct plan_view {
    const hv_plan *plan;
    const hv_migrations *migrations;
} plan_view;

static PyObject *step_at(const void *object, size_t index) {
    const plan_view *view = object;
    const hv_plan_step *step = hv_plan_at(view->plan, index);
    if (step == NULL)
        return NULL;
    PyObject *bytes = Py_None;
    if (step->bytes >= 0)
        bytes = PyLong_FromLongLong(step->bytes);
    else
        Py_INCREF(bytes);
    return PyObject_CallFunction(
        step_type, "NiNNNNOONN", hvpy_text(hv_migrations_name(view->migrations, step->file)),
        step->line, hvpy_text(step->statement), PyLong_FromSize_t(step->shards),
        hvpy_text(step->lock), hvpy_text(step->relation), step->rewrites ? Py_True : Py_False,
        step->reads ? Py_True : Py_False, bytes, hvpy_text(step->warning));
}

const char hvpy_migrate_plan_doc[] =
    "migrate_plan($self, directory=None, *, " HVPY_ROLLOUT_DOC ")\n--\n\n"
    "Find out, without changing anything, what migrate() would run where, and which locks each "
    "statement\ntakes: a list of MigrationSteps.";

PyObject *hvpy_migrate_plan(PyObject *store, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords) {
    static const hvpy_arguments expected = DIRECTORY("migrate_plan");
    PyObject *found[DIRECTORY_COUNT];
    work self;
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0 ||
        !begin(&self, store, found + 1))
        return NULL;
    hv_migrations *migrations;
    PyObject *result = NULL;
    if (load_some(self.store, found[0], &migrations)) {
        hv_plan *plan = NULL;
        hv_error *error = NULL;
        hv_status status;
        HVPY_BEGIN_LIBRARY
        status = hv_migrate_plan(self.store->store, migrations, self.rollout, &plan, &error);
        HVPY_END_LIBRARY
        const plan_view view = {.plan = plan, .migrations = migrations};
        PyObject *steps = is_good(status, error) ? tuple_of(step_at, &view) : NULL;
        if (steps != NULL)
            result = PySequence_List(steps);
        Py_XDECREF(steps);
        hv_plan_free(plan);
    }
    hv_migrations_free(migrations);
    return finish(&self, result);
}

/* ---- indexes ---- */

static bool is_given(PyObject *argument) {
    return argument != NULL && argument != Py_None;
}

static bool is_ok(hv_status status, hv_error *error) {
    if (status != HV_OK)
        hvpy_raise(status, error);
    return status == HV_OK;
}

/* An attribute: its name, or a tuple of that and a type. */
static bool add_attribute(hv_index *index, PyObject *given) {
    PyObject *type = Py_None;
    if (PyTuple_Check(given) && PyTuple_GET_SIZE(given) == 2) {
        type = PyTuple_GET_ITEM(given, 1);
        given = PyTuple_GET_ITEM(given, 0);
    } else if (!PyUnicode_Check(given)) {
        PyErr_Format(PyExc_TypeError, "an attribute must be str or a tuple (name, type), not %R",
                     given);
        return false;
    }
    const char *name = hvpy_text_from(given, "an attribute's name");
    const char *type_name = NULL;
    if (name == NULL ||
        (type != Py_None && (type_name = hvpy_text_from(type, "an attribute's type")) == NULL))
        return false;
    hv_error *error = NULL;
    hv_status status = hv_index_attribute(index, name, type_name, &error);
    return is_ok(status, error);
}

static bool set_kind(hv_index *index, PyObject *given) {
    int kind = hvpy_int_from(given);
    if (kind == -1 && PyErr_Occurred())
        return false;
    if (kind < INT16_MIN || kind > INT16_MAX)
        return hvpy_raise_new(HV_INVALID, "the kind %d is out of range", kind) != NULL;
    hv_index_kind(index, (int16_t) kind);
    return true;
}

static bool set_name(hv_index *index, PyObject *given) {
    const char *name = hvpy_text_from(given, "name");
    hv_error *error = NULL;
    hv_status status = name == NULL ? HV_INVALID : hv_index_name(index, name, &error);
    return name != NULL && is_ok(status, error);
}

/* The names of index_create()'s arguments, besides the attributes, and the rollout's. */
enum { KIND, UNIQUE, ALL, NAME, INDEX_COUNT };
static const char *const index_names[] = {"kind", "unique", "all", "name", HVPY_ROLLOUT};

/* Make a definition of the attributes, and of the arguments. NULL with an exception. */
static hv_index *index_from(PyObject *const *attributes, Py_ssize_t count, PyObject *const *found) {
    bool is_unique, is_all;
    if (!hvpy_switch_from(found[UNIQUE], "unique", &is_unique) ||
        !hvpy_switch_from(found[ALL], "all", &is_all))
        return NULL;
    hv_index *index = hv_index_new();
    if (index == NULL)
        PyErr_NoMemory();
    bool ok = index != NULL;
    for (Py_ssize_t i = 0; ok && i < count; i++)
        ok = add_attribute(index, attributes[i]);
    ok = ok && (!is_given(found[KIND]) || set_kind(index, found[KIND])) &&
         (!is_given(found[NAME]) || set_name(index, found[NAME]));
    if (ok && is_unique)
        hv_index_unique(index);
    if (ok && is_all)
        hv_index_all(index);
    if (ok)
        return index;
    hv_index_free(index);
    return NULL;
}

const char hvpy_index_create_doc[] =
    "index_create($self, *attributes, kind=None, unique=False, all=False, "
    "name=None, " HVPY_ROLLOUT_DOC ")\n--\n\n"
    "Build an index on attributes, and the key, on every shard that lacks it, while writers go on. "
    "Return a\nSummary; failures are those of migrate().\n\n"
    "attributes: names, ``'user'``, or a name and the type of the values, ``('score', "
    "'bigint')``: smallint,\ninteger, bigint, numeric, real, double precision, boolean, uuid, "
    "date, timestamp or timestamptz.\n"
    "kind: only entities of this kind. unique: in each shard, no two have these values.\n"
    "all: on all attributes together, for ``has``.\n"
    "name: by default made from the definition, ``'entities_user_idx'``.\n\n"
    "The other arguments are those of migrate().";

PyObject *hvpy_index_create(PyObject *store, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords) {
    /* Only what comes by name: all that comes by position is an attribute. */
    static const hvpy_arguments expected = {
        .method = "index_create", .names = index_names, .count = INDEX_COUNT + HVPY_ROLLOUT_COUNT};
    PyObject *found[INDEX_COUNT + HVPY_ROLLOUT_COUNT];
    work self;
    if (hvpy_arguments_parse(&expected, args + count, 0, keywords, found, NULL) < 0)
        return NULL;
    hv_index *index = index_from(args, count, found);
    if (index == NULL || !begin(&self, store, found + INDEX_COUNT)) {
        hv_index_free(index);
        return NULL;
    }
    hv_summary *summary = NULL;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_index_create(self.store->store, index, self.rollout, &summary, &error);
    HVPY_END_LIBRARY
    hv_index_free(index);
    return finish(&self, summary_from(&self, status, error, summary));
}

const char hvpy_index_drop_doc[] =
    "index_drop($self, name, *, " HVPY_ROLLOUT_DOC ")\n--\n\n"
    "Drop an index from every shard that has it, while writers go on. Return a Summary. The other\n"
    "arguments, and failures, are those of migrate().";

PyObject *hvpy_index_drop(PyObject *store, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords) {
    static const char *const names[] = {"name", HVPY_ROLLOUT};
    static const hvpy_arguments expected = {.method = "index_drop",
                                            .names = names,
                                            .count = 1 + HVPY_ROLLOUT_COUNT,
                                            .required = 1,
                                            .positional = 1};
    PyObject *found[1 + HVPY_ROLLOUT_COUNT];
    work self;
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    const char *name = hvpy_text_from(found[0], "name");
    if (name == NULL || !begin(&self, store, found + 1))
        return NULL;
    hv_summary *summary = NULL;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_index_drop(self.store->store, name, self.rollout, &summary, &error);
    HVPY_END_LIBRARY
    return finish(&self, summary_from(&self, status, error, summary));
}

/* Methods whose arguments are only those of the rollout, by name. */
static const char *const rollout_names[] = {HVPY_ROLLOUT};
#define ROLLOUT(name) \
    { .method = (name), .names = rollout_names, .count = HVPY_ROLLOUT_COUNT }

static bool begin_plain(work *self, const hvpy_arguments *expected, PyObject *store,
                        PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *found[HVPY_ROLLOUT_COUNT];
    if (count > 0) {
        PyErr_Format(PyExc_TypeError, "%s() takes no positional arguments", expected->method);
        return false;
    }
    return hvpy_arguments_parse(expected, args, count, keywords, found, NULL) == 0 &&
           begin(self, store, found);
}

static PyObject *index_at(const void *object, size_t number) {
    const hv_index_info *info = hv_indexes_at(object, number);
    if (info == NULL)
        return NULL;
    return PyObject_CallFunction(
        index_type, "NNNNNNNLLNNN", hvpy_text(info->name), hvpy_text(info->definition),
        PyLong_FromSize_t(info->shards), PyLong_FromSize_t(info->missing),
        PyLong_FromSize_t(info->invalid), PyLong_FromSize_t(info->building),
        PyLong_FromSize_t(info->different), (long long) info->bytes, (long long) info->scans,
        hvpy_text(info->missing_in), hvpy_text(info->invalid_in), hvpy_text(info->different_in));
}

const char hvpy_index_list_doc[] =
    "index_list($self, *, " HVPY_ROLLOUT_DOC ")\n--\n\n"
    "The indexes of entities over all shards, the primary key first: a list of Indexes. All "
    "servers must\nanswer. The arguments are those of migrate().";

PyObject *hvpy_index_list(PyObject *store, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords) {
    static const hvpy_arguments expected = ROLLOUT("index_list");
    work self;
    if (!begin_plain(&self, &expected, store, args, count, keywords))
        return NULL;
    hv_indexes *indexes = NULL;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_index_list(self.store->store, self.rollout, &indexes, &error);
    HVPY_END_LIBRARY
    PyObject *found = is_good(status, error) ? tuple_of(index_at, indexes) : NULL;
    PyObject *result = found == NULL ? NULL : PySequence_List(found);
    Py_XDECREF(found);
    hv_indexes_free(indexes);
    return finish(&self, result);
}

/* ---- drift ---- */

/* What is read of a report. */
typedef struct report_view {
    const hvpy_store *store;
    const hv_schema_report *report;
} report_view;

static PyObject *group_at(const void *object, size_t index) {
    const report_view *view = object;
    const hv_schema_group *group = hv_schema_report_group(view->report, index);
    if (group == NULL)
        return NULL;
    return PyObject_CallFunction(group_type, "NNNNN", PyLong_FromSize_t(group->count),
                                 hvpy_text(group->shards), hvpy_text(group->digest),
                                 hvpy_text(group->description), hvpy_text(group->differences));
}

static PyObject *failure_at(const void *object, size_t index) {
    const report_view *view = object;
    int server, shard;
    const hv_error *error;
    if (!hv_schema_report_failure(view->report, index, &server, &shard, &error))
        return NULL;
    return hvpy_shard_error(view->store, server, shard, error);
}

const char hvpy_schema_check_doc[] =
    "schema_check($self, *, " HVPY_ROLLOUT_DOC ")\n--\n\n"
    "Compare the schemas of all shards: tables, columns, indexes, functions, triggers, grants and "
    "so on.\nReturn a SchemaReport: its ``groups`` are of shards that are alike, each with its "
    "differences from\nthe largest. The arguments are those of migrate().";

PyObject *hvpy_schema_check(PyObject *store, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords) {
    static const hvpy_arguments expected = ROLLOUT("schema_check");
    work self;
    if (!begin_plain(&self, &expected, store, args, count, keywords))
        return NULL;
    hv_schema_report *report = NULL;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_schema_check(self.store->store, self.rollout, &report, &error);
    HVPY_END_LIBRARY
    PyObject *result = NULL;
    const report_view view = {.store = self.store, .report = report};
    if (is_good(status, error))
        result = PyObject_CallFunction(report_type, "NN", tuple_of(group_at, &view),
                                       tuple_of(failure_at, &view));
    hv_schema_report_free(report);
    return finish(&self, result);
}
