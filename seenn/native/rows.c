/* New values for some samples of several buffers; 1 where a row does not exist, and then nothing is written. */

#include <stdint.h>
#include <string.h>

typedef struct {
    int32_t *target;       /* [slots][length], of numbers of four bytes */
    const int32_t *source; /* [count][length], or one sample for all: stride 0 */
    int64_t length, stride;
} Rows;

int32_t seenn_write_rows(const Rows *all, int64_t buffers, const int64_t *rows, int64_t count, int64_t slots,
                         int32_t threads) {
    for (int64_t k = 0; k < count; k++)
        if (rows[k] < 0 || rows[k] >= slots) return 1;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (count > 1)
    for (int64_t i = 0; i < count * buffers; i++) {
        const Rows *one = all + i / count;
        const int64_t k = i % count;
        memcpy(one->target + rows[k] * one->length, one->source + k * one->stride, one->length * sizeof(int32_t));
    }
    return 0;
}
