# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twin of `cut_patches_numpy` in patches.py: all boxes of an image, straight into a network's input."""

import numpy as np

from libc.math cimport ceil, floor
from libc.stdlib cimport free, malloc


cdef struct Taps:
    # Of one axis: sample i is the sum of weights[first[i]:first[i + 1]] times the pixels from start[i] on.
    Py_ssize_t* start
    Py_ssize_t* first
    float* weights


cdef bint reserve(Taps* taps, Py_ssize_t side, Py_ssize_t longest) noexcept nogil:
    taps.start = <Py_ssize_t*>malloc(side * sizeof(Py_ssize_t))
    taps.first = <Py_ssize_t*>malloc((side + 1) * sizeof(Py_ssize_t))
    taps.weights = <float*>malloc((longest + 2 * side) * sizeof(float))
    return taps.start != NULL and taps.first != NULL and taps.weights != NULL


cdef void release(Taps* taps) noexcept nogil:
    free(taps.start)
    free(taps.first)
    free(taps.weights)


cdef void lay(Taps* taps, Py_ssize_t length, Py_ssize_t side) noexcept nogil:
    """Taps that bring `length` pixels to `side` samples: by area where they shrink, else linearly between centres."""
    cdef double scale = <double>length / side, low, high, share
    cdef Py_ssize_t i, k, count = 0, last
    for i in range(side):
        taps.first[i] = count
        if length > side:
            low, high = i * scale, (i + 1) * scale
            taps.start[i] = <Py_ssize_t>floor(low)
            last = min(<Py_ssize_t>ceil(high), length)
            for k in range(taps.start[i], last):
                share = min(high, k + 1.0) - max(low, <double>k)
                taps.weights[count] = <float>(max(share, 0.0) / scale)
                count += 1
        else:
            low = min(max((i + 0.5) * scale - 0.5, 0.0), length - 1.0)
            taps.start[i] = <Py_ssize_t>floor(low)
            share = low - taps.start[i]
            taps.weights[count] = <float>(1 - share)
            taps.weights[count + 1] = <float>share
            count += 2
    taps.first[side] = count


cdef inline Py_ssize_t within(Py_ssize_t x, Py_ssize_t length) noexcept nogil:
    return min(max(x, 0), length - 1)


cdef void cut_one(
    const unsigned char[:, :, ::1] image, const long long* box, float[:, :, :] patch,
    Taps* across, Taps* down, float* row,
) noexcept nogil:
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], rows = patch.shape[1], columns = patch.shape[2]
    cdef Py_ssize_t left = box[0], top = box[1], wide = box[2] - box[0], high = box[3] - box[1]
    # The columns of the image that the box shows, and one at the border for those outside.
    cdef Py_ssize_t x1 = within(left, width), x2 = within(box[2] - 1, width) + 1
    cdef Py_ssize_t i, j, k, x, n = 3 * (x2 - x1)
    cdef const unsigned char* source
    cdef float weight, blue, green, red
    lay(across, wide, columns)
    lay(down, high, rows)
    for i in range(rows):
        for x in range(n):
            row[x] = 0
        for k in range(down.first[i], down.first[i + 1]):
            weight = down.weights[k]
            if weight == 0:
                continue
            source = &image[within(top + down.start[i] + k - down.first[i], height), x1, 0]
            for x in range(n):
                row[x] += weight * source[x]
        for j in range(columns):
            blue = green = red = 0
            for k in range(across.first[j], across.first[j + 1]):
                x = 3 * (min(max(left + across.start[j] + k - across.first[j], x1), x2 - 1) - x1)
                weight = across.weights[k]
                blue += weight * row[x]
                green += weight * row[x + 1]
                red += weight * row[x + 2]
            patch[0, i, j] = <float>(<int>(blue + 0.5))
            patch[1, i, j] = <float>(<int>(green + 0.5))
            patch[2, i, j] = <float>(<int>(red + 0.5))


def cut_patches(const unsigned char[:, :, ::1] image, const long long[:, ::1] boxes, float[:, :, :, :] patches):
    """Boxes (n, 4), each at least one pixel, of an image (h, w, 3) that has pixels, into patches (n, 3, rows, columns)."""
    cdef Py_ssize_t n = boxes.shape[0], rows = patches.shape[2], columns = patches.shape[3], i
    cdef Py_ssize_t wide = 1, high = 1
    cdef Taps across, down
    for i in range(n):
        wide, high = max(wide, boxes[i, 2] - boxes[i, 0]), max(high, boxes[i, 3] - boxes[i, 1])
    cdef float[::1] row = np.empty(3 * image.shape[1], np.float32)
    cdef bint enough
    with nogil:
        enough = reserve(&across, columns, wide)
        enough = reserve(&down, rows, high) and enough
        if enough:
            for i in range(n):
                cut_one(image, &boxes[i, 0], patches[i], &across, &down, &row[0])
        release(&across)
        release(&down)
    if not enough:
        raise MemoryError
