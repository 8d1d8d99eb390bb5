/*
 * caller: the owner of a transaction: a thread, and in an event loop one of its tasks.
 *
 * A context variable would not do: tasks and asyncio.to_thread() copy the context of the one that
 * starts them, and are not in its transactions.
 */
#include "caller.h"

/* The asyncio task that is running: a new weak reference, or None. NULL with an exception. */
static PyObject *current_task(void) {
    PyObject *asyncio = PyDict_GetItemString(PyImport_GetModuleDict(), "asyncio");
    if (asyncio == NULL)
        Py_RETURN_NONE;
    PyObject *loop = PyObject_CallMethod(asyncio, "_get_running_loop", NULL);
    if (loop == NULL || loop == Py_None)
        return loop;
    PyObject *task = PyObject_CallMethod(asyncio, "current_task", "O", loop);
    Py_DECREF(loop);
    if (task == NULL || task == Py_None)
        return task;
    PyObject *reference = PyWeakref_NewRef(task, NULL);
    Py_DECREF(task);
    return reference;
}

bool hvpy_caller_get(hvpy_caller *caller) {
    *caller =
        (hvpy_caller){.thread = PyThreadState_GetID(PyThreadState_Get()), .task = current_task()};
    return caller->task != NULL;
}

hvpy_caller hvpy_caller_copy(const hvpy_caller *caller) {
    Py_XINCREF(caller->task);
    return *caller;
}

void hvpy_caller_clear(hvpy_caller *caller) {
    Py_CLEAR(caller->task);
}

bool hvpy_caller_is_same(const hvpy_caller *one, const hvpy_caller *other) {
    if (one->thread != other->thread || one->task == NULL || other->task == NULL)
        return false;
    if (one->task == Py_None || other->task == Py_None)
        return one->task == other->task;
    return PyWeakref_GetObject(one->task) == PyWeakref_GetObject(other->task);
}
