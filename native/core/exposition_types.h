/* What the parser of expositions finds, and its state. */
#ifndef PYMON_EXPOSITION_TYPES_H
#define PYMON_EXPOSITION_TYPES_H

#include <stddef.h>
#include <stdint.h>

typedef enum { PM_UNTYPED = 0, PM_COUNTER, PM_GAUGE, PM_HISTOGRAM, PM_SUMMARY, PM_NO_KIND } pm_family_type;

/* The part of a sample's name after the family's name. */
typedef enum { PM_BARE = 0, PM_BUCKET, PM_SUM, PM_COUNT } pm_suffix;

/* The reason why a text is refused. The comments tell what `at` and `name` of the problem are, if they are set. */
typedef enum {
	PM_FINE = 0,
	PM_NO_NEWLINE,	   /* the last line has no newline */
	PM_NO_UTF8,	   /* at: the invalid byte */
	PM_NUL,		   /* at: the position of the NUL */
	PM_BAD_LINE,	   /* strict only. at: a line that is malformed or in the wrong place */
	PM_BAD_NAME,	   /* at: a line that does not start with a name */
	PM_BAD_METADATA,   /* at: the word after HELP or TYPE, which is not a name */
	PM_HELP_TWICE,	   /* name: the family */
	PM_TYPE_TWICE,	   /* a second TYPE, or one after samples. name: the family */
	PM_BAD_KIND,	   /* at: the unknown type; name: the family */
	PM_BAD_ESCAPE,	   /* at: an invalid escape in a HELP */
	PM_BAD_LABEL,	   /* at: a malformed label and what follows it */
	PM_LABEL_TWICE,	   /* at: the label's name */
	PM_LABEL_RESERVED, /* at: the label's name */
	PM_NOTHING,	   /* there is no number. name: the sample */
	PM_BAD_NUMBER,	   /* at: the word that is not a number; name: the family */
	PM_LARGE_NUMBER,   /* at: the number, which is beyond the range of a double; name: the family */
	PM_TRAILING,	   /* at: what follows the number; name: the sample */
	PM_BAD_SUFFIX,	   /* at: the sample's name, which does not fit the family's type; name: the family */
	PM_NO_LE,	   /* at: the value of le, which is not a number, or empty; name: the sample */
	PM_NO_QUANTILE,	   /* at: the value of quantile, which is not a number, or empty; name: the sample */
	PM_FALSE_LE,	   /* at: le of a sample that must not have it; name: the sample */
	PM_FALSE_QUANTILE, /* at: quantile of a sample that must not have it; name: the sample */
	PM_FAMILY_TWICE,   /* strict only. name: the family */
	PM_SERIES_TWICE,   /* at: the sample's labels; name: the sample */
} pm_exposition_reason;

typedef struct {
	uint32_t at;
	uint32_t len;
} pm_span;

typedef struct {
	pm_exposition_reason reason;
	uint32_t number; /* line number, from 1 */
	pm_span line;
	pm_span at;
	pm_span name;
} pm_exposition_problem;

typedef struct {
	uint64_t hash;
	pm_span name;
	pm_span help;
	uint32_t samples; /* number of samples */
	uint32_t first;	  /* index of the first one; in the strict dialect, the others follow it */
	uint8_t kind;	  /* pm_family_type; PM_NO_KIND until there is a TYPE or a sample */
	uint8_t has_help;
	uint8_t few_digits; /* all numbers are PM_FEW_DIGITS */
} pm_exposition_family;

typedef struct {
	uint32_t family;
	uint32_t name;	/* offset; its length is that of the family's name and the suffix */
	pm_span labels; /* the text between the braces */
	pm_span value;
	uint8_t suffix;	  /* pm_suffix */
	uint8_t repeated; /* the series is a duplicate */
} pm_exposition_sample;

typedef struct {
	uint64_t hash;
	uint64_t line;
} pm_exposition_label_seen;

typedef struct {
	const char *data;
	size_t len;
	size_t at; /* offset of the next line */
	uint64_t key[2];
	uint64_t steps; /* number of bytes and table slots looked at, for tests of the time bound */
	int strict;
	int allow_repeated;
	uint32_t lines;
	pm_exposition_problem problem;
	pm_exposition_problem repeated; /* the first duplicate series, reported if there is no other problem */

	pm_exposition_family *families;
	uint32_t family_count;
	uint32_t family_cap;
	uint32_t *names; /* hash table: 1 + index into families, 0 for an empty slot */
	size_t name_mask;

	pm_exposition_sample *samples;
	uint32_t sample_count;
	uint32_t sample_cap;
	uint64_t *series; /* hash table: hash of a series, 0 for an empty slot */
	size_t series_mask;

	pm_exposition_label_seen *labels; /* hash table: names of the labels of one line */
	size_t label_mask;
	size_t label_count;
	uint64_t label_line;

	uint32_t current; /* strict: 1 + index of the current family, 0 for none */
	pm_span pending;  /* strict: name in a HELP line whose TYPE line has not come yet */
	pm_span pending_help;
	pm_span last_name; /* loose: name of the last sample; its family and suffix follow */
	uint32_t last_family;
	uint8_t last_suffix;
} pm_exposition;

#endif
