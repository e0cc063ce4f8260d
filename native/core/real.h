/* Scaled 64-bit integers as binary floating-point numbers. */
#ifndef PYMON_REAL_H
#define PYMON_REAL_H

#include "decimal.h"

/* Return the double that is nearest to what pm_decimal writes, the even one of two: what a reader makes of that text.
 */
double pm_real(uint64_t value, const pm_scale *scale);

#endif
