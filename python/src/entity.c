/*
 * entity: methods for single entities: put, put_key, get, exists, replace, merge, increment,
 * delete, of a store or of a transaction, and the store's reserve.
 *
 * Arguments are converted for the library before the GIL is released, results for Python after it
 * is taken again.
 */
#include "entity.h"

#include "arguments.h"
#include "attributes.h"
#include "change.h"
#include "error.h"
#include "key.h"
#include "row.h"
#include "threads.h"
#include "transaction.h"

/* After a call of the library: raise its error, or the exception that interrupted it. */
static bool failed(const hvpy_scope *at, hv_status status, hv_error *error) {
    if (status == HV_OK || status == HV_NOT_FOUND || status == HV_CHANGED)
        return PyErr_Occurred() != NULL;
    hvpy_scope_raise(at, status, error);
    return true;
}

/* The number of a key. */
static bool key_from(PyObject *argument, int64_t *key) {
    if (!hvpy_key_check(argument)) {
        hvpy_raise_no_key(argument);
        return false;
    }
    *key = hvpy_key_id(argument);
    return true;
}

/* ---- put ---- */

const char hvpy_entity_put_doc[] =
    "put($self, shard_id, kind, attributes=None, /, **kwargs)\n--\n\n"
    "Store an entity in a shard and return its new Key.\n\n"
    "``kind`` is an integer, -32768 to 32767, that distinguishes types of entities. Attributes\n"
    "are given as keywords, as a mapping, or both; values may be str, int, float, bool or None.";

PyObject *hvpy_entity_put(PyObject *object, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords) {
    static const char *const names[] = {"shard_id", "kind"};
    static const hvpy_arguments expected = {
        .method = "put", .names = names, .count = 2, .required = 2};
    hvpy_scope at;
    PyObject *found[2];
    hv_dict *dict = NULL;
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, &dict) < 0)
        return NULL;
    PyObject *result = NULL;
    hv_error *error = NULL;
    hv_status status;
    int64_t key = 0;
    int shard = hvpy_int_from(found[0]);
    int kind = shard == -1 && PyErr_Occurred() ? -1 : hvpy_int_from(found[1]);
    if (PyErr_Occurred() || !hvpy_scope_enter(object, &at))
        goto out;
    HVPY_BEGIN_LIBRARY
    status = at.tx != NULL ? hv_tx_put(at.tx, shard, kind, dict, &key, &error)
                           : hv_put(at.store->store, shard, kind, dict, &key, &error);
    HVPY_END_LIBRARY
    hvpy_scope_leave(&at);
    if (!failed(&at, status, error))
        result = hvpy_key_new(key, at.store->epoch);
out:
    hv_dict_free(dict);
    return result;
}

const char hvpy_entity_put_key_doc[] =
    "put_key($self, key, kind, attributes=None, /, **kwargs)\n--\n\n"
    "Store an entity under a key from reserve(). Repeating the call is safe: if the same entity\n"
    "is there already, nothing is done; if another one is, DatastoreError (HV_CONFLICT) is raised.";

PyObject *hvpy_entity_put_key(PyObject *object, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords) {
    static const char *const names[] = {"key", "kind"};
    static const hvpy_arguments expected = {
        .method = "put_key", .names = names, .count = 2, .required = 2};
    hvpy_scope at;
    PyObject *found[2];
    hv_dict *dict = NULL;
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, &dict) < 0)
        return NULL;
    PyObject *result = NULL;
    hv_error *error = NULL;
    hv_status status;
    int64_t key = 0;
    int kind = 0;
    if (key_from(found[0], &key))
        kind = hvpy_int_from(found[1]);
    if (PyErr_Occurred() || !hvpy_scope_enter(object, &at))
        goto out;
    HVPY_BEGIN_LIBRARY
    status = at.tx != NULL ? hv_tx_put_key(at.tx, key, kind, dict, &error)
                           : hv_put_key(at.store->store, key, kind, dict, &error);
    HVPY_END_LIBRARY
    hvpy_scope_leave(&at);
    if (!failed(&at, status, error)) {
        Py_INCREF(Py_None);
        result = Py_None;
    }
out:
    hv_dict_free(dict);
    return result;
}

/* ---- get ---- */

const char hvpy_entity_get_doc[] =
    "get($self, key, *, only=None, version=False)\n--\n\n"
    "Fetch an entity: return a row with row['id'], row['type'] and row['body'], which is a dict,\n"
    "or None if there is no such entity. With ``only``, names of attributes, the body has no\n"
    "others. With ``version`` the row has a row.version, which differs after every change of the\n"
    "entity: for ``if_version``.";

/* The version is fetched with chosen attributes alone; no names: all of them. */
static hv_status run_get(const hvpy_scope *at, int64_t key, const char *const *names, bool chosen,
                         hv_entity **entity, hv_error **error) {
    if (at->tx != NULL)
        return chosen ? hv_tx_get_only(at->tx, key, names, entity, error)
                      : hv_tx_get(at->tx, key, entity, error);
    return chosen ? hv_get_only(at->store->store, key, names, entity, error)
                  : hv_get(at->store->store, key, entity, error);
}

PyObject *hvpy_entity_get(PyObject *object, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords) {
    static const char *const names[] = {"key", "only", "version"};
    static const hvpy_arguments expected = {
        .method = "get", .names = names, .count = 3, .required = 1, .positional = 1};
    hvpy_scope at;
    PyObject *found[3];
    int64_t key;
    hvpy_names only;
    bool version;
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0 ||
        !key_from(found[0], &key) || !hvpy_bool_from(found[2], &version) ||
        !hvpy_names_from(found[1], "only", &only))
        return NULL;
    PyObject *result = NULL;
    hv_entity *entity = NULL;
    hv_error *error = NULL;
    hv_status status;
    if (!hvpy_scope_enter(object, &at))
        goto out;
    HVPY_BEGIN_LIBRARY
    status = run_get(&at, key, only.list, only.list != NULL || version, &entity, &error);
    HVPY_END_LIBRARY
    hvpy_scope_leave(&at);
    if (!failed(&at, status, error))
        result = hvpy_row_of(entity);
    hv_entity_free(entity);
out:
    hvpy_names_free(&only);
    return result;
}

/* ---- exists ---- */

const char hvpy_entity_exists_doc[] =
    "exists($self, key)\n--\n\n"
    "Is there an entity with this key? Its attributes are not fetched.";

PyObject *hvpy_entity_exists(PyObject *object, PyObject *const *args, Py_ssize_t count,
                             PyObject *keywords) {
    static const char *const names[] = {"key"};
    static const hvpy_arguments expected = {
        .method = "exists", .names = names, .count = 1, .required = 1};
    hvpy_scope at;
    PyObject *found[1];
    int64_t key;
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0 ||
        !key_from(found[0], &key) || !hvpy_scope_enter(object, &at))
        return NULL;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status =
        at.tx != NULL ? hv_tx_exists(at.tx, key, &error) : hv_exists(at.store->store, key, &error);
    HVPY_END_LIBRARY
    hvpy_scope_leave(&at);
    return failed(&at, status, error) ? NULL : PyBool_FromLong(status == HV_OK);
}

/* ---- replace, merge, increment, delete ---- */

static hv_status run_change(const hvpy_scope *at, const hv_change *c, hv_entity **entity,
                            hv_error **error) {
    hv_store *store = at->store->store;
    switch (c->type) {
    case HV_REPLACE:
        return at->tx != NULL
                   ? hv_tx_replace(at->tx, c->key, c->kind, c->dict, c->condition, entity, error)
                   : hv_replace(store, c->key, c->kind, c->dict, c->condition, entity, error);
    case HV_MERGE:
        return at->tx != NULL
                   ? hv_tx_merge(at->tx, c->key, c->dict, c->remove, c->condition, entity, error)
                   : hv_merge(store, c->key, c->dict, c->remove, c->condition, entity, error);
    case HV_INCREMENT:
        return at->tx != NULL ? hv_tx_increment(at->tx, c->key, c->attribute, c->amount,
                                                c->condition, entity, error)
                              : hv_increment(store, c->key, c->attribute, c->amount, c->condition,
                                             entity, error);
    case HV_DELETE:
        break;
    }
    return at->tx != NULL ? hv_tx_delete(at->tx, c->key, c->condition, entity, error)
                          : hv_delete(store, c->key, c->condition, entity, error);
}

/* After a call of the library: the result, or NULL with its error or the exception that interrupted
 * it. */
static PyObject *change_made(const hvpy_scope *at, const hv_change *change, hv_status status,
                             const hv_entity *entity, hv_error *error) {
    if (failed(at, status, error))
        return NULL;
    PyObject *result =
        hvpy_change_result(change->type, status, change->key, at->store->epoch, entity);
    return status == HV_CHANGED ? hvpy_raise_object(result) : result;
}

static PyObject *change(hv_change_type type, PyObject *object, PyObject *const *args,
                        Py_ssize_t count, PyObject *keywords) {
    hvpy_scope at;
    hvpy_change made;
    if (!hvpy_change_parse(type, args, count, keywords, &made))
        return NULL;
    PyObject *result = NULL;
    hv_entity *entity = NULL;
    hv_error *error = NULL;
    hv_status status;
    if (!hvpy_scope_enter(object, &at))
        goto out;
    HVPY_BEGIN_LIBRARY
    status = run_change(&at, &made.change, &entity, &error);
    HVPY_END_LIBRARY
    hvpy_scope_leave(&at);
    result = change_made(&at, &made.change, status, entity, error);
    hv_entity_free(entity);
out:
    hvpy_change_free(&made);
    return result;
}

#define UNLESS_DOC                                                                             \
    "With a condition that the entity does not meet, nothing is changed and ChangedError is\n" \
    "raised: ``if_`` (a mapping: these attributes have these values), ``if_absent`` (it does " \
    "not\n"                                                                                    \
    "have these attributes), ``if_kind``, ``if_version`` (it is still as the row with this\n"  \
    "version)."

const char hvpy_entity_replace_doc[] =
    "replace($self, key, kind, attributes=None, *, " HVPY_CONDITION ")\n--\n\n"
    "Replace an entity's kind and all of its attributes. False if there is no such "
    "entity.\n\n" UNLESS_DOC;

PyObject *hvpy_entity_replace(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords) {
    return change(HV_REPLACE, self, args, count, keywords);
}

const char hvpy_entity_merge_doc[] =
    "merge($self, key, set=None, remove=(), *, " HVPY_CONDITION ")\n--\n\n"
    "Set the attributes of ``set``, a mapping, remove those that ``remove`` names, and leave the\n"
    "others as they are. False if there is no such entity.\n\n" UNLESS_DOC;

PyObject *hvpy_entity_merge(PyObject *self, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords) {
    return change(HV_MERGE, self, args, count, keywords);
}

const char hvpy_entity_increment_doc[] =
    "increment($self, key, attribute, amount=1, *, " HVPY_CONDITION ")\n--\n\n"
    "Add to an attribute that holds a number, and return its new value: an int, or a Decimal if\n"
    "it has a decimal point. A missing attribute counts as 0. None if there is no such entity.\n"
    "``amount`` is an int, a Decimal, or a str that holds a number.\n\n" UNLESS_DOC;

PyObject *hvpy_entity_increment(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                PyObject *keywords) {
    return change(HV_INCREMENT, self, args, count, keywords);
}

const char hvpy_entity_delete_doc[] = "delete($self, key, *, " HVPY_CONDITION ")\n--\n\n"
                                      "Delete an entity. False if there is none.\n\n" UNLESS_DOC;

PyObject *hvpy_entity_delete(PyObject *self, PyObject *const *args, Py_ssize_t count,
                             PyObject *keywords) {
    return change(HV_DELETE, self, args, count, keywords);
}

/* ---- reserve ---- */

const char hvpy_entity_reserve_doc[] =
    "reserve($self, shard_id, count=1)\n--\n\n"
    "Reserve keys of a shard for put_key(): return a list of Keys, in ascending order, that no\n"
    "other caller gets. ``count`` is 1 to 100,000.";

static PyObject *list_of_keys(const int64_t *keys, int count, int64_t epoch) {
    PyObject *list = PyList_New(count);
    for (int i = 0; list != NULL && i < count; i++) {
        PyObject *key = hvpy_key_new(keys[i], epoch);
        if (key == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, key);
    }
    return list;
}

PyObject *hvpy_entity_reserve(PyObject *object, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords) {
    static const char *const names[] = {"shard_id", "count"};
    static const hvpy_arguments expected = {
        .method = "reserve", .names = names, .count = 2, .required = 1};
    hvpy_store *self = (hvpy_store *) object;
    PyObject *found[2];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    int shard = hvpy_int_from(found[0]);
    if (shard == -1 && PyErr_Occurred())
        return NULL;
    int wanted = found[1] == NULL ? 1 : hvpy_int_from(found[1]);
    if (wanted == -1 && PyErr_Occurred())
        return NULL;
    /* The library refuses values out of range before it writes anything. */
    int64_t *keys = PyMem_New(int64_t, wanted > 0 && wanted <= 100000 ? wanted : 1);
    if (keys == NULL)
        return PyErr_NoMemory();
    PyObject *result = NULL;
    hv_error *error = NULL;
    hv_status status;
    if (!hvpy_store_enter(self))
        goto out;
    HVPY_BEGIN_LIBRARY
    status = hv_reserve(self->store, shard, wanted, keys, &error);
    HVPY_END_LIBRARY
    hvpy_store_leave(self);
    if (status != HV_OK)
        hvpy_raise(status, error);
    else if (!PyErr_Occurred())
        result = list_of_keys(keys, wanted, self->epoch);
out:
    PyMem_Free(keys);
    return result;
}
