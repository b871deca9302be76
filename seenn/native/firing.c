/* The neurons of a site in one pass over their memory. For every element, with θ its threshold:

       v  = start, S = its own, in samples that are fresh
       v += current, which is then 0;  v += Σ gain · source
       n  = clip(⌊v / θ⌋, fewest, most), and no less than −S where net counts are kept
       v -= n · θ,  S += n

   Membranes, currents, net counts (negated) and float counts are dense: samples × rows × width × period; thresholds,
   starts and gains repeat with the period (the channels of channels-last images), and may differ from row to row.
   Bytes hold count − low and may have a margin around each row and sample. Rounding follows torch's, operation by
   operation. Membranes and their starts may be int32 ("wide") where float32 could not hold them; what a step adds, and
   what (most + 1)·θ is, float32 holds even there. */

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const float *gain;    /* [period], of each row where those differ */
    const float *values;  /* dense, or NULL: then */
    const uint8_t *bytes; /* value − low */
    int64_t sample, row;  /* strides of the bytes */
    int64_t kept;         /* whether values lie as membranes do, in slots */
    float low;
} Term;

typedef struct {
    void *membrane;                        /* float32, or int32 */
    float *taken_back, *counts;            /* taken_back: −S or NULL; counts: or NULL */
    uint8_t *bytes;                        /* or NULL */
    const float *threshold, *inverse;      /* as gain; inverse: 1/θ where ⌊v/θ⌋ = ⌊v/θ + 1/2θ⌋ is proven, or NULL */
    float *current;                        /* or NULL, where membranes are wide only without terms */
    const uint8_t *fresh;                  /* [samples], or NULL */
    const void *start;                     /* as gain, of membranes; NULL as fresh */
    const float *start_back;               /* of −S; NULL as taken_back */
    const Term *terms;
    const int64_t *slots; /* [samples]: where membranes, net counts, fresh and kept values of each are, or NULL */
    int64_t term_count, samples, rows, width, period, pattern; /* pattern: from row to row of thresholds and gains */
    int64_t sample, row;                                       /* strides of the bytes */
    float fewest, most, low;
    int32_t wide, threads;
} Site;

enum { BINARY = 1, SIGNED = 2, INVERSE = 4, COUNTS = 8, BYTES = 16, WIDE = 32 };
enum { WORTH_A_THREAD = 1 << 15 };

#define INLINE static inline __attribute__((always_inline))

INLINE void initialise(const Site *site, int64_t own, int64_t slot, int64_t row) {
    const int64_t width = site->width, period = site->period;
    int32_t *v = (int32_t *)site->membrane + own; /* or float32: as large */
    if (site->fresh && site->fresh[slot]) {
        const int32_t *start = (const int32_t *)site->start + row * site->pattern;
        for (int64_t w = 0; w < width; w++) memcpy(v + w * period, start, period * sizeof *v);
        if (site->taken_back) {
            const float *back = site->start_back + row * site->pattern;
            for (int64_t w = 0; w < width; w++) memcpy(site->taken_back + own + w * period, back, period * sizeof *v);
        }
    }
}

INLINE void charge(const Site *site, int64_t at, int64_t own, const int wide) {
    float *restrict current = site->current + at;
    float *restrict v = (float *)site->membrane + own;
    int32_t *restrict whole = (int32_t *)site->membrane + own;
#pragma omp simd
    for (int64_t i = 0; i < site->width * site->period; i++) {
        if (wide) whole[i] += (int32_t)current[i];
        else v[i] += current[i];
        current[i] = 0.0f;
    }
}

INLINE void join(const Term *term, const Site *site, float *v, int64_t at, int64_t own, int64_t sample, int64_t row) {
    const int64_t width = site->width, period = site->period;
    const float *gain = term->gain + row * site->pattern;
    if (term->values) {
        const float *x = term->values + (term->kept ? own : at);
        for (int64_t w = 0; w < width; w++, v += period, x += period)
#pragma omp simd
            for (int64_t c = 0; c < period; c++) v[c] += gain[c] * x[c];
    } else {
        const uint8_t *x = term->bytes + sample * term->sample + row * term->row;
        const float low = term->low;
        for (int64_t w = 0; w < width; w++, v += period, x += period)
#pragma omp simd
            for (int64_t c = 0; c < period; c++) v[c] += gain[c] * ((float)x[c] + low);
    }
}

INLINE void fire(const Site *site, int64_t at, int64_t own, int64_t sample, int64_t row, const int kind) {
    const int64_t width = site->width, period = site->period;
    const float *restrict theta = site->threshold + row * site->pattern;
    const float *restrict inverse = kind & INVERSE ? site->inverse + row * site->pattern : 0;
    const float fewest = site->fewest, most = site->most, low = site->low;
    float *restrict v = (float *)site->membrane + own;
    int32_t *restrict whole = (int32_t *)site->membrane + own;
    float *restrict net = kind & SIGNED ? site->taken_back + own : 0;
    float *restrict counts = kind & COUNTS ? site->counts + at : 0;
    uint8_t *restrict bytes = kind & BYTES ? site->bytes + sample * site->sample + row * site->row : 0;
    for (int64_t w = 0; w < width; w++) {
#pragma omp simd
        for (int64_t c = 0; c < period; c++) {
            float n, u;
            if (kind & WIDE) { /* beyond these, it is all the same; here float32 is exact */
                const int32_t least = (int32_t)(fewest * theta[c]), largest = (int32_t)((most + 1) * theta[c]);
                const int32_t raised = whole[c] < least ? least : whole[c];
                u = (float)(raised > largest ? largest : raised);
            } else {
                u = v[c];
            }
            if (kind & BINARY) {
                n = u >= theta[c] ? 1.0f : 0.0f;
            } else {
                n = floorf(kind & INVERSE ? inverse[c] / 2 + u * inverse[c] : u / theta[c]);
                n = n < fewest ? fewest : n;
                n = n > most ? most : n;
                if (kind & SIGNED) {
                    n = n < net[c] ? net[c] : n;
                    net[c] -= n;
                }
            }
            if (kind & WIDE) whole[c] -= (int32_t)(n * theta[c]);
            else v[c] -= n * theta[c];
            if (kind & COUNTS) counts[c] = n;
            if (kind & BYTES) bytes[c] = (uint8_t)(int32_t)(n - low);
        }
        v += period;
        whole += period;
        if (kind & SIGNED) net += period;
        if (kind & COUNTS) counts += period;
        if (kind & BYTES) bytes += period;
    }
}

void seenn_fire(const Site *site) {
    const int64_t rows = site->rows, length = site->width * site->period, total = site->samples * rows;
    const int counted = (site->taken_back ? SIGNED : 0) | (site->inverse ? INVERSE : 0);
    const int rule = site->fewest == 0 && site->most == 1 ? BINARY : counted;
    const int kind = rule | (site->counts ? COUNTS : 0) | (site->bytes ? BYTES : 0) | (site->wide ? WIDE : 0);
#pragma omp parallel for schedule(static) num_threads(site->threads) if (total * length > WORTH_A_THREAD)
    for (int64_t i = 0; i < total; i++) {
        const int64_t at = i * length, sample = i / rows, row = i % rows;
        const int64_t slot = site->slots ? site->slots[sample] : sample, own = (slot * rows + row) * length;
        initialise(site, own, slot, row);
        if (site->current && !site->wide) charge(site, at, own, 0);
        float *joined = site->wide ? site->current + at : (float *)site->membrane + own;
        for (int64_t k = 0; k < site->term_count; k++) join(site->terms + k, site, joined, at, own, sample, row);
        if (site->current && site->wide) charge(site, at, own, 1);
        switch (kind) {
#define CASE(k) case k: fire(site, at, own, sample, row, k); break;
#define OUTPUTS(k) CASE((k) | COUNTS) CASE((k) | BYTES) CASE((k) | COUNTS | BYTES)
#define RULES(k) OUTPUTS((k) | BINARY) OUTPUTS(k) OUTPUTS((k) | SIGNED) OUTPUTS((k) | INVERSE) OUTPUTS((k) | SIGNED | INVERSE)
            RULES(0) RULES(WIDE)
        }
    }
}
