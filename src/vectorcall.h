/* Calls of an object by the vectorcall protocol (PEP 590): without a tuple and a dictionary of its
 * arguments, which take longer than the outputs of a small network.
 *
 * Cython has it for functions, not for `__call__` of a class. */
#ifndef CYMLP_VECTORCALL_H
#define CYMLP_VECTORCALL_H

#include <Python.h>

/* Tells a class that its instances hold a vectorcallfunc at this offset. Its tp_call stays: for a
 * subclass that was made before, and for interpreters without the protocol. */
static void cymlp_take_vectorcall(PyTypeObject *type, Py_ssize_t offset) {
#ifdef PYPY_VERSION
    (void)type, (void)offset;
#else
    if (!(type->tp_flags & Py_TPFLAGS_HAVE_VECTORCALL)) {
        type->tp_vectorcall_offset = offset;
        type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
        PyType_Modified(type);
    }
#endif
}

#endif
