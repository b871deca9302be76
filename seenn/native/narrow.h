/* Values that are float32, or bfloat16 ("narrow"), which is float32 without its lower half. */

#ifndef SEENN_NARROW_H
#define SEENN_NARROW_H

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

INLINE float load(const void *values, int64_t i, const int narrow) {
    if (!narrow) return ((const float *)values)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)values)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* To the nearest, of two equally near to the even one. */
INLINE void store(void *values, int64_t i, float value, const int narrow) {
    if (!narrow) {
        ((float *)values)[i] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    ((uint16_t *)values)[i] = value != value ? 0x7fc0 : (uint16_t)rounded;
}

#endif
