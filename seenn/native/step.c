/* One step of integrate-and-fire in training, forwards and backwards, in one pass over the memory of each.

   Forwards, with S the net count of a signed neuron:

       w = v + x,   u = w/θ,   n = clip(⌊u⌋, −min(S, most) or 0, most)
       output = n·θ,   v' = w − n·θ,   S' = S + n

   Backwards, with ō and v̄ the gradients at output and v', and s = clip(min(u + min(S, most), most + 1 − u), 0, 1):

       dw = (ō − v̄)·s + v̄,   dθ = Σ (ō − v̄)·(n − s·u)

   All arrays are groups × period; thresholds repeat with the period. Currents, outputs and their gradients are
   float32, or all bfloat16 ("narrow"). */

#include <math.h>
#include <stdint.h>

#include "narrow.h"

typedef struct {
    const float *v, *net, *threshold; /* net: or NULL */
    const void *current;
    void *output;
    float *u, *after, *net_after; /* net_after: or NULL, as net */
    int64_t groups, period;
    float most;
    int32_t narrow, threads;
} Forward;

typedef struct {
    const void *grad_output; /* or NULL */
    const float *grad_after, *u, *net, *threshold; /* grad_after, net: or NULL */
    float *grad_v;
    void *grad_current;   /* where it is narrow; else NULL, and grad_v is its gradient too */
    float *grad_threshold; /* [parts][period], a sum each */
    int64_t groups, period, parts;
    float most;
    int32_t narrow, threads;
} Backward;

enum { SIGNED = 1, NARROW = 2, OUTPUT = 4, AFTER = 8 };
enum { WORTH_A_THREAD = 1 << 14 };

INLINE void forward(const Forward *w, int64_t at, const int kind) {
    const float most = w->most, *restrict theta = w->threshold;
#pragma omp simd
    for (int64_t c = 0; c < w->period; c++) {
        const int64_t i = at + c;
        const float charged = w->v[i] + load(w->current, i, kind & NARROW), u = charged / theta[c];
        float n = floorf(u);
        n = n > most ? most : n;
        if (kind & SIGNED) {
            n = n < -most ? -most : n;
            const float net = n + w->net[i], left = net < 0.0f ? 0.0f : net;
            w->net_after[i] = left;
            n = left - w->net[i];
        } else {
            n = n < 0.0f ? 0.0f : n;
        }
        const float sent = n * theta[c];
        w->u[i] = u;
        w->after[i] = charged - sent;
        store(w->output, i, sent, kind & NARROW);
    }
}

INLINE void backward(const Backward *w, int64_t at, float *restrict sums, const int kind) {
    const float most = w->most;
#pragma omp simd
    for (int64_t c = 0; c < w->period; c++) {
        const int64_t i = at + c;
        const float u = w->u[i], net = kind & SIGNED ? w->net[i] : 0.0f, lowest = kind & SIGNED ? -most : 0.0f;
        const float after = kind & AFTER ? w->grad_after[i] : 0.0f;
        const float difference = (kind & OUTPUT ? load(w->grad_output, i, kind & NARROW) : 0.0f) - after;
        float n = floorf(u);
        n = n < lowest ? lowest : n;
        n = n > most ? most : n;
        if (kind & SIGNED) n = n < -net ? -net : n;
        const float above = kind & SIGNED ? u + (net > most ? most : net) : u, below = most + 1.0f - u;
        float slope = above < below ? above : below;
        slope = slope < 0.0f ? 0.0f : slope;
        slope = slope > 1.0f ? 1.0f : slope;
        const float found = difference * slope + after;
        sums[c] += (n - slope * u) * difference;
        w->grad_v[i] = found;
        if (kind & NARROW) store(w->grad_current, i, found, 1);
    }
}

void seenn_step(const Forward *w) {
    const int kind = (w->net ? SIGNED : 0) | (w->narrow ? NARROW : 0);
#pragma omp parallel for schedule(static) num_threads(w->threads) if (w->groups * w->period > WORTH_A_THREAD)
    for (int64_t g = 0; g < w->groups; g++) {
        const int64_t at = g * w->period;
        switch (kind) {
#define FORWARD(k) case k: forward(w, at, k); break;
            FORWARD(0) FORWARD(1) FORWARD(2) FORWARD(3)
        }
    }
}

void seenn_step_backward(const Backward *w) {
    const int kind = (w->net ? SIGNED : 0) | (w->narrow ? NARROW : 0) | (w->grad_output ? OUTPUT : 0) | (w->grad_after ? AFTER : 0);
    const int64_t step = (w->groups + w->parts - 1) / w->parts;
#pragma omp parallel for schedule(static) num_threads(w->threads) if (w->groups * w->period > WORTH_A_THREAD)
    for (int64_t part = 0; part < w->parts; part++) {
        float *sums = w->grad_threshold + part * w->period;
        const int64_t end = (part + 1) * step < w->groups ? (part + 1) * step : w->groups;
        for (int64_t g = part * step; g < end; g++) {
            const int64_t at = g * w->period;
            switch (kind) {
#define BACKWARD(k) case k: backward(w, at, sums, k); break;
                BACKWARD(4) BACKWARD(5) BACKWARD(6) BACKWARD(7)
                BACKWARD(8) BACKWARD(9) BACKWARD(10) BACKWARD(11)
                BACKWARD(12) BACKWARD(13) BACKWARD(14) BACKWARD(15)
            }
        }
    }
}
