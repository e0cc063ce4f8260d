#ifndef ILLUMOS_MATH_H
#define ILLUMOS_MATH_H
extern double fabs(double);
#define HUGE_VAL (__builtin_huge_val())
#define isinf(x) __builtin_isinf(x)
#define isnan(x) __builtin_isnan(x)
#define isfinite(x) __builtin_isfinite(x)
#endif
