/* The words of the format. */
#ifndef PYMON_EXPOSITION_NAMES_H
#define PYMON_EXPOSITION_NAMES_H

#include <stddef.h>
#include <stdint.h>

/* The texts of each pm_suffix and pm_family_type. */
extern const char *const pm_suffixes[];
extern const char *const pm_family_types[];
extern const uint8_t pm_suffix_lengths[];

/* In front of a label's name that is taken. */
extern const char pm_exported[];
enum { PM_EXPORTED = 9 };

#endif
