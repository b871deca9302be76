/* A binary neuron's membrane through all timesteps, forwards and backwards, in one pass over the memory of each.

   Forwards, with u the charged membrane:

       u = x_t + decay·v,   s = u ≥ θ,   y_t = s·θ,   v = u − s·θ  (soft)  or  u − s·u + s·v_reset  (hard)

   Backwards, with g the surrogate's derivative at z = (u − θ)/θ and c the gradient at v, from the last step on:

       dx_t = g·(dy_t − c) + c                                         (soft)
              g·(dy_t − c·(u − v_reset)/θ) + c·(1 − s)                 (hard)    without c in brackets if detached
       c    = decay·dx_t

   All arrays are groups × period, time after time; thresholds repeat with the period. Samples go through time in
   blocks that stay in the cache. Currents, outputs and their gradients are float32, or all bfloat16 ("narrow");
   membranes are float32. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "narrow.h"

typedef struct {
    const void *currents;
    const float *first, *threshold;
    void *outputs;
    float *charged, *last;                     /* charged: or NULL */
    int64_t timesteps, groups, period, stride; /* stride: from step to step of the currents */
    float decay, v_reset;
    int32_t hard, narrow, threads;
} Forward;

typedef struct {
    const void *grad_outputs;
    const float *charged, *grad_last, *threshold;
    void *grad_currents;
    float *grad_first;
    int64_t timesteps, groups, period, stride; /* stride: from step to step of grad_outputs */
    float decay, v_reset, a, b, region;        /* a, b, region: the surrogate's parameters */
    int32_t hard, detach, surrogate, narrow, threads;
} Backward;

enum { TRIANGLE, RECTANGLE, ARCTAN, LOGISTIC };
enum { BLOCK = 2048, STRIP = 256 };

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define MULTIPLY_ADD(a, b, c) __builtin_fmaf(a, b, c) /* as torch.add with alpha rounds */
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

/* e^x for x ≤ 0: 2^n·e^r with |r| ≤ ½·ln 2, to two units in the last place; 0 below −87. */
INLINE float exp_of_negative(float x) {
    const float bounded = x < -87.0f ? -87.0f : x;
    const float n = floorf(bounded * 1.44269504f + 0.5f);
    const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
    const float high = 1.6666667e-1f + r * (4.1666666e-2f + r * (8.3333333e-3f + r * 1.3888889e-3f));
    const float series = 1.0f + r * (1.0f + r * (0.5f + r * high));
    const int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return x < -87.0f ? 0.0f : series * power;
}

/* σ(x)·(1 − σ(x)) */
INLINE float logistic_slope(float x) {
    const float e = exp_of_negative(-fabsf(x)), whole = 1.0f + e;
    return e / (whole * whole);
}

INLINE float derivative(float x, float a, float b, float region, const int surrogate) {
    const float distance = fabsf(x);
    switch (surrogate) {
    case TRIANGLE: { /* a: 1/γ², b: 1/γ */
        const float y = b - a * distance;
        return y < 0.0f ? 0.0f : y;
    }
    case RECTANGLE: /* a: 1/w, b: w/2 */
        return distance <= b ? a : 0.0f;
    case ARCTAN: /* a: α/2, b: π·α/2 */
        return a / (1.0f + b * x * (b * x));
    default: /* LOGISTIC, sigmoid and Dspike; the slope of a/b·σ(b·x) in the region */
        return distance <= region ? a * logistic_slope(b * x) : 0.0f;
    }
}

INLINE void forward(const Forward *w, int64_t group, int64_t count, const int hard, const int keep, const int narrow) {
    const int64_t period = w->period, size = w->groups * period, begin = group * period, end = begin + count * period;
    const float *restrict theta = w->threshold;
    const float decay = w->decay, v_reset = w->v_reset;
    for (int64_t t = 0; t < w->timesteps; t++) {
        const float *before = t ? w->last : w->first;
        float *v = w->last, *restrict charged = keep ? w->charged + t * size : 0;
        for (int64_t at = begin; at < end; at += period) {
            const int64_t x = t * w->stride + at, y = t * size + at;
#pragma omp simd
            for (int64_t c = 0; c < period; c++) {
                const float u = MULTIPLY_ADD(decay, before[at + c], load(w->currents, x + c, narrow));
                const float s = u >= theta[c] ? 1.0f : 0.0f;
                const float after = u - s * (hard ? u : theta[c]);
                v[at + c] = hard ? after + s * v_reset : after;
                store(w->outputs, y + c, s * theta[c], narrow);
                if (keep) charged[at + c] = u;
            }
        }
    }
}

INLINE void slopes(const Backward *w, const float *u, const float *theta, int64_t count, float *slope,
                   const int surrogate) {
    const float a = w->a, b = w->b, region = w->region;
#pragma omp simd
    for (int64_t c = 0; c < count; c++) slope[c] = derivative((u[c] - theta[c]) / theta[c], a, b, region, surrogate);
}

INLINE void backward(const Backward *w, int64_t group, int64_t count, const int hard, const int detach,
                     const int narrow) {
    const int64_t period = w->period, size = w->groups * period, begin = group * period, end = begin + count * period;
    const float decay = w->decay, v_reset = w->v_reset;
    float slope[STRIP];
    for (int64_t t = w->timesteps - 1; t >= 0; t--) {
        const float *from = t == w->timesteps - 1 ? w->grad_last : w->grad_first;
        for (int64_t at = begin; at < end; at += period) {
            for (int64_t first = 0; first < period; first += STRIP) {
                const int64_t wide = period - first < STRIP ? period - first : STRIP, here = at + first;
                const int64_t own = t * w->stride + here, result = t * size + here;
                const float *u = w->charged + result, *theta = w->threshold + first, *carry = from + here;
                float *carried = w->grad_first + here;
                switch (w->surrogate) {
                    case TRIANGLE: slopes(w, u, theta, wide, slope, TRIANGLE); break;
                    case RECTANGLE: slopes(w, u, theta, wide, slope, RECTANGLE); break;
                    case ARCTAN: slopes(w, u, theta, wide, slope, ARCTAN); break;
                    default: slopes(w, u, theta, wide, slope, LOGISTIC); break;
                }
#pragma omp simd
                for (int64_t c = 0; c < wide; c++) {
                    const float c_t = carry[c];
                    float grad = load(w->grad_outputs, own + c, narrow);
                    if (!detach) grad -= hard ? c_t * (u[c] - v_reset) / theta[c] : c_t;
                    const float found = slope[c] * grad + (hard && u[c] >= theta[c] ? 0.0f : c_t);
                    store(w->grad_currents, result + c, found, narrow);
                    carried[c] = decay * found;
                }
            }
        }
    }
}

/* Blocks of whole groups. */
#define FOR_BLOCKS(w, call)                                                                        \
    const int64_t step = w->period < BLOCK ? BLOCK / w->period : 1;                                \
    const int64_t blocks = (w->groups + step - 1) / step;                                          \
    _Pragma("omp parallel for schedule(static) num_threads(w->threads) if (blocks > 4)")           \
    for (int64_t i = 0; i < blocks; i++) {                                                         \
        const int64_t group = i * step, count = w->groups - group < step ? w->groups - group : step; \
        call                                                                                       \
    }

#define EIGHT(CASE) CASE(0) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)

void seenn_unroll(const Forward *w) {
    const int kind = (w->hard ? 1 : 0) | (w->charged ? 2 : 0) | (w->narrow ? 4 : 0);
#define FORWARD(k) case k: forward(w, group, count, (k) & 1, (k) & 2, (k) & 4); break;
    FOR_BLOCKS(w, switch (kind) { EIGHT(FORWARD) })
}

void seenn_unroll_backward(const Backward *w) {
    const int kind = (w->hard ? 1 : 0) | (w->detach ? 2 : 0) | (w->narrow ? 4 : 0);
#define BACKWARD(k) case k: backward(w, group, count, (k) & 1, (k) & 2, (k) & 4); break;
    FOR_BLOCKS(w, switch (kind) { EIGHT(BACKWARD) })
}
