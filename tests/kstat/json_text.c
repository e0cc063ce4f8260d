#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json_text.h"

char json_error[256];

void json_fail(json_reader *in, const char *format, ...)
{
	int line = 1;
	for (const char *c = in->start; c < in->at; c++) {
		line += *c == '\n';
	}
	int used = snprintf(json_error, sizeof(json_error), "line %d: ", line);
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(json_error + used, sizeof(json_error) - (size_t)used, format, arguments);
	va_end(arguments);
	longjmp(in->failed, 1);
}

char json_peek(json_reader *in)
{
	while (in->at < in->end && isspace((unsigned char)*in->at)) {
		in->at++;
	}
	return in->at < in->end ? *in->at : '\0';
}

bool json_took(json_reader *in, char wanted)
{
	if (json_peek(in) != wanted) {
		return false;
	}
	in->at++;
	return true;
}

void json_need(json_reader *in, char wanted)
{
	if (!json_took(in, wanted)) {
		json_fail(in, "expected '%c'", wanted);
	}
}

static void push(json_reader *in, uint32_t byte)
{
	if (in->len == in->cap) {
		in->cap = in->cap ? in->cap * 2 : 256;
		in->text = realloc(in->text, in->cap);
		if (!in->text) {
			abort();
		}
	}
	in->text[in->len++] = (char)byte;
}

static void push_utf8(json_reader *in, uint32_t point)
{
	if (point < 0x80) {
		push(in, point);
		return;
	}
	static const uint32_t lead[] = {0, 0xc0, 0xe0, 0xf0};
	int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
	push(in, lead[more] | point >> 6 * more);
	while (more--) {
		push(in, 0x80 | (point >> 6 * more & 0x3f));
	}
}

static uint32_t hex4(json_reader *in)
{
	uint32_t value = 0;
	for (int i = 0; i < 4; i++, in->at++) {
		if (in->at == in->end || !isxdigit((unsigned char)*in->at)) {
			json_fail(in, "expected four hexadecimal digits after \\u");
		}
		value = value << 4 |
			(uint32_t)(isdigit((unsigned char)*in->at) ? *in->at - '0' : (*in->at | 32) - 'a' + 10);
	}
	return value;
}

/* After a backslash: what JSON knows, and any other character as it is. */
static void escape(json_reader *in)
{
	static const char from[] = "bfnrt";
	static const char to[] = "\b\f\n\r\t";
	char c = *in->at++;
	const char *known = c ? strchr(from, c) : NULL;
	if (c != 'u') {
		push(in, (uint8_t)(known ? to[known - from] : c));
		return;
	}
	uint32_t point = hex4(in);
	if (point >> 10 == 0xd800 >> 10 && in->end - in->at >= 6 && in->at[0] == '\\' && in->at[1] == 'u') {
		in->at += 2;
		point = 0x10000 + ((point & 0x3ff) << 10) + (hex4(in) & 0x3ff);
	}
	push_utf8(in, point);
}

void json_string(json_reader *in)
{
	json_need(in, '"');
	in->len = 0;
	while (in->at < in->end && *in->at != '"') {
		if (*in->at != '\\') {
			push(in, (uint8_t)*in->at++);
		} else if (++in->at < in->end) {
			escape(in);
		}
	}
	if (in->at == in->end) {
		json_fail(in, "a string does not end");
	}
	in->at++;
	push(in, '\0');
	in->len--;
}

void json_bare(json_reader *in)
{
	in->len = 0;
	json_peek(in);
	while (in->at < in->end && !strchr(",]}\n", *in->at)) {
		push(in, (uint8_t)*in->at++);
	}
	while (in->len && isspace((unsigned char)in->text[in->len - 1])) {
		in->len--;
	}
	push(in, '\0');
	in->len--;
	if (!in->len) {
		json_fail(in, "expected a value");
	}
}

void json_skip(json_reader *in)
{
	char open = json_peek(in);
	if (open == '"') {
		json_string(in);
	} else if (open == '{' || open == '[') {
		char close = open == '{' ? '}' : ']';
		in->at++;
		while (!json_took(in, close)) {
			if (open == '{') {
				json_string(in);
				json_need(in, ':');
			}
			json_skip(in);
			if (!json_took(in, ',') && json_peek(in) != close) {
				json_fail(in, "expected ',' or '%c'", close);
			}
		}
	} else {
		json_bare(in);
	}
}

bool json_is_word(const json_reader *in)
{
	return isalpha((unsigned char)in->text[0]) && strcmp(in->text, "null") != 0;
}

bool json_is_float(const json_reader *in)
{
	return strpbrk(in->text, ".eE") != NULL;
}

uint64_t json_whole(json_reader *in, int64_t min, uint64_t max)
{
	bool negative = in->text[0] == '-';
	char *end;
	errno = 0;
	uint64_t value = strtoull(in->text + negative, &end, 10);
	bool digits = isdigit((unsigned char)in->text[negative]) && !*end && !errno;
	bool fits = negative ? value <= (uint64_t)-min && min < 0 : value <= max;
	if (!digits || !fits) {
		json_fail(in, "expected a whole number from %lld to %llu, got %.40s", (long long)min,
			  (unsigned long long)max, in->text);
	}
	return negative ? -value : value;
}

hrtime_t json_nanoseconds(json_reader *in)
{
	if (!json_is_float(in)) {
		return (hrtime_t)json_whole(in, INT64_MIN + 1, INT64_MAX);
	}
	char *point = strchr(in->text, '.');
	if (!point || strpbrk(in->text, "eE")) {
		return (hrtime_t)(strtod(in->text, NULL) * 1e9 + 0.5);
	}
	char decimals[10] = "000000000";
	size_t given = strspn(point + 1, "0123456789");
	memcpy(decimals, point + 1, given < 9 ? given : 9);
	*point = '\0';
	bool negative = in->text[0] == '-';
	hrtime_t seconds = (hrtime_t)json_whole(in, -9000000000, 9000000000);
	hrtime_t rest = strtoll(decimals, NULL, 10);
	return seconds * 1000000000 + (negative ? -rest : rest);
}
