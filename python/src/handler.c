/*
 * handler: distinguishes exceptions that a signal's handler raises from those of the code that it
 * interrupted.
 *
 * Python runs a handler between any two byte codes of the main thread, so its exception comes out
 * of whatever ran there. Only the traceback shows where it came from.
 */
#include "handler.h"

#include <frameobject.h>
#include <signal.h>

static PyObject *getsignal; /* _signal.getsignal, which is not in Python */

int hvpy_handler_init(void) {
    PyObject *module = PyImport_ImportModule("_signal");
    getsignal = module == NULL ? NULL : PyObject_GetAttrString(module, "getsignal");
    Py_XDECREF(module);
    return getsignal == NULL ? -1 : 0;
}

/* Get an attribute, or NULL without an exception. Steals the reference to the object. */
static PyObject *step(PyObject *object, const char *name) {
    PyObject *attribute = object == NULL ? NULL : PyObject_GetAttrString(object, name);
    Py_XDECREF(object);
    PyErr_Clear();
    return attribute;
}

/* The code object of a function, or of the function that a method, a functools.partial or
 * another callable object calls; NULL if none is known. */
static PyObject *code_of(PyObject *callable) {
    Py_INCREF(callable);
    for (int depth = 0; callable != NULL && depth < 10; depth++) {
        if (PyFunction_Check(callable))
            return step(callable, "__code__");
        if (PyMethod_Check(callable))
            callable = step(callable, "__func__");
        else if (PyObject_HasAttrString(callable, "func"))
            callable = step(callable, "func");
        else if (PyObject_HasAttrString(callable, "__call__"))
            callable = step(callable, "__call__");
        else
            break;
    }
    Py_XDECREF(callable);
    return NULL;
}

/* The code objects of all handlers: a list, or NULL without an exception. */
static PyObject *handlers(void) {
    PyObject *codes = PyList_New(0);
    for (int number = 1; codes != NULL && number < NSIG; number++) {
        PyObject *handler = PyObject_CallFunction(getsignal, "i", number);
        PyObject *code = handler == NULL ? NULL : code_of(handler);
        if (code != NULL && PyList_Append(codes, code) < 0)
            Py_CLEAR(codes);
        Py_XDECREF(code);
        Py_XDECREF(handler);
        PyErr_Clear(); /* libc reserves some numbers */
    }
    PyErr_Clear();
    return codes;
}

static bool passes_through(PyObject *traceback, PyObject *codes) {
    bool found = false;
    Py_XINCREF(traceback);
    while (traceback != NULL && traceback != Py_None && !found) {
        PyFrameObject *frame = ((PyTracebackObject *) traceback)->tb_frame;
        PyCodeObject *code = PyFrame_GetCode(frame);
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(codes) && !found; i++)
            found = PyList_GET_ITEM(codes, i) == (PyObject *) code;
        Py_DECREF(code);
        traceback = step(traceback, "tb_next");
    }
    Py_XDECREF(traceback);
    return found;
}

bool hvpy_comes_from_handler(void) {
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return true;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *codes = handlers();
    bool found = codes != NULL && passes_through(traceback, codes);
    Py_XDECREF(codes);
    PyErr_Restore(type, value, traceback);
    return found;
}
