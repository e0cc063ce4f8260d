#include "rdata.h"

#include <arpa/inet.h>
#include <string.h>

#include "name.h"

enum { STRING_MAX = 255 };

static const struct {
	const char *name;
	uint16_t type;
} types[] = {
	{"A", PM_TYPE_A},     {"AAAA", PM_TYPE_AAAA}, {"CNAME", PM_TYPE_CNAME}, {"TXT", PM_TYPE_TXT},
	{"PTR", PM_TYPE_PTR}, {"SRV", PM_TYPE_SRV},   {"NS", PM_TYPE_NS},
};

uint16_t pm_type_parse(const char *text, size_t len)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (strlen(types[i].name) == len && memcmp(types[i].name, text, len) == 0)
			return types[i].type;
	return 0;
}

static int parse_name(const char *text, size_t len, uint8_t *out)
{
	pm_name name;

	if (pm_name_parse(&name, text, len) < 0)
		return -1;
	memcpy(out, name.wire, name.len);
	return name.len;
}

/* Three numbers and a name, separated by one blank each. */
static int parse_srv(const char *text, size_t len, uint8_t *out)
{
	const char *end = text + len;
	int name;

	for (int field = 0; field < 3; field++) {
		const char *start = text;
		uint32_t value = 0;

		for (; text < end && *text >= '0' && *text <= '9' && text - start < 6; text++)
			value = value * 10 + (uint32_t)(*text - '0');
		if (text == start || value > UINT16_MAX || text == end || *text++ != ' ')
			return -1;
		out[2 * field] = (uint8_t)(value >> 8);
		out[2 * field + 1] = (uint8_t)value;
	}
	name = parse_name(text, (size_t)(end - text), out + 6);
	return name < 0 ? -1 : 6 + name;
}

static int digit(const char *text, const char *end)
{
	return text < end && *text >= '0' && *text <= '9' ? *text - '0' : -1;
}

/* Quoted strings, separated by one blank each. */
static int parse_txt(const char *text, size_t len, uint8_t *out)
{
	const char *end = text + len;
	int at = 0;

	for (;;) {
		int start = at++;

		if (text == end || *text++ != '"' || at + STRING_MAX > PM_RDATA_MAX)
			return -1;
		for (; text < end && *text != '"'; text++) {
			int value = (unsigned char)*text;

			if (value == '\\') {
				int first = digit(++text, end);

				if (text == end)
					return -1;
				value = (unsigned char)*text;
				if (first >= 0) {
					int second = digit(text + 1, end), third = digit(text + 2, end);
					value = first * 100 + second * 10 + third;
					if (second < 0 || third < 0 || value > 255)
						return -1;
					text += 2;
				} else if (value < ' ' || value >= 0x7f) {
					return -1;
				}
			} else if (value < ' ' || value >= 0x7f) {
				return -1;
			}
			if (at - start > STRING_MAX)
				return -1;
			out[at++] = (uint8_t)value;
		}
		if (text == end)
			return -1;
		out[start] = (uint8_t)(at - start - 1);
		if (++text == end)
			return at;
		if (*text++ != ' ')
			return -1;
	}
}

int pm_rdata_parse(uint16_t type, const char *text, size_t len, uint8_t *out)
{
	switch (type) {
	case PM_TYPE_A:
		return strlen(text) == len && inet_pton(AF_INET, text, out) == 1 ? 4 : -1;
	case PM_TYPE_AAAA:
		return strlen(text) == len && inet_pton(AF_INET6, text, out) == 1 ? 16 : -1;
	case PM_TYPE_NS:
	case PM_TYPE_CNAME:
	case PM_TYPE_PTR:
		return parse_name(text, len, out);
	case PM_TYPE_SRV:
		return parse_srv(text, len, out);
	case PM_TYPE_TXT:
		return parse_txt(text, len, out);
	default:
		return -1;
	}
}
