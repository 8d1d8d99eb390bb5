/*
 * lend: the store's methods that lend psycopg2's connections and take them back.
 *
 * The pool's reference to a connection goes to the borrower together with the connection, and comes
 * back with it. So if nothing refers to a lent connection, its borrower has lost it.
 *
 * The GIL is kept where nothing has to be waited for: releasing it and taking it again costs more
 * than borrowing a connection, and lets all other threads run in between.
 */
#include "lend.h"

#include <libpq-fe.h>
#include <string.h>
#include <sys/socket.h>

#include "arguments.h"
#include "error.h"
#include "report.h"
#include "store.h"
#include "threads.h"

static hvpy_store *store_of(PyObject *object) {
    return (hvpy_store *) object;
}

/* The names of psycopg2's attributes, and their values in a connection that is reset. */
static struct expected {
    const char *name;
    PyObject *interned;
    PyObject *value;
} as_new[] = {{"autocommit", NULL, NULL},      {"status", NULL, NULL},
              {"isolation_level", NULL, NULL}, {"readonly", NULL, NULL},
              {"deferrable", NULL, NULL},      {"encoding", NULL, NULL}};

#define AS_NEW_COUNT (sizeof as_new / sizeof as_new[0])

static PyTypeObject lent_type;

/* An attribute of a connection: its borrower has it. A connection that the library has lent but
 * whose borrower still waits for the GIL must not be closed, or the borrower would receive a
 * closed one. */
static PyObject *lent_name;

static int set_lent(PyObject *connection, bool lent) {
    return PyObject_SetAttr(connection, lent_name, lent ? Py_True : Py_False);
}

int hvpy_lend_init(PyObject *module) {
    if (PyType_Ready(&lent_type) < 0)
        return -1;
    Py_INCREF(&lent_type);
    if (PyModule_AddObject(module, "Lent", (PyObject *) &lent_type) < 0) {
        Py_DECREF(&lent_type);
        return -1;
    }
    lent_name = PyUnicode_InternFromString("_hv_lent");
    if (lent_name == NULL)
        return -1;
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
    "Borrow a psycopg2 connection to the server that holds a shard. Return it with\n"
    "put_connection().\n\n"
    "It is in autocommit, UTC and UTF8, and yours alone until then. Name tables with their\n"
    "schema: shard0005.entities.";

/* Hand a connection, which the library has lent to the store that was entered, to its borrower. */
static PyObject *hand_over(hvpy_store *self, hv_status status, PGconn *conn, hv_error *error) {
    if (status != HV_OK)
        return hvpy_raise(status, error);
    if (PyErr_Occurred()) { /* Ctrl-C came too late to stop it */
        hv_release(self->store, conn, NULL);
        return NULL;
    }
    PyObject *connection = hv_connection_handle(self->store, conn); /* the pool's reference */
    if (set_lent(connection, true) < 0) {
        hv_release(self->store, conn, NULL);
        return NULL;
    }
    return connection;
}

PyObject *hvpy_lend_borrow(hvpy_store *self, PyObject *shard_id) {
    int shard = hvpy_int_from(shard_id);
    if ((shard == -1 && PyErr_Occurred()) || !hvpy_store_enter(self))
        return NULL;
    PGconn *conn = NULL;
    hv_error *error = NULL;
    hv_status status = hv_try_acquire(self->store, shard, &conn, NULL);
    if (status != HV_OK) {
        HVPY_BEGIN_LIBRARY
        status = hv_acquire(self->store, shard, &conn, &error);
        HVPY_END_LIBRARY
    }
    PyObject *connection = hand_over(self, status, conn, error);
    hvpy_store_leave(self);
    return connection;
}

/* The number of a server that is given by its number or its name; enters the store. */
static bool server_from(hvpy_store *self, PyObject *given, int *server) {
    int end;
    if (PyUnicode_Check(given))
        return hvpy_report_servers_from(self, given, server, &end);
    *server = hvpy_int_from(given);
    return !(*server == -1 && PyErr_Occurred()) && hvpy_store_enter(self);
}

PyObject *hvpy_lend_borrow_server(hvpy_store *self, PyObject *given) {
    int server;
    if (!server_from(self, given, &server))
        return NULL;
    PGconn *conn = NULL;
    hv_error *error = NULL;
    hv_status status;
    HVPY_BEGIN_LIBRARY
    status = hv_acquire_server(self->store, server, &conn, &error);
    HVPY_END_LIBRARY
    PyObject *connection = hand_over(self, status, conn, error);
    hvpy_store_leave(self);
    return connection;
}

PyObject *hvpy_lend_get(PyObject *object, PyObject *const *args, Py_ssize_t count,
                        PyObject *keywords) {
    static const char *const names[] = {"shard_id"};
    static const hvpy_arguments expected = {
        .method = "get_connection", .names = names, .count = 1, .required = 1};
    PyObject *found[1];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    return hvpy_lend_borrow(store_of(object), found[0]);
}

const char hvpy_lend_get_server_doc[] =
    "get_connection_server($self, server)\n--\n\n"
    "Borrow a psycopg2 connection to a server, which is given by its name or its place among\n"
    "``servers``. Otherwise as get_connection().";

PyObject *hvpy_lend_get_server(PyObject *object, PyObject *const *args, Py_ssize_t count,
                               PyObject *keywords) {
    static const char *const names[] = {"server"};
    static const hvpy_arguments expected = {
        .method = "get_connection_server", .names = names, .count = 1, .required = 1};
    PyObject *found[1];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    return hvpy_lend_borrow_server(store_of(object), found[0]);
}

/* ---- put_connection ---- */

const char hvpy_lend_put_doc[] =
    "put_connection($self, connection)\n--\n\n"
    "Return a borrowed connection. An open transaction is rolled back; autocommit, time zone,\n"
    "encoding and set_session()'s settings are reset.";

const char hvpy_lend_discard_doc[] = "Make the store close a connection that it has lent.";

/* Has the borrower left psycopg2's side as it was? Returns -1 with an exception. */
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

/* Has disconnect() closed it, or is it about to? */
static bool is_disconnected(PyObject *connection) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *disconnected = PyObject_GetAttrString(connection, "_hv_disconnected");
    bool is = disconnected == Py_True;
    Py_XDECREF(disconnected);
    PyErr_Restore(type, value, traceback);
    return is;
}

/* Raise an error, since the connection is not lent, unless disconnect() has taken it from its
 * borrower. */
static PyObject *not_lent(PyObject *connection) {
    if (!is_disconnected(connection))
        return hvpy_raise_foreign(connection);
    Py_RETURN_NONE;
}

/* Return the connection, with the reference that the pool gave to its borrower. */
static PyObject *give_back(hvpy_store *self, PyObject *connection, PGconn *conn, bool good) {
    hv_error *error = NULL;
    hv_status status;
    if (PyObject_TypeCheck(connection, &lent_type) && set_lent(connection, false) < 0)
        return NULL;
    Py_INCREF(connection);
    if (good && is_quiet(conn)) {
        status = hv_release(self->store, conn, &error);
    } else {
        HVPY_BEGIN_LIBRARY
        status =
            good ? hv_release(self->store, conn, &error) : hv_discard(self->store, conn, &error);
        HVPY_END_LIBRARY
    }
    if (status != HV_OK)
        Py_DECREF(connection);
    if (status == HV_INVALID) {
        hv_error_free(error);
        return not_lent(connection);
    }
    if (status != HV_OK)
        return hvpy_raise(status, error);
    Py_RETURN_NONE;
}

/* Reset the connection; returns 0 if that is impossible, -1 with an exception. */
static int reset(hvpy_store *self, PyObject *connection) {
    int good = is_as_new(connection);
    if (good == 1)
        return 1;
    PyErr_Clear(); /* psycopg2's own, of a connection that is beyond repair */
    PyObject *result = PyObject_CallMethod(self->callbacks->connector, "reset", "O", connection);
    good = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    return good;
}

static PyObject *put_back(hvpy_store *self, PyObject *connection, bool broken) {
    PGconn *conn = hvpy_pgconn(connection);
    if (conn == NULL && is_disconnected(connection)) { /* psycopg2 may call it broken, not closed */
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    if (conn == NULL)
        return NULL;
    PyObject *lent = hv_connection_handle(self->store, conn);
    if (lent == NULL) /* lent to a forked child's parent, or not at all: the library knows */
        return give_back(self, connection, conn, true);
    if (lent != connection)
        return not_lent(connection);
    int good = broken ? 0 : reset(self, connection);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback); /* Ctrl-C, say: the connection goes back in any case */
    PyObject *result = hv_connection_handle(self->store, conn) == connection
                           ? give_back(self, connection, conn, good == 1)
                           : not_lent(connection); /* no longer: it was lent until the reset */
    if (type != NULL) {
        Py_CLEAR(result);
        PyErr_Restore(type, value, traceback);
    }
    return result;
}

PyObject *hvpy_lend_return(hvpy_store *self, PyObject *connection) {
    PyObject *closed = PyObject_GetAttrString(connection, "closed");
    if (closed == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return NULL;
        PyErr_Clear();
        return hvpy_raise_foreign(connection);
    }
    long how = PyLong_AsLong(closed); /* 1: close() has returned it; 2: it is broken */
    Py_DECREF(closed);
    if (how == -1 && PyErr_Occurred())
        return NULL;
    if (how == 1)
        Py_RETURN_NONE;
    if (!hvpy_store_enter_late(self))
        return NULL;
    PyObject *result = put_back(self, connection, how != 0);
    hvpy_store_leave(self);
    return result;
}

PyObject *hvpy_lend_put(PyObject *object, PyObject *const *args, Py_ssize_t count,
                        PyObject *keywords) {
    static const char *const names[] = {"connection"};
    static const hvpy_arguments expected = {
        .method = "put_connection", .names = names, .count = 1, .required = 1};
    PyObject *found[1];
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0)
        return NULL;
    return hvpy_lend_return(store_of(object), found[0]);
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

/*
 * For disconnect(). A connection in the middle of a statement or a COPY is in use by another
 * thread, and psycopg2 must not free it there: its socket is shut down, so that the statement fails
 * and the borrower finds it broken. Any other connection is closed.
 */
PyObject *hvpy_lend_close(PyObject *object, PyObject *connection) {
    hvpy_store *self = store_of(object);
    PyObject *address = PyObject_GetAttrString(connection, "pgconn_ptr");
    if (address == NULL)
        return NULL;
    PGconn *conn = address == Py_None ? NULL : PyLong_AsVoidPtr(address);
    Py_DECREF(address);
    if (conn == NULL || self->store == NULL)
        Py_RETURN_NONE;
    PyObject *lent = PyObject_GetAttr(connection, lent_name);
    bool has_borrower = lent == Py_True;
    Py_XDECREF(lent);
    if (lent == NULL)
        return NULL;
    if (!has_borrower || hv_connection_handle(self->store, conn) != connection)
        Py_RETURN_NONE;
    if (PQtransactionStatus(conn) != PQTRANS_ACTIVE)
        return PyObject_SetAttrString(connection, "_hv_disconnected", Py_True) < 0
                   ? NULL
                   : PyObject_CallMethod(connection, "close", NULL);
    if (PQsocket(conn) >= 0)
        shutdown(PQsocket(conn), SHUT_RDWR);
    Py_RETURN_NONE;
}

/* ---- connections that nothing refers to any more ---- */

/* The store of a connection, if it still exists; NULL without an exception. Returns a new
 * reference. */
static PyObject *store_of_connection(PyObject *connection) {
    PyObject *reference = PyObject_GetAttrString(connection, "_hv_store");
    PyObject *store =
        reference == NULL || !PyWeakref_CheckRef(reference) ? NULL : PyWeakref_GetObject(reference);
    if (store != NULL && !PyObject_TypeCheck(store, &hvpy_store_type))
        store = NULL;
    Py_XINCREF(store);
    Py_XDECREF(reference);
    PyErr_Clear();
    return store;
}

/*
 * The last reference is gone. If the connection is lent, its borrower has lost it without returning
 * it, for example because a signal's handler raised an exception before the borrower could store
 * it: it is closed then, as psycopg2 closes its own.
 */
static void lent_finalize(PyObject *connection) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (!Py_IsInitialized()) {
        Py_INCREF(connection); /* the pool, which is not asked any more, may refer to it */
    } else {
        PyObject *store = store_of_connection(connection);
        PyObject *result = store == NULL ? NULL : hvpy_lend_discard(store, connection);
        if (PyErr_Occurred() != NULL)
            PyErr_WriteUnraisable(connection);
        Py_XDECREF(result);
        Py_XDECREF(store);
    }
    PyErr_Restore(type, value, traceback);
}

/* With these psycopg2 begins and ends transactions of its own. */
static bool is_of_transactions(PyObject *name) {
    static const char *const names[] = {"autocommit", "isolation_level", "readonly", "deferrable"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, names[i]) == 0)
            return true;
    return false;
}

/* Raises an exception if the store has a transaction on the connection. */
static int lent_setattr(PyObject *connection, PyObject *name, PyObject *value) {
    if (is_of_transactions(name)) {
        PyObject *result = PyObject_CallMethod(connection, "_hv_refuse", "O", name);
        Py_XDECREF(result);
        if (result == NULL)
            return -1;
    }
    return PyObject_GenericSetAttr(connection, name, value);
}

static PyTypeObject lent_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv._hv.Lent",
    .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_setattro = lent_setattr,
    .tp_doc = "The base of classes of connections that return to the store when nothing refers to "
              "them any more.",
    .tp_finalize = lent_finalize,
};
