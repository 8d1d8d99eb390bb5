/*
 * change: the changes of an entity, replace, merge, increment and delete: their arguments, their
 * results, and the class Change, which holds one until it is made.
 */
#include "change.h"

#include <string.h>

#include "arguments.h"
#include "error.h"
#include "key.h"
#include "row.h"

/* A decimal number with more places than this, before or after its point, is not written out. */
#define MOST_PLACES 1000

static PyObject *decimal; /* decimal.Decimal */

/* ---- arguments ---- */

#define CONDITION       "if_", "if_absent", "if_kind", "if_version"
#define CONDITION_COUNT 4
#define MOST_ARGUMENTS  7

static const char *const replace_names[] = {"key", "kind", "attributes", CONDITION};
static const char *const merge_names[] = {"key", "set", "remove", CONDITION};
static const char *const increment_names[] = {"key", "attribute", "amount", CONDITION};
static const char *const delete_names[] = {"key", CONDITION};

#define METHOD(name, arguments, fewest)                                        \
    {                                                                          \
        .method = name, .names = arguments, .required = fewest,                \
        .count = sizeof arguments / sizeof arguments[0],                       \
        .positional = sizeof arguments / sizeof arguments[0] - CONDITION_COUNT \
    }

static const hvpy_arguments methods[] = {
    [HV_REPLACE] = METHOD("replace", replace_names, 2),
    [HV_MERGE] = METHOD("merge", merge_names, 1),
    [HV_INCREMENT] = METHOD("increment", increment_names, 2),
    [HV_DELETE] = METHOD("delete", delete_names, 1),
};

static bool is_given(PyObject *argument) {
    return argument != NULL && argument != Py_None;
}

/* Is it a Decimal whose digits can all be written? Otherwise the library refuses it as it is. */
static bool has_short_text(PyObject *number) {
    PyObject *places = PyObject_CallMethod(number, "adjusted", NULL); /* 0 for infinities and NaN */
    int overflow = 0;
    long most = places == NULL ? -1 : PyLong_AsLongAndOverflow(places, &overflow);
    Py_XDECREF(places);
    return overflow == 0 && most < MOST_PLACES && most > -MOST_PLACES;
}

/* An amount as text, which the library checks. Returns a new reference, or NULL. */
static PyObject *amount_from(PyObject *argument) {
    if (PyUnicode_Check(argument)) {
        Py_INCREF(argument);
        return argument;
    }
    if (PyLong_Check(argument) && !PyBool_Check(argument))
        return PyLong_Type.tp_repr(argument);
    int is_decimal = PyObject_IsInstance(argument, decimal);
    if (is_decimal < 0)
        return NULL;
    if (is_decimal > 0)
        return has_short_text(argument) ? PyObject_CallMethod(argument, "__format__", "s", "f")
                                        : PyObject_Str(argument);
    if (PyFloat_Check(argument))
        PyErr_Format(PyExc_TypeError,
                     "amount must be int, Decimal or str, not float: %R is not exactly what it "
                     "looks like; use Decimal('%R')",
                     argument, argument);
    else
        PyErr_Format(PyExc_TypeError, "amount must be int, Decimal or str, not %.200s",
                     Py_TYPE(argument)->tp_name);
    return NULL;
}

/* Raises the library's error unless the status is HV_OK. */
static bool is_ok(hv_status status, hv_error *error) {
    if (status != HV_OK)
        hvpy_raise(status, error);
    return status == HV_OK;
}

static bool add_attributes(hvpy_change *self, PyObject *given) {
    hv_dict *dict = hvpy_attributes_from(given);
    if (dict == NULL)
        return false;
    hv_error *error = NULL;
    hv_status status = hv_condition_has(self->condition, dict, &error);
    self->size += hvpy_attributes_size(dict);
    hv_dict_free(dict);
    return is_ok(status, error);
}

static bool add_absent(hvpy_change *self, PyObject *given) {
    hvpy_names names;
    if (!hvpy_names_from(given, "if_absent", &names))
        return false;
    hv_error *error = NULL;
    hv_status status = HV_OK;
    for (const char **name = names.list; *name != NULL && status == HV_OK; name++)
        status = hv_condition_lacks(self->condition, *name, HV_STRLEN, &error);
    self->size += hvpy_names_size(&names);
    hvpy_names_free(&names);
    return is_ok(status, error);
}

static bool add_kind(hvpy_change *self, PyObject *given) {
    int kind = hvpy_int_from(given);
    if (kind == -1 && PyErr_Occurred())
        return false;
    hv_error *error = NULL;
    hv_status status = hv_condition_kind(self->condition, kind, &error);
    return is_ok(status, error);
}

static bool add_version(hvpy_change *self, PyObject *given) {
    const char *version = hvpy_text_from(given, "if_version");
    if (version == NULL)
        return false;
    hv_error *error = NULL;
    hv_status status = hv_condition_version(self->condition, version, &error);
    return is_ok(status, error);
}

/* The arguments of CONDITION. Without any there is no condition. */
static bool take_condition(hvpy_change *self, PyObject *const *found) {
    static bool (*const add[])(hvpy_change * self, PyObject * given) = {add_attributes, add_absent,
                                                                        add_kind, add_version};
    for (int i = 0; i < CONDITION_COUNT; i++) {
        if (!is_given(found[i]))
            continue;
        if (self->condition == NULL && (self->condition = hv_condition_new()) == NULL) {
            PyErr_NoMemory();
            return false;
        }
        if (!add[i](self, found[i]))
            return false;
    }
    return true;
}

static bool take_dict(hvpy_change *self, PyObject *attributes) {
    self->dict = hvpy_attributes_from(attributes == NULL ? Py_None : attributes);
    if (self->dict != NULL)
        self->size += hvpy_attributes_size(self->dict);
    return self->dict != NULL;
}

/* The arguments between the key and the condition. */
static bool take_own(hvpy_change *self, PyObject *const *found) {
    hv_change *change = &self->change;
    switch (change->type) {
    case HV_REPLACE:
        change->kind = hvpy_int_from(found[0]);
        return !(change->kind == -1 && PyErr_Occurred()) && take_dict(self, found[1]);
    case HV_MERGE:
        if (!take_dict(self, found[0]) || !hvpy_names_from(found[1], "remove", &self->remove))
            return false;
        self->size += hvpy_names_size(&self->remove);
        return true;
    case HV_INCREMENT:
        Py_INCREF(found[0]);
        self->attribute = found[0];
        change->attribute = hvpy_text_from(self->attribute, "attribute");
        if (change->attribute == NULL)
            return false;
        self->amount = found[1] == NULL ? PyUnicode_FromString("1") : amount_from(found[1]);
        change->amount = self->amount == NULL ? NULL : hvpy_text_from(self->amount, "amount");
        if (change->amount == NULL)
            return false;
        self->size += strlen(change->attribute) + strlen(change->amount);
        return true;
    case HV_DELETE:
        break;
    }
    return true;
}

bool hvpy_change_parse(hv_change_type type, PyObject *const *args, Py_ssize_t count,
                       PyObject *keywords, hvpy_change *change) {
    PyObject *found[MOST_ARGUMENTS];
    if (hvpy_arguments_parse(&methods[type], args, count, keywords, found, NULL) < 0)
        return false;
    if (!hvpy_key_check(found[0])) {
        hvpy_raise_no_key(found[0]);
        return false;
    }
    *change = (hvpy_change){.change = {.type = type, .key = hvpy_key_id(found[0])}};
    if (!take_own(change, found + 1) || !take_condition(change, found + methods[type].positional)) {
        hvpy_change_free(change);
        return false;
    }
    change->change.dict = change->dict;
    change->change.remove = change->remove.list;
    change->change.condition = change->condition;
    return true;
}

void hvpy_change_free(hvpy_change *change) {
    hv_dict_free(change->dict);
    hvpy_names_free(&change->remove);
    Py_XDECREF(change->attribute);
    Py_XDECREF(change->amount);
    hv_condition_free(change->condition);
    *change = (hvpy_change){0};
}

/* ---- results ---- */

/* An int, or a Decimal if it has a decimal point. */
static PyObject *number_from(const char *text) {
    if (strchr(text, '.') != NULL)
        return PyObject_CallFunction(decimal, "s", text);
    return PyLong_FromString(text, NULL, 10);
}

/* The value of the one attribute of an entity that was incremented. */
static PyObject *new_value(const hv_entity *entity) {
    const char *value = NULL;
    hv_dict_at(hv_entity_dict(entity), 0, NULL, NULL, &value, NULL);
    PyObject *number = value == NULL ? NULL : number_from(value);
    if (number != NULL)
        return number;
    PyErr_Clear();
    return hvpy_raise_new(HV_CORRUPT, "the entity %lld was changed, but its new value is no number",
                          (long long) hv_entity_key(entity));
}

PyObject *hvpy_change_result(hv_change_type type, hv_status status, int64_t key, int64_t epoch,
                             const hv_entity *entity) {
    if (status == HV_CHANGED) {
        int shard = -1;
        hv_key_unpack(key, epoch, NULL, &shard, NULL, NULL);
        PyObject *row = hvpy_row_of(entity);
        PyObject *exception = row == NULL ? NULL : hvpy_changed_new(key, shard, row);
        Py_XDECREF(row);
        return exception;
    }
    if (type != HV_INCREMENT)
        return PyBool_FromLong(status == HV_OK);
    if (status == HV_NOT_FOUND)
        Py_RETURN_NONE;
    return new_value(entity);
}

/* ---- the class ---- */

typedef struct change_object {
    PyObject_HEAD
    hvpy_change change;
} change_object;

static PyTypeObject change_type;

const hvpy_change *hvpy_change_of(PyObject *object) {
    if (PyObject_TypeCheck(object, &change_type))
        return &((change_object *) object)->change;
    PyErr_Format(PyExc_TypeError, "change must be of type Change, not %.200s",
                 Py_TYPE(object)->tp_name);
    return NULL;
}

static PyObject *make(hv_change_type type, PyObject *const *args, Py_ssize_t count,
                      PyObject *keywords) {
    hvpy_change change;
    if (!hvpy_change_parse(type, args, count, keywords, &change))
        return NULL;
    change_object *self = PyObject_New(change_object, &change_type);
    if (self == NULL)
        hvpy_change_free(&change);
    else
        self->change = change;
    return (PyObject *) self;
}

static PyObject *make_replace(PyObject *unused, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords) {
    (void) unused;
    return make(HV_REPLACE, args, count, keywords);
}

static PyObject *make_merge(PyObject *unused, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords) {
    (void) unused;
    return make(HV_MERGE, args, count, keywords);
}

static PyObject *make_increment(PyObject *unused, PyObject *const *args, Py_ssize_t count,
                                PyObject *keywords) {
    (void) unused;
    return make(HV_INCREMENT, args, count, keywords);
}

static PyObject *make_delete(PyObject *unused, PyObject *const *args, Py_ssize_t count,
                             PyObject *keywords) {
    (void) unused;
    return make(HV_DELETE, args, count, keywords);
}

static void change_dealloc(PyObject *object) {
    hvpy_change_free(&((change_object *) object)->change);
    PyObject_Free(object);
}

static PyObject *change_repr(PyObject *object) {
    const hv_change *change = &((change_object *) object)->change.change;
    return PyUnicode_FromFormat("<Change: %s %lld>", methods[change->type].method,
                                (long long) change->key);
}

#define STATIC(function) \
    ((PyCFunction) (void (*)(void))(function)), METH_FASTCALL | METH_KEYWORDS | METH_STATIC

static PyMethodDef change_methods[] = {
    {"replace", STATIC(make_replace),
     "replace(key, kind, attributes=None, *, " HVPY_CONDITION ")\n--\n\n"
     "A change as Datastore.replace() makes it."},
    {"merge", STATIC(make_merge),
     "merge(key, set=None, remove=(), *, " HVPY_CONDITION ")\n--\n\n"
     "A change as Datastore.merge() makes it."},
    {"increment", STATIC(make_increment),
     "increment(key, attribute, amount=1, *, " HVPY_CONDITION ")\n--\n\n"
     "A change as Datastore.increment() makes it."},
    {"delete", STATIC(make_delete),
     "delete(key, *, " HVPY_CONDITION ")\n--\n\nA change as Datastore.delete() makes it."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject change_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv.entity.Change",
    .tp_basicsize = sizeof(change_object),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A change of an entity, for Datastore.change_many(). It is made with the arguments "
              "of the Datastore's method:\nChange.merge(key, {'a': 'b'}, if_version=row.version).",
    .tp_dealloc = change_dealloc,
    .tp_repr = change_repr,
    .tp_methods = change_methods,
};

int hvpy_change_init(PyObject *module) {
    PyObject *numbers = PyImport_ImportModule("decimal");
    decimal = numbers == NULL ? NULL : PyObject_GetAttrString(numbers, "Decimal");
    Py_XDECREF(numbers);
    if (decimal == NULL || PyType_Ready(&change_type) < 0)
        return -1;
    Py_INCREF(&change_type);
    if (PyModule_AddObject(module, "Change", (PyObject *) &change_type) < 0) {
        Py_DECREF(&change_type);
        return -1;
    }
    return 0;
}
