/*
 * transaction: the class Transaction, an hv_tx as long as it is open.
 *
 *     db.transaction(12) ─► NEW ── __enter__: hv_begin() ──► OPEN ── __exit__: hv_commit() ──► OVER
 *                                                             ▲  └─── dropped: hv_rollback() ──►
 *     db.run_transaction(12, function) ── each call of it ────┘       or its function returns
 *
 * One thread at a time uses an open transaction, and libpq's connection with it: `uses` counts
 * that, for the library's operations and for statements of psycopg2's cursors alike, which come by
 * hvpy_transaction_guard(). It is written in C so that no signal handler runs between two steps of
 * beginning, using and ending it.
 */
#include "transaction.h"

#include <libpq-fe.h>
#include <time.h>
#include <unistd.h>

#include "arguments.h"
#include "entity.h"
#include "error.h"
#include "threads.h"

/* How often the end of a transaction checks whether another thread has stopped using it. */
#define END_POLL_NS 1000000

typedef struct hvpy_transaction {
    PyObject_HEAD
    hvpy_store *store;
    int shard;
    hv_isolation isolation;
    int64_t timeout; /* ms; 0: the store's */
    enum { NEW, OPEN, OVER } state;
    hv_tx *tx;   /* while it is open */
    bool is_own; /* hv_begin() has made it; otherwise it is hv_transaction()'s */

    /* where it is open */
    pid_t process;
    hvpy_caller caller;
    struct hvpy_transaction *next; /* of its store's open ones */

    /* its present user */
    int uses;
    unsigned long user; /* a thread, while there are uses */
    bool by_driver;     /* … of psycopg2 */

    /* psycopg2's side */
    PyObject *connection;      /* NULL: nobody has asked for it */
    struct pg_conn *conn;      /* libpq's part of it */
    PyObject *sqlstate, *text; /* of the last error; NULL: none */

    PyObject *weak_references;
} transaction_object;

static PyTypeObject transaction_type;
static PyObject *driver_error, *interface_error; /* psycopg2's */
static PyObject *back_name;                      /* of a connection's attribute */

static transaction_object *transaction_of(PyObject *object) {
    return (transaction_object *) object;
}

/* ---- arguments ---- */

static bool isolation_from(PyObject *given, hv_isolation *isolation) {
    static const char *const names[] = {[HV_READ_COMMITTED] = "read committed",
                                        [HV_REPEATABLE_READ] = "repeatable read",
                                        [HV_SERIALIZABLE] = "serializable"};
    *isolation = HV_READ_COMMITTED;
    if (given == NULL)
        return true;
    if (!PyUnicode_Check(given)) {
        PyErr_Format(PyExc_TypeError, "isolation must be str, not %.200s", Py_TYPE(given)->tp_name);
        return false;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (PyUnicode_CompareWithASCIIString(given, names[i]) == 0) {
            *isolation = (hv_isolation) i;
            return true;
        }
    }
    hvpy_raise_new(HV_INVALID,
                   "isolation must be 'read committed', 'repeatable read' or 'serializable', "
                   "not %R",
                   given);
    return false;
}

static bool timeout_from(PyObject *given, int64_t *timeout) {
    *timeout = 0;
    if (given == NULL || given == Py_None)
        return true;
    return hvpy_seconds_from(given, "timeout", 0, timeout);
}

bool hvpy_terms_from(PyObject *shard, PyObject *const *options, hvpy_terms *given) {
    given->shard = hvpy_int_from(shard);
    return !(given->shard == -1 && PyErr_Occurred()) &&
           isolation_from(options[0], &given->isolation) &&
           timeout_from(options[1], &given->timeout);
}

/* ---- which transactions are open ---- */

static bool is_foreign(const transaction_object *self) {
    return self->process != getpid();
}

/*
 * The inner one would wait for what the outer one has locked, and its changes would stay if the
 * outer one was rolled back. The library knows this of hv_transaction() alone, and only by thread.
 */
bool hvpy_transaction_may_begin(const hvpy_store *store, const hvpy_caller *caller) {
    for (const transaction_object *at = store->transactions; at != NULL; at = at->next) {
        if (hvpy_caller_is_same(&at->caller, caller) && !is_foreign(at)) {
            hvpy_raise_hint(HV_INVALID, "a transaction cannot begin within another one",
                            "Use the one that is running: pass it on. For a part that can be "
                            "undone alone, execute SAVEPOINT with a cursor of it.");
            return false;
        }
    }
    return true;
}

PyObject *hvpy_transaction_check(PyObject *store, PyObject *args) {
    (void) args;
    hvpy_caller caller;
    if (!hvpy_caller_get(&caller))
        return NULL;
    bool may = hvpy_transaction_may_begin((hvpy_store *) store, &caller);
    hvpy_caller_clear(&caller);
    if (!may)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- life ---- */

static transaction_object *make(hvpy_store *store, const hvpy_terms *given) {
    transaction_object *self =
        (transaction_object *) transaction_type.tp_alloc(&transaction_type, 0);
    if (self == NULL)
        return NULL;
    Py_INCREF(store);
    self->store = store;
    self->shard = given->shard;
    self->isolation = given->isolation;
    self->timeout = given->timeout;
    return self;
}

/* It has a caller already. */
static void open_with(transaction_object *self, hv_tx *tx, bool is_own) {
    self->tx = tx;
    self->is_own = is_own;
    self->process = getpid();
    self->next = self->store->transactions;
    self->store->transactions = self;
    self->state = OPEN;
}

/* Let go of psycopg2's connection, which may be another borrower's soon. */
static void let_go(transaction_object *self) {
    if (self->connection == NULL)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyObject_SetAttr(self->connection, back_name, Py_None) < 0)
        PyErr_WriteUnraisable(self->connection);
    Py_CLEAR(self->connection);
    self->conn = NULL;
    PyErr_Restore(type, value, traceback);
}

/* Nobody uses it any more: the library's transaction, which the caller has to end. */
static hv_tx *close_it(transaction_object *self) {
    hv_tx *tx = self->tx;
    self->state = OVER;
    self->tx = NULL;
    for (transaction_object **link = &self->store->transactions; *link != NULL;
         link = &(*link)->next) {
        if (*link == self) {
            *link = self->next;
            break;
        }
    }
    let_go(self);
    hvpy_caller_clear(&self->caller);
    Py_CLEAR(self->sqlstate);
    Py_CLEAR(self->text);
    return tx;
}

static void roll_back(transaction_object *self) {
    hv_tx *tx = close_it(self);
    if (tx == NULL || !self->is_own)
        return;
    HVPY_BEGIN_LIBRARY
    hv_rollback(tx);
    HVPY_END_LIBRARY
}

static void transaction_dealloc(PyObject *object) {
    transaction_object *self = transaction_of(object);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (self->weak_references != NULL)
        PyObject_ClearWeakRefs(object);
    roll_back(self);
    hvpy_caller_clear(&self->caller);
    Py_DECREF(self->store);
    PyErr_Restore(type, value, traceback);
    Py_TYPE(object)->tp_free(object);
}

/* ---- uses ---- */

/* Why it cannot be used; NULL: it can. */
static const char *fault_of(const transaction_object *self) {
    if (self->state == NEW)
        return "the transaction has not begun: it begins with `with`";
    if (self->state == OVER)
        return "the transaction is over";
    if (is_foreign(self))
        return "the transaction is another process's";
    if (self->uses > 0)
        return self->user == PyThread_get_thread_ident()
                   ? "the transaction is in use"
                   : "the transaction is in use by another thread";
    return NULL;
}

static void begin_use(transaction_object *self, bool by_driver) {
    self->uses++;
    self->user = PyThread_get_thread_ident();
    self->by_driver = by_driver;
}

/*
 * It is to end: no new uses begin, and one of another thread is waited for, since libpq's
 * connection must not be used by two. Was there one?
 */
static bool ends_in_use(transaction_object *self) {
    bool found = false;
    self->state = OVER;
    while (self->uses > 0 && !is_foreign(self)) {
        found = true;
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&(struct timespec){.tv_nsec = END_POLL_NS}, NULL);
        Py_END_ALLOW_THREADS
    }
    return found;
}

void hvpy_transaction_raise_in_use(void) {
    hvpy_raise_hint(HV_INVALID, "another thread was using the transaction at its end",
                    "It was rolled back. Wait for the thread before the end.");
}

/* ---- failures of psycopg2's statements ---- */

/* Has a statement failed, and not been undone with a savepoint, or is the connection lost? */
static bool has_failed(const transaction_object *self) {
    return PQstatus(self->conn) != CONNECTION_OK ||
           PQtransactionStatus(self->conn) == PQTRANS_INERROR;
}

/* Remember the error that is raised, and stays raised, until it is known whether it matters. */
static void note(transaction_object *self) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XSETREF(self->sqlstate, PyObject_GetAttrString(value, "pgcode"));
    Py_XSETREF(self->text, PyObject_Str(value));
    PyErr_Clear();
    PyErr_Restore(type, value, traceback);
}

static const char *text_of(PyObject *object) {
    const char *text = object == NULL || !PyUnicode_Check(object) ? NULL : PyUnicode_AsUTF8(object);
    PyErr_Clear();
    return text;
}

/* Report the failure to the library, which may ask the server why. HV_OK: there is none. An
 * exception that is raised stays raised, unless Ctrl-C comes. */
static hv_status report(transaction_object *self, hv_error **error) {
    if (self->connection == NULL || is_foreign(self) || !has_failed(self))
        return HV_OK;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    const char *text = text_of(self->text), *sqlstate = text_of(self->sqlstate);
    hv_status status;
    begin_use(self, false);
    HVPY_BEGIN_LIBRARY
    status = hv_tx_failed(self->tx, sqlstate,
                          text != NULL ? text : "a statement on its connection has failed", error);
    HVPY_END_LIBRARY
    self->uses--;
    if (PyErr_Occurred()) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    } else {
        PyErr_Restore(type, value, traceback);
    }
    return status;
}

const char hvpy_transaction_guard_doc[] =
    "in_transaction($module, transaction, call, /, *args, **kwargs)\n--\n\n"
    "Return call(*args, **kwargs), which executes a statement on the connection of the "
    "transaction\n"
    "that a weak reference refers to. Raises InterfaceError if that cannot be used.";

PyObject *hvpy_transaction_guard(PyObject *module, PyObject *const *args, Py_ssize_t count,
                                 PyObject *keywords) {
    (void) module;
    if (count < 2 || !PyWeakref_CheckRef(args[0])) {
        PyErr_SetString(PyExc_TypeError, "in_transaction() takes a weak reference and a callable");
        return NULL;
    }
    PyObject *object = PyWeakref_GetObject(args[0]);
    transaction_object *self = Py_TYPE(object) == &transaction_type ? transaction_of(object) : NULL;
    /* A cursor class may make one method of several, COPY may read from a Python file, … */
    bool is_inner = self != NULL && self->uses > 0 && self->by_driver &&
                    self->user == PyThread_get_thread_ident() && !is_foreign(self);
    const char *fault = self == NULL ? "the transaction is over" : fault_of(self);
    if (fault != NULL && !is_inner) {
        PyErr_SetString(interface_error, fault);
        return NULL;
    }
    Py_INCREF(self);
    begin_use(self, true);
    PyObject *result = PyObject_Vectorcall(args[1], args + 2, (size_t) (count - 2), keywords);
    if (result == NULL && PyErr_ExceptionMatches(driver_error))
        note(self);
    self->uses--;
    Py_DECREF(self);
    return result;
}

/* ---- the methods of entities ---- */

bool hvpy_scope_enter(PyObject *object, hvpy_scope *scope) {
    if (Py_TYPE(object) != &transaction_type) {
        *scope = (hvpy_scope){.store = (hvpy_store *) object};
        return hvpy_store_enter(scope->store);
    }
    transaction_object *self = transaction_of(object);
    const char *fault = fault_of(self);
    if (fault != NULL) {
        hvpy_raise_new(HV_INVALID, "%s", fault);
        return false;
    }
    *scope = (hvpy_scope){.store = self->store, .tx = self->tx, .transaction = self};
    report(self, NULL); /* the library says so when the operation is tried */
    if (PyErr_Occurred())
        return false;
    begin_use(self, false);
    return true;
}

void hvpy_scope_leave(const hvpy_scope *scope) {
    if (scope->transaction != NULL)
        scope->transaction->uses--;
    else
        hvpy_store_leave(scope->store);
}

/* For failures after which hv_transaction() would begin again. */
static const char *hint_for(const transaction_object *self, hv_status status,
                            const hv_error *error) {
    return self != NULL && self->is_own && status != HV_TIMEOUT && hv_error_retriable(error)
               ? "Use run_transaction(): it calls a function, and begins again by itself."
               : NULL;
}

PyObject *hvpy_scope_raise(const hvpy_scope *scope, hv_status status, hv_error *error) {
    return hvpy_raise_with(status, error, hint_for(scope->transaction, status, error));
}

/* ---- cursors ---- */

/* psycopg2's connection, which refers back to the transaction as long as that is open. */
static bool lend(transaction_object *self) {
    if (self->connection != NULL)
        return true;
    PyObject *back = PyWeakref_NewRef((PyObject *) self, NULL);
    if (back == NULL)
        return false;
    self->conn = hv_tx_connection(self->tx);
    PyObject *connection = hv_connection_handle(self->store->store, self->conn);
    int result = PyObject_SetAttr(connection, back_name, back);
    Py_DECREF(back);
    if (result < 0)
        return false;
    Py_INCREF(connection);
    self->connection = connection;
    return true;
}

static bool check_shard(const transaction_object *self, PyObject *given) {
    int shard = hvpy_int_from(given);
    if (shard == self->shard || (shard == -1 && PyErr_Occurred()))
        return !PyErr_Occurred();
    hvpy_raise_hint(HV_INVALID, "the cursor would be in another shard than the transaction",
                    "One transaction is in one shard.");
    return false;
}

static PyObject *transaction_cursor(PyObject *object, PyObject *args, PyObject *kwargs) {
    transaction_object *self = transaction_of(object);
    PyObject *shard = Py_None;
    if (!PyArg_UnpackTuple(args, "cursor", 0, 1, &shard) ||
        (shard != Py_None && !check_shard(self, shard)))
        return NULL;
    const char *fault = fault_of(self);
    if (fault != NULL)
        return hvpy_raise_new(HV_INVALID, "%s", fault);
    if (!lend(self))
        return NULL;
    PyObject *connection = self->connection;
    Py_INCREF(connection);
    PyObject *method = PyObject_GetAttrString(connection, "cursor");
    PyObject *none = method == NULL ? NULL : PyTuple_New(0);
    PyObject *cursor = none == NULL ? NULL : PyObject_Call(method, none, kwargs);
    Py_XDECREF(none);
    Py_XDECREF(method);
    Py_DECREF(connection);
    return cursor;
}

/* ---- `with` ---- */

const char hvpy_transaction_doc[] =
    "transaction($self, shard_id, *, isolation='read committed', timeout=None)\n--\n\n"
    "Return a context manager: a Transaction in a shard, which is committed at the end of the\n"
    "`with` block, and rolled back if an exception leaves it.\n\n"
    "``isolation`` is 'read committed', 'repeatable read' or 'serializable'; ``timeout`` is in\n"
    "seconds, for all of it, by default the option operation_timeout. Nothing is begun again by\n"
    "itself, as run_transaction() does.";

PyObject *hvpy_transaction(PyObject *store, PyObject *const *args, Py_ssize_t count,
                           PyObject *keywords) {
    static const char *const names[] = {"shard_id", "isolation", "timeout"};
    static const hvpy_arguments expected = {
        .method = "transaction", .names = names, .count = 3, .required = 1, .positional = 1};
    PyObject *found[3];
    hvpy_terms given;
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0 ||
        !hvpy_terms_from(found[0], found + 1, &given))
        return NULL;
    return (PyObject *) make((hvpy_store *) store, &given);
}

static PyObject *transaction_enter(PyObject *object, PyObject *args) {
    (void) args;
    transaction_object *self = transaction_of(object);
    if (self->state != NEW)
        return hvpy_raise_new(HV_INVALID, self->state == OPEN ? "the transaction has begun already"
                                                              : "the transaction is over");
    if (self->caller.task == NULL && !hvpy_caller_get(&self->caller))
        return NULL;
    if (!hvpy_transaction_may_begin(self->store, &self->caller) || !hvpy_store_enter(self->store))
        return NULL;
    hv_tx *tx = NULL;
    hv_error *error = NULL;
    hv_status status;
    self->state = OVER; /* for other threads, until it has begun */
    HVPY_BEGIN_LIBRARY
    status = hv_begin(self->store->store, self->shard, self->isolation, self->timeout, &tx, &error);
    HVPY_END_LIBRARY
    hvpy_store_leave(self->store);
    if (status != HV_OK)
        return hvpy_raise(status, error);
    open_with(self, tx, true);
    if (PyErr_Occurred()) { /* Ctrl-C came too late to stop it */
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        roll_back(self);
        PyErr_Restore(type, value, traceback);
        return NULL;
    }
    Py_INCREF(self);
    return object;
}

/* An exception has left the block. One of psycopg2's that may pass comes out as ours, since it is
 * ours that says so. Returns false with that one raised. */
static bool fail(transaction_object *self, PyObject *exception) {
    hv_error *error = NULL;
    hv_status status = report(self, &error);
    roll_back(self);
    int is_drivers = status == HV_OK ? 0 : PyObject_IsInstance(exception, driver_error);
    if (is_drivers > 0 && hv_error_retriable(error))
        hvpy_raise_because(status, error, hint_for(self, status, error), exception);
    else
        hv_error_free(error);
    return !PyErr_Occurred();
}

static bool commit(transaction_object *self) {
    hv_error *error = NULL;
    hv_status status;
    report(self, NULL);
    hv_tx *tx = close_it(self);
    HVPY_BEGIN_LIBRARY
    status = hv_commit(tx, &error);
    HVPY_END_LIBRARY
    if (status != HV_OK)
        hvpy_raise_with(status, error, hint_for(self, status, error));
    return !PyErr_Occurred();
}

static PyObject *transaction_exit(PyObject *object, PyObject *args) {
    transaction_object *self = transaction_of(object);
    PyObject *type, *value, *traceback;
    if (!PyArg_UnpackTuple(args, "__exit__", 3, 3, &type, &value, &traceback))
        return NULL;
    if (self->state != OPEN || !self->is_own)
        return hvpy_raise_new(HV_INVALID, self->state == NEW ? "the transaction has not begun"
                                                             : "the transaction is over");
    if (self->uses > 0 && self->user == PyThread_get_thread_ident() && !is_foreign(self))
        return hvpy_raise_new(HV_INVALID, "the transaction is in use");
    bool in_use = ends_in_use(self);
    if (value != Py_None || in_use) {
        if (!fail(self, value))
            return NULL;
        if (value == Py_None)
            hvpy_transaction_raise_in_use();
    } else {
        commit(self);
    }
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* ---- for a function that is called with one ---- */

PyObject *hvpy_transaction_of(hvpy_store *store, const hvpy_terms *given, const hvpy_caller *caller,
                              hv_tx *tx) {
    transaction_object *self = make(store, given);
    if (self == NULL)
        return NULL;
    self->caller = hvpy_caller_copy(caller);
    open_with(self, tx, false);
    return (PyObject *) self;
}

bool hvpy_transaction_end(PyObject *object) {
    transaction_object *self = transaction_of(object);
    bool in_use = ends_in_use(self);
    report(self, NULL);
    close_it(self);
    return !in_use;
}

/* For hv.aio, where other threads than the caller's begin transactions and use them. */
static PyObject *transaction_claim(PyObject *object, PyObject *args) {
    (void) args;
    hvpy_caller caller;
    if (!hvpy_caller_get(&caller))
        return NULL;
    hvpy_caller_clear(&transaction_of(object)->caller);
    transaction_of(object)->caller = caller;
    Py_RETURN_NONE;
}

/* ---- the class ---- */

static PyObject *transaction_call_number(PyObject *object, void *closure) {
    (void) closure;
    transaction_object *self = transaction_of(object);
    if (self->state != OPEN)
        return hvpy_raise_new(HV_INVALID, "%s", fault_of(self));
    return PyLong_FromLong(hv_tx_call(self->tx));
}

static PyGetSetDef transaction_fields[] = {
    {"call", transaction_call_number, NULL,
     "The number of this call of the function of run_transaction(), from 1.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define FAST(function) ((PyCFunction) (void (*)(void))(function)), METH_FASTCALL | METH_KEYWORDS
#define WITH_NAMES(function) \
    ((PyCFunction) (void (*)(void))(function)), METH_VARARGS | METH_KEYWORDS

static PyMethodDef transaction_methods[] = {
    {"put", FAST(hvpy_entity_put), hvpy_entity_put_doc},
    {"put_key", FAST(hvpy_entity_put_key), hvpy_entity_put_key_doc},
    {"get", FAST(hvpy_entity_get), hvpy_entity_get_doc},
    {"exists", FAST(hvpy_entity_exists), hvpy_entity_exists_doc},
    {"replace", FAST(hvpy_entity_replace), hvpy_entity_replace_doc},
    {"merge", FAST(hvpy_entity_merge), hvpy_entity_merge_doc},
    {"increment", FAST(hvpy_entity_increment), hvpy_entity_increment_doc},
    {"delete", FAST(hvpy_entity_delete), hvpy_entity_delete_doc},
    {"cursor", WITH_NAMES(transaction_cursor),
     "cursor($self, shard_id=None, /, **kwargs)\n--\n\n"
     "Make a psycopg2 cursor on the transaction's connection; the keywords are those of\n"
     "psycopg2's connection.cursor(). It can be used until the end of the transaction."},
    {"_claim", transaction_claim, METH_NOARGS,
     "_claim($self)\n--\n\nIt is the running thread's and task's, whichever thread begins it."},
    {"__enter__", transaction_enter, METH_NOARGS, NULL},
    {"__exit__", transaction_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject transaction_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "hv.datastore.Transaction",
    .tp_basicsize = sizeof(transaction_object),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A transaction in one shard: the result of Datastore.transaction(), and the argument "
              "of run_transaction()'s\nfunction. One thread at a time may use it.",
    .tp_dealloc = transaction_dealloc,
    .tp_weaklistoffset = offsetof(transaction_object, weak_references),
    .tp_getset = transaction_fields,
    .tp_methods = transaction_methods,
};

int hvpy_transaction_init(PyObject *module) {
    PyObject *driver = PyImport_ImportModule("psycopg2");
    if (driver == NULL)
        return -1;
    driver_error = PyObject_GetAttrString(driver, "Error");
    interface_error = PyObject_GetAttrString(driver, "InterfaceError");
    Py_DECREF(driver);
    back_name = PyUnicode_InternFromString("_hv_transaction");
    if (driver_error == NULL || interface_error == NULL || back_name == NULL ||
        PyType_Ready(&transaction_type) < 0)
        return -1;
    Py_INCREF(&transaction_type);
    if (PyModule_AddObject(module, "Transaction", (PyObject *) &transaction_type) < 0) {
        Py_DECREF(&transaction_type);
        return -1;
    }
    return 0;
}
