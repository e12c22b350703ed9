# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twins of boxes.py and anchors.py: the same arithmetic in the same order, so that both give the same
numbers; only exp is the C library's here and NumPy's there, and they may differ in the last bit."""

import numpy as np

from libc.math cimport exp, isfinite


cdef inline double intersect(double[:, ::1] a, Py_ssize_t i, double[:, ::1] b, Py_ssize_t j) noexcept nogil:
    """The area that boxes i of a (5, n) and j of b (5, m) share; most boxes lie apart, which one look often shows."""
    cdef double width, height
    width = min(a[2, i], b[2, j]) - max(a[0, i], b[0, j])
    if not width > 0:
        return 0
    height = min(a[3, i], b[3, j]) - max(a[1, i], b[1, j])
    return width * height if height > 0 else 0


def overlaps(double[:, ::1] boxes, double[:, ::1] others):
    """Intersection over union (n, m); boxes (5, n) and others (5, m) are x1, y1, x2, y2, area."""
    cdef Py_ssize_t n = boxes.shape[1], m = others.shape[1], i, j
    cdef double shared
    result = np.zeros((n, m))
    cdef double[:, ::1] out = result
    with nogil:
        for i in range(n):
            for j in range(m):
                shared = intersect(boxes, i, others, j)
                if shared > 0:
                    out[i, j] = shared / (boxes[4, i] + others[4, j] - shared)
    return result


def match(double[:, ::1] boxes, double[:, ::1] others):
    """Of n boxes and m others as `overlaps` takes them: what each overlaps most (n,) and how much (n,), and the same of
    the others; the first where several are equal, and where there is none."""
    cdef Py_ssize_t n = boxes.shape[1], m = others.shape[1], i, j
    cdef double shared
    owner, most = np.zeros(n, np.int64), np.zeros(n)
    best, best_most = np.zeros(m, np.int64), np.zeros(m)
    cdef long long[::1] owner_of = owner, best_of = best
    cdef double[::1] most_of = most, best_most_of = best_most
    with nogil:
        for j in range(m):
            for i in range(n):
                shared = intersect(boxes, i, others, j)
                if shared > 0:
                    shared = shared / (boxes[4, i] + others[4, j] - shared)
                    if shared > most_of[i]:
                        most_of[i] = shared
                        owner_of[i] = j
                    if shared > best_most_of[j]:
                        best_most_of[j] = shared
                        best_of[j] = i
    return owner, most, best, best_most


def nms(double[:, ::1] boxes, double threshold, bint of_smaller):
    """Positions (k,) of the boxes kept, of boxes (5, n) x1, y1, x2, y2, area, the best first; `boxes` is written over.

    Each is held against those kept so far, which move up to the front, until one suppresses it; what NumPy does, each
    kept box against all that are left, comes to the same and looks at many more pairs where boxes crowd about faces.
    """
    cdef Py_ssize_t n = boxes.shape[1], count = 0, i, j, side
    cdef double shared, whole
    kept = np.empty(n, np.int64)
    cdef long long[::1] out = kept
    with nogil:
        for i in range(n):
            for j in range(count):
                shared = intersect(boxes, i, boxes, j)
                if shared > 0:
                    if of_smaller:
                        whole = min(boxes[4, j], boxes[4, i])
                    else:
                        whole = boxes[4, j] + boxes[4, i] - shared
                    if shared > threshold * whole:
                        break
            else:
                for side in range(5):
                    boxes[side, count] = boxes[side, i]
                out[count] = i
                count += 1
    return kept[:count].copy()


def decode(float[:, :, :, ::1] score, float[:, :, :, ::1] box, float[:, :, :, ::1] landmarks, double[:, ::1] base,
           double stride, float threshold, double growth):
    """Of the three maps of one stride, the anchors whose face score is over the threshold: the image of each (k,), its
    box (k, 4), score (k,) float32 and landmarks (k, 5, 2). `base` (2, 4) are the anchors of the first place."""
    cdef Py_ssize_t images = score.shape[0], height = score.shape[2], width = score.shape[3], count = 0, n, a, y, x, j
    cdef double side, centre, half, middle
    cdef float delta
    cdef bint sound
    with nogil:
        for n in range(images):
            for a in range(2):
                for y in range(height):
                    for x in range(width):
                        count += score[n, 2 + a, y, x] > threshold
    owners, boxes = np.empty(count, np.int64), np.empty((count, 4))
    scores, points = np.empty(count, np.float32), np.empty((count, 10))
    cdef long long[::1] owner_of = owners
    cdef float[::1] score_of = scores
    cdef double[:, ::1] box_of = boxes, point_of = points
    cdef double[2] corner
    count = 0
    with nogil:
        for n in range(images):
            for a in range(2):
                side = base[a, 2] - base[a, 0] + 1
                for y in range(height):
                    for x in range(width):
                        if not (score[n, 2 + a, y, x] > threshold and isfinite(score[n, 2 + a, y, x])):
                            continue
                        sound = True
                        for j in range(4):
                            sound &= isfinite(box[n, 4 * a + j, y, x]) != 0
                        for j in range(10):
                            sound &= isfinite(landmarks[n, 10 * a + j, y, x]) != 0
                        if not sound:
                            continue
                        corner[0] = base[a, 0] + x * stride
                        corner[1] = base[a, 1] + y * stride
                        for j in range(2):
                            centre = corner[j] + (side - 1) / 2
                            middle = centre + box[n, 4 * a + j, y, x] * side
                            half = (exp(min(<double>box[n, 4 * a + 2 + j, y, x], growth)) * side - 1) / 2
                            box_of[count, j] = middle - half
                            box_of[count, 2 + j] = middle + half
                        for j in range(10):
                            centre = corner[j % 2] + (side - 1) / 2
                            point_of[count, j] = landmarks[n, 10 * a + j, y, x] * side + centre
                        owner_of[count] = n
                        score_of[count] = score[n, 2 + a, y, x]
                        count += 1
    return owners[:count], boxes[:count], scores[:count], points[:count].reshape(-1, 5, 2)
