/*
 * run: the store's method run_transaction(): a function that hv_transaction() calls.
 *
 * Whether it is called again is the library's to say. An exception of the function is kept aside
 * meanwhile, and is what comes out unless the library has an error of its own.
 */
#include "run.h"

#include <stdbool.h>

#include "arguments.h"
#include "error.h"
#include "handler.h"
#include "threads.h"
#include "transaction.h"

const char hvpy_run_transaction_doc[] =
    "run_transaction($self, shard_id, function, *, isolation='read committed', "
    "timeout=None)\n--\n\n"
    "Call function(tx) with a Transaction in a shard, commit, and return what it returned.\n\n"
    "After a failure that may pass (a serialization failure, a deadlock, a connection that was\n"
    "lost before COMMIT), the transaction is rolled back and the function called again, up to a\n"
    "hundred times within ``timeout`` seconds, by default the option operation_timeout. So what\n"
    "it does elsewhere must bear repetition. If it raises another exception, the transaction is\n"
    "rolled back, and the exception comes out.";

typedef struct run {
    hvpy_store *store;
    hvpy_terms given;
    PyObject *function;
    hvpy_caller caller;
    PyObject *result;
    PyObject *type, *value, *traceback; /* the exception of the last call */
} run;

/* What the last call has left. */
static void forget_call(run *self) {
    Py_CLEAR(self->result);
    Py_CLEAR(self->type);
    Py_CLEAR(self->value);
    Py_CLEAR(self->traceback);
}

/* An exception that a signal's handler has raised stays raised: then the library ends its waits. */
static void keep_exception(run *self) {
    if (!hvpy_comes_from_handler())
        PyErr_Fetch(&self->type, &self->value, &self->traceback);
}

/* Call the function. HV_CHANGED: it has raised an exception; the library makes no error then. */
static hv_status call(run *self, hv_tx *tx) {
    forget_call(self);
    if (PyErr_Occurred())
        return HV_CHANGED;
    PyObject *transaction = hvpy_transaction_of(self->store, &self->given, &self->caller, tx);
    if (transaction == NULL) {
        keep_exception(self);
        return HV_CHANGED;
    }
    self->result = PyObject_CallFunctionObjArgs(self->function, transaction, NULL);
    bool in_use = !hvpy_transaction_end(transaction);
    Py_DECREF(transaction);
    if (self->result != NULL && in_use) {
        Py_CLEAR(self->result);
        hvpy_transaction_raise_in_use();
    }
    if (self->result == NULL)
        keep_exception(self);
    return self->result == NULL ? HV_CHANGED : HV_OK;
}

static hv_status work(hv_tx *tx, void *context, hv_error **error) {
    (void) error;
    hv_status status;
    HVPY_TAKE_GIL;
    status = call(context, tx);
    HVPY_LEAVE_GIL;
    return status;
}

/* The library has returned: what comes out. */
static PyObject *settle(run *self, hv_status status, hv_error *error) {
    bool interrupted = PyErr_Occurred() != NULL;
    if (status == HV_OK && !interrupted) {
        PyObject *result = self->result;
        self->result = NULL;
        return result;
    }
    if (status == HV_CHANGED && !interrupted) {
        PyErr_Restore(self->type, self->value, self->traceback);
        self->type = self->value = self->traceback = NULL;
    } else if (status != HV_OK && status != HV_CHANGED) {
        PyErr_NormalizeException(&self->type, &self->value, &self->traceback);
        if (self->value != NULL && !interrupted)
            hvpy_raise_because(status, error, NULL, self->value);
        else
            hvpy_raise(status, error);
    }
    return NULL;
}

PyObject *hvpy_run_transaction(PyObject *object, PyObject *const *args, Py_ssize_t count,
                               PyObject *keywords) {
    static const char *const names[] = {"shard_id", "function", "isolation", "timeout"};
    static const hvpy_arguments expected = {
        .method = "run_transaction", .names = names, .count = 4, .required = 2, .positional = 2};
    hvpy_store *store = (hvpy_store *) object;
    PyObject *found[4];
    run self = {.store = store};
    if (hvpy_arguments_parse(&expected, args, count, keywords, found, NULL) < 0 ||
        !hvpy_terms_from(found[0], found + 2, &self.given))
        return NULL;
    if (!PyCallable_Check(found[1])) {
        PyErr_Format(PyExc_TypeError, "function must be callable, not %.200s",
                     Py_TYPE(found[1])->tp_name);
        return NULL;
    }
    self.function = found[1];
    PyObject *result = NULL;
    if (hvpy_caller_get(&self.caller) && hvpy_transaction_may_begin(store, &self.caller) &&
        hvpy_store_enter(store)) {
        hv_error *error = NULL;
        hv_status status;
        HVPY_BEGIN_LIBRARY
        status = hv_transaction(store->store, self.given.shard, self.given.isolation,
                                self.given.timeout, work, &self, &error);
        HVPY_END_LIBRARY
        hvpy_store_leave(store);
        result = settle(&self, status, error);
    }
    forget_call(&self);
    hvpy_caller_clear(&self.caller);
    return result;
}
