/* Batch normalisation in training, channels-last: two passes over the memory each way.

   Forwards, with μ and σ² of the batch and r = 1/√(σ² + ε):

       y = γ·r·(x − μ) + β

   Backwards:

       dx = γ·r·(dy − mean(dy) − r²·(x − μ)·mean(dy·(x − μ))),   dγ = r·Σ dy·(x − μ),   dβ = Σ dy

   Arrays are groups × period, where the period is the channels, repeated so often that it fills vectors. x, y and
   their gradients are float32, or all bfloat16 ("narrow"). Sums are formed about a centre, in parts whose number
   does not depend on the threads, and joined in double. */

#include <math.h>
#include <stdint.h>

#include "narrow.h"

typedef struct {
    const void *x;
    const float *centre, *weight, *bias; /* weight, bias: or NULL */
    void *y;
    float *mean, *variance, *root;       /* root: r */
    float *sums, *pattern;               /* scratch: [parts][2][period], [3][period] */
    int64_t groups, period, channels, parts;
    float eps;
    int32_t narrow, threads;
} Forward;

typedef struct {
    const void *x, *dy;
    const float *mean, *root, *weight;   /* weight: or NULL */
    void *dx;
    float *grad_weight, *grad_bias;
    float *sums, *pattern;
    int64_t groups, period, channels, parts;
    int32_t narrow, threads;
} Backward;

enum { WORTH_A_THREAD = 1 << 14 };

/* Σ d and Σ d² of d = x − centre; with another array o, Σ o and Σ o·d. */
INLINE void sum_rows(const void *x, const void *other, const float *restrict centre, float *restrict first,
                     int64_t period, int64_t begin, int64_t end, const int narrow) {
    float *restrict second = first + period;
    for (int64_t at = begin * period; at < end * period; at += period) {
#pragma omp simd
        for (int64_t c = 0; c < period; c++) {
            const float d = load(x, at + c, narrow) - centre[c];
            const float o = other ? load(other, at + c, narrow) : d;
            first[c] += o;
            second[c] += o * d;
        }
    }
}

/* a·x + b·other + c, the three in a row in ``pattern``. */
INLINE void weigh_row(const void *x, const void *other, const float *restrict pattern, void *result, int64_t period,
                      int64_t at, const int narrow) {
    const float *restrict a = pattern, *restrict b = pattern + period, *restrict shift = pattern + 2 * period;
#pragma omp simd
    for (int64_t c = 0; c < period; c++) {
        float y = a[c] * load(x, at + c, narrow);
        if (other) y += b[c] * load(other, at + c, narrow);
        store(result, at + c, y + shift[c], narrow);
    }
}

#define SUM_ROWS(w, other, centre)                                                                              \
    const int64_t step = (w->groups + w->parts - 1) / w->parts;                                                 \
    _Pragma("omp parallel for schedule(static) num_threads(w->threads) if (w->groups * w->period > WORTH_A_THREAD)") \
    for (int64_t part = 0; part < w->parts; part++) {                                                           \
        const int64_t begin = part * step, end = begin + step < w->groups ? begin + step : w->groups;           \
        float *sums = w->sums + part * 2 * w->period;                                                           \
        for (int64_t c = 0; c < 2 * w->period; c++) sums[c] = 0.0f;                                             \
        if (w->narrow) sum_rows(w->x, other, centre, sums, w->period, begin, end, 1);                           \
        else sum_rows(w->x, other, centre, sums, w->period, begin, end, 0);                                     \
    }

#define WEIGH_ROWS(w, values, other, result)                                                                    \
    _Pragma("omp parallel for schedule(static) num_threads(w->threads) if (w->groups * w->period > WORTH_A_THREAD)") \
    for (int64_t group = 0; group < w->groups; group++) {                                                       \
        if (w->narrow) weigh_row(values, other, w->pattern, result, w->period, group * w->period, 1);           \
        else weigh_row(values, other, w->pattern, result, w->period, group * w->period, 0);                     \
    }

/* The two sums of a channel over parts and repeats, divided by how many numbers they are of. */
static void means(const float *sums, int64_t parts, int64_t period, int64_t channels, int64_t channel, double count,
                  double found[2]) {
    found[0] = found[1] = 0.0;
    for (int64_t part = 0; part < parts; part++)
        for (int64_t c = channel; c < period; c += channels)
            for (int k = 0; k < 2; k++) found[k] += sums[(2 * part + k) * period + c];
    found[0] /= count;
    found[1] /= count;
}

static void repeat(float *pattern, int64_t period, int64_t channels) {
    for (int k = 0; k < 3; k++)
        for (int64_t c = channels; c < period; c++) pattern[k * period + c] = pattern[k * period + c - channels];
}

void seenn_norm(const Forward *w) {
    const double count = (double)(w->groups * w->period) / (double)w->channels;
    float *a = w->pattern, *unused = a + w->period, *shift = unused + w->period;
    for (int64_t c = 0; c < w->period; c++) a[c] = w->centre[c % w->channels];
    SUM_ROWS(w, 0, a)
    for (int64_t c = 0; c < w->channels; c++) {
        double found[2];
        means(w->sums, w->parts, w->period, w->channels, c, count, found);
        const double mean = w->centre[c] + found[0], spread = found[1] - found[0] * found[0];
        const double variance = spread > 0.0 || spread != spread ? spread : 0.0, root = 1.0 / sqrt(variance + w->eps);
        const double scale = w->weight ? root * w->weight[c] : root;
        w->mean[c] = (float)mean;
        w->variance[c] = (float)variance;
        w->root[c] = (float)root;
        a[c] = (float)scale;
        unused[c] = 0.0f;
        shift[c] = (float)((w->bias ? w->bias[c] : 0.0) - mean * scale);
    }
    repeat(w->pattern, w->period, w->channels);
    WEIGH_ROWS(w, w->x, 0, w->y)
}

void seenn_norm_backward(const Backward *w) {
    const double count = (double)(w->groups * w->period) / (double)w->channels;
    float *a = w->pattern, *b = a + w->period, *shift = b + w->period;
    for (int64_t c = 0; c < w->period; c++) a[c] = w->mean[c % w->channels];
    SUM_ROWS(w, w->dy, a)
    for (int64_t c = 0; c < w->channels; c++) {
        double found[2];
        means(w->sums, w->parts, w->period, w->channels, c, count, found);
        const double root = w->root[c], scale = w->weight ? root * w->weight[c] : root;
        const double slope = -scale * root * root * found[1];
        w->grad_weight[c] = (float)(root * found[1] * count);
        w->grad_bias[c] = (float)(found[0] * count);
        a[c] = (float)scale;
        b[c] = (float)slope;
        shift[c] = (float)(-scale * found[0] - slope * w->mean[c]);
    }
    repeat(w->pattern, w->period, w->channels);
    WEIGH_ROWS(w, w->dy, w->x, w->dx)
}
