/* What a function of running means takes beside the function, in two passes over memory. For every sample, with t its
   step:

       t += 1;  sum += x, for each input;  mean = sum / t
       now = f(…)                                          (by whoever calls)
       now = t · now, or now / t, or as it is;  target = now − value;  value = now

   Everything is dense, samples first. Rounding follows torch's, operation by operation. */

#include <stdint.h>

typedef struct {
    float *sum, *mean; /* mean: or NULL */
    const float *x;
    int64_t length; /* of a sample */
} Input;

typedef struct {
    const Input *inputs;
    float *t; /* [samples] */
    int64_t input_count, samples;
    int32_t threads;
} Gather;

typedef struct {
    const float *now;
    float *value, *target; /* target may be now */
    const float *t;
    int64_t samples, length, power; /* of t: 1, 0 or −1 */
    int32_t threads;
} Change;

enum { WORTH_A_THREAD = 1 << 15 };

void seenn_gather(const Gather *work) {
    for (int64_t i = 0; i < work->samples; i++) work->t[i] += 1.0f;
    for (int64_t k = 0; k < work->input_count; k++) {
        const Input *one = work->inputs + k;
        const int64_t length = one->length;
#pragma omp parallel for schedule(static) num_threads(work->threads) if (work->samples * length > WORTH_A_THREAD)
        for (int64_t i = 0; i < work->samples; i++) {
            float *restrict sum = one->sum + i * length;
            float *restrict mean = one->mean ? one->mean + i * length : 0;
            const float *restrict x = one->x + i * length;
            const float t = work->t[i];
            if (mean) {
#pragma omp simd
                for (int64_t c = 0; c < length; c++) mean[c] = (sum[c] += x[c]) / t;
            } else {
#pragma omp simd
                for (int64_t c = 0; c < length; c++) sum[c] += x[c];
            }
        }
    }
}

void seenn_change(const Change *work) {
    const int64_t length = work->length;
#pragma omp parallel for schedule(static) num_threads(work->threads) if (work->samples * length > WORTH_A_THREAD)
    for (int64_t i = 0; i < work->samples; i++) {
        const float *now = work->now + i * length;
        float *restrict value = work->value + i * length;
        float *target = work->target + i * length;
        const float t = work->t[i];
        const int64_t power = work->power;
#pragma omp simd
        for (int64_t c = 0; c < length; c++) {
            const float given = power > 0 ? now[c] * t : power < 0 ? now[c] / t : now[c];
            target[c] = given - value[c];
            value[c] = given;
        }
    }
}
