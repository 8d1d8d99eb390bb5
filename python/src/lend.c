/*
 * lend: the store's methods that lend psycopg2's connections and take them back.
 *
 * The GIL is kept where nothing has to be waited for: to let it go and take it again costs more
 * than to borrow a connection, and lets all other threads run in between.
 */
#include "lend.h"

#include <libpq-fe.h>
#include <string.h>

#include "arguments.h"
#include "error.h"
#include "store.h"

static hvpy_store *store_of(PyObject *object) {
    return (hvpy_store *) object;
}

/* The names of psycopg2's attributes, and their values in a connection that is as good as new. */
static struct expected {
    const char *name;
    PyObject *interned;
    PyObject *value;
} as_new[] = {{"autocommit", NULL, NULL},      {"status", NULL, NULL},
              {"isolation_level", NULL, NULL}, {"readonly", NULL, NULL},
              {"deferrable", NULL, NULL},      {"encoding", NULL, NULL}};

#define AS_NEW_COUNT (sizeof as_new / sizeof as_new[0])

int hvpy_lend_init(void) {
    PyObject *extensions = PyImport_ImportModule("psycopg2.extensions");
    if (extensions == NULL)
        return -1;
    as_new[1].value = PyObject_GetAttrString(extensions, "STATUS_READY");
    Py_DECREF(extensions);
    as_new[0].value = Py_True;
    as_new[2].value = as_new[3].value = as_new[4].value = Py_None;
    as_new[5].value = PyUnicode_InternFromString("UTF8");
    for (size_t i = 0; i < AS_NEW_COUNT; i++) {
        as_new[i].interned = PyUnicode_InternFromString(as_new[i].name);
        if (as_new[i].interned == NULL || as_new[i].value == NULL)
            return -1;
        Py_INCREF(as_new[i].value);
    }
    return 0;
}

/* ---- get_connection ---- */

const char hvpy_lend_get_doc[] =
    "get_connection($self, shard_id)\n--\n\n"
    "Borrow a psycopg2 connection to the server that holds a shard: return it with "
    "put_connection().\n\nIt is in autocommit, UTC and UTF8, and yours alone until then. Name "
    "tables with their schema:\nshard0005.entities.";

PyObject *hvpy_lend_get(PyObject *object, PyObject *const *args, Py_ssize_t count,
                        PyObject *keywords) {
    static const char *const names[] = {"shard_id"};
    static const hvpy_arguments expected = {
        .method = "get_connection", .names = names, .count = 1, .required = 1};
    hvpy_store *self = store_of(object);
    PyObject *found[1];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    int shard = hvpy_int_from(found[0]);
    if ((shard == -1 && PyErr_Occurred()) || !hvpy_store_enter(self))
        return NULL;
    PGconn *conn = NULL;
    hv_error *error = NULL;
    hv_status status = hv_try_acquire(self->store, shard, &conn, NULL);
    if (status != HV_OK) {
        Py_BEGIN_ALLOW_THREADS
        status = hv_acquire(self->store, shard, &conn, &error);
        Py_END_ALLOW_THREADS
    }
    PyObject *connection = NULL;
    if (status != HV_OK) {
        hvpy_raise(status, error);
    } else if (PyErr_Occurred()) { /* Ctrl-C came too late to stop it */
        hv_release(self->store, conn, NULL);
    } else {
        connection = hv_connection_handle(self->store, conn);
        Py_INCREF(connection);
    }
    hvpy_store_leave(self);
    return connection;
}

/* ---- put_connection ---- */

const char hvpy_lend_put_doc[] =
    "put_connection($self, connection)\n--\n\n"
    "Return a borrowed connection. An open transaction is rolled back; autocommit, time zone, "
    "encoding\nand set_session()'s settings are put right.";

const char hvpy_lend_discard_doc[] = "Have the store close a connection that it has lent.";

/* Has the borrower left psycopg2's side as it was? -1 with an exception. */
static int is_as_new(PyObject *connection) {
    for (size_t i = 0; i < AS_NEW_COUNT; i++) {
        PyObject *value = PyObject_GetAttr(connection, as_new[i].interned);
        if (value == NULL)
            return -1;
        int same = PyObject_RichCompareBool(value, as_new[i].value, Py_EQ);
        Py_DECREF(value);
        if (same != 1)
            return same;
    }
    return 1;
}

/* Can it be returned without waiting for the server? */
static bool is_quiet(PGconn *conn) {
    const char *zone = PQparameterStatus(conn, "TimeZone");
    const char *encoding = PQparameterStatus(conn, "client_encoding");
    return PQtransactionStatus(conn) == PQTRANS_IDLE && zone != NULL && strcmp(zone, "UTC") == 0 &&
           encoding != NULL && strcmp(encoding, "UTF8") == 0;
}

static PyObject *give_back(hvpy_store *self, PyObject *connection, PGconn *conn, bool good) {
    hv_error *error = NULL;
    hv_status status;
    if (good && is_quiet(conn)) {
        status = hv_release(self->store, conn, &error);
    } else {
        Py_BEGIN_ALLOW_THREADS
        status =
            good ? hv_release(self->store, conn, &error) : hv_discard(self->store, conn, &error);
        Py_END_ALLOW_THREADS
    }
    if (status == HV_INVALID) {
        hv_error_free(error);
        return hvpy_raise_foreign(connection);
    }
    if (status != HV_OK)
        return hvpy_raise(status, error);
    Py_RETURN_NONE;
}

/* Make it as good as new; 0 if it is not to be had, -1 with an exception. */
static int put_right(hvpy_store *self, PyObject *connection) {
    int good = is_as_new(connection);
    if (good == 1)
        return 1;
    PyErr_Clear(); /* psycopg2's own, of a connection that is beyond repair */
    PyObject *result =
        PyObject_CallMethod(self->callbacks->connector, "put_right", "O", connection);
    good = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return good;
}

static PyObject *put_back(hvpy_store *self, PyObject *connection, bool broken) {
    PGconn *conn = hvpy_pgconn(connection);
    if (conn == NULL)
        return NULL;
    PyObject *lent = hv_connection_handle(self->store, conn);
    if (lent == NULL) /* of a forked child's parent, or nobody's: the library knows */
        return give_back(self, connection, conn, true);
    if (lent != connection)
        return hvpy_raise_foreign(connection);
    int good = broken ? 0 : put_right(self, connection);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback); /* Ctrl-C, say: it goes back in any case */
    PyObject *result = give_back(self, connection, conn, good == 1);
    if (type != NULL) {
        Py_CLEAR(result);
        PyErr_Restore(type, value, traceback);
    }
    return result;
}

PyObject *hvpy_lend_put(PyObject *object, PyObject *const *args, Py_ssize_t count,
                        PyObject *keywords) {
    static const char *const names[] = {"connection"};
    static const hvpy_arguments expected = {
        .method = "put_connection", .names = names, .count = 1, .required = 1};
    hvpy_store *self = store_of(object);
    PyObject *found[1];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    PyObject *closed = PyObject_GetAttrString(found[0], "closed");
    if (closed == NULL) {
        PyErr_Clear();
        return hvpy_raise_foreign(found[0]);
    }
    long how = PyLong_AsLong(closed); /* 1: by close(), which has given it back; 2: it is broken */
    Py_DECREF(closed);
    if (how == -1 && PyErr_Occurred())
        return NULL;
    if (how == 1)
        Py_RETURN_NONE;
    if (!hvpy_store_enter_late(self))
        return NULL;
    PyObject *result = put_back(self, found[0], how != 0);
    hvpy_store_leave(self);
    return result;
}

PyObject *hvpy_lend_discard(PyObject *object, PyObject *connection) {
    hvpy_store *self = store_of(object);
    PyObject *address = PyObject_GetAttrString(connection, "pgconn_ptr");
    if (address == NULL)
        return NULL;
    PGconn *conn = address == Py_None ? NULL : PyLong_AsVoidPtr(address);
    Py_DECREF(address);
    if (conn == NULL || self->store == NULL || !hvpy_store_enter_late(self))
        Py_RETURN_FALSE;
    bool lent = hv_connection_handle(self->store, conn) == connection;
    PyObject *result = lent ? give_back(self, connection, conn, false) : NULL;
    hvpy_store_leave(self);
    if (!lent)
        Py_RETURN_FALSE;
    if (result == NULL)
        return NULL;
    Py_DECREF(result);
    Py_RETURN_TRUE;
}
