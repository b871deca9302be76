/* A depthwise convolution of counts, kept as count − low in bytes: every channel of its own,

       target += unit · (Σ weight · byte + offset) + bias

   over the taps of its window. Where the caller proves that sums of a window fit, they are int16; else int32. The bytes
   have a margin of zero counts where the window leaves the image. */

#include <stdint.h>

typedef struct {
    const uint8_t *bytes;   /* [samples][rows][columns][channels], with strides of samples and rows */
    const int16_t *weights; /* [taps][channels] */
    const int32_t *offset;  /* [channels], as all that follow */
    const float *unit, *bias;
    float *target;       /* [samples][down][across][channels] */
    const int64_t *taps; /* where each tap finds its byte, from that of the window's first */
    int64_t count, samples, channels, down, across, sample, row, below, beside; /* strides of windows */
    int32_t wide, threads;
} Depthwise;

enum { BLOCK = 64, WORTH_A_THREAD = 1 << 15 };

#define INLINE static inline __attribute__((always_inline))

/* One place of the target, some channels. */
INLINE void add(const Depthwise *w, const uint8_t *restrict bytes, float *restrict target, int64_t first, int64_t length,
                const int64_t count, const int wide) {
    const int16_t *restrict weights = w->weights + first;
    const int32_t *restrict offset = w->offset + first;
    const float *restrict unit = w->unit + first, *restrict bias = w->bias + first;
    const int64_t *restrict taps = w->taps, channels = w->channels;
#pragma omp simd
    for (int64_t c = 0; c < length; c++) {
        int16_t narrow = 0;
        int32_t sum = offset[c];
#pragma GCC unroll 25
        for (int64_t k = 0; k < count; k++) {
            const int16_t product = (int16_t)((int16_t)bytes[taps[k] + c] * weights[k * channels + c]);
            if (wide) sum += product;
            else narrow = (int16_t)(narrow + product);
        }
        target[c] += (float)(sum + narrow) * unit[c] + bias[c];
    }
}

INLINE void line(const Depthwise *w, const uint8_t *bytes, float *target, const int64_t count, const int wide) {
    for (int64_t x = 0; x < w->across; x++, bytes += w->beside, target += w->channels) {
        const int64_t even = w->channels / 16 * 16;
        add(w, bytes, target, 0, even, count, wide);
        if (even < w->channels) add(w, bytes + even, target + even, even, w->channels - even, count, wide);
    }
}

void seenn_depthwise(const Depthwise *w) {
    const int64_t rows = w->samples * w->down, length = w->across * w->channels;
#pragma omp parallel for schedule(static) num_threads(w->threads) if (rows * length > WORTH_A_THREAD)
    for (int64_t i = 0; i < rows; i++) {
        const uint8_t *bytes = w->bytes + i / w->down * w->sample + i % w->down * w->below;
        float *target = w->target + i * length;
        switch (2 * w->count + w->wide) {
#define LINE(count) case 2 * count: line(w, bytes, target, count, 0); break; case 2 * count + 1: line(w, bytes, target, count, 1); break;
            LINE(9) LINE(25)
        default: line(w, bytes, target, w->count, w->wide);
        }
    }
}
