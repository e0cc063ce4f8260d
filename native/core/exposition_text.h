/* The parts of a line, and how a text is refused. For the files of the parser. */
#ifndef PYMON_EXPOSITION_TEXT_H
#define PYMON_EXPOSITION_TEXT_H

#include <string.h>

#include "exposition_types.h"
#include "hash.h"

/* The most times that "exported_" is put in front of a label's name. The strict dialect accepts no more of them. */
#define PM_EXPORTED_MAX 8

static inline int pm_is_letter(char c)
{
	return (unsigned char)((c | 0x20) - 'a') < 26 || c == '_';
}

static inline int pm_is_label_char(char c)
{
	return pm_is_letter(c) || (unsigned char)(c - '0') < 10;
}

static inline int pm_is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static inline pm_span pm_span_of(const pm_exposition *reader, const char *p, const char *end)
{
	return (pm_span){(uint32_t)(p - reader->data), (uint32_t)(end - p)};
}

static inline int pm_is_same(const char *data, size_t len, const char *other, size_t other_len)
{
	return len == other_len && memcmp(data, other, len) == 0;
}

static inline int pm_refuse(pm_exposition *reader, pm_exposition_reason reason, const char *p, const char *end)
{
	reader->problem.reason = reason;
	reader->problem.at = pm_span_of(reader, p, end);
	return -1;
}

static inline int pm_refuse_of(pm_exposition *reader, pm_exposition_reason reason, const char *p, const char *end,
			       pm_span name)
{
	reader->problem.name = name;
	return pm_refuse(reader, reason, p, end);
}

static inline const char *pm_skip_blanks(pm_exposition *reader, const char *p, const char *end)
{
	const char *start = p;

	while (p < end && pm_is_blank(*p))
		p++;
	reader->steps += (size_t)(p - start) + 1;
	return p;
}

/* Skip blanks if the dialect allows them. */
static inline const char *pm_skip_optional(pm_exposition *reader, const char *p, const char *end)
{
	return reader->strict ? p : pm_skip_blanks(reader, p, end);
}

static inline const char *pm_skip_word(pm_exposition *reader, const char *p, const char *end)
{
	const char *start = p;

	while (p < end && !pm_is_blank(*p))
		p++;
	reader->steps += (size_t)(p - start) + 1;
	return p;
}

/* Return the end of the metric name at p, p if there is none. */
static inline const char *pm_skip_name(pm_exposition *reader, const char *p, const char *end)
{
	const char *start = p;

	if (p < end && (pm_is_letter(*p) || *p == ':'))
		for (p++; p < end && (pm_is_label_char(*p) || *p == ':');)
			p++;
	reader->steps += (size_t)(p - start) + 1;
	return p;
}

static inline uint64_t pm_hash_bytes(pm_exposition *reader, const uint64_t key[2], const char *data, size_t len)
{
	reader->steps += len / 8 + 1;
	return pm_hash(key, data, len);
}

#endif
