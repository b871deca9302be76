/* A binary neuron's membrane through all timesteps, forwards and backwards, in one pass over the memory of each.

   Forwards, with u the charged membrane:

       u = x_t + decay·v,   s = u ≥ θ,   y_t = s·θ,   v = u − s·θ  (soft)  or  u − s·u + s·v_reset  (hard)

   Backwards, with g the surrogate's derivative at z = (u − θ)/θ and c the gradient at v, from the last step on:

       dx_t = g·(dy_t − c) + c                                         (soft)
              g·(dy_t − c·(u − v_reset)/θ) + c·(1 − s)                 (hard)    without c in brackets if detached
       c    = decay·dx_t

   All arrays are groups × period, time after time; thresholds repeat with the period. Samples go through time in
   blocks that stay in the cache. */

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const float *currents, *first, *threshold;
    float *outputs, *charged, *last; /* charged: or NULL */
    int64_t timesteps, groups, period, stride; /* stride: from step to step of the currents */
    float decay, v_reset;
    int32_t hard, threads;
} Forward;

typedef struct {
    const float *charged, *grad_outputs, *grad_last, *threshold;
    float *grad_currents, *grad_first;
    int64_t timesteps, groups, period, stride; /* stride: from step to step of grad_outputs */
    float decay, v_reset, a, b, region;        /* a, b, region: the surrogate's parameters */
    int32_t hard, detach, surrogate, threads;
} Backward;

enum { TRIANGLE, RECTANGLE, ARCTAN, LOGISTIC };
enum { BLOCK = 2048 };

#define INLINE static inline __attribute__((always_inline))

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

INLINE void forward(const Forward *w, int64_t group, int64_t count, const int hard, const int keep) {
    const int64_t period = w->period, size = w->groups * period, at = group * period;
    const float *restrict theta = w->threshold;
    const float decay = w->decay, v_reset = w->v_reset;
    for (int64_t t = 0; t < w->timesteps; t++) {
        const float *restrict x = w->currents + t * w->stride + at;
        float *restrict y = w->outputs + t * size + at;
        float *restrict kept = keep ? w->charged + t * size + at : 0;
        const float *before = (t ? w->last : w->first) + at;
        float *v = w->last + at;
        for (int64_t g = 0; g < count; g++, x += period, y += period, before += period, v += period) {
#pragma omp simd
            for (int64_t c = 0; c < period; c++) {
                const float u = MULTIPLY_ADD(decay, before[c], x[c]);
                const float s = u >= theta[c] ? 1.0f : 0.0f;
                const float after = u - s * (hard ? u : theta[c]);
                v[c] = hard ? after + s * v_reset : after;
                y[c] = s * theta[c];
                if (keep) kept[c] = u;
            }
            if (keep) kept += period;
        }
    }
}

INLINE void backward(const Backward *w, int64_t group, int64_t count, const int hard, const int detach,
                     const int surrogate) {
    const int64_t period = w->period, size = w->groups * period, at = group * period;
    const float *restrict theta = w->threshold;
    const float decay = w->decay, v_reset = w->v_reset, a = w->a, b = w->b, region = w->region;
    for (int64_t t = w->timesteps - 1; t >= 0; t--) {
        const float *restrict charged = w->charged + t * size + at;
        const float *restrict own = w->grad_outputs + t * w->stride + at;
        float *restrict result = w->grad_currents + t * size + at;
        const float *from = (t == w->timesteps - 1 ? w->grad_last : w->grad_first) + at;
        float *carried = w->grad_first + at;
        for (int64_t g = 0; g < count; g++) {
#pragma omp simd
            for (int64_t c = 0; c < period; c++) {
                const float u = charged[c], z = (u - theta[c]) / theta[c], carry = from[c];
                const float slope = derivative(z, a, b, region, surrogate);
                float grad = own[c];
                if (!detach) grad -= hard ? carry * (u - v_reset) / theta[c] : carry;
                const float passed = hard && u >= theta[c] ? 0.0f : carry;
                const float found = slope * grad + passed;
                result[c] = found;
                carried[c] = decay * found;
            }
            charged += period, own += period, result += period, from += period, carried += period;
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

void seenn_unroll(const Forward *w) {
    const int kind = (w->hard ? 1 : 0) | (w->charged ? 2 : 0);
    FOR_BLOCKS(w, switch (kind) {
        case 0: forward(w, group, count, 0, 0); break;
        case 1: forward(w, group, count, 1, 0); break;
        case 2: forward(w, group, count, 0, 1); break;
        case 3: forward(w, group, count, 1, 1); break;
    })
}

#define RESETS(s)                                                        \
    case 4 * s: backward(w, group, count, 0, 0, s); break;               \
    case 4 * s + 1: backward(w, group, count, 1, 0, s); break;           \
    case 4 * s + 2: backward(w, group, count, 0, 1, s); break;           \
    case 4 * s + 3: backward(w, group, count, 1, 1, s); break;

void seenn_unroll_backward(const Backward *w) {
    const int kind = 4 * w->surrogate + (w->hard ? 1 : 0) + (w->detach ? 2 : 0);
    FOR_BLOCKS(w, switch (kind) {
        RESETS(TRIANGLE) RESETS(RECTANGLE) RESETS(ARCTAN) RESETS(LOGISTIC)
    })
}
