/* What the tests of readers share: groups with one file of each simple kind, and calls that must succeed. */
#ifndef PYMON_GROUPS_H
#define PYMON_GROUPS_H

#include "fixture.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static const fixture_file plain[] = {
	{"current", "value", 0, 0, NULL, 0},
	{"stat", "flat", 0, 1, "anon file", 0},
	{"pressure", "nested", 0, 3, "some:total full:total", 0},
	{"max", "limit", 0, 5, NULL, 1},
	{"cpu.max", "pair", 0, 6, NULL, 1},
};
static const uint32_t plain_widths[] = {8, 0};

/* The files of a group, whose numbers begin with `number`. */
static inline void write_plain(fixture *fixture, const char *group, unsigned number)
{
	static const char *const names[] = {"current", "stat", "pressure", "max", "cpu.max"};
	static const char *const formats[] = {"%u0\n", "anon %u1\nother 5\nfile %u2\n",
					      "some avg10=0.00 total=%u3\nfull avg10=0.00 total=%u4\n", "%u5\n",
					      "%u6 %u7\n"};

	for (size_t i = 0; i < COUNT(names); i++) {
		char name[128], content[128];
		snprintf(name, sizeof(name), "cgroup/%s%s%s", group, group[0] ? "/" : "", names[i]);
		snprintf(content, sizeof(content), formats[i], number, number);
		tree_write(fixture->root, name, content);
	}
}

static inline void add(fixture *fixture, uint32_t row, const char *path)
{
	CHECK_INT(pm_reader_add(fixture->reader, row, path, row), 0);
}

static inline void write_file(fixture *fixture, const char *name, const char *content)
{
	tree_write(fixture->root, name, content);
}

#endif
