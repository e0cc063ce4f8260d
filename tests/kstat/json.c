/* Chains from text as `kstat -j` prints it, its faults included: escapes that JSON does not have, words without quotes,
 * a comma before the end. Times with a decimal point are seconds, without one nanoseconds. README.md has the members
 * that are ours. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json_text.h"

/* Where the values of a kstat's members begin. */
typedef struct {
	const char *module, *instance, *name, *class, *type, *data, *types, *flags, *crtime, *snaptime, *unnamed,
		*error, *error_times, *ndata, *data_size;
} members;

static uint64_t number_at(json_reader *in, const char *at, int64_t min, uint64_t max, uint64_t missing)
{
	if (!at) {
		return missing;
	}
	in->at = at;
	json_bare(in);
	return json_whole(in, min, max);
}

static hrtime_t time_at(json_reader *in, const char *at)
{
	if (!at) {
		return 0;
	}
	in->at = at;
	json_bare(in);
	return json_nanoseconds(in);
}

static void name_at(json_reader *in, const char *at, const char *member, char target[KSTAT_STRLEN])
{
	if (!at) {
		json_fail(in, "a kstat has no \"%s\"", member);
	}
	in->at = at;
	json_string(in);
	if (in->len > KSTAT_STRLEN) {
		json_fail(in, "%s: expected at most %d bytes, got %zu: %.60s", member, KSTAT_STRLEN, in->len, in->text);
	}
	spec_name(target, in->text, in->len);
}

/* The data type that `types` has for a statistic, or -1. */
static int declared_type(json_reader *in, const char *types, const char *name, size_t len)
{
	static const char *const words[] = {"char",  "int32",  "uint32", "int64", "uint64",
					    "float", "double", "",	 "",	  "string"};
	if (!types) {
		return -1;
	}
	const char *resume = in->at;
	int type = -1;
	in->at = types;
	json_need(in, '{');
	while (type < 0 && !json_took(in, '}')) {
		json_string(in);
		bool wanted = in->len == len && memcmp(in->text, name, len) == 0;
		json_need(in, ':');
		json_peek(in);
		if (!wanted) {
			json_skip(in);
		} else if (*in->at != '"') {
			json_bare(in);
			type = (int)json_whole(in, 0, UINT8_MAX);
		} else {
			json_string(in);
			for (int i = 0; i < (int)(sizeof(words) / sizeof(*words)); i++) {
				type = *words[i] && strcmp(in->text, words[i]) == 0 ? i : type;
			}
			if (type < 0) {
				json_fail(in, "types: %.40s is no data type", in->text);
			}
		}
		json_took(in, ',');
	}
	in->at = resume;
	return type;
}

static void set_number(json_reader *in, kstat_named_t *stat)
{
	switch (stat->data_type) {
	case KSTAT_DATA_INT32:
		stat->value.i32 = (int32_t)json_whole(in, INT32_MIN, INT32_MAX);
		break;
	case KSTAT_DATA_UINT32:
		stat->value.ui32 = (uint32_t)json_whole(in, 0, UINT32_MAX);
		break;
	case KSTAT_DATA_FLOAT:
		stat->value.f = strtof(in->text, NULL);
		break;
	case KSTAT_DATA_DOUBLE:
		stat->value.d = strtod(in->text, NULL);
		break;
	case KSTAT_DATA_INT64:
		stat->value.i64 = (int64_t)json_whole(in, INT64_MIN + 1, INT64_MAX);
		break;
	default:
		stat->value.ui64 = json_whole(in, INT64_MIN + 1, UINT64_MAX);
	}
}

static void named(json_reader *in, const members *of, const char *name, size_t len)
{
	int type = declared_type(in, of->types, name, len);
	if (json_peek(in) == '"') {
		json_string(in);
		spec_text(&in->made, name, len, type == KSTAT_DATA_CHAR ? KSTAT_DATA_CHAR : KSTAT_DATA_STRING, in->text,
			  in->len);
		return;
	}
	json_bare(in);
	if (strcmp(in->text, "null") == 0) {
		spec_text(&in->made, name, len, KSTAT_DATA_STRING, NULL, 0);
	} else if (json_is_word(in) || type == KSTAT_DATA_CHAR) {
		spec_text(&in->made, name, len, KSTAT_DATA_CHAR, in->text, in->len);
	} else {
		int inferred = json_is_float(in)    ? KSTAT_DATA_DOUBLE
			       : in->text[0] == '-' ? KSTAT_DATA_INT64
						    : KSTAT_DATA_UINT64;
		set_number(in, spec_stat(&in->made, name, len, (uint8_t)(type < 0 ? inferred : type)));
	}
}

/* A member of an IO, INTR or TIMER kstat. */
static void other(json_reader *in, const char *name)
{
	static const struct {
		const char *name;
		uint8_t type;
		uint8_t size; /* of a number; 0 a time */
		uint16_t offset;
	} fields[] = {
#define FIELD(type, of, name, size) {#name, type, size, offsetof(of, name)}
		FIELD(KSTAT_TYPE_IO, kstat_io_t, nread, 8),
		FIELD(KSTAT_TYPE_IO, kstat_io_t, nwritten, 8),
		FIELD(KSTAT_TYPE_IO, kstat_io_t, reads, 4),
		FIELD(KSTAT_TYPE_IO, kstat_io_t, writes, 4),
		FIELD(KSTAT_TYPE_IO, kstat_io_t, wtime, 0),
		FIELD(KSTAT_TYPE_IO, kstat_io_t, wlentime, 0),
		FIELD(KSTAT_TYPE_IO, kstat_io_t, wlastupdate, 0),
		FIELD(KSTAT_TYPE_IO, kstat_io_t, rtime, 0),
		FIELD(KSTAT_TYPE_IO, kstat_io_t, rlentime, 0),
		FIELD(KSTAT_TYPE_IO, kstat_io_t, rlastupdate, 0),
		FIELD(KSTAT_TYPE_IO, kstat_io_t, wcnt, 4),
		FIELD(KSTAT_TYPE_IO, kstat_io_t, rcnt, 4),
		FIELD(KSTAT_TYPE_TIMER, kstat_timer_t, num_events, 8),
		FIELD(KSTAT_TYPE_TIMER, kstat_timer_t, elapsed_time, 0),
		FIELD(KSTAT_TYPE_TIMER, kstat_timer_t, min_time, 0),
		FIELD(KSTAT_TYPE_TIMER, kstat_timer_t, max_time, 0),
		FIELD(KSTAT_TYPE_TIMER, kstat_timer_t, start_time, 0),
		FIELD(KSTAT_TYPE_TIMER, kstat_timer_t, stop_time, 0),
#undef FIELD
		{"hard", KSTAT_TYPE_INTR, 4, 0},
		{"soft", KSTAT_TYPE_INTR, 4, 4},
		{"watchdog", KSTAT_TYPE_INTR, 4, 8},
		{"spurious", KSTAT_TYPE_INTR, 4, 12},
		{"multiple_service", KSTAT_TYPE_INTR, 4, 16},
		{"multsvc", KSTAT_TYPE_INTR, 4, 16},
	};
	spec *made = &in->made;
	if (made->type == KSTAT_TYPE_TIMER && strcmp(name, "name") == 0) {
		json_string(in);
		spec_name(made->other.timer.name, in->text, in->len);
		return;
	}
	if (made->type == KSTAT_TYPE_RAW) {
		json_skip(in);
		return;
	}
	json_bare(in);
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		if (fields[i].type == made->type && strcmp(fields[i].name, name) == 0) {
			uint64_t max = fields[i].size == 4 ? UINT32_MAX : UINT64_MAX;
			uint64_t value = fields[i].size ? json_whole(in, 0, max) : (uint64_t)json_nanoseconds(in);
			memcpy(made->other.bytes + fields[i].offset, &value, fields[i].size ? fields[i].size : 8);
			return;
		}
	}
	json_fail(in, "data: a kstat of type %d has no %.40s", made->type, name);
}

static void read_data(json_reader *in, members *of)
{
	static const uint8_t sizes[] = {64, 0, sizeof(kstat_intr_t), sizeof(kstat_io_t), sizeof(kstat_timer_t)};
	spec *made = &in->made;
	made->other_size = made->type < sizeof(sizes) ? sizes[made->type] : 64;
	made->other_ndata = made->type == KSTAT_TYPE_RAW ? 64 : 1;
	if (of->data) {
		in->at = of->data;
		json_need(in, '{');
		while (!json_took(in, '}')) {
			json_string(in);
			size_t len = in->len;
			char name[KSTAT_STRLEN + 1] = {0};
			if (len > KSTAT_STRLEN) {
				json_fail(in, "data: expected names of at most %d bytes, got %.60s", KSTAT_STRLEN,
					  in->text);
			}
			memcpy(name, in->text, len);
			json_need(in, ':');
			if (strcmp(name, "crtime") == 0 || strcmp(name, "snaptime") == 0) {
				json_peek(in);
				*(*name == 'c' ? &of->crtime : &of->snaptime) = in->at;
				json_skip(in);
			} else if (strcmp(name, "class") == 0 && json_peek(in) == '"') {
				json_skip(in);
			} else if (made->type == KSTAT_TYPE_NAMED) {
				named(in, of, name, len);
			} else {
				other(in, name);
			}
			json_took(in, ',');
		}
	}
	for (uint64_t i = number_at(in, of->unnamed, 0, 1000, 0); i > 0; i--) {
		spec_stat(made, "", 0, KSTAT_DATA_CHAR);
	}
}

static int errno_at(json_reader *in, const char *at)
{
	static const struct {
		const char *name;
		int number;
	} errors[] = {{"ENXIO", ENXIO},	  {"EAGAIN", EAGAIN}, {"EIO", EIO},	  {"ENOMEM", ENOMEM},
		      {"EACCES", EACCES}, {"EFAULT", EFAULT}, {"EINVAL", EINVAL}, {"EPERM", EPERM}};
	in->at = at;
	if (json_peek(in) != '"') {
		json_bare(in);
		return (int)json_whole(in, 0, 4095);
	}
	json_string(in);
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		if (strcmp(errors[i].name, in->text) == 0) {
			return errors[i].number;
		}
	}
	return EIO;
}

static void find_members(json_reader *in, members *found)
{
	static const struct {
		const char *name;
		size_t offset;
	} known[] = {
#define MEMBER(name) {#name, offsetof(members, name)}
		MEMBER(module),	 MEMBER(instance), MEMBER(name),	MEMBER(class),	MEMBER(type),
		MEMBER(data),	 MEMBER(types),	   MEMBER(flags),	MEMBER(crtime), MEMBER(snaptime),
		MEMBER(unnamed), MEMBER(error),	   MEMBER(error_times), MEMBER(ndata),	MEMBER(data_size),
#undef MEMBER
	};
	json_need(in, '{');
	while (!json_took(in, '}')) {
		json_string(in);
		const char **place = NULL;
		for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
			if (strcmp(known[i].name, in->text) == 0) {
				place = (const char **)(void *)((char *)found + known[i].offset);
			}
		}
		if (!place) {
			json_fail(in, "a kstat has no member %.40s", in->text);
		}
		json_need(in, ':');
		json_peek(in);
		*place = in->at;
		json_skip(in);
		if (!json_took(in, ',') && json_peek(in) != '}') {
			json_fail(in, "expected ',' or '}'");
		}
	}
}

static void read_kstat(json_reader *in)
{
	members of = {0};
	spec *made = &in->made;
	find_members(in, &of);
	const char *resume = in->at;
	spec_clear(made);
	name_at(in, of.module, "module", made->module);
	name_at(in, of.name, "name", made->name);
	name_at(in, of.class, "class", made->class);
	made->instance = (int)number_at(in, of.instance, INT32_MIN, INT32_MAX, 0);
	made->type = (uint8_t)number_at(in, of.type, 0, UINT8_MAX, KSTAT_TYPE_NAMED);
	made->flags = (uint8_t)number_at(in, of.flags, 0, UINT8_MAX, KSTAT_FLAG_VIRTUAL);
	made->tells_ndata = of.ndata != NULL;
	made->told_ndata = (uint32_t)number_at(in, of.ndata, 0, UINT32_MAX, 0);
	made->tells_size = of.data_size != NULL;
	made->told_size = number_at(in, of.data_size, 0, UINT64_MAX, 0);
	if (of.error) {
		made->error = errno_at(in, of.error);
		made->error_times = (int)number_at(in, of.error_times, FOREVER, INT32_MAX, (uint64_t)FOREVER);
	}
	read_data(in, &of);
	made->crtime = time_at(in, of.crtime);
	made->snaptime = time_at(in, of.snaptime);
	in->at = resume;
	kernel_put(made)->seen = true;
}

static void read_chain(json_reader *in, bool all)
{
	json_need(in, '[');
	while (!json_took(in, ']')) {
		read_kstat(in);
		if (!json_took(in, ',') && json_peek(in) != ']') {
			json_fail(in, "expected ',' or ']'");
		}
	}
	if (json_peek(in) || in->at < in->end) {
		json_fail(in, "text after the end");
	}
	record *next;
	for (record *item = kernel.first; all && item; item = next) {
		next = item->next;
		if (!item->seen) {
			kernel_remove(item);
		}
	}
}

int json_load(const char *text, size_t len, bool all)
{
	json_reader in = {.start = text, .at = text, .end = text + len};
	for (record *item = kernel.first; item; item = item->next) {
		item->seen = false;
	}
	json_error[0] = '\0';
	if (setjmp(in.failed) == 0) {
		read_chain(&in, all);
	}
	free(in.text);
	spec_free(&in.made);
	return json_error[0] ? -1 : 0;
}
