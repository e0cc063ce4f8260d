/* Classifies numbers of the text format without converting them to binary. */
#ifndef PYMON_NUMBER_H
#define PYMON_NUMBER_H

#include <stddef.h>

typedef enum {
	PM_NO_NUMBER = 0,
	PM_TOO_LARGE,	/* beyond the range of a double: readers treat it as infinite or refuse it */
	PM_FEW_DIGITS,	/* -?D(.D)?(e[+-]dd)? where D is 1 to 40 digits */
	PM_MANY_DIGITS, /* other finite numbers */
	PM_PLUS_INFINITY,
	PM_MINUS_INFINITY,
	PM_NAN,
} pm_number_class;

/* Return the class of `len` bytes. Takes linear time. strict: only the spellings `+Inf`, `-Inf` and `NaN` are accepted;
 * otherwise also `inf` and `infinity`, in upper and lower case. */
pm_number_class pm_number(const char *data, size_t len, int strict);

#endif
