# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled version of `warp_numpy` in augment.py; _warp.h computes the pixels."""

from libc.stdint cimport int64_t, uint8_t, uint32_t


cdef extern from "_warp.h":
    void agedge_warp_face(const uint32_t* source, int size, const float* m, const float* c, float* out,
                          const uint32_t* next) noexcept nogil


def warp(const uint8_t[:, :, :, ::1] pool, const int64_t[::1] rows, const float[:, ::1] matrices,
         const float[:, ::1] colours, float[:, :, :, ::1] out):
    """Warp faces like `warp_numpy`, which documents the shapes. The caller must check them."""
    cdef Py_ssize_t n = rows.shape[0], i, following
    cdef int size = pool.shape[1]
    if not size:
        return
    with nogil:
        for i in range(n):
            if rows[i] >= 0:
                following = rows[i + 1] if i + 1 < n and rows[i + 1] >= 0 else rows[i]
                agedge_warp_face(<const uint32_t*> &pool[rows[i], 0, 0, 0], size, &matrices[i, 0], &colours[i, 0],
                                 &out[i, 0, 0, 0], <const uint32_t*> &pool[following, 0, 0, 0])
