"""Locates the items of a JSON array in an untrusted document.

It works without the GIL and makes no object for an item, because a document of 64 MB may consist of one array. It does
not check whether an item is valid JSON.
"""

from cpython cimport array

import array

ctypedef const unsigned char *Text


cdef Py_ssize_t after_blanks(Text text, Py_ssize_t size, Py_ssize_t at) noexcept nogil:
    while at < size and (text[at] == b" " or text[at] == b"\t" or text[at] == b"\r" or text[at] == b"\n"):
        at += 1
    return at


cdef Py_ssize_t after_string(Text text, Py_ssize_t size, Py_ssize_t at) noexcept nogil:
    """Return the position after the string whose first quote is before `at`, `size` if it has no end."""
    while at < size and text[at] != b'"':
        at += 2 if text[at] == b"\\" else 1
    return min(at + 1, size)


cdef Py_ssize_t after_item(Text text, Py_ssize_t size, Py_ssize_t at) noexcept nogil:
    """Return the position after the value at `at`: a whole object or array, else all up to a comma or bracket."""
    cdef Py_ssize_t depth = 0
    cdef unsigned char byte
    while at < size:
        byte = text[at]
        if byte == b'"':
            at = after_string(text, size, at + 1)
            continue
        if byte == b"{" or byte == b"[":
            depth += 1
        elif byte == b"}" or byte == b"]":
            if depth == 0:
                return at
            depth -= 1
            if depth == 0:
                return at + 1
        elif byte == b"," and depth == 0:
            return at
        at += 1
    return size


cdef Py_ssize_t find(
    Text text, Py_ssize_t size, Py_ssize_t at, long long *found, Py_ssize_t most, Py_ssize_t *count
) noexcept nogil:
    """Return the position of the closing bracket, -1 if there is none."""
    at = after_blanks(text, size, at)
    if at < size and text[at] == b"]":
        return at
    while count[0] < most:
        found[2 * count[0]] = at
        at = after_item(text, size, at)
        found[2 * count[0] + 1] = at
        count[0] += 1
        at = after_blanks(text, size, at)
        if at >= size or (text[at] != b"," and text[at] != b"]"):
            return -1
        if text[at] == b"]":
            return at
        at = after_blanks(text, size, at + 1)
    return -1


def array_items(const unsigned char[::1] text not None, Py_ssize_t start, Py_ssize_t most):
    cdef array.array found
    cdef long long *offsets
    cdef Py_ssize_t size = text.shape[0]
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t end

    if not 0 <= start < size or most < 1:
        raise ValueError(f"expected a start inside the text and room for items, got {start} and {most}")
    found = array.clone(array.array("q"), 2 * most, zero=False)
    offsets = found.data.as_longlongs
    with nogil:
        end = find(&text[0], size, start, offsets, most, &count)
    array.resize(found, 2 * count)
    return found, end
