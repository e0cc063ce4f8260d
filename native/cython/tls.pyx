"""What Python's ssl leaves out: taking any client certificate, for Python to judge when TLS has proven its key.

OpenSSL's functions are looked up in the libssl that Python's own `_ssl` is linked to, which need not be the system's.
"""

import platform
import ssl
import sys
import sysconfig

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

import _ssl

cdef extern from "dlfcn.h" nogil:
    int RTLD_LAZY
    int RTLD_NOLOAD
    void *dlopen(const char *path, int flags)
    void *dlsym(void *handle, const char *name)
    int dlclose(void *handle)

cdef enum:
    # <openssl/ssl.h>; SSL_CTX_set_session_cache_mode and SSL_CTX_set_max_cert_list are macros of SSL_CTX_ctrl.
    SSL_CTRL_SET_SESS_CACHE_MODE = 44
    SSL_CTRL_GET_MAX_CERT_LIST = 50
    SSL_CTRL_SET_MAX_CERT_LIST = 51
    SSL_SESS_CACHE_OFF = 0
    SSL_VERIFY_PEER = 1
    SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2

ctypedef int (*verify_mode_function)(const void *context) noexcept nogil
ctypedef uint64_t (*options_function)(const void *context) noexcept nogil
ctypedef int (*verify_callback)(void *store, void *argument) noexcept nogil
ctypedef void (*set_callback_function)(void *context, verify_callback callback, void *argument) noexcept nogil
ctypedef long (*control_function)(void *context, int command, long number, void *pointer) noexcept nogil

cdef dict VERIFY_MODES = {
    ssl.CERT_NONE: 0,
    ssl.CERT_OPTIONAL: SSL_VERIFY_PEER,
    ssl.CERT_REQUIRED: SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
}


cdef int accept(void *store, void *argument) noexcept nogil:
    """OpenSSL's whole verification of a peer's chain; called in a handshake, without the GIL."""
    return 1


cdef void *find(void *handle, const char *name) except NULL:
    cdef void *found = dlsym(handle, name)
    if found == NULL:
        raise RuntimeError(f"Python's ssl: {_ssl.__file__} is linked to no shared libssl with {name.decode()}")
    return found


cdef object check_interpreter():
    """The layout that `accept_any_certificate` relies on: SSLContext is PyObject_HEAD, then the SSL_CTX pointer."""
    if (
        sys.implementation.name != "cpython"
        or not (3, 11) <= sys.version_info[:2] <= (3, 14)
        or sysconfig.get_config_var("Py_GIL_DISABLED")
    ):
        raise RuntimeError(
            "client certificates need CPython 3.11 to 3.14 with the GIL, "
            f"got {platform.python_implementation()} {platform.python_version()}"
        )
    if getattr(_ssl, "__file__", None) is None:
        raise RuntimeError("Python's ssl: expected a module of its own linked to a shared libssl, got one built in")


def accept_any_certificate(context not None, *, long max_chain_bytes):
    cdef void *handle = NULL
    cdef void *ctx
    cdef bytes path
    cdef verify_mode_function verify_mode
    cdef options_function options
    cdef set_callback_function set_callback
    cdef control_function control

    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"expected an ssl.SSLContext, got {type(context).__name__}")
    if max_chain_bytes < 1:
        raise ValueError(f"expected max_chain_bytes of 1 or more, got {max_chain_bytes}")
    check_interpreter()
    path = _ssl.__file__.encode(sys.getfilesystemencoding(), "surrogateescape")
    handle = dlopen(path, RTLD_LAZY | RTLD_NOLOAD)
    if handle == NULL:
        raise RuntimeError(f"Python's ssl: {_ssl.__file__} is not what is loaded")
    try:
        verify_mode = <verify_mode_function>find(handle, b"SSL_CTX_get_verify_mode")
        options = <options_function>find(handle, b"SSL_CTX_get_options")
        set_callback = <set_callback_function>find(handle, b"SSL_CTX_set_cert_verify_callback")
        control = <control_function>find(handle, b"SSL_CTX_ctrl")
        ctx = (<void **>(<char *><PyObject *>context + sizeof(PyObject)))[0]
        if (
            ctx == NULL
            or verify_mode(ctx) != VERIFY_MODES[context.verify_mode]
            or options(ctx) != <uint64_t>int(context.options)
        ):
            raise RuntimeError("Python's ssl: SSLContext has an unknown layout")
        set_callback(ctx, accept, NULL)
        control(ctx, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL)
        control(ctx, SSL_CTRL_SET_MAX_CERT_LIST, max_chain_bytes, NULL)
        if control(ctx, SSL_CTRL_GET_MAX_CERT_LIST, 0, NULL) != max_chain_bytes:
            raise RuntimeError("Python's ssl: its libssl does not bound the size of certificates")
    finally:
        dlclose(handle)
