/* The strict dialect. */
#ifndef PYMON_EXPOSITION_STRICT_H
#define PYMON_EXPOSITION_STRICT_H

#include "exposition_types.h"

int pm_exposition_strict_line(pm_exposition *reader, const char *line, const char *end);

/* Returns whether the text may end here. */
int pm_exposition_strict_is_whole(const pm_exposition *reader);

#endif
