# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twins of boxes.py: the same arithmetic in the same order, so that both give the same numbers."""

import numpy as np


cdef inline double shared_area(double[:, ::1] a, Py_ssize_t i, double[:, ::1] b, Py_ssize_t j) noexcept nogil:
    cdef double width = min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0])
    cdef double height = min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1])
    return max(width, 0.0) * max(height, 0.0)


cdef inline double area(double[:, ::1] a, Py_ssize_t i) noexcept nogil:
    return (a[i, 2] - a[i, 0]) * (a[i, 3] - a[i, 1])


def overlaps(double[:, ::1] boxes, double[:, ::1] others):
    """Intersection over union (n, m) of boxes (n, 4) with others (m, 4)."""
    cdef Py_ssize_t n = boxes.shape[0], m = others.shape[0], i, j
    cdef double shared, whole
    result = np.zeros((n, m))
    cdef double[:, ::1] out = result
    for i in range(n):
        for j in range(m):
            shared = shared_area(boxes, i, others, j)
            whole = area(boxes, i) + area(others, j) - shared
            if whole > 0:
                out[i, j] = shared / whole
    return result


def nms(double[:, ::1] boxes, long long[::1] order, double threshold, bint of_smaller):
    """Indices of the boxes (n, 4) kept, going through them by `order` (n,)."""
    cdef Py_ssize_t n = boxes.shape[0], i, j, count = 0
    cdef double shared, whole
    gone_array = np.zeros(n, np.uint8)
    kept = np.empty(n, np.int64)
    cdef unsigned char[::1] gone = gone_array
    cdef long long[::1] out = kept
    for i in range(n):
        if gone[i]:
            continue
        out[count] = order[i]
        count += 1
        for j in range(i + 1, n):
            if gone[j]:
                continue
            shared = shared_area(boxes, order[i], boxes, order[j])
            if of_smaller:
                whole = min(area(boxes, order[i]), area(boxes, order[j]))
            else:
                whole = area(boxes, order[i]) + area(boxes, order[j]) - shared
            if not shared <= threshold * whole:
                gone[j] = 1
    return kept[:count].copy()
