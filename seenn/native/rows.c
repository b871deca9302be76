/* Some samples of several buffers into rows of others; 1 where a row does not exist, and then nothing is written. */

#include <stdint.h>
#include <string.h>

typedef struct {
    char *target;          /* [slots][bytes] */
    const char *source;    /* [samples][bytes] */
    int64_t bytes, stride; /* stride: of the source; 0 where one sample is for all */
} Rows;

static int outside(const int64_t *rows, int64_t count, int64_t most) {
    for (int64_t k = 0; k < count; k++)
        if (rows[k] < 0 || rows[k] >= most) return 1;
    return 0;
}

/* samples: which of the source's, or NULL for the first ones */
int32_t seenn_write_rows(const Rows *all, int64_t buffers, const int64_t *rows, const int64_t *samples, int64_t count,
                         int64_t slots, int64_t most, int32_t threads) {
    if (outside(rows, count, slots) || (samples ? outside(samples, count, most) : count > most)) return 1;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (count > 1)
    for (int64_t i = 0; i < count * buffers; i++) {
        const Rows *one = all + i / count;
        const int64_t k = i % count, sample = samples ? samples[k] : k;
        memcpy(one->target + rows[k] * one->bytes, one->source + sample * one->stride, one->bytes);
    }
    return 0;
}
