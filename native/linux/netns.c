#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "entry.h"
#include "kfile.h"

/* A process may enter another namespace after it was put in the group (runc does so), so a young container is looked
 * at often, an old one rarely. */
static const int64_t YOUNG_CHECK_NS = 200000000, OLD_CHECK_NS = 30000000000;

/* The namespace files are links `net:[4026531840]`; the number is the inode in nsfs. */
uint64_t pm_netns_inode(int dir, const char *path)
{
	char link[64];
	ssize_t len = readlinkat(dir, path, link, sizeof(link));
	const char *p = link + 5;
	uint64_t inode;

	if (len < 0)
		return 0;
	if (len >= 7 && (size_t)len < sizeof(link) && memcmp(link, "net:[", 5) == 0 &&
	    pm_scan_integer(&p, link + len, &inode) && *p == ']')
		return inode;
	errno = EINVAL;
	return 0;
}

static void forget(pm_context *context, pm_entry *entry)
{
	if (entry->net.dir >= 0) {
		close(entry->net.dir);
		context->open--;
	}
	entry->net = (pm_entry_net){.dir = -1};
}

static int open_process(const pm_context *context, int pid)
{
	char path[32];

	snprintf(path, sizeof(path), "%d", pid);
	return openat(context->procfs, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int pm_netns_is_vague(const pm_context *context, const pm_entry *entry)
{
	if (entry->net.check_ns == 0)
		return 1;
	return context->now_ns >= entry->net.check_ns && entry->net.check_ns < entry->young_until_ns;
}

int pm_netns_find(pm_context *context, pm_entry *entry, int pid)
{
	pm_entry_net *net = &entry->net;
	int dir;

	if (pid == net->pid && context->now_ns < net->check_ns) {
		uint64_t inode = net->dir < 0 ? net->inode : pm_netns_inode(net->dir, "ns/net");
		if (inode == net->inode)
			return 1;
		if (inode == 0 && (errno == ENOENT || errno == ESRCH)) {
			forget(context, entry);
			return 0;
		}
	}
	forget(context, entry);
	net->pid = pid;
	net->check_ns = context->now_ns + (context->now_ns < entry->young_until_ns ? YOUNG_CHECK_NS : OLD_CHECK_NS);
	if (pid == 0 || context->procfs < 0)
		return 1;
	dir = open_process(context, pid);
	if (dir < 0) {
		if (errno == ENOENT || errno == ESRCH)
			return 0;
		pm_fail(context, pm_reason_of_errno(errno));
		return 1;
	}
	net->inode = pm_netns_inode(dir, "ns/net");
	if (net->inode == 0) {
		int gone = errno == ENOENT || errno == ESRCH;
		if (!gone)
			pm_fail(context, pm_reason_of_errno(errno));
		close(dir);
		return !gone;
	}
	/* What is on the host's network has no traffic of its own to tell. */
	if (net->inode == context->host_netns || context->open >= context->plan->budget) {
		if (net->inode == context->host_netns)
			net->inode = 0;
		close(dir);
		return 1;
	}
	net->dir = dir;
	context->open++;
	return 1;
}

static int older(const pm_entry *a, const pm_entry *b)
{
	return a->start_ns != b->start_ns ? a->start_ns < b->start_ns : strcmp(a->path, b->path) < 0;
}

static int by_namespace(const void *left, const void *right)
{
	const pm_entry *a = *(const pm_entry *const *)left, *b = *(const pm_entry *const *)right;

	if (a->net.inode != b->net.inode)
		return a->net.inode < b->net.inode ? -1 : 1;
	return older(a, b) ? -1 : 1;
}

int pm_netns_owners(pm_context *context)
{
	pm_entry **sorted = malloc((context->alive + 1) * sizeof(*sorted));
	uint32_t count = 0;

	if (sorted == NULL)
		return -1;
	for (uint32_t i = 0; i < context->entry_count; i++)
		if (context->entries[i].path && context->entries[i].net.inode)
			sorted[count++] = &context->entries[i];
	qsort(sorted, count, sizeof(*sorted), by_namespace);
	for (uint32_t i = 0; i < count; i++)
		sorted[i]->net.shadowed = i > 0 && sorted[i - 1]->net.inode == sorted[i]->net.inode;
	free(sorted);
	return 0;
}

void pm_netns_owner(pm_context *context, pm_entry *entry)
{
	entry->net.shadowed = 0;
	if (entry->net.inode == 0)
		return;
	for (uint32_t i = 0; i < context->entry_count; i++) {
		const pm_entry *other = &context->entries[i];
		if (other->path && other != entry && other->net.inode == entry->net.inode && older(other, entry)) {
			entry->net.shadowed = 1;
			return;
		}
	}
}

static int read_net(pm_context *context, pm_entry *entry, const char *name)
{
	int fd = pm_open_at(entry->net.dir, name), error;

	if (fd < 0) {
		error = fd;
	} else {
		error = pm_read_whole(fd, &context->buffer);
		close(fd);
	}
	if (error == 0)
		return 1;
	pm_fail(context, pm_reason_of_errno(-error));
	return 0;
}

/* net/dev: two lines of heading, then `  eth0: 1 2 3 …` with 16 numbers (net/core/net-procfs.c). */
static void collect_interfaces(pm_context *context, pm_entry *entry, pm_table *table, uint32_t parent)
{
	const char *p, *end;
	int line = 0;

	if (!read_net(context, entry, "net/dev"))
		return;
	p = context->buffer.data;
	end = p + context->buffer.len;
	if (context->buffer.len == 0)
		pm_fail(context, PM_REASON_EMPTY);
	for (; p < end; line++) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p)), *name = p, *colon;
		int64_t row;

		if (line_end == NULL) {
			pm_fail(context, PM_REASON_TRUNCATED);
			return;
		}
		p = line_end + 1;
		if (line < 2)
			continue;
		while (name < line_end && *name == ' ')
			name++;
		colon = memrchr(name, ':', (size_t)(line_end - name));
		if (colon == NULL) {
			pm_fail(context, PM_REASON_MALFORMED);
			continue;
		}
		if (colon - name == 2 && memcmp(name, "lo", 2) == 0)
			continue;
		row = pm_table_append(table, parent);
		if (row < 0 || pm_table_label(table, "interface", 9, name, (size_t)(colon - name)) < 0) {
			pm_fail(context, PM_REASON_ENOMEM);
			return;
		}
		colon++;
		for (uint32_t column = 0; column < table->columns; column++) {
			uint64_t value;
			while (colon < line_end && *colon == ' ')
				colon++;
			if (!pm_scan_integer(&colon, line_end, &value)) {
				pm_fail(context, PM_REASON_MALFORMED);
				break;
			}
			pm_table_set(table, (uint32_t)row, column, value);
		}
	}
}

/* sockstat: `TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 0` (net/ipv4/proc.c); keys are `TCP:inuse`. */
static void collect_sockstat(pm_context *context, pm_entry *entry, const char *name, pm_table *table, uint32_t row)
{
	const pm_keys *keys = &context->plan->net.sockstat_keys;
	const char *p, *end;

	if (!read_net(context, entry, name))
		return;
	p = context->buffer.data;
	end = p + context->buffer.len;
	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p));
		const char *colon, *word;
		char key[64];
		size_t head;

		if (line_end == NULL) {
			pm_fail(context, PM_REASON_TRUNCATED);
			return;
		}
		colon = memchr(p, ':', (size_t)(line_end - p));
		head = colon ? (size_t)(colon - p) + 1 : 0;
		if (head == 0 || head > 16) {
			pm_fail(context, PM_REASON_MALFORMED);
			p = line_end + 1;
			continue;
		}
		memcpy(key, p, head);
		word = colon + 1;
		while (word < line_end) {
			const char *stop;
			uint64_t value;
			int64_t index;

			while (word < line_end && *word == ' ')
				word++;
			stop = memchr(word, ' ', (size_t)(line_end - word));
			if (stop == NULL || stop - word > 40)
				break;
			memcpy(key + head, word, (size_t)(stop - word));
			index = pm_keys_find(keys, key, head + (size_t)(stop - word));
			word = stop + 1;
			if (!pm_scan_integer(&word, line_end, &value)) {
				pm_fail(context, PM_REASON_MALFORMED);
				break;
			}
			if (index >= 0)
				pm_table_set(table, row, keys->columns[index], value);
		}
		p = line_end + 1;
	}
}

/* net/netstat and net/snmp: pairs of lines, `Tcp: MaxConn InSegs` and `Tcp: -1 2` (net/ipv4/proc.c); keys are
 * `Tcp:MaxConn`. */
static pm_scan_result scan_named(const pm_keys *keys, const pm_buffer *buffer, pm_table *table, uint32_t row)
{
	const char *p = buffer->data, *end = p + buffer->len;

	if (buffer->len == 0)
		return PM_EMPTY;
	while (p < end) {
		const char *names_end = memchr(p, '\n', (size_t)(end - p)), *name = p, *value, *values_end, *colon;
		char key[64];
		size_t head;

		value = names_end ? names_end + 1 : end;
		values_end = memchr(value, '\n', (size_t)(end - value));
		if (values_end == NULL)
			return PM_TRUNCATED;
		p = values_end + 1;
		colon = memchr(name, ':', (size_t)(names_end - name));
		head = colon ? (size_t)(colon - name) + 1 : 0;
		if (head == 0 || head > 16 || (size_t)(values_end - value) < head || memcmp(name, value, head) != 0)
			return PM_MALFORMED;
		memcpy(key, name, head);
		name += head;
		value += head;
		while (name < names_end) {
			const char *stop;
			uint64_t number;
			int64_t index = -1;

			while (name < names_end && *name == ' ')
				name++;
			while (value < values_end && *value == ' ')
				value++;
			if (name == names_end)
				break;
			stop = memchr(name, ' ', (size_t)(names_end - name));
			if (stop == NULL)
				stop = names_end;
			if (!pm_scan_integer(&value, values_end, &number))
				return PM_MALFORMED;
			if ((size_t)(stop - name) <= sizeof(key) - head) {
				memcpy(key + head, name, (size_t)(stop - name));
				index = pm_keys_find(keys, key, head + (size_t)(stop - name));
			}
			if (index >= 0)
				pm_table_set(table, row, keys->columns[index], number);
			name = stop;
		}
		if (value != values_end)
			return PM_MALFORMED;
	}
	return PM_OK;
}

static void collect_named(pm_context *context, pm_entry *entry, const char *name, pm_table *table, uint32_t row)
{
	pm_scan_result result;

	if (!read_net(context, entry, name))
		return;
	result = scan_named(&context->plan->net.advtcp_keys, &context->buffer, table, row);
	if (result != PM_OK)
		pm_fail(context, pm_reason_of_scan(result));
}

static int hex_field(const char **p, const char *end, uint64_t *value)
{
	const char *start = *p;

	*value = 0;
	for (; *p < end; (*p)++) {
		char c = **p;
		unsigned digit;
		if (c >= '0' && c <= '9')
			digit = (unsigned)(c - '0');
		else if (c >= 'A' && c <= 'F')
			digit = (unsigned)(c - 'A') + 10;
		else
			break;
		*value = *value << 4 | digit;
	}
	return *p > start;
}

/* The nth blank-separated word of a line, or NULL. */
static const char *nth_word(const char *p, const char *end, int n)
{
	for (;;) {
		while (p < end && *p == ' ')
			p++;
		if (p == end)
			return NULL;
		if (n-- == 0)
			return p;
		while (p < end && *p != ' ')
			p++;
	}
}

/* net/tcp, net/udp: a heading, then `sl local rem st tx:rx …` (net/ipv4/tcp_ipv4.c, udp.c). A TCP table counts sockets
 * by state 1 .. columns; a UDP table has listen, dropped, rxqueued, txqueued. */
static void collect_sockets(pm_context *context, pm_entry *entry, const char *name, pm_table *table, uint32_t row,
			    int udp)
{
	uint64_t counts[16] = {0};
	const char *p, *end;
	int heading = 1;

	if (!read_net(context, entry, name))
		return;
	p = context->buffer.data;
	end = p + context->buffer.len;
	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p));
		const char *word;
		uint64_t state, queue;

		if (line_end == NULL) {
			pm_fail(context, PM_REASON_TRUNCATED);
			return;
		}
		if (heading) {
			heading = 0;
			p = line_end + 1;
			continue;
		}
		word = nth_word(p, line_end, 3);
		if (word == NULL || !hex_field(&word, line_end, &state)) {
			pm_fail(context, PM_REASON_MALFORMED);
		} else if (!udp) {
			if (state >= 1 && state <= 15)
				counts[state]++;
		} else {
			counts[1] += state == 7;
			word = nth_word(p, line_end, 4);
			if (word && hex_field(&word, line_end, &queue)) {
				counts[4] += queue;
				if (*word == ':') {
					word++;
					if (hex_field(&word, line_end, &queue))
						counts[3] += queue;
				}
			}
			word = nth_word(p, line_end, 12);
			if (word && pm_scan_integer(&word, line_end, &queue))
				counts[2] += queue;
		}
		p = line_end + 1;
	}
	for (uint32_t column = 0; column < table->columns && column < 15; column++)
		pm_table_set(table, row, column, counts[column + 1]);
}

static void collect_namespace(pm_context *context, pm_entry *entry, pm_table **tables, uint32_t row)
{
	const pm_net_plan *net = &context->plan->net;

	if (net->network != PM_NO_TABLE && tables[net->network])
		collect_interfaces(context, entry, tables[net->network], row);
	if (net->sockstat != PM_NO_TABLE && tables[net->sockstat]) {
		collect_sockstat(context, entry, "net/sockstat", tables[net->sockstat], row);
		collect_sockstat(context, entry, "net/sockstat6", tables[net->sockstat], row);
	}
	if (net->tcp != PM_NO_TABLE && tables[net->tcp])
		collect_sockets(context, entry, "net/tcp", tables[net->tcp], row, 0);
	if (net->tcp6 != PM_NO_TABLE && tables[net->tcp6])
		collect_sockets(context, entry, "net/tcp6", tables[net->tcp6], row, 0);
	if (net->udp != PM_NO_TABLE && tables[net->udp])
		collect_sockets(context, entry, "net/udp", tables[net->udp], row, 1);
	if (net->udp6 != PM_NO_TABLE && tables[net->udp6])
		collect_sockets(context, entry, "net/udp6", tables[net->udp6], row, 1);
	if (net->advtcp != PM_NO_TABLE && tables[net->advtcp]) {
		collect_named(context, entry, "net/snmp", tables[net->advtcp], row);
		collect_named(context, entry, "net/netstat", tables[net->advtcp], row);
	}
}

void pm_collect_net(pm_context *context, pm_entry *entry, pm_table **tables, uint32_t row)
{
	int once = entry->net.dir < 0; /* the budget did not let it stay open */

	if (entry->net.inode == 0 || entry->net.shadowed)
		return;
	if (once) {
		entry->net.dir = open_process(context, entry->net.pid);
		if (entry->net.dir < 0) {
			pm_fail(context, pm_reason_of_errno(errno));
			return;
		}
	}
	if (!once || pm_netns_inode(entry->net.dir, "ns/net") == entry->net.inode)
		collect_namespace(context, entry, tables, row);
	if (once) {
		close(entry->net.dir);
		entry->net.dir = -1;
	}
}
