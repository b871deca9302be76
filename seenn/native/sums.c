/* What an average adds up: every window of images of bytes, channel by channel. */

#include <stdint.h>

enum { BLOCK = 64 };

typedef struct {
    const uint8_t *bytes; /* value − low; [samples][rows][columns][channels], with strides of samples and rows */
    float *target;        /* [samples][down][across][channels] */
    const int64_t *rows, *columns; /* first and one behind the last, of each window */
    int64_t samples, channels, down, across, sample, row;
    float low;
    int32_t threads;
} Windows;

void seenn_add_up(const Windows *w) {
    const int64_t windows = w->down * w->across;
#pragma omp parallel for schedule(static) num_threads(w->threads) if (w->samples * windows > 1)
    for (int64_t i = 0; i < w->samples * windows; i++) {
        const int64_t place = i % windows, *rows = w->rows + 2 * (place / w->across);
        const int64_t *columns = w->columns + 2 * (place % w->across);
        const float zero = w->low * (float)((rows[1] - rows[0]) * (columns[1] - columns[0]));
        const uint8_t *image = w->bytes + i / windows * w->sample;
        for (int64_t first = 0; first < w->channels; first += BLOCK) {
            const int64_t count = w->channels - first < BLOCK ? w->channels - first : BLOCK;
            int32_t sum[BLOCK] = {0};
            for (int64_t y = rows[0]; y < rows[1]; y++)
                for (int64_t x = columns[0]; x < columns[1]; x++) {
                    const uint8_t *values = image + y * w->row + x * w->channels + first;
#pragma omp simd
                    for (int64_t c = 0; c < count; c++) sum[c] += values[c];
                }
            float *target = w->target + i * w->channels + first;
            for (int64_t c = 0; c < count; c++) target[c] = (float)sum[c] + zero;
        }
    }
}
