/*
 * key: hv.entity.Key, the key of an entity.
 *
 * A key is its number; the epoch only determines which time that means. So keys are compared,
 * ordered and hashed by their numbers alone.
 */
#include "key.h"

#include <datetime.h>
#include <hypervault.h>
#include <structmember.h>
#include <time.h>

#include "error.h"

typedef struct key_object {
    PyObject_HEAD
    long long id;
    long long epoch;
} key_object;

static PyTypeObject key_type;

static const key_object *key_of(PyObject *object) {
    return (const key_object *) object;
}

bool hvpy_key_check(PyObject *object) {
    return PyObject_TypeCheck(object, &key_type);
}

int64_t hvpy_key_id(PyObject *key) {
    return key_of(key)->id;
}

static PyObject *make(PyTypeObject *type, int64_t id, int64_t epoch) {
    key_object *key = (key_object *) type->tp_alloc(type, 0);
    if (key == NULL)
        return NULL;
    key->id = id;
    key->epoch = epoch;
    return (PyObject *) key;
}

PyObject *hvpy_key_new(int64_t id, int64_t epoch) {
    return make(&key_type, id, epoch);
}

static PyObject *key_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"id", "epoch", NULL};
    PyObject *number;
    long long epoch = HV_DEFAULT_EPOCH;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|L:Key", names, &number, &epoch))
        return NULL;
    PyObject *integer = PyNumber_Index(number);
    if (integer == NULL)
        return NULL;
    int overflow;
    long long id = PyLong_AsLongLongAndOverflow(integer, &overflow);
    Py_DECREF(integer);
    if (id == -1 && PyErr_Occurred())
        return NULL;
    if (overflow != 0 || id <= 0) {
        PyErr_Format(PyExc_ValueError, "a key is a positive 64-bit integer, not %R", number);
        return NULL;
    }
    if (hv_key_unpack(id, epoch, NULL, NULL, NULL, NULL) != HV_OK) {
        PyErr_Format(PyExc_ValueError, "no key can be counted from the epoch %lld", epoch);
        return NULL;
    }
    return make(type, id, epoch);
}

/* ---- moments ---- */

PyObject *hvpy_datetime_of(int64_t moment) {
    time_t seconds = moment / 1000;
    int ms = (int) (moment % 1000);
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    struct tm tm;
    if (gmtime_r(&seconds, &tm) == NULL) {
        PyErr_SetString(PyExc_OverflowError, "the time is out of range");
        return NULL;
    }
    return PyDateTime_FromDateAndTime(tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                                      tm.tm_min, tm.tm_sec, ms * 1000);
}

/* How far a datetime's time zone is ahead of UTC, in µs. Returns false with an exception. */
static bool offset_from(PyObject *datetime, int64_t *offset) {
    PyObject *delta = PyObject_CallMethod(datetime, "utcoffset", NULL);
    *offset = 0;
    if (delta != NULL && delta != Py_None) /* the method may be a subclass's, datetime checks it */
        *offset = ((int64_t) PyDateTime_DELTA_GET_DAYS(delta) * 86400 +
                   PyDateTime_DELTA_GET_SECONDS(delta)) *
                      1000000 +
                  PyDateTime_DELTA_GET_MICROSECONDS(delta);
    Py_XDECREF(delta);
    return delta != NULL;
}

bool hvpy_moment_from(PyObject *datetime, const char *name, int64_t *moment) {
    int64_t offset;
    if (!PyDateTime_Check(datetime)) {
        PyErr_Format(PyExc_TypeError, "%s must be a datetime, not %.200s", name,
                     Py_TYPE(datetime)->tp_name);
        return false;
    }
    if (!offset_from(datetime, &offset))
        return false;
    struct tm tm = {.tm_year = PyDateTime_GET_YEAR(datetime) - 1900,
                    .tm_mon = PyDateTime_GET_MONTH(datetime) - 1,
                    .tm_mday = PyDateTime_GET_DAY(datetime),
                    .tm_hour = PyDateTime_DATE_GET_HOUR(datetime),
                    .tm_min = PyDateTime_DATE_GET_MINUTE(datetime),
                    .tm_sec = PyDateTime_DATE_GET_SECOND(datetime)};
    int64_t us =
        (int64_t) timegm(&tm) * 1000000 + PyDateTime_DATE_GET_MICROSECOND(datetime) - offset;
    *moment = us / 1000 - (us % 1000 < 0);
    return true;
}

const char hvpy_key_bound_doc[] =
    "key_bound($module, created, epoch=1379365531352)\n--\n\n"
    "The bound for selecting by time: entities made at or after ``created`` have an id of at "
    "least\nthis. A datetime without a time zone is UTC.";

PyObject *hvpy_key_bound(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void) module;
    static char *names[] = {"created", "epoch", NULL};
    PyObject *created;
    long long epoch = HV_DEFAULT_EPOCH;
    int64_t moment, bound;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|L:key_bound", names, &created, &epoch) ||
        !hvpy_moment_from(created, "created", &moment))
        return NULL;
    hv_error *error = NULL;
    hv_status status = hv_key_bound(moment, epoch, &bound, &error);
    return status == HV_OK ? PyLong_FromLongLong(bound) : hvpy_raise(status, error);
}

/* ---- parts of a key ---- */

static void unpack(PyObject *self, int64_t *created, int *shard, int *added_id) {
    const key_object *key = key_of(self);
    hv_key_unpack(key->id, key->epoch, created, shard, added_id, NULL); /* cannot fail for a key */
}

static PyObject *key_created(PyObject *self, void *closure) {
    (void) closure;
    int64_t created = 0;
    unpack(self, &created, NULL, NULL);
    return hvpy_datetime_of(created);
}

static PyObject *key_shard_id(PyObject *self, void *closure) {
    (void) closure;
    int shard = 0;
    unpack(self, NULL, &shard, NULL);
    return PyLong_FromLong(shard);
}

static PyObject *key_added_id(PyObject *self, void *closure) {
    (void) closure;
    int added_id = 0;
    unpack(self, NULL, NULL, &added_id);
    return PyLong_FromLong(added_id);
}

static PyObject *key_int(PyObject *self) {
    return PyLong_FromLongLong(key_of(self)->id);
}

static PyObject *key_number_of(PyObject *self, void *closure) {
    (void) closure;
    return key_int(self);
}

static PyObject *key_str(PyObject *self) {
    return PyUnicode_FromFormat("%lld", key_of(self)->id);
}

static PyObject *key_repr(PyObject *self) {
    PyObject *created = key_created(self, NULL);
    PyObject *time = created == NULL
                         ? NULL
                         : PyObject_CallMethod(created, "isoformat", "ss", " ", "milliseconds");
    Py_XDECREF(created);
    if (time == NULL)
        return NULL;
    int shard = 0, added_id = 0;
    unpack(self, NULL, &shard, &added_id);
    PyObject *text = PyUnicode_FromFormat("<Key %lld: shard %d, created %U, added_id %d>",
                                          key_of(self)->id, shard, time, added_id);
    Py_DECREF(time);
    return text;
}

static PyObject *key_compare(PyObject *left, PyObject *right, int operation) {
    if (!hvpy_key_check(left) || !hvpy_key_check(right))
        Py_RETURN_NOTIMPLEMENTED;
    Py_RETURN_RICHCOMPARE(key_of(left)->id, key_of(right)->id, operation);
}

static Py_hash_t key_hash(PyObject *self) {
    return (Py_hash_t) key_of(self)->id; /* positive, so never -1 */
}

static PyObject *key_reduce(PyObject *self, PyObject *args) {
    (void) args;
    const key_object *key = key_of(self);
    if (key->epoch == HV_DEFAULT_EPOCH)
        return Py_BuildValue("O(L)", Py_TYPE(self), key->id);
    return Py_BuildValue("O(LL)", Py_TYPE(self), key->id, key->epoch);
}

static PyGetSetDef key_fields[] = {
    {"id", key_number_of, NULL, "The key as a number.", NULL},
    {"created", key_created, NULL, "When the key was made: a datetime in UTC without a time zone.",
     NULL},
    {"shard_id", key_shard_id, NULL, "The logical shard of the entity.", NULL},
    {"added_id", key_added_id, NULL, "Distinguishes the keys of one shard and millisecond.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef key_methods[] = {
    {"__reduce__", key_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyNumberMethods key_number = {.nb_int = key_int, .nb_index = key_int};

PyDoc_STRVAR(key_doc,
             "Key(id, epoch=DEFAULT_EPOCH)\n--\n\n"
             "The key of an entity: 64 bits that say which shard it is in and when it was made.\n\n"
             "Keys sort by time. Give the store's ``epoch`` if it is not the default.");

static PyTypeObject key_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv.entity.Key",
    .tp_basicsize = sizeof(key_object),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_doc = key_doc,
    .tp_new = key_new,
    .tp_repr = key_repr,
    .tp_str = key_str,
    .tp_hash = key_hash,
    .tp_richcompare = key_compare,
    .tp_as_number = &key_number,
    .tp_getset = key_fields,
    .tp_methods = key_methods,
};

int hvpy_key_init(PyObject *module) {
    PyDateTime_IMPORT;
    if (PyDateTimeAPI == NULL || PyType_Ready(&key_type) < 0)
        return -1;
    Py_INCREF(&key_type);
    if (PyModule_AddObject(module, "Key", (PyObject *) &key_type) < 0) {
        Py_DECREF(&key_type);
        return -1;
    }
    PyObject *epoch = PyLong_FromLongLong(HV_DEFAULT_EPOCH);
    if (epoch == NULL || PyModule_AddObject(module, "DEFAULT_EPOCH", epoch) < 0) {
        Py_XDECREF(epoch);
        return -1;
    }
    return 0;
}
