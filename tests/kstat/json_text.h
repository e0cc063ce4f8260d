/* The text of a chain, token by token. Whatever is wrong jumps to `failed` with a line in json_error. */
#ifndef KSTAT_DOUBLE_JSON_TEXT_H
#define KSTAT_DOUBLE_JSON_TEXT_H

#include <setjmp.h>

#include "kernel.h"

typedef struct {
	const char *start, *at, *end;
	jmp_buf failed;
	char *text; /* the last string, decoded */
	size_t cap;
	size_t len;
	spec made;
} json_reader;

__attribute__((noreturn, format(printf, 2, 3))) void json_fail(json_reader *in, const char *format, ...);
/* The next character that is no white space, NUL at the end. */
char json_peek(json_reader *in);
bool json_took(json_reader *in, char wanted);
void json_need(json_reader *in, char wanted);
/* A string, decoded into `text`. */
void json_string(json_reader *in);
/* A number or a word, up to what ends it. */
void json_bare(json_reader *in);
void json_skip(json_reader *in);
bool json_is_word(const json_reader *in);
bool json_is_float(const json_reader *in);
/* A whole number within bounds, from `text`. */
uint64_t json_whole(json_reader *in, int64_t min, uint64_t max);
/* Nanoseconds from `text`: seconds with decimals, exactly; a whole number as it is. */
hrtime_t json_nanoseconds(json_reader *in);

#endif
