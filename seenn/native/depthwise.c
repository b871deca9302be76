/* A depthwise convolution of counts, kept as count − low in bytes: every channel of its own,

       target += unit · (Σ weight · byte + offset) + bias

   over the taps of its window. Products are added up in int16 for as many taps as the caller proves to fit, then in
   int32. The bytes have a margin of zero counts where the window leaves the image. */

#include <stdint.h>

typedef struct {
    const uint8_t *bytes;   /* [samples][rows][columns][channels], with strides of samples and rows */
    const int16_t *weights; /* [taps][channels] */
    const int32_t *offset;  /* [channels], as all that follow */
    const float *unit, *bias;
    float *target;       /* [samples][down][across][channels] */
    const int64_t *taps; /* where each tap finds its byte, from that of the window's first */
    int64_t count, samples, channels, down, across, sample, row, below, beside; /* strides of windows */
    int32_t narrow, threads; /* narrow: so many taps fit in int16 */
} Depthwise;

enum { BLOCK = 64, WORTH_A_THREAD = 1 << 15 };

#define INLINE static inline __attribute__((always_inline))

/* One place of the target, some channels. */
INLINE void add(const Depthwise *w, const uint8_t *restrict bytes, float *restrict target, int64_t first, int64_t length,
                const int64_t count, const int64_t narrow) {
    const int16_t *restrict weights = w->weights + first;
    const int32_t *restrict offset = w->offset + first;
    const float *restrict unit = w->unit + first, *restrict bias = w->bias + first;
    const int64_t *restrict taps = w->taps, channels = w->channels;
#pragma omp simd
    for (int64_t c = 0; c < length; c++) {
        int16_t part = 0;
        int32_t sum = offset[c];
#pragma GCC unroll 25
        for (int64_t k = 0; k < count; k++) {
            part = (int16_t)(part + (int16_t)((int16_t)bytes[taps[k] + c] * weights[k * channels + c]));
            if ((k + 1) % narrow == 0) sum += part, part = 0;
        }
        target[c] += (float)(sum + part) * unit[c] + bias[c];
    }
}

/* Likewise, with a window of any size. */
INLINE void add_any(const Depthwise *w, const uint8_t *restrict bytes, float *restrict target, int64_t first,
                    int64_t length) {
    int32_t sum[BLOCK];
    for (int64_t c = 0; c < length; c++) sum[c] = w->offset[first + c];
    for (int64_t k = 0; k < w->count; k++) {
        const uint8_t *restrict x = bytes + w->taps[k];
        const int16_t *restrict weights = w->weights + k * w->channels + first;
#pragma omp simd
        for (int64_t c = 0; c < length; c++) sum[c] += (int16_t)((int16_t)x[c] * weights[c]);
    }
    for (int64_t c = 0; c < length; c++) target[c] += (float)sum[c] * w->unit[first + c] + w->bias[first + c];
}

INLINE void line(const Depthwise *w, const uint8_t *bytes, float *target, const int64_t count, const int64_t narrow) {
    const int64_t channels = w->channels, even = channels / 16 * 16;
    for (int64_t x = 0; x < w->across; x++, bytes += w->beside, target += channels) {
        if (count) {
            add(w, bytes, target, 0, even, count, narrow);
            if (even < channels) add(w, bytes + even, target + even, even, channels - even, count, narrow);
            continue;
        }
        for (int64_t first = 0; first < channels; first += BLOCK)
            add_any(w, bytes + first, target + first, first, channels - first < BLOCK ? channels - first : BLOCK);
    }
}

void seenn_depthwise(const Depthwise *w) {
    const int64_t rows = w->samples * w->down, length = w->across * w->channels;
#pragma omp parallel for schedule(static) num_threads(w->threads) if (rows * length > WORTH_A_THREAD)
    for (int64_t i = 0; i < rows; i++) {
        const uint8_t *bytes = w->bytes + i / w->down * w->sample + i % w->down * w->below;
        float *target = w->target + i * length;
#define LINE(size, taps) else if (w->count == size && w->narrow >= taps) line(w, bytes, target, size, taps);
        if (0) {}
        LINE(9, 9) LINE(9, 8) LINE(9, 1) LINE(25, 25) LINE(25, 8) LINE(25, 1)
        else line(w, bytes, target, 0, 0);
    }
}
