#include "exposition_names.h"

const char *const pm_suffixes[] = {"", "_bucket", "_sum", "_count"};
const uint8_t pm_suffix_lengths[] = {0, 7, 4, 6};

/* A family with PM_NO_KIND is written as untyped. */
const char *const pm_family_types[] = {"untyped", "counter", "gauge", "histogram", "summary", "untyped"};

const char pm_exported[] = "exported_";
_Static_assert(sizeof(pm_exported) - 1 == PM_EXPORTED, "");
