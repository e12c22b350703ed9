/* Transform the pixels of a face: an affine map with replicated borders and bilinear sampling, then a colour matrix. The
   floating-point operations are those of warp_numpy in augment.py in the same order, so that the results are
   bit-identical (with -ffp-contract=off). */

#include <stdint.h>

/* GCC on x86-64 Linux compiles a version per instruction set and selects one when the program starts: 19 us per face of
   112 pixels with AVX-512, 51 us with the x86-64 baseline. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

#if defined(_MSC_VER)
#define restrict __restrict
#endif

#if defined(__GNUC__)
#define FETCH(place) __builtin_prefetch(place, 0, 2)
#else
#define FETCH(place)
#endif

#define BLOCK 512 /* pixels of a row per pass of the two loops, so that their arrays stay in the L1 cache */

#define CHANNEL(p, shift) ((float)(int32_t)(((p) >> (shift)) & 255))
#define MIX(shift) (w00 * CHANNEL(p00, shift) + w01 * CHANNEL(p01, shift) + w10 * CHANNEL(p10, shift) + w11 * CHANNEL(p11, shift))

/* source: size * size pixels, blue in the lowest byte. m: 2 x 3, c: 3 x 4. out: planes of red, green, blue.
   next: the source of the next face. Its rows are prefetched while this face is computed, since faces are at random
   places in memory: without it, a face takes 31 us instead of 16. */
FOR_EACH_PROCESSOR
void agedge_warp_face(const uint32_t *restrict source, int size, const float *restrict m, const float *restrict c,
                      float *restrict out, const uint32_t *next)
{
    float along[BLOCK], across[BLOCK];
    int32_t at[BLOCK];
    const float last = (float)(size - 1);
    const int most = size > 1 ? size - 2 : 0, right = size > 1 ? 1 : 0, down = size > 1 ? size : 0;
    const int plane = size * size;
    for (int y = 0; y < size; y++) {
        const float x0 = m[1] * (float)y + m[2], y0 = m[4] * (float)y + m[5];
        for (int x = 0; x < size; x += 16)
            FETCH(next + y * size + x);
        for (int begin = 0; begin < size; begin += BLOCK) {
            const int n = size - begin < BLOCK ? size - begin : BLOCK;
            for (int i = 0; i < n; i++) {
                float sx = m[0] * (float)(begin + i) + x0, sy = m[3] * (float)(begin + i) + y0;
                sx = sx > 0 ? sx : 0; /* NaN becomes 0, so that no pixel outside the image is read */
                sy = sy > 0 ? sy : 0;
                sx = sx < last ? sx : last;
                sy = sy < last ? sy : last;
                int32_t ix = (int32_t)sx, iy = (int32_t)sy;
                ix = ix < most ? ix : most;
                iy = iy < most ? iy : most;
                along[i] = sx - (float)ix;
                across[i] = sy - (float)iy;
                at[i] = iy * size + ix;
            }
            float *restrict red = out + y * size + begin;
            float *restrict green = red + plane, *restrict blue = green + plane;
            for (int i = 0; i < n; i++) {
                const uint32_t *place = source + at[i];
                const uint32_t p00 = place[0], p01 = place[right], p10 = place[down], p11 = place[right + down];
                const float u = along[i], v = across[i];
                const float w11 = u * v, w01 = u - w11, w10 = v - w11, w00 = 1 - u - w10;
                const float b = MIX(0), g = MIX(8), r = MIX(16);
                float p = c[0] * r + c[1] * g + c[2] * b + c[3];
                float q = c[4] * r + c[5] * g + c[6] * b + c[7];
                float s = c[8] * r + c[9] * g + c[10] * b + c[11];
                p = p > 0 ? p : 0;
                q = q > 0 ? q : 0;
                s = s > 0 ? s : 0;
                red[i] = p < 255 ? p : 255;
                green[i] = q < 255 ? q : 255;
                blue[i] = s < 255 ? s : 255;
            }
        }
    }
}
