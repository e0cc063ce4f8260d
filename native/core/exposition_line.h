/* The parts of a line that both dialects check alike. */
#ifndef PYMON_EXPOSITION_LINE_H
#define PYMON_EXPOSITION_LINE_H

#include "exposition_index.h"

/* Check that a line has no NUL and is UTF-8. */
int pm_exposition_check_text(pm_exposition *reader, const char *line, const char *line_end);

/* Check the escapes of a HELP. */
int pm_exposition_check_help(pm_exposition *reader, const char *p, const char *end);

/* Return the type with a name, PM_NO_KIND if there is none. The loose dialect ignores case. */
pm_family_type pm_exposition_type_named(const pm_exposition *reader, const char *word, size_t len);

/* Parse labels. The cursor is after the opening brace, and is set to the position after the closing one. */
int pm_exposition_read_labels(pm_exposition *reader, const char **cursor, const char *end, const char *bound_name,
			      pm_exposition_line_labels *found);

/* Check the number of a sample. */
int pm_exposition_check_number(pm_exposition *reader, const char *value, const char *end, uint32_t index);

/* Return the name of the label that has the bounds of this family, NULL if it has none. */
const char *pm_exposition_bound_name(const pm_exposition_family *family);

/* Check that a sample has a bound if and only if the type of its family requires one. */
int pm_exposition_check_bound(pm_exposition *reader, const pm_exposition_family *family, pm_suffix suffix, pm_span name,
			      const pm_exposition_line_labels *labels);

#endif
