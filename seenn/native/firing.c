/* The neurons of a site in one pass over their memory. For every element, with θ its threshold:

       v  = start, S = its own, in samples that are fresh
       v += Σ gain · source;  v += current, which is then 0
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

enum { BINARY = 1, SIGNED = 2, INVERSE = 4, COUNTS = 8, BYTES = 16, WIDE = 32, CURRENT = 64 };
enum { WORTH_A_THREAD = 1 << 15 };

#define INLINE static inline __attribute__((always_inline))

/* Where a row's membranes are found: in fresh samples, in one period of their start. */
typedef struct {
    const void *values;
    int64_t step; /* from period to period */
} From;

INLINE From initial(const Site *site, int64_t own, int64_t slot, int64_t row) {
    const int64_t width = site->width, period = site->period, pattern = row * site->pattern;
    if (!site->fresh || !site->fresh[slot]) return (From){(const float *)site->membrane + own, period};
    for (int64_t w = 0; site->taken_back && w < width; w++)
        memcpy(site->taken_back + own + w * period, site->start_back + pattern, period * sizeof(float));
    return (From){(const float *)site->start + pattern, 0}; /* or int32: as large */
}

/* sum = from + gain · source */
INLINE void join(const Term *term, const Site *site, float *sum, From from, int64_t at, int64_t own, int64_t sample,
                 int64_t row) {
    const int64_t width = site->width, period = site->period;
    const float *gain = term->gain + row * site->pattern, *before = from.values;
    if (term->values) {
        const float *x = term->values + (term->kept ? own : at);
        for (int64_t w = 0; w < width; w++, sum += period, x += period, before += from.step)
#pragma omp simd
            for (int64_t c = 0; c < period; c++) sum[c] = before[c] + gain[c] * x[c];
    } else {
        const uint8_t *x = term->bytes + sample * term->sample + row * term->row;
        const float low = term->low;
        for (int64_t w = 0; w < width; w++, sum += period, x += period, before += from.step)
#pragma omp simd
            for (int64_t c = 0; c < period; c++) sum[c] = before[c] + gain[c] * ((float)x[c] + low);
    }
}

INLINE void fire(const Site *site, From from, int64_t at, int64_t own, int64_t sample, int64_t row, const int kind) {
    const int64_t width = site->width, period = site->period;
    const float *restrict theta = site->threshold + row * site->pattern;
    const float *restrict inverse = kind & INVERSE ? site->inverse + row * site->pattern : 0;
    const float fewest = site->fewest, most = site->most, low = site->low;
    const float *before = from.values;
    const int32_t *whole_before = from.values;
    float *v = (float *)site->membrane + own;
    int32_t *whole = (int32_t *)site->membrane + own;
    float *restrict current = kind & CURRENT ? site->current + at : 0;
    float *restrict net = kind & SIGNED ? site->taken_back + own : 0;
    float *restrict counts = kind & COUNTS ? site->counts + at : 0;
    uint8_t *restrict bytes = kind & BYTES ? site->bytes + sample * site->sample + row * site->row : 0;
    for (int64_t w = 0; w < width; w++) {
#pragma omp simd
        for (int64_t c = 0; c < period; c++) {
            float n, u;
            int32_t sum = 0;
            if (kind & WIDE) { /* rounded only where n is clipped, and as rounding keeps the order, to the same */
                sum = whole_before[c] + (kind & CURRENT ? (int32_t)current[c] : 0);
                u = (float)sum;
            } else {
                u = kind & CURRENT ? before[c] + current[c] : before[c];
            }
            if (kind & CURRENT) current[c] = 0.0f;
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
            if (kind & WIDE) whole[c] = sum - (int32_t)(n * theta[c]);
            else v[c] = u - n * theta[c];
            if (kind & COUNTS) counts[c] = n;
            if (kind & BYTES) bytes[c] = (uint8_t)(int32_t)(n - low);
        }
        v += period, before += from.step;
        whole += period, whole_before += from.step;
        if (kind & CURRENT) current += period;
        if (kind & SIGNED) net += period;
        if (kind & COUNTS) counts += period;
        if (kind & BYTES) bytes += period;
    }
}

void seenn_fire(const Site *site) {
    const int64_t rows = site->rows, length = site->width * site->period, total = site->samples * rows;
    const int counted = (site->taken_back ? SIGNED : 0) | (site->inverse ? INVERSE : 0);
    const int rule = site->fewest == 0 && site->most == 1 ? BINARY : counted;
    const int outputs = (site->counts ? COUNTS : 0) | (site->bytes ? BYTES : 0);
    const int kind = rule | outputs | (site->wide ? WIDE : 0) | (site->current ? CURRENT : 0);
#pragma omp parallel for schedule(static) num_threads(site->threads) if (total * length > WORTH_A_THREAD)
    for (int64_t i = 0; i < total; i++) {
        const int64_t at = i * length, sample = i / rows, row = i % rows;
        const int64_t slot = site->slots ? site->slots[sample] : sample, own = (slot * rows + row) * length;
        const From start = initial(site, own, slot, row);
        float *joined = (site->wide ? site->current + at : (float *)site->membrane + own);
        From from = site->wide ? (From){joined, site->period} : start;
        for (int64_t k = 0; k < site->term_count; k++, from = (From){joined, site->period})
            join(site->terms + k, site, joined, from, at, own, sample, row);
        if (site->wide) from = start;
        switch (kind) {
#define CASE(k) case k: fire(site, from, at, own, sample, row, k); break;
#define OUTPUTS(k) CASE((k) | COUNTS) CASE((k) | BYTES) CASE((k) | COUNTS | BYTES)
#define RULES(k) OUTPUTS((k) | BINARY) OUTPUTS(k) OUTPUTS((k) | SIGNED) OUTPUTS((k) | INVERSE) OUTPUTS((k) | SIGNED | INVERSE)
            RULES(0) RULES(WIDE) RULES(CURRENT) RULES(WIDE | CURRENT)
        }
    }
}
