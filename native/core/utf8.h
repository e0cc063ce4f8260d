/* UTF-8 as in RFC 3629, without overlong forms and surrogates. */
#ifndef PYMON_UTF8_H
#define PYMON_UTF8_H

#include <stddef.h>

/* Return the length of the multi-byte sequence at p, 0 if it is not valid. `left`: the number of bytes from p on. */
static inline size_t pm_utf8_length(const unsigned char *p, size_t left)
{
	size_t len;
	unsigned char low = 0x80, high = 0xbf;

	if (p[0] >= 0xc2 && p[0] <= 0xdf) {
		len = 2;
	} else if ((p[0] & 0xf0) == 0xe0) {
		len = 3;
		low = p[0] == 0xe0 ? 0xa0 : 0x80;
		high = p[0] == 0xed ? 0x9f : 0xbf;
	} else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		len = 4;
		low = p[0] == 0xf0 ? 0x90 : 0x80;
		high = p[0] == 0xf4 ? 0x8f : 0xbf;
	} else {
		return 0;
	}
	if (left < len || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

#endif
