#include "table.h"

#include "check.h"

static void label(pm_table *table, const char *name, const char *value, size_t len)
{
	CHECK_INT(pm_table_label(table, name, strlen(name), value, len), 0);
}

static void check_labels(const pm_table *table, uint32_t row, const char *wanted)
{
	CHECK_TEXT(table->arena.data + table->labels[row].offset, table->labels[row].len, wanted);
}

static void rows_and_cells(void)
{
	enum { COLUMNS = 130, ROWS = 1000 };
	pm_table table;

	pm_table_init(&table, COLUMNS);
	CHECK_INT(table.words, 3);
	for (uint32_t row = 0; row < ROWS; row++) {
		CHECK_INT(pm_table_append(&table, PM_NO_PARENT), row);
		for (uint32_t column = row % 7; column < COLUMNS; column += 7)
			pm_table_set(&table, row, column, (uint64_t)row << 32 | column);
	}
	for (uint32_t row = 0; row < ROWS; row++) {
		for (uint32_t column = 0; column < COLUMNS; column++) {
			int has = column % 7 == row % 7;
			if (pm_table_has(&table, row, column) != has ||
			    (has && pm_table_get(&table, row, column) != ((uint64_t)row << 32 | column)))
				CHECK_INT(row, column);
		}
	}
	pm_table_unset_row(&table, 7);
	for (uint32_t column = 0; column < COLUMNS; column++)
		CHECK_INT(pm_table_has(&table, 7, column), 0);
	CHECK(pm_table_has(&table, 8, 1) && pm_table_has(&table, 6, 6));
	pm_table_clear(&table);
	CHECK_INT(table.rows, 0);
	CHECK_INT(pm_table_append(&table, 5), 0);
	CHECK_INT(table.labels[0].parent, 5);
	CHECK_INT(pm_table_has(&table, 0, 0), 0);
	pm_table_free(&table);
}

static void sizes(void)
{
	pm_table table;

	pm_table_init(&table, 64);
	CHECK_INT(table.words, 1);
	CHECK_INT(pm_table_grow(&table, 3), 0);
	pm_table_set(&table, 2, 63, UINT64_MAX);
	CHECK_INT(pm_table_grow(&table, 40), 0);
	CHECK_INT(table.rows, 40);
	CHECK(pm_table_has(&table, 2, 63) && pm_table_get(&table, 2, 63) == UINT64_MAX);
	CHECK(!pm_table_has(&table, 39, 63) && table.labels[39].parent == 39);
	CHECK_INT(pm_table_grow(&table, 2), 0);
	CHECK_INT(table.rows, 40);
	CHECK_INT(pm_table_clear_to(&table, 3), 0);
	CHECK(table.rows == 3 && !pm_table_has(&table, 2, 63));
	CHECK_INT(pm_table_clear_to(&table, UINT32_MAX), -1);
	CHECK_INT(pm_table_clear_to(&table, 0), 0);
	CHECK_INT(table.rows, 0);
	pm_table_free(&table);

	pm_table_init(&table, 0);
	CHECK_INT(pm_table_append(&table, PM_NO_PARENT), 0);
	label(&table, "a", "b", 1);
	pm_table_unset_row(&table, 0);
	check_labels(&table, 0, "a=\"b\",");
	pm_table_free(&table);
}

static void copies(void)
{
	pm_table source, target;

	pm_table_init(&source, 70);
	pm_table_init(&target, 70);
	CHECK_INT(pm_table_copy(&target, &source), 0);
	CHECK_INT(target.rows, 0);
	pm_table_append(&source, PM_NO_PARENT);
	label(&source, "l", "one", 3);
	pm_table_append(&source, 7);
	pm_table_set(&source, 1, 69, 42);
	CHECK_INT(pm_table_clear_to(&target, 100), 0);
	CHECK_INT(pm_table_copy(&target, &source), 0);
	CHECK_INT(target.rows, 2);
	check_labels(&target, 0, "l=\"one\",");
	CHECK_INT(target.labels[1].parent, 7);
	CHECK(pm_table_has(&target, 1, 69) && pm_table_get(&target, 1, 69) == 42 && !pm_table_has(&target, 0, 69));
	CHECK_INT(pm_table_copy_row(&target, &source, 1), 0);
	CHECK(target.rows == 1 && pm_table_get(&target, 0, 69) == 42 && target.labels[0].parent == 0);
	CHECK_INT(target.labels[0].len, 0);
	CHECK_INT(pm_table_copy_row(&target, &source, 0), 0);
	check_labels(&target, 0, "l=\"one\",");
	pm_table_free(&source);
	pm_table_free(&target);
}

static void escapes(void)
{
	static const struct {
		const char *value, *wanted;
	} cases[] = {
		{"", ""},
		{"plain", "plain"},
		{"\\\"\n", "\\\\\\\"\\n"},
		{"a\tb\x01", "a\tb\x01"},
		{"\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x8b", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x8b"},
		{"\xff", "\\\\xff"},
		{"a\x80z", "a\\\\x80z"},
		{"\xc3", "\\\\xc3"},			   /* cut */
		{"\xe2\x82", "\\\\xe2\\\\x82"},		   /* cut */
		{"\xc0\xaf", "\\\\xc0\\\\xaf"},		   /* overlong */
		{"\xe0\x9f\xbf", "\\\\xe0\\\\x9f\\\\xbf"}, /* overlong */
		{"\xf0\x8f\xbf\xbf", "\\\\xf0\\\\x8f\\\\xbf\\\\xbf"},
		{"\xed\xa0\x80", "\\\\xed\\\\xa0\\\\x80"}, /* a surrogate */
		{"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},  /* U+10FFFF */
		{"\xf4\x90\x80\x80", "\\\\xf4\\\\x90\\\\x80\\\\x80"},
		{"\xf5\x80\x80\x80", "\\\\xf5\\\\x80\\\\x80\\\\x80"},
		{"\xe2\x28\xa1", "\\\\xe2(\\\\xa1"},
		{"\xf0\x9f\x90\n", "\\\\xf0\\\\x9f\\\\x90\\n"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		pm_buffer buffer = {0};
		CHECK_INT(pm_escape(&buffer, cases[i].value, strlen(cases[i].value)), 0);
		CHECK_TEXT(buffer.data, buffer.len, cases[i].wanted);
		pm_buffer_free(&buffer);
	}
}

static void labels(void)
{
	static const char longest[] = {[0 ... 8191] = (char)0xfe};
	pm_table table;

	pm_table_init(&table, 1);
	pm_table_append(&table, PM_NO_PARENT);
	label(&table, "a", "1", 1);
	label(&table, "b", "\"\0\"", 3);
	pm_table_append(&table, PM_NO_PARENT);
	pm_table_append(&table, PM_NO_PARENT);
	label(&table, "long", longest, sizeof(longest));
	CHECK_INT(table.labels[0].len, 6 + 10);
	CHECK(memcmp(table.arena.data, "a=\"1\",b=\"\\\"\0\\\"\",", 16) == 0);
	CHECK_INT(table.labels[1].len, 0);
	CHECK_INT(table.labels[2].len, 5 * sizeof(longest) + 8);
	pm_table_free(&table);
}

static void relabel(pm_table *table, uint32_t row, const char *block)
{
	CHECK_INT(pm_table_relabel(table, row, block, strlen(block)), 0);
}

static void labels_that_change(void)
{
	enum { ROWS = 50, ROUNDS = 2000 };
	pm_table table, copy;
	char block[64];

	pm_table_init(&table, 1);
	for (uint32_t row = 0; row < ROWS; row++) {
		CHECK_INT(pm_table_append(&table, row), row);
		label(&table, "a", "x", 1);
	}
	relabel(&table, 7, "a=\"longer\",b=\"2\",");
	relabel(&table, 8, "");
	check_labels(&table, 6, "a=\"x\",");
	check_labels(&table, 7, "a=\"longer\",b=\"2\",");
	check_labels(&table, 8, "");
	check_labels(&table, 9, "a=\"x\",");
	CHECK_INT(table.labels[7].parent, 7);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		snprintf(block, sizeof(block), "n=\"%0*u\",", 1 + (int)(round % 40), round);
		relabel(&table, round % ROWS, block);
		check_labels(&table, round % ROWS, block);
	}
	CHECK(table.arena.len < 8192);
	pm_table_init(&copy, 1);
	CHECK_INT(pm_table_copy(&copy, &table), 0);
	relabel(&copy, 0, block);
	check_labels(&copy, 0, block);
	check_labels(&copy, (ROUNDS - 1) % ROWS, block);
	pm_table_clear(&table);
	CHECK_INT(table.garbage, 0);
	pm_table_free(&table);
	pm_table_free(&copy);
}

/* Rows of `names` names that repeat, after one that is not looked at. */
static void repeated(uint32_t rows, uint32_t names)
{
	pm_table table;

	pm_table_init(&table, 1);
	CHECK_INT(pm_table_append(&table, 7), 0);
	for (uint32_t i = 0; i < rows; i++) {
		char name[16];
		int len = snprintf(name, sizeof(name), "%u", i % names);
		int64_t row = pm_table_append(&table, i % names ? 7 : PM_NO_PARENT);

		CHECK_INT(row, i + 1);
		if (i % names > 1)
			CHECK_INT(pm_table_label(&table, "n", 1, name, (size_t)len), 0);
		pm_table_set(&table, (uint32_t)row, 0, i);
	}
	CHECK_INT(pm_table_drop_repeated(&table, 1), 0);
	CHECK_INT(table.rows, 1 + (rows < names ? rows : names));
	for (uint32_t row = 1; row < table.rows; row++)
		CHECK_INT(pm_table_get(&table, row, 0), row - 1);
	pm_table_free(&table);
}

int main(void)
{
	repeated(0, 1);
	repeated(1, 1);
	repeated(3, 2);
	repeated(8, 8);
	repeated(20000, 9999);
	labels_that_change();
	rows_and_cells();
	sizes();
	copies();
	escapes();
	labels();
	return check_result("table");
}
