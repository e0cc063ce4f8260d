#include "cells.h"

#include <stdio.h>
#include <stdlib.h>

enum { NO_TARGET = -1, MAX_PLACES = 4096 };

static int is_integral(double value)
{
	return value >= -0x1p63 && value < 0x1p64 &&
	       (value < 0 ? (double)(int64_t)value == value : (double)(uint64_t)value == value);
}

/* Convert the number in a record to a cell: negative numbers become two's complement of 64 bits. Returns 0 or a reason.
 */
static int number_of(const kstat_named_t *record, uint64_t *number)
{
	double value;

	switch (record->data_type) {
	case KSTAT_DATA_INT32:
		*number = (uint64_t)(int64_t)record->value.i32;
		return 0;
	case KSTAT_DATA_UINT32:
		*number = record->value.ui32;
		return 0;
	case KSTAT_DATA_INT64:
	case KSTAT_DATA_UINT64:
		*number = record->value.ui64;
		return 0;
	case KSTAT_DATA_FLOAT:
	case KSTAT_DATA_DOUBLE:
		value = record->data_type == KSTAT_DATA_FLOAT ? (double)record->value.f : record->value.d;
		if (!is_integral(value))
			return PM_KSTAT_FLOAT;
		*number = value < 0 ? (uint64_t)(int64_t)value : (uint64_t)value;
		return 0;
	default:
		return PM_KSTAT_TYPE;
	}
}

static int text_of(const kstat_named_t *record, const pm_kstat_data *data, pm_kstat_text *text)
{
	const char *string = record->value.str.ptr;
	uint32_t len = record->value.str.len;

	if (record->data_type == KSTAT_DATA_CHAR) {
		text->text = record->value.c;
		text->len = (uint32_t)strnlen(record->value.c, sizeof(record->value.c));
		return 0;
	}
	if (record->data_type != KSTAT_DATA_STRING)
		return PM_KSTAT_TYPE;
	if ((uintptr_t)string < (uintptr_t)data->data || (uintptr_t)string >= (uintptr_t)data->data + data->size ||
	    len == 0 || len > (uintptr_t)data->data + data->size - (uintptr_t)string)
		return PM_KSTAT_STRING;
	text->text = string;
	text->len = (uint32_t)strnlen(string, len);
	return 0;
}

typedef struct {
	pm_kstat_family *family;
	const pm_kstat_data *data;
	uint64_t *cells;
	uint64_t *present;
	pm_kstat_texts *texts;
	uint64_t *failures;
} setting;

/* Convert a record to a cell. Returns 1, or 0 if the cell stays absent. */
static inline int cell(const setting *to, uint32_t target, const kstat_named_t *record, uint64_t *number)
{
	const pm_kstat_nothings *nothings = &to->family->nothings[target];
	int reason = number_of(record, number);

	if (reason) {
		to->failures[reason]++;
		return 0;
	}
	for (uint32_t i = 0; i < nothings->count; i++)
		if (nothings->values[i] == *number)
			return 0;
	return 1;
}

static void set_text(const setting *to, uint32_t target, const kstat_named_t *record)
{
	uint32_t columns = to->family->columns;
	int reason = text_of(record, to->data,
			     target == columns ? &to->texts->zone : &to->texts->labels[target - columns - 1]);

	if (reason)
		to->failures[reason]++;
}

static void set(const setting *to, uint32_t target, const kstat_named_t *record)
{
	uint64_t number;

	if (target >= to->family->columns) {
		set_text(to, target, record);
	} else if (cell(to, target, record, &number)) {
		to->cells[target] = number;
		to->present[target >> 6] |= 1ull << (target & 63);
	}
}

static int32_t target_of(const pm_kstat_family *family, const kstat_named_t *record)
{
	size_t len = pm_kstat_name_len(record->name);

	/* Records without a name and with type 0 fill the unused end of a kernel's structure. */
	return len ? (int32_t)pm_keys_find(&family->keys, record->name, len) : NO_TARGET;
}

static int32_t place(pm_kstat_family *family, uint32_t i, const kstat_named_t *record)
{
	int32_t target;

	if (i < family->place_count && memcmp(family->places[i].key, record, PM_KSTAT_KEY_BYTES) == 0)
		return family->places[i].target;
	target = target_of(family, record);
	family->wanted_records = family->settled_records = 0;
	if (i == family->place_cap && i < MAX_PLACES) {
		uint32_t cap = i ? 2 * i : 16;
		pm_kstat_place *places = realloc(family->places, cap * sizeof(*places));

		if (places == NULL)
			return target;
		family->places = places;
		family->place_cap = cap;
	}
	if (i < family->place_cap && i <= family->place_count) {
		memcpy(family->places[i].key, record, PM_KSTAT_KEY_BYTES);
		family->places[i].target = target;
		if (i == family->place_count)
			family->place_count++;
	}
	return target;
}

static int is_plain(const pm_kstat_family *family, const pm_kstat_wanted *wanted)
{
	uint8_t type = (uint8_t)wanted->key[offsetof(kstat_named_t, data_type)];

	return (type == KSTAT_DATA_INT64 || type == KSTAT_DATA_UINT64) && wanted->target < family->columns &&
	       family->nothings[wanted->target].count == 0;
}

/* Store the places of all wanted records, if all of them were there. */
static void remember(pm_kstat_family *family, uint32_t records)
{
	uint32_t count = 0, needed = family->columns + (family->names_zone ? 1 : 0);

	for (uint32_t i = 0; i < records && i < family->place_count; i++) {
		pm_kstat_wanted *wanted = &family->wanted[count];
		int32_t target = family->places[i].target;

		if (target < 0 || (uint32_t)target >= needed)
			continue;
		for (uint32_t seen = 0; seen < count; seen++)
			if (family->wanted[seen].target == (uint32_t)target)
				return;
		memcpy(wanted->key, family->places[i].key, PM_KSTAT_KEY_BYTES);
		wanted->record = i;
		wanted->target = (uint32_t)target;
		wanted->plain = is_plain(family, wanted);
		count++;
	}
	/* Kstats of the node are left out: their texts differ, and there are few. */
	if (count == needed && family->rows != PM_KSTAT_NODE && family->columns <= 64) {
		family->wanted_count = count;
		family->wanted_records = records;
	}
}

/* Set the cells from the stored places. Returns 1, or 0 if a wanted record is not where it was. */
static int set_remembered(const setting *to, const kstat_named_t *records)
{
	const pm_kstat_family *family = to->family;
	const pm_kstat_wanted *wanted = family->wanted, *end = wanted + family->wanted_count;
	uint64_t present = 0;

	for (; wanted < end; wanted++) {
		const kstat_named_t *record = &records[wanted->record];
		uint32_t target = wanted->target;

		if (memcmp(wanted->key, record, PM_KSTAT_KEY_BYTES) != 0)
			return 0;
		if (wanted->plain) {
			to->cells[target] = record->value.ui64;
			present |= 1ull << target;
		} else if (target >= family->columns)
			set_text(to, target, record);
		else if (cell(to, target, record, &to->cells[target]))
			present |= 1ull << target;
	}
	to->present[0] |= present;
	return 1;
}

static int set_named(const setting *to)
{
	const kstat_named_t *records = (const kstat_named_t *)(const void *)to->data->data;
	uint32_t count = to->data->count;

	if (count > to->data->size / sizeof(*records))
		return PM_KSTAT_MALFORMED;
	if (count == to->family->wanted_records && count && set_remembered(to, records))
		return 0;
	for (uint32_t i = 0; i < count; i++) {
		int32_t target = place(to->family, i, &records[i]);

		if (target >= 0)
			set(to, (uint32_t)target, &records[i]);
	}
	if (to->family->settled_records != count) {
		remember(to->family, count);
		to->family->settled_records = count;
	}
	return 0;
}

static void set_number(const setting *to, const char *name, uint8_t type, uint64_t number)
{
	int64_t target = pm_keys_find(&to->family->keys, name, strlen(name));
	kstat_named_t record = {.data_type = type, .value.ui64 = number};

	if (target >= 0)
		set(to, (uint32_t)target, &record);
}

static int set_io(const setting *to)
{
	kstat_io_t io;

	if (to->data->size < sizeof(io) || to->data->count == 0)
		return PM_KSTAT_MALFORMED;
	memcpy(&io, to->data->data, sizeof(io));
	set_number(to, "nread", KSTAT_DATA_UINT64, io.nread);
	set_number(to, "nwritten", KSTAT_DATA_UINT64, io.nwritten);
	set_number(to, "reads", KSTAT_DATA_UINT32, io.reads);
	set_number(to, "writes", KSTAT_DATA_UINT32, io.writes);
	set_number(to, "wtime", KSTAT_DATA_INT64, (uint64_t)io.wtime);
	set_number(to, "wlentime", KSTAT_DATA_INT64, (uint64_t)io.wlentime);
	set_number(to, "rtime", KSTAT_DATA_INT64, (uint64_t)io.rtime);
	set_number(to, "rlentime", KSTAT_DATA_INT64, (uint64_t)io.rlentime);
	set_number(to, "wcnt", KSTAT_DATA_UINT32, io.wcnt);
	set_number(to, "rcnt", KSTAT_DATA_UINT32, io.rcnt);
	return 0;
}

static int set_intr(const setting *to)
{
	static const char *const names[] = {"hard", "soft", "watchdog", "spurious", "multsvc"};
	kstat_intr_t intr;

	if (to->data->size < sizeof(intr) || to->data->count == 0)
		return PM_KSTAT_MALFORMED;
	memcpy(&intr, to->data->data, sizeof(intr));
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		set_number(to, names[i], KSTAT_DATA_UINT32, intr.intrs[i]);
	return 0;
}

static int set_timer(const setting *to)
{
	static const char *const fields[] = {"num_events", "elapsed_time", "min_time",
					     "max_time",   "start_time",   "stop_time"};
	enum { FIELDS = sizeof(fields) / sizeof(*fields) };
	_Static_assert(offsetof(kstat_timer_t, num_events) + FIELDS * sizeof(uint64_t) == sizeof(kstat_timer_t), "");

	if (to->data->count > to->data->size / sizeof(kstat_timer_t))
		return PM_KSTAT_MALFORMED;
	for (uint32_t i = 0; i < to->data->count; i++) {
		const char *timer = to->data->data + i * sizeof(kstat_timer_t);
		uint64_t numbers[FIELDS];

		memcpy(numbers, timer + offsetof(kstat_timer_t, num_events), sizeof(numbers));
		for (size_t f = 0; f < FIELDS; f++) {
			char name[2 * KSTAT_STRLEN];

			snprintf(name, sizeof(name), "%.*s:%s", (int)pm_kstat_name_len(timer), timer, fields[f]);
			set_number(to, name, KSTAT_DATA_INT64, numbers[f]);
		}
	}
	return 0;
}

int pm_kstat_family_set(pm_kstat_family *family, const pm_kstat_data *data, pm_table *table, uint32_t row,
			pm_kstat_texts *texts, uint64_t *failures)
{
	const setting to = {
		family,
		data,
		table->cells + (size_t)row * table->columns,
		table->present + (size_t)row * table->words,
		texts,
		failures,
	};

	memset(texts, 0, sizeof(*texts));
	switch (data->type) {
	case KSTAT_TYPE_NAMED:
		return set_named(&to);
	case KSTAT_TYPE_IO:
		return set_io(&to);
	case KSTAT_TYPE_INTR:
		return set_intr(&to);
	case KSTAT_TYPE_TIMER:
		return set_timer(&to);
	default:
		return PM_KSTAT_TYPE; /* raw: a structure of unknown layout */
	}
}
