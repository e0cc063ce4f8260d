/* A kstat in the making. */
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

static void *grown(void *old, size_t size)
{
	void *new = realloc(old, size);
	if (!new) {
		abort();
	}
	return new;
}

void spec_clear(spec *made)
{
	spec kept = *made;
	*made = (spec){
		.stats = kept.stats,
		.cap_stats = kept.cap_stats,
		.refs = kept.refs,
		.cap_refs = kept.cap_refs,
		.text = kept.text,
		.cap_text = kept.cap_text,
		.error_times = FOREVER,
	};
}

void spec_free(spec *made)
{
	free(made->stats);
	free(made->refs);
	free(made->text);
	*made = (spec){0};
}

void spec_name(char target[KSTAT_STRLEN], const char *text, size_t len)
{
	memset(target, 0, KSTAT_STRLEN);
	memcpy(target, text, len < KSTAT_STRLEN ? len : KSTAT_STRLEN);
}

kstat_named_t *spec_stat(spec *made, const char *name, size_t len, uint8_t type)
{
	if (made->nstats == made->cap_stats) {
		made->cap_stats = made->cap_stats ? made->cap_stats * 2 : 64;
		made->stats = grown(made->stats, made->cap_stats * sizeof(*made->stats));
	}
	kstat_named_t *stat = &made->stats[made->nstats++];
	memset(stat, 0, sizeof(*stat));
	spec_name(stat->name, name, len);
	stat->data_type = type;
	return stat;
}

void spec_text(spec *made, const char *name, size_t name_len, uint8_t type, const char *text, size_t len)
{
	kstat_named_t *stat = spec_stat(made, name, name_len, type);
	if (type == KSTAT_DATA_CHAR) {
		memcpy(stat->value.c, text, len < sizeof(stat->value.c) ? len : sizeof(stat->value.c));
		return;
	}
	if (made->nrefs == made->cap_refs) {
		made->cap_refs = made->cap_refs ? made->cap_refs * 2 : 16;
		made->refs = grown(made->refs, made->cap_refs * sizeof(*made->refs));
	}
	made->refs[made->nrefs++] = (string_ref){made->nstats - 1, !text, text ? made->text_len : 0};
	if (!text) {
		return;
	}
	if (made->cap_text - made->text_len < len + 1) {
		made->cap_text = (made->text_len + len + 1) * 2;
		made->text = grown(made->text, made->cap_text);
	}
	memcpy(made->text + made->text_len, text, len);
	made->text[made->text_len + len] = '\0';
	made->text_len += len + 1;
	stat->value.str.len = (uint32_t)len + 1;
}
