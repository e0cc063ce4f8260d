#include "scan.h"

#include "check.h"

/* Text in memory that ends where the text ends, so that the sanitizers see a read behind it. */
typedef struct {
	char *data;
	size_t len;
} text;

static text copy(const char *data, size_t len)
{
	text result = {malloc(len ? len : 1), len};

	memcpy(result.data, data, len);
	return result;
}

#define COPY(literal) copy(literal, sizeof(literal) - 1)

static void check_integer(const char *digits, int ok, uint64_t wanted, size_t used)
{
	text input = copy(digits, strlen(digits));
	const char *cursor = input.data;
	uint64_t value = 99;

	CHECK_INT(pm_scan_integer(&cursor, input.data + input.len, &value), ok);
	CHECK_INT(value, ok ? wanted : 99);
	CHECK_INT(cursor - input.data, ok ? used : 0);
	free(input.data);
}

static void integers(void)
{
	check_integer("0", 1, 0, 1);
	check_integer("007", 1, 7, 3);
	check_integer("12ab", 1, 12, 2);
	check_integer("18446744073709551615", 1, UINT64_MAX, 20);
	check_integer("18446744073709551616", 0, 0, 0);
	check_integer("99999999999999999999", 0, 0, 0);
	check_integer("184467440737095516150", 0, 0, 0);
	check_integer("0000000000000000000000001", 1, 1, 25);
	check_integer("-1", 1, UINT64_MAX, 2);
	check_integer("-9223372036854775808", 1, 1ull << 63, 20);
	check_integer("-9223372036854775809", 0, 0, 0);
	check_integer("", 0, 0, 0);
	check_integer("-", 0, 0, 0);
	check_integer("--1", 0, 0, 0);
	check_integer("+1", 0, 0, 0);
	check_integer("x", 0, 0, 0);
}

static const char *const names[] = {"anon", "file", "a", "", "inactive_file", "inactive_anon", "Inactive(anon)"};
static const uint32_t columns[] = {0, 1, 2, 3, 4, 5, 69};
enum { NAMES = sizeof(names) / sizeof(*names), WIDTH = 70 };

static void key_lookup(void)
{
	enum { MANY = 5000 };
	static char storage[MANY][32];
	static const char *many[MANY];
	static uint32_t indexes[MANY];
	pm_keys keys;
	unsigned wrong = 0;

	CHECK_INT(pm_keys_init(&keys, NULL, NULL, 0), 0);
	CHECK_INT(pm_keys_find(&keys, "x", 1), -1);
	pm_keys_free(&keys);

	/* The hash sees the length and both ends: what differs only in the middle collides. */
	for (uint32_t i = 0; i < MANY; i++) {
		snprintf(storage[i], sizeof(storage[i]), "same_head_%05u_same_tail", i);
		many[i] = storage[i];
		indexes[i] = i;
	}
	CHECK_INT(pm_keys_init(&keys, many, indexes, MANY), 0);
	for (uint32_t i = 0; i < MANY; i += 97)
		wrong += pm_keys_find(&keys, many[i], strlen(many[i])) != i;
	CHECK_INT(wrong, 0);
	CHECK_INT(pm_keys_find(&keys, "same_head_xxxxx_same_tail", 25), -1);
	CHECK_INT(pm_keys_find(&keys, "same_head_00000_same_tai", 24), -1);
	pm_keys_free(&keys);
	pm_keys_free(&keys);
}

static void check_keyed(text input, uint32_t field, pm_scan_result wanted, const char *cells)
{
	pm_keys keys;
	pm_table table;
	uint32_t set, counted = 0;
	char got[1024] = "";
	size_t len = 0;

	pm_keys_init(&keys, names, columns, NAMES);
	pm_table_init(&table, WIDTH);
	pm_table_append(&table, PM_NO_PARENT);
	pm_table_append(&table, PM_NO_PARENT);
	CHECK_INT(pm_scan_keyed(&keys, input.data, input.len, field, &table, 1, &set), wanted);
	for (uint32_t column = 0; column < WIDTH; column++) {
		CHECK(!pm_table_has(&table, 0, column));
		if (pm_table_has(&table, 1, column)) {
			counted++;
			len += (size_t)snprintf(got + len, sizeof(got) - len, "%u=%" PRIu64 " ", column,
						pm_table_get(&table, 1, column));
		}
	}
	CHECK_TEXT(got, len, cells);
	CHECK_INT(set, counted);
	pm_table_free(&table);
	pm_keys_free(&keys);
	free(input.data);
}

static void keyed(void)
{
	char huge[100000];

	check_keyed(COPY(""), 1, PM_EMPTY, "");
	check_keyed(COPY("\n"), 1, PM_OK, "");
	check_keyed(COPY("\n\n\n"), 1, PM_OK, "");
	check_keyed(COPY("anon 1\nfile 2\n"), 1, PM_OK, "0=1 1=2 ");
	check_keyed(COPY("anon 1\nunknown x\nfile 2\n"), 1, PM_OK, "0=1 1=2 ");
	check_keyed(COPY("anon:     1 kB\nInactive(anon):\t2 kB\n"), 1, PM_OK, "0=1 69=2 ");
	check_keyed(COPY("anon:3\n"), 1, PM_OK, "0=3 ");
	check_keyed(COPY("anon 1\nfile 2"), 1, PM_TRUNCATED, "0=1 ");
	check_keyed(COPY("anon 1\nfil"), 1, PM_TRUNCATED, "0=1 ");
	check_keyed(COPY("anon"), 1, PM_TRUNCATED, "");
	check_keyed(COPY("anon\nfile 2\n"), 1, PM_MALFORMED, "1=2 ");
	check_keyed(COPY("anon x\nfile 2\n"), 1, PM_MALFORMED, "1=2 ");
	check_keyed(COPY("anon 1x\nfile 2\n"), 1, PM_MALFORMED, "1=2 ");
	check_keyed(COPY("anon 18446744073709551616\nfile 18446744073709551615\n"), 1, PM_MALFORMED,
		    "1=18446744073709551615 ");
	check_keyed(COPY("anon -1\n"), 1, PM_OK, "0=18446744073709551615 ");
	check_keyed(COPY("anon \0001\nfile 2\n"), 1, PM_MALFORMED, "1=2 ");
	check_keyed(COPY("an\0on 1\n\0\nfile 2\n"), 1, PM_OK, "1=2 ");
	check_keyed(COPY(" anon 1\n:2\n 3\n"), 1, PM_OK, "");
	check_keyed(COPY("anon 1\r\n"), 1, PM_MALFORMED, "");
	check_keyed(COPY("anon max\nfile 2\n"), 1, PM_OK, "1=2 ");
	check_keyed(COPY("anon maximum\nfile 2\n"), 1, PM_MALFORMED, "1=2 ");
	check_keyed(COPY("anon 4 17\nfile 4 18\n"), 2, PM_OK, "0=17 1=18 ");
	check_keyed(COPY("anon 4\n"), 2, PM_MALFORMED, "");
	check_keyed(COPY("anon 1 2\n"), 9, PM_MALFORMED, "");

	memset(huge, 'a', sizeof(huge));
	check_keyed(copy(huge, sizeof(huge)), 1, PM_TRUNCATED, "");
	memcpy(huge + sizeof(huge) - 9, "\nanon 77\n", 9);
	check_keyed(copy(huge, sizeof(huge)), 1, PM_OK, "0=77 ");
	memset(huge, ' ', sizeof(huge));
	memcpy(huge, "anon", 4);
	memcpy(huge + sizeof(huge) - 3, "78\n", 3);
	check_keyed(copy(huge, sizeof(huge)), 1, PM_OK, "0=78 ");
}

/* Rows as `label:cells;`, an absent cell as a dot. */
static void check_rows(text input, uint32_t skip, uint32_t key, uint32_t first, pm_scan_result wanted, const char *rows)
{
	pm_table table;
	char got[4096] = "";
	size_t len = 0;

	pm_table_init(&table, 3);
	CHECK_INT(pm_scan_rows(&table, input.data, input.len, "n", 1, skip, key, first), wanted);
	for (uint32_t row = 0; row < table.rows; row++) {
		const pm_row_labels *labels = &table.labels[row];
		len += (size_t)snprintf(got + len, sizeof(got) - len, "%.*s", (int)labels->len,
					table.arena.data + labels->offset);
		for (uint32_t column = 0; column < 3; column++) {
			if (pm_table_has(&table, row, column))
				len += (size_t)snprintf(got + len, sizeof(got) - len, "%" PRIu64 " ",
							pm_table_get(&table, row, column));
			else
				len += (size_t)snprintf(got + len, sizeof(got) - len, ". ");
		}
	}
	CHECK_TEXT(got, len, rows);
	pm_table_free(&table);
	free(input.data);
}

static void rows(void)
{
	check_rows(COPY(""), 0, 0, 1, PM_EMPTY, "");
	check_rows(COPY("\n \n"), 0, 0, 1, PM_OK, "");
	check_rows(COPY("head\n  eth0: 1 2 3 4\nlo: 5\n"), 1, 0, 1, PM_OK, "n=\"eth0\",1 2 3 n=\"lo\",5 . . ");
	check_rows(COPY("  8  0 sda 1 2 3\n"), 0, 2, 3, PM_OK, "n=\"sda\",1 2 3 ");
	check_rows(COPY("  8  0 sda x 2 3x\n"), 0, 2, 3, PM_MALFORMED, "n=\"sda\",. 2 . ");
	check_rows(COPY("a 1\nb 2"), 0, 0, 1, PM_TRUNCATED, "n=\"a\",1 . . ");
	check_rows(COPY(": 1\n"), 0, 0, 1, PM_OK, "n=\":\",1 . . ");
	check_rows(COPY("a\"\\ 1\n"), 0, 0, 1, PM_OK, "n=\"a\\\"\\\\\",1 . . ");
	check_rows(COPY("\xff 1\n"), 0, 0, 1, PM_OK, "n=\"\\\\xff\",1 . . ");
	check_rows(COPY("eth0:1 2\na:b:3\n"), 0, 0, 1, PM_OK, "n=\"eth0\",1 2 . n=\"a:b\",3 . . ");
	check_rows(COPY("a 1\nb 2\na 3\n"), 0, 0, 1, PM_OK, "n=\"a\",1 . . n=\"b\",2 . . ");
	check_rows(COPY("a -1 2\n"), 0, 0, 1, PM_MALFORMED, "n=\"a\",. 2 . ");
	check_rows(COPY("only one\n"), 0, 2, 3, PM_OK, "");
	check_rows(COPY("one\ntwo\n"), 5, 0, 1, PM_OK, "");
	check_rows(COPY("a b 7 8\n"), 0, 0, 2, PM_OK, "n=\"a\",7 8 . ");
	check_rows(COPY("a 18446744073709551616 2\n"), 0, 0, 1, PM_MALFORMED, "n=\"a\",. 2 . ");
}

static void check_line(pm_scan_result (*scan)(const char *, size_t, pm_values *), text input, pm_scan_result wanted,
		       const char *wanted_cells)
{
	pm_values out = {{0}, {7, 7}};
	char cells[64];
	size_t len = 0;

	CHECK_INT(scan(input.data, input.len, &out), wanted);
	for (int i = 0; i < 2; i++) {
		if (out.set[i])
			len += (size_t)snprintf(cells + len, sizeof(cells) - len, "%" PRIu64 " ", out.values[i]);
		else
			len += (size_t)snprintf(cells + len, sizeof(cells) - len, ". ");
	}
	CHECK_TEXT(cells, len, wanted_cells);
	free(input.data);
}

static void values(void)
{
	check_line(pm_scan_value, COPY("17\n"), PM_OK, "17 . ");
	check_line(pm_scan_value, COPY("-1\n"), PM_OK, "18446744073709551615 . ");
	check_line(pm_scan_value, COPY("max\n"), PM_OK, ". . ");
	check_line(pm_scan_value, COPY(""), PM_EMPTY, ". . ");
	check_line(pm_scan_value, COPY("17"), PM_TRUNCATED, ". . ");
	check_line(pm_scan_value, COPY("\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_value, COPY("max 1\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_value, COPY("maximum\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_value, COPY("18446744073709551616\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_value, COPY("\0\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_value, COPY("17\n18\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_amount, COPY("17\n"), PM_OK, "17 . ");
	check_line(pm_scan_amount, COPY("max\n"), PM_OK, ". . ");
	check_line(pm_scan_amount, COPY("-1\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_amount, COPY(""), PM_EMPTY, ". . ");
	check_line(pm_scan_limit, COPY("4611686018427387904\n"), PM_OK, "4611686018427387904 . ");
	check_line(pm_scan_limit, COPY("4611686018427387905\n"), PM_OK, ". . ");
	check_line(pm_scan_limit, COPY("-1\n"), PM_OK, ". . ");
}

static void pairs(void)
{
	check_line(pm_scan_pair, COPY("50000 100000\n"), PM_OK, "50000 100000 ");
	check_line(pm_scan_pair, COPY("max 100000\n"), PM_OK, ". 100000 ");
	check_line(pm_scan_pair, COPY(""), PM_EMPTY, ". . ");
	check_line(pm_scan_pair, COPY("1 2"), PM_TRUNCATED, ". . ");
	check_line(pm_scan_pair, COPY("max \n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_pair, COPY("max\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_pair, COPY("\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_pair, COPY("1\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_pair, COPY("1 \n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_pair, COPY("1 2 3\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_pair, COPY("1 2\n3\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_pair, COPY("18446744073709551616 2\n"), PM_MALFORMED, ". . ");
}

static void cores(void)
{
	check_line(pm_scan_cores, COPY("50000 100000\n"), PM_OK, "500000000 . ");
	check_line(pm_scan_cores, COPY("50000\n100000\n"), PM_OK, "500000000 . ");
	check_line(pm_scan_cores, COPY("1 3\n"), PM_OK, "333333333 . ");
	check_line(pm_scan_cores, COPY("max 100000\n"), PM_OK, ". . ");
	check_line(pm_scan_cores, COPY("-1\n100000\n"), PM_OK, ". . ");
	check_line(pm_scan_cores, COPY(""), PM_EMPTY, ". . ");
	check_line(pm_scan_cores, COPY("1 2"), PM_TRUNCATED, ". . ");
	check_line(pm_scan_cores, COPY("max\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_cores, COPY("max"), PM_TRUNCATED, ". . ");
	check_line(pm_scan_cores, COPY("50000\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_cores, COPY("50000 0\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_cores, COPY("50000 -1\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_cores, COPY("50000 1 1\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_cores, COPY("18446744074 1000000\n"), PM_OK, ". . ");
}

static void cpu_lists(void)
{
	check_line(pm_scan_cpu_list, COPY("0\n"), PM_OK, "1 . ");
	check_line(pm_scan_cpu_list, COPY("0-3,8\n"), PM_OK, "5 . ");
	check_line(pm_scan_cpu_list, COPY("0,2,4-1023\n"), PM_OK, "1022 . ");
	check_line(pm_scan_cpu_list, COPY("\n"), PM_OK, "0 . "); /* no CPU is left */
	check_line(pm_scan_cpu_list, COPY(""), PM_EMPTY, ". . ");
	check_line(pm_scan_cpu_list, COPY("0-3"), PM_TRUNCATED, ". . ");
	check_line(pm_scan_cpu_list, COPY("3-0\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_cpu_list, COPY("0-\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_cpu_list, COPY("-1\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_cpu_list, COPY("0 1\n"), PM_MALFORMED, ". . ");
	check_line(pm_scan_cpu_list, COPY("0-18446744073709551615\n"), PM_MALFORMED, ". . ");
}

int main(void)
{
	integers();
	key_lookup();
	keyed();
	rows();
	values();
	pairs();
	cpu_lists();
	cores();
	return check_result("scan");
}
