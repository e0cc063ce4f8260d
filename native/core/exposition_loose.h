/* The loose dialect. */
#ifndef PYMON_EXPOSITION_LOOSE_H
#define PYMON_EXPOSITION_LOOSE_H

#include "exposition_types.h"

int pm_exposition_loose_line(pm_exposition *reader, const char *line, const char *end);

#endif
