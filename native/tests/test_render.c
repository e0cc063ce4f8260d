#include "render.h"

#include "check.h"

#define ONE {.multiply = 1, .divide = 1}
#define TEXT(name, text) .name = text, .name##_len = sizeof(text) - 1

static const pm_family families[] = {
	{TEXT(header, "# a\n"), .first = 0, .count = 1},
	{TEXT(header, "# b\n"), .first = 1, .count = 2},
};

static const pm_sample samples[] = {
	{.table = 0,
	 .column = 0,
	 .minus = PM_NO_COLUMN,
	 .plus = PM_NO_COLUMN,
	 .when = PM_NO_COLUMN,
	 .scale = ONE,
	 TEXT(prefix, "a{"),
	 TEXT(bare, "a")},
	{.table = 0,
	 .column = 0,
	 .minus = 1,
	 .plus = PM_NO_COLUMN,
	 .when = PM_NO_COLUMN,
	 .scale = ONE,
	 TEXT(prefix, "b{k=\"minus\","),
	 TEXT(bare, "b{k=\"minus\"}")},
	{.table = 1,
	 .column = 0,
	 .minus = PM_NO_COLUMN,
	 .plus = PM_NO_COLUMN,
	 .when = 1,
	 .scale = {.multiply = 1, .divide = 1, .decimals = 3},
	 TEXT(prefix, "b{k=\"when\","),
	 TEXT(bare, "b{k=\"when\"}")},
};

static pm_table first, second;

static void check_render(const pm_block *parents, uint32_t count, const unsigned char *selected, int64_t lines_wanted,
			 const char *wanted)
{
	const pm_table *tables[] = {&first, &second};
	pm_buffer out = {0};
	uint64_t lines;

	pm_buffer_append(&out, "before\n", 7);
	CHECK_INT(pm_render(&out, families, 2, samples, tables, parents, count, selected, &lines), 0);
	CHECK_INT(lines, lines_wanted);
	CHECK_TEXT(out.data + 7, out.len - 7, wanted);
	pm_buffer_free(&out);
}

static void empty(void)
{
	const pm_table *tables[] = {NULL, NULL};
	pm_buffer out = {0};
	uint64_t lines = 9;

	CHECK_INT(pm_render(&out, families, 2, samples, tables, NULL, 0, NULL, &lines), 0);
	CHECK(lines == 0 && out.len == 0);
	pm_buffer_free(&out);
	check_render(NULL, 0, NULL, 0, "");
}

static void forms(void)
{
	pm_block parents[] = {{"id=\"/\"", 6}, {NULL, 0}, {"", 0}};

	pm_table_append(&first, PM_NO_PARENT);
	pm_table_set(&first, 0, 0, 5);
	check_render(NULL, 0, NULL, 1, "# a\na 5\n");
	pm_table_set(&first, 0, 1, 7);
	check_render(NULL, 0, NULL, 2, "# a\na 5\n# b\nb{k=\"minus\"} 0\n");
	pm_table_append(&first, PM_NO_PARENT);
	pm_table_label(&first, "x", 1, "\"", 1);
	pm_table_set(&first, 1, 0, 9);
	pm_table_set(&first, 1, 1, 7);
	check_render(NULL, 0, NULL, 4,
		     "# a\na 5\na{x=\"\\\"\"} 9\n# b\nb{k=\"minus\"} 0\nb{k=\"minus\",x=\"\\\"\"} 2\n");
	check_render(NULL, 0, (const unsigned char *)"\0\1", 2, "# b\nb{k=\"minus\"} 0\nb{k=\"minus\",x=\"\\\"\"} 2\n");
	check_render(NULL, 0, (const unsigned char *)"\0\0", 0, "");

	/* parents: one there, one gone, one without labels, one that came later */
	pm_table_clear(&first);
	for (uint32_t row = 0; row < 4; row++) {
		pm_table_append(&first, row);
		pm_table_label(&first, "x", 1, "1", row == 1 ? 0 : 1);
		pm_table_set(&first, row, 0, row + 10);
	}
	check_render(parents, 3, NULL, 2, "# a\na{x=\"1\",id=\"/\"} 10\na{x=\"1\"} 12\n");
	CHECK_INT(pm_table_clear_to(&first, 3), 0);
	pm_table_set(&first, 0, 0, 1);
	pm_table_set(&first, 2, 0, 2);
	check_render(parents, 3, NULL, 2, "# a\na{id=\"/\"} 1\na 2\n");
	check_render(NULL, 0, NULL, 0, "");

	/* `when`, and the scale of a sample */
	pm_table_clear(&first);
	pm_table_append(&second, PM_NO_PARENT);
	pm_table_set(&second, 0, 0, 1500);
	check_render(NULL, 0, NULL, 0, "");
	pm_table_set(&second, 0, 1, 0);
	check_render(NULL, 0, NULL, 1, "# b\nb{k=\"when\"} 1.5\n");
}

static void large(void)
{
	enum { ROWS = 20000 };
	pm_buffer out = {0};
	const pm_table *tables[] = {&first, NULL};
	uint64_t lines;

	pm_table_clear(&first);
	for (uint32_t row = 0; row < ROWS; row++) {
		pm_table_append(&first, PM_NO_PARENT);
		pm_table_set(&first, row, 0, UINT64_MAX);
		pm_table_set(&first, row, 1, 0);
	}
	CHECK_INT(pm_render(&out, families, 2, samples, tables, NULL, 0, NULL, &lines), 0);
	CHECK_INT(lines, 2 * ROWS);
	CHECK_INT(out.len,
		  8 + ROWS * (sizeof("a 18446744073709551615") + sizeof("b{k=\"minus\"} 18446744073709551615")));
	pm_buffer_free(&out);
}

int main(void)
{
	pm_table_init(&first, 2);
	pm_table_init(&second, 2);
	empty();
	forms();
	large();
	pm_table_free(&first);
	pm_table_free(&second);
	return check_result("render");
}
