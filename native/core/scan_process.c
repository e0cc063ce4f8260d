#include "scan_process.h"

pm_scan_result pm_scan_pids(const char *data, size_t len, uint64_t *count, int *first, pm_buffer *pids)
{
	const char *p = data, *end = data + len, *line_end;

	for (; p < end && (line_end = memchr(p, '\n', (size_t)(end - p))) != NULL; p = line_end + 1) {
		uint64_t pid;

		*count += 1;
		if (*first != 0 && pids == NULL)
			continue;
		if (pm_scan_integer(&p, line_end, &pid) && p == line_end && pid <= INT32_MAX) {
			int number = (int)pid;

			if (*first == 0)
				*first = number;
			if (pids && pm_buffer_append(pids, (const char *)&number, sizeof(number)) < 0)
				return PM_NO_MEMORY;
		}
	}
	return PM_OK;
}

pm_scan_result pm_scan_schedstat(const char *data, size_t len, uint64_t values[PM_SCHED_VALUES])
{
	const char *p = data, *end = data + len;

	if (len == 0)
		return PM_EMPTY;
	if (end[-1] != '\n')
		return PM_TRUNCATED;
	for (int i = 0; i < PM_SCHED_VALUES; i++) {
		if (!pm_scan_unsigned(&p, end, &values[i]) || *p != (i + 1 < PM_SCHED_VALUES ? ' ' : '\n'))
			return PM_MALFORMED;
		p++;
	}
	return p == end ? PM_OK : PM_MALFORMED;
}

pm_scan_result pm_scan_stat(const char *data, size_t len, char *state, uint64_t *threads)
{
	enum { STATE = 3, THREADS = 20 };
	const char *p = data + len, *end = data + len;

	if (len == 0)
		return PM_EMPTY;
	if (end[-1] != '\n')
		return PM_TRUNCATED;
	while (p > data && p[-1] != ')')
		p--;
	if (p == data || end - p < 4 || p[0] != ' ' || p[2] != ' ')
		return PM_MALFORMED;
	*state = p[1];
	p += 2;
	for (int field = STATE + 1; field < THREADS; field++) {
		p = memchr(p + 1, ' ', (size_t)(end - p - 1));
		if (p == NULL)
			return PM_MALFORMED;
	}
	p++;
	return pm_scan_unsigned(&p, end, threads) && (*p == ' ' || *p == '\n') ? PM_OK : PM_MALFORMED;
}

pm_scan_result pm_scan_open_files_limit(const char *data, size_t len, pm_values *out)
{
	static const char name[] = "Max open files ", none[] = "unlimited ";
	const char *p = data, *end = data + len;

	*out = (pm_values){0};
	if (len == 0)
		return PM_EMPTY;
	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p));

		if (line_end == NULL)
			return PM_TRUNCATED;
		if (line_end - p > (ptrdiff_t)sizeof(name) && memcmp(p, name, sizeof(name) - 1) == 0) {
			p += sizeof(name) - 1;
			while (p < line_end && *p == ' ')
				p++;
			out->set[0] = pm_scan_integer(&p, line_end, &out->values[0]) && p < line_end && *p == ' ';
			if (out->set[0] ||
			    (line_end - p >= (ptrdiff_t)sizeof(none) - 1 && memcmp(p, none, sizeof(none) - 1) == 0))
				return PM_OK;
			return PM_MALFORMED;
		}
		p = line_end + 1;
	}
	return PM_MALFORMED;
}
